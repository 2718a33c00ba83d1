//! What is in the way of a restore and is not the backup: by the words and exit codes of tools, and where a server
//! went away by the kernel's count of what it killed and the server's log.

use std::time::Duration;

use super::{Bad, Running, Staging, words};
use crate::engine::ExecOutcome;
use crate::event::Owner;
use crate::staging::{StartError, Why};

/// What was in a tool's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The engine's disk, or a volume's quota, is full.
    NoSpace,
    /// The kernel killed it for want of memory.
    OutOfMemory,
    /// The password or passphrase is wrong.
    WrongPassword,
    /// Somebody else holds the repository's lock.
    Locked,
    /// The container does not have the tool.
    NoTool,
}

/// The exit code of a shell or the engine for a program that is not there, and for one that was killed by SIGKILL.
const NOT_FOUND: i64 = 127;
const NOT_EXECUTABLE: i64 = 126;
const KILLED: i64 = 137;

/// A container whose first process is dead has ended after this long, on an engine that answers at all.
const ENDING: Duration = Duration::from_secs(30);

impl Trouble {
    /// What a line of a tool's output names, whatever its exit code was.
    pub(super) fn in_line(line: &str) -> Option<Self> {
        Self::of(&ExecOutcome {
            exit_code: 0,
            stdout: String::new(),
            stderr: line.to_owned(),
        })
    }

    /// What was in the way of a tool that failed, if its own words or its exit code say so.
    pub fn of(outcome: &ExecOutcome) -> Option<Self> {
        let text = format!("{}\n{}", outcome.stderr, outcome.stdout);
        let lines = words::own(&text);
        let says = |words: &[&str]| {
            let mut lines = lines.iter();
            lines.any(|line| words.iter().any(|word| line.contains(word)))
        };
        Self::told(outcome.exit_code, &text, says)
    }

    /// The same of a client whose standard output is rows. Where it was not run, the engine says so there.
    pub fn of_client(outcome: &ExecOutcome) -> Option<Self> {
        if matches!(outcome.exit_code, NOT_FOUND | NOT_EXECUTABLE) {
            return Self::of(outcome);
        }
        Self::of(&ExecOutcome {
            stdout: String::new(),
            ..outcome.clone()
        })
    }

    /// The same of a tool that reads a repository: the lines in which it complains about files begin with their names,
    /// or have them in their midst.
    pub fn of_repository(outcome: &ExecOutcome) -> Option<Self> {
        let text = format!("{}\n{}", outcome.stderr, outcome.stdout);
        let lines = words::own(&text);
        let says = |words: &[&str]| {
            let mut lines = lines.iter();
            lines.any(|line| words.iter().any(|word| is_itself(line.trim(), word)))
        };
        Self::told(outcome.exit_code, &text, says)
    }

    /// The same of a single line in which such a tool complains about a file.
    pub fn of_complaint(line: &str) -> Option<Self> {
        Self::of_repository(&ExecOutcome {
            exit_code: 1,
            stdout: String::new(),
            stderr: line.to_owned(),
        })
    }

    fn told(exit_code: i64, text: &str, says: impl Fn(&[&str]) -> bool) -> Option<Self> {
        if says(&[
            "no space left on device",
            "disk full",
            "database or disk is full",
            "disk quota exceeded",
            "errcode: 28",
        ]) {
            return Some(Self::NoSpace);
        }
        if exit_code == KILLED
            || says(&[
                "out of memory",
                "cannot allocate memory",
                "std::bad_alloc",
                "memoryerror",
            ])
        {
            return Some(Self::OutOfMemory);
        }
        if says(&[
            "password authentication failed",
            "no password supplied",
            "access denied for user",
            "wrong password",
            "passphrase supplied in",
            "incorrect passphrase",
            "can not acquire a passphrase",
        ]) {
            return Some(Self::WrongPassword);
        }
        if says(&[
            "unable to create lock in backend",
            "repository is already locked",
            "failed to create/acquire the lock",
            "unable to acquire lock",
        ]) {
            return Some(Self::Locked);
        }
        let text = text.to_lowercase();
        if matches!(exit_code, NOT_FOUND | NOT_EXECUTABLE)
            && ["not found", "no such file", "executable file"]
                .iter()
                .any(|words| text.contains(words))
        {
            return Some(Self::NoTool);
        }
        None
    }

    /// True for words of a tool that lost its server, or did not find it any more: of one line or more, of which some may
    /// have been put together.
    pub fn is_loss(said: &str) -> bool {
        const WORDS: [&str; 9] = [
            "server closed the connection",
            "terminating connection",
            "the database system is ",
            "connection to server",
            "lost connection to",
            "server has gone away",
            "can't connect to",
            "could not connect to",
            "connection refused",
        ];
        let said = words::unquoted(said).to_lowercase();
        WORDS.iter().any(|word| said.contains(word))
    }

    /// What was in a server's way, by its log: a tool that lost its server cannot say it.
    pub fn in_log(log: &str) -> Option<Self> {
        const SPACE: [&str; 3] = ["no space left on device", "disk full", "disk is full"];
        // The kernel's killer says nothing itself; PostgreSQL's postmaster sees the signal.
        const MEMORY: [&str; 4] = [
            "was terminated by signal 9",
            "out of memory",
            "cannot allocate memory",
            "can't allocate memory",
        ];
        let lower = words::own(log);
        let says = |words: &[&str]| {
            let mut lines = lower.iter();
            lines.any(|line| words.iter().any(|word| line.contains(word)))
        };
        if says(&SPACE) {
            Some(Self::NoSpace)
        } else if says(&MEMORY) {
            Some(Self::OutOfMemory)
        } else {
            None
        }
    }

    /// What befell a service in which something went wrong, and its whole log. A tool that lost its server can be
    /// faster than the server's log: it is read when the server has ended, or answers again.
    ///
    /// Nothing befell one that was killed because a limit was over: that was us.
    pub async fn befell(staging: &Staging, running: &Running) -> (Option<Self>, Option<String>) {
        let engine = &staging.ground.engine;
        if staging.ground.was_killed(&running.container) {
            let log = engine.container_log(&running.container, None).await.ok();
            return (None, log);
        }
        let starved = engine.starved(&running.container, ENDING).await;
        let settled = staging.await_ready(running).await;
        let log = engine.container_log(&running.container, None).await.ok();
        let starved = starved || settled.is_err_and(|error| error.why() == Some(Why::OutOfMemory));
        let trouble = if starved {
            Some(Self::OutOfMemory)
        } else {
            log.as_deref().and_then(Self::in_log)
        };
        (trouble, log)
    }

    /// As what went wrong with an operation: `restore db/site with pg_restore`.
    pub fn bad(self, operation: &str, tool: &str, said: &str) -> Bad {
        let (owner, what, help) = match self {
            Self::NoSpace => (
                Owner::Engine,
                "no space is left on the engine's disk".to_owned(),
                "make room where the engine keeps its volumes (`rehearse bases`, `rehearse sweep --bases`), or give it a larger disk",
            ),
            Self::OutOfMemory => (
                Owner::Engine,
                format!("`{tool}` ran out of memory"),
                "raise `mem_limit` of the service in the stack, or restore with fewer jobs",
            ),
            Self::WrongPassword => (
                Owner::Staging,
                "the password is wrong".to_owned(),
                "correct the secret that the rehearsal or the stack names: the backup was not judged",
            ),
            Self::Locked => (
                Owner::Staging,
                "the repository is locked by somebody else".to_owned(),
                "wait for the backup job to end; if it died, remove its stale lock with the tool's own `unlock` or `break-lock`",
            ),
            Self::NoTool => (
                Owner::Stack,
                format!("`{tool}` is not in the image"),
                "use an image that brings the tool of the same version as production's",
            ),
        };
        let mut reason = format!("cannot {operation}: {what}");
        if !said.is_empty() {
            reason = format!("{reason}: {said}");
        }
        Bad::new(owner, reason).with_help(help)
    }
}

/// True where a line is what a tool says of itself or of the system, by its place: at the line's beginning, behind its
/// last colon, or behind a number of the system's (`[Errno 28] No space left on device: '/x'`).
fn is_itself(line: &str, word: &str) -> bool {
    const BEFORE: [&str; 4] = ["fatal: ", "fatal error: ", "runtime: ", "error: "];
    let mut said = line;
    while let Some(rest) = BEFORE.iter().find_map(|before| said.strip_prefix(before)) {
        said = rest;
    }
    let last = said.rsplit(": ").next().unwrap_or_default();
    let numbered = || {
        said.match_indices("[errno ").any(|(at, _)| {
            let behind = said[at..]
                .split_once("] ")
                .and_then(|(_, behind)| behind.strip_prefix(word));
            behind.is_some_and(|rest| rest.is_empty() || rest.starts_with(": '"))
        })
    };
    // Neither program says it, and a file may be called so.
    let never = word == "disk full";
    let begins = said
        .strip_prefix(word)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', ':']));
    !never && (begins || last == word || numbered())
}

/// That a service did not start: `owner` is at fault, unless it lacked memory, room or time. Where it runs and is not
/// healthy, `unhealthy` is.
pub fn not_started(error: &StartError, owner: Owner, unhealthy: Owner, operation: &str) -> Bad {
    let bad = Bad::start(error, owner);
    let Some(why) = error.why() else {
        return bad;
    };
    match why {
        Why::OutOfMemory | Why::Ended { exit_code: KILLED } => {
            Trouble::OutOfMemory.bad(operation, "the server", &bad.reason)
        }
        // Whatever takes long, nothing of it was seen.
        Why::Late => Bad {
            owner: if owner == Owner::Backup {
                Owner::Staging
            } else {
                owner
            },
            overrun: true,
            ..bad.with_help(
                "raise `limits.start`: a server that loads or recovers its data takes longer to start",
            )
        },
        Why::Ended { .. } | Why::Unhealthy => match Trouble::in_log(error.log()) {
            Some(trouble) => trouble.bad(operation, "the server", &bad.reason),
            None if why == Why::Unhealthy && unhealthy != owner => Bad {
                owner: unhealthy,
                ..bad.with_help(
                    "the server runs: if it was still loading its data, give its health check a longer `start_period` or more \
                     `retries`",
                )
            },
            None => bad,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_the_data_is_no_trouble() {
        for (log, expected) in [
            (
                "LOG:  server process (PID 61) was terminated by signal 9: Killed\nDETAIL:  Failed process was running: x",
                Some(Trouble::OutOfMemory),
            ),
            (
                "PANIC:  could not write to file \"pg_wal/xlogtemp.71\": No space left on device",
                Some(Trouble::NoSpace),
            ),
            (
                "ERROR:  invalid input syntax for type integer: \"x\"\nCONTEXT:  COPY t, line 1, column a: \"the disk is full\"",
                None,
            ),
            (
                "ERROR:  syntax error\nSTATEMENT:  insert into t\n\tvalues ('out of memory')",
                None,
            ),
        ] {
            assert_eq!(Trouble::in_log(log), expected, "{log}");
        }
    }

    fn failed(exit_code: i64, stderr: &str) -> ExecOutcome {
        ExecOutcome {
            exit_code,
            stdout: String::new(),
            stderr: stderr.to_owned(),
        }
    }

    #[test]
    fn what_a_tool_quotes_is_no_trouble() {
        for said in [
            "ERROR:  invalid input syntax for type integer: \"x\"\nCONTEXT:  COPY events, line 9: \"17 FATAL: out of memory\"",
            "psql:a.sql:3: ERROR:  value too long\nCONTEXT: COPY events, line 9: \"17 FATAL: out of memory\"",
            "ERROR:  invalid input syntax for type integer: \"out of memory\"",
            "ERROR:  invalid input syntax for type integer: \"{\"a\": \"disk full\"}\"",
            "ERROR:  invalid input syntax for type integer: \"a\nout of memory\"\nCONTEXT:  COPY t, line 1",
            "ERROR:  duplicate key value violates unique constraint \"k\"\nDETAIL:  Key (name)=(disk full) already exists.",
            "ERROR:  duplicate key value violates unique constraint \"k\"\nDETAIL:  Key (name)=(a\ndisk full) already exists.",
            "ERROR:  syntax error\nLINE 1: insert into t values ('out of memory')\nQUERY:  select 'disk full'",
            "NOTICE:  wrong password\nERROR:  division by zero",
            "pg_restore: error: could not execute query: ERROR:  syntax error\nCommand was: COMMENT ON TABLE t IS '\ndisk full';",
            "LOG:  statement: select 'out of memory'\nERROR:  division by zero",
            "ERROR 1062 (23000) at line 3: Duplicate entry 'disk full' for key 'name'",
            "Error: near line 1: row \"out of memory\" refused",
        ] {
            assert_eq!(Trouble::of(&failed(1, said)), None, "{said}");
        }
        // What a client writes to its standard output is the data itself.
        let rows = ExecOutcome {
            stdout: "17|out of memory\n".to_owned(),
            ..failed(1, "ERROR:  division by zero")
        };
        assert_eq!(Trouble::of_client(&rows), None);
    }

    #[test]
    fn what_a_tool_says_beside_what_it_quotes_is_trouble() {
        for (said, expected) in [
            (
                "psql:a.sql:3: ERROR:  could not extend file \"base/16384/2619\": No space left on device\nHINT:  Check free disk space.",
                Trouble::NoSpace,
            ),
            (
                "could not write to file \"base/pgsql_tmp/1.0\": No space left on device",
                Trouble::NoSpace,
            ),
            (
                "pg_restore: error: COPY failed for table \"a b\": ERROR:  could not extend file \"base/1\": No space left on device\n\
                 CONTEXT:  COPY a, line 1: \"x\"",
                Trouble::NoSpace,
            ),
            (
                "DETAIL:  Key (a)=(x\ny) exists.\nERROR:  out of memory\nDETAIL:  Failed on request of size 8.",
                Trouble::OutOfMemory,
            ),
            (
                "FATAL:  password authentication failed for user \"x\"",
                Trouble::WrongPassword,
            ),
            (
                "psql: error: connection to server on socket \"/run/.s\" failed: FATAL:  password authentication failed for user \"x\"",
                Trouble::WrongPassword,
            ),
            (
                "ERROR 1030 (HY000): Got error 28 \"No space left on device\" from storage engine InnoDB",
                Trouble::NoSpace,
            ),
            (
                "ERROR 1 (HY000) at line 2: Can't create/write to file '/tmp/x' (Errcode: 28 \"No space left on device\")",
                Trouble::NoSpace,
            ),
            (
                "ERROR 1045 (28000): Access denied for user 'root'@'localhost' (using password: YES)",
                Trouble::WrongPassword,
            ),
            (
                "Error: stepping, database or disk is full (13)",
                Trouble::NoSpace,
            ),
        ] {
            assert_eq!(Trouble::of(&failed(1, said)), Some(expected), "{said}");
            assert_eq!(
                Trouble::of_client(&failed(1, said)),
                Some(expected),
                "{said}"
            );
        }
    }

    #[test]
    fn the_name_of_a_file_in_a_repository_is_no_trouble() {
        for said in [
            "srv/disk full.txt: when setting extended attribute user.x: [Errno 1] Operation not permitted: 'srv/disk full.txt'",
            "disk full.txt: file chunk missing",
            "out of memory/x: chmod: [Errno 1] Operation not permitted",
            "srv/wrong password: Size inconsistency detected: size 3, chunks size 2",
            "ignoring error for /srv/disk full.txt: ciphertext verification failed",
            "ignoring error for /srv/a: no space left on device: ciphertext verification failed",
            r#"{"message_type":"error","error":{"message":"open /srv/disk full.txt: permission denied"},"during":"restore","item":"/srv/disk full.txt"}"#,
            r#"{"message_type":"status","current_files":["/srv/out of memory"]}"#,
            "error for tree 4f2c: wrong passwords.txt does not match",
        ] {
            assert_eq!(Trouble::of_repository(&failed(1, said)), None, "{said}");
            assert_eq!(Trouble::of_complaint(said), None, "{said}");
        }
        for (said, expected) in [
            (
                "ignoring error for /srv/disk full.txt: write /restore/srv/disk full.txt: no space left on device",
                Trouble::NoSpace,
            ),
            (
                r#"{"message_type":"error","error":{"message":"write /restore/a: no space left on device"},"during":"restore","item":"/a"}"#,
                Trouble::NoSpace,
            ),
            (
                "srv/u/big2: write: [Errno 28] No space left on device",
                Trouble::NoSpace,
            ),
            (
                "srv/a: open: [Errno 28] No space left on device: '/restore/srv/a'",
                Trouble::NoSpace,
            ),
            (
                "mkdir: cannot create directory '/restore/x': No space left on device",
                Trouble::NoSpace,
            ),
            (
                "runtime: out of memory: cannot allocate 4194304-byte block (66912256 in use)",
                Trouble::OutOfMemory,
            ),
            ("fatal error: runtime: out of memory", Trouble::OutOfMemory),
            ("MemoryError", Trouble::OutOfMemory),
            (
                r#"{"message_type":"exit_error","code":11,"message":"Fatal: unable to create lock in backend: repository is already locked by PID 7"}"#,
                Trouble::Locked,
            ),
        ] {
            assert_eq!(
                Trouble::of_repository(&failed(1, said)),
                Some(expected),
                "{said}"
            );
        }
    }

    #[test]
    fn a_tool_that_lost_its_server_is_known_by_its_words() {
        for (said, lost) in [
            (
                "HINT:  In a moment you should be able to reconnect | server closed the connection unexpectedly | This probably means",
                true,
            ),
            (
                "examine db: `psql` failed with exit code 2: FATAL:  the database system is in recovery mode",
                true,
            ),
            (
                "ERROR 2013 (HY000): Lost connection to server during query",
                true,
            ),
            ("public.t: 3 rows, expected 2", false),
            ("the row \"lost connection to server\" is not there", false),
        ] {
            assert_eq!(Trouble::is_loss(said), lost, "{said}");
        }
    }

    #[test]
    fn a_server_that_does_not_start_is_judged_by_how() {
        let start = |why, log: &str| StartError::Service {
            service: "db".to_owned(),
            why,
            reason: "it said so".to_owned(),
            log: log.to_owned(),
        };
        let unhealthy = Why::Unhealthy;
        let ended = |exit_code| Why::Ended { exit_code };
        for (why, log, whose, expected) in [
            (ended(1), "", Owner::Backup, Owner::Backup),
            (ended(1), "out of memory", Owner::Backup, Owner::Engine),
            (ended(137), "", Owner::Backup, Owner::Engine),
            (Why::OutOfMemory, "", Owner::Backup, Owner::Engine),
            (unhealthy, "", Owner::Backup, Owner::Backup),
            (unhealthy, "", Owner::Staging, Owner::Staging),
            (Why::Late, "", Owner::Backup, Owner::Staging),
            // The service may say it in its log as it likes: how it ended is not read from there.
            (
                ended(1),
                "not ready after 1 s (limits.start)",
                Owner::Backup,
                Owner::Backup,
            ),
        ] {
            let bad = not_started(&start(why, log), Owner::Backup, whose, "start");
            assert_eq!(bad.owner, expected, "{why:?} {log}");
            assert_eq!(bad.overrun, why == Why::Late);
        }
        let engine = crate::engine::EngineError::new("start container `x`", "no");
        let bad = not_started(&engine.into(), Owner::Backup, Owner::Backup, "start");
        assert_eq!(bad.owner, Owner::Engine);
    }

    #[test]
    fn what_is_in_the_way_is_told_from_a_bad_backup() {
        for (exit_code, said, expected) in [
            (
                1,
                "pg_restore: error: could not write to file: No space left on device",
                Some(Trouble::NoSpace),
            ),
            (137, "", Some(Trouble::OutOfMemory)),
            (
                1,
                "ERROR 1045 (28000): Access denied for user 'root'@'localhost'",
                Some(Trouble::WrongPassword),
            ),
            (
                1,
                "Fatal: wrong password or no key found",
                Some(Trouble::WrongPassword),
            ),
            (
                12,
                r#"{"message_type":"exit_error","code":12,"message":"Fatal: wrong password or no key found"}"#,
                Some(Trouble::WrongPassword),
            ),
            (
                2,
                "passphrase supplied in BORG_PASSPHRASE, by BORG_PASSCOMMAND or via BORG_PASSPHRASE_FD is incorrect.",
                Some(Trouble::WrongPassword),
            ),
            (
                2,
                "can not acquire a passphrase: BORG_PASSPHRASE is not set. BORG_PASSCOMMAND is not set.",
                Some(Trouble::WrongPassword),
            ),
            (
                11,
                "unable to create lock in backend: repository is already locked by PID 305 on web1 by root (UID 0, GID 0)",
                Some(Trouble::Locked),
            ),
            (
                2,
                "Failed to create/acquire the lock /rehearse-backup/0/lock.exclusive (timeout).",
                Some(Trouble::Locked),
            ),
            (1, "Fatal: repository contains errors", None),
            (
                1,
                "Data integrity error: Segment entry data short read [segment 2, offset 1004208]",
                None,
            ),
            (127, "sh: 1: borg: not found", Some(Trouble::NoTool)),
            (
                1,
                "pg_restore: error: could not read from input file: end of file",
                None,
            ),
            (1, "relation \"x\" does not exist", None),
        ] {
            let outcome = ExecOutcome {
                exit_code,
                stdout: String::new(),
                stderr: said.to_owned(),
            };
            assert_eq!(Trouble::of(&outcome), expected, "{said}");
            // What these say of their repositories is heard by the stricter reading too.
            if said.contains("lock") || said.contains("passphrase") || said.contains("Fatal") {
                assert_eq!(Trouble::of_repository(&outcome), expected, "{said}");
            }
        }
    }
}
