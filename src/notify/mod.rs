//! Notifications: a signed webhook when a verdict changes.
//!
//! The message is a fold over the run's record and the history; signing and retrying are in their own files. Nothing
//! here can change a verdict or an exit code.

pub mod deliver;
pub mod sign;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use serde::Serialize;

use crate::event::Mode;
use crate::history::Told;
use crate::report::record::Record;
use crate::verdict::{Outcome, Rollback};

/// The version of the message's form.
pub const VERSION: u32 = 1;

/// What is posted, as JSON. Its form is documented in `docs/nightly.md`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Message<'a> {
    /// The version of this form.
    pub version: u32,
    /// What happened, in the spelling of Standard Webhooks: always `rehearsal.verdict`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The rehearsal's name.
    pub rehearsal: &'a str,
    /// What the run was for.
    pub mode: Mode,
    /// The run's id.
    pub run: &'a str,
    /// The finished run before it; none where this is the first one, or the history cannot be read.
    pub previous: Option<Previous>,
    /// Passed, failed or invalid.
    pub verdict: Outcome,
    /// Who is at fault.
    pub owner: Option<&'static str>,
    /// The stage that decided.
    pub stage: Option<&'static str>,
    /// The verdict's sentence.
    pub reason: &'a str,
    /// What to do next, where that is known.
    pub help: Option<&'a str>,
    /// The rollback beside the verdict.
    pub rollback: &'a Rollback,
    /// The exit code of the run.
    pub exit_code: Option<u8>,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// The backups that were restored.
    pub backups: Vec<Backup<'a>>,
}

/// The run before the one that is told of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Previous {
    /// Its id.
    pub run: String,
    /// Its verdict.
    pub verdict: Outcome,
    /// Who was at fault.
    pub owner: Option<String>,
    /// When it ended.
    pub finished: Timestamp,
}

/// A backup in a message.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Backup<'a> {
    /// The restore's name.
    pub restore: &'a str,
    /// Bytes.
    pub size: u64,
    /// Seconds that its restore took.
    pub restore_seconds: f64,
    /// The time of its newest data, where that could be told.
    pub data_as_of: Option<Timestamp>,
    /// How old that was when the run began, in seconds.
    pub data_age_seconds: Option<i64>,
}

impl<'a> Message<'a> {
    /// The message about a finished run.
    pub fn new(record: &'a Record, previous: Option<&Told>) -> Self {
        let verdict = &record.verdict;
        Self {
            version: VERSION,
            kind: "rehearsal.verdict",
            rehearsal: &record.rehearsal,
            mode: record.mode,
            run: &record.run,
            previous: previous.map(|told| Previous {
                run: told.run.clone(),
                verdict: told.outcome,
                owner: told.owner.clone(),
                finished: told.finished,
            }),
            verdict: verdict.outcome,
            owner: verdict.owner.map(crate::event::Owner::name),
            stage: verdict.stage.map(crate::event::Stage::name),
            reason: &verdict.reason,
            help: verdict.help.as_deref(),
            rollback: &verdict.rollback,
            exit_code: record.exit_code,
            started: record.started,
            finished: record.finished,
            backups: record
                .restores
                .iter()
                .map(|restore| Backup {
                    restore: &restore.restore,
                    size: restore.size,
                    restore_seconds: restore.seconds,
                    data_as_of: restore.as_of,
                    data_age_seconds: restore
                        .as_of
                        .map(|as_of| record.started.duration_since(as_of).as_secs()),
                })
                .collect(),
        }
    }

    /// Names the message: the same at every try, so that a receiver can see that it has it already.
    pub fn id(&self) -> String {
        format!("rehearse-{}", self.run)
    }
}

/// Whether a finished run is to be told of: its verdict is another one than that of the run before, or than the one
/// that the receiver was last told. So a message that was not delivered is made up for by the next run, changed or
/// not. Where nothing is known, passed is taken to be what everybody expects. An interrupted run says nothing.
pub fn is_due(record: &Record, previous: Option<&Told>, last_told: Option<&Told>) -> bool {
    let verdict = &record.verdict;
    let as_expected =
        verdict.outcome == Outcome::Passed && !matches!(verdict.rollback, Rollback::Stuck { .. });
    let same = |told: Option<&Told>| told.map_or(as_expected, |told| told.says(verdict));
    let known = same(previous) && same(last_told);
    !(verdict.interrupted || known)
}
