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

/// Counts the rows of a query and writes the first of them. A pipe would hide the exit code.
const ROWS: &str = r#"
{ sqlite3 -batch -bail "$db" "$sql" 2>/tmp/rows.err || echo $? > /tmp/rows.code; } |
  awk 'NR == 1 { print "row " substr($0, 1, 500) } END { printf "rows %.0f\n", NR }'
cat /tmp/rows.err >&2
if [ -s /tmp/rows.code ]; then code=$(cat /tmp/rows.code); rm /tmp/rows.code; exit "$code"; fi
"#;

/// What a query answered.
pub(super) struct Rows {
    pub(super) count: u64,
    pub(super) first: Option<String>,
    pub(super) outcome: ExecOutcome,
}

/// What `PRAGMA integrity_check` says.
#[derive(Debug, PartialEq, Eq)]
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

    /// Runs SQL to its first error; its answer is whole.
    pub(super) async fn run(&self, sql: &str) -> Result<ExecOutcome, Bad> {
        self.tool
            .whole(&["sqlite3", "-batch", "-bail", &self.file, sql])
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
            .whole(&["/bin/sh", "-e", "-c", &script, "sqlite3", &self.file, sql])
            .await
    }

    pub(super) fn failed(&self, outcome: &ExecOutcome) -> Bad {
        let said = outcome.last_words();
        if let Some(trouble) = Trouble::of_client(outcome) {
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
        if let Some(judged) = integrity(&outcome) {
            return Ok(judged);
        }
        let bad = self.failed(&outcome);
        match bad.owner {
            Owner::Backup => Ok(Integrity::Broken(bad.reason)),
            _ => Err(bad),
        }
    }

    /// How many rows a query has, and the first of them: there may be as many as the tables have.
    pub(super) async fn rows(&self, sql: &str) -> Result<Rows, Bad> {
        let outcome = self.script(ROWS, sql).await?;
        let mut lines = outcome.stdout.lines();
        let count = lines.next_back();
        let count = count.and_then(|line| line.strip_prefix("rows ")?.parse().ok());
        if outcome.exit_code == 0 && count.is_none() {
            return Err(Bad::new(
                Owner::Engine,
                format!("{}: the rows of a query were not counted", self.tool.source),
            ));
        }
        Ok(Rows {
            count: count.unwrap_or(0),
            first: lines
                .next()
                .map(|line| line.trim_start_matches("row ").to_owned()),
            outcome,
        })
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

/// What an integrity check said; `None` where it ended without a word about the file. A defect counts also where other
/// parts of the file could not be looked at.
fn integrity(outcome: &ExecOutcome) -> Option<Integrity> {
    let said = outcome.stdout.lines().map(str::trim);
    let said: Vec<&str> = said.filter(|line| !line.is_empty()).collect();
    if outcome.exit_code == 0 && said == ["ok"] {
        return Some(Integrity::Holds);
    }
    let defects: Vec<&str> = said
        .iter()
        .copied()
        .filter(|line| !only_the_application(line) && *line != "ok")
        .collect();
    if !defects.is_empty() {
        let first = defects.iter().take(3).copied().collect::<Vec<_>>();
        let more = if defects.len() > 3 {
            format!(" | ... ({} lines)", defects.len())
        } else {
            String::new()
        };
        return Some(Integrity::Broken(format!("{}{more}", first.join(" | "))));
    }
    let mut lines = said.into_iter().chain(outcome.stderr.lines());
    let why = lines.find(|line| only_the_application(line))?;
    Some(Integrity::CannotTell(format!(
        "integrity_check needs what only the application has: {why}"
    )))
}

/// Collations, functions and modules that an application brings with it.
fn only_the_application(said: &str) -> bool {
    [
        "no such collation",
        "no such function",
        "no such module",
        "unknown tokenizer",
        "no such tokenizer",
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
    fn every_line_of_an_integrity_check_counts() {
        let outcome = |exit_code, stdout: &str, stderr: &str| ExecOutcome {
            exit_code,
            stdout: stdout.to_owned(),
            stderr: stderr.to_owned(),
        };
        let broken = |said: &str| Some(Integrity::Broken(said.to_owned()));
        let lacks = "no such collation sequence: icu_de";
        assert_eq!(integrity(&outcome(0, "ok\n", "")), Some(Integrity::Holds));
        // The defect stands first, before what would hide it.
        for said in [
            "row 3 missing from index i\nno such tokenizer: icu\n",
            "no such function: f\nrow 3 missing from index i\n",
        ] {
            let judged = integrity(&outcome(0, said, ""));
            assert_eq!(judged, broken("row 3 missing from index i"), "{said}");
        }
        let long = format!("row 1 missing\n{}", "no such function: f\n".repeat(100_000));
        let judged = integrity(&outcome(0, &long, ""));
        assert_eq!(judged, broken("row 1 missing"));
        let many = "row missing\n".repeat(100);
        let judged = integrity(&outcome(0, &many, ""));
        assert!(
            matches!(&judged, Some(Integrity::Broken(why)) if why.ends_with("(100 lines)")),
            "{judged:?}"
        );
        assert!(matches!(
            integrity(&outcome(1, "", lacks)),
            Some(Integrity::CannotTell(_))
        ));
        // An "ok" of a tool that failed, and silence, are no answers.
        assert_eq!(integrity(&outcome(1, "ok\n", "Error: malformed")), None);
        assert_eq!(integrity(&outcome(0, "", "")), None);
    }

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
