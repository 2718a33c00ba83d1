//! The ladder of validity: what has to be true of a backup before it may be called valid, rung by rung.
//!
//! A rung that did not run is skipped with its reason and never counts as passed; `require:` in the rehearsal names the
//! rungs that must have run. The order is the order in which they are reported.

use serde::{Deserialize, Serialize};

/// A rung of the ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rung {
    /// Exactly this artefact was looked at: it is named and hashed, and its recorded digest holds.
    Named,
    /// Its size is plausible beside its own history.
    Size,
    /// It is complete as far as its format can tell: trailer, table of contents, manifest, WAL without gaps.
    Complete,
    /// It restores with zero unexplained errors within its time.
    Restores,
    /// The server starts on what was restored, and recovers.
    Starts,
    /// Its data is not older than `max_age`.
    Fresh,
    /// The server has the same major version as the backup's.
    Version,
    /// The collations have the versions with which the indexes were built.
    Collation,
    /// Every table can be read from its first row to its last.
    Readable,
    /// The checksums of all pages hold.
    Checksums,
    /// Indexes agree with their tables.
    Indexes,
    /// Exact row counts meet `expect:` or the source's manifest.
    Rows,
    /// Sequences are at or past their columns' maxima.
    Sequences,
    /// Foreign keys hold, and so do the rehearsal's invariants.
    Constraints,
    /// Files that the database names are in the file restore.
    Files,
    /// What was restored accepts writes.
    Writes,
}

impl Rung {
    /// All of them, from the bottom up.
    pub const ALL: [Self; 16] = [
        Self::Named,
        Self::Size,
        Self::Complete,
        Self::Restores,
        Self::Starts,
        Self::Fresh,
        Self::Version,
        Self::Collation,
        Self::Readable,
        Self::Checksums,
        Self::Indexes,
        Self::Rows,
        Self::Sequences,
        Self::Constraints,
        Self::Files,
        Self::Writes,
    ];

    /// The name used in `require:`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Named => "named",
            Self::Size => "size",
            Self::Complete => "complete",
            Self::Restores => "restores",
            Self::Starts => "starts",
            Self::Fresh => "fresh",
            Self::Version => "version",
            Self::Collation => "collation",
            Self::Readable => "readable",
            Self::Checksums => "checksums",
            Self::Indexes => "indexes",
            Self::Rows => "rows",
            Self::Sequences => "sequences",
            Self::Constraints => "constraints",
            Self::Files => "files",
            Self::Writes => "writes",
        }
    }

    /// What a reader of the report learns when it holds: the name of the test case, after the restore's name.
    pub const fn says(self) -> &'static str {
        match self {
            Self::Named => "the backup is named and hashed",
            Self::Size => "the size is plausible",
            Self::Complete => "the backup is whole",
            Self::Restores => "restores without errors",
            Self::Starts => "the server starts and recovers",
            Self::Fresh => "the data is fresh",
            Self::Version => "the major version is the same",
            Self::Collation => "the collation versions are the same",
            Self::Readable => "every table can be read",
            Self::Checksums => "the page checksums hold",
            Self::Indexes => "the indexes agree with the tables",
            Self::Rows => "the row counts are exact",
            Self::Sequences => "the sequences are past their columns",
            Self::Constraints => "foreign keys and invariants hold",
            Self::Files => "files named in the database are there",
            Self::Writes => "accepts writes",
        }
    }
}

impl std::fmt::Display for Rung {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// How the name of a case of the negative control ends: the restore's name, a colon and the damage stand before it.
pub const SEEN_TO_BE_BAD: &str = " is seen to be bad";

/// What was seen of one rung.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Which.
    pub rung: Rung,
    /// How it ended.
    pub seen: Seen,
    /// Seconds that looking took.
    pub seconds: f64,
}

/// How one rung ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It holds; the figure that shows it, where there is one: `11 tables, 15 607 rows`.
    Holds(Option<String>),
    /// It does not hold, and the backup is at fault: one sentence.
    Broken(String),
    /// It could not be determined, and the backup is not to blame: one sentence, and what to do.
    Unknown(String, Option<String>),
    /// It was not looked at: why.
    Skipped(String),
}

impl Finding {
    /// Without a duration.
    pub const fn new(rung: Rung, seen: Seen) -> Self {
        Self {
            rung,
            seen,
            seconds: 0.0,
        }
    }

    /// It holds, as the figure shows.
    pub fn holds(rung: Rung, figure: impl Into<String>) -> Self {
        Self::new(rung, Seen::Holds(Some(figure.into())))
    }

    /// It does not hold, and the backup is at fault.
    pub fn broken(rung: Rung, reason: impl Into<String>) -> Self {
        Self::new(rung, Seen::Broken(reason.into()))
    }

    /// It was not looked at.
    pub fn skipped(rung: Rung, reason: impl Into<String>) -> Self {
        Self::new(rung, Seen::Skipped(reason.into()))
    }

    /// It could not be determined.
    pub fn unknown(rung: Rung, reason: impl Into<String>) -> Self {
        Self::new(rung, Seen::Unknown(reason.into(), None))
    }
}

/// The required rungs of which nothing was seen that decides them, in the ladder's order: `require:` is not met.
pub fn not_run(required: &[Rung], findings: &[Finding]) -> Vec<Rung> {
    let decided = |rung: Rung| {
        findings.iter().any(|finding| {
            finding.rung == rung && matches!(finding.seen, Seen::Holds(_) | Seen::Broken(_))
        })
    };
    Rung::ALL
        .into_iter()
        .filter(|rung| required.contains(rung) && !decided(*rung))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_required_rung_that_was_skipped_or_is_missing_did_not_run() {
        let findings = [
            Finding::holds(Rung::Restores, "11 tables"),
            Finding::skipped(Rung::Checksums, "they are disabled"),
            Finding::unknown(Rung::Rows, "the tool is missing"),
            Finding::broken(Rung::Indexes, "an index lacks a row"),
        ];
        let required = [
            Rung::Writes,
            Rung::Checksums,
            Rung::Restores,
            Rung::Rows,
            Rung::Indexes,
        ];
        assert_eq!(
            not_run(&required, &findings),
            [Rung::Checksums, Rung::Rows, Rung::Writes]
        );
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = Rung::ALL.iter().map(|rung| rung.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Rung::ALL.len());
    }
}
