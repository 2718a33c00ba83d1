//! The table, the trend and the document.

use jiff::{SignedDuration, Timestamp};

use super::table::{change, long, painted, sparkline};
use super::*;
use crate::event::Mode;
use crate::report::paint::Paint;
use crate::verdict::Outcome;

/// A run of a night, with one backup of this size.
fn night(day: i64, outcome: Option<Outcome>, size: u64, secs: f64) -> Entry {
    let started =
        "2026-11-01T04:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_hours(24 * day);
    let restored = outcome == Some(Outcome::Passed);
    Entry {
        run: format!("site-{day}"),
        rehearsal: "site".to_owned(),
        file: "rehearsals/site.yaml".to_owned(),
        mode: Mode::BackupCheck,
        started,
        process: String::new(),
        finished: outcome.map(|_| started + SignedDuration::from_mins(5)),
        outcome,
        owner: (outcome == Some(Outcome::Failed)).then(|| "backup".to_owned()),
        stage: None,
        reason: Some("the dump is cut: \u{1b}[31m".to_owned() + &"so it is ".repeat(20)),
        exit_code: Some(0),
        stuck: false,
        interrupted: false,
        assisted: false,
        notified: None,
        backups: outcome
            .map(|_| BackupRow {
                restore: "db/site".to_owned(),
                format: None,
                digest: None,
                size,
                seconds: restored.then_some(secs),
                as_of: restored.then(|| started - SignedDuration::from_mins(245)),
                reused: false,
            })
            .into_iter()
            .collect(),
    }
}

fn shown(entry: Entry) -> Shown {
    let standing = match entry.finished {
        Some(_) => Standing::Finished,
        None => Standing::Died,
    };
    Shown { entry, standing }
}

fn block() -> Block {
    const GIB: u64 = 1 << 30;
    let passed = Some(Outcome::Passed);
    let mut again = night(6, passed, 3 * GIB, 60.0);
    again.mode = Mode::Rehearse;
    again.backups[0].reused = true;
    let mut failed = night(5, Some(Outcome::Failed), GIB, 0.0);
    failed.notified = Some(false);
    let mut invalid = night(3, Some(Outcome::Invalid), 2 * GIB, 0.0);
    invalid.interrupted = true;
    invalid.backups.clear();
    Block {
        rehearsal: "site".to_owned(),
        runs: [
            again,
            failed,
            night(4, None, 0, 0.0),
            invalid,
            night(2, passed, 2 * GIB, 30.0),
            night(1, passed, GIB, 15.0),
        ]
        .map(shown)
        .into(),
        before: Some(night(0, passed, GIB, 15.0)),
    }
}

#[test]
fn the_table_and_the_trend() {
    let told = painted(&[block()], Paint::PLAIN);
    let wanted = "\
site · 6 runs, newest first

started (UTC)     mode          verdict  data age    backup   change  restore        run
2026-11-07 04:00  rehearse      passed   4 h 05 min  3.0 GiB  +200 %  1 min 00 s reused  site-6
";
    // Widths follow the widest cell; what is in the cells is what counts here.
    let squeezed = |text: &str| -> Vec<String> {
        text.lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect()
    };
    let lines = squeezed(&told);
    assert_eq!(lines[..4], squeezed(wanted)[..], "{told}");
    assert_eq!(
        lines[4],
        "2026-11-06 04:00 backup-check failed – 1.0 GiB -50 % – site-5"
    );
    assert!(lines[5].starts_with("nobody could be notified · backup: the dump is cut: so it is"));
    assert!(
        lines[5].ends_with('…') && lines[5].chars().count() <= 116,
        "{}",
        lines[5]
    );
    assert_eq!(
        lines[6],
        "2026-11-05 04:00 backup-check died – – – – site-4"
    );
    assert!(lines[7].starts_with("it was killed"));
    assert_eq!(
        lines[8],
        "2026-11-04 04:00 backup-check invalid – – – – site-3"
    );
    assert_eq!(lines[9], "interrupted");
    assert_eq!(
        lines[10],
        "2026-11-03 04:00 backup-check passed 4 h 05 min 2.0 GiB +100 % 30.0 s site-2"
    );
    assert_eq!(
        lines[11],
        "2026-11-02 04:00 backup-check passed 4 h 05 min 1.0 GiB = 15.0 s site-1"
    );
    // The failed night is no trend, and what was reused took no time.
    assert_eq!(
        lines[13..],
        [
            "passed runs, oldest to newest, from zero up",
            "db/site size ▃▆█ 1.0 GiB → 3.0 GiB",
            "db/site restore ▄█ 15.0 s → 30.0 s"
        ],
        "{told}"
    );
    // Columns stand below their heads.
    let column = |line: &str| {
        line.chars()
            .collect::<Vec<_>>()
            .windows(7)
            .position(|seven| {
                let seven: String = seven.iter().collect();
                seven == "verdict" || seven == "passed "
            })
    };
    let heads = told.lines().nth(2).and_then(column);
    assert!(
        heads.is_some() && heads == told.lines().nth(3).and_then(column),
        "{told}"
    );
    assert!(!told.contains('\u{1b}'));
    assert!(painted(&[block()], Paint::COLOURS).contains('\u{1b}'));
}

#[test]
fn the_document() {
    let document = json(&[block()]);
    assert_eq!(document["history"], VERSION);
    let runs = document["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 6);
    assert_eq!(runs[0]["backups"][0]["data_age_seconds"], 245 * 60);
    assert_eq!(runs[0]["backups"][0]["reused"], true);
    assert_eq!(runs[1]["backups"][0]["restore_seconds"], Value::Null);
    assert_eq!(
        (&runs[2]["state"], &runs[2]["verdict"]),
        (&"died".into(), &Value::Null)
    );
    assert_eq!(runs[4]["mode"], "backup-check");
}

#[test]
fn figures_for_people() {
    for (now, then, wanted) in [
        (100, 100, "="),
        (101, 100, "+1.0 %"),
        (49, 100, "-51 %"),
        (10_001, 10_000, "<0.1 %"),
        (9_999, 10_000, "<0.1 %"),
        (0, 100, "-100 %"),
        (5, 0, "from 0"),
    ] {
        assert_eq!(change(now, then), wanted);
    }
    for (secs, wanted) in [
        (5, "5 s"),
        (245, "4 min"),
        (14_712, "4 h 05 min"),
        (200_000, "2 d 07 h"),
        (-120, "-2 min"),
    ] {
        assert_eq!(long(secs), wanted);
    }
    assert_eq!(sparkline(&[0.0, 1.0, 4.0, 8.0]), "▁▁▄█");
    assert_eq!(sparkline(&[0.0, 0.0]), "▁▁");
}
