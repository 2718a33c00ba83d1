//! The steps of the deploy, each with the end of what it wrote, as far as the events tell them.

use crate::event::{Event, EventKind, Stage};
use crate::report::files::{LogNames, on_path};
use crate::report::text::tail;

/// Bytes of a step's output that reports show; the whole lies in the run's folder.
const MOST_OUTPUT: usize = 8 * 1024;

/// One step.
pub(super) struct Step {
    /// `component/step`.
    pub(super) source: String,
    /// Where it ran.
    pub(super) target: String,
    /// Exit code, where there was one, and seconds; `None` where it was not seen to end.
    pub(super) ended: Option<(Option<i64>, f64)>,
    /// The end of what it wrote.
    pub(super) output: String,
    /// The file of the run's folder with all of it; `None` where it wrote nothing.
    pub(super) log: Option<String>,
}

/// All steps in the order in which they began.
pub(super) fn steps(events: &[Event]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut names = LogNames::default();
    for event in events {
        match &event.kind {
            EventKind::StepStarted {
                component,
                step,
                target,
            } => steps.push(Step {
                source: format!("{component}/{step}"),
                target: target.clone(),
                ended: None,
                output: String::new(),
                log: None,
            }),
            EventKind::StepFinished {
                component,
                step,
                exit_code,
                seconds,
            } => {
                let source = format!("{component}/{step}");
                if let Some(step) = steps.iter_mut().rev().find(|s| s.source == source) {
                    step.ended = Some((*exit_code, *seconds));
                }
            }
            EventKind::OutputLine {
                stage,
                source,
                line,
                ..
            } => {
                // Every source is named, so that names come out as they did in the folder.
                let log = names.of(source);
                let step = steps
                    .iter_mut()
                    .rev()
                    .find(|s| *stage == Stage::Deploy && s.source == *source);
                if let Some(step) = step {
                    step.log = Some(format!("logs/{log}"));
                    step.output += line;
                    step.output.push('\n');
                    // A step that writes without end must not fill the memory.
                    if step.output.len() > 8 * MOST_OUTPUT {
                        step.output = tail(&step.output, MOST_OUTPUT);
                    }
                }
            }
            EventKind::OnPath { path, happened } => {
                if let EventKind::OutputLine { source, .. } = happened.as_ref() {
                    names.of(&on_path(path, source));
                }
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
            | EventKind::CaseFinished { .. }
            | EventKind::OutsideName { .. }
            | EventKind::EmulatorRequest { .. }
            | EventKind::OutsideCall { .. }
            | EventKind::Unavailable(_)
            | EventKind::Availability(_)
            | EventKind::PathsPlanned { .. }
            | EventKind::PathStarted { .. }
            | EventKind::PathEnded { .. }
            | EventKind::Fingerprint { .. }
            | EventKind::Measured { .. }
            | EventKind::Leftover { .. }
            | EventKind::Kept { .. }
            | EventKind::Judged { .. }
            | EventKind::RunFinished { .. } => {}
        }
    }
    for step in &mut steps {
        step.output = tail(&step.output, MOST_OUTPUT);
    }
    steps
}
