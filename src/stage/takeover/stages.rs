//! The stages of a run that tries again, up to the snapshot.

use std::sync::Arc;

use super::{GENERATION, KeptStaging, Taken, Takeover, ended, written};
use crate::engine::Resource;
use crate::event::{CaseStatus, EventKind, Owner, Stage};
use crate::report::record::Record;
use crate::stage::restore::{Age, worst};
use crate::stage::run::{Run, Snapshot, not_passed, out_of_order, passed};
use crate::stage::unassisted::Habits;
use crate::stage::{
    Bad, deploy, fingerprint, isolate, preflight, provision, rollback, snapshot, standing,
};
use crate::state::StateStore;

/// Runs a stage as a run does that tries again; `None` where it is like any other's.
pub(in crate::stage) async fn perform(run: &mut Run, stage: Stage) -> Option<Result<(), Bad>> {
    let takeover = run.order.takeover.clone()?;
    match stage {
        Stage::Preflight => Some(preflight(run, &takeover).await),
        Stage::Provision => Some(provision(run, &takeover).await),
        Stage::Isolate => Some(isolate(run, &takeover).await),
        Stage::Restore => Some(restore(run, &takeover)),
        Stage::Baseline => Some(baseline(run, &takeover)),
        Stage::Snapshot => Some(snapshot(run, &takeover).await),
        Stage::Deploy | Stage::Verify | Stage::WhatIf | Stage::Rollback | Stage::Teardown => None,
    }
}

async fn preflight(run: &mut Run, takeover: &Takeover) -> Result<(), Bad> {
    run.recorder.emit(EventKind::TakenOver {
        run: takeover.kept.run.clone(),
        origin: takeover.kept.staging.clone(),
        record: takeover.digest.clone(),
    });
    preflight::run(run).await?;
    unchanged(run, takeover)?;
    let ground = run.ground()?.clone();
    let image = run
        .order
        .agent
        .ensure_image(&ground.engine, &ground.facts.architecture)
        .await?;
    let me = ground.names.run();
    let occupied = ground.engine.occupy(&ground.labels, &image, me).await?;
    if let Err(other) = occupied {
        return Err(Bad::new(
            Owner::Engine,
            format!(
                "{other} is at work in the staging of run {}",
                takeover.kept.staging
            ),
        )
        .with_help("wait for its end, and try again"));
    }
    // What was seen before this was another's to change.
    let until = match takeover.stands(&ground.engine).await {
        Ok(until) => until,
        Err(bad) => {
            ground.engine.vacate(ground.labels.run()).await?;
            return Err(bad);
        }
    };
    run.taken = Some(Taken {
        until,
        left: Vec::new(),
        ending: None,
        branches: None,
        prepared: None,
        bastion: None,
    });
    // From here on this run is one that can be tried again, however far it comes.
    let written = KeptStaging {
        run: me.to_owned(),
        package: package_of(run),
        given: run.order.given.clone(),
        keep: run.order.keep,
        ..takeover.kept.clone()
    }
    .write(&run.order.dir);
    if let Err(error) = written {
        ground.note(format!(
            "this run cannot be retried, only run {} before it: {error}",
            takeover.kept.run
        ));
    }
    Ok(())
}

fn package_of(run: &Run) -> std::path::PathBuf {
    let package = run.order.plan.package.as_ref();
    package.map_or_else(Default::default, |package| package.source.clone())
}

/// A verdict is bound to the files that were rehearsed: with others, what the kept run showed says nothing.
fn unchanged(run: &Run, takeover: &Takeover) -> Result<(), Bad> {
    let changed = takeover
        .kept
        .changed(&run.order.plan, &run.order.files)
        .map_err(|error| Bad::new(Owner::Engine, format!("cannot read a file again: {error}")))?;
    let now = written::artefacts(run);
    let other = takeover.kept.artefacts.iter().find(|before| {
        !now.iter()
            .any(|now| now.role == before.role && now.digest == before.digest)
    });
    let what = changed
        .first()
        .cloned()
        .or_else(|| other.map(|other| format!("{} `{}` changed", other.role, other.path)));
    what.map_or(Ok(()), |what| {
        Err(Bad::new(
            Owner::Engine,
            format!(
                "{what} since run {}, so what that run showed does not hold for it",
                takeover.kept.staging
            ),
        )
        .with_help("run the rehearsal anew"))
    })
}

async fn provision(run: &mut Run, takeover: &Takeover) -> Result<(), Bad> {
    let ground = run.ground()?.clone();
    let (engine, kept) = (&ground.engine, &takeover.kept);
    // Listed before anything new is made: what is not of the snapshot is what the last deploy left.
    let left = engine.beyond(&kept.staging, &kept.remain).await?;
    let containers: Vec<String> = left
        .iter()
        .filter_map(|resource| match resource {
            Resource::Container(name) => Some(name.clone()),
            Resource::Network(_) | Resource::Volume(_) | Resource::Image(_) => None,
        })
        .collect();
    // It goes on beside the stages that only look, and is awaited before the first service starts. One after the other,
    // for the reason that `Engine::remove_container` gives.
    let killer = engine.clone();
    let ending = tokio::spawn(async move {
        for container in containers {
            killer.kill_container(&container).await?;
        }
        Ok(())
    });
    // To remove it takes longer, and is nobody's business before the end: it has names, a network and volumes of its own.
    let taken = run.taken.as_mut().ok_or_else(out_of_order)?;
    taken.left = left;
    taken.ending = Some(ending);
    // Branches need no network.
    let architecture = &ground.facts.architecture;
    let agent_image = run.order.agent.ensure_image(engine, architecture).await?;
    let labels = ground.labels.clone();
    let store = StateStore::new(engine.clone(), labels, agent_image, kept.branching)
        .named(ground.names.run());
    let branches = ground.branch(&store, &kept.frozen, GENERATION);
    let (provisioned, branches) = tokio::join!(provision::run(run), branches);
    let taken = run.taken.as_mut().ok_or_else(out_of_order)?;
    taken.branches = Some(branches);
    provisioned
}

/// How a run that tries again finds the services' images: as they were at the snapshot.
pub(in crate::stage) fn images(takeover: &Takeover) -> provision::Images {
    let images = takeover.kept.images.iter();
    let images = images.map(|(service, image)| (service.clone(), image.facts.clone()));
    (images.collect(), Default::default())
}

async fn isolate(run: &mut Run, takeover: &Takeover) -> Result<(), Bad> {
    let outside = run.outside.take().ok_or_else(out_of_order)?;
    let blueprints = takeover.blueprints(run)?;
    let taken = run.taken.as_mut().ok_or_else(out_of_order)?;
    let branches = taken.branches.take().ok_or_else(out_of_order)?;
    let package = run.order.plan.package.as_ref().ok_or_else(out_of_order)?;
    let bastion = deploy::early_bastion(run, package);
    // No service is started before the proof is made. The bastion idles, and has nothing that was restored.
    let (proof, prepared, bastion) = tokio::join!(
        isolate::run(run, &outside),
        snapshot::prepare_on(run, GENERATION, blueprints, branches, Owner::Engine),
        bastion
    );
    proof?;
    let bastion = bastion?;
    let taken = run.taken.as_mut().ok_or_else(out_of_order)?;
    taken.prepared = Some(prepared?);
    taken.bastion = bastion;
    Ok(())
}

fn restore(run: &Run, takeover: &Takeover) -> Result<(), Bad> {
    let origin = &takeover.origin;
    for base in &origin.bases {
        run.recorder.emit(EventKind::Base {
            key: base.key.clone(),
            volume: base.volume.clone(),
            reused: true,
        });
    }
    for restored in &origin.restores {
        run.recorder.emit(EventKind::BackupRestored {
            restore: restored.restore.clone(),
            format: restored.format.clone(),
            size: restored.size,
            seconds: restored.seconds,
            as_of: restored.as_of,
            reused: true,
            base: None,
        });
    }
    taken_over(run, Stage::Restore, origin);
    let mut bad = None;
    for restore in &run.order.plan.restores {
        let Some(max_age) = restore.max_age else {
            continue;
        };
        let restored = origin.restores.iter();
        let as_of = restored
            .filter(|restored| restored.restore == restore.name)
            .find_map(|restored| restored.as_of);
        let age = Age::seen(as_of.ok_or_else(out_of_order)?);
        worst(&mut bad, age.within(run, restore, max_age));
    }
    bad.map_or(Ok(()), Err)
}

fn baseline(run: &mut Run, takeover: &Takeover) -> Result<(), Bad> {
    run.baseline_seen = takeover.kept.baseline_seen.clone();
    run.habits = habits(&takeover.origin);
    taken_over(run, Stage::Baseline, &takeover.origin);
    Ok(())
}

/// What the site asked for outside before the first deploy.
fn habits(origin: &Record) -> Habits {
    let names = origin.outside_names.iter();
    let names = names.filter(|asked| asked.stage < Stage::Deploy);
    let callers = origin.outside_calls.iter();
    let callers = callers.filter(|called| called.stage < Stage::Deploy);
    Habits {
        names: names
            .map(|asked| (asked.name.clone(), asked.asker.clone()))
            .collect(),
        callers: callers.map(|called| called.caller.clone()).collect(),
    }
}

fn taken_over(run: &Run, stage: Stage, origin: &Record) {
    let name = "what the staging's own run showed is taken over";
    let figure = format!("run {}, {:.0}", origin.run, origin.started);
    run.case(stage, passed(stage, name, 0.0, Some(figure)));
}

async fn snapshot(run: &mut Run, takeover: &Takeover) -> Result<(), Bad> {
    let taken = run.taken.as_mut().ok_or_else(out_of_order)?;
    let prepared = taken.prepared.take().ok_or_else(out_of_order)?;
    ended(taken).await?;
    // What the databases hold is in these files, so they are not asked once more.
    let name = "the frozen files are as at the kept snapshot";
    let kept = &takeover.kept;
    let mut before = kept.fingerprints.clone();
    before.retain(|part, _| fingerprint::is_of_files(part));
    let differences = rollback::compare(&before, &prepared.files);
    if let Some(first) = differences.first() {
        let reason = format!(
            "{} is not as it was at the snapshot of run {} ({} of {} fingerprints differ)",
            first.what,
            kept.staging,
            differences.len(),
            prepared.files.len()
        );
        let mut case = not_passed(Stage::Snapshot, name, CaseStatus::Failed, 0.0, &reason);
        case.mismatches = differences;
        run.case(Stage::Snapshot, case);
        return Err(Bad::new(Owner::Engine, reason)
            .with_help("somebody wrote to what was frozen: run the rehearsal anew"));
    }
    let figure = format!("{} fingerprints equal", prepared.files.len());
    run.case(
        Stage::Snapshot,
        passed(Stage::Snapshot, name, 0.0, Some(figure)),
    );
    let begun = std::time::Instant::now();
    run.generation = Some(snapshot::start(run, prepared.generation, Owner::Staging).await?);
    run.recorder.emit(EventKind::Measured {
        what: "services' start".to_owned(),
        seconds: begun.elapsed().as_secs_f64(),
    });
    let fingerprints = kept.fingerprints.clone();
    run.recorder.emit(EventKind::Fingerprint {
        of: "snapshot".to_owned(),
        parts: fingerprints.clone(),
    });
    if let Some(down) = standing::first_down(run, Stage::Snapshot).await? {
        return Err(Bad::new(Owner::Staging, format!("on the snapshot {down}")));
    }
    run.snapshot = Some(Arc::new(Snapshot {
        frozen: kept.frozen.clone(),
        blueprints: takeover.blueprints(run)?,
        fingerprints,
        schemas: kept.schemas.clone(),
        written: kept.written.clone(),
    }));
    Ok(())
}
