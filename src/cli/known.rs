//! Which runs there are, and which one somebody means.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{USAGE, say};
use crate::report::record::Record;

/// The newest run.
pub(super) const LATEST: &str = "latest";

/// How many names an error shows.
const SHOWN: usize = 8;

/// The ids of the runs below a report folder, the oldest first.
pub(super) fn runs(report_dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(report_dir.join("runs"));
    let mut runs: Vec<String> = entries
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    runs.sort_by(|a, b| begun(a).cmp(&begun(b)));
    runs
}

/// The time in a run's id, which ends with date, time and four random digits.
pub(super) fn begun(run: &str) -> (&str, &str, &str) {
    let mut parts = run.rsplitn(4, '-');
    let (digits, time, date) = (parts.next(), parts.next(), parts.next());
    (
        date.unwrap_or_default(),
        time.unwrap_or_default(),
        digits.unwrap_or_default(),
    )
}

/// Where a run lies.
pub(super) fn folder(report_dir: &Path, run: &str) -> PathBuf {
    report_dir.join("runs").join(run)
}

/// The run that somebody means: its id, as much of its beginning as is unique, or `latest`. `runs` are in order of time.
///
/// # Errors
/// One sentence, and what there is.
pub(super) fn meant<'a>(wanted: &str, runs: &'a [String]) -> Result<&'a String, (String, String)> {
    if let Some(exact) = runs.iter().find(|run| *run == wanted) {
        return Ok(exact);
    }
    if wanted == LATEST {
        return runs
            .last()
            .ok_or_else(|| ("there is no run yet".to_owned(), list(&[])));
    }
    let found: Vec<&String> = runs
        .iter()
        .filter(|run| !wanted.is_empty() && run.starts_with(wanted))
        .collect();
    match found[..] {
        [one] => Ok(one),
        [] => Err((
            format!("there is no run `{wanted}`"),
            list(&runs.iter().collect::<Vec<_>>()),
        )),
        _ => Err((
            format!("`{wanted}` is the beginning of {} runs", found.len()),
            list(&found),
        )),
    }
}

/// The newest names.
fn list(runs: &[&String]) -> String {
    if runs.is_empty() {
        return "name the folder of its reports with --report-dir, if it is another one".to_owned();
    }
    let newest: Vec<&str> = runs
        .iter()
        .rev()
        .take(SHOWN)
        .map(|run| run.as_str())
        .collect();
    let more = if runs.len() > SHOWN { ", …" } else { "" };
    format!("there is {}{more}", newest.join(", "))
}

/// A run of a report folder, with what somebody wrote on the command line; what goes wrong is said.
pub(super) fn find(report_dir: &Path, wanted: &str) -> Result<(String, PathBuf), ExitCode> {
    let runs = runs(report_dir);
    match meant(wanted, &runs) {
        Ok(run) => Ok((run.clone(), folder(report_dir, run))),
        Err((error, help)) => {
            say::error(error, Some(&help));
            Err(ExitCode::from(USAGE))
        }
    }
}

/// The record of a run, as far as there is one: of a run that wrote none, what its events tell.
pub(super) fn record(dir: &Path) -> Result<Record, String> {
    Record::read(dir).or_else(|error| {
        let cause = std::error::Error::source(&error);
        let said = cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
        let events = crate::report::files::read_events(dir).map_err(|_| said.clone())?;
        let mut record = Record::of(&events).ok_or(said)?;
        record.finished = None;
        record.exit_code = None;
        Ok(record.marked_by(dir))
    })
}

/// The run that made the staging in which a run worked.
pub(super) fn staging_of(record: &Record) -> &str {
    record
        .taken_over
        .as_ref()
        .map_or(&record.run, |taken_over| &taken_over.origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_meant_by_as_much_as_is_unique() {
        let mut runs: Vec<String> = [
            "site-20261121-184700-00ab",
            "shop-b-20261121-190000-ffff",
            "site-20261120-000000-ffff",
        ]
        .map(str::to_owned)
        .to_vec();
        runs.sort_by(|a, b| begun(a).cmp(&begun(b)));
        assert_eq!(runs[0], "site-20261120-000000-ffff");
        for (wanted, expected) in [
            ("latest", Ok("shop-b-20261121-190000-ffff")),
            ("shop", Ok("shop-b-20261121-190000-ffff")),
            ("site-20261121", Ok("site-20261121-184700-00ab")),
            ("site-20261121-184700-00ab", Ok("site-20261121-184700-00ab")),
            ("site", Err("beginning of 2")),
            ("", Err("no run")),
            ("other", Err("no run")),
        ] {
            match (meant(wanted, &runs), expected) {
                (Ok(seen), Ok(expected)) => assert_eq!(seen, expected, "{wanted}"),
                (Err((seen, _)), Err(word)) => assert!(seen.contains(word), "{wanted}: {seen}"),
                (seen, expected) => panic!("{wanted}: {seen:?}, not {expected:?}"),
            }
        }
        assert!(meant("latest", &[]).is_err());
    }
}
