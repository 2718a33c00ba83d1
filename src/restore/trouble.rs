//! What tools say when something is in their way that is not the backup: by their words and exit codes.

use super::Bad;
use crate::engine::ExecOutcome;
use crate::event::Owner;

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

impl Trouble {
    /// What a line of a tool's output names, whatever its exit code was.
    pub(super) fn in_line(line: &str) -> Option<Self> {
        Self::of(&ExecOutcome {
            exit_code: 0,
            stdout: String::new(),
            stderr: line.to_owned(),
        })
    }

    /// What was in the way of a tool that failed, if its words or its exit code say so.
    pub fn of(outcome: &ExecOutcome) -> Option<Self> {
        let text = format!("{}\n{}", outcome.stderr, outcome.stdout).to_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        if says(&[
            "no space left on device",
            "disk full",
            "database or disk is full",
            "disk quota exceeded",
            "errcode: 28",
        ]) {
            return Some(Self::NoSpace);
        }
        if outcome.exit_code == KILLED
            || says(&["out of memory", "cannot allocate memory", "std::bad_alloc"])
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
        if matches!(outcome.exit_code, NOT_FOUND | NOT_EXECUTABLE)
            && says(&["not found", "no such file", "executable file"])
        {
            return Some(Self::NoTool);
        }
        None
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
        let lower = log.to_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
        if says(&SPACE) {
            Some(Self::NoSpace)
        } else if says(&MEMORY) {
            Some(Self::OutOfMemory)
        } else {
            None
        }
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

#[cfg(test)]
mod tests {
    use super::*;

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
        }
    }
}
