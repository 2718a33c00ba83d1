//! What a production server's settings must not do in staging.
//!
//! Its files are kept. What would reach out of staging, or names what is not in the image, is set again behind them:
//! PostgreSQL takes a setting's last occurrence, and reads `postgresql.auto.conf` after `postgresql.conf`.

/// Settings that hold for a restored server from now on, also when staging starts it.
pub(super) fn quiet(major: u32) -> Vec<(&'static str, String)> {
    let mut settings: Vec<(&'static str, &str)> = vec![
        // Archiving from here would write into production's archive.
        ("archive_mode", "off"),
        ("archive_command", ""),
        ("restore_command", ""),
        ("archive_cleanup_command", ""),
        ("recovery_end_command", ""),
        ("primary_conninfo", ""),
        ("primary_slot_name", ""),
        // A commit would wait for a standby that is not there, for ever.
        ("synchronous_standby_names", ""),
        // Subscriptions of the restored databases would pull from production.
        ("max_logical_replication_workers", "0"),
        ("listen_addresses", "*"),
        ("port", "5432"),
        // Folders of production's machine, and a log that nobody would find.
        ("logging_collector", "off"),
        ("log_destination", "stderr"),
        ("external_pid_file", ""),
        // Not in every container; without them it works as well.
        ("huge_pages", "try"),
    ];
    if major >= 15 {
        settings.push(("archive_library", ""));
    }
    settings
        .into_iter()
        .map(|(name, value)| (name, value.to_owned()))
        .collect()
}

/// Where the server gets its WAL from, and how far it goes.
#[derive(Clone, Debug)]
pub(super) struct From {
    /// `restore_command`.
    pub(super) command: String,
    /// `recovery_target_time`.
    pub(super) time: Option<String>,
}

impl Default for From {
    /// There is no archive: all WAL is in the data folder.
    fn default() -> Self {
        Self {
            command: "false".to_owned(),
            time: None,
        }
    }
}

/// Settings for the recovery alone, on the server's command line: nobody but us talks to it.
pub(super) fn recovery(socket: &str, hba: &str, from: &From) -> String {
    let mut settings = vec![
        ("listen_addresses", ""),
        ("unix_socket_directories", socket),
        ("hba_file", hba),
        // It lets nobody in before it has recovered; and production's sizes, which a standby has to have, do not matter.
        ("hot_standby", "off"),
        ("recovery_target_action", "promote"),
        ("restore_command", &from.command),
        // The rehearsal and the tool read a time without a zone as UTC, and so does the log.
        ("timezone", "UTC"),
        ("log_timezone", "UTC"),
        ("lc_messages", "C"),
        ("log_min_messages", "warning"),
        ("log_error_verbosity", "default"),
        ("log_line_prefix", ""),
        ("shared_buffers", "128MB"),
        ("huge_pages", "off"),
        ("ssl", "off"),
        ("autovacuum", "off"),
        ("restart_after_crash", "off"),
        ("default_transaction_read_only", "off"),
        ("statement_timeout", "0"),
    ];
    if let Some(time) = &from.time {
        settings.push(("recovery_target_time", time));
    }
    settings
        .iter()
        .map(|(name, value)| format!("-c {name}={}", shell(value)))
        .collect::<Vec<_>>()
        .join(" ")
}

/// As lines of a configuration file.
pub(super) fn lines(settings: &[(&str, String)]) -> String {
    let mut text = format!("\n{MARK}\n");
    for (name, value) in settings {
        text.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
    }
    text
}

/// Where our own lines begin.
pub(super) const MARK: &str = "# Added by rehearse: what must not act in staging.";

/// A word for a shell.
pub(super) fn shell(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A file or folder that a configuration file includes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Include {
    /// Its line, from 0.
    pub(super) line: usize,
    /// As it is written.
    pub(super) path: String,
}

/// The includes of a configuration file that have to be there: `include` and `include_dir`.
pub(super) fn includes(text: &str) -> Vec<Include> {
    text.lines()
        .enumerate()
        .filter_map(|(line, text)| {
            let text = text.trim();
            let rest = ["include_dir", "include"]
                .iter()
                .find_map(|word| text.strip_prefix(word))?;
            let value = rest
                .strip_prefix(|c: char| c.is_whitespace() || c == '=')?
                .trim_start_matches(|c: char| c.is_whitespace() || c == '=');
            let path = match value.strip_prefix('\'') {
                Some(quoted) => quoted.split('\'').next()?,
                None => value
                    .split(|c: char| c.is_whitespace() || c == '#')
                    .next()?,
            };
            (!path.is_empty()).then(|| Include {
                line,
                path: path.to_owned(),
            })
        })
        .collect()
}

/// A configuration file with some of its lines made comments.
pub(super) fn without(text: &str, lines: &[usize]) -> String {
    let mut kept = String::with_capacity(text.len() + 64);
    for (number, line) in text.lines().enumerate() {
        if lines.contains(&number) {
            kept.push_str("# not there in staging: ");
        }
        kept.push_str(line);
        kept.push('\n');
    }
    kept
}

/// The lines of a configuration file that name a target of recovery. Two of them are an error, even where one is empty,
/// so they cannot be overruled like others.
pub(super) fn targets(text: &str) -> Vec<usize> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| line.trim_start().starts_with("recovery_target"))
        .map(|(number, _)| number)
        .collect()
}

/// Production's rules of who may log in, with two of ours: the first lets programs in the service's own container in
/// without a password, as the official image does; the last lets staging's addresses in, which production's rules
/// cannot name, with the password that production knows. (`md5` accepts both kinds of stored passwords.)
pub(super) fn hba(kept: &str) -> String {
    format!("{MARK}\nlocal all all trust\n\n{kept}\n{MARK}\nhost all all all md5\n")
}

/// The sizes that a server needs to recover what this one's control file says, as settings; for a cluster that keeps
/// its configuration elsewhere.
pub(super) fn sizes(control: &str) -> Vec<(&'static str, String)> {
    [
        ("max_connections", "max_connections setting"),
        ("max_worker_processes", "max_worker_processes setting"),
        ("max_wal_senders", "max_wal_senders setting"),
        ("max_prepared_transactions", "max_prepared_xacts setting"),
        ("max_locks_per_transaction", "max_locks_per_xact setting"),
        ("wal_level", "wal_level setting"),
        ("track_commit_timestamp", "track_commit_timestamp setting"),
    ]
    .into_iter()
    .filter_map(|(name, label)| Some((name, control_value(control, label)?.to_owned())))
    .collect()
}

/// A value of what `pg_controldata` says.
pub(super) fn control_value<'a>(control: &'a str, label: &str) -> Option<&'a str> {
    control
        .lines()
        .find_map(|line| line.strip_prefix(label)?.strip_prefix(':'))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn includes_that_have_to_be_there_are_found_and_can_be_left_out() {
        let text = "#include 'no'\ninclude 'a b.conf' # why\ninclude_if_exists 'maybe'\n  include_dir = conf.d\nincluded = 1\nport = 1\n";
        let found = includes(text);
        let paths: Vec<(usize, &str)> = found
            .iter()
            .map(|one| (one.line, one.path.as_str()))
            .collect();
        assert_eq!(paths, [(1, "a b.conf"), (3, "conf.d")]);
        assert_eq!(
            without("a\ninclude 'b'\nc\n", &[1]),
            "a\n# not there in staging: include 'b'\nc\n"
        );
    }

    #[test]
    fn targets_of_recovery_are_left_out() {
        let auto = "a = 1\nrecovery_target_time = '2026-01-01'\n recovery_target=''\n#recovery_target = 'immediate'\n";
        assert_eq!(targets(auto), [1, 2]);
    }

    #[test]
    fn quotes_stay_quotes() {
        assert_eq!(
            lines(&[("archive_command", "a 'b'".to_owned())]),
            format!("\n{MARK}\narchive_command = 'a ''b'''\n")
        );
        let from = From {
            command: "cp '/w/%f' \"%p\"".to_owned(),
            time: Some("2026-11-21 12:00:00+00".to_owned()),
        };
        let options = recovery("/s", "/h", &from);
        assert!(
            options.ends_with("-c recovery_target_time='2026-11-21 12:00:00+00'"),
            "{options}"
        );
        assert!(
            options.contains(r#"-c restore_command='cp '\''/w/%f'\'' "%p"'"#),
            "{options}"
        );
    }

    #[test]
    fn a_control_file_says_its_sizes() {
        let control = "pg_control version number:            1300\nmax_connections setting:              250\nwal_level setting:                    replica\n";
        assert_eq!(
            sizes(control),
            [
                ("max_connections", "250".to_owned()),
                ("wal_level", "replica".to_owned())
            ]
        );
        assert_eq!(
            control_value(control, "pg_control version number"),
            Some("1300")
        );
        assert_eq!(control_value(control, "Bytes per WAL segment"), None);
    }

    #[test]
    fn only_versions_that_know_a_setting_get_it() {
        let has = |major| {
            quiet(major)
                .iter()
                .any(|(name, _)| *name == "archive_library")
        };
        assert!(has(15) && !has(14));
    }
}
