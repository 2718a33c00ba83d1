//! Every rule of the verdict as a row, and the property that nothing which is cut short is ever passed.

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
fn rows() -> Vec<(&'static str, Stream, Outcome, Option<Owner>, u8)> {
    use Outcome::{Failed as F, Invalid as I, Passed as P};
    let before = || upto(Rehearse, &BEFORE_BASELINE);
    let deployed = || upto(Rehearse, &UP_TO_DEPLOY);
    let check = || upto(BackupCheck, &BEFORE_BASELINE);
    vec![
        ("all well", stream::passing(), P, None, 0),
        (
            "all well, no tests",
            with(deployed(), |s| {
                s.ok(&[Verify]);
            }),
            P,
            None,
            0,
        ),
        (
            "a backup check, all well",
            stream::backup_check(),
            P,
            None,
            0,
        ),
        (
            "nothing",
            Stream { events: Vec::new() },
            I,
            Some(Owner::Engine),
            2,
        ),
        (
            "only the start",
            Stream::new(Rehearse),
            I,
            Some(Owner::Engine),
            2,
        ),
        (
            "the start is missing",
            with(stream::passing(), |s| {
                s.events.remove(0);
            }),
            I,
            Some(Owner::Engine),
            2,
        ),
        (
            "cut in verify",
            with(deployed(), |s| {
                s.begin(Verify);
            }),
            I,
            Some(Owner::Engine),
            2,
        ),
        (
            "cut in verify after a failed test",
            with(deployed(), |s| {
                s.begin(Verify).case(Verify, "t", Failed);
            }),
            I,
            Some(Owner::Engine),
            2,
        ),
        (
            "verify skipped",
            with(deployed(), |s| {
                s.push(EventKind::StageSkipped {
                    stage: Verify,
                    reason: "no time".to_owned(),
                });
            }),
            I,
            Some(Owner::Engine),
            2,
        ),
        (
            "an event in the middle is missing",
            with(stream::passing(), |s| {
                let at = s
                    .events
                    .iter()
                    .position(|e| matches!(e.kind, EventKind::CaseFinished { .. }))
                    .unwrap();
                s.events.remove(at);
            }),
            I,
            Some(Owner::Engine),
            2,
        ),
        (
            "the package cannot be read",
            with(Stream::new(Rehearse), |s| {
                s.bad(
                    Preflight,
                    Owner::Package,
                    "component `content` comes after `backnd`, which is not there",
                );
            }),
            F,
            Some(Owner::Package),
            1,
        ),
        (
            "no engine",
            with(Stream::new(Rehearse), |s| {
                s.bad(
                    Preflight,
                    Owner::Engine,
                    "no engine answers at unix:///var/run/docker.sock",
                );
            }),
            I,
            Some(Owner::Engine),
            2,
        ),
        (
            "an image is missing",
            with(upto(Rehearse, &[Preflight]), |s| {
                s.bad(
                    Provision,
                    Owner::Stack,
                    "image `cms:1` is neither here nor to be pulled or built",
                );
            }),
            I,
            Some(Owner::Stack),
            2,
        ),
        (
            "the gateway answers",
            with(upto(Rehearse, &[Preflight, Provision]), |s| {
                s.begin(Isolate).case(Isolate, "gateway", Failed).end_bad(
                    Isolate,
                    Owner::Isolation,
                    "1 way out is open",
                );
            }),
            I,
            Some(Owner::Isolation),
            2,
        ),
        (
            "the gateway answers and the stage overlooks it",
            with(deployed(), |s| {
                s.ok(&[Verify])
                    .begin(Isolate)
                    .case(Isolate, "gateway", Failed)
                    .end(Isolate, StageOutcome::Ok);
            }),
            I,
            Some(Owner::Isolation),
            2,
        ),
        (
            "isolation is gone after the deploy",
            with(deployed(), |s| {
                s.ok(&[Verify]).bad(
                    Isolate,
                    Owner::Isolation,
                    "203.0.113.9 answers since the deploy",
                );
            }),
            I,
            Some(Owner::Isolation),
            2,
        ),
        (
            "the package made a way out",
            with(deployed(), |s| {
                s.ok(&[Verify]).bad(
                    Isolate,
                    Owner::Package,
                    "the deploy joined a second network",
                );
            }),
            F,
            Some(Owner::Package),
            1,
        ),
        (
            "the second isolate was cut",
            with(deployed(), |s| {
                s.ok(&[Verify]).begin(Isolate);
            }),
            I,
            Some(Owner::Engine),
            2,
        ),
        (
            "a bad backup under a rehearsal",
            with(upto(Rehearse, &[Preflight, Provision, Isolate]), |s| {
                s.bad(
                    Restore,
                    Owner::Backup,
                    "cannot restore `site.dump` into `db`: the file ends early",
                );
            }),
            I,
            Some(Owner::Backup),
            2,
        ),
        (
            "a bad backup under a backup check",
            with(upto(BackupCheck, &[Preflight, Provision, Isolate]), |s| {
                s.bad(
                    Restore,
                    Owner::Backup,
                    "cannot restore `site.dump` into `db`: the file ends early",
                );
            }),
            F,
            Some(Owner::Backup),
            1,
        ),
        (
            "an old backup, only a case says so",
            with(upto(BackupCheck, &[Preflight, Provision, Isolate]), |s| {
                s.begin(Restore)
                    .case(Restore, "db/site is younger than 26h", Failed)
                    .end(Restore, StageOutcome::Ok);
            }),
            F,
            Some(Owner::Backup),
            1,
        ),
        (
            "the engine dies in restore, backup check",
            with(upto(BackupCheck, &[Preflight, Provision, Isolate]), |s| {
                s.bad(Restore, Owner::Engine, "no space left on device");
            }),
            I,
            Some(Owner::Engine),
            2,
        ),
        (
            "a backup check cut before baseline",
            check(),
            I,
            Some(Owner::Engine),
            2,
        ),
        (
            "baseline red",
            with(before(), |s| {
                s.begin(Baseline).case(Baseline, "t", Failed).end_bad(
                    Baseline,
                    Owner::Staging,
                    "1 of 1 tests failed",
                );
            }),
            I,
            Some(Owner::Staging),
            2,
        ),
        (
            "baseline red, the stage overlooks it",
            with(before(), |s| {
                s.begin(Baseline)
                    .case(Baseline, "t", Failed)
                    .end(Baseline, StageOutcome::Ok);
            }),
            I,
            Some(Owner::Staging),
            2,
        ),
        (
            "baseline blames the package",
            with(before(), |s| {
                s.bad(Baseline, Owner::Package, "x");
            }),
            I,
            Some(Owner::Package),
            2,
        ),
        (
            "baseline not determined",
            with(before(), |s| {
                s.begin(Baseline).case(Baseline, "t", Error).end_bad(
                    Baseline,
                    Owner::Testplan,
                    "no such service",
                );
            }),
            I,
            Some(Owner::Testplan),
            2,
        ),
        (
            "a service never became healthy",
            with(before(), |s| {
                s.bad(Baseline, Owner::Staging, "`web` is not healthy after 2 min");
            }),
            I,
            Some(Owner::Staging),
            2,
        ),
        (
            "backup check, baseline red",
            with(check(), |s| {
                s.begin(Baseline).case(Baseline, "t", Failed).end_bad(
                    Baseline,
                    Owner::Staging,
                    "1 of 1 tests failed",
                );
            }),
            I,
            Some(Owner::Staging),
            2,
        ),
        (
            "backup check, baseline blames the backup",
            with(check(), |s| {
                s.begin(Baseline).case(Baseline, "t", Failed).end_bad(
                    Baseline,
                    Owner::Backup,
                    "table `orders` is empty",
                );
            }),
            F,
            Some(Owner::Backup),
            1,
        ),
        (
            "snapshot fails",
            with(upto(Rehearse, &UP_TO_DEPLOY[..5]), |s| {
                s.bad(Snapshot, Owner::Engine, "`db` did not stop within 30 s");
            }),
            I,
            Some(Owner::Engine),
            2,
        ),
        (
            "a step fails",
            with(stream::up_to_snapshot(), |s| {
                s.begin(Deploy).step(
                    "backend",
                    "migrate the schema",
                    3,
                    &["ERROR: relation exists"],
                );
                s.end_bad(Deploy, Owner::Package, "exit code 3, not 0");
                s.rolled_back();
            }),
            F,
            Some(Owner::Package),
            1,
        ),
        (
            "a step fails and isolate is gone too",
            with(stream::up_to_snapshot(), |s| {
                s.bad(Deploy, Owner::Package, "exit code 3, not 0").bad(
                    Isolate,
                    Owner::Isolation,
                    "the gateway answers",
                );
            }),
            I,
            Some(Owner::Isolation),
            2,
        ),
        (
            "a step fails, but baseline was never seen green",
            with(upto(Rehearse, &BEFORE_BASELINE), |s| {
                s.bad(Deploy, Owner::Package, "exit code 3, not 0");
            }),
            I,
            Some(Owner::Engine),
            2,
        ),
        (
            "the engine dies in deploy",
            with(upto(Rehearse, &UP_TO_DEPLOY[..6]), |s| {
                s.bad(Deploy, Owner::Engine, "the engine closed the connection");
            }),
            I,
            Some(Owner::Engine),
            2,
        ),
        (
            "staging at fault in deploy",
            with(upto(Rehearse, &UP_TO_DEPLOY[..6]), |s| {
                s.bad(Deploy, Owner::Staging, "`db` ran out of its memory limit");
            }),
            I,
            Some(Owner::Staging),
            2,
        ),
        (
            "a test fails",
            stream::failing(),
            F,
            Some(Owner::Package),
            1,
        ),
        (
            "a test fails, the stage overlooks it",
            with(deployed(), |s| {
                s.begin(Verify)
                    .case(Verify, "t", Failed)
                    .end(Verify, StageOutcome::Ok);
            }),
            F,
            Some(Owner::Package),
            1,
        ),
        (
            "a test fails beside one not determined",
            with(deployed(), |s| {
                s.begin(Verify)
                    .case(Verify, "u", Error)
                    .case(Verify, "t", Failed);
                s.end_bad(Verify, Owner::Testplan, "1 failed, 1 error");
            }),
            F,
            Some(Owner::Package),
            1,
        ),
        (
            "a test fails and the engine dies",
            with(deployed(), |s| {
                s.begin(Verify).case(Verify, "t", Failed).end_bad(
                    Verify,
                    Owner::Engine,
                    "the agent is gone",
                );
            }),
            I,
            Some(Owner::Engine),
            2,
        ),
        (
            "a new test is not determined",
            with(deployed(), |s| {
                s.begin(Verify)
                    .case(Verify, "t", Error)
                    .end(Verify, StageOutcome::Ok);
            }),
            I,
            Some(Owner::Testplan),
            2,
        ),
        (
            "a test that worked before is not determined",
            with(stream::up_to_deploy(), |s| {
                s.begin(Verify)
                    .case(Verify, "no order is lost", Error)
                    .end(Verify, StageOutcome::Ok);
            }),
            I,
            Some(Owner::Engine),
            2,
        ),
        (
            "a test is not reached",
            with(deployed(), |s| {
                s.begin(Verify)
                    .case(Verify, "t", Passed)
                    .case(Verify, "u", Skipped)
                    .end(Verify, StageOutcome::Ok);
            }),
            I,
            Some(Owner::Testplan),
            2,
        ),
        (
            "a service dies after the deploy",
            with(deployed(), |s| {
                s.bad(Verify, Owner::Package, "`web` exited with 1");
            }),
            F,
            Some(Owner::Package),
            1,
        ),
        (
            "a warning",
            with(deployed(), |s| {
                s.begin(Verify)
                    .case(Verify, "t", Warned)
                    .end(Verify, StageOutcome::Ok);
            }),
            P,
            None,
            0,
        ),
        (
            "interrupted in deploy",
            with(upto(Rehearse, &UP_TO_DEPLOY[..6]), |s| {
                s.begin(Deploy).end(Deploy, StageOutcome::Interrupted);
            }),
            I,
            None,
            130,
        ),
        (
            "interrupted in rollback",
            with(stream::passing_up_to_verify(), |s| {
                s.begin(Rollback).end(Rollback, StageOutcome::Interrupted);
            }),
            P,
            None,
            130,
        ),
        (
            "rollback stuck after passed",
            with(stream::passing_up_to_verify(), |s| {
                s.bad(
                    Rollback,
                    Owner::Engine,
                    "`db/site` differs from the snapshot",
                );
            }),
            P,
            None,
            3,
        ),
        (
            "rollback stuck after failed",
            with(deployed(), |s| {
                s.bad(Verify, Owner::Package, "x").bad(
                    Rollback,
                    Owner::Package,
                    "`db/site` differs from the snapshot",
                );
            }),
            F,
            Some(Owner::Package),
            3,
        ),
        (
            "rollback stuck, only a case says so",
            with(stream::passing_up_to_verify(), |s| {
                s.case(Rollback, "the front page answers", Failed)
                    .rolled_back();
            }),
            P,
            None,
            3,
        ),
        (
            "rollback stuck after invalid",
            with(deployed(), |s| {
                s.bad(Verify, Owner::Engine, "x").bad(
                    Rollback,
                    Owner::Engine,
                    "`db` does not start",
                );
            }),
            I,
            Some(Owner::Engine),
            2,
        ),
        (
            "teardown leaves something",
            with(stream::passing_up_to_verify(), |s| {
                s.rolled_back()
                    .bad(Teardown, Owner::Engine, "1 network could not be removed");
            }),
            P,
            None,
            0,
        ),
    ]
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
