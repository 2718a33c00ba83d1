//! Live progress for a person: one line a stage, and under the running one the last thing it said.
//!
//! Progress goes to standard error and the verdict to standard output, so that either can be kept alone.

use std::io::{self, Write};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::event::{CaseStatus, Event, EventKind, Stage, StageOutcome};
use crate::report::paint::Paint;
use crate::report::text::{clip, one_line, seconds};
use crate::report::{availability, lines, paths, summary};

/// Draws while the run goes on.
pub struct Terminal {
    drawing: MultiProgress,
    paint: Paint,
    running: Option<Running>,
    notes: Vec<String>,
}

/// The stage that is going on, and what it is at.
struct Running {
    head: ProgressBar,
    detail: ProgressBar,
}

impl Default for Terminal {
    fn default() -> Self {
        Self::new()
    }
}

impl Terminal {
    /// Draws on standard error; for use where that is a terminal.
    pub fn new() -> Self {
        Self {
            drawing: MultiProgress::new(),
            paint: Paint::for_stream(&io::stderr()),
            running: None,
            notes: Vec::new(),
        }
    }

    pub(super) fn take(&mut self, events: &[Event]) -> io::Result<()> {
        let Some(event) = events.last() else {
            return Ok(());
        };
        match &event.kind {
            EventKind::RunStarted {
                rehearsal,
                file,
                run,
                ..
            } => {
                let what = one_line(&format!("{file} · run {run}"));
                let title = self.paint.bold(&one_line(rehearsal));
                self.permanent(&format!(
                    "\n   {title} {}\n",
                    self.paint.dim(&format!("· {what}"))
                ))?;
            }
            EventKind::StageStarted { stage } => self.begin(*stage),
            EventKind::StageFinished {
                stage,
                outcome,
                seconds: secs,
            } => {
                self.stop();
                let line = stage_line(
                    self.paint,
                    *stage,
                    outcome,
                    *secs,
                    &lines::ended(events, *stage, outcome),
                );
                self.permanent(&line)?;
                for note in std::mem::take(&mut self.notes) {
                    self.permanent(&note)?;
                }
            }
            EventKind::StageSkipped { stage, reason } => {
                let text = format!(
                    "–  {:<10} {:>10}  not reached: {}",
                    stage.name(),
                    "",
                    one_line(reason)
                );
                self.permanent(&format!("   {}", self.paint.dim(&text)))?;
            }
            EventKind::Note { text, .. } => self.note(&self.paint.dim(&one_line(text))),
            EventKind::Progress {
                what,
                done,
                total,
                unit,
                ..
            } => {
                let figures = lines::progress(*done, *total, unit);
                let gauge = total
                    .map(|total| format!("{}  ", gauge(*done, total)))
                    .unwrap_or_default();
                self.detail(&one_line(&format!("{gauge}{what}  {figures}")));
            }
            EventKind::StepStarted {
                component,
                step,
                target,
            } => {
                if let Some(running) = &self.running {
                    running
                        .head
                        .set_message(one_line(&format!("{component}/{step} in {target}")));
                    running.detail.set_message("");
                }
            }
            EventKind::StepFinished {
                component,
                step,
                seconds: secs,
                ..
            } => {
                self.detail(&one_line(&format!(
                    "{component}/{step} ended after {}",
                    seconds(*secs)
                )));
            }
            EventKind::OutputLine { line, .. } => self.detail(&one_line(line)),
            EventKind::CaseFinished { stage, case } => {
                let mark = match case.status {
                    CaseStatus::Passed => None,
                    CaseStatus::Failed => Some(self.paint.bad("✗")),
                    CaseStatus::Error => Some(self.paint.doubt("!")),
                    CaseStatus::Skipped if lines::is_rung_skipped(*stage, case) => None,
                    CaseStatus::Skipped => Some(self.paint.doubt("–")),
                    CaseStatus::Warned => Some(self.paint.doubt("~")),
                };
                if let Some(mark) = mark {
                    self.note(&format!("{mark} {}", lines::case(case)));
                }
                if let (Some(running), Some(tally)) = (&self.running, lines::tally(events, *stage))
                {
                    running.head.set_message(tally);
                }
                self.detail(&one_line(&case.name));
            }
            EventKind::PathStarted { path } => {
                if let Some(running) = &self.running {
                    running.head.set_message(paths::progress(events));
                }
                self.detail(&one_line(&format!("{path} begins")));
            }
            EventKind::OnPath { path, happened } => {
                if let EventKind::StepStarted {
                    component, step, ..
                } = happened.as_ref()
                {
                    self.detail(&one_line(&format!("{path}: {component}/{step}")));
                }
            }
            EventKind::PathEnded { path, .. } => {
                if let Some(running) = &self.running {
                    running.head.set_message(paths::progress(events));
                }
                self.detail(&one_line(&format!("{path} ended")));
            }
            EventKind::OutsideName { name, asker, .. } => {
                let said = one_line(&format!("{asker} asked for {name}: refused"));
                self.note(&self.paint.doubt(&said));
            }
            EventKind::EmulatorRequest {
                emulator,
                asker,
                summary,
                matched,
                ..
            } => {
                let said = one_line(&lines::emulated(emulator, asker, summary, *matched));
                if *matched {
                    self.detail(&said);
                } else {
                    self.note(&self.paint.doubt(&said));
                }
            }
            EventKind::OutsideCall { caller, .. } => {
                let said = one_line(&format!(
                    "{caller} called an address outside staging: nobody answered"
                ));
                self.note(&self.paint.doubt(&said));
            }
            EventKind::Unavailable(outage) => {
                let said = one_line(&availability::outage(outage));
                self.note(&self.paint.doubt(&said));
            }
            EventKind::RunFinished { .. } => {
                self.stop();
                let mut out = io::stdout();
                let block = summary::block(events, Paint::for_stream(&out));
                out.write_all(block.as_bytes())?;
                out.flush()?;
            }
            // What these say stands in their stage's line or in the verdict block.
            EventKind::TakenOver { .. }
            | EventKind::ArtefactDigested(_)
            | EventKind::PackageOpened { .. }
            | EventKind::Runbook { .. }
            | EventKind::EngineFound { .. }
            | EventKind::Base { .. }
            | EventKind::BackupExpected { .. }
            | EventKind::BackupRestored { .. }
            | EventKind::Availability(_)
            | EventKind::PathsPlanned { .. }
            | EventKind::Fingerprint { .. }
            | EventKind::Measured { .. }
            | EventKind::Leftover { .. }
            | EventKind::Kept { .. }
            | EventKind::Judged { .. } => {}
        }
        Ok(())
    }

    fn begin(&mut self, stage: Stage) {
        self.stop();
        let head = self.drawing.add(ProgressBar::new_spinner());
        head.set_style(
            style("   {spinner:.cyan}  {prefix:<10} {time:>10}  {wide_msg}")
                .with_key(
                    "time",
                    |state: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
                        let _ = out.write_str(&seconds(state.elapsed().as_secs_f64()));
                    },
                )
                .tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ "),
        );
        head.set_prefix(stage.name());
        let detail = self.drawing.add(ProgressBar::new_spinner());
        detail.set_style(style("      {wide_msg:.dim}"));
        head.enable_steady_tick(Duration::from_millis(100));
        self.running = Some(Running { head, detail });
    }

    fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.detail.finish_and_clear();
            running.head.finish_and_clear();
        }
    }

    fn detail(&self, text: &str) {
        if let Some(running) = &self.running {
            running.detail.set_message(format!("└ {}", clip(text, 400)));
        }
    }

    /// Kept until the stage's own line stands, so that it appears below it.
    fn note(&mut self, text: &str) {
        self.notes.push(format!("      {text}"));
    }

    /// Lines that stay, written while nothing is drawn. (Indicatif's own `println` swallows empty lines.)
    fn permanent(&self, text: &str) -> io::Result<()> {
        self.drawing.suspend(|| writeln!(io::stderr(), "{text}"))
    }
}

fn style(template: &str) -> ProgressStyle {
    // A template that cannot be read is a defect of ours, and the default style still shows the message.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// `   ✓  baseline       3.00 s  12 passed`.
fn stage_line(paint: Paint, stage: Stage, outcome: &StageOutcome, secs: f64, text: &str) -> String {
    let mark = match outcome {
        StageOutcome::Ok => paint.good("✓"),
        StageOutcome::Bad { .. } => paint.bad("✗"),
        StageOutcome::Interrupted => paint.doubt("!"),
    };
    let text = match outcome {
        StageOutcome::Ok => paint.dim(text),
        StageOutcome::Bad { .. } | StageOutcome::Interrupted => text.to_owned(),
    };
    let line = format!(
        "   {mark}  {:<10} {:>10}  {text}",
        stage.name(),
        seconds(secs)
    );
    line.trim_end().to_owned()
}

fn gauge(done: u64, total: u64) -> String {
    const CELLS: u64 = 20;
    let filled = if total == 0 {
        CELLS
    } else {
        (done.min(total) as u128 * CELLS as u128 / total as u128) as u64
    };
    format!(
        "{}{}",
        "━".repeat(filled as usize),
        "╌".repeat((CELLS - filled) as usize)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Owner;

    #[test]
    fn lines_that_stay() {
        let bad = StageOutcome::Bad {
            owner: Owner::Package,
            reason: "exit code 3".to_owned(),
            help: None,
        };
        let lines = [
            stage_line(
                Paint::PLAIN,
                Stage::Baseline,
                &StageOutcome::Ok,
                3.0,
                "12 passed",
            ),
            stage_line(
                Paint::PLAIN,
                Stage::Deploy,
                &bad,
                125.0,
                "backend/migrate: exit code 3",
            ),
            stage_line(
                Paint::PLAIN,
                Stage::Snapshot,
                &StageOutcome::Interrupted,
                0.125,
                "interrupted",
            ),
            stage_line(Paint::PLAIN, Stage::Provision, &StageOutcome::Ok, 0.5, ""),
        ];
        assert_eq!(
            lines,
            [
                "   ✓  baseline       3.00 s  12 passed",
                "   ✗  deploy     2 min 05 s  backend/migrate: exit code 3",
                "   !  snapshot       0.12 s  interrupted",
                "   ✓  provision      0.50 s",
            ]
        );
    }

    #[test]
    fn a_gauge_never_leaves_its_cells() {
        for (done, total, filled) in [
            (0, 10, 0),
            (5, 10, 10),
            (10, 10, 20),
            (99, 10, 20),
            (0, 0, 20),
            (u64::MAX, u64::MAX, 20),
        ] {
            let gauge = gauge(done, total);
            assert_eq!(gauge.matches('━').count(), filled, "{done} of {total}");
            assert_eq!(gauge.chars().count(), 20);
        }
    }
}
