//! Proves that staging works before the deploy: a staging that was broken before says nothing about a package.

use std::collections::BTreeMap;
use std::time::Instant;

use super::run::{Run, passed};
use super::suite::{run_tests, tests_at};
use super::{Bad, emulators, provision, restore, standing};
use crate::check::model::When;
use crate::event::{Mode, Owner, Stage};
use crate::staging::{Generation, OneShots};
use crate::state::Frozen;

const NAME: &str = "baseline";

async fn complete(run: &Run, frozen: &mut BTreeMap<String, Frozen>) -> Result<(), Bad> {
    let empty = provision::empty_volume(run.ground()?).await?;
    run.staging()?.complete(frozen, &empty);
    Ok(())
}

/// Makes the baseline's containers ahead of time, where every base is there already. Nothing is started and nothing
/// restored, so it may go on beside the isolation proof. What goes wrong here is left to the stage itself.
pub(super) async fn warm_up(run: &Run) -> Option<(BTreeMap<String, Frozen>, Generation)> {
    let mut frozen = restore::cached(run).await.ok()??;
    complete(run, &mut frozen).await.ok()?;
    let staging = run.staging().ok()?;
    // A base that was touched is found out while containers are made on it: they are not started before.
    let (prepared, intact) = tokio::join!(
        staging.prepare(NAME, staging.blueprints(), &frozen, OneShots::Run),
        restore::intact(run)
    );
    match prepared {
        Ok(generation) if matches!(intact, Ok(true)) => Some((frozen, generation)),
        // It would be in the way of the next try.
        Ok(generation) | Err((generation, _)) => {
            staging.discard(&generation).await.ok()?;
            None
        }
    }
}

/// Runs the stage.
pub(super) async fn run(run: &mut Run) -> Result<(), Bad> {
    let begun = Instant::now();
    let mut frozen = std::mem::take(&mut run.frozen);
    complete(run, &mut frozen).await?;
    let warm = run.warm.take();
    let staging = run.staging()?;
    let prepared = match warm {
        Some((from, generation)) if from == frozen => Ok(generation),
        Some((_, generation)) => {
            staging.discard(&generation).await?;
            staging
                .prepare(NAME, staging.blueprints(), &frozen, OneShots::Run)
                .await
        }
        None => {
            staging
                .prepare(NAME, staging.blueprints(), &frozen, OneShots::Run)
                .await
        }
    };
    let started = match prepared {
        Ok(generation) => match staging.start(&generation).await {
            Ok(()) => Ok(generation),
            Err(error) => Err((generation, error)),
        },
        Err(failed) => Err(failed),
    };
    match started {
        Ok(generation) => run.generation = Some(generation),
        Err((generation, error)) => {
            run.save_logs(&generation).await?;
            run.generation = Some(generation);
            let bad = Bad::start(&error, Owner::Staging);
            let mut case = super::run::not_passed(
                Stage::Baseline,
                "the services are ready",
                crate::event::CaseStatus::Failed,
                begun.elapsed().as_secs_f64(),
                &bad.reason,
            );
            if bad.owner == Owner::Engine {
                case.status = crate::event::CaseStatus::Error;
            }
            run.case(Stage::Baseline, case);
            return Err(bad);
        }
    }
    run.case(
        Stage::Baseline,
        passed(
            Stage::Baseline,
            "the services are ready",
            begun.elapsed().as_secs_f64(),
            None,
        ),
    );
    let shown = run_tests(run, Stage::Baseline, When::Baseline).await?;
    let unanswered = emulators::judge(run, Stage::Baseline).await?;
    let when = match run.order.mode {
        Mode::Rehearse => "before the deploy",
        Mode::BackupCheck => "on what was restored",
    };
    if let Some(down) = standing::first_down(run, Stage::Baseline).await? {
        return Err(
            Bad::new(Owner::Staging, format!("{when} {down}")).with_help(match run.order.mode {
                Mode::Rehearse => "staging is broken, not the package: mend the stack and run again",
                Mode::BackupCheck => {
                    "look at that service's log, mend the stack (or the backup it cannot work on) and run again"
                }
            }),
        );
    }
    let total = tests_at(run, When::Baseline).len();
    match shown.sentence(total) {
        None => {
            if let Some(bad) = unanswered {
                return Err(bad);
            }
            run.baseline_seen = shown.seen;
            Ok(())
        }
        Some(sentence) => Err(
            Bad::new(Owner::Staging, format!("{when} {sentence}")).with_help(match run.order.mode {
                Mode::Rehearse => {
                    "staging or its test plan is wrong, not the package: mend them and run again"
                }
                Mode::BackupCheck => {
                    "it was restored, and what stands on it is not as the test plan says: see which of stack, \
                     test plan and backup is wrong, and run again"
                }
            }),
        ),
    }
}
