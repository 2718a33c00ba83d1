//! Every reason to shut the gate as a row.

use std::fmt::Write as _;

use super::*;
use crate::event::{CaseStatus, EventKind, Owner, StageOutcome};
use crate::verdict::stream::{self, Stream};

fn record(stream: &Stream) -> Record {
    Record::of(&stream.events).unwrap()
}

fn passed() -> Record {
    record(&stream::passing())
}

fn digest() -> String {
    passed().package.unwrap().digest
}

fn change(mut record: Record, change: impl FnOnce(&mut Record)) -> Record {
    change(&mut record);
    record
}

/// The same run, started and finished this much later, under another id.
fn later(record: Record, hours: i64) -> Record {
    change(record, |r| {
        let by = SignedDuration::from_hours(hours);
        r.run = format!("01JD{hours:022}");
        r.started += by;
        r.finished = r.finished.map(|at| at + by);
    })
}

const DAY: SignedDuration = SignedDuration::from_hours(24);

fn rows() -> Vec<(&'static str, Vec<Record>, Option<&'static str>, u8)> {
    let stuck = || {
        let mut s = stream::passing_up_to_verify();
        s.bad(Stage::Rollback, Owner::Engine, "`db/site` differs")
            .finish();
        record(&s)
    };
    let no_rollback = || record(stream::passing_up_to_verify().finish());
    let interrupted = || {
        let mut s = stream::passing_up_to_verify();
        s.rolled_back()
            .begin(Stage::Teardown)
            .end(Stage::Teardown, StageOutcome::Interrupted)
            .finish();
        record(&s)
    };
    let unfinished = || {
        let mut s = stream::passing();
        assert!(matches!(
            s.events.pop().unwrap().kind,
            EventKind::RunFinished { .. }
        ));
        record(&s)
    };
    vec![
        ("passed", vec![passed()], None, 0),
        ("passed, this rehearsal", vec![passed()], Some("site"), 0),
        (
            "passed, another rehearsal is asked for",
            vec![passed()],
            Some("shop"),
            2,
        ),
        ("no record at all", vec![], None, 2),
        (
            "another build of it",
            vec![change(passed(), |r| {
                r.package.as_mut().unwrap().digest = "sha256:00".into()
            })],
            None,
            2,
        ),
        (
            "only a backup check",
            vec![change(passed(), |r| r.mode = Mode::BackupCheck)],
            None,
            2,
        ),
        (
            "no package on record",
            vec![change(passed(), |r| r.package = None)],
            None,
            2,
        ),
        ("failed", vec![record(&stream::failing())], None, 1),
        (
            "invalid",
            vec![change(passed(), |r| r.verdict.outcome = Outcome::Invalid)],
            None,
            1,
        ),
        (
            "failed, then passed",
            vec![record(&stream::failing()), later(passed(), 1)],
            None,
            0,
        ),
        (
            "passed, then failed",
            vec![passed(), later(record(&stream::failing()), 1)],
            None,
            1,
        ),
        (
            "passed, then failed, listed the other way",
            vec![later(record(&stream::failing()), 1), passed()],
            None,
            1,
        ),
        (
            "passed, then a run that died",
            vec![passed(), later(unfinished(), 1)],
            None,
            1,
        ),
        (
            "passed here, failed there",
            vec![
                passed(),
                change(later(record(&stream::failing()), 1), |r| {
                    r.rehearsal = "shop".into()
                }),
            ],
            None,
            1,
        ),
        (
            "passed here, failed there, here is asked for",
            vec![
                passed(),
                change(later(record(&stream::failing()), 1), |r| {
                    r.rehearsal = "shop".into()
                }),
            ],
            Some("site"),
            0,
        ),
        (
            "passed here, passed there long ago",
            vec![
                passed(),
                change(later(passed(), -100), |r| r.rehearsal = "shop".into()),
            ],
            None,
            0,
        ),
        (
            "assisted",
            vec![change(passed(), |r| r.assisted = true)],
            None,
            1,
        ),
        (
            "a part only",
            vec![change(passed(), |r| {
                r.package.as_mut().unwrap().left_out = vec!["content".into()];
            })],
            None,
            1,
        ),
        (
            "a required what-if left out",
            vec![change(passed(), |r| {
                r.package.as_mut().unwrap().what_ifs_left_out = vec!["rollback".into()];
            })],
            None,
            1,
        ),
        (
            "assisted, by its verdict",
            vec![change(passed(), |r| r.verdict.assisted = true)],
            None,
            1,
        ),
        ("interrupted", vec![interrupted()], None, 1),
        ("rollback stuck", vec![stuck()], None, 1),
        ("rollback not reached", vec![no_rollback()], None, 1),
        ("not over", vec![unfinished()], None, 1),
        ("too old", vec![later(passed(), -20)], None, 1),
        ("from the future", vec![later(passed(), 20)], None, 1),
        (
            "finished before it started",
            vec![change(passed(), |r| r.finished = Some(r.started - DAY))],
            None,
            1,
        ),
        (
            "exit code disagrees",
            vec![change(passed(), |r| r.exit_code = Some(1))],
            None,
            1,
        ),
        (
            "no exit code",
            vec![change(passed(), |r| r.exit_code = None)],
            None,
            1,
        ),
        (
            "a stage disagrees",
            vec![change(passed(), |r| r.stages[7].end = StageEnd::NotReached)],
            None,
            1,
        ),
        (
            "a stage is not mentioned",
            vec![change(passed(), |r| {
                r.stages.remove(6);
            })],
            None,
            1,
        ),
        (
            "the rollback stage disagrees",
            vec![change(passed(), |r| r.stages[8].end = StageEnd::Unfinished)],
            None,
            1,
        ),
        (
            "a count disagrees",
            vec![change(passed(), |r| r.suites[2].failed = 1)],
            None,
            1,
        ),
    ]
}

#[test]
fn every_reason() {
    let digest = digest();
    let now = passed().finished.unwrap() + SignedDuration::from_hours(5);
    let mut told = String::new();
    for (name, records, rehearsal, code) in rows() {
        let asked = Asked {
            digest: &digest,
            name: Some("site"),
            rehearsal,
            max_age: Some(DAY),
        };
        let decision = decide(&records, &asked, now);
        assert_eq!(decision.exit_code(), code, "{name}: {decision:?}");
        if let Decision::Shut { reasons } = &decision {
            assert!(!reasons.is_empty(), "{name}");
        }
        writeln!(told, "{name}\n  {decision:?}").unwrap();
    }
    insta::assert_snapshot!(told);
}

#[test]
fn the_last_moment_counts_and_the_next_does_not() {
    let (record, digest) = (passed(), digest());
    let asked = Asked {
        digest: &digest,
        name: None,
        rehearsal: None,
        max_age: Some(DAY),
    };
    let last = record.finished.unwrap() + DAY;
    assert_eq!(
        decide(std::slice::from_ref(&record), &asked, last).exit_code(),
        0
    );
    let next = last + SignedDuration::from_nanos(1);
    assert_eq!(
        decide(std::slice::from_ref(&record), &asked, next).exit_code(),
        1
    );
    let unlimited = Asked {
        max_age: None,
        ..asked
    };
    assert_eq!(
        decide(&[record], &unlimited, last + DAY * 300).exit_code(),
        0
    );
}

/// Whatever event is lost from a passing run, or wherever its stream ends: the record of it never opens the gate.
#[test]
fn no_damaged_run_opens_the_gate() {
    let whole = stream::passing();
    let digest = digest();
    let now = passed().finished.unwrap() + SignedDuration::from_hours(1);
    let asked = Asked {
        digest: &digest,
        name: None,
        rehearsal: None,
        max_age: None,
    };
    for at in 0..whole.events.len() {
        let mut lost = whole.events.clone();
        lost.remove(at);
        for events in [&lost[..], &whole.events[..at]] {
            let records: Vec<Record> = Record::of(events).into_iter().collect();
            assert_ne!(
                decide(&records, &asked, now).exit_code(),
                0,
                "at event {at}"
            );
        }
    }
}

#[test]
fn a_test_that_fails_after_the_rollback_shuts_too() {
    let mut s = stream::passing_up_to_verify();
    s.case(
        Stage::Rollback,
        "the front page answers",
        CaseStatus::Failed,
    )
    .rolled_back()
    .finish();
    let digest = digest();
    let asked = Asked {
        digest: &digest,
        name: None,
        rehearsal: None,
        max_age: None,
    };
    let now = passed().finished.unwrap() + DAY;
    assert_eq!(decide(&[record(&s)], &asked, now).exit_code(), 1);
}

#[test]
fn half_written_folders_are_told_and_not_counted() {
    let report_dir = tempfile::tempdir().unwrap();
    assert_eq!(load_records(report_dir.path()), (vec![], vec![]));

    let runs = report_dir.path().join("runs");
    let folder = |name: &str| {
        let folder = runs.join(name);
        fs::create_dir_all(&folder).unwrap();
        folder
    };
    let good = passed();
    good.write(&folder(&good.run)).unwrap();
    let text = fs::read_to_string(runs.join(&good.run).join("record.json")).unwrap();
    folder("a-no-record");
    fs::write(folder("b-empty").join("record.json"), "").unwrap();
    fs::write(folder("c-cut").join("record.json"), &text[..text.len() / 2]).unwrap();
    fs::write(
        folder("d-later-form").join("record.json"),
        text.replacen("\"record\": 1", "\"record\": 2", 1),
    )
    .unwrap();
    fs::write(folder("e-no-form").join("record.json"), "{}").unwrap();
    fs::write(folder("f-carried").join("record.json"), &text).unwrap();
    fs::write(
        folder("g-no-verdict").join("record.json"),
        text.replacen("\"verdict\"", "\"verdikt\"", 1),
    )
    .unwrap();
    fs::write(runs.join("a file"), "").unwrap();

    let (records, warnings) = load_records(report_dir.path());
    assert_eq!(records, [good]);
    let told = warnings
        .join("\n")
        .replace(&runs.display().to_string(), "RUNS");
    insta::assert_snapshot!(told);
}

/// A run that was killed leaves its events and no record; the last line may be cut. It counts, and never opens.
#[test]
fn a_run_that_was_killed_shuts_the_gate_that_an_older_one_opened() {
    let report_dir = tempfile::tempdir().unwrap();
    let folder = |name: &str| {
        let folder = report_dir.path().join("runs").join(name);
        fs::create_dir_all(&folder).unwrap();
        folder
    };
    let older = later(passed(), -1);
    older.write(&folder(&older.run)).unwrap();
    let asked = Asked {
        digest: &digest(),
        name: None,
        rehearsal: None,
        max_age: None,
    };
    let now = passed().finished.unwrap() + SignedDuration::from_hours(1);
    let decided = || decide(&load_records(report_dir.path()).0, &asked, now);
    assert_eq!(decided().exit_code(), 0);

    let events = stream::passing().events;
    let killed = folder(&passed().run);
    let lines: Vec<String> = events
        .iter()
        .map(|event| serde_json::to_string(event).unwrap() + "\n")
        .collect();
    let opened = events
        .iter()
        .position(|e| matches!(e.kind, EventKind::PackageOpened { .. }))
        .unwrap();
    // Also where every event was written and only the record was not.
    for kept in opened + 1..=lines.len() {
        let whole = lines[..kept].concat();
        let cut = lines.get(kept).map_or("", |next| &next[..next.len() / 2]);
        for text in [whole.clone(), whole + cut] {
            fs::write(killed.join("events.jsonl"), text).unwrap();
            let Decision::Shut { reasons } = decided() else {
                panic!("open after {kept} events");
            };
            let said = reasons.join("; ");
            let wanted = format!("run {} of this package was broken off", passed().run);
            assert!(said.contains(&wanted), "{said}");
        }
    }
    // A record that cannot be read is as good as none.
    fs::write(killed.join("record.json"), "{}").unwrap();
    assert_eq!(decided().exit_code(), 1);
    // Without events nothing is known of it, and that is said.
    fs::remove_file(killed.join("events.jsonl")).unwrap();
    assert_eq!(decided().exit_code(), 0);
    assert_eq!(load_records(report_dir.path()).1.len(), 1);
}
