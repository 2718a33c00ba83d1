//! Restoring backups in staging, each by its own real tool in the service's image or a tool image, and examining what
//! came of it.
//!
//! [`into_service`] and [`into_volume`] fill the volumes of a base in the making; [`examine`] and [`at_rest`] climb the
//! ladder of validity on a branch of the finished base. What goes wrong is either the backup's fault
//! ([`Owner::Backup`]) or somebody else's, and the two are never mixed.

pub mod command;
mod files;
mod inbox;
pub mod mariadb;
pub mod postgres;
pub mod redis;
pub mod repository;
pub mod rootfs;
mod server;
pub mod sqlite;
mod tool;
pub mod tool_image;
mod tree;
mod trouble;
pub mod volume;
mod words;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;

pub use inbox::Inbox;
pub use server::Server;
pub use tool::{Deadline, Toolbox};
pub use trouble::{Trouble, not_started};

use crate::backup::BackupFacts;
use crate::check::ladder::Finding;
use crate::check::source::SourceManifest;
use crate::engine::VolumeFacts;
use crate::event::Owner;
use crate::plan::model::{Family, Method, Restore};
use crate::secret::Secrets;
use crate::staging::{Bad, Blueprint, Running, Staging};
use crate::state::Branch;

/// One backup to be restored.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// What the plan says of it.
    pub restore: &'a Restore,
    /// What its reading showed.
    pub facts: &'a BackupFacts,
    /// What was taken at the source beside it, where the rehearsal names it.
    pub source: Option<&'a SourceManifest>,
    /// The id of the image with its tools, where it needs another than its service's.
    pub image: Option<&'a str>,
}

/// Where and with what backups are restored.
#[derive(Clone, Copy)]
pub struct Site<'a> {
    /// The staging.
    pub staging: &'a Staging,
    /// What the rehearsal's `{ env: .. }` and `{ file: .. }` stand for.
    pub secrets: &'a Secrets,
    /// For each restore.
    pub limit: Duration,
}

/// What one restore told, besides that it ended without an unexplained error.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// The time of the newest data, where the rehearsal asks for it or the tool says it.
    pub as_of: Option<Timestamp>,
    /// One line for the report: `3 tolerated messages`, `recovered to 2026-11-21 03:00:12+00`.
    pub figure: Option<String>,
    /// What later examinations need to know, by name: it becomes part of the base.
    pub facts: BTreeMap<String, String>,
}

/// How the restore of one backup ended.
#[derive(Debug)]
pub struct Ended {
    /// What it told, or who is at fault.
    pub result: Result<Told, Bad>,
    /// Seconds from its beginning to its end.
    pub seconds: f64,
}

/// What became of the backups of one service: as many as were tried, in order; the last of them may have failed.
#[derive(Debug, Default)]
pub struct Made {
    /// Each.
    pub ended: Vec<Ended>,
    /// The server's whole log.
    pub log: Option<String>,
}

/// Restores backups into the empty volumes of a service, and leaves them as a clean stop of the service left them.
///
/// # Errors
/// What went wrong besides the backups: the service did not start or stop.
pub async fn into_service(
    site: Site<'_>,
    blueprint: Blueprint,
    volumes: &BTreeMap<String, VolumeFacts>,
    jobs: &[Job<'_>],
) -> Result<Made, Bad> {
    let family = jobs
        .iter()
        .map(|job| job.restore.method.family())
        .find(|family| *family != Family::Files);
    let mut running = Running {
        container: Server::container(site.staging, &blueprint.service.name),
        blueprint: blueprint.clone(),
    };
    running.blueprint.service.depends_on.clear();
    let mut made = match family {
        Some(Family::Postgres) => postgres::restore(site, blueprint, volumes, jobs).await,
        Some(Family::Mariadb) => mariadb::restore(site, blueprint, volumes, jobs).await,
        Some(Family::Redis) => redis::restore(site, blueprint, volumes, jobs).await,
        None => command::into_service(site, blueprint, volumes, jobs).await,
        Some(Family::Sqlite | Family::Files) => Err(not_built(jobs)),
    }?;
    explain(site, &running, jobs, &mut made).await;
    Ok(made)
}

/// Where a restore went wrong: whether its server met something that is not the backup. The tool that lost it cannot say.
async fn explain(site: Site<'_>, running: &Running, jobs: &[Job<'_>], made: &mut Made) {
    let last = made.ended.len().checked_sub(1);
    let Some((job, ended)) = last.and_then(|last| jobs.get(last).zip(made.ended.get_mut(last)))
    else {
        return;
    };
    let Err(bad) = &ended.result else { return };
    // After an overrun the container was killed by us, and shows only that.
    if bad.overrun || !matches!(bad.owner, Owner::Backup | Owner::Staging) {
        return;
    }
    let engine = &site.staging.ground.engine;
    let trouble = if engine.container_state(&running.container).await.is_ok() {
        let (trouble, log) = Trouble::befell(site.staging, running).await;
        made.log = log.or(made.log.take());
        trouble
    } else {
        // Its server was stopped before, or never started.
        made.log.as_deref().and_then(Trouble::in_log)
    };
    if let Some(trouble) = trouble {
        let operation = format!("restore {}", job.restore.name);
        ended.result = Err(trouble.bad(
            &operation,
            "the server",
            &format!("the tool said: {}", bad.reason),
        ));
    }
}

/// Restores one backup into a volume, which may hold what earlier ones left there.
///
/// # Errors
/// When the backup is bad, or it could not be restored for another reason.
pub async fn into_volume(site: Site<'_>, volume: &VolumeFacts, job: Job<'_>) -> Result<Told, Bad> {
    match &job.restore.method {
        Method::Archive => volume::fill(site.staging, &volume.name, job.facts)
            .await
            .map(|()| Told::default()),
        Method::Restic(_) | Method::Borg(_) => repository::restore(site, volume, job).await,
        Method::Sqlite { .. } => sqlite::restore(site, volume, job).await,
        Method::Command { .. } => command::into_volume(site, volume, job).await,
        _ => Err(not_built(&[job])),
    }
}

fn not_built(jobs: &[Job<'_>]) -> Bad {
    let names: Vec<&str> = jobs.iter().map(|job| job.restore.name.as_str()).collect();
    Bad::new(
        Owner::Engine,
        format!("the restore of {} is not built yet", names.join(", ")),
    )
}

/// What is examined: one restored backup, on a branch that may be written to and is thrown away.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// Where.
    pub site: Site<'a>,
    /// What was restored.
    pub job: Job<'a>,
    /// What its restore told.
    pub told: &'a BTreeMap<String, String>,
    /// The service on its branch, for a restore into a service.
    pub server: Option<&'a Running>,
    /// The branches of everything that was restored, by the stack's names of the volumes.
    pub branches: &'a BTreeMap<String, Branch>,
}

/// Climbs the rungs that need what was restored to be up and running; each that was tried or skipped is in the answer.
pub async fn examine(subject: Subject<'_>) -> Vec<Finding> {
    match subject.job.restore.method.family() {
        Family::Postgres => postgres::examine(subject).await,
        Family::Mariadb => mariadb::examine(subject).await,
        Family::Redis => redis::examine(subject).await,
        Family::Sqlite => sqlite::examine(subject).await,
        Family::Files => tree::examine(subject),
    }
}

/// Climbs the rungs that need a server which has stopped cleanly.
pub async fn at_rest(subject: Subject<'_>) -> Vec<Finding> {
    match subject.job.restore.method.family() {
        Family::Postgres => postgres::at_rest(subject).await,
        Family::Mariadb => mariadb::at_rest(subject).await,
        Family::Redis | Family::Sqlite | Family::Files => Vec::new(),
    }
}

/// Times one restore.
pub(crate) async fn timed(work: impl Future<Output = Result<Told, Bad>>) -> Ended {
    let begun = Instant::now();
    let result = work.await;
    Ended {
        result,
        seconds: begun.elapsed().as_secs_f64(),
    }
}
