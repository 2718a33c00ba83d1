//! Runs the stages in order, holds their deadlines, and guarantees rollback and teardown.
//!
//! The order of events: each stage starts and finishes; the verdict is judged after the last stage that can decide
//! it; then rollback and teardown run whatever was judged; then the run is finished.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::run::{Order, Run, out_of_order};
use super::{
    Bad, baseline, deploy, isolate, preflight, provision, restore, rollback, snapshot, takeover,
    teardown, verify, whatif,
};
use crate::event::{EventKind, Mode, Owner, Stage, StageOutcome};
use crate::report::Recorder;
use crate::verdict::{Outcome, Verdict, exit_code};

/// Where a stage has no limit of its own in the plan: what staging may take to come up includes its services'.
pub(super) const SLACK: Duration = Duration::from_secs(600);

/// Teardown may take this long before what is left is left to the next sweep.
const TEARDOWN: Duration = Duration::from_secs(300);

/// Runs everything and returns the process's exit code. `cancel` is Ctrl-C.
pub async fn conduct(order: Order, recorder: Arc<Recorder>, cancel: CancellationToken) -> u8 {
    let begun = Instant::now();
    recorder.emit(EventKind::RunStarted {
        run: order.names.run().to_owned(),
        rehearsal: order.plan.rehearsal.clone(),
        file: order.plan.file.display().to_string(),
        mode: order.mode,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        dir: order.dir.display().to_string(),
    });
    let mode = order.mode;
    let mut run = Run::new(order, Arc::clone(&recorder));
    forward(&mut run, mode, &cancel).await;
    recorder.emit(EventKind::Judged {
        verdict: Verdict::of(&recorder.events()),
    });
    // A crash from here on loses nothing of the judgement.
    if let Err(error) = run.order.folder.write_reports(&recorder.events()) {
        recorder.emit(EventKind::Note {
            stage: Stage::Verify,
            text: format!("the reports could not be written yet: {error}"),
        });
    }
    match (&run.snapshot, cancel.is_cancelled()) {
        (Some(_), false) => {
            let _ = stage(&mut run, Stage::Rollback, &cancel).await;
        }
        (Some(_), true) => skip(&run, Stage::Rollback, "interrupted"),
        (None, _) if mode == Mode::Rehearse => {
            skip(&run, Stage::Rollback, "there is no snapshot to return to");
        }
        (None, _) => {}
    }
    // Ctrl-C asks for exactly this stage, so it does not end it.
    let _ = stage(&mut run, Stage::Teardown, &CancellationToken::new()).await;
    takeover::make_ready(&mut run, &cancel).await;
    let verdict = Verdict::of(&recorder.events());
    let code = exit_code(&verdict);
    recorder.emit(EventKind::RunFinished {
        verdict,
        exit_code: code,
        seconds: begun.elapsed().as_secs_f64(),
    });
    code
}

/// The stages that decide the verdict.
async fn forward(run: &mut Run, mode: Mode, cancel: &CancellationToken) {
    let needed: &[Stage] = match mode {
        Mode::Rehearse => &[
            Stage::Preflight,
            Stage::Provision,
            Stage::Isolate,
            Stage::Restore,
            Stage::Baseline,
            Stage::Snapshot,
            Stage::Deploy,
            Stage::Verify,
        ],
        Mode::BackupCheck => &[
            Stage::Preflight,
            Stage::Provision,
            Stage::Isolate,
            Stage::Restore,
            Stage::Baseline,
        ],
    };
    let mut stopped_by: Option<String> = None;
    for next in needed {
        if let Some(reason) = &stopped_by {
            skip(run, *next, reason);
            continue;
        }
        match stage(run, *next, cancel).await {
            StageOutcome::Ok => {}
            // What a failed deploy left standing is what the admin asks about next: is the site up?
            StageOutcome::Bad {
                owner: Owner::Package,
                ..
            } if *next == Stage::Deploy => {}
            StageOutcome::Bad { .. } => stopped_by = Some(format!("{next} went wrong")),
            StageOutcome::Interrupted => stopped_by = Some("interrupted".to_owned()),
        }
    }
    what_if(run, stopped_by, cancel).await;
}

/// The what-ifs, where any are asked for: of a deploy that went wrong they would say nothing new.
async fn what_if(run: &mut Run, stopped_by: Option<String>, cancel: &CancellationToken) {
    if run.paths.is_none() {
        return;
    }
    let verdict = Verdict::of_the_deploy(&run.recorder.events());
    let reason = stopped_by.or_else(|| {
        (verdict.outcome != Outcome::Passed).then(|| {
            "the deploy itself did not pass, so other ways of it would say nothing new".to_owned()
        })
    });
    match reason {
        None => {
            let _ = stage(run, Stage::WhatIf, cancel).await;
        }
        Some(reason) => {
            skip(run, Stage::WhatIf, &reason);
            whatif::not_tried(run, &reason);
        }
    }
}

fn skip(run: &Run, stage: Stage, reason: &str) {
    run.recorder.emit(EventKind::StageSkipped {
        stage,
        reason: reason.to_owned(),
    });
}

/// Runs one stage to its end, its deadline or Ctrl-C, whichever comes first.
async fn stage(run: &mut Run, stage: Stage, cancel: &CancellationToken) -> StageOutcome {
    let begun = Instant::now();
    if let Some(ground) = &run.ground {
        *ground.stage.lock().unwrap_or_else(PoisonError::into_inner) = stage;
    }
    run.recorder.emit(EventKind::StageStarted { stage });
    let limit = limit(run, stage);
    let outcome = tokio::select! {
        // A stage that ended in the same moment has ended.
        biased;
        result = tokio::time::timeout(limit, perform(run, stage)) => match result {
            Ok(Ok(())) => StageOutcome::Ok,
            Ok(Err(bad)) => StageOutcome::Bad {
                owner: bad.owner,
                reason: bad.reason,
                help: bad.help,
            },
            Err(_) => overrun(stage, limit),
        },
        () = cancel.cancelled() => StageOutcome::Interrupted,
    };
    let outcome = match (stage, deploy::end(run).await) {
        // Whatever is left of the deploy would go on in what is judged and rolled back.
        (Stage::Deploy, Err(bad)) if outcome == StageOutcome::Ok => StageOutcome::Bad {
            owner: bad.owner,
            reason: bad.reason,
            help: bad.help,
        },
        _ => outcome,
    };
    run.recorder.emit(EventKind::StageFinished {
        stage,
        outcome: outcome.clone(),
        seconds: begun.elapsed().as_secs_f64(),
    });
    outcome
}

async fn perform(run: &mut Run, stage: Stage) -> Result<(), Bad> {
    if let Some(result) = takeover::perform(run, stage).await {
        return result;
    }
    match stage {
        Stage::Preflight => preflight::run(run).await,
        Stage::Provision => provision::run(run).await,
        Stage::Isolate => {
            let outside = run.outside.take().ok_or_else(out_of_order)?;
            let (proof, warm) = tokio::join!(isolate::run(run, &outside), baseline::warm_up(run));
            run.warm = warm;
            proof
        }
        Stage::Restore => restore::run(run).await,
        Stage::Baseline => baseline::run(run).await,
        Stage::Snapshot => snapshot::run(run).await,
        Stage::Deploy => deploy::run(run).await,
        Stage::Verify => verify::run(run).await,
        Stage::WhatIf => whatif::run(run).await,
        Stage::Rollback => rollback::run(run).await,
        Stage::Teardown => teardown::run(run).await,
    }
}

fn limit(run: &Run, stage: Stage) -> Duration {
    let limits = &run.order.plan.limits;
    match stage {
        // Reading a large backup takes as long as reading it takes; each restore has its own limit.
        // What-ifs are as many as are asked for; each path of them is held to the limits of a deploy.
        Stage::Preflight | Stage::Restore | Stage::WhatIf => Duration::from_secs(24 * 60 * 60),
        Stage::Provision => limits.provision,
        // A run that tries again starts its services meanwhile.
        Stage::Isolate if run.order.takeover.is_some() => limits.start + SLACK,
        Stage::Isolate => SLACK,
        Stage::Baseline | Stage::Snapshot | Stage::Verify => limits.start + tests_limit(run),
        // Its steps are held to `limits.deploy` in it, and then is said what was seen of them.
        Stage::Deploy => limits.deploy + SLACK,
        Stage::Rollback => limits.rollback + tests_limit(run),
        Stage::Teardown => TEARDOWN,
    }
}

/// What all tests may take together, if each retries to its end.
pub(super) fn tests_limit(run: &Run) -> Duration {
    run.order
        .plan
        .testplan
        .iter()
        .flat_map(|plan| &plan.tests)
        .filter_map(|test| test.retry)
        .map(|retry| retry.total)
        .sum::<Duration>()
        + SLACK
}

fn overrun(stage: Stage, limit: Duration) -> StageOutcome {
    let owner = match stage {
        Stage::Baseline | Stage::Snapshot => Owner::Staging,
        Stage::Verify => Owner::Testplan,
        Stage::Restore => Owner::Backup,
        Stage::Preflight
        | Stage::Provision
        | Stage::Isolate
        // The package's own time is held to in the stage.
        | Stage::Deploy
        | Stage::WhatIf
        | Stage::Rollback
        | Stage::Teardown => Owner::Engine,
    };
    StageOutcome::Bad {
        owner,
        reason: format!("{stage} did not end within {} s", limit.as_secs()),
        help: Some(
            "raise the limit in the rehearsal's `limits:` if that is what it takes".to_owned(),
        ),
    }
}
