//! How far a restore has come.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::said::Speaker;
use crate::event::{EventKind, Stage};
use crate::report::Recorder;
use crate::restore::Toolbox;

/// Between two words about it.
const PAUSE: Duration = Duration::from_millis(250);

/// Counts the tables whose rows a restore has come to.
pub(super) struct Progress {
    recorder: Arc<Recorder>,
    what: String,
    total: Option<u64>,
    done: u64,
    told: (u64, Instant),
}

impl Progress {
    pub(super) fn new(tool: &Toolbox<'_>, what: String, total: Option<u64>) -> Self {
        Self {
            recorder: Arc::clone(&tool.staging.ground.recorder),
            what: format!("restore {what}"),
            total,
            done: 0,
            told: (0, Instant::now()),
        }
    }

    /// Sees one line of the tool.
    pub(super) fn see(&mut self, speaker: Speaker, line: &str) {
        if !is_table(speaker, line) {
            return;
        }
        self.done += 1;
        if self.told.1.elapsed() >= PAUSE {
            self.tell();
        }
    }

    /// The tool has ended.
    pub(super) fn end(&mut self) {
        if self.done > self.told.0 {
            self.tell();
        }
    }

    fn tell(&mut self) {
        self.told = (self.done, Instant::now());
        self.recorder.emit(EventKind::Progress {
            stage: Stage::Restore,
            what: self.what.clone(),
            done: self.done,
            total: self.total,
            unit: "tables".to_owned(),
        });
    }
}

fn is_table(speaker: Speaker, line: &str) -> bool {
    match speaker {
        Speaker::PgRestore => line.starts_with("pg_restore: processing data for table "),
        Speaker::Psql => line
            .strip_prefix("COPY ")
            .is_some_and(|rows| rows.parse::<u64>().is_ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_counted_and_nothing_else() {
        for (speaker, line, counts) in [
            (
                Speaker::PgRestore,
                "pg_restore: processing data for table \"public.a\"",
                true,
            ),
            (
                Speaker::PgRestore,
                "pg_restore: finished item 3432 TABLE DATA a",
                false,
            ),
            (Speaker::Psql, "COPY 412", true),
            (Speaker::Psql, "COPY", false),
            (Speaker::Psql, "CREATE TABLE", false),
        ] {
            assert_eq!(is_table(speaker, line), counts, "{line}");
        }
    }
}
