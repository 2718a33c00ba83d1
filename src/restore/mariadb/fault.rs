//! What the client or the server says went wrong, by MariaDB's own error codes, and whose fault that is.

use crate::event::Owner;
use crate::restore::words;
use crate::staging::Bad;

/// An error in the words of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// MariaDB's number of it; `None` for an error of the client itself.
    pub(super) code: Option<u32>,
    /// Without the tool's name, its number and the line before it: what `tolerate:` compares.
    pub(super) message: String,
    /// As it was written.
    pub(super) line: String,
}

/// What an error means for the backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Something else was in the way: who, and what to do.
    Other(Owner, &'static str),
    /// The server does not answer any more; its container knows why.
    Lost,
    /// What is stored is damaged.
    Damaged,
    /// The statement is wrong for what is there: the fault of whoever wrote it.
    Statement,
}

impl Fault {
    /// The error that a line is, if it is one: `ERROR 1050 (42S01) at line 12: Table 'x' already exists`,
    /// `mariadb-dump: Error 1412: ..`, `mysqldump: Got error: 1712: "Index .." when ..`.
    pub(super) fn of(line: &str) -> Option<Self> {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("ERROR ") {
            let (head, message) = rest.split_once(": ").unwrap_or(("", rest));
            let code = head.split_whitespace().next();
            return Some(Self {
                code: code.and_then(|code| code.parse().ok()),
                message: message.to_owned(),
                line: line.to_owned(),
            });
        }
        let (tool, rest) = line.split_once(": ")?;
        if !tool.ends_with("dump") {
            return None;
        }
        let code = rest
            .split(|c: char| !c.is_ascii_digit())
            .find(|digits| digits.len() == 4)
            .and_then(|digits| digits.parse().ok());
        Some(Self {
            code,
            message: rest.to_owned(),
            line: line.to_owned(),
        })
    }

    /// The first error in what a client wrote.
    pub(super) fn first(text: &str) -> Option<Self> {
        text.lines().find_map(Self::of)
    }

    /// What it means.
    pub(super) fn meaning(&self) -> Meaning {
        use Meaning::{Damaged, Lost, Other, Statement};
        // Values that the line quotes may say anything.
        let lower = words::own(&self.line).concat();
        if lower.contains("errcode: 28") || lower.contains("no space left") {
            return Other(Owner::Engine, NO_SPACE);
        }
        if self.line.to_lowercase().contains("unknown command '\\-'") {
            return Other(
                Owner::Stack,
                "the dump begins with the line that newer clients know as sandbox mode: use an image with a client that knows \
                 it (MariaDB 10.5.25, 10.6.18, 10.11.8 or newer)",
            );
        }
        match self.code.unwrap_or(0) {
            1021 | 1114 => Other(Owner::Engine, NO_SPACE),
            5 | 1037 | 1038 | 1041 => Other(
                Owner::Engine,
                "give the service more memory (`mem_limit` in the stack)",
            ),
            1045 | 1698 | 1862 | 4151 => Other(Owner::Staging, PASSWORD),
            1044 | 1142 | 1143 | 1227 | 1370 => Other(
                Owner::Staging,
                "the account may not do this: name one that may as `user:` (default root)",
            ),
            1449 => Other(
                Owner::Stack,
                "a dump of a database carries no accounts: restore a dump of them before it (`mariadb-dump --system=users`), or \
                 make them in the service's image (docker-entrypoint-initdb.d)",
            ),
            1115 | 1273 => Other(
                Owner::Stack,
                "the server does not know it: use the server and version that production has (MySQL 8's \
                 utf8mb4_0900_ai_ci is not MariaDB's)",
            ),
            1286 | 1524 | 1126 | 1127 => Other(
                Owner::Stack,
                "the server lacks a plugin that production has: load it in the stack's image or command",
            ),
            1193 | 1231 => Other(
                Owner::Stack,
                "the dump sets a variable as this server does not know it: use the server and version that production has",
            ),
            1153 | 1301 | 2020 => Other(
                Owner::Stack,
                "raise `max_allowed_packet` in the service's command or configuration to production's",
            ),
            1290 | 1836 => Other(Owner::Stack, "the server's configuration forbids it"),
            1040 | 1203 | 1205 | 1213 => Other(Owner::Staging, "something else uses the server"),
            1053 | 1927 | 2002 | 2003 | 2006 | 2013 | 2055 => Lost,
            1016 | 1017 | 1030 | 1033 | 1034 | 1035 | 1194 | 1195 | 1296 | 1459 | 1696 | 1712
            | 1726 | 1814 | 1815 | 1877 | 1932 => Damaged,
            _ => Statement,
        }
    }

    /// As what went wrong with an operation; `owner` wrote the statement.
    pub(super) fn bad(&self, operation: &str, owner: Owner) -> Bad {
        let reason = format!("{operation}: {}", self.line);
        match self.meaning() {
            Meaning::Other(owner, help) => Bad::new(owner, reason).with_help(help),
            Meaning::Lost => Bad::new(Owner::Staging, reason)
                .with_help("the server's log is in the run's folder, below logs/"),
            Meaning::Damaged => Bad::new(Owner::Backup, reason),
            Meaning::Statement => Bad::new(owner, reason),
        }
    }
}

const NO_SPACE: &str = "make room where the engine keeps its volumes (`rehearse bases`, `rehearse sweep --bases`), or give it a larger disk";
const PASSWORD: &str = "the backup was not judged. The service's password variable has to be that of the account: after \
    a backup of a whole server that is the password in the backup; an account root that logs in by unix_socket needs none";

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(line: &str) -> Meaning {
        Fault::of(line).expect("an error").meaning()
    }

    #[test]
    fn errors_are_known_by_their_numbers() {
        let fault =
            Fault::of("ERROR 1050 (42S01) at line 12: Table 't: x' already exists").unwrap();
        assert_eq!(
            (fault.code, fault.message.as_str(), fault.meaning()),
            (
                Some(1050),
                "Table 't: x' already exists",
                Meaning::Statement
            )
        );
        for (line, owner) in [
            (
                "ERROR 1045 (28000): Access denied for user 'root'@'localhost' (using password: YES)",
                Owner::Staging,
            ),
            (
                "ERROR 1044 (42000) at line 3: Access denied for user 'a'@'%' to database 'b'",
                Owner::Staging,
            ),
            (
                "ERROR 1273 (HY000) at line 25: Unknown collation: 'utf8mb4_0900_ai_ci'",
                Owner::Stack,
            ),
            ("ERROR at line 1: Unknown command '\\-'.", Owner::Stack),
            (
                "ERROR 1114 (HY000) at line 9: The table 't' is full",
                Owner::Engine,
            ),
            (
                "ERROR 1026 (HY000) at line 9: Error writing file './x' (Errcode: 28 \"No space left on device\")",
                Owner::Engine,
            ),
            (
                "mysqldump: Got error: 1449: \"The user specified as a definer ('a'@'%') does not exist\" when using LOCK TABLES",
                Owner::Stack,
            ),
        ] {
            assert!(
                matches!(meaning(line), Meaning::Other(seen, _) if seen == owner),
                "{line}"
            );
        }
        assert_eq!(
            meaning(
                "mariadb-dump: Error 1712: Index t is corrupted when dumping table `t` at row: 0"
            ),
            Meaning::Damaged
        );
        assert_eq!(
            meaning("ERROR 2013 (HY000) at line 1: Lost connection to server during query"),
            Meaning::Lost
        );
        assert_eq!(Fault::of("Note (Code 1051): Unknown table 'x'"), None);
        assert_eq!(Fault::of("cat: write error: Broken pipe"), None);
    }
}
