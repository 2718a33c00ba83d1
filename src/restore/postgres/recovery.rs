//! What a server's log says of its recovery.

use jiff::Timestamp;

use crate::event::Owner;
use crate::staging::Bad;

/// Words of a log that say whose fault it is that a server does not start, in this order.
const FAULTS: [(&str, Owner, &str); 20] = [
    (
        "No space left on device",
        Owner::Engine,
        "make room where the engine keeps its volumes, or give it a larger disk",
    ),
    (
        "could not map anonymous shared memory",
        Owner::Engine,
        "the engine's host has too little memory for it",
    ),
    (
        "out of memory",
        Owner::Engine,
        "the engine's host has too little memory for it",
    ),
    ("could not access file \"", Owner::Stack, LIBRARY),
    ("could not load library \"", Owner::Stack, LIBRARY),
    // The major version was compared before; what is left are settings of the build.
    (
        "was initialized with BLCKSZ",
        Owner::Stack,
        "use an image whose PostgreSQL was built like production's",
    ),
    (
        "was initialized with RELSEG_SIZE",
        Owner::Stack,
        "use an image whose PostgreSQL was built like production's",
    ),
    (
        "was initialized with XLOG_BLCKSZ",
        Owner::Stack,
        "use an image whose PostgreSQL was built like production's",
    ),
    (
        "was initialized with CATALOG_VERSION_NO",
        Owner::Stack,
        "use an image with exactly production's version of PostgreSQL",
    ),
    (
        "database locale is incompatible",
        Owner::Stack,
        "use an image that has production's locales",
    ),
    (
        "unrecognized configuration parameter",
        Owner::Stack,
        SETTING,
    ),
    ("invalid value for parameter", Owner::Stack, SETTING),
    ("configuration file", Owner::Stack, SETTING),
    ("resource manager with ID", Owner::Stack, LIBRARY),
    (
        "recovery ended before configured recovery target",
        Owner::Backup,
        "the archive ends before the time that `time:` names: nothing later can be brought back from it",
    ),
    (
        "requested recovery stop point is before consistent recovery point",
        Owner::Backup,
        "no backup in the repository is older than the time that `time:` names",
    ),
    ("WAL ends before", Owner::Backup, WAL),
    (
        "could not locate a valid checkpoint record",
        Owner::Backup,
        WAL,
    ),
    (
        "could not locate required checkpoint record",
        Owner::Backup,
        WAL,
    ),
    ("requested timeline", Owner::Backup, WAL),
];

const LIBRARY: &str = "production's `shared_preload_libraries` names it: use an image that has this extension in the stack";
const SETTING: &str = "the image cannot use a setting of production: use an image like production's, or overrule it with the service's `command:` (postgres -c name=value)";
const WAL: &str = "the backup does not hold the WAL that it needs: look at `pg_basebackup --wal-method`, or at the archive";

/// Why a server did not recover: by its log, which was written without a prefix and in English.
pub(super) fn failed(restore: &str, log: &str) -> Bad {
    let first = first_fatal(log);
    let whole = first.unwrap_or_else(|| {
        log.lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .unwrap_or("the server said nothing")
            .trim()
            .to_owned()
    });
    let fault = FAULTS
        .iter()
        .find(|(words, _, _)| whole.contains(words))
        .or_else(|| FAULTS.iter().find(|(words, _, _)| log.contains(words)));
    let (owner, help) = match fault {
        Some((_, owner, help)) => (*owner, *help),
        None => (
            Owner::Backup,
            "this is how production would answer when it is brought back from this backup",
        ),
    };
    Bad::new(
        owner,
        format!("{restore}: the server does not recover: {whole}"),
    )
    .with_help(help)
}

/// The first line that ended the server, with its detail.
fn first_fatal(log: &str) -> Option<String> {
    let mut lines = log.lines().skip_while(|line| {
        !(line.contains("FATAL:") || line.contains("PANIC:"))
            // Somebody asked too early; that ends nothing.
            || line.contains("the database system is")
    });
    let first = lines.next()?.trim().to_owned();
    match lines.next().map(str::trim) {
        Some(detail) if detail.starts_with("DETAIL:") => Some(format!("{first} ({detail})")),
        Some(_) | None => Some(first),
    }
}

/// The time of the last transaction that was replayed; `None` where none was.
pub(super) fn last_transaction(log: &str) -> Option<Timestamp> {
    const WORDS: &str = "last completed transaction was at log time ";
    let line = log.lines().rev().find_map(|line| line.split_once(WORDS))?.1;
    // `2026-11-21 12:17:51.123456+00`, since the recovery runs in UTC.
    let text = line.trim().strip_suffix("+00")?.replacen(' ', "T", 1);
    format!("{text}Z").parse().ok()
}

/// When the backup began, as `backup_label` says it, for the server to read: it knows the zone's abbreviation.
pub(super) fn start_time(label: &str) -> Option<&str> {
    label
        .lines()
        .find_map(|line| line.strip_prefix("START TIME: "))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_says_whose_fault_it_is() {
        // As PostgreSQL 15 writes them.
        for (log, owner, word) in [
            (
                "LOG:  starting PostgreSQL\nLOG:  invalid checkpoint record\nFATAL:  could not locate required checkpoint record\nHINT:  If you are restoring\n",
                Owner::Backup,
                "checkpoint record",
            ),
            (
                "PANIC:  could not locate a valid checkpoint record\n",
                Owner::Backup,
                "PANIC",
            ),
            (
                "FATAL:  WAL ends before end of online backup\n",
                Owner::Backup,
                "WAL ends",
            ),
            (
                "FATAL:  could not access file \"pg_cron\": No such file or directory\n",
                Owner::Stack,
                "pg_cron",
            ),
            (
                "FATAL:  recovery ended before configured recovery target was reached\n",
                Owner::Backup,
                "target",
            ),
            (
                "FATAL:  database files are incompatible with server\nDETAIL:  The database cluster was initialized with BLCKSZ 32768, but the server was compiled with BLCKSZ 8192.\n",
                Owner::Stack,
                "BLCKSZ",
            ),
            (
                "FATAL:  could not extend file \"base/5/1\": No space left on device\n",
                Owner::Engine,
                "space",
            ),
            (
                "LOG:  invalid value for parameter \"lc_monetary\": \"de_DE.UTF-8\"\nFATAL:  configuration file \"/d/postgresql.conf\" contains errors\n",
                Owner::Stack,
                "contains errors",
            ),
            (
                "PANIC:  incorrect checksum in control file\n",
                Owner::Backup,
                "control file",
            ),
            ("", Owner::Backup, "said nothing"),
        ] {
            let bad = failed("db", log);
            assert_eq!(bad.owner, owner, "{log}");
            assert!(bad.reason.contains(word), "{}", bad.reason);
        }
    }

    #[test]
    fn a_log_says_how_far_it_recovered() {
        let log = "LOG:  redo done at 0/60000F8 system usage: CPU\nLOG:  last completed transaction was at log time 2026-11-21 12:17:51.123456+00\n";
        assert_eq!(
            last_transaction(log)
                .map(|time| time.to_string())
                .as_deref(),
            Some("2026-11-21T12:17:51.123456Z")
        );
        assert_eq!(last_transaction("LOG:  redo is not required\n"), None);
        assert_eq!(
            start_time("START WAL LOCATION: 0/2\nSTART TIME: 2026-11-21 12:17:51 CET\nLABEL: x\n"),
            Some("2026-11-21 12:17:51 CET")
        );
    }
}
