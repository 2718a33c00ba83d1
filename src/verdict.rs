//! The verdict: a pure fold over a run's events.

use serde::{Deserialize, Serialize};

use crate::event::{Owner, Stage};

/// The three values. Not run is never passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Every needed stage ended ok.
    Passed,
    /// The package is at fault (in `backup-check`: the backup).
    Failed,
    /// This rehearsal could not judge.
    Invalid,
}

/// What became of the rollback.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rollback", rename_all = "kebab-case")]
pub enum Rollback {
    /// There was nothing to roll back, or the run ended before its snapshot.
    NotReached,
    /// Baseline tests passed again and every fingerprint equals the snapshot's.
    Proved {
        /// Seconds from the order to a healthy site.
        seconds: f64,
    },
    /// The snapshot was not reached again, or that could not be shown.
    Stuck {
        /// Why.
        reason: String,
    },
}

/// What a run says in the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Passed, failed or invalid.
    pub outcome: Outcome,
    /// Who is at fault, unless passed.
    pub owner: Option<Owner>,
    /// The stage that decided, unless passed.
    pub stage: Option<Stage>,
    /// One sentence.
    pub reason: String,
    /// What to do next, where that is known.
    pub help: Option<String>,
    /// The rollback beside the verdict, never instead of it.
    #[serde(flatten)]
    pub rollback: Rollback,
    /// True where a person had a shell in staging: such a run cannot be passed.
    pub assisted: bool,
    /// True after Ctrl-C.
    pub interrupted: bool,
}
