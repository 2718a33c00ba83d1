//! Every rule of the verdict as a row, and the property that nothing which is cut short is ever passed.

mod after;
mod before;
mod evidence;
mod paths;

use std::fmt::Write as _;

use super::stream::{self, BEFORE_BASELINE, Stream};
use super::*;
use crate::event::{CaseStatus::*, Mode, Mode::*, Owner, Stage, Stage::*, StageOutcome};

fn upto(mode: Mode, stages: &[Stage]) -> Stream {
    let mut s = Stream::new(mode);
    s.ok(stages);
    s
}

fn with(mut s: Stream, change: impl FnOnce(&mut Stream)) -> Stream {
    change(&mut s);
    s
}

const UP_TO_DEPLOY: [Stage; 7] = [
    Preflight, Provision, Isolate, Restore, Baseline, Snapshot, Deploy,
];

/// Name, stream, and what must come of it: outcome, owner, exit code.
type Row = (&'static str, Stream, Outcome, Option<Owner>, u8);

fn rows() -> impl Iterator<Item = Row> {
    let rows = [evidence::rows(), before::rows(), after::rows()];
    rows.into_iter().flatten()
}

#[test]
fn every_rule() {
    let mut told = String::new();
    for (name, stream, outcome, owner, code) in rows() {
        let verdict = Verdict::of(&stream.events);
        assert_eq!(
            (verdict.outcome, verdict.owner, exit_code(&verdict)),
            (outcome, owner, code),
            "{name}: {verdict:?}"
        );
        assert_eq!(
            verdict.outcome == Outcome::Passed,
            verdict.stage.is_none(),
            "{name}: a stage decides unless passed"
        );
        let help = verdict.help.as_deref().unwrap_or("-");
        writeln!(
            told,
            "{name}\n  {}: {}\n  help: {help}\n  {:?}",
            outcome.name(),
            verdict.reason,
            verdict.rollback
        )
        .unwrap();
    }
    insta::assert_snapshot!(told);
}

/// What a person with pen and paper would ask before calling a stream passed.
fn may_pass(events: &[Event], mode: Mode) -> bool {
    let whole = events
        .iter()
        .enumerate()
        .all(|(i, e)| e.seq == i as u64 + 1);
    let first = matches!(
        events.first().map(|e| &e.kind),
        Some(EventKind::RunStarted { .. })
    );
    whole
        && first
        && needed(mode).iter().all(|wanted| {
            let starts = events
                .iter()
                .filter(|e| matches!(&e.kind, EventKind::StageStarted { stage } if stage == wanted))
                .count();
            let oks = events
                .iter()
                .filter(|e| {
                    matches!(&e.kind, EventKind::StageFinished { stage, outcome: StageOutcome::Ok, .. } if stage == wanted)
                })
                .count();
            oks > 0 && starts == oks
        })
}

#[test]
fn a_prefix_passes_only_where_everything_was_shown() {
    for (mode, whole) in [
        (Rehearse, stream::passing()),
        (BackupCheck, stream::backup_check()),
    ] {
        let mut passed = 0;
        for cut in 0..=whole.events.len() {
            let prefix = &whole.events[..cut];
            let got = Verdict::of(prefix).outcome == Outcome::Passed;
            assert_eq!(
                got,
                may_pass(prefix, mode),
                "{mode:?} cut after {cut} events"
            );
            passed += usize::from(got);
        }
        assert!(
            passed > 0 && passed < whole.events.len() / 2,
            "{mode:?}: {passed} prefixes pass"
        );
    }
}

#[test]
fn a_stream_with_a_hole_never_passes() {
    for whole in [stream::passing(), stream::backup_check()] {
        for lost in 0..whole.events.len() {
            let mut events = whole.events.clone();
            let kind = events.remove(lost).kind;
            let got = Verdict::of(&events).outcome;
            // Only the very last event leaves no hole; it is a verdict itself and says nothing new.
            let last = lost == events.len();
            assert_eq!(
                got == Outcome::Passed,
                last,
                "without event {}: {kind:?}",
                lost + 1
            );
        }
    }
}

#[test]
fn a_failing_run_never_passes_whatever_is_lost() {
    let whole = stream::failing();
    for lost in 0..whole.events.len() {
        let mut events = whole.events.clone();
        events.remove(lost);
        assert_ne!(
            Verdict::of(&events).outcome,
            Outcome::Passed,
            "without event {}",
            lost + 1
        );
    }
}

#[test]
fn folding_a_finished_stream_again_gives_the_same_verdict() {
    for stream in [stream::passing(), stream::failing(), stream::backup_check()] {
        let Some(EventKind::RunFinished {
            verdict,
            exit_code: code,
            ..
        }) = stream.events.last().map(|e| &e.kind)
        else {
            panic!("no terminal event")
        };
        assert_eq!(&Verdict::of(&stream.events), verdict);
        assert_eq!(*code, exit_code(verdict));
    }
}

#[test]
fn a_verdict_survives_json() {
    let rollbacks = [
        super::Rollback::NotReached,
        super::Rollback::Proved { seconds: 2.5 },
        super::Rollback::Stuck {
            reason: "`db` does not start".to_owned(),
        },
    ];
    for rollback in rollbacks {
        let verdict = Verdict {
            rollback,
            ..Verdict::of(&stream::failing().events)
        };
        let text = serde_json::to_string(&verdict).unwrap();
        assert_eq!(
            serde_json::from_str::<Verdict>(&text).unwrap(),
            verdict,
            "{text}"
        );
    }
}
