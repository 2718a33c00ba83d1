//! What a run knows while it runs. Each stage fills in its part; what is missing was not reached.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::Bad;
use super::during::During;
use super::isolate::Outside;
use super::schema::Schemas;
use super::surrounded::Watched;
use super::takeover::{Given, Taken, Takeover};
use super::unassisted::Habits;
use crate::backup::BackupFacts;
use crate::backup::remembered::Remembered;
use crate::check::model::BaselineSeen;
use crate::check::source::SourceManifest;
use crate::event::{Case, CaseStatus, EventKind, Mode, Owner, Stage};
use crate::mask::Mask;
use crate::package::OpenedPackage;
use crate::plan::model::Plan;
use crate::plan::paths::Paths;
use crate::report::Recorder;
use crate::report::files::RunFolder;
use crate::restore::rootfs::Imported;
use crate::secret::Secrets;
use crate::staging::{AgentBinary, Blueprint, Generation, Ground, Staging};
use crate::state::{Base, Branching, Frozen};

/// What to do with staging at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// Remove it.
    Never,
    /// Leave it up where the verdict is not passed.
    OnFailure,
    /// Leave it up.
    Always,
}

/// What a run is asked to do.
#[derive(Debug)]
pub struct Order {
    /// The plan.
    pub plan: Arc<Plan>,
    /// Rehearse or check a backup.
    pub mode: Mode,
    /// The run's id, which is part of all its names.
    pub names: crate::staging::Names,
    /// The files the plan was made from, with their roles; not the backups and the package.
    pub files: Vec<(String, PathBuf)>,
    /// The package, held so that its unpacked folder stays and a change of it is seen.
    pub opened: Option<OpenedPackage>,
    /// The run's folder, for the report that is written as soon as there is a verdict.
    pub folder: RunFolder,
    /// `DOCKER_HOST`, where it is set.
    pub docker_host: Option<String>,
    /// The executable that becomes the agent.
    pub agent: AgentBinary,
    /// Whether to leave staging up.
    pub keep: Keep,
    /// What was given besides the files.
    pub given: Given,
    /// The kept staging in which to try again, instead of making one.
    pub takeover: Option<Arc<Takeover>>,
    /// For how long a staging stays that is left up.
    pub keep_for: SignedDuration,
    /// When kept or leaked resources may be swept.
    pub expires: Timestamp,
    /// Where record, logs and reports lie.
    pub dir: PathBuf,
    /// What earlier readings of backups showed.
    pub remembered: Remembered,
    /// Feeds damaged copies of the backups as well, which have to be seen to be bad.
    pub prove: bool,
    /// What the secrets that the plan names stand for.
    pub secrets: Secrets,
    /// Hides their values in all that is shown and written.
    pub mask: Arc<Mask>,
    /// From a restore's name to the sizes of its backup in earlier passed runs, in bytes, the newest first.
    pub earlier_sizes: BTreeMap<String, Vec<u64>>,
    /// How to make branches; `None` finds out what the engine can do.
    pub branching: Option<Branching>,
    /// Bytes that bases may take up on the engine's disks; beyond it the least recently used go.
    pub bases_limit: Option<u64>,
    /// Leaves the isolation option of the network out, so that the isolate stage can be seen to fail.
    pub without_isolation: bool,
    /// How what-ifs are tried.
    pub trying: Trying,
}

/// How what-ifs are tried.
#[derive(Clone, Copy, Debug)]
pub struct Trying {
    /// Paths side by side.
    pub jobs: usize,
    /// The most orders of the components that are tried.
    pub most_orders: usize,
    /// What orders are sampled with; `None` is by the package's digest.
    pub seed: Option<u64>,
}

impl Default for Trying {
    /// One path for each core, at most 4; 12 orders.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            jobs: cores.min(4),
            most_orders: 12,
            seed: None,
        }
    }
}

impl Order {
    /// The same for a path of a what-if, which deploys what this plan says. The package's files are watched over by the
    /// run itself.
    pub(super) fn on_path(&self, plan: Arc<Plan>) -> Self {
        Self {
            plan,
            mode: self.mode,
            names: self.names.clone(),
            files: Vec::new(),
            opened: None,
            folder: self.folder.clone(),
            docker_host: self.docker_host.clone(),
            agent: self.agent.clone(),
            keep: Keep::Never,
            given: self.given.clone(),
            keep_for: self.keep_for,
            takeover: None,
            expires: self.expires,
            dir: self.dir.clone(),
            remembered: self.remembered.clone(),
            prove: false,
            secrets: self.secrets.clone(),
            mask: Arc::clone(&self.mask),
            earlier_sizes: BTreeMap::new(),
            branching: self.branching,
            bases_limit: None,
            without_isolation: self.without_isolation,
            trying: self.trying,
        }
    }
}

/// The point to which rollback returns.
#[derive(Debug)]
pub struct Snapshot {
    /// All volumes.
    pub frozen: BTreeMap<String, Frozen>,
    /// All services, each with the image of its container's filesystem.
    pub blueprints: Vec<Blueprint>,
    /// From a volume's or database's name to its fingerprint.
    pub fingerprints: BTreeMap<String, String>,
    /// The objects of each restored database.
    pub(crate) schemas: Schemas,
    /// By service: what it had written to its container's own filesystem by then.
    pub(crate) written: BTreeMap<String, BTreeSet<String>>,
}

/// What a deploy left standing, stopped for the time of the rollback's proof.
#[derive(Debug)]
pub struct Carnage {
    /// Its containers and branches.
    pub generation: Generation,
    /// The containers that ran until then; one that the deploy broke stays broken.
    pub ran: Vec<String>,
}

/// A run in progress.
pub struct Run {
    /// What it is asked to do.
    pub order: Order,
    /// Where events go.
    pub recorder: Arc<Recorder>,
    /// From preflight.
    pub ground: Option<Ground>,
    /// From preflight, in the order of the plan's restores.
    pub backups: Vec<BackupFacts>,
    /// From provision.
    pub staging: Option<Staging>,
    /// From provision: the images that backups made, by the restore's index.
    pub imported: BTreeMap<usize, Imported>,
    /// From provision: the ids of the images whose tools restore, by the restore's index.
    pub tools: BTreeMap<usize, String>,
    /// From provision, for the stage that follows it.
    pub(crate) outside: Option<Outside>,
    /// From preflight: what was taken at the sources of backups, by the restore's index.
    pub sources: BTreeMap<usize, SourceManifest>,
    /// From restore: the bases that serve.
    pub bases: Vec<Base>,
    /// From restore: what the baseline's volumes branch from, by the stack's names for them.
    pub frozen: BTreeMap<String, Frozen>,
    /// From isolate, where every base is there already: the baseline's containers, made and not started, and what
    /// they branch from.
    pub(crate) warm: Option<(BTreeMap<String, Frozen>, Generation)>,
    /// From baseline; replaced by snapshot, changed by deploy, replaced by rollback.
    pub generation: Option<Generation>,
    /// From baseline.
    pub baseline_seen: BaselineSeen,
    /// From snapshot.
    pub snapshot: Option<Arc<Snapshot>>,
    /// From preflight: the paths of the what-ifs, where any are asked for.
    pub(crate) paths: Option<Paths>,
    /// Set on a path of a what-if: there an admin's machine outlives what ran on it.
    pub(crate) on_path: bool,
    /// From deploy: the bastion's container, for as long as it is there.
    pub bastion: Option<String>,
    /// From deploy: the container in which a step of the package is running a command. It is still set where the
    /// stage was broken off, and then whatever runs there has to be ended.
    pub working_in: Option<String>,
    /// From deploy: what surrounded the steps.
    pub(crate) watched: Watched,
    /// What the site asked for outside where this run did not see it.
    pub(crate) habits: Habits,
    /// From deploy: what is watched as long as it goes on.
    pub(crate) during: Option<During>,
    /// From deploy: the first component after which a test was seen to fail, by the test's name.
    pub first_broken_by: BTreeMap<String, String>,
    /// Where the run tries again in a kept staging: from preflight, when it may.
    pub(crate) taken: Option<Taken>,
    /// This run has the right to work in a staging that is kept: a retry from preflight on.
    pub(crate) occupies: bool,
    /// From teardown: the staging is kept, and the place of its next try is to be made.
    pub(crate) makes_ready: bool,
    /// What stood there before the rollback, stopped but not removed, because it may have to be kept.
    pub carnage: Option<Carnage>,
}

impl Run {
    /// Nothing done yet.
    pub const fn new(order: Order, recorder: Arc<Recorder>) -> Self {
        Self {
            order,
            recorder,
            ground: None,
            backups: Vec::new(),
            staging: None,
            imported: BTreeMap::new(),
            tools: BTreeMap::new(),
            outside: None,
            sources: BTreeMap::new(),
            bases: Vec::new(),
            frozen: BTreeMap::new(),
            warm: None,
            generation: None,
            baseline_seen: BaselineSeen::new(),
            snapshot: None,
            paths: None,
            on_path: false,
            bastion: None,
            working_in: None,
            watched: Watched::new(),
            habits: Habits::NONE,
            during: None,
            first_broken_by: BTreeMap::new(),
            taken: None,
            occupies: false,
            makes_ready: false,
            carnage: None,
        }
    }

    /// The ground, which every stage after preflight has.
    ///
    /// # Errors
    /// When a stage runs out of order: a defect of ours, said rather than panicked about.
    pub fn ground(&self) -> Result<&Ground, Bad> {
        self.ground.as_ref().ok_or_else(out_of_order)
    }

    /// The staging, which every stage after provision has.
    ///
    /// # Errors
    /// When a stage runs out of order.
    pub fn staging(&self) -> Result<&Staging, Bad> {
        self.staging.as_ref().ok_or_else(out_of_order)
    }

    /// The live generation, which every stage after baseline has.
    ///
    /// # Errors
    /// When a stage runs out of order.
    pub fn generation(&self) -> Result<&Generation, Bad> {
        self.generation.as_ref().ok_or_else(out_of_order)
    }

    /// Reports a case of a stage's own suite.
    pub fn case(&self, stage: Stage, case: Case) {
        self.recorder.emit(EventKind::CaseFinished { stage, case });
    }

    /// Saves the whole logs of a generation's services below the run's folder.
    ///
    /// # Errors
    /// When the engine does not give them, or they cannot be written.
    pub async fn save_logs(&self, generation: &Generation) -> Result<(), Bad> {
        let ground = self.ground()?;
        let folder = self.order.dir.join("logs");
        let unwritten = |error: std::io::Error| {
            Bad::new(
                Owner::Engine,
                format!("cannot write logs to `{}`: {error}", folder.display()),
            )
        };
        tokio::fs::create_dir_all(&folder)
            .await
            .map_err(unwritten)?;
        for running in &generation.services {
            let text = match ground.engine.container_log(&running.container, None).await {
                Ok(text) => text,
                // A service whose container was never made has no log.
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error.into()),
            };
            let name = format!("{}-{}.log", generation.name, running.blueprint.service.name);
            tokio::fs::write(folder.join(name), ground.mask.text(text))
                .await
                .map_err(unwritten)?;
        }
        Ok(())
    }
}

pub(super) fn out_of_order() -> Bad {
    Bad::new(
        Owner::Engine,
        "a stage was run before the stage that it builds on (a defect of rehearse)",
    )
}

/// A case of a stage's own suite that holds.
pub(super) fn passed(
    stage: Stage,
    name: impl Into<String>,
    seconds: f64,
    figure: Option<String>,
) -> Case {
    Case {
        suite: stage.name().to_owned(),
        name: name.into(),
        status: CaseStatus::Passed,
        seconds,
        message: figure,
        mismatches: Vec::new(),
        component: None,
        location: None,
        output: None,
        evidence: Vec::new(),
    }
}

/// A case of a stage's own suite that does not hold, or could not be determined.
pub(super) fn not_passed(
    stage: Stage,
    name: impl Into<String>,
    status: CaseStatus,
    seconds: f64,
    message: impl Into<String>,
) -> Case {
    Case {
        status,
        message: Some(message.into()),
        ..passed(stage, name, seconds, None)
    }
}
