//! The history of all runs below one report folder, in one SQLite file.
//!
//! A run has its row from its start on, and the rest of it is written at its end, with its whole record, in one
//! transaction: what a crash loses is the run that was running. Nothing here decides a verdict, and nothing here
//! knows an engine or a stage.

mod row;
mod schema;
pub mod size;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, TransactionBehavior, params};

use crate::event::Mode;
use crate::report::record::Record;

pub use row::{BackupRow, Entry, Told};

/// The history's file in the report folder.
pub const FILE: &str = "history.sqlite";

/// How long another run's transaction is waited for. Each takes milliseconds; a slow disk is what this is for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why the history could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// SQLite says why.
    #[error("cannot {what} the history `{}`", .path.display())]
    Sqlite {
        /// `open`, `read` or `write`.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// SQLite's words.
        #[source]
        source: rusqlite::Error,
    },
    /// A later version of `rehearse` has written it.
    #[error(
        "the history `{}` has form {found}; this version of rehearse knows form {known}", .path.display(),
        known = schema::VERSION
    )]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its form.
        found: i64,
    },
    /// A database, but of something else.
    #[error("`{}` is a database, but not a history of rehearse", .path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
    },
    /// A record or row that makes no sense.
    #[error("cannot understand the history `{}`: {problem}", .path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

impl HistoryError {
    /// The error with its cause, in one sentence.
    pub fn sentence(&self) -> String {
        match std::error::Error::source(self) {
            Some(cause) => format!("{self}: {cause}"),
            None => self.to_string(),
        }
    }

    /// What to do about it, where that is known.
    pub fn help(&self) -> Option<&'static str> {
        const AWAY: &str = "move the file away, and the next run makes a new one; record.json of each run is still there";
        match self {
            Self::Sqlite { source, .. } => match source.sqlite_error_code() {
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Some(AWAY),
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                    Some("another process holds it: look with `fuser` who that is")
                }
                Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                    Some("make it and its folder writable for whoever runs rehearse")
                }
                Some(_) | None => None,
            },
            Self::Newer { .. } => Some("use that version of rehearse, or another --report-dir"),
            Self::Foreign { .. } | Self::Malformed { .. } => Some(AWAY),
        }
    }
}

/// An open history. Any number of processes may have it open at once.
#[derive(Debug)]
pub struct History {
    db: Connection,
    path: PathBuf,
}

/// What is known of a run at its start.
#[derive(Clone, Debug)]
pub struct Begun<'a> {
    /// Its id.
    pub run: &'a str,
    /// The rehearsal's name.
    pub rehearsal: &'a str,
    /// The rehearsal's file, as given.
    pub file: &'a Path,
    /// What the run is for.
    pub mode: Mode,
    /// When it began.
    pub started: Timestamp,
    /// The process that runs it, in a spelling by which it can later be found to be gone.
    pub process: &'a str,
}

/// Which runs to list.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// Only those of the rehearsal of this name.
    pub rehearsal: Option<&'a str>,
    /// Only those of this mode.
    pub mode: Option<Mode>,
    /// Only those that began at this time or later.
    pub since: Option<Timestamp>,
    /// At most this many, the newest.
    pub limit: Option<usize>,
}

impl History {
    /// Opens a history for writing; makes the file where there is none. Fails on a file that is damaged, of another
    /// program or of a later form. On a file that may only be read it succeeds, and writing fails later.
    pub fn open(path: &Path) -> Result<Self, HistoryError> {
        let db = Connection::open(path).map_err(|source| HistoryError::Sqlite {
            what: "open",
            path: path.to_owned(),
            source,
        })?;
        let mut history = Self {
            db,
            path: path.to_owned(),
        };
        history
            .db
            .busy_timeout(PATIENCE)
            .map_err(history.cannot("open"))?;
        schema::prepare(&mut history.db, path)?;
        Ok(history)
    }

    /// Opens a history that is there; `None` where no run was recorded yet. Makes no file.
    pub fn open_existing(path: &Path) -> Result<Option<Self>, HistoryError> {
        match path.try_exists() {
            Ok(false) => Ok(None),
            // What cannot be looked at is for SQLite to say.
            Ok(true) | Err(_) => Self::open(path).map(Some),
        }
    }

    fn cannot(&self, what: &'static str) -> impl Fn(rusqlite::Error) -> HistoryError + use<> {
        let path = self.path.clone();
        move |source| HistoryError::Sqlite {
            what,
            path: path.clone(),
            source,
        }
    }

    /// Records that a run has begun.
    pub fn begin(&mut self, begun: &Begun<'_>) -> Result<(), HistoryError> {
        let cannot = self.cannot("write");
        self.db
            .execute(
                "INSERT INTO runs (run, rehearsal, file, mode, started, process) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    begun.run,
                    begun.rehearsal,
                    begun.file.display().to_string(),
                    begun.mode.name(),
                    begun.started.as_millisecond(),
                    begun.process,
                ],
            )
            .map(drop)
            .map_err(cannot)
    }

    /// Records how a run ended, with its whole record, in one transaction. A run whose start could not be recorded is
    /// recorded all the same. Fails where the record is not that of a finished run.
    pub fn complete(&mut self, record: &Record) -> Result<(), HistoryError> {
        let (Some(finished), Some(exit_code)) = (record.finished, record.exit_code) else {
            return Err(self.malformed(format!("run `{}` has not finished", record.run)));
        };
        let whole = serde_json::to_string(record).map_err(|e| self.malformed(e.to_string()))?;
        let verdict = &record.verdict;
        let cannot = self.cannot("write");
        let write = |db: &mut Connection| -> rusqlite::Result<()> {
            // Immediate: a transaction that begins as a reader cannot wait for another writer.
            let change = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            change.execute(
                "INSERT INTO runs (run, rehearsal, file, mode, started, process) VALUES (?1, ?2, ?3, ?4, ?5, '')
                 ON CONFLICT (run) DO NOTHING",
                params![
                    record.run,
                    record.rehearsal,
                    record.file,
                    record.mode.name(),
                    record.started.as_millisecond(),
                ],
            )?;
            change.execute(
                "UPDATE runs SET finished = ?2, outcome = ?3, owner = ?4, stage = ?5, reason = ?6, exit_code = ?7,
                 stuck = ?8, interrupted = ?9, assisted = ?10, record = ?11 WHERE run = ?1",
                params![
                    record.run,
                    finished.as_millisecond(),
                    verdict.outcome.name(),
                    verdict.owner.map(crate::event::Owner::name),
                    verdict.stage.map(crate::event::Stage::name),
                    verdict.reason,
                    exit_code,
                    row::is_stuck(verdict),
                    verdict.interrupted,
                    record.assisted,
                    whole,
                ],
            )?;
            for backup in row::backups(record) {
                change.execute(
                    "INSERT OR REPLACE INTO restores (run, restore, format, digest, size, seconds, as_of, reused)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                    params![
                        record.run,
                        backup.restore,
                        backup.format,
                        backup.digest,
                        i64::try_from(backup.size).unwrap_or(i64::MAX),
                        backup.seconds,
                        backup.as_of.map(Timestamp::as_millisecond),
                        backup.reused,
                    ],
                )?;
            }
            change.commit()
        };
        write(&mut self.db).map_err(cannot)
    }

    /// Records whether a notification of this run's verdict reached its receiver.
    pub fn notified(&mut self, run: &str, delivered: bool) -> Result<(), HistoryError> {
        let cannot = self.cannot("write");
        self.db
            .execute(
                "UPDATE runs SET notified = ?2 WHERE run = ?1",
                params![run, delivered],
            )
            .map(drop)
            .map_err(cannot)
    }

    /// Records that a person had a shell in the staging of this run: it no longer counts as passed.
    pub fn assist(&mut self, run: &str) -> Result<(), HistoryError> {
        let cannot = self.cannot("write");
        self.db
            .execute("UPDATE runs SET assisted = 1 WHERE run = ?1", params![run])
            .map(drop)
            .map_err(cannot)
    }

    /// The sizes in bytes of one restore's backup in the newest runs of a rehearsal that passed unassisted, of any
    /// mode, the newest first; no more than [`size::BESIDE`].
    pub fn sizes(&self, rehearsal: &str, restore: &str) -> Result<Vec<u64>, HistoryError> {
        let read = || -> rusqlite::Result<Vec<u64>> {
            let mut rows = self.db.prepare(
                "SELECT restores.size FROM restores JOIN runs USING (run)
                 WHERE runs.rehearsal = ?1 AND restores.restore = ?2 AND runs.outcome = 'passed' AND runs.assisted = 0
                 ORDER BY runs.finished DESC, runs.rowid DESC LIMIT ?3",
            )?;
            let sizes = rows
                .query_map(params![rehearsal, restore, size::BESIDE as i64], |row| {
                    row.get::<_, i64>(0)
                })?;
            sizes
                .map(|size| size.map(|size| u64::try_from(size).unwrap_or(0)))
                .collect()
        };
        read().map_err(self.cannot("read"))
    }

    /// When the newest passed, unassisted run of this rehearsal and mode finished.
    pub fn last_passed(
        &self,
        rehearsal: &str,
        mode: Mode,
    ) -> Result<Option<Timestamp>, HistoryError> {
        let newest: Option<i64> = self
            .db
            .query_row(
                "SELECT max(finished) FROM runs WHERE rehearsal = ?1 AND mode = ?2 AND outcome = 'passed' AND assisted = 0",
                params![rehearsal, mode.name()],
                |row| row.get(0),
            )
            .map_err(self.cannot("read"))?;
        newest
            .map(|ms| Timestamp::from_millisecond(ms).map_err(|e| self.malformed(e.to_string())))
            .transpose()
    }

    /// The newest finished run of this rehearsal and mode other than `run`. An interrupted run does not count.
    pub fn previous(&self, record: &Record) -> Result<Option<Told>, HistoryError> {
        self.told(record, "")
    }

    /// The newest such run whose verdict is known to have reached the receiver of notifications.
    pub fn last_told(&self, record: &Record) -> Result<Option<Told>, HistoryError> {
        self.told(record, "AND notified = 1")
    }

    fn told(&self, record: &Record, more: &str) -> Result<Option<Told>, HistoryError> {
        let sql = format!(
            "SELECT run, finished, outcome, owner, stuck FROM runs
             WHERE rehearsal = ?1 AND mode = ?2 AND run <> ?3 AND finished IS NOT NULL AND interrupted = 0 {more}
             ORDER BY finished DESC, rowid DESC LIMIT 1"
        );
        let found = self
            .db
            .query_row(
                &sql,
                params![record.rehearsal, record.mode.name(), record.run],
                row::told,
            )
            .optional()
            .map_err(self.cannot("read"))?;
        found
            .map(|told| told.map_err(|problem| self.malformed(problem)))
            .transpose()
    }

    /// Runs, the newest first.
    pub fn list(&self, wanted: &Wanted<'_>) -> Result<Vec<Entry>, HistoryError> {
        let limit = wanted
            .limit
            .map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
        let read = || -> rusqlite::Result<Vec<Result<Entry, String>>> {
            let mut rows = self.db.prepare(
                "SELECT run, rehearsal, file, mode, started, process, finished, outcome, owner, stage, reason, exit_code,
                 stuck, interrupted, assisted, notified FROM runs
                 WHERE (?1 IS NULL OR rehearsal = ?1) AND (?2 IS NULL OR mode = ?2) AND (?3 IS NULL OR started >= ?3)
                 ORDER BY started DESC, rowid DESC LIMIT ?4",
            )?;
            let entries = rows.query_map(
                params![
                    wanted.rehearsal,
                    wanted.mode.map(Mode::name),
                    wanted.since.map(Timestamp::as_millisecond),
                    limit
                ],
                row::entry,
            )?;
            entries.collect()
        };
        let mut entries = read()
            .map_err(self.cannot("read"))?
            .into_iter()
            .collect::<Result<Vec<Entry>, String>>()
            .map_err(|problem| self.malformed(problem))?;
        for entry in &mut entries {
            entry.backups = self.backups_of(&entry.run)?;
        }
        Ok(entries)
    }

    fn backups_of(&self, run: &str) -> Result<Vec<BackupRow>, HistoryError> {
        let read = || -> rusqlite::Result<Vec<Result<BackupRow, String>>> {
            let mut rows = self.db.prepare(
                "SELECT restore, format, digest, size, seconds, as_of, reused FROM restores WHERE run = ?1 ORDER BY restore",
            )?;
            rows.query_map(params![run], row::backup)?.collect()
        };
        read()
            .map_err(self.cannot("read"))?
            .into_iter()
            .collect::<Result<_, String>>()
            .map_err(|problem| self.malformed(problem))
    }

    /// The name that the newest run of a rehearsal's file had.
    pub fn name_of(&self, file: &Path) -> Result<Option<String>, HistoryError> {
        self.db
            .query_row(
                "SELECT rehearsal FROM runs WHERE file = ?1 ORDER BY started DESC, rowid DESC LIMIT 1",
                params![file.display().to_string()],
                |row| row.get(0),
            )
            .optional()
            .map_err(self.cannot("read"))
    }

    /// The names of all rehearsals that have a run here.
    pub fn rehearsals(&self) -> Result<Vec<String>, HistoryError> {
        let read = || -> rusqlite::Result<Vec<String>> {
            let mut rows = self
                .db
                .prepare("SELECT DISTINCT rehearsal FROM runs ORDER BY rehearsal")?;
            rows.query_map([], |row| row.get(0))?.collect()
        };
        read().map_err(self.cannot("read"))
    }

    fn malformed(&self, problem: String) -> HistoryError {
        HistoryError::Malformed {
            path: self.path.clone(),
            problem,
        }
    }
}
