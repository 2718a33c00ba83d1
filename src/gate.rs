//! Whether exactly this package was rehearsed: a pure decision over records.
//!
//! The gate trusts no single word of a record. A record opens it only where verdict, stages, counts and exit code say
//! the same; anything that is missing shuts it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};

use crate::event::{Event, Mode, Stage};
use crate::report::files::EVENTS;
use crate::report::record::Record;
use crate::verdict::{Outcome, PathEnd, Rollback, StageEnd, needed};

#[cfg(test)]
mod tests;

/// What is asked of the gate.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// `sha256:<hex>` of the package that wants to pass.
    pub digest: &'a str,
    /// Its name, which serves only to say that another build of it was rehearsed.
    pub name: Option<&'a str>,
    /// Only this rehearsal counts.
    pub rehearsal: Option<&'a str>,
    /// The rehearsal must have finished within this.
    pub max_age: Option<SignedDuration>,
}

/// What the gate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Exactly this package passed.
    Open {
        /// The run that shows it.
        run: String,
    },
    /// It was rehearsed, and that does not let it through.
    Shut {
        /// Why, one sentence each; at least one.
        reasons: Vec<String>,
    },
    /// Nobody rehearsed it.
    Unknown {
        /// What is known, one sentence.
        reason: String,
        /// How to get a record.
        help: String,
    },
}

impl Decision {
    /// 0 open, 1 shut, 2 unknown.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Open { .. } => 0,
            Self::Shut { .. } => 1,
            Self::Unknown { .. } => 2,
        }
    }
}

/// Decides. Of each rehearsal of this package only the newest run counts, whatever an older one said; where several
/// rehearsals know the package and none is picked, each of them may shut the gate.
pub fn decide(records: &[Record], asked: &Asked<'_>, now: Timestamp) -> Decision {
    let mut newest: BTreeMap<&str, &Record> = BTreeMap::new();
    for record in records.iter().filter(|r| concerns(r, asked)) {
        newest
            .entry(&record.rehearsal)
            .and_modify(|known| {
                if (record.started, &record.run) > (known.started, &known.run) {
                    *known = record;
                }
            })
            .or_insert(record);
    }
    if newest.is_empty() {
        return unknown(records, asked);
    }
    let mut shut = Vec::new();
    let mut stale = Vec::new();
    let mut open: Option<&Record> = None;
    for record in newest.values() {
        let reasons = doubts(record);
        let age = too_old(record, asked.max_age, now);
        if reasons.is_empty() && age.is_none() {
            open = Some(open.map_or(record, |known| {
                if record.started > known.started {
                    record
                } else {
                    known
                }
            }));
        }
        shut.extend(reasons);
        stale.extend(age);
    }
    match open {
        Some(record) if shut.is_empty() => Decision::Open {
            run: record.run.clone(),
        },
        Some(_) | None => {
            shut.extend(stale);
            Decision::Shut { reasons: shut }
        }
    }
}

fn concerns(record: &Record, asked: &Asked<'_>) -> bool {
    record.mode == Mode::Rehearse
        && record
            .package
            .as_ref()
            .is_some_and(|p| p.digest == asked.digest)
        && asked
            .rehearsal
            .is_none_or(|wanted| wanted == record.rehearsal)
}

/// Everything that keeps a record from opening the gate, its age apart.
fn doubts(record: &Record) -> Vec<String> {
    let run = &record.run;
    let mut doubts = Vec::new();
    let mut doubt = |holds: bool, text: String| {
        if holds {
            doubts.push(text);
        }
    };
    let outcome = record.verdict.outcome;
    doubt(
        outcome != Outcome::Passed,
        format!(
            "run {run} says {}: {}",
            outcome.name(),
            record.verdict.reason
        ),
    );
    doubt(
        record.finished.is_none(),
        format!("run {run} of this package was broken off, or is not over yet"),
    );
    doubt(
        record
            .finished
            .is_some_and(|finished| finished < record.started),
        format!("run {run} finished before it started"),
    );
    doubt(
        record.assisted || record.verdict.assisted,
        format!("run {run} was assisted: somebody had a shell in it"),
    );
    let package = record.package.as_ref();
    let untried = package.map_or(&[][..], |package| &package.what_ifs_left_out);
    doubt(
        !untried.is_empty(),
        format!(
            "run {run} was told not to try what its rehearsal requires: {}",
            untried.join(", ")
        ),
    );
    let left_out = package.map_or(&[][..], |package| &package.left_out);
    doubt(
        !left_out.is_empty(),
        format!(
            "run {run} deployed a part of the package only, without {}",
            left_out.join(", ")
        ),
    );
    doubt(
        record.verdict.interrupted,
        format!("run {run} was interrupted"),
    );
    match &record.verdict.rollback {
        Rollback::Proved { .. } => {}
        Rollback::NotReached => doubt(true, format!("run {run} did not prove its rollback")),
        Rollback::Stuck { reason } => doubt(
            true,
            format!("the rollback of run {run} is stuck: {reason}"),
        ),
    }
    // A record that contradicts itself was edited, or made by a version with a defect.
    if doubts.is_empty() {
        doubts.extend(contradiction(record));
    }
    doubts
}

fn contradiction(record: &Record) -> Option<String> {
    let run = &record.run;
    if record.exit_code != Some(0) {
        return Some(format!("run {run} says passed, but its exit code does not"));
    }
    let counted = |stage: &Stage| {
        let what_if = *stage == Stage::WhatIf && record.what_ifs.is_some();
        needed(Mode::Rehearse).contains(stage) || *stage == Stage::Rollback || what_if
    };
    for stage in Stage::ALL.iter().filter(|stage| counted(stage)) {
        let ends: Vec<_> = record
            .stages
            .iter()
            .filter(|s| s.stage == *stage)
            .map(|s| &s.end)
            .collect();
        if ends.is_empty() || ends.iter().any(|end| **end != StageEnd::Ok) {
            return Some(format!(
                "run {run} says passed, but its stage {stage} was not seen to end ok"
            ));
        }
    }
    let bad = record
        .suites
        .iter()
        .find(|s| counted(&s.stage) && s.failed + s.errors > 0);
    let path = record
        .what_ifs
        .iter()
        .flat_map(|what_ifs| &what_ifs.paths)
        .find(|path| !path.advisory && path.end != PathEnd::Passed);
    bad.map(|suite| {
        format!(
            "run {run} says passed, but suite {} has failures",
            suite.suite
        )
    })
    .or_else(|| {
        path.map(|path| {
            format!(
                "run {run} says passed, but its path `{}` {}",
                path.path,
                path.end.says()
            )
        })
    })
}

fn too_old(record: &Record, max_age: Option<SignedDuration>, now: Timestamp) -> Option<String> {
    let finished = record.finished?;
    let age = now.duration_since(finished);
    let run = &record.run;
    if age.is_negative() {
        return Some(format!(
            "run {run} finished in the future, at {finished}: one of the clocks is wrong"
        ));
    }
    let most = max_age?;
    // Nobody reads fractions of a second in an age; the decision itself keeps them.
    let told = SignedDuration::from_secs(age.as_secs());
    (age > most).then(|| {
        format!("run {run} is too old: it finished {told:#} ago, and at most {most:#} is allowed")
    })
}

fn unknown(records: &[Record], asked: &Asked<'_>) -> Decision {
    let digest = asked.digest;
    let of = asked
        .rehearsal
        .map(|r| format!(" by rehearsal `{r}`"))
        .unwrap_or_default();
    let mut reason = format!("no run of this package ({digest}) is on record{of}");
    let same_name = |r: &&Record| {
        r.mode == Mode::Rehearse
            && r.package
                .as_ref()
                .is_some_and(|p| p.digest != digest && asked.name == Some(p.name.as_str()))
    };
    let elsewhere = |r: &&Record| {
        r.package.as_ref().is_some_and(|p| p.digest == digest) && r.mode == Mode::Rehearse
    };
    if let Some(other) = records.iter().filter(elsewhere).max_by_key(|r| r.started) {
        reason += &format!(
            "; rehearsal `{}` knows it, in run {}",
            other.rehearsal, other.run
        );
    } else if let Some(other) = records.iter().filter(same_name).max_by_key(|r| r.started) {
        let package = other.package.as_ref();
        let (name, digest) = package.map_or(("", ""), |p| (p.name.as_str(), p.digest.as_str()));
        reason += &format!(
            "; another `{name}` was rehearsed in run {}, with digest {digest}",
            other.run
        );
    }
    Decision::Unknown {
        reason,
        help: "rehearse it first, with `rehearse run REHEARSAL --package PACKAGE` and the same --report-dir".to_owned(),
    }
}

/// Reads the records of all runs below a report folder, oldest folder name first, with a warning for each run that has
/// none to be read. What is known of such a run is folded from its events, as a run that never ended: it cannot open
/// the gate, and must not leave it to an older one. Only a run with neither counts as if it had never been.
pub fn load_records(report_dir: &Path) -> (Vec<Record>, Vec<String>) {
    let mut records = Vec::new();
    let mut warnings = Vec::new();
    let runs = report_dir.join("runs");
    let entries = match fs::read_dir(&runs) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return (records, warnings),
        Err(error) => {
            warnings.push(format!("cannot read `{}`: {error}", runs.display()));
            return (records, warnings);
        }
    };
    let mut folders = Vec::new();
    for entry in entries {
        match entry {
            Ok(entry) if entry.path().is_dir() => folders.push(entry.path()),
            Ok(_) => {}
            Err(error) => warnings.push(format!("cannot read `{}`: {error}", runs.display())),
        }
    }
    folders.sort();
    for folder in folders {
        let record = Record::read(&folder).or_else(|error| {
            let cause = std::error::Error::source(&error)
                .map(|e| format!(": {e}"))
                .unwrap_or_default();
            let warning = format!("{error}{cause}");
            match broken_off(&folder) {
                Some(record) => {
                    warnings.push(warning);
                    Ok(record)
                }
                None => Err(warning),
            }
        });
        match record {
            // A record in another run's folder was carried there by hand.
            Ok(record) if folder.file_name().is_none_or(|name| *name != *record.run) => {
                warnings.push(format!(
                    "`{}` holds the record of another run, {}",
                    folder.display(),
                    record.run
                ));
            }
            Ok(record) => records.push(record),
            Err(warning) => warnings.push(warning),
        }
    }
    (records, warnings)
}

/// The record of a run that wrote none, as far as its events tell. A line that cannot be read is passed over: the last
/// one is cut where the run was killed, and more events can only tell more of a run that is shut out anyway.
fn broken_off(folder: &Path) -> Option<Record> {
    let text = fs::read(folder.join(EVENTS)).ok()?;
    let events: Vec<Event> = text
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect();
    let mut record = Record::of(&events)?;
    // The record is what a run writes last. Whatever the events say, this one did not get there.
    record.finished = None;
    record.exit_code = None;
    Some(record.marked_by(folder))
}
