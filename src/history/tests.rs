//! The database: what is written is read again, by two writers, after a crash, and not out of a damaged file.

use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};

use super::{Begun, History, HistoryError, Wanted};
use crate::event::{Artefact, EventKind, Mode, Owner, Stage};
use crate::report::record::Record;
use crate::verdict::Outcome;
use crate::verdict::stream::{Stream, backup_check};

fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(super::FILE);
    (dir, path)
}

fn at(minute: i64) -> Timestamp {
    "2025-11-21T02:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_mins(minute)
}

fn begun(run: &str, minute: i64) -> Begun<'_> {
    Begun {
        run,
        rehearsal: "site",
        file: std::path::Path::new("rehearsals/site.yaml"),
        mode: Mode::BackupCheck,
        started: at(minute),
        process: "host:1:2",
    }
}

/// A finished backup check with one backup of this size.
fn record(run: &str, minute: i64, size: u64, passed: bool) -> Record {
    let mut stream = if passed {
        backup_check()
    } else {
        let mut stream = Stream::new(Mode::BackupCheck);
        stream
            .ok(&[Stage::Preflight, Stage::Provision, Stage::Isolate])
            .bad(Stage::Restore, Owner::Backup, "the dump is cut")
            .finish();
        stream
    };
    let digested = EventKind::ArtefactDigested(Artefact {
        role: "db/site".to_owned(),
        path: "site.dump".to_owned(),
        digest: format!("sha256:{size}"),
        size,
    });
    let restored = EventKind::BackupRestored {
        restore: "db/site".to_owned(),
        format: "PostgreSQL custom-format dump".to_owned(),
        size,
        seconds: 12.5,
        as_of: Some(at(minute - 60)),
        reused: false,
        base: None,
    };
    for kind in std::iter::once(digested).chain(passed.then_some(restored)) {
        let event = crate::event::Event {
            kind,
            ..stream.events[0].clone()
        };
        stream.events.insert(1, event);
    }
    // A gap in the numbers would make any verdict invalid.
    for (seq, event) in (1..).zip(&mut stream.events) {
        event.seq = seq;
    }
    let mut record = Record::of(&stream.events).unwrap();
    record.run = run.to_owned();
    record.started = at(minute);
    record.finished = Some(at(minute + 1));
    record
}

fn all(history: &History) -> Vec<super::Entry> {
    history.list(&Wanted::default()).unwrap()
}

#[test]
fn what_is_written_is_read_again() {
    let (_dir, path) = place();
    let mut history = History::open(&path).unwrap();
    assert!(all(&history).is_empty());
    history.begin(&begun("a", 0)).unwrap();
    let [entry] = &all(&history)[..] else {
        panic!()
    };
    assert_eq!(
        (entry.run.as_str(), entry.finished, entry.outcome),
        ("a", None, None)
    );
    assert_eq!(entry.process, "host:1:2");

    history.complete(&record("a", 0, 100, true)).unwrap();
    // Its start was never recorded: the history was not to be written then.
    history.complete(&record("b", 10, 49, false)).unwrap();
    history.begin(&begun("c", 20)).unwrap();
    drop(history);

    let history = History::open_existing(&path).unwrap().unwrap();
    let [c, b, a] = &all(&history)[..] else {
        panic!()
    };
    assert_eq!((c.run.as_str(), c.outcome), ("c", None));
    assert_eq!(
        (
            b.outcome,
            b.owner.as_deref(),
            b.exit_code,
            b.stage.as_deref()
        ),
        (
            Some(Outcome::Failed),
            Some("backup"),
            Some(1),
            Some("restore")
        )
    );
    assert!(b.reason.as_deref().unwrap().contains("the dump is cut"));
    // It was not restored, but read: what it was is known.
    assert_eq!((b.backups[0].size, b.backups[0].seconds), (49, None));
    assert_eq!(b.backups[0].digest.as_deref(), Some("sha256:49"));
    assert_eq!(
        (a.outcome, a.finished),
        (Some(Outcome::Passed), Some(at(1)))
    );
    let backup = &a.backups[0];
    assert_eq!(
        (backup.size, backup.seconds, backup.as_of),
        (100, Some(12.5), Some(at(-60)))
    );
    assert_eq!(backup.digest.as_deref(), Some("sha256:100"));

    let only = |wanted: &Wanted<'_>| -> Vec<String> {
        let entries = history.list(wanted).unwrap();
        entries.into_iter().map(|entry| entry.run).collect()
    };
    assert_eq!(
        only(&Wanted {
            limit: Some(2),
            ..Wanted::default()
        }),
        ["c", "b"]
    );
    assert_eq!(
        only(&Wanted {
            since: Some(at(10)),
            ..Wanted::default()
        }),
        ["c", "b"]
    );
    assert!(
        only(&Wanted {
            mode: Some(Mode::Rehearse),
            ..Wanted::default()
        })
        .is_empty()
    );
    assert!(
        only(&Wanted {
            rehearsal: Some("other"),
            ..Wanted::default()
        })
        .is_empty()
    );
    assert_eq!(history.rehearsals().unwrap(), ["site"]);
    let kept: String = history
        .db
        .query_row("SELECT record FROM runs WHERE run = 'a'", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(
        serde_json::from_str::<Record>(&kept).unwrap(),
        record("a", 0, 100, true)
    );
}

#[test]
fn sizes_are_those_of_passed_unassisted_runs() {
    let (_dir, path) = place();
    let mut history = History::open(&path).unwrap();
    for (n, size) in (1_i64..).zip([10, 20, 30, 40, 50, 60]) {
        history
            .complete(&record(&format!("p{n}"), n, size, true))
            .unwrap();
    }
    history.complete(&record("failed", 50, 1, false)).unwrap();
    let mut assisted = record("assisted", 51, 2, true);
    assisted.assisted = true;
    history.complete(&assisted).unwrap();
    history.complete(&record("later", 52, 3, true)).unwrap();
    assert_eq!(history.sizes("site", "db/site").unwrap()[0], 3);
    history.assist("later").unwrap();
    history.begin(&begun("goes-on", 52)).unwrap();
    assert_eq!(
        history.sizes("site", "db/site").unwrap(),
        [60, 50, 40, 30, 20]
    );
    assert!(history.sizes("site", "uploads").unwrap().is_empty());
    assert!(history.sizes("other", "db/site").unwrap().is_empty());
    assert_eq!(
        history.last_passed("site", Mode::BackupCheck).unwrap(),
        Some(at(7))
    );
    assert_eq!(history.last_passed("site", Mode::Rehearse).unwrap(), None);
}

#[test]
fn the_run_before_and_what_the_receiver_knows() {
    let (_dir, path) = place();
    let mut history = History::open(&path).unwrap();
    let this = record("this", 90, 1, true);
    assert_eq!(history.previous(&this).unwrap(), None);
    history.complete(&record("a", 0, 1, false)).unwrap();
    history.complete(&record("b", 10, 1, true)).unwrap();
    let mut interrupted = record("i", 20, 1, false);
    interrupted.verdict.interrupted = true;
    history.complete(&interrupted).unwrap();
    let mut other = record("o", 30, 1, false);
    other.mode = Mode::Rehearse;
    history.complete(&other).unwrap();
    history.begin(&begun("died", 40)).unwrap();
    history.complete(&this).unwrap();
    assert_eq!(history.previous(&this).unwrap().unwrap().run, "b");
    assert_eq!(history.last_told(&this).unwrap(), None);
    history.notified("a", true).unwrap();
    history.notified("b", false).unwrap();
    let told = history.last_told(&this).unwrap().unwrap();
    assert_eq!((told.run.as_str(), told.outcome), ("a", Outcome::Failed));
    assert_eq!(told.owner.as_deref(), Some("backup"));
    let notified: Vec<_> = all(&history)
        .into_iter()
        .map(|entry| (entry.run, entry.notified))
        .collect();
    assert!(
        notified.contains(&("b".to_owned(), Some(false))),
        "{notified:?}"
    );
    assert!(
        notified.contains(&("this".to_owned(), None)),
        "{notified:?}"
    );
}

#[test]
fn an_unfinished_record_completes_nothing() {
    let (_dir, path) = place();
    let mut history = History::open(&path).unwrap();
    let mut half = record("half", 0, 1, true);
    half.finished = None;
    assert!(matches!(
        history.complete(&half),
        Err(HistoryError::Malformed { .. })
    ));
    assert!(all(&history).is_empty());
}

#[test]
fn two_writers_lose_nothing() {
    let (_dir, path) = place();
    let writers: Vec<_> = ["x", "y", "z"]
        .map(|writer| {
            let path = path.clone();
            std::thread::spawn(move || {
                // Also who makes the file is a race.
                let mut history = History::open(&path).unwrap();
                for n in 0..15 {
                    let run = format!("{writer}{n}");
                    history.begin(&begun(&run, n)).unwrap();
                    history.complete(&record(&run, n, 1, true)).unwrap();
                }
            })
        })
        .into();
    for writer in writers {
        writer.join().unwrap();
    }
    let entries = all(&History::open(&path).unwrap());
    assert_eq!(entries.len(), 45);
    assert!(
        entries
            .iter()
            .all(|entry| entry.outcome == Some(Outcome::Passed) && entry.backups.len() == 1)
    );
}

#[test]
fn a_file_that_is_no_history_is_said_to_be_none() {
    let (_dir, path) = place();
    assert!(History::open_existing(&path).unwrap().is_none());
    assert!(!path.exists(), "looking makes no file");

    std::fs::write(
        &path,
        "this is not a database, and longer than its header would be".repeat(9),
    )
    .unwrap();
    let said = History::open(&path).unwrap_err().sentence();
    assert!(
        said.contains("not a database") && said.contains(super::FILE),
        "{said}"
    );

    std::fs::remove_file(&path).unwrap();
    let mut history = History::open(&path).unwrap();
    for n in 0..40 {
        history
            .complete(&record(&format!("r{n}"), n, 1, true))
            .unwrap();
    }
    drop(history);
    let whole = std::fs::read(&path).unwrap();
    // Its second half is gone.
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let cut = History::open(&path).and_then(|history| history.list(&Wanted::default()));
    assert!(matches!(&cut, Err(HistoryError::Sqlite { .. })), "{cut:?}");
    // Its head is there and the rest is noise.
    let mut noise = whole.clone();
    noise[4096..].fill(0xA5);
    std::fs::write(&path, noise).unwrap();
    let torn = History::open(&path).and_then(|mut history| history.begin(&begun("next", 99)));
    assert!(
        matches!(&torn, Err(HistoryError::Sqlite { .. })),
        "{torn:?}"
    );

    std::fs::write(&path, &whole).unwrap();
    let history = History::open(&path).unwrap();
    history.db.pragma_update(None, "user_version", 2).unwrap();
    drop(history);
    assert!(matches!(
        History::open(&path),
        Err(HistoryError::Newer { found: 2, .. })
    ));

    std::fs::remove_file(&path).unwrap();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE songs (title)").unwrap();
    drop(other);
    assert!(matches!(
        History::open(&path),
        Err(HistoryError::Foreign { .. })
    ));
}

/// What SIGKILL or a power failure in the middle of a transaction leaves is a journal that is still there: the next
/// one to open the file takes the transaction back.
#[test]
fn a_transaction_that_was_cut_is_taken_back_and_the_rest_stays() {
    let (dir, path) = place();
    let mut history = History::open(&path).unwrap();
    history.begin(&begun("a", 0)).unwrap();
    history.complete(&record("a", 0, 100, true)).unwrap();
    history.begin(&begun("b", 10)).unwrap();
    // So small a cache that changed pages reach the file before the transaction ends.
    history
        .db
        .execute_batch("PRAGMA cache_size = 1; BEGIN IMMEDIATE")
        .unwrap();
    for n in 0..200 {
        history
            .db
            .execute(
                "INSERT INTO runs (run, rehearsal, file, mode, started, process, record) VALUES (?1, 's', 'f', 'm', 0, '', ?2)",
                rusqlite::params![format!("x{n}"), "x".repeat(900)],
            )
            .unwrap();
    }
    // The files as the process leaves them when it is killed now.
    let crashed = dir.path().join("crashed.sqlite");
    let journal = dir.path().join("history.sqlite-journal");
    assert!(
        std::fs::metadata(&journal).unwrap().len() > 0,
        "the journal is hot"
    );
    std::fs::copy(&path, &crashed).unwrap();
    std::fs::copy(&journal, dir.path().join("crashed.sqlite-journal")).unwrap();

    let entries = all(&History::open(&crashed).unwrap());
    let known: Vec<_> = entries
        .iter()
        .map(|entry| (entry.run.as_str(), entry.outcome))
        .collect();
    assert_eq!(known, [("b", None), ("a", Some(Outcome::Passed))]);
}
