//! The verdict: a pure fold over a run's events.
//!
//! Passed is what has to be shown; everything else is the default. A stream that was cut, a stage that was skipped and
//! an event that is missing all leave a verdict that is not passed, without anybody having to report them.

mod judge;
mod paths;
mod stages;
#[cfg(test)]
pub(crate) mod stream;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::event::{CaseStatus, Event, EventKind, Owner, Stage};

pub use paths::{PathEnd, PathSeen, paths_seen};
pub use stages::{StageEnd, StageSeen, needed, stages_seen};

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

impl Outcome {
    /// The name used in output and files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Invalid => "invalid",
        }
    }
}

/// What became of the rollback.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
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
    /// Who is at fault, unless passed. Nobody is where a person pressed Ctrl-C.
    pub owner: Option<Owner>,
    /// The stage that decided, unless passed.
    pub stage: Option<Stage>,
    /// One sentence.
    pub reason: String,
    /// What to do next, where that is known.
    pub help: Option<String>,
    /// The rollback beside the verdict, never instead of it.
    pub rollback: Rollback,
    /// True where a person is part of the deploy, by the package's own document, or had a shell in staging: such a run
    /// cannot be passed. No event of a run tells of a shell, because one is only ever opened in a staging whose run is
    /// over; the run's record is marked then.
    pub assisted: bool,
    /// True after Ctrl-C.
    pub interrupted: bool,
}

/// The name under which the rollback stage measures itself, in [`EventKind::Measured`].
pub const ROLLBACK_MEASURE: &str = "rollback to healthy";

/// The name under which the what-if stage measures the package's own rollback, in [`EventKind::Measured`].
pub const OWN_ROLLBACK_MEASURE: &str = "the package's own rollback";

impl Verdict {
    /// What the deploy and its tests alone would be judged to be, without the what-ifs that were asked for.
    pub fn of_the_deploy(events: &[Event]) -> Self {
        // Their number is missed, so they are replaced rather than taken out.
        let without: Vec<Event> = events
            .iter()
            .map(|event| match &event.kind {
                EventKind::PathsPlanned { .. } => Event {
                    kind: EventKind::Note {
                        stage: Stage::Preflight,
                        text: String::new(),
                    },
                    ..event.clone()
                },
                _ => event.clone(),
            })
            .collect();
        Self::of(&without)
    }

    /// Folds the events so far. [`EventKind::Judged`] and [`EventKind::RunFinished`] carry verdicts of this fold and
    /// are ignored, so that folding a finished stream again gives the same answer.
    pub fn of(events: &[Event]) -> Self {
        let seen = stages_seen(events);
        let judgement = judge::judge(events, &seen);
        Self {
            outcome: judgement.outcome,
            owner: judgement.owner,
            stage: judgement.stage,
            reason: judgement.reason,
            help: judgement.help,
            rollback: rollback(events, &seen),
            assisted: events.iter().any(|event| {
                matches!(&event.kind, EventKind::PackageOpened { manual, .. } if !manual.is_empty())
            }),
            interrupted: seen.iter().any(|stage| stage.end == StageEnd::Interrupted),
        }
    }
}

/// What the rollback stage showed. A stage that ended ok although one of its own cases did not pass has shown nothing.
fn rollback(events: &[Event], seen: &[StageSeen]) -> Rollback {
    let end = seen
        .iter()
        .find(|s| s.stage == Stage::Rollback)
        .map(|s| &s.end);
    match end {
        Some(StageEnd::Bad { reason, .. }) => Rollback::Stuck {
            reason: reason.clone(),
        },
        Some(StageEnd::Ok) => {
            if let Some(case) = judge::cases(events, Stage::Rollback)
                .find(|c| matches!(c.status, CaseStatus::Failed | CaseStatus::Error))
            {
                let said = case.message.as_deref().unwrap_or("did not pass");
                return Rollback::Stuck {
                    reason: format!("`{}`: {said}", case.name),
                };
            }
            let figure = events.iter().rev().find_map(|event| match &event.kind {
                EventKind::Measured { what, seconds } if what == ROLLBACK_MEASURE => Some(*seconds),
                _ => None,
            });
            figure.map_or(Rollback::NotReached, |seconds| Rollback::Proved { seconds })
        }
        Some(
            StageEnd::Interrupted
            | StageEnd::Skipped { .. }
            | StageEnd::Unfinished
            | StageEnd::NotReached,
        )
        | None => Rollback::NotReached,
    }
}

/// The exit code that a verdict stands for: 0 passed, 1 failed, 2 invalid, 3 passed or failed but rollback is stuck,
/// 130 interrupted. (64, usage, never comes from a run.)
pub const fn exit_code(verdict: &Verdict) -> u8 {
    if verdict.interrupted {
        return 130;
    }
    match (verdict.outcome, &verdict.rollback) {
        (Outcome::Invalid, _) => 2,
        (Outcome::Passed | Outcome::Failed, Rollback::Stuck { .. }) => 3,
        (Outcome::Passed, Rollback::NotReached | Rollback::Proved { .. }) => 0,
        (Outcome::Failed, Rollback::NotReached | Rollback::Proved { .. }) => 1,
    }
}
