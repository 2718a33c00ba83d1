//! The history of runs: a table and a trend for people, a document for machines.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::paint::Paint;
use super::text::{bytes, clip, count, one_line, seconds};
use crate::history::{BackupRow, Entry};
use crate::verdict::Outcome;

/// The version of the document's form.
pub const VERSION: u32 = 1;

/// How a run stands that may have no verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has a verdict.
    Finished,
    /// Its process is there.
    Running,
    /// Its process is gone.
    Died,
    /// It has no verdict, and ran where this machine cannot see whether it still does.
    Unknown,
}

impl Standing {
    /// The name used in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Running => "running",
            Self::Died => "died",
            Self::Unknown => "unknown",
        }
    }
}

/// A run and how it stands.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The run.
    pub entry: Entry,
    /// How it stands.
    pub standing: Standing,
}

/// Runs of one rehearsal, the newest first.
#[derive(Clone, Debug)]
pub struct Block {
    /// The rehearsal's name.
    pub rehearsal: String,
    /// Its runs.
    pub runs: Vec<Shown>,
    /// The run before the oldest of them, to compare it with.
    pub before: Option<Entry>,
}

/// The document of `--format json`: one list of runs, the newest first within each rehearsal.
pub fn json(blocks: &[Block]) -> Value {
    let runs: Vec<Value> = blocks
        .iter()
        .flat_map(|block| &block.runs)
        .map(run_json)
        .collect();
    json!({ "history": VERSION, "runs": runs })
}

fn run_json(shown: &Shown) -> Value {
    let entry = &shown.entry;
    let backups: Vec<Value> = entry
        .backups
        .iter()
        .map(|backup| {
            json!({
                "restore": backup.restore,
                "format": backup.format,
                "digest": backup.digest,
                "size": backup.size,
                "restore_seconds": backup.seconds,
                "data_as_of": backup.as_of,
                "data_age_seconds": age(entry, backup),
                "reused": backup.reused,
            })
        })
        .collect();
    json!({
        "run": entry.run,
        "rehearsal": entry.rehearsal,
        "file": entry.file,
        "mode": entry.mode,
        "state": shown.standing.name(),
        "started": entry.started,
        "finished": entry.finished,
        "verdict": entry.outcome,
        "owner": entry.owner,
        "stage": entry.stage,
        "reason": entry.reason,
        "exit_code": entry.exit_code,
        "rollback_stuck": entry.stuck,
        "interrupted": entry.interrupted,
        "assisted": entry.assisted,
        "notified": entry.notified,
        "backups": backups,
    })
}

/// How old the data was when the run began, in seconds.
fn age(entry: &Entry, backup: &BackupRow) -> Option<i64> {
    backup
        .as_of
        .map(|as_of| entry.started.duration_since(as_of).as_secs())
}

/// The table for people, with colours where the stream takes them.
pub fn table(blocks: &[Block], stream: &impl anstream::stream::RawStream) -> String {
    painted(blocks, Paint::for_stream(stream))
}

const HEAD: [&str; 8] = [
    "started (UTC)",
    "mode",
    "verdict",
    "data age",
    "backup",
    "change",
    "restore",
    "run",
];

fn painted(blocks: &[Block], paint: Paint) -> String {
    let mut out = String::new();
    for (n, block) in blocks.iter().enumerate() {
        if n > 0 {
            out.push('\n');
        }
        let told = format!("{}, newest first", count(block.runs.len(), "run"));
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{} · {told}\n",
            paint.bold(&one_line(&block.rehearsal))
        );
        rows(block, paint, &mut out);
        trend(block, &mut out);
    }
    out
}

fn rows(block: &Block, paint: Paint, out: &mut String) {
    let rows: Vec<[String; 8]> = block
        .runs
        .iter()
        .enumerate()
        .map(|(n, shown)| {
            let before = block.runs[n + 1..].iter().map(|shown| &shown.entry);
            let before = before
                .chain(&block.before)
                .find(|entry| !entry.backups.is_empty());
            cells(shown, before)
        })
        .collect();
    let width = |column: usize| {
        let all = rows.iter().map(|row| row[column].chars().count());
        all.chain([HEAD[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let line = |cells: &[&str]| {
        let padded: Vec<String> = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    let _ = writeln!(out, "{}", paint.dim(&line(&HEAD)));
    for (shown, row) in block.runs.iter().zip(&rows) {
        let cells: Vec<&str> = row.iter().map(String::as_str).collect();
        let text = line(&cells);
        let entry = &shown.entry;
        let text = match entry.outcome {
            Some(Outcome::Passed) if !entry.stuck && !entry.assisted => text,
            Some(Outcome::Failed) => paint.bad(&text),
            Some(Outcome::Passed | Outcome::Invalid) => paint.doubt(&text),
            None if shown.standing == Standing::Running => paint.dim(&text),
            None => paint.doubt(&text),
        };
        let _ = writeln!(out, "{text}");
        if let Some(why) = why(shown) {
            let _ = writeln!(out, "  {}", paint.dim(&clip(&one_line(&why), 116)));
        }
    }
}

/// What a reader asks next where a run is not simply passed.
fn why(shown: &Shown) -> Option<String> {
    let entry = &shown.entry;
    // The sentence comes last: it may be long, and what stands behind it would be cut off.
    let mut said = Vec::new();
    if entry.stuck {
        said.push("the rollback is stuck".to_owned());
    }
    if entry.assisted {
        said.push("a person had a shell in staging".to_owned());
    }
    if entry.notified == Some(false) {
        said.push("nobody could be notified".to_owned());
    }
    match (entry.outcome, shown.standing) {
        (Some(Outcome::Passed), _) => {}
        (Some(_), _) if entry.interrupted => said.push("interrupted".to_owned()),
        (Some(_), _) => said.push(format!(
            "{}: {}",
            entry.owner.as_deref().unwrap_or("nobody"),
            entry.reason.as_deref().unwrap_or_default()
        )),
        (None, Standing::Died) => {
            said.push("it was killed, or this machine went down: it counts for nothing".to_owned());
        }
        (None, Standing::Unknown) => {
            said.push(
                "no end was recorded, and it ran on another machine or in another container"
                    .to_owned(),
            );
        }
        (None, Standing::Running | Standing::Finished) => {}
    }
    (!said.is_empty()).then(|| said.join(" · "))
}

fn cells(shown: &Shown, before: Option<&Entry>) -> [String; 8] {
    let entry = &shown.entry;
    let none = || "–".to_owned();
    let oldest = entry
        .backups
        .iter()
        .filter_map(|backup| age(entry, backup))
        .max();
    let size = total(entry);
    let change = size
        .zip(before.and_then(total))
        .map(|(now, then)| change(now, then));
    let took: Vec<f64> = entry
        .backups
        .iter()
        .filter_map(|backup| backup.seconds)
        .collect();
    let reused = entry.backups.iter().all(|backup| backup.reused);
    let restore = match took.is_empty() {
        true => none(),
        false if reused => format!("{} reused", seconds(took.iter().sum())),
        false => seconds(took.iter().sum()),
    };
    [
        entry.started.strftime("%Y-%m-%d %H:%M").to_string(),
        entry.mode.name().to_owned(),
        entry
            .outcome
            .map_or(shown.standing.name(), Outcome::name)
            .to_owned(),
        oldest.map_or_else(none, long),
        size.map_or_else(none, bytes),
        change.unwrap_or_else(none),
        restore,
        one_line(&entry.run),
    ]
}

/// All backups of a run together.
fn total(entry: &Entry) -> Option<u64> {
    let sizes = entry.backups.iter().map(|backup| backup.size);
    (!entry.backups.is_empty()).then(|| sizes.fold(0, u64::saturating_add))
}

fn change(now: u64, then: u64) -> String {
    if now == then {
        return "=".to_owned();
    }
    if then == 0 {
        return "from 0".to_owned();
    }
    let percent = (now as f64 / then as f64 - 1.0) * 100.0;
    let digits = usize::from(percent.abs() < 9.95);
    match format!("{percent:+.digits$} %") {
        small if small.starts_with("+0.0 ") || small.starts_with("-0.0 ") => "<0.1 %".to_owned(),
        text => text,
    }
}

/// `4 h 02 min`, `3 d 04 h`; a time ahead of the clock keeps its sign.
fn long(secs: i64) -> String {
    let whole = secs.unsigned_abs();
    let text = match whole {
        0..60 => format!("{whole} s"),
        60..3_600 => format!("{} min", whole / 60),
        3_600..172_800 => format!("{} h {:02} min", whole / 3_600, whole / 60 % 60),
        _ => format!("{} d {:02} h", whole / 86_400, whole / 3_600 % 24),
    };
    if secs < 0 { format!("-{text}") } else { text }
}

/// How size and restore time of each backup went, the oldest first. Restores that were used again took no time, and
/// runs that are not passed do not count: a cut backup is no trend.
fn trend(block: &Block, out: &mut String) {
    let mut restores: Vec<&str> = Vec::new();
    let passed: Vec<&BackupRow> = block
        .runs
        .iter()
        .rev()
        .filter(|shown| shown.entry.outcome == Some(Outcome::Passed))
        .flat_map(|shown| &shown.entry.backups)
        .collect();
    for backup in &passed {
        if !restores.contains(&backup.restore.as_str()) {
            restores.push(&backup.restore);
        }
    }
    let mut lines = Vec::new();
    for restore in restores {
        let of = || passed.iter().filter(|backup| backup.restore == restore);
        let sizes: Vec<f64> = of().map(|backup| backup.size as f64).collect();
        let times: Vec<f64> = of()
            .filter(|backup| !backup.reused)
            .filter_map(|backup| backup.seconds)
            .collect();
        let as_bytes = |size: f64| bytes(size as u64);
        for (what, figures, told) in [
            ("size", &sizes, &as_bytes as &dyn Fn(f64) -> String),
            ("restore", &times, &seconds),
        ] {
            if let [first, .., last] = figures[..] {
                let name = clip(&one_line(restore), 24);
                let line = sparkline(figures);
                lines.push(format!(
                    "{name:<24}  {what:<7}  {line}  {} → {}",
                    told(first),
                    told(last)
                ));
            }
        }
    }
    if !lines.is_empty() {
        let _ = writeln!(
            out,
            "\npassed runs, oldest to newest, from zero up\n{}",
            lines.join("\n")
        );
    }
}

/// One bar a figure, its height from zero up, so that half is seen to be half.
fn sparkline(figures: &[f64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = figures.iter().copied().fold(0.0, f64::max);
    let bar = |figure: &f64| {
        let share = if most > 0.0 {
            (figure / most).clamp(0.0, 1.0)
        } else {
            0.0
        };
        BARS[((share * 8.0).ceil() as usize).clamp(1, 8) - 1]
    };
    figures.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::*;
    use crate::event::Mode;

    /// A run of a night, with one backup of this size.
    fn night(day: i64, outcome: Option<Outcome>, size: u64, secs: f64) -> Entry {
        let started = "2026-11-01T04:00:00Z".parse::<Timestamp>().unwrap()
            + SignedDuration::from_hours(24 * day);
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
        assert!(
            lines[5].starts_with("nobody could be notified · backup: the dump is cut: so it is")
        );
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
}
