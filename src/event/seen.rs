//! What a run has read, watched and tried, as its events tell it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How something came to an emulator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exchange {
    /// A request without TLS.
    #[default]
    Http,
    /// A request with TLS.
    Https,
    /// A mail.
    Smtp,
    /// A connection to a blackhole, or a call of a port on which the emulator does not listen.
    Tcp,
    /// A handshake of TLS that failed.
    Tls,
}

impl Exchange {
    /// The name used in output and files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Smtp => "smtp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }
}

/// A piece of a runbook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "part", rename_all = "kebab-case")]
pub enum Part {
    /// What a person reads, as it is written, without comments.
    Prose {
        /// Lines of Markdown.
        text: String,
    },
    /// A block that is a step.
    Step {
        /// Its name.
        step: String,
        /// True for a step of the way back.
        rollback: bool,
    },
    /// A block that is shown, and not run: it is in no language that is.
    Shown {
        /// The first word behind its fence; may be empty.
        language: String,
        /// What is in it.
        text: String,
    },
}

/// A file that a run depends on, as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artefact {
    /// What it is for: `rehearsal`, `stack`, `testplan`, `package`, or the name of a restore.
    pub role: String,
    /// The path as given.
    pub path: String,
    /// `sha256:<hex>`.
    pub digest: String,
    /// Bytes.
    pub size: u64,
}

/// A time in which an `availability` target was not there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outage {
    /// The target's name.
    pub target: String,
    /// When the first question was asked that failed.
    pub from: Timestamp,
    /// When the first question was asked that succeeded again; absent where it was still down when the deploy had ended.
    pub to: Option<Timestamp>,
    /// Seconds that it lasted, as far as it was watched.
    pub seconds: f64,
    /// How many questions failed.
    pub probes: u64,
    /// What the first of them said.
    pub reason: String,
    /// The steps that were running meanwhile, as `component / step`; none where it lay between two.
    pub steps: Vec<String>,
}

/// How an `availability` target stood the deploy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Availability {
    /// The target's name.
    pub target: String,
    /// How many questions were asked.
    pub probes: u64,
    /// How many of them failed.
    pub failed: u64,
    /// How many times it was not there; of more than 100 the first are told one by one.
    pub outages: u64,
    /// The sum of these times, in seconds.
    pub downtime_seconds: f64,
    /// The longest of them, in seconds.
    pub longest_seconds: f64,
    /// The slowest good answer, in seconds.
    pub slowest_seconds: f64,
}

/// A path of a what-if that is to be tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathPlanned {
    /// Its name, unique in the run.
    pub path: String,
    /// The what-if that it is part of: `rollback`, `rerun`, `interrupt`, `order`, `subset`, `again`.
    pub what_if: String,
    /// True where its outcome is told, and does not decide the verdict.
    pub advisory: bool,
}

/// How a path ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PathOutcome {
    /// It ended as it has to.
    Passed,
    /// It did not: the package is at fault.
    Failed,
    /// That could not be seen.
    Invalid,
}

impl PathOutcome {
    /// The name used in output and files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Invalid => "invalid",
        }
    }
}
