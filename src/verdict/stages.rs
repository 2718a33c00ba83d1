//! How each stage ended, as far as the events show it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::{Event, EventKind, Mode, Owner, Stage, StageOutcome};

/// How a stage stands in a stream that may have been cut anywhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum StageEnd {
    /// It was seen to end ok, each time it ran.
    Ok,
    /// It went wrong.
    Bad {
        /// Who is at fault.
        owner: Owner,
        /// One sentence.
        reason: String,
        /// What to do about it, where that is known.
        help: Option<String>,
    },
    /// Somebody pressed Ctrl-C, or the process was asked to end.
    Interrupted,
    /// It was skipped, and the stream says so.
    Skipped {
        /// Why.
        reason: String,
    },
    /// It began, and the stream ends before it does.
    Unfinished,
    /// The stream does not mention it.
    NotReached,
}

impl StageEnd {
    /// A stage may run twice (isolate runs again after the deploy): the first end that is not ok stays.
    fn and(self, next: Self) -> Self {
        match self {
            Self::Ok | Self::NotReached => next,
            Self::Bad { .. } | Self::Interrupted | Self::Skipped { .. } | Self::Unfinished => self,
        }
    }
}

impl From<&StageOutcome> for StageEnd {
    fn from(outcome: &StageOutcome) -> Self {
        match outcome {
            StageOutcome::Ok => Self::Ok,
            StageOutcome::Bad {
                owner,
                reason,
                help,
            } => Self::Bad {
                owner: *owner,
                reason: reason.clone(),
                help: help.clone(),
            },
            StageOutcome::Interrupted => Self::Interrupted,
        }
    }
}

/// One stage of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct StageSeen {
    /// Which.
    pub stage: Stage,
    /// How it stands.
    pub end: StageEnd,
    /// When it first began.
    pub started: Option<Timestamp>,
    /// Seconds it took, all its runs together.
    pub seconds: f64,
}

/// The stages that must be seen to end ok before a run may be called passed.
pub const fn needed(mode: Mode) -> &'static [Stage] {
    match mode {
        Mode::Rehearse => &[
            Stage::Preflight,
            Stage::Provision,
            Stage::Isolate,
            Stage::Restore,
            Stage::Baseline,
            Stage::Snapshot,
            Stage::Deploy,
            Stage::Verify,
        ],
        Mode::BackupCheck => &[
            Stage::Preflight,
            Stage::Provision,
            Stage::Isolate,
            Stage::Restore,
            Stage::Baseline,
        ],
    }
}

/// Every stage in order, with what the events say of it.
pub fn stages_seen(events: &[Event]) -> Vec<StageSeen> {
    Stage::ALL
        .into_iter()
        .map(|stage| one(events, stage))
        .collect()
}

fn one(events: &[Event], which: Stage) -> StageSeen {
    let mut seen = StageSeen {
        stage: which,
        end: StageEnd::NotReached,
        started: None,
        seconds: 0.0,
    };
    let mut running = false;
    for event in events {
        match &event.kind {
            EventKind::StageStarted { stage } if *stage == which => {
                running = true;
                seen.started.get_or_insert(event.at);
            }
            EventKind::StageFinished {
                stage,
                outcome,
                seconds,
            } if *stage == which => {
                running = false;
                seen.seconds += seconds;
                seen.end = seen.end.and(outcome.into());
            }
            EventKind::StageSkipped { stage, reason } if *stage == which => {
                seen.end = seen.end.and(StageEnd::Skipped {
                    reason: reason.clone(),
                });
            }
            EventKind::RunStarted { .. }
            | EventKind::TakenOver { .. }
            | EventKind::StageStarted { .. }
            | EventKind::StageFinished { .. }
            | EventKind::StageSkipped { .. }
            | EventKind::ArtefactDigested(_)
            | EventKind::Runbook { .. }
            | EventKind::PackageOpened { .. }
            | EventKind::EngineFound { .. }
            | EventKind::Base { .. }
            | EventKind::BackupExpected { .. }
            | EventKind::BackupRestored { .. }
            | EventKind::Note { .. }
            | EventKind::Progress { .. }
            | EventKind::StepStarted { .. }
            | EventKind::StepFinished { .. }
            | EventKind::OutputLine { .. }
            | EventKind::CaseFinished { .. }
            | EventKind::OutsideName { .. }
            | EventKind::EmulatorRequest { .. }
            | EventKind::OutsideCall { .. }
            | EventKind::Unavailable(_)
            | EventKind::Availability(_)
            | EventKind::PathsPlanned { .. }
            | EventKind::PathStarted { .. }
            | EventKind::OnPath { .. }
            | EventKind::PathEnded { .. }
            | EventKind::Fingerprint { .. }
            | EventKind::Measured { .. }
            | EventKind::Leftover { .. }
            | EventKind::Kept { .. }
            | EventKind::Judged { .. }
            | EventKind::RunFinished { .. } => {}
        }
    }
    if running {
        seen.end = seen.end.and(StageEnd::Unfinished);
    }
    seen
}
