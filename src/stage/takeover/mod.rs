//! Trying again in a kept staging: the stages up to the snapshot take what that staging's own run showed, and check that
//! it still holds.
//!
//! The staging keeps the id of the run that made it: everything in it is labelled after that one, whoever works in it.
//! The network, the agent and the services' containers are made anew for each try, on fresh branches of the snapshot's
//! frozen layers, so nothing that an earlier deploy or a person did can reach the next one.

mod written;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::task::JoinHandle;

pub(super) use written::write_down;
pub use written::{Given, KeptBastion, KeptImage, KeptStaging, Unkept};

use super::isolate;
use super::restore::{Age, worst};
use super::run::{Keep, Run, Snapshot, not_passed, out_of_order, passed};
use super::snapshot::Prepared;
use super::{Bad, deploy, fingerprint, preflight, provision, rollback, snapshot, standing};
use crate::engine::{Engine, EngineError, Resource, Stands};
use crate::event::{CaseStatus, EventKind, Owner, Stage};
use crate::report::record::Record;
use crate::staging::{Bastion, Blueprint};
use crate::state::{Branch, StateStore};
use crate::verdict::{Outcome, StageEnd, Verdict};

/// What a run that tries again is given.
#[derive(Debug)]
pub struct Takeover {
    /// What the run that is tried again has written down.
    pub kept: KeptStaging,
    /// The record of the run that made the staging.
    pub origin: Record,
    /// `sha256:<hex>` of that record.
    pub digest: String,
    /// The staging shall be kept for longer than it was to be.
    pub extends: bool,
}

/// What a run that tries again has, once it may work in the staging.
pub(crate) struct Taken {
    /// Until when the staging is kept already.
    until: Timestamp,
    /// From provision: what the last deploy left, ended and not removed.
    left: Vec<Resource>,
    /// From provision: the end of it, under way.
    ending: Option<JoinHandle<Result<(), EngineError>>>,
    /// From provision: what the deploy will write to.
    branches: Option<Result<BTreeMap<String, Branch>, EngineError>>,
    /// From isolate: what the deploy will work on, made and not started.
    prepared: Option<Prepared>,
    /// From isolate: where its steps will run.
    pub(super) bastion: Option<Bastion>,
}

/// What the deploy works on is called.
const GENERATION: &str = "deploy";

/// The stages that are taken over.
const TAKEN: [Stage; 6] = [
    Stage::Preflight,
    Stage::Provision,
    Stage::Isolate,
    Stage::Restore,
    Stage::Baseline,
    Stage::Snapshot,
];

impl Takeover {
    /// Why the staging's own run showed too little to try again on, where it did.
    pub fn doubt(&self) -> Option<String> {
        let origin = &self.origin;
        if origin.run != self.kept.staging {
            return Some(format!(
                "`staging.json` names run {}, and the record is of run {}",
                self.kept.staging, origin.run
            ));
        }
        TAKEN.iter().find_map(|stage| {
            let mut ends = origin.stages.iter().filter(|seen| seen.stage == *stage);
            // The isolation is proved anew; that it failed after a deploy was that package's doing.
            let shown = *stage == Stage::Isolate || ends.all(|seen| seen.end == StageEnd::Ok);
            let seen = origin.stages.iter().any(|seen| seen.stage == *stage);
            (!shown || !seen)
                .then(|| format!("the stage {stage} of run {} did not end ok", origin.run))
        })
    }

    /// Whether the staging is there and free, and everything in it that the snapshot is made of. Returns until when it is
    /// kept.
    ///
    /// # Errors
    /// What is in the way, and what to do.
    pub async fn stands(&self, engine: &Engine) -> Result<Timestamp, Bad> {
        let kept = &self.kept;
        let staging = &kept.staging;
        let gone = |why: String| {
            Bad::new(Owner::Engine, why).with_help("run the rehearsal anew, with --keep")
        };
        let Some(seen) = engine.staging(staging, Timestamp::now()).await? else {
            return Err(gone(format!(
                "the staging of run {staging} is not in this engine any more"
            )));
        };
        let until = match seen.stands {
            Stands::Kept(until) => until,
            Stands::Running => {
                return Err(
                    Bad::new(Owner::Engine, format!("run {staging} is still running"))
                        .with_help("wait for its end"),
                );
            }
            Stands::Dead => {
                return Err(gone(format!("the staging of run {staging} has expired")));
            }
        };
        let frozen = kept.frozen.values().flat_map(|frozen| frozen.volumes());
        let volumes = frozen.map(|name| async move { (name, engine.volume(name).await) });
        for (name, found) in join_all(volumes).await {
            if found?.is_none() {
                return Err(gone(format!(
                    "the volume {name}, which the snapshot of run {staging} stands on, is gone"
                )));
            }
        }
        for (service, image) in &kept.images {
            let found = engine.image(&image.reference).await?;
            if found.is_none_or(|found| found.id != image.id) {
                return Err(gone(format!(
                    "the image {} of service `{service}` is not what it was at the snapshot of run {staging}",
                    image.reference
                )));
            }
        }
        Ok(until)
    }

    fn blueprints(&self, run: &Run) -> Result<Vec<Blueprint>, Bad> {
        let services = &run.order.plan.stack.services;
        let blueprint = |(name, image): &(String, KeptImage)| {
            let service = services.iter().find(|service| service.name == *name)?;
            Some(Blueprint {
                service: service.clone(),
                image: image.reference.clone(),
                facts: image.facts.clone(),
                unset: Default::default(),
            })
        };
        self.kept
            .images
            .iter()
            .map(|kept| blueprint(kept).ok_or_else(out_of_order))
            .collect()
    }
}

/// Runs a stage as a run does that tries again; `None` where it is like any other's.
pub(super) async fn perform(run: &mut Run, stage: Stage) -> Option<Result<(), Bad>> {
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

/// True where this run may not touch the staging that it was to take over: another one works in it.
pub(super) const fn hands_off(run: &Run) -> bool {
    run.order.takeover.is_some() && run.taken.is_none()
}

/// Whether a run that tries again leaves the staging up; `None` where it made its own. One that could not be judged owes
/// its try: the staging stays whatever was asked for.
pub(super) fn keeps(run: &Run) -> Option<bool> {
    run.order.takeover.as_ref()?;
    let outcome = Verdict::of(&run.recorder.events()).outcome;
    Some(match run.order.keep {
        Keep::Always => true,
        Keep::OnFailure => outcome != Outcome::Passed,
        Keep::Never => outcome == Outcome::Invalid,
    })
}

/// Marks the staging as kept, with this run's deploy in it, and lets others work in it again. Returns until when.
pub(super) async fn keep(run: &mut Run) -> Result<Timestamp, Bad> {
    let ground = run.ground()?.clone();
    let left = match run.taken.as_mut() {
        Some(taken) => {
            if let Err(bad) = ended(taken).await {
                ground.note(bad.to_string());
            }
            Some(std::mem::take(&mut taken.left))
        }
        None => None,
    };
    // What stays of it the next try, or the sweep, removes.
    if let Err(error) = ground
        .engine
        .remove_resources(left.unwrap_or_default())
        .await
    {
        ground.note(error.to_string());
    }
    let asked = Timestamp::now().checked_add(run.order.keep_for);
    let asked = asked.unwrap_or(Timestamp::MAX);
    let extends = run.order.takeover.as_ref().is_some_and(|of| of.extends);
    let expires = match &run.taken {
        Some(taken) if extends => taken.until.max(asked),
        Some(taken) => taken.until,
        None => asked,
    };
    ground
        .engine
        .keep_run(&ground.labels, ground.names.run(), expires)
        .await?;
    if run.taken.is_some() {
        ground.engine.vacate(ground.labels.run()).await?;
    }
    Ok(expires)
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

/// Waits until nothing of the last deploy runs any more.
async fn ended(taken: &mut Taken) -> Result<(), Bad> {
    let Some(ending) = taken.ending.take() else {
        return Ok(());
    };
    let killed = ending.await.map_err(|panic| {
        Bad::new(
            Owner::Engine,
            format!("ending what the last deploy left broke off: {panic}"),
        )
    })?;
    Ok(killed?)
}

/// How a run that tries again finds the services' images: as they were at the snapshot.
pub(super) fn images(takeover: &Takeover) -> provision::Images {
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
    taken_over(run, Stage::Baseline, &takeover.origin);
    Ok(())
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
