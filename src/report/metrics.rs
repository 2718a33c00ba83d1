//! Figures of the newest run for Prometheus' textfile collector.
//!
//! The form is Prometheus' text exposition format 0.0.4. The file is replaced whole at every run, so nothing in it is
//! older than the run that it tells of but the time of the last passed one; what a run did not see is not in it.

use std::fmt::Write as _;
use std::path::Path;

use jiff::Timestamp;

use super::record::{RestoreFacts, write_atomically};
use crate::event::Mode;
use crate::verdict::Outcome;

/// What a file of metrics is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics<'a> {
    /// The rehearsal's name.
    pub rehearsal: &'a str,
    /// What the run was for.
    pub mode: Mode,
    /// Its verdict.
    pub outcome: Outcome,
    /// Whether its rollback got stuck.
    pub stuck: bool,
    /// When it ended.
    pub finished: Timestamp,
    /// When the newest passed run of this rehearsal and mode ended, if ever.
    pub last_passed: Option<Timestamp>,
    /// The backups that it restored.
    pub restores: &'a [RestoreFacts],
}

impl Metrics<'_> {
    /// The file's text.
    pub fn render(&self) -> String {
        let mut out = String::new();
        let own = |more: &[(&str, &str)]| {
            let mode = self.mode.name();
            let labels = [("rehearsal", self.rehearsal), ("mode", mode)];
            labels
                .iter()
                .chain(more)
                .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
                .collect::<Vec<_>>()
                .join(",")
        };
        let mut family = |name: &str, help: &str, samples: Vec<(String, f64)>| {
            if samples.is_empty() {
                return;
            }
            // Writing to a String cannot fail.
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
            for (labels, value) in samples {
                let _ = writeln!(out, "{name}{{{labels}}} {value}");
            }
        };
        let yes = |yes: bool| f64::from(u8::from(yes));
        if self.mode == Mode::BackupCheck {
            family(
                "rehearse_backup_valid",
                "1 where the newest run proved the backups; 0 where they are bad or it could not judge them.",
                vec![(own(&[]), yes(self.outcome == Outcome::Passed))],
            );
        }
        family(
            "rehearse_run_outcome",
            "1 for the verdict of the newest run, 0 for the others.",
            [Outcome::Passed, Outcome::Failed, Outcome::Invalid]
                .map(|outcome| {
                    let labels = own(&[("outcome", outcome.name())]);
                    (labels, yes(self.outcome == outcome))
                })
                .into(),
        );
        if self.mode == Mode::Rehearse {
            family(
                "rehearse_rollback_stuck",
                "1 where the rollback of the newest run did not reach the snapshot again.",
                vec![(own(&[]), yes(self.stuck))],
            );
        }
        family(
            "rehearse_last_run_timestamp_seconds",
            "When the newest run ended.",
            vec![(own(&[]), since_1970(self.finished))],
        );
        family(
            "rehearse_last_passed_timestamp_seconds",
            "When the newest passed run ended; absent where none is known.",
            self.last_passed
                .map(|at| (own(&[]), since_1970(at)))
                .into_iter()
                .collect(),
        );
        let each = |figure: &dyn Fn(&RestoreFacts) -> Option<f64>| -> Vec<(String, f64)> {
            let sample = |restore: &RestoreFacts| {
                let value = figure(restore)?;
                Some((own(&[("restore", &restore.restore)]), value))
            };
            self.restores.iter().filter_map(sample).collect()
        };
        family(
            "rehearse_backup_data_timestamp_seconds",
            "The time of the newest data in a backup, where it could be told.",
            each(&|restore| restore.as_of.map(since_1970)),
        );
        family(
            "rehearse_backup_size_bytes",
            "The size of a backup as it lies there.",
            each(&|restore| Some(restore.size as f64)),
        );
        family(
            "rehearse_restore_duration_seconds",
            "What the restore of a backup took; that of an identical earlier one where it was used again.",
            each(&|restore| Some(restore.seconds)),
        );
        out
    }

    /// Writes the file so that the collector sees the old one or the new one, whole, and may read it. Folders above it
    /// are made. Fails where it cannot be written; then an old one may still be there.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        if let Some(folder) = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            std::fs::create_dir_all(folder)?;
        }
        write_atomically(path, self.render().as_bytes())
    }
}

fn since_1970(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

/// A label's value as the format wants it: backslash, quote and newline escaped.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn restore(name: &str, as_of: Option<&str>) -> RestoreFacts {
        RestoreFacts {
            restore: name.to_owned(),
            format: "PostgreSQL custom-format dump".to_owned(),
            size: 1_288_490_189,
            seconds: 185.25,
            as_of: as_of.map(|at| at.parse().unwrap()),
            reused: false,
        }
    }

    fn metrics<'a>(outcome: Outcome, restores: &'a [RestoreFacts]) -> Metrics<'a> {
        Metrics {
            rehearsal: "site",
            mode: Mode::BackupCheck,
            outcome,
            stuck: false,
            finished: "2025-11-21T04:20:00.5Z".parse().unwrap(),
            last_passed: Some("2025-11-20T04:20:00Z".parse().unwrap()),
            restores,
        }
    }

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let restores = [
            restore("db/site", Some("2025-11-21T03:58:00Z")),
            restore("up\"lo\\ads\n", None),
        ];
        let passed = metrics(Outcome::Passed, &restores).render();
        assert_eq!(
            passed,
            r#"# HELP rehearse_backup_valid 1 where the newest run proved the backups; 0 where they are bad or it could not judge them.
# TYPE rehearse_backup_valid gauge
rehearse_backup_valid{rehearsal="site",mode="backup-check"} 1
# HELP rehearse_run_outcome 1 for the verdict of the newest run, 0 for the others.
# TYPE rehearse_run_outcome gauge
rehearse_run_outcome{rehearsal="site",mode="backup-check",outcome="passed"} 1
rehearse_run_outcome{rehearsal="site",mode="backup-check",outcome="failed"} 0
rehearse_run_outcome{rehearsal="site",mode="backup-check",outcome="invalid"} 0
# HELP rehearse_last_run_timestamp_seconds When the newest run ended.
# TYPE rehearse_last_run_timestamp_seconds gauge
rehearse_last_run_timestamp_seconds{rehearsal="site",mode="backup-check"} 1763698800.5
# HELP rehearse_last_passed_timestamp_seconds When the newest passed run ended; absent where none is known.
# TYPE rehearse_last_passed_timestamp_seconds gauge
rehearse_last_passed_timestamp_seconds{rehearsal="site",mode="backup-check"} 1763612400
# HELP rehearse_backup_data_timestamp_seconds The time of the newest data in a backup, where it could be told.
# TYPE rehearse_backup_data_timestamp_seconds gauge
rehearse_backup_data_timestamp_seconds{rehearsal="site",mode="backup-check",restore="db/site"} 1763697480
# HELP rehearse_backup_size_bytes The size of a backup as it lies there.
# TYPE rehearse_backup_size_bytes gauge
rehearse_backup_size_bytes{rehearsal="site",mode="backup-check",restore="db/site"} 1288490189
rehearse_backup_size_bytes{rehearsal="site",mode="backup-check",restore="up\"lo\\ads\n"} 1288490189
# HELP rehearse_restore_duration_seconds What the restore of a backup took; that of an identical earlier one where it was used again.
# TYPE rehearse_restore_duration_seconds gauge
rehearse_restore_duration_seconds{rehearsal="site",mode="backup-check",restore="db/site"} 185.25
rehearse_restore_duration_seconds{rehearsal="site",mode="backup-check",restore="up\"lo\\ads\n"} 185.25
"#
        );
    }

    #[test]
    fn what_was_not_judged_looks_neither_valid_nor_like_last_night() {
        for outcome in [Outcome::Failed, Outcome::Invalid] {
            let text = metrics(outcome, &[]).render();
            let hot = format!("outcome=\"{}\"}} 1\n", outcome.name());
            assert!(text.contains(&hot), "{text}");
            assert_eq!(text.matches("outcome=").count(), 3);
            assert_eq!(text.matches("} 1\n").count(), 1, "{text}");
            assert!(
                text.contains(
                    "rehearse_backup_valid{rehearsal=\"site\",mode=\"backup-check\"} 0\n"
                )
            );
            assert!(
                !text.contains("bytes") && !text.contains("data_timestamp"),
                "{text}"
            );
        }
        let rehearsed = Metrics {
            mode: Mode::Rehearse,
            stuck: true,
            last_passed: None,
            ..metrics(Outcome::Passed, &[])
        };
        let text = rehearsed.render();
        assert!(text.contains("rehearse_rollback_stuck{rehearsal=\"site\",mode=\"rehearse\"} 1\n"));
        assert!(
            !text.contains("backup_valid") && !text.contains("last_passed"),
            "{text}"
        );
    }

    #[test]
    fn the_file_is_replaced_whole_and_is_there_for_all_to_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("textfiles/site.prom");
        metrics(Outcome::Passed, &[]).write(&path).unwrap();
        metrics(Outcome::Invalid, &[]).write(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, metrics(Outcome::Invalid, &[]).render());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
        let beside = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(beside, 1, "no temporary file is left");
        assert!(
            metrics(Outcome::Passed, &[])
                .write(&path.join("below"))
                .is_err()
        );
    }
}
