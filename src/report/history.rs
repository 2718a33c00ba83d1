//! The history of runs: a table and a trend for people, a document for machines.

mod table;
#[cfg(test)]
mod tests;

use serde_json::{Value, json};

use crate::history::{BackupRow, Entry};

pub use table::table;

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
