//! What can be said of restored files of no known kind.

use super::Subject;
use super::repository::{CHECKED, RESTORED};
use crate::check::ladder::{Finding, Rung};
use crate::plan::model::Method;

/// The rungs that files can climb, with the true reason for each that they cannot.
pub(super) fn examine(subject: Subject<'_>) -> Vec<Finding> {
    let told = |fact: &str| subject.told.get(fact).map(String::as_str);
    let is_repository = matches!(
        subject.job.restore.method,
        Method::Restic(_) | Method::Borg(_)
    );
    let shown = |rung: Rung, fact: &str| match told(fact) {
        Some(figure) => Finding::holds(rung, figure),
        None if is_repository => Finding::unknown(rung, "the restore did not say what it checked"),
        None => Finding::skipped(rung, without(rung)),
    };
    let mut findings = vec![
        shown(Rung::Readable, RESTORED),
        shown(Rung::Checksums, CHECKED),
    ];
    for rung in [
        Rung::Version,
        Rung::Collation,
        Rung::Indexes,
        Rung::Rows,
        Rung::Sequences,
        Rung::Constraints,
        Rung::Files,
        Rung::Writes,
    ] {
        findings.push(Finding::skipped(rung, "these are files, not a database"));
    }
    findings
}

const fn without(rung: Rung) -> &'static str {
    match rung {
        Rung::Readable => {
            "they were all read when they were unpacked, and nothing else is known of them"
        }
        _ => "this kind of backup records no checksum of what is in it",
    }
}
