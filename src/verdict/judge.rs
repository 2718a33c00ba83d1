//! The rules: which end of which stage makes a run passed, failed or invalid, and whose fault that is.

use super::paths::PathsSeen;
use super::{Outcome, StageEnd, StageSeen, needed};
use crate::event::{Case, CaseStatus, Event, EventKind, Mode, Owner, Stage};

/// The part of a verdict that the stages up to verify decide.
pub(super) struct Judgement {
    pub(super) outcome: Outcome,
    pub(super) owner: Option<Owner>,
    pub(super) stage: Option<Stage>,
    pub(super) reason: String,
    pub(super) help: Option<String>,
}

/// The cases that ran in a stage, in the order in which they ended.
pub(super) fn cases(events: &[Event], which: Stage) -> impl Iterator<Item = &Case> {
    events.iter().filter_map(move |event| match &event.kind {
        EventKind::CaseFinished { stage, case } if *stage == which => Some(case),
        _ => None,
    })
}

/// Judges a stream. What makes it impossible to judge comes before what the package did wrong: a failure that was
/// seen through a broken window is not held against anybody.
pub(super) fn judge(events: &[Event], seen: &[StageSeen]) -> Judgement {
    let started = events.iter().find_map(|event| match &event.kind {
        EventKind::RunStarted { mode, file, .. } => Some((*mode, file.as_str())),
        _ => None,
    });
    let Some((mode, file)) = started else {
        return invalid(
            Stage::Preflight,
            "preflight: the events do not say what this run is for",
        );
    };
    let paths = PathsSeen::of(events);
    let wanted: Vec<&StageSeen> = seen
        .iter()
        .filter(|s| needed(mode).contains(&s.stage) || paths.is_wanted(s.stage, mode))
        .collect();

    if let Some(stage) = wanted.iter().find(|s| s.end == StageEnd::Interrupted) {
        return Judgement {
            owner: None,
            help: Some("nothing was judged: run it again".to_owned()),
            ..invalid(stage.stage, &format!("{}: interrupted", stage.stage))
        };
    }
    let findings: Vec<Option<Judgement>> = wanted
        .iter()
        .map(|s| finding(events, s, mode, file))
        .collect();
    let mut failed = None;
    for found in findings.into_iter().flatten() {
        match found.outcome {
            Outcome::Invalid => return found,
            Outcome::Failed => failed = failed.or(Some(found)),
            Outcome::Passed => {}
        }
    }
    // A failure counts only where everything before it was seen to be in order.
    for stage in wanted {
        if failed
            .as_ref()
            .is_some_and(|found| found.stage == Some(stage.stage))
        {
            break;
        }
        let name = stage.stage;
        match &stage.end {
            StageEnd::Ok | StageEnd::Bad { .. } | StageEnd::Interrupted => {}
            StageEnd::Skipped { reason } => {
                return invalid(name, &format!("{name}: not reached: {reason}"));
            }
            StageEnd::Unfinished => {
                return invalid(name, &format!("{name}: began and was not seen to end"));
            }
            StageEnd::NotReached => return invalid(name, &format!("{name}: not reached")),
        }
    }
    if let Some(failed) = failed {
        return failed;
    }
    if let Some(lost) = first_gap(events) {
        return invalid(
            Stage::Preflight,
            &format!("event {lost} is missing, so nothing can be said for certain"),
        );
    }
    Judgement {
        outcome: Outcome::Passed,
        owner: None,
        stage: None,
        reason: passed(events, mode),
        help: None,
    }
}

/// Not passed for want of evidence. The engine or this machine ended the run early, unless somebody knows better.
fn invalid(stage: Stage, reason: &str) -> Judgement {
    Judgement {
        outcome: Outcome::Invalid,
        owner: Some(Owner::Engine),
        stage: Some(stage),
        reason: reason.to_owned(),
        help: Some(
            "look at the last lines of events.jsonl in the run's folder, then run it again"
                .to_owned(),
        ),
    }
}

/// Events are numbered so that a lost one is noticed: it could have been the one that failed.
fn first_gap(events: &[Event]) -> Option<u64> {
    (1..)
        .zip(events)
        .find(|(expected, event)| *expected != event.seq)
        .map(|(expected, _)| expected)
}

fn passed(events: &[Event], mode: Mode) -> String {
    // The test plan's own tests; the stage's suites besides them (doors, services, schema) are not what people count.
    let green = |stage: Stage| {
        let of_plan = format!("{stage}.");
        cases(events, stage)
            .filter(|c| c.status == CaseStatus::Passed && c.suite.starts_with(&of_plan))
            .count()
    };
    match mode {
        Mode::Rehearse => {
            let paths = PathsSeen::of(events).passed();
            let said = match green(Stage::Verify) {
                0 => "every stage ended ok (there were no tests to verify the deploy with)"
                    .to_owned(),
                1 => "every stage ended ok and 1 test passed after the deploy".to_owned(),
                n => format!("every stage ended ok and {n} tests passed after the deploy"),
            };
            match paths {
                None => said,
                Some(paths) => format!("{said}; {paths}"),
            }
        }
        Mode::BackupCheck => match green(Stage::Baseline) {
            0 => "every backup was restored (there were no tests to look at the data with)"
                .to_owned(),
            1 => "every backup was restored and 1 test passed on it".to_owned(),
            n => format!("every backup was restored and {n} tests passed on it"),
        },
    }
}

/// What is wrong with one stage that ended, if anything is.
fn finding(events: &[Event], seen: &StageSeen, mode: Mode, file: &str) -> Option<Judgement> {
    let stage = seen.stage;
    let blamed = blamed_case(events, stage);
    let (owner, reason, help) = match &seen.end {
        StageEnd::Bad {
            owner,
            reason,
            help,
        } => {
            let by_case = blamed.as_ref().map(|b| b.owner);
            let proved_failed = blamed
                .as_ref()
                .is_some_and(|b| b.case.status == CaseStatus::Failed);
            // A test that failed after the deploy stays the package's, even where others could not be determined.
            let owner = if stage == Stage::Verify && proved_failed && *owner == Owner::Testplan {
                Owner::Package
            } else {
                *owner
            };
            let said = match blamed {
                Some(b) if by_case == Some(owner) => b.sentence(stage),
                Some(_) | None => stage_sentence(events, stage, reason),
            };
            (owner, said, help.clone())
        }
        StageEnd::Ok => match blamed {
            Some(blamed) => (blamed.owner, blamed.sentence(stage), None),
            None if stage == Stage::WhatIf => {
                let (owner, said) = PathsSeen::of(events).wrong()?;
                (owner, said, None)
            }
            None => return None,
        },
        // Cases of a stage that was cut prove nothing: the stage itself is what is missing.
        StageEnd::Interrupted
        | StageEnd::Skipped { .. }
        | StageEnd::Unfinished
        | StageEnd::NotReached => return None,
    };
    let outcome = if at_fault(owner, stage, mode) {
        Outcome::Failed
    } else {
        Outcome::Invalid
    };
    let help = help.or_else(|| Some(advice(owner, outcome, file)));
    Some(Judgement {
        outcome,
        owner: Some(owner),
        stage: Some(stage),
        reason,
        help,
    })
}

/// True where this owner is the one whose work the run is there to judge.
const fn at_fault(owner: Owner, stage: Stage, mode: Mode) -> bool {
    match (mode, owner) {
        (Mode::Rehearse, Owner::Package) => match stage {
            Stage::Preflight | Stage::Isolate | Stage::Deploy | Stage::Verify | Stage::WhatIf => {
                true
            }
            // Before the deploy nothing of the package has run; after verify nothing is judged.
            Stage::Provision
            | Stage::Restore
            | Stage::Baseline
            | Stage::Snapshot
            | Stage::Rollback
            | Stage::Teardown => false,
        },
        (Mode::BackupCheck, Owner::Backup) => true,
        (Mode::Rehearse, Owner::Backup)
        | (Mode::BackupCheck, Owner::Package)
        | (_, Owner::Staging | Owner::Stack | Owner::Testplan | Owner::Isolation | Owner::Engine) => {
            false
        }
    }
}

/// The case that speaks for its stage: the first that failed, else the first that could not be determined.
struct Blamed<'a> {
    case: &'a Case,
    owner: Owner,
    more: usize,
}

impl Blamed<'_> {
    fn sentence(&self, stage: Stage) -> String {
        let case = self.case;
        let ended = match case.status {
            CaseStatus::Failed => "failed",
            CaseStatus::Error => "could not be determined",
            CaseStatus::Skipped => "was not reached",
            CaseStatus::Passed | CaseStatus::Warned => "ended",
        };
        let mut said = format!("{stage}: `{}` {ended}", case.name);
        if let Some(component) = &case.component {
            said += &format!(", likely because of component `{component}`");
        }
        if let Some(first) = case.mismatches.first() {
            said += &format!(
                ": {}: expected {}, seen {}",
                first.what, first.expected, first.seen
            );
        } else if let Some(message) = &case.message {
            said += &format!(": {message}");
        }
        match self.more {
            0 => {}
            1 => said += " (and 1 more)",
            n => said += &format!(" (and {n} more)"),
        }
        said
    }
}

fn blamed_case(events: &[Event], stage: Stage) -> Option<Blamed<'_>> {
    let with = |status| cases(events, stage).filter(move |c| c.status == status);
    let more = with(CaseStatus::Failed).count() + with(CaseStatus::Error).count();
    if let Some(case) = with(CaseStatus::Failed).next() {
        return Some(Blamed {
            case,
            owner: owner_of_failure(stage),
            more: more - 1,
        });
    }
    if let Some(case) = with(CaseStatus::Error).next() {
        return Some(Blamed {
            case,
            owner: owner_of_error(events, stage, case),
            more: more - 1,
        });
    }
    // After the deploy, a test that was not reached is a thing that nobody has seen to work.
    let skipped = with(CaseStatus::Skipped)
        .next()
        .filter(|_| stage == Stage::Verify)?;
    Some(Blamed {
        case: skipped,
        owner: Owner::Testplan,
        more: with(CaseStatus::Skipped).count() - 1,
    })
}

/// Who owns an expectation that was false, where the stage itself does not say.
const fn owner_of_failure(stage: Stage) -> Owner {
    match stage {
        Stage::Deploy | Stage::Verify | Stage::WhatIf => Owner::Package,
        Stage::Restore => Owner::Backup,
        Stage::Baseline => Owner::Staging,
        Stage::Isolate => Owner::Isolation,
        Stage::Preflight
        | Stage::Provision
        | Stage::Snapshot
        | Stage::Rollback
        | Stage::Teardown => Owner::Engine,
    }
}

/// Who owns what could not be determined, where the stage itself does not say.
fn owner_of_error(events: &[Event], stage: Stage, case: &Case) -> Owner {
    match stage {
        Stage::Baseline => Owner::Testplan,
        // A test that worked before the deploy is soundly written, so it is the asking that broke.
        Stage::Verify => {
            let worked = cases(events, Stage::Baseline)
                .any(|c| c.name == case.name && c.status == CaseStatus::Passed);
            if worked {
                Owner::Engine
            } else {
                Owner::Testplan
            }
        }
        Stage::Isolate => Owner::Isolation,
        Stage::Preflight
        | Stage::Provision
        | Stage::Restore
        | Stage::Snapshot
        | Stage::Deploy
        | Stage::WhatIf
        | Stage::Rollback
        | Stage::Teardown => Owner::Engine,
    }
}

/// A stage's own words, with the step that was running where the stage leaves it out.
fn stage_sentence(events: &[Event], stage: Stage, reason: &str) -> String {
    let step = events.iter().rev().find_map(|event| match &event.kind {
        EventKind::StepStarted {
            component, step, ..
        } => Some((component, step)),
        _ => None,
    });
    match (stage, step) {
        (Stage::Deploy, Some((component, step))) if !reason.contains(step.as_str()) => {
            format!("{stage}: step `{component}/{step}`: {reason}")
        }
        _ => format!("{stage}: {reason}"),
    }
}

/// What to do next, where the stage does not know better.
fn advice(owner: Owner, outcome: Outcome, file: &str) -> String {
    match (owner, outcome) {
        (Owner::Package, _) => format!(
            "`rehearse run {file} --keep on-failure` leaves staging up to look at; the package's authors need the report"
        ),
        (Owner::Backup, Outcome::Failed) => {
            "this backup would not have saved you: look at the job that makes it, and keep the last good one".to_owned()
        }
        (Owner::Backup, Outcome::Passed | Outcome::Invalid) => {
            format!("the package was not judged; `rehearse backup-check {file}` judges the backup alone")
        }
        (Owner::Staging, _) => {
            "staging itself is at fault: repair the stack or the data until the baseline is green, then run it again".to_owned()
        }
        (Owner::Stack, _) => "correct the stack file or the image it names, then run it again".to_owned(),
        (Owner::Testplan, _) => {
            format!("correct the test at the place named, look at it with `rehearse check {file}`, then run it again")
        }
        (Owner::Isolation, _) => {
            "do not trust this staging: see which way out was open, close it, then run it again".to_owned()
        }
        (Owner::Engine, _) => {
            "nothing was judged: see to the engine, and this machine's disk and memory, then run it again".to_owned()
        }
    }
}
