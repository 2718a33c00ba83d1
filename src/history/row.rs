//! Rows, read and written.

use jiff::Timestamp;
use rusqlite::Row;

use crate::event::{Mode, Owner};
use crate::report::record::Record;
use crate::verdict::{Outcome, Rollback, Verdict};

/// A run in the history.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its id.
    pub run: String,
    /// The rehearsal's name.
    pub rehearsal: String,
    /// The rehearsal's file, as given.
    pub file: String,
    /// What it was for.
    pub mode: Mode,
    /// When it began.
    pub started: Timestamp,
    /// The process that ran it, in the spelling of whoever began it.
    pub process: String,
    /// When it ended; `None` of a run that goes on or died.
    pub finished: Option<Timestamp>,
    /// Its verdict, where it ended.
    pub outcome: Option<Outcome>,
    /// Who was at fault.
    pub owner: Option<String>,
    /// The stage that decided.
    pub stage: Option<String>,
    /// The verdict's sentence.
    pub reason: Option<String>,
    /// The process's exit code.
    pub exit_code: Option<u8>,
    /// Whether its rollback got stuck.
    pub stuck: bool,
    /// Whether a person broke it off.
    pub interrupted: bool,
    /// Whether a person had a shell in staging.
    pub assisted: bool,
    /// Whether a notification reached its receiver; `None` where none was to be sent.
    pub notified: Option<bool>,
    /// Its backups, by the restores' names.
    pub backups: Vec<BackupRow>,
}

/// A backup of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct BackupRow {
    /// The restore's name.
    pub restore: String,
    /// What it is; `None` where the run ended before it was restored.
    pub format: Option<String>,
    /// `sha256:<hex>`.
    pub digest: Option<String>,
    /// Bytes.
    pub size: u64,
    /// Seconds that its restore took; `None` where it was not restored.
    pub seconds: Option<f64>,
    /// The time of its newest data, where that could be told.
    pub as_of: Option<Timestamp>,
    /// True when an identical earlier restore served.
    pub reused: bool,
}

/// An earlier verdict of the same rehearsal and mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The run.
    pub run: String,
    /// When it ended.
    pub finished: Timestamp,
    /// Its outcome.
    pub outcome: Outcome,
    /// Who was at fault.
    pub owner: Option<String>,
    /// Whether its rollback got stuck.
    pub stuck: bool,
}

/// Whether a verdict's rollback got stuck.
pub(super) const fn is_stuck(verdict: &Verdict) -> bool {
    matches!(verdict.rollback, Rollback::Stuck { .. })
}

/// The files of a run that are not backups, by their roles.
const NOT_BACKUPS: [&str; 4] = ["package", "rehearsal", "stack", "testplan"];

/// The backups of a record: those that were restored, and those that were only read because the run ended before.
pub(super) fn backups(record: &Record) -> Vec<BackupRow> {
    let mut found: Vec<BackupRow> = record
        .restores
        .iter()
        .map(|restore| BackupRow {
            restore: restore.restore.clone(),
            format: Some(restore.format.clone()),
            digest: record
                .artefacts
                .iter()
                .find(|file| file.role == restore.restore && file.size == restore.size)
                .map(|file| file.digest.clone()),
            size: restore.size,
            seconds: Some(restore.seconds),
            as_of: restore.as_of,
            reused: restore.reused,
        })
        .collect();
    for file in &record.artefacts {
        let known = found.iter().any(|backup| backup.restore == file.role);
        if known || NOT_BACKUPS.contains(&file.role.as_str()) {
            continue;
        }
        found.push(BackupRow {
            restore: file.role.clone(),
            format: None,
            digest: Some(file.digest.clone()),
            size: file.size,
            seconds: None,
            as_of: None,
            reused: false,
        });
    }
    found
}

fn time(milliseconds: i64) -> Result<Timestamp, String> {
    Timestamp::from_millisecond(milliseconds).map_err(|error| error.to_string())
}

fn mode(name: &str) -> Result<Mode, String> {
    [Mode::Rehearse, Mode::BackupCheck]
        .into_iter()
        .find(|mode| mode.name() == name)
        .ok_or_else(|| format!("`{name}` is no mode"))
}

fn outcome(name: &str) -> Result<Outcome, String> {
    [Outcome::Passed, Outcome::Failed, Outcome::Invalid]
        .into_iter()
        .find(|outcome| outcome.name() == name)
        .ok_or_else(|| format!("`{name}` is no verdict"))
}

/// The columns of [`super::History::list`] in their order.
pub(super) fn entry(row: &Row<'_>) -> rusqlite::Result<Result<Entry, String>> {
    let mode_text: String = row.get(3)?;
    let started: i64 = row.get(4)?;
    let finished: Option<i64> = row.get(6)?;
    let outcome_text: Option<String> = row.get(7)?;
    let entry = Entry {
        run: row.get(0)?,
        rehearsal: row.get(1)?,
        file: row.get(2)?,
        mode: Mode::Rehearse,
        started: Timestamp::UNIX_EPOCH,
        process: row.get(5)?,
        finished: None,
        outcome: None,
        owner: row.get(8)?,
        stage: row.get(9)?,
        reason: row.get(10)?,
        exit_code: row.get(11)?,
        stuck: row.get(12)?,
        interrupted: row.get(13)?,
        assisted: row.get(14)?,
        notified: row.get(15)?,
        backups: Vec::new(),
    };
    let typed = || -> Result<Entry, String> {
        Ok(Entry {
            mode: mode(&mode_text)?,
            started: time(started)?,
            finished: finished.map(time).transpose()?,
            outcome: outcome_text.as_deref().map(outcome).transpose()?,
            ..entry
        })
    };
    Ok(typed())
}

/// The columns of a restore in their order.
pub(super) fn backup(row: &Row<'_>) -> rusqlite::Result<Result<BackupRow, String>> {
    let as_of: Option<i64> = row.get(5)?;
    let backup = BackupRow {
        restore: row.get(0)?,
        format: row.get(1)?,
        digest: row.get(2)?,
        size: u64::try_from(row.get::<_, i64>(3)?).unwrap_or(0),
        seconds: row.get(4)?,
        as_of: None,
        reused: row.get(6)?,
    };
    Ok(as_of
        .map(time)
        .transpose()
        .map(|as_of| BackupRow { as_of, ..backup }))
}

/// The columns of an earlier verdict in their order.
pub(super) fn told(row: &Row<'_>) -> rusqlite::Result<Result<Told, String>> {
    let run = row.get(0)?;
    let finished: i64 = row.get(1)?;
    let outcome_text: String = row.get(2)?;
    let owner = row.get(3)?;
    let stuck = row.get(4)?;
    let typed = || {
        Ok(Told {
            run,
            finished: time(finished)?,
            outcome: outcome(&outcome_text)?,
            owner,
            stuck,
        })
    };
    Ok(typed())
}

impl Told {
    /// Whether a verdict says the same: outcome, who is at fault, and whether the rollback got stuck. The reason's
    /// words do not count: they hold figures that change every night.
    pub fn says(&self, verdict: &Verdict) -> bool {
        self.outcome == verdict.outcome
            && self.owner.as_deref() == verdict.owner.map(Owner::name)
            && self.stuck == is_stuck(verdict)
    }
}
