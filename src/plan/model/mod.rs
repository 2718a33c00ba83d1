//! What a run will do, checked and resolved. Nothing after the plan asks a manifest again.

mod declares;
mod emulator;
mod package;
mod path;
mod restore;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::check::availability;
use crate::check::model::Test;
pub use declares::*;
pub use emulator::*;
pub use package::*;
pub use path::{Asked, Course, DeployPath, Moment, WhatIf, Why};
pub use restore::*;

/// A position in a file that the user wrote, printed as `path:line:column`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Location {
    /// The path as the user named it.
    pub path: PathBuf,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.path.display(), self.line, self.column)
    }
}

/// Everything a run needs to know.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// The rehearsal's name.
    pub rehearsal: String,
    /// The rehearsal's file as given.
    pub file: PathBuf,
    /// The services, in start order.
    pub stack: Stack,
    /// The restores, in listing order.
    pub restores: Vec<Restore>,
    /// The package; absent in a backup check.
    pub package: Option<Package>,
    /// The test plan, where one is named.
    pub testplan: Option<TestPlan>,
    /// Limits of the stages.
    pub limits: Limits,
    /// Hosts and addresses that must be unreachable; tried by the isolate stage.
    pub forbidden: Vec<String>,
    /// The container from which steps run unless they name a service.
    pub bastion: Option<Bastion>,
    /// What stands in for systems outside, in listing order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub emulators: Vec<Emulator>,
    /// Which other ways of the deploy are tried, in listing order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub what_ifs: Vec<Asked>,
    /// Required ones of the rehearsal that the command line leaves out. Such a run opens no gate.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub what_ifs_left_out: Vec<WhatIf>,
}

/// The services of staging.
#[derive(Clone, Debug, Serialize)]
pub struct Stack {
    /// The Compose file as given.
    pub file: PathBuf,
    /// Its folder: relative paths in it start here.
    pub dir: PathBuf,
    /// In start order: each after everything it depends on.
    pub services: Vec<Service>,
    /// The named volumes.
    pub volumes: Vec<String>,
}

/// Where an image comes from: present, else pulled, else built.
#[derive(Clone, Debug, Serialize)]
pub struct Image {
    /// The reference to look for and to pull. With only `build:` given, `rehearse-<stack>-<service>`.
    pub reference: String,
    /// How to build it where it cannot be pulled.
    pub build: Option<Build>,
}

/// A build context.
#[derive(Clone, Debug, Serialize)]
pub struct Build {
    /// The context folder, absolute or relative to the working folder.
    pub context: PathBuf,
    /// The Dockerfile's path inside the context.
    pub dockerfile: String,
    /// Build arguments.
    pub args: BTreeMap<String, String>,
    /// The stage to build.
    pub target: Option<String>,
}

/// One service.
#[derive(Clone, Debug, Serialize)]
pub struct Service {
    /// Its name, which is also its DNS name.
    pub name: String,
    /// Its image.
    pub image: Image,
    /// Replaces the image's command.
    pub command: Option<Vec<String>>,
    /// Replaces the image's entrypoint.
    pub entrypoint: Option<Vec<String>>,
    /// Environment: `env_file` first, then `environment`.
    pub environment: BTreeMap<String, String>,
    /// Named volumes.
    pub volumes: Vec<VolumeMount>,
    /// Files and folders of the stack's folder, secrets and configs: copied in before the start.
    pub files: Vec<FileMount>,
    /// Empty in-memory filesystems: absolute path to mount options (may be empty).
    pub tmpfs: BTreeMap<String, String>,
    /// The health check, where the stack gives one (else the image's own counts).
    pub healthcheck: Option<Healthcheck>,
    /// What must be there first.
    pub depends_on: Vec<Dependency>,
    /// `user` or `uid:gid`.
    pub user: Option<String>,
    /// The working folder.
    pub working_dir: Option<String>,
    /// The host name.
    pub hostname: Option<String>,
    /// Further DNS names on the one isolated network.
    pub aliases: Vec<String>,
    /// TCP ports that must accept connections before the service counts as ready: container side of `ports`, and `expose`.
    pub tcp_ports: Vec<u16>,
    /// Bytes.
    pub memory: Option<u64>,
    /// Cores.
    pub cpus: Option<f64>,
    /// Shared memory, in bytes.
    pub shm_size: Option<u64>,
    /// The signal that asks it to stop.
    pub stop_signal: Option<String>,
    /// How long it may take to stop before it is killed.
    pub stop_grace_period: Duration,
    /// Runs an init process as PID 1.
    pub init: bool,
    /// The container's root filesystem is read-only.
    pub read_only: bool,
    /// True when another service waits for it to complete: it is a one-shot that must exit 0.
    pub one_shot: bool,
}

#[cfg(test)]
impl Service {
    /// A service of which only the name matters.
    pub(crate) fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            image: Image {
                reference: name.to_owned(),
                build: None,
            },
            command: None,
            entrypoint: None,
            environment: BTreeMap::new(),
            volumes: Vec::new(),
            files: Vec::new(),
            tmpfs: BTreeMap::new(),
            healthcheck: None,
            depends_on: Vec::new(),
            user: None,
            working_dir: None,
            hostname: None,
            aliases: Vec::new(),
            tcp_ports: Vec::new(),
            memory: None,
            cpus: None,
            shm_size: None,
            stop_signal: None,
            stop_grace_period: Duration::from_secs(10),
            init: false,
            read_only: false,
            one_shot: false,
        }
    }
}

/// A named volume in a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VolumeMount {
    /// The volume's name in the stack.
    pub volume: String,
    /// The absolute path in the container.
    pub target: String,
    /// Mounted read-only.
    pub read_only: bool,
}

/// A file or folder that is copied into a container before it starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileMount {
    /// On this machine.
    pub source: PathBuf,
    /// The absolute path in the container.
    pub target: String,
    /// Permission bits, where the stack gives them; else those of the source.
    pub mode: Option<u32>,
    /// Numeric owner.
    pub uid: u64,
    /// Numeric group.
    pub gid: u64,
}

/// A health check, as the engine runs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healthcheck {
    /// `["CMD", ...]`, `["CMD-SHELL", "..."]` or `["NONE"]`.
    pub test: Vec<String>,
    /// Between checks.
    pub interval: Option<Duration>,
    /// For one check.
    pub timeout: Option<Duration>,
    /// Failures in a row that make it unhealthy.
    pub retries: Option<u32>,
    /// Failures before this do not count.
    pub start_period: Option<Duration>,
}

impl Healthcheck {
    /// None at all, also where the image has one.
    pub fn disabled() -> Self {
        Self {
            test: vec!["NONE".to_owned()],
            interval: None,
            timeout: None,
            retries: None,
            start_period: None,
        }
    }
}

/// What a service waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dependency {
    /// The other service.
    pub service: String,
    /// In which condition.
    pub condition: Condition,
}

/// The condition of a dependency, in Compose's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Condition {
    /// `service_started`
    Started,
    /// `service_healthy`
    Healthy,
    /// `service_completed_successfully`
    Completed,
}

/// Limits, most of them of time: a stage that runs over its limit has gone wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Images, network, volumes. Default 30 minutes (images may have to be built).
    pub provision: Duration,
    /// Each backup. Default 1 hour.
    pub restore: Duration,
    /// Looking at what each backup was restored to, in a backup check. Default 1 hour.
    pub examine: Duration,
    /// How many restores run side by side. Default 2.
    pub restore_jobs: usize,
    /// From the start of the services until all are ready. Default 2 minutes.
    pub start: Duration,
    /// All steps of the package together. Default 30 minutes.
    pub deploy: Duration,
    /// From the order to a healthy site. Default 5 minutes.
    pub rollback: Duration,
    /// The sum of the times in which an `availability` target was not there during the deploy. Default none.
    pub downtime: Option<Duration>,
    /// Bytes of a table; of one with more, a what-if does not read the rows. Default 1 GiB.
    pub compare: u64,
}

impl Default for Limits {
    fn default() -> Self {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        Self {
            provision: minutes(30),
            restore: minutes(60),
            examine: minutes(60),
            restore_jobs: 2,
            start: minutes(2),
            deploy: minutes(30),
            rollback: minutes(5),
            downtime: None,
            compare: 1 << 30,
        }
    }
}

/// The container from which steps run by default.
#[derive(Clone, Debug, Serialize)]
pub struct Bastion {
    /// Its image: it brings the tools that the admin's own machine has (`psql`, `curl`, a shell).
    pub image: Image,
    /// The environment of every step that runs there, and nothing else.
    pub environment: BTreeMap<String, String>,
}

/// The tests and where they stand.
#[derive(Clone, Debug, Serialize)]
pub struct TestPlan {
    /// Its name.
    pub name: String,
    /// The file as given.
    pub file: PathBuf,
    /// In listing order.
    pub tests: Vec<Test>,
    /// What is asked again and again during the deploy.
    pub availability: Vec<Availability>,
}

/// Something that should be there during the deploy.
#[derive(Clone, Debug, Serialize)]
pub struct Availability {
    /// What is asked.
    pub target: availability::Target,
    /// Where it is written.
    pub location: Location,
}
