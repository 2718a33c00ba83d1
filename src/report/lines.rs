//! What a stage has to say in one line, for every reporter that writes lines.

use crate::event::{Case, CaseStatus, Event, EventKind, Stage, StageOutcome};
use crate::report::text::{bytes, clip, count, one_line, seconds};
use crate::verdict::{OWN_ROLLBACK_MEASURE, ROLLBACK_MEASURE};

/// The events of a stage's latest run, from its start to its end or to the last event there is.
fn latest(events: &[Event], which: Stage) -> &[Event] {
    let started =
        |e: &Event| matches!(&e.kind, EventKind::StageStarted { stage } if *stage == which);
    let ended =
        |e: &Event| matches!(&e.kind, EventKind::StageFinished { stage, .. } if *stage == which);
    let Some(from) = events.iter().rposition(started) else {
        return &[];
    };
    let run = &events[from..];
    run.iter().position(ended).map_or(run, |last| &run[..=last])
}

/// How many cases of a stage's latest run ended how: `12 passed, 1 failed`; `None` where there was none.
pub(super) fn tally(events: &[Event], which: Stage) -> Option<String> {
    let words: [(CaseStatus, &str); 5] = [
        (CaseStatus::Passed, "passed"),
        (CaseStatus::Failed, "failed"),
        (CaseStatus::Error, "not determined"),
        (CaseStatus::Skipped, skipped(which)),
        (CaseStatus::Warned, "warned"),
    ];
    let events = latest(events, which);
    let number = |status| {
        let ended = |e: &&Event| matches!(&e.kind, EventKind::CaseFinished { stage, case } if *stage == which && case.status == status);
        events.iter().filter(ended).count()
    };
    let told: Vec<String> = words
        .into_iter()
        .map(|(status, word)| (number(status), word))
        .filter(|(n, _)| *n > 0)
        .map(|(n, word)| format!("{n} {word}"))
        .collect();
    (!told.is_empty()).then(|| told.join(", "))
}

/// What a skipped case of a stage is called: a rung of a backup's ladder was not looked at, for a reason that is not
/// that somebody stopped before it.
pub(super) const fn skipped(stage: Stage) -> &'static str {
    match stage {
        Stage::Preflight | Stage::Restore => "not looked at",
        Stage::Provision
        | Stage::Isolate
        | Stage::Baseline
        | Stage::Snapshot
        | Stage::Deploy
        | Stage::Verify
        | Stage::Rollback
        | Stage::Teardown => "not reached",
        Stage::WhatIf => "not tried",
    }
}

/// True for a rung of a backup's ladder that was not looked at. There are many of them, so they are told together.
pub(super) fn is_rung_skipped(stage: Stage, case: &Case) -> bool {
    matches!(stage, Stage::Preflight | Stage::Restore) && case.status == CaseStatus::Skipped
}

/// A measure that the reader of a few lines wants; all of them are in the page and the record.
pub(super) fn is_for_everybody(measure: &str) -> bool {
    [
        "restore",
        "snapshot",
        "deploy",
        OWN_ROLLBACK_MEASURE,
        ROLLBACK_MEASURE,
    ]
    .contains(&measure)
}

/// What a stage did, in a few words: `uploads restored · db reused`.
pub(super) fn done(events: &[Event], stage: Stage) -> String {
    let mut facts = Vec::new();
    let mut steps = 0;
    for event in latest(events, stage) {
        match &event.kind {
            EventKind::PackageOpened {
                name,
                version,
                files,
                bytes: size,
                ..
            } => {
                let version = version.as_deref().unwrap_or("without a version");
                facts.push(format!(
                    "{name} {version} ({}, {})",
                    count(*files as usize, "file"),
                    bytes(*size)
                ));
            }
            EventKind::EngineFound {
                version, branches, ..
            } => {
                facts.push(format!("engine {version}, branches by {branches}"));
            }
            EventKind::Base { volume, reused, .. } => {
                facts.push(format!(
                    "{volume} {}",
                    if *reused { "reused" } else { "restored" }
                ));
            }
            EventKind::StepFinished { .. } => steps += 1,
            // The stage's own time already stands in the line.
            EventKind::Measured {
                what,
                seconds: secs,
            } if what != stage.name() && is_for_everybody(what) => {
                facts.push(format!("{what} {}", seconds(*secs)));
            }
            EventKind::Leftover { what, .. } => facts.push(format!("left behind: {what}")),
            EventKind::Kept { .. } => facts.push("staging left up".to_owned()),
            EventKind::RunStarted { .. }
            | EventKind::TakenOver { .. }
            | EventKind::StageStarted { .. }
            | EventKind::StageFinished { .. }
            | EventKind::StageSkipped { .. }
            | EventKind::ArtefactDigested(_)
            | EventKind::Runbook { .. }
            | EventKind::BackupExpected { .. }
            | EventKind::BackupRestored { .. }
            | EventKind::Note { .. }
            | EventKind::Progress { .. }
            | EventKind::StepStarted { .. }
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
            | EventKind::Judged { .. }
            | EventKind::RunFinished { .. } => {}
        }
    }
    if steps > 0 {
        facts.push(count(steps, "step"));
    }
    facts.extend(tally(events, stage));
    one_line(&facts.join(" · "))
}

/// What stands behind a stage's mark when it ends.
pub(super) fn ended(events: &[Event], stage: Stage, outcome: &StageOutcome) -> String {
    match outcome {
        StageOutcome::Ok => done(events, stage),
        StageOutcome::Bad { reason, .. } => {
            let step = latest(events, stage)
                .iter()
                .rev()
                .find_map(|event| match &event.kind {
                    EventKind::StepStarted {
                        component, step, ..
                    } => Some((component, step)),
                    _ => None,
                });
            let at = match step {
                Some((component, step)) if !reason.contains(step.as_str()) => {
                    format!("{component}/{step}: ")
                }
                Some(_) | None => String::new(),
            };
            clip(&one_line(&format!("{at}{reason}")), 300)
        }
        StageOutcome::Interrupted => "interrupted".to_owned(),
    }
}

/// A case that did not pass, in one line: what, where, why.
pub(super) fn case(case: &Case) -> String {
    let mut line = one_line(&case.name);
    if let Some(why) = why(case) {
        line += ": ";
        line += &clip(&why, 160);
    }
    if let Some(location) = &case.location {
        line += &format!(" ({})", one_line(location));
    }
    line
}

/// Why a case did not pass, as far as one line can say.
pub(super) fn why(case: &Case) -> Option<String> {
    let mismatch = case
        .mismatches
        .first()
        .map(|m| format!("{}: expected {}, seen {}", m.what, m.expected, m.seen));
    mismatch
        .or_else(|| case.message.clone())
        .map(|why| one_line(&why))
}

/// What an emulator was asked for.
pub(super) fn emulated(emulator: &str, asker: &str, summary: &str, matched: bool) -> String {
    let but = if matched { "" } else { ": UNMATCHED" };
    format!("emulator {emulator}: {asker}: {}{but}", clip(summary, 160))
}

/// How far something has come: `412 MiB of 1.2 GiB`, `3 of 12 tests`.
pub(super) fn progress(done: u64, total: Option<u64>, unit: &str) -> String {
    let figure = |n| {
        if unit == "bytes" {
            bytes(n)
        } else {
            n.to_string()
        }
    };
    let unit = if unit == "bytes" {
        String::new()
    } else {
        format!(" {}", one_line(unit))
    };
    match total {
        Some(total) => format!("{} of {}{unit}", figure(done), figure(total)),
        None => format!("{}{unit}", figure(done)),
    }
}

/// `2025-11-21 02:00 UTC`.
pub(super) fn minute(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}
