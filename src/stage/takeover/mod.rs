//! Trying again in a kept staging: the stages up to the snapshot take what that staging's own run showed, and check that
//! it still holds.
//!
//! The staging keeps the id of the run that made it: everything in it is labelled after that one, whoever works in it.
//! Each try has a network, an agent and services' containers of its own, on branches of the snapshot's frozen layers that
//! nothing has run on: made when the staging is kept (`next/`), or anew where something of that is not as it was made. So
//! nothing that an earlier deploy or a person did can reach the next one.

mod next;
mod stages;
mod written;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(super) use stages::{images, perform};
pub(super) use written::write_down;
pub use written::{Given, KeptBastion, KeptImage, KeptStaging, Unkept};

use super::run::{Keep, Run, out_of_order};
use super::snapshot::Prepared;
use super::{Bad, isolate};
use crate::engine::{Engine, EngineError, Resource, Stands};
use crate::event::{Owner, Stage};
use crate::plan::model::Plan;
use crate::report::record::Record;
use crate::staging::{Bastion, Blueprint, Generation, StagingNetwork};
use crate::state::Branch;
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
    /// The end of it: from provision, or from snapshot in a place that was ready.
    ending: Ending,
    /// From provision until the services are the run's: their containers in a place that was ready.
    in_place: Vec<String>,
    /// From provision: the network that was made ready for this try, where one was.
    pub(super) network: Option<StagingNetwork>,
    /// From provision: what the deploy will work on.
    work: Option<Work>,
    /// From isolate: where its steps will run.
    pub(super) bastion: Option<Bastion>,
}

/// How far the end of the last deploy has come.
enum Ending {
    /// It runs.
    NotBegun,
    /// It is being ended.
    UnderWay(JoinHandle<Result<(), EngineError>>),
    /// It was ended, or that broke off.
    Over,
}

impl Taken {
    /// Begins to end what the last deploy left, one container after the other, for the reason that
    /// [`Engine::remove_container`] gives.
    fn end(&mut self, engine: &Engine) {
        let containers: Vec<String> = self
            .left
            .iter()
            .filter_map(|resource| match resource {
                Resource::Container(name) => Some(name.clone()),
                Resource::Network(_) | Resource::Volume(_) | Resource::Image(_) => None,
            })
            .collect();
        let engine = engine.clone();
        self.ending = Ending::UnderWay(tokio::spawn(async move {
            // What cannot be ended keeps none of the others alive.
            let mut ended = Ok(());
            for container in containers {
                ended = ended.and(engine.kill_container(&container).await);
            }
            ended
        }));
    }
}

/// How far that has come which the deploy will work on.
enum Work {
    /// The branches are made, or could not be.
    Branched(Result<BTreeMap<String, Branch>, EngineError>),
    /// It was made ready before this try, with branches of its own to compare the frozen files on; its first services are
    /// being started.
    Ready {
        generation: Generation,
        begun: (Instant, BTreeSet<String>),
        look: Generation,
        prints: BTreeMap<String, String>,
    },
    /// The containers are made, and not started.
    Prepared(Prepared),
    /// They were started; how that ended and how many seconds it took is told when its turn comes.
    Started {
        started: Result<Generation, Bad>,
        seconds: f64,
        prints: BTreeMap<String, String>,
        files: BTreeMap<String, String>,
    },
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
            // Whoever has the right to work in it would keep it from being taken for dead.
            Stands::Kept(until) if until > Timestamp::now() => until,
            Stands::Running => {
                return Err(
                    Bad::new(Owner::Engine, format!("run {staging} is still running"))
                        .with_help("wait for its end"),
                );
            }
            Stands::Kept(_) | Stands::Dead => {
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
}

/// The services as they were at the snapshot.
fn blueprints(kept: &KeptStaging, plan: &Plan) -> Result<Vec<Blueprint>, Bad> {
    let services = &plan.stack.services;
    let blueprint = |(name, image): &(String, KeptImage)| {
        let service = services.iter().find(|service| service.name == *name)?;
        Some(Blueprint {
            service: service.clone(),
            image: image.reference.clone(),
            facts: image.facts.clone(),
            unset: Default::default(),
        })
    };
    let all = kept.images.iter();
    all.map(|kept| blueprint(kept).ok_or_else(out_of_order))
        .collect()
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
            // A try that broke off early has left that running, and what it had begun to start.
            let started = std::mem::take(&mut taken.in_place);
            taken
                .left
                .extend(started.into_iter().map(Resource::Container));
            if matches!(taken.ending, Ending::NotBegun) {
                taken.end(&ground.engine);
            }
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
    for beacon in isolate::beacons(&ground.names) {
        if let Err(error) = ground.engine.remove_container(&beacon).await {
            ground.note(error.to_string());
        }
    }
    let asked = Timestamp::now().checked_add(run.order.keep_for);
    let asked = asked.unwrap_or(Timestamp::MAX);
    let extends = run.order.takeover.as_ref().is_some_and(|of| of.extends);
    let expires = match &run.taken {
        Some(taken) if extends => taken.until.max(asked),
        Some(taken) => taken.until,
        None => asked,
    };
    let engine = &ground.engine;
    // Nobody begins in the staging while the place of the next try is made.
    let mine = match (&run.taken, &run.staging) {
        (Some(_), _) => true,
        (None, Some(staging)) => {
            let me = ground.names.run();
            let occupied = engine.occupy(&ground.labels, &staging.agent_image, me);
            occupied.await.is_ok_and(|occupied| occupied.is_ok())
        }
        (None, None) => false,
    };
    run.occupies = mine;
    engine
        .keep_run(&ground.labels, ground.names.run(), expires)
        .await?;
    run.makes_ready = mine;
    Ok(expires)
}

/// Makes the place of the next try in a staging that was kept, and gives the right to work in it back. The staging is kept,
/// and all of it on record, whatever becomes of that; who cancels has waited enough.
pub(super) async fn make_ready(run: &mut Run, cancel: &CancellationToken) {
    let (makes_ready, occupies) = (run.makes_ready, run.occupies);
    let Some(ground) = run.ground.clone().filter(|_| occupies) else {
        return;
    };
    if makes_ready {
        if let Err(error) = run.order.folder.write_reports(&run.recorder.events()) {
            ground.note(format!("the reports could not be written yet: {error}"));
        }
        next::make(run, &ground, cancel).await;
    }
    if let Err(error) = ground.engine.vacate(ground.labels.run()).await {
        ground.note(error.to_string());
    }
}

/// Waits until nothing of the last deploy runs any more.
async fn ended(taken: &mut Taken) -> Result<(), Bad> {
    let Ending::UnderWay(ending) = &mut taken.ending else {
        return Ok(());
    };
    let ended = ending.await;
    taken.ending = Ending::Over;
    let killed = ended.map_err(|panic| {
        Bad::new(
            Owner::Engine,
            format!("ending what the last deploy left broke off: {panic}"),
        )
    })?;
    Ok(killed?)
}
