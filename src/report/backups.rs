//! What a backup check found, in words: the same on a terminal, in a log and on the page.

use crate::report::lines;
use crate::report::record::{BackupCheck, BackupSeen, Became, ComeBack};
use crate::report::text::{bytes, count, one_line, seconds};

/// Characters of a base's address that a person can compare.
const KEY: usize = 12;

/// Could we come back? The word, and what stands behind it.
pub(super) fn come_back(check: &BackupCheck) -> (&'static str, String) {
    let these = match check.backups.len() {
        1 => "this backup",
        _ => "these backups",
    };
    match (check.come_back, check.only_too_old) {
        (ComeBack::Yes, _) => ("yes", format!("from {these}, by all that was looked at")),
        (ComeBack::No, true) => ("NO", "only to data that is older than it may be".to_owned()),
        (ComeBack::No, false) => ("NO", format!("not from {these}")),
        (ComeBack::Unknown, _) if check.backups.is_empty() => {
            ("NOT KNOWN", "the rehearsal restores no backup".to_owned())
        }
        (ComeBack::Unknown, _) => ("NOT KNOWN", format!("this check could not judge {these}")),
    }
}

/// What is said of one backup, a label and a text each.
pub(super) fn told(seen: &BackupSeen) -> Vec<(&'static str, String)> {
    let mut told = vec![
        ("data", data(seen)),
        ("restore", restore(seen)),
        ("size", size(seen)),
        ("base", base(seen)),
    ];
    told.extend(control(seen).map(|text| ("control", text)));
    told
}

/// `db/site · PostgreSQL custom-format dump`.
pub(super) fn name(seen: &BackupSeen) -> String {
    match &seen.format {
        Some(format) => one_line(&format!("{} · {format}", seen.restore)),
        None => one_line(&seen.restore),
    }
}

fn data(seen: &BackupSeen) -> String {
    let limit = seen.max_age_seconds.map_or_else(
        || "no max_age".to_owned(),
        |most| format!("max_age {}", limit(most)),
    );
    match (seen.data_as_of, seen.data_age_seconds, seen.became) {
        (Some(as_of), Some(age), _) => {
            let old = match age {
                0.. => format!("{} old", long(age)),
                ..0 => format!("{} ahead of this clock", long(-age)),
            };
            format!("{old}, {limit} · of {}", lines::minute(as_of))
        }
        (_, _, Became::Restored | Became::Reused) => {
            format!(
                "age not known: the backup does not say it, and there is no data_as_of; {limit}"
            )
        }
        (_, _, Became::Failed | Became::NotDetermined | Became::NotRestored) => {
            format!("age not known: nothing was restored; {limit}")
        }
    }
}

fn restore(seen: &BackupSeen) -> String {
    let limit = format!("limit {}", limit(seen.restore_limit_seconds));
    let took = seen
        .restore_seconds
        .map_or_else(|| "not timed".to_owned(), seconds);
    match seen.became {
        Became::Restored => format!("{took}, {limit}"),
        Became::Reused => format!("{took} at an identical earlier restore, {limit}"),
        Became::Failed => format!("FAILED after {took}, {limit}"),
        Became::NotDetermined => format!("not determined after {took}, {limit}"),
        Became::NotRestored => format!("not reached, {limit}"),
    }
}

fn size(seen: &BackupSeen) -> String {
    let runs = usize::try_from(seen.earlier_runs).unwrap_or(usize::MAX);
    let runs = count(runs, "earlier run");
    match (seen.size, seen.usual_size) {
        (Some(size), Some(usual)) => {
            let percent = (u128::from(size) * 100)
                .checked_div(u128::from(usual))
                .map(|percent| format!("{percent} % of "))
                .unwrap_or_default();
            let (size, usual) = (bytes(size), bytes(usual));
            format!("{size}, {percent}the usual {usual} ({runs})")
        }
        (Some(size), None) => format!("{}, no earlier run to compare with", bytes(size)),
        (None, Some(usual)) => format!("not known, usually {} ({runs})", bytes(usual)),
        (None, None) => "not known".to_owned(),
    }
}

/// What came of the negative control; nothing where none was asked for.
fn control(seen: &BackupSeen) -> Option<String> {
    let copies = |n: u64| {
        count(usize::try_from(n).unwrap_or(usize::MAX), "damaged copy").replace("copys", "copies")
    };
    let (bad, missed, not_tried) = (
        seen.damaged_seen,
        seen.damaged_missed,
        seen.damaged_not_tried,
    );
    let mut said = Vec::new();
    if missed > 0 {
        said.push(format!("{} NOT seen to be bad", copies(missed)));
    }
    if bad > 0 {
        said.push(format!("{} seen to be bad", copies(bad)));
    }
    if not_tried > 0 {
        said.push(format!("{not_tried} could not be made"));
    }
    (!said.is_empty()).then(|| said.join(", "))
}

fn base(seen: &BackupSeen) -> String {
    let key = seen.base.as_deref().map(|key| {
        let key = key.strip_prefix("sha256:").unwrap_or(key);
        key.chars().take(KEY).collect::<String>()
    });
    match (key, seen.became) {
        (Some(key), Became::Reused) => format!("{key}, made by an earlier run"),
        (Some(key), _) => format!("{key}, made by this run"),
        (None, Became::Restored | Became::Reused) => "none: it became an image".to_owned(),
        (None, Became::Failed | Became::NotDetermined | Became::NotRestored) => "none".to_owned(),
    }
}

/// A limit as files write it: `26 h`, `30 min`.
fn limit(secs: u64) -> String {
    match secs {
        0 => "0 s".to_owned(),
        _ if secs.is_multiple_of(86_400) => format!("{} d", secs / 86_400),
        _ if secs.is_multiple_of(3_600) => format!("{} h", secs / 3_600),
        _ if secs.is_multiple_of(60) => format!("{} min", secs / 60),
        _ => format!("{secs} s"),
    }
}

/// `4 h 02 min`, `3 d 04 h`.
fn long(secs: i64) -> String {
    match secs {
        ..120 => format!("{secs} s"),
        120..7_200 => format!("{} min", secs / 60),
        7_200..172_800 => format!("{} h {:02} min", secs / 3_600, secs / 60 % 60),
        _ => format!("{} d {:02} h", secs / 86_400, secs / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests;
