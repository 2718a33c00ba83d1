//! Questions to a PostgreSQL server, by the `psql` of its own image.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::de::DeserializeOwned;

use crate::engine::{ExecOutcome, ExecSpec};
use crate::event::{Output, Owner};
use crate::restore::Toolbox;
use crate::staging::{Bad, Blueprint, Ended};

/// Role, database and SQL are its arguments; `\\gexec` works in what comes by standard input.
const SCRIPT: &str =
    r#"printf '%s\n' "$3" | psql -X -A -t -q -w -v ON_ERROR_STOP=1 -U "$1" -d "$2""#;

/// Asks as one role.
pub(crate) struct Ask<'a> {
    pub(crate) tool: &'a Toolbox<'a>,
    pub(crate) user: &'a str,
}

/// What a restored database or role may bring along (`ALTER DATABASE .. SET`) and must not do to our own sessions: an
/// option of the connection comes before it. Every version since 9.6 knows these.
const OPTIONS: &str = "-c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0 -c default_transaction_read_only=off \
     -c default_transaction_deferrable=off -c default_transaction_isolation=read\\ committed -c row_security=off";

/// The same for limits that only newer versions know: without a row to print, whatever the version is.
const LIMITS: &str = "select count(pg_catalog.set_config(name, '0', false)) as ignored from pg_catalog.pg_settings \
     where name in ('idle_session_timeout', 'transaction_timeout')";

/// The variable with the options of our own sessions, behind those of the service's own tools.
pub(super) fn options(theirs: Option<&String>) -> (String, String) {
    let theirs = theirs.map_or("", String::as_str);
    ("PGOPTIONS".to_owned(), format!("{theirs} {OPTIONS}"))
}

/// The variables that let tools in a service's container log in without being asked, in sessions of our own settings.
pub(crate) fn environment(blueprint: &Blueprint) -> std::collections::BTreeMap<String, String> {
    let settings = &blueprint.service.environment;
    let password = settings.get("POSTGRES_PASSWORD");
    password
        .map(|password| ("PGPASSWORD".to_owned(), password.clone()))
        .into_iter()
        .chain([options(settings.get("PGOPTIONS"))])
        .collect()
}

impl Ask<'_> {
    /// The command that asks a database; rows come as lines, columns apart by `|`.
    pub(crate) fn command<'c>(&'c self, database: &'c str, query: &'c str) -> [&'c str; 20] {
        [
            "psql",
            "-X",
            "-A",
            "-t",
            "-q",
            "-w",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            self.user,
            "-d",
            database,
            // Clients from before 9.6 run the last of several only, and their servers know no such limit.
            "-c",
            r"\o /dev/null",
            "-c",
            LIMITS,
            "-c",
            r"\o",
            "-c",
            query,
        ]
    }

    /// The answer to a query, as text.
    ///
    /// # Errors
    /// With `owner` at fault where the server refuses it.
    pub(crate) async fn text(
        &self,
        database: &str,
        query: &str,
        owner: Owner,
    ) -> Result<String, Bad> {
        let answer = self
            .tool
            .must(&self.command(database, query), owner)
            .await?;
        Ok(answer.stdout.trim_end_matches('\n').to_owned())
    }

    /// The answers to a script of our own, each row one JSON value; none becomes part of the run's output. Names in it
    /// have to say their schema.
    ///
    /// # Errors
    /// With `owner` at fault where the server refuses it.
    pub(crate) async fn rows<T: DeserializeOwned>(
        &self,
        database: &str,
        script: &str,
        owner: Owner,
    ) -> Result<Vec<T>, Bad> {
        let script = format!("set search_path = pg_catalog;\n{script}");
        self.rows_in_its_path(database, &script, owner).await
    }

    /// Like [`Self::rows`], with names looked up as the database says: what a rehearsal asks counts on that.
    ///
    /// # Errors
    /// Like [`Self::rows`].
    pub(crate) async fn rows_in_its_path<T: DeserializeOwned>(
        &self,
        database: &str,
        script: &str,
        owner: Owner,
    ) -> Result<Vec<T>, Bad> {
        // A filter by row security would hide rows from what is counted: refuse, rather than see less.
        let script =
            format!("{LIMITS} \\gset\nset row_security = off;\nset timezone = 'UTC';\n{script}");
        let command = [
            "/bin/sh", "-c", SCRIPT, "psql", self.user, database, &script,
        ];
        let (outcome, lines) = self.quietly(&command).await?;
        if outcome.exit_code != 0 {
            return Err(self.tool.failed("psql", &outcome, owner));
        }
        lines
            .iter()
            .filter(|line| !line.trim().is_empty())
            .map(|line| serde_json::from_str(line))
            .collect::<Result<_, _>>()
            .map_err(|error| {
                Bad::new(
                    Owner::Staging,
                    format!(
                        "{}: the answer of psql was not understood: {error}",
                        self.tool.source
                    ),
                )
            })
    }

    /// Runs a command, and keeps each line of its standard output instead of showing it.
    ///
    /// # Errors
    /// When it could not be run, or did not end in time.
    pub(crate) async fn quietly(
        &self,
        command: &[&str],
    ) -> Result<(ExecOutcome, Vec<String>), Bad> {
        let tool = self.tool;
        let spec = ExecSpec {
            command: command.iter().map(|part| (*part).to_owned()).collect(),
            environment: tool.environment.clone(),
            user: tool.user.clone(),
            ..ExecSpec::default()
        };
        let mut lines = Vec::new();
        let ended = tool
            .staging
            .ground
            .exec_within(&tool.container, &spec, tool.deadline.left(), |line| {
                if line.output == Output::Stdout {
                    lines.push(line.line);
                }
            })
            .await?;
        match ended {
            Ended::ByItself(outcome) => Ok((outcome, lines)),
            Ended::Killed => Err(tool.deadline.overrun(&tool.source)),
        }
    }

    /// The server's version as a number: 150014 is 15.14.
    ///
    /// # Errors
    /// When the server does not answer.
    pub(crate) async fn version(&self) -> Result<u32, Bad> {
        let text = self
            .text("postgres", "show server_version_num", Owner::Staging)
            .await?;
        text.trim().parse().map_err(|_| {
            Bad::new(
                Owner::Staging,
                format!("the server calls its version `{text}`, which is no number"),
            )
        })
    }

    /// The databases of the server that can be connected to, without its templates and, where there are others and it
    /// has no table, without `postgres`.
    ///
    /// # Errors
    /// When the server does not answer.
    pub(crate) async fn databases(&self) -> Result<Vec<String>, Bad> {
        const DATABASES: &str = "select to_json(datname) from pg_catalog.pg_database \
             where datallowconn and not datistemplate order by datname";
        let mut names: Vec<String> = self.rows("postgres", DATABASES, Owner::Staging).await?;
        if names.len() > 1 && self.tables("postgres").await? == 0 {
            names.retain(|name| name != "postgres");
        }
        Ok(names)
    }

    /// How many tables a database has.
    ///
    /// # Errors
    /// When the server does not answer.
    pub(crate) async fn tables(&self, database: &str) -> Result<u64, Bad> {
        const TABLES: &str = "select count(*) from pg_catalog.pg_tables \
             where schemaname not in ('pg_catalog', 'information_schema')";
        let counts: Vec<u64> = self.rows(database, TABLES, Owner::Staging).await?;
        Ok(counts.iter().sum())
    }

    /// The tables of a database, each by a name that a later one of the same name does not get, nor the same with other
    /// rows: a dump of rows alone fills what the service's image made.
    ///
    /// # Errors
    /// When the server does not answer.
    pub(super) async fn identities(&self, database: &str) -> Result<BTreeSet<String>, Bad> {
        const TABLES: &str = "select to_json(d.oid || '.' || c.oid || ' ' || pg_relation_size(c.oid)) from pg_catalog.pg_class c, pg_catalog.pg_database d \
             where d.datname = current_database() and c.relkind in ('r', 'p') \
             and c.relnamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace, 'pg_toast'::regnamespace)";
        let found: Vec<String> = self.rows(database, TABLES, Owner::Staging).await?;
        Ok(found.into_iter().collect())
    }

    /// The time of the newest data, by the rehearsal's query.
    ///
    /// # Errors
    /// Where the query is wrong, or what it gives is no time.
    pub(crate) async fn as_of(
        &self,
        restore: &str,
        database: &str,
        query: &str,
    ) -> Result<Timestamp, Bad> {
        // Read as a time with a zone, in UTC, so that the text has one form whatever the column's type is.
        let query = format!(
            "set timezone = 'UTC'; select to_char((({query}))::timestamptz, 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')",
            query = query.trim().trim_end_matches(';')
        );
        let text = self
            .text(database, &query, Owner::Staging)
            .await
            .map_err(|bad| bad.with_help("data_as_of has to be one select of one time"))?;
        text.trim().parse::<Timestamp>().map_err(|_| {
            Bad::new(
                Owner::Backup,
                format!("{restore}: data_as_of gave `{text}` instead of a time"),
            )
        })
    }
}

/// A name as an SQL literal.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
