//! The table and the trend for people.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::{Block, Shown, Standing, age};
use crate::history::{BackupRow, Entry};
use crate::report::paint::Paint;
use crate::report::text::{bytes, clip, count, one_line, seconds};
use crate::verdict::Outcome;

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

pub(super) fn painted(blocks: &[Block], paint: Paint) -> String {
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
                .find(|entry| !entry.backups.is_empty() && names(entry) == names(&shown.entry));
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

/// Which backups a run tells of. Where one could not be read, the others are no smaller for it.
fn names(entry: &Entry) -> BTreeSet<&str> {
    entry.backups.iter().map(|b| b.restore.as_str()).collect()
}

/// All backups of a run together.
fn total(entry: &Entry) -> Option<u64> {
    let sizes = entry.backups.iter().map(|backup| backup.size);
    (!entry.backups.is_empty()).then(|| sizes.fold(0, u64::saturating_add))
}

pub(super) fn change(now: u64, then: u64) -> String {
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
pub(super) fn long(secs: i64) -> String {
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
pub(super) fn sparkline(figures: &[f64]) -> String {
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
