//! Plain lines, for a log: seconds since the start, no control characters, nothing that is drawn over.

use std::collections::BTreeMap;
use std::io::{self, Write};

use crate::event::{CaseStatus, Event, EventKind, PathOutcome, Stage};
use crate::report::paint::Paint;
use crate::report::text::{one_line, seconds};
use crate::report::{availability, lines, summary};

/// Progress of a stage is told at most this often, in seconds.
const PROGRESS_EVERY: f64 = 10.0;

/// Writes a line an event that a reader of the log would miss.
pub struct Plain {
    out: Box<dyn Write + Send>,
    told: BTreeMap<Stage, f64>,
}

impl Plain {
    /// To a stream.
    pub fn new(out: Box<dyn Write + Send>) -> Self {
        Self {
            out,
            told: BTreeMap::new(),
        }
    }

    /// To standard output.
    pub fn stdout() -> Self {
        Self::new(Box::new(io::stdout()))
    }

    pub(super) fn take(&mut self, events: &[Event]) -> io::Result<()> {
        let (Some(first), Some(event)) = (events.first(), events.last()) else {
            return Ok(());
        };
        let elapsed = event.at.duration_since(first.at).as_secs_f64();
        if let Some(line) = self.line(events, &event.kind, elapsed) {
            writeln!(self.out, "{elapsed:>8.1}s  {line}")?;
        }
        if matches!(event.kind, EventKind::RunFinished { .. }) {
            self.out
                .write_all(summary::block(events, Paint::PLAIN).as_bytes())?;
        }
        self.out.flush()
    }

    fn line(&mut self, events: &[Event], kind: &EventKind, elapsed: f64) -> Option<String> {
        let with = |head: String, text: String| {
            if text.is_empty() {
                head
            } else {
                format!("{head}: {text}")
            }
        };
        let line = match kind {
            EventKind::RunStarted {
                run,
                rehearsal,
                file,
                version,
                ..
            } => {
                format!("rehearse {version}: {rehearsal} ({file}), run {run}")
            }
            EventKind::TakenOver { run, .. } => format!("tries again in the staging of run {run}"),
            EventKind::StageStarted { stage } => {
                self.told.insert(*stage, elapsed);
                format!("{stage}: begins")
            }
            EventKind::StageFinished {
                stage,
                outcome,
                seconds: secs,
            } => {
                let word = match outcome {
                    crate::event::StageOutcome::Ok => "ok",
                    crate::event::StageOutcome::Bad { .. } => "WENT WRONG",
                    crate::event::StageOutcome::Interrupted => "INTERRUPTED",
                };
                with(
                    format!("{stage}: {word} after {}", seconds(*secs)),
                    lines::ended(events, *stage, outcome),
                )
            }
            EventKind::StageSkipped { stage, reason } => format!("{stage}: not reached: {reason}"),
            EventKind::Note { stage, text } => format!("{stage}: {text}"),
            EventKind::Progress {
                stage,
                what,
                done,
                total,
                unit,
            } => {
                // A reader of a log wants to know that something goes on, not each step of it.
                let last = self.told.get(stage).copied();
                if last.is_some_and(|at| elapsed - at < PROGRESS_EVERY) {
                    return None;
                }
                self.told.insert(*stage, elapsed);
                format!("{stage}: {what}: {}", lines::progress(*done, *total, unit))
            }
            EventKind::StepStarted {
                component,
                step,
                target,
            } => {
                format!("{}: step {component}/{step} in {target}", Stage::Deploy)
            }
            EventKind::StepFinished {
                component,
                step,
                exit_code,
                seconds: secs,
            } => {
                let code = exit_code
                    .map(|code| format!(", exit code {code}"))
                    .unwrap_or_default();
                format!(
                    "{}: step {component}/{step} ended after {}{code}",
                    Stage::Deploy,
                    seconds(*secs)
                )
            }
            // Restores and builds write thousands of lines; their logs lie in the run's folder.
            EventKind::OutputLine {
                stage: Stage::Deploy,
                line,
                ..
            } => format!("  | {line}"),
            EventKind::OutputLine { .. } => return None,
            // The end of the path says how it ended; its case says the same.
            EventKind::CaseFinished {
                stage: Stage::WhatIf,
                ..
            } => return None,
            EventKind::CaseFinished { stage, case } if lines::is_rung_skipped(*stage, case) => {
                return None;
            }
            EventKind::CaseFinished { stage, case } => {
                let word = match case.status {
                    CaseStatus::Passed => return None,
                    CaseStatus::Failed => "FAILED",
                    CaseStatus::Error => "ERROR",
                    CaseStatus::Skipped => "not reached",
                    CaseStatus::Warned => "warning",
                };
                format!("{stage}: {word}: {}", lines::case(case))
            }
            EventKind::OutsideName { stage, name, asker } => {
                format!("{stage}: {asker} asked for {name}: refused")
            }
            EventKind::EmulatorRequest {
                stage,
                emulator,
                asker,
                summary,
                matched,
                ..
            } => format!(
                "{stage}: {}",
                lines::emulated(emulator, asker, summary, *matched)
            ),
            EventKind::OutsideCall { stage, caller } => {
                format!("{stage}: {caller} called an address outside staging: nobody answered")
            }
            EventKind::Unavailable(outage) => {
                format!("deploy: {}", availability::outage(outage))
            }
            EventKind::Leftover { what, reason } => format!("left behind: {what}: {reason}"),
            EventKind::Kept { expires, .. } => {
                format!("staging is left up until {}", lines::minute(*expires))
            }
            EventKind::PathStarted { path } => format!("{}: {path}: begins", Stage::WhatIf),
            EventKind::PathEnded {
                path,
                outcome,
                reason,
                seconds: secs,
                ..
            } => {
                let word = match outcome {
                    PathOutcome::Passed => "passed",
                    PathOutcome::Failed => "FAILED",
                    PathOutcome::Invalid => "COULD NOT BE JUDGED",
                };
                with(
                    format!("{}: {path}: {word} after {}", Stage::WhatIf, seconds(*secs)),
                    reason.clone().unwrap_or_default(),
                )
            }
            EventKind::ArtefactDigested(_)
            | EventKind::PackageOpened { .. }
            | EventKind::Runbook { .. }
            | EventKind::EngineFound { .. }
            | EventKind::Base { .. }
            | EventKind::BackupExpected { .. }
            | EventKind::BackupRestored { .. }
            | EventKind::Availability(_)
            | EventKind::PathsPlanned { .. }
            | EventKind::OnPath { .. }
            | EventKind::Fingerprint { .. }
            | EventKind::Measured { .. }
            | EventKind::Judged { .. }
            | EventKind::RunFinished { .. } => return None,
        };
        Some(one_line(&line))
    }
}
