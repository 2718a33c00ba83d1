//! The stages of a run that tries again, up to the snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use super::{Ending, GENERATION, KeptStaging, Taken, Takeover, Work, blueprints, ended, written};
use crate::engine::EngineError;
use crate::event::{CaseStatus, EventKind, Owner, Stage};
use crate::report::record::Record;
use crate::stage::isolate::{Moment, Outside};
use crate::stage::restore::{Age, worst};
use crate::stage::run::{Run, Snapshot, not_passed, out_of_order, passed};
use crate::stage::snapshot::Prepared;
use crate::stage::unassisted::Habits;
use crate::stage::{
    Bad, deploy, fingerprint, isolate, preflight, provision, rollback, snapshot, standing,
};
use crate::staging::{Bastion, Generation};
use crate::state::{Branch, StateStore};

/// What is being written to the disk.
type Writing = tokio::task::JoinHandle<std::io::Result<()>>;

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
    // Whoever ends this run gives the right back. What was seen before it was another's to change.
    run.occupies = true;
    let until = takeover.stands(&ground.engine).await?;
    run.taken = Some(Taken {
        until,
        left: Vec::new(),
        in_place: Vec::new(),
        ending: Ending::NotBegun,
        network: None,
        work: None,
        bastion: None,
    });
    Ok(())
}

/// Writes down what another run needs to try again after this one, however far it comes. Nobody waits for the disk but
/// [`written_down`].
fn write_down(run: &Run, takeover: &Takeover, stem: Option<String>) -> Result<Writing, Bad> {
    let ground = run.ground()?;
    let kept = KeptStaging {
        run: ground.names.run().to_owned(),
        stem,
        package: package_of(run),
        given: run.order.given.clone(),
        keep: run.order.keep,
        next: None,
        ..takeover.kept.clone()
    };
    let dir = run.order.dir.clone();
    Ok(tokio::task::spawn_blocking(move || kept.write(&dir)))
}

/// Waits until that is on the disk.
async fn written_down(run: &Run, takeover: &Takeover, writing: Writing) -> Result<(), Bad> {
    let written = writing
        .await
        .unwrap_or_else(|panic| Err(std::io::Error::other(panic)));
    if let Err(error) = written {
        run.ground()?.note(format!(
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
    // To remove it takes longer than to end it, and is nobody's business before the end: it has names, a network and volumes
    // of its own.
    run.taken.as_mut().ok_or_else(out_of_order)?.left = left.clone();
    let writing = write_down(run, takeover, None)?;
    let place = match &kept.next {
        Some(next) => next.take(run, kept, &left).await,
        None => Ok(None),
    };
    written_down(run, takeover, writing).await?;
    let place = place?;
    let taken = run.taken.as_mut().ok_or_else(out_of_order)?;
    if let (Some(place), Some(next)) = (place, &kept.next) {
        taken.left.retain(|resource| !next.has(resource));
        let services = place.generation.services.iter();
        taken.in_place = services.map(|running| running.container.clone()).collect();
        taken.network = Some(place.network);
        taken.bastion = place.bastion;
        taken.work = Some(Work::Ready {
            generation: place.generation,
            begun: place.begun,
            look: place.look,
            prints: place.prints,
        });
        let stem = place.ground.names.stem().to_owned();
        run.ground = Some(place.ground);
        let writing = write_down(run, takeover, Some(stem))?;
        let provisioned = provision::run(run).await;
        written_down(run, takeover, writing).await?;
        return provisioned;
    }
    // It goes on beside the stages that only look, and is awaited before the first service starts.
    taken.end(engine);
    // Branches need no network.
    let architecture = &ground.facts.architecture;
    let agent_image = run.order.agent.ensure_image(engine, architecture).await?;
    let labels = ground.labels.clone();
    let store = StateStore::new(engine.clone(), labels, agent_image, kept.branching)
        .named(ground.names.stem());
    let branches = ground.branch(&store, &kept.frozen, GENERATION);
    let (provisioned, branches) = tokio::join!(provision::run(run), branches);
    let taken = run.taken.as_mut().ok_or_else(out_of_order)?;
    taken.work = Some(Work::Branched(branches));
    provisioned
}

/// How a run that tries again finds the services' images: as they were at the snapshot.
pub(in crate::stage) fn images(takeover: &Takeover) -> provision::Images {
    let images = takeover.kept.images.iter();
    let images = images.map(|(service, image)| (service.clone(), image.facts.clone()));
    (images.collect(), Default::default())
}

async fn isolate(run: &mut Run, takeover: &Takeover) -> Result<(), Bad> {
    let taken = run.taken.as_mut().ok_or_else(out_of_order)?;
    let work = match taken.work.take().ok_or_else(out_of_order)? {
        Work::Branched(branches) => Work::Prepared(prepared(run, takeover, branches).await?),
        Work::Ready {
            generation,
            begun,
            look,
            prints,
        } => match started(run, generation, begun, &look, prints).await? {
            (_, Some(failed)) => Work::Prepared(alone(run, takeover, failed).await?),
            (work, None) => work,
        },
        done @ (Work::Prepared(_) | Work::Started { .. }) => done,
    };
    let taken = run.taken.as_mut().ok_or_else(out_of_order)?;
    taken.work = Some(work);
    Ok(())
}

/// Makes the proof, and meanwhile what the deploy will work on.
async fn prepared(
    run: &mut Run,
    takeover: &Takeover,
    branches: Result<BTreeMap<String, Branch>, EngineError>,
) -> Result<Prepared, Bad> {
    let outside = run.outside.take().ok_or_else(out_of_order)?;
    let blueprints = blueprints(&takeover.kept, &run.order.plan)?;
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
    taken.bastion = bastion;
    prepared
}

/// Starts what was made ready before this try, and makes the proof once more beside it: this very network was proved when it
/// was made, and nobody has worked in it. Should it be open by now, everything in it is ended at once. Services that did not
/// come up are returned.
async fn started(
    run: &Run,
    generation: Generation,
    (begun, first): (Instant, BTreeSet<String>),
    look: &Generation,
    prints: BTreeMap<String, String>,
) -> Result<(Work, Option<Generation>), Bad> {
    let staging = run.staging()?;
    let ground = &staging.ground;
    let package = run.order.plan.package.as_ref().ok_or_else(out_of_order)?;
    let taken = run.taken.as_ref().ok_or_else(out_of_order)?;
    let services = async {
        let started = staging.start_after(&generation, &first).await;
        (started, begun.elapsed().as_secs_f64())
    };
    // One after the other: side by side they would take from the services, which everything else waits for.
    let beside = async {
        let outside = Outside::open(ground, &staging.agent_image, Moment::Before).await?;
        isolate::run(run, &outside).await?;
        if taken.bastion.is_some() {
            Bastion::fill(ground, &staging.agent_image, package).await?;
        }
        fingerprint::of_volumes(run, staging, look).await
    };
    let both = async { Ok::<_, Bad>(services.await) };
    let ((started, seconds), files) = match tokio::try_join!(both, beside) {
        Ok(ended) => ended,
        Err(bad) => {
            ground.engine.all_made().await;
            if let Err(error) = staging.discard(&generation).await {
                ground.note(error.to_string());
            }
            return Err(bad);
        }
    };
    let (started, failed) = match started {
        Ok(()) => (Ok(generation), None),
        Err(error) => {
            run.save_logs(&generation).await?;
            (Err(Bad::start(&error, Owner::Staging)), Some(generation))
        }
    };
    let work = Work::Started {
        started,
        seconds,
        prints,
        files,
    };
    Ok((work, failed))
}

/// The same once more without the last deploy's services: a machine may have too little memory for all of them twice.
async fn alone(run: &mut Run, takeover: &Takeover, failed: Generation) -> Result<Prepared, Bad> {
    let ground = run.ground()?.clone();
    ground.note(
        "the services did not come up beside those of the last deploy: these are ended, and they are started anew"
            .to_owned(),
    );
    let taken = run.taken.as_mut().ok_or_else(out_of_order)?;
    taken.end(&ground.engine);
    ended(taken).await?;
    taken.in_place.clear();
    let staging = run.staging()?;
    staging.discard(&failed).await?;
    let frozen = &takeover.kept.frozen;
    let branches = ground.branch(&staging.state, frozen, GENERATION).await;
    let blueprints = blueprints(&takeover.kept, &run.order.plan)?;
    snapshot::prepare_on(run, GENERATION, blueprints, branches, Owner::Engine).await
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
    let work = taken.work.take().ok_or_else(out_of_order)?;
    ended(taken).await?;
    let engine = run.ground()?.engine.clone();
    let kept = &takeover.kept;
    let (generation, seconds) = match work {
        Work::Prepared(prepared) => {
            let mut before = kept.fingerprints.clone();
            before.retain(|part, _| fingerprint::is_of_files(part));
            as_frozen(run, kept, &before, &prepared.files)?;
            let begun = Instant::now();
            let generation = snapshot::start(run, prepared.generation, Owner::Staging).await?;
            (generation, begun.elapsed().as_secs_f64())
        }
        Work::Started {
            started,
            seconds,
            prints,
            files,
        } => {
            as_frozen(run, kept, &prints, &files)?;
            let started = started?;
            // Only now: until the services stood, it would have taken from them what they need to start.
            if let Some(taken) = run.taken.as_mut() {
                taken.end(&engine);
                taken.in_place.clear();
            }
            (started, seconds)
        }
        Work::Branched(_) | Work::Ready { .. } => return Err(out_of_order()),
    };
    run.generation = Some(generation);
    run.recorder.emit(EventKind::Measured {
        what: "services' start".to_owned(),
        seconds,
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
        blueprints: blueprints(kept, &run.order.plan)?,
        fingerprints,
        schemas: kept.schemas.clone(),
        written: kept.written.clone(),
    }));
    Ok(())
}

/// Compares the frozen files with those of the kept snapshot. What the databases hold is in them, so they are not asked once
/// more.
fn as_frozen(
    run: &Run,
    kept: &KeptStaging,
    before: &BTreeMap<String, String>,
    files: &BTreeMap<String, String>,
) -> Result<(), Bad> {
    let name = "the frozen files are as at the kept snapshot";
    let differences = rollback::compare(before, files);
    let Some(first) = differences.first() else {
        let figure = format!("{} fingerprints equal", files.len());
        let case = passed(Stage::Snapshot, name, 0.0, Some(figure));
        run.case(Stage::Snapshot, case);
        return Ok(());
    };
    let reason = format!(
        "{} is not as it was at the snapshot of run {} ({} of {} fingerprints differ)",
        first.what,
        kept.staging,
        differences.len(),
        files.len()
    );
    let mut case = not_passed(Stage::Snapshot, name, CaseStatus::Failed, 0.0, &reason);
    case.mismatches = differences;
    run.case(Stage::Snapshot, case);
    Err(Bad::new(Owner::Engine, reason)
        .with_help("somebody wrote to what was frozen: run the rehearsal anew"))
}
