//! The phases of a run, what it is for, and who can be at fault.

use serde::{Deserialize, Serialize};

/// A phase of a run, in the order in which phases happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Reads and checks every file, digests package and backups, asks the engine what it can do.
    Preflight,
    /// Network, agent, images and volumes.
    Provision,
    /// Proves from inside that nothing outside can be reached.
    Isolate,
    /// Restores each backup, or reuses the base of an identical earlier restore.
    Restore,
    /// The services are healthy and the test plan is green before the deploy.
    Baseline,
    /// Freezes volumes and container filesystems as one point.
    Snapshot,
    /// Runs the package, unassisted.
    Deploy,
    /// The test plan after the deploy.
    Verify,
    /// Other ways that the deploy could go, each from the same snapshot.
    #[serde(rename = "what-if")]
    WhatIf,
    /// Back to the snapshot, proved by tests and fingerprints.
    Rollback,
    /// Removes everything this run made, or keeps it with an expiry.
    Teardown,
}

impl Stage {
    /// Every stage in order.
    pub const ALL: [Self; 11] = [
        Self::Preflight,
        Self::Provision,
        Self::Isolate,
        Self::Restore,
        Self::Baseline,
        Self::Snapshot,
        Self::Deploy,
        Self::Verify,
        Self::WhatIf,
        Self::Rollback,
        Self::Teardown,
    ];

    /// The name used in output, suites and files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Preflight => "preflight",
            Self::Provision => "provision",
            Self::Isolate => "isolate",
            Self::Restore => "restore",
            Self::Baseline => "baseline",
            Self::Snapshot => "snapshot",
            Self::Deploy => "deploy",
            Self::Verify => "verify",
            Self::WhatIf => "what-if",
            Self::Rollback => "rollback",
            Self::Teardown => "teardown",
        }
    }
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// What a run is for: it decides which stages are needed and who owns a bad backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// `rehearse run`: all stages.
    Rehearse,
    /// `rehearse backup-check`: up to baseline, then teardown. A bad backup is *failed*.
    BackupCheck,
}

impl Mode {
    /// The name used in output and files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rehearse => "rehearse",
            Self::BackupCheck => "backup-check",
        }
    }
}

/// Who is at fault when a stage goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// The package that was handed over.
    Package,
    /// A backup that cannot be restored, or is too old.
    Backup,
    /// The staging's own services before the deploy.
    Staging,
    /// The stack file, or an image it names.
    Stack,
    /// The test plan.
    Testplan,
    /// The staging network let something out, or its isolation could not be proved.
    Isolation,
    /// The engine, or this machine.
    Engine,
}

impl Owner {
    /// The name used in output and files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Package => "package",
            Self::Backup => "backup",
            Self::Staging => "staging",
            Self::Stack => "stack",
            Self::Testplan => "testplan",
            Self::Isolation => "isolation",
            Self::Engine => "engine",
        }
    }
}

/// How a stage ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum StageOutcome {
    /// Everything the stage had to show was shown.
    Ok,
    /// The stage went wrong, and `owner` is at fault. Whether that makes the verdict failed or invalid is
    /// the verdict's decision, not the stage's.
    Bad {
        /// Who is at fault.
        owner: Owner,
        /// One sentence: the operation, the object, and what was seen.
        reason: String,
        /// What to do about it, where that is known.
        help: Option<String>,
    },
    /// Somebody pressed Ctrl-C, or the process was asked to end.
    Interrupted,
}
