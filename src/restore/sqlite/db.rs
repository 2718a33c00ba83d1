//! Questions to a database file, by the real `sqlite3`.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::MOUNT;
use crate::engine::ExecOutcome;
use crate::event::Owner;
use crate::restore::{Toolbox, Trouble};
use crate::staging::Bad;

/// Ordinary tables, in the order of their names. What a virtual table stands on is not listed by its own name.
const TABLES: &str = "from pragma_table_list where schema = 'main' and type = 'table' and name not like 'sqlite\\_%' escape '\\'";

/// A database file in a toolbox.
pub(super) struct Db<'a> {
    tool: &'a Toolbox<'a>,
    file: String,
}

/// What `PRAGMA integrity_check` says.
pub(super) enum Integrity {
    Holds,
    Broken(String),
    /// It needs something that only the application has.
    CannotTell(String),
}

impl<'a> Db<'a> {
    pub(super) fn of(tool: &'a Toolbox<'a>, to: &str) -> Self {
        Self {
            tool,
            file: format!("{MOUNT}/{to}"),
        }
    }

    /// Runs SQL to its first error.
    pub(super) async fn run(&self, sql: &str) -> Result<ExecOutcome, Bad> {
        self.tool
            .run(&["sqlite3", "-batch", "-bail", &self.file, sql])
            .await
    }

    /// What SQL answers; an error is the backup's fault unless it is known to be another's.
    pub(super) async fn text(&self, sql: &str) -> Result<String, Bad> {
        let outcome = self.run(sql).await?;
        if outcome.exit_code == 0 {
            return Ok(outcome.stdout);
        }
        Err(self.failed(&outcome))
    }

    /// A shell script in which `$db` is the file and `$1` SQL.
    pub(super) async fn script(&self, script: &str, sql: &str) -> Result<ExecOutcome, Bad> {
        let script = format!("db=$1 sql=$2\n{script}");
        self.tool
            .run(&["/bin/sh", "-e", "-c", &script, "sqlite3", &self.file, sql])
            .await
    }

    pub(super) fn failed(&self, outcome: &ExecOutcome) -> Bad {
        let said = outcome.last_words();
        if let Some(trouble) = Trouble::of(outcome) {
            return trouble.bad(&self.tool.source, "sqlite3", &said);
        }
        Bad::new(
            owner(&said),
            format!("{}: sqlite3: {said}", self.tool.source),
        )
    }

    pub(super) async fn tables(&self) -> Result<Vec<String>, Bad> {
        let text = self.text(&format!("select name {TABLES}")).await?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    pub(super) async fn integrity(&self) -> Result<Integrity, Bad> {
        let outcome = self.run("pragma integrity_check").await?;
        let said = outcome.stdout.trim();
        if outcome.exit_code == 0 && said == "ok" {
            return Ok(Integrity::Holds);
        }
        let lines: Vec<&str> = said.lines().chain(outcome.stderr.lines()).collect();
        if let Some(why) = lines.iter().find(|line| only_the_application(line)) {
            return Ok(Integrity::CannotTell(format!(
                "integrity_check needs what only the application has: {why}"
            )));
        }
        if said.is_empty() {
            let bad = self.failed(&outcome);
            return match bad.owner {
                Owner::Backup => Ok(Integrity::Broken(bad.reason)),
                _ => Err(bad),
            };
        }
        let first: Vec<&str> = lines.iter().take(3).copied().collect();
        Ok(Integrity::Broken(format!(
            "{}{}",
            first.join(" | "),
            if lines.len() > 3 { " | ..." } else { "" }
        )))
    }

    /// How many rows each table has, by a full scan.
    pub(super) async fn counts(&self) -> Result<BTreeMap<String, u64>, Bad> {
        let count = format!(
            "select 'select ' || quote(name) || ', count(*) from \"' || replace(name, '\"', '\"\"') || '\" not indexed;' {TABLES}"
        );
        let script = "sqlite3 -batch -bail \"$db\" \"$sql\" > /tmp/counts.sql\nsqlite3 -batch -bail \"$db\" < /tmp/counts.sql";
        let outcome = self.script(script, &count).await?;
        if outcome.exit_code != 0 {
            return Err(self.failed(&outcome));
        }
        Ok(outcome
            .stdout
            .lines()
            .filter_map(|line| {
                let (name, rows) = line.rsplit_once('|')?;
                Some((name.to_owned(), rows.parse().ok()?))
            })
            .collect())
    }

    /// The time of the newest data, by the rehearsal's query. A text without a zone is taken for UTC; a number is a
    /// Unix time or a Julian day, by its size.
    pub(super) async fn as_of(&self, restore: &str, query: &str) -> Result<Timestamp, Bad> {
        let query = query.trim().trim_end_matches(';');
        let sql = format!("select strftime('%Y-%m-%dT%H:%M:%SZ', ({query}), 'auto'), ({query})");
        let outcome = self.run(&sql).await?;
        if outcome.exit_code != 0 {
            let bad = self.failed(&outcome);
            let owner = if outcome.stderr.contains("malformed") {
                Owner::Backup
            } else {
                Owner::Staging
            };
            return Err(
                Bad { owner, ..bad }.with_help("data_as_of has to be one select of one time")
            );
        }
        let text = outcome.stdout.trim();
        let (time, written) = text.split_once('|').unwrap_or((text, ""));
        time.parse().map_err(|_| {
            Bad::new(
                Owner::Backup,
                format!("{restore}: data_as_of gave `{written}` instead of a time"),
            )
        })
    }
}

/// Collations, functions and modules that an application brings with it.
fn only_the_application(said: &str) -> bool {
    [
        "no such collation",
        "no such function",
        "no such module",
        "unknown tokenizer",
    ]
    .iter()
    .any(|words| said.to_lowercase().contains(words))
}

/// Whose fault an error is.
fn owner(said: &str) -> Owner {
    let lower = said.to_lowercase();
    let others = [
        "unable to open",
        "readonly",
        "read-only",
        "disk i/o error",
        "is locked",
    ];
    if only_the_application(said) || others.iter().any(|words| lower.contains(words)) {
        return Owner::Staging;
    }
    Owner::Backup
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_file_is_told_from_what_only_the_application_has() {
        for (said, expected) in [
            (
                "Error: in prepare, database disk image is malformed (11)",
                Owner::Backup,
            ),
            ("Error: file is not a database", Owner::Backup),
            (
                "Error: in prepare, no such collation sequence: icu_de",
                Owner::Staging,
            ),
            ("Error: unable to open database file", Owner::Staging),
            (
                "Error: attempt to write a readonly database",
                Owner::Staging,
            ),
        ] {
            assert_eq!(owner(said), expected, "{said}");
        }
    }
}
