//! What in a server's log is about its data, and what is only what every crash says.

/// What a server's log says of damaged data, in its own words; lines of a log that an error quotes are apart by ` | `.
///
/// A server that crashes prints guesses, whatever the reason: that the program itself may be corrupt, that InnoDB's
/// tablespace may be. It also prints the statement that it was at, which may hold any word.
pub(super) fn damage(log: &str) -> Option<&str> {
    let words = [
        "corrupt",
        "checksum mismatch",
        "cannot find a table",
        "tablespace is missing",
        "cannot open datafile",
        "missing mlog_checkpoint",
        "missing file_checkpoint",
    ];
    let guesses = [
        "is corrupt, improperly built",
        "corruption in the innodb tablespace. please refer to",
        "there may be corruption in the innodb tablespace",
    ];
    let mut in_statement = false;
    let lines = log.lines().flat_map(|line| line.split(" | "));
    lines.map(str::trim).find(|line| {
        let lower = line.to_lowercase();
        if lower.starts_with("query (") {
            in_statement = true;
        } else if lower.starts_with("connection id (thread id)") {
            in_statement = false;
        }
        let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
        !in_statement && has(&words) && !has(&guesses)
    })
}

#[cfg(test)]
mod tests {
    use super::damage;

    /// What MariaDB 10.11 prints when an assertion of InnoDB fails.
    const ASSERTION: &str = "\
2026-11-20  3:00:01 0x7f1 InnoDB: Assertion failure in file ./storage/innobase/trx/trx0trx.cc line 1304
InnoDB: Failing assertion: UT_LIST_GET_LEN(lock.trx_locks) == 0
InnoDB: We intentionally generate a memory trap.
InnoDB: Submit a detailed bug report to https://jira.mariadb.org/
InnoDB: If you get repeated assertion failures or crashes, even
InnoDB: immediately after the mariadbd startup, there may be
InnoDB: corruption in the InnoDB tablespace. Please refer to
InnoDB: https://mariadb.com/kb/en/library/innodb-recovery-modes/
InnoDB: about forcing recovery.
";

    /// What it prints before it dies of a signal.
    const CRASH: &str = "\
261120  3:00:01 [ERROR] mysqld got signal 6 ;
This could be because you hit a bug. It is also possible that this binary
or one of the libraries it was linked against is corrupt, improperly built,
or misconfigured. This error can also be caused by malfunctioning hardware.
Trying to get some variables.
Some pointers may be invalid and cause the dump to abort.
Query (0x7f10): insert into log values ('page is corrupted,
Index t is corrupted')

Connection ID (thread ID): 5
Status: NOT_KILLED
";

    #[test]
    fn what_every_crash_says_is_no_damage() {
        let quoted = |log: &str| log.lines().collect::<Vec<_>>().join(" | ");
        for log in [
            ASSERTION.to_owned(),
            CRASH.to_owned(),
            format!("{ASSERTION}{CRASH}"),
            // MySQL writes it in one line.
            "2026-11-20T03:00:01Z UTC - mysqld got signal 11 ;\nThis could be because you hit a bug. It is also possible that this \
             binary or one of the libraries it was linked against is corrupt, improperly built, or misconfigured."
                .to_owned(),
            quoted(ASSERTION),
            quoted(CRASH),
            "2026-11-20  3:00:01 0 [Note] mariadbd: ready for connections.".to_owned(),
            String::new(),
        ] {
            assert_eq!(damage(&log), None, "{log}");
        }
    }

    #[test]
    fn what_a_server_says_of_its_data_is_damage() {
        for said in [
            "2026-11-20  3:00:01 0 [ERROR] InnoDB: Database page corruption on disk or a failed read of file './ibdata1' page [page id: space=0, page number=5].",
            "2026-11-20  3:00:01 5 [ERROR] mariadbd: Table './mini/old' is marked as crashed and its index is corrupted",
            "2026-11-20  3:00:01 0 [ERROR] InnoDB: Cannot open datafile for read-only: './mini/paper.ibd'",
            "2026-11-20  3:00:01 0 [ERROR] InnoDB: Missing FILE_CHECKPOINT(2) at 1",
        ] {
            assert_eq!(damage(said), Some(said));
            // Neither before nor behind a crash is it lost.
            assert_eq!(damage(&format!("{said}\n{ASSERTION}{CRASH}")), Some(said));
            assert_eq!(damage(&format!("{ASSERTION}{CRASH}{said}")), Some(said));
            let quoted = format!("the server ended; its last log lines: x | {said} | y");
            assert_eq!(damage(&quoted), Some(said));
        }
    }
}
