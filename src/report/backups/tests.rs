//! What a backup check says in its last lines, in words and in JSON.

use super::*;
use crate::check::ladder::{Rung, SEEN_TO_BE_BAD};
use crate::event::{CaseStatus, EventKind, Mode, Owner, Stage, StageOutcome};
use crate::report::paint::Paint;
use crate::report::record::Record;
use crate::report::{html, junit, summary};
use crate::verdict::stream::Stream;

const NAME: &str = "db/site";

/// A backup check of one backup, up to where its restore begins.
fn begun() -> Stream {
    let mut s = Stream::new(Mode::BackupCheck);
    s.begin(Stage::Preflight)
        .push(EventKind::BackupExpected {
            restore: NAME.to_owned(),
            size: Some(1 << 20),
            max_age_seconds: Some(26 * 3600),
            limit_seconds: 1800,
            usual_size: Some(2 << 20),
            earlier_runs: 5,
        })
        .case(Stage::Preflight, &rung(Rung::Size), CaseStatus::Skipped)
        .end(Stage::Preflight, StageOutcome::Ok)
        .ok(&[Stage::Provision, Stage::Isolate])
        .begin(Stage::Restore);
    s
}

fn rung(rung: Rung) -> String {
    format!("{NAME}: {}", rung.says())
}

/// The restore went well; the newest data is this many hours older than the run.
fn restored(hours: i64, reused: bool) -> Stream {
    let mut s = begun();
    let as_of = s.events[0].at - jiff::SignedDuration::from_hours(hours);
    s.case(Stage::Restore, &rung(Rung::Restores), CaseStatus::Passed)
        .push(EventKind::BackupRestored {
            restore: NAME.to_owned(),
            format: "PostgreSQL custom-format dump".to_owned(),
            size: 1 << 20,
            seconds: 185.0,
            as_of: Some(as_of),
            reused,
            base: Some("5dbffc006a3fa158309bda4b".to_owned()),
        })
        .case(Stage::Restore, &rung(Rung::Collation), CaseStatus::Skipped)
        .case(Stage::Restore, &rung(Rung::Files), CaseStatus::Skipped);
    s
}

fn ended(mut s: Stream) -> Stream {
    s.end(Stage::Restore, StageOutcome::Ok)
        .ok(&[Stage::Baseline])
        .judged()
        .ok(&[Stage::Teardown])
        .finish();
    s
}

fn stopped(mut s: Stream, owner: Owner) -> Stream {
    s.end_bad(Stage::Restore, owner, "it went wrong")
        .judged()
        .ok(&[Stage::Teardown])
        .finish();
    s
}

fn block(s: &Stream) -> String {
    summary::block(&s.events, Paint::PLAIN)
}

#[test]
fn the_last_lines_answer_what_is_asked_at_night() {
    let old = |s: Stream| {
        let mut s = s;
        s.case(Stage::Restore, &rung(Rung::Fresh), CaseStatus::Failed);
        stopped(s, Owner::Backup)
    };
    let broken = |status, owner| {
        let mut s = begun();
        s.case(Stage::Restore, &rung(Rung::Restores), status);
        stopped(s, owner)
    };
    let old_and_unreadable = {
        let mut s = restored(50, false);
        s.case(Stage::Restore, &rung(Rung::Readable), CaseStatus::Failed);
        old(s)
    };
    let damaged = {
        let mut s = restored(4, false);
        for (kind, status) in [
            ("a truncated copy", CaseStatus::Passed),
            ("an empty copy", CaseStatus::Passed),
            ("a copy with a flipped bit", CaseStatus::Error),
            ("a copy without one of its files", CaseStatus::Skipped),
        ] {
            s.case(
                Stage::Restore,
                &format!("{NAME}: {kind}{SEEN_TO_BE_BAD}"),
                status,
            );
        }
        stopped(s, Owner::Staging)
    };
    for (name, stream, come_back, became, words) in [
        (
            "passed",
            ended(restored(4, false)),
            ComeBack::Yes,
            Became::Restored,
            &[
                "data     4 h 00 min old, max_age 26 h",
                "restore  3 min 05 s, limit 30 min",
                "size     1.0 MiB, 50 % of the usual 2.0 MiB (5 earlier runs)",
                "base     5dbffc006a3f, made by this run",
                "come back  yes: from this backup",
            ][..],
        ),
        (
            "reused",
            ended(restored(4, true)),
            ComeBack::Yes,
            Became::Reused,
            &[
                "restore  3 min 05 s at an identical earlier restore, limit 30 min",
                "base     5dbffc006a3f, made by an earlier run",
            ],
        ),
        (
            "too old",
            old(restored(50, false)),
            ComeBack::No,
            Became::Restored,
            &[
                "data     2 d 02 h old, max_age 26 h",
                "come back  NO: only to data that is older than it may be",
            ],
        ),
        (
            "too old, and more is wrong",
            old_and_unreadable,
            ComeBack::No,
            Became::Restored,
            &["come back  NO: not from this backup"],
        ),
        (
            "from the future",
            old(restored(-50, false)),
            ComeBack::No,
            Became::Restored,
            &["ahead of this clock", "come back  NO: not from this backup"],
        ),
        (
            "the restore failed",
            broken(CaseStatus::Failed, Owner::Backup),
            ComeBack::No,
            Became::Failed,
            &[
                "data     age not known: nothing was restored",
                "restore  FAILED after",
                "base     none",
                "come back  NO: not from this backup",
            ],
        ),
        (
            "the engine got in the way",
            broken(CaseStatus::Error, Owner::Engine),
            ComeBack::Unknown,
            Became::NotDetermined,
            &[
                "restore  not determined after",
                "come back  NOT KNOWN: this check could not judge",
            ],
        ),
        (
            "cut",
            begun(),
            ComeBack::Unknown,
            Became::NotRestored,
            &[
                "restore  not reached, limit 30 min",
                "come back  NOT KNOWN: this check could not judge",
            ],
        ),
        (
            "a damaged copy passed",
            damaged,
            ComeBack::Unknown,
            Became::Restored,
            &[
                "control  1 damaged copy NOT seen to be bad, 2 damaged copies seen to",
                "come back  NOT KNOWN",
            ],
        ),
    ] {
        let told = block(&stream);
        for word in words {
            assert!(told.contains(word), "{name}: no `{word}` in\n{told}");
        }
        let check = Record::of(&stream.events).unwrap().backup_check.unwrap();
        assert_eq!(check.come_back, come_back, "{name}");
        assert_eq!(check.backups[0].became, became, "{name}");
        // Only the next thing to do stands behind the answer.
        let answer = told.find("   come back  ").unwrap();
        let behind = told[answer..].lines().skip(1).find(|line| !line.is_empty());
        assert!(
            behind.is_none_or(|line| line.starts_with("   next ")),
            "{name}: {told}"
        );
        let page = html::render(&stream.events);
        assert!(page.contains(come_back_word(&check)), "{name}");
    }
}

fn come_back_word(check: &BackupCheck) -> &'static str {
    come_back(check).0
}

#[test]
fn the_answers_are_in_the_record_too() {
    let record = Record::of(&ended(restored(4, false)).events).unwrap();
    let json = serde_json::to_value(&record).unwrap();
    for (pointer, wanted) in [
        ("/backup_check/come_back", serde_json::json!("yes")),
        ("/backup_check/backups/0/restore", NAME.into()),
        ("/backup_check/backups/0/became", "restored".into()),
        ("/backup_check/backups/0/size", (1 << 20).into()),
        ("/backup_check/backups/0/usual_size", (2 << 20).into()),
        (
            "/backup_check/backups/0/data_age_seconds",
            (4 * 3600).into(),
        ),
        (
            "/backup_check/backups/0/max_age_seconds",
            (26 * 3600).into(),
        ),
        ("/backup_check/backups/0/restore_seconds", 185.0.into()),
        ("/backup_check/backups/0/restore_limit_seconds", 1800.into()),
        (
            "/backup_check/backups/0/base",
            "5dbffc006a3fa158309bda4b".into(),
        ),
    ] {
        assert_eq!(json.pointer(pointer), Some(&wanted), "{pointer}: {json:#}");
    }
    // A rehearsal judges a package, and says nothing of coming back; an older record says nothing either.
    let rehearsed = Record::of(&crate::verdict::stream::passing().events).unwrap();
    let json = serde_json::to_value(&rehearsed).unwrap();
    assert!(json.get("backup_check").is_none());
    let read: Record = serde_json::from_value(json).unwrap();
    assert_eq!(read, rehearsed);
}

#[test]
fn rungs_that_were_not_looked_at_are_one_line_and_in_junit_one_case_each() {
    let stream = ended(restored(4, false));
    let told = block(&stream);
    assert!(
        told.contains("– db/site: 3 rungs not looked at: size, collation, files\n"),
        "{told}"
    );
    let xml = junit::render(&stream.events);
    assert_eq!(xml.matches("<skipped ").count(), 3, "{xml}");
    for rung in [Rung::Size, Rung::Collation, Rung::Files] {
        assert!(xml.contains(rung.says()), "{xml}");
    }
    let page = html::render(&stream.events);
    assert!(page.contains("2 rungs not looked at, and why"), "{page}");
}

#[test]
fn where_nothing_is_restored_nothing_is_known() {
    let stream = crate::verdict::stream::backup_check();
    let told = block(&stream);
    assert!(
        told.contains("come back  NOT KNOWN: the rehearsal restores no backup"),
        "{told}"
    );
}
