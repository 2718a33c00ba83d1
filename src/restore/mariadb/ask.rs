//! Questions to a MariaDB or MySQL server, by the client of its own image.

use jiff::Timestamp;

use super::damage::damage;
use super::fault::{Fault, Meaning};
use crate::engine::ExecOutcome;
use crate::event::{Output, Owner};
use crate::restore::{Toolbox, Trouble};
use crate::staging::Bad;

/// Logs in; the script that follows it gets the arguments after the account.
const LOGIN: &str = include_str!("login.sh");
/// Databases that every server makes for itself.
pub(super) const SYSTEM: &str = "'information_schema', 'mysql', 'performance_schema', 'sys'";
/// Bytes of statements in one argument of a command; Linux allows 128 KiB.
const BATCH: usize = 64 * 1024;

/// Limits that a restored account brings along (`GRANT .. WITH MAX_STATEMENT_TIME`) are not for our own sessions. MariaDB
/// and MySQL each read what is meant for them.
pub(super) const LIMITS: &str =
    "set @rehearse = 0 /*M!100101 , max_statement_time = 0 */ /*!50708 , max_execution_time = 0 */";
/// Statements of our own mean the same under every `sql_mode`.
const MODE: &str =
    ", sql_mode = 'STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'";

/// Asks as one account.
pub(crate) struct Ask<'a> {
    pub(super) tool: Toolbox<'a>,
    user: String,
    /// `mariadb` or `mysql`, whichever the image has.
    pub(super) client: String,
    /// `mariadb-dump` or `mysqldump`.
    pub(super) dumper: String,
}

impl<'a> Ask<'a> {
    /// Finds the image's client.
    ///
    /// # Errors
    /// When it has none.
    pub(crate) async fn open(mut tool: Toolbox<'a>, user: &str) -> Result<Self, Bad> {
        // As root of the container: an account that logs in by unix_socket is known by the system's user.
        tool.user = Some("0:0".to_owned());
        let find = "command -v mariadb || command -v mysql || echo; command -v mariadb-dump || command -v mysqldump || echo";
        let found = tool.script("sh", find, &[], Owner::Stack).await?.stdout;
        let mut names = found
            .lines()
            .map(|path| path.rsplit('/').next().unwrap_or_default().to_owned());
        let client = names.next().unwrap_or_default();
        if client.is_empty() {
            return Err(Trouble::NoTool.bad(&tool.source, "mariadb", ""));
        }
        Ok(Self {
            user: user.to_owned(),
            client,
            dumper: names.next().unwrap_or_default(),
            tool,
        })
    }

    /// Runs a shell script that is logged in, with arguments as `$1`, `$2`, ...; `see` gets each line.
    ///
    /// # Errors
    /// When it could not be run, or the deadline is over.
    pub(super) async fn script(
        &self,
        script: &str,
        arguments: &[&str],
        see: impl FnMut(Output, &str) + Send,
    ) -> Result<ExecOutcome, Bad> {
        let script = format!("{LOGIN}{script}");
        let mut command = vec!["/bin/sh", "-c", &script, "sh", &self.user];
        command.extend(arguments);
        self.tool
            .seen(&command, self.tool.user.as_deref(), see)
            .await
    }

    /// Runs statements of our own; rows come as lines, columns apart by tabs. The inner result is what the server says of
    /// them.
    ///
    /// # Errors
    /// When they could not be run.
    pub(super) async fn run(
        &self,
        database: Option<&str>,
        statements: &str,
    ) -> Result<Result<String, Fault>, Bad> {
        let session = format!("{LIMITS} {MODE}");
        self.run_in(&session, database, statements).await
    }

    /// Like [`Self::run`], in a session that begins with one statement.
    async fn run_in(
        &self,
        session: &str,
        database: Option<&str>,
        statements: &str,
    ) -> Result<Result<String, Fault>, Bad> {
        let run = "client=$1; shift; exec \"$client\" --user=\"$user\" --default-character-set=utf8mb4 -N -B \"$@\"";
        let session = format!("--init-command={session}");
        let mut arguments = vec![self.client.as_str(), &session, "-e", statements];
        arguments.extend(database);
        // Line by line: of what a command writes at once only the end is kept.
        let mut rows: Vec<String> = Vec::new();
        let outcome = self
            .script(run, &arguments, |output, line| {
                if output == Output::Stdout {
                    rows.push(line.to_owned());
                }
            })
            .await?;
        if outcome.exit_code == 0 {
            return Ok(Ok(rows.join("\n")));
        }
        match Fault::first(&outcome.stderr) {
            Some(fault) => Ok(Err(fault)),
            None => Err(self.tool.failed(&self.client, &outcome, Owner::Staging)),
        }
    }

    /// Like [`Self::run`], of any number of statements; those after one that fails are not run.
    ///
    /// # Errors
    /// Like [`Self::run`].
    pub(super) async fn run_all(
        &self,
        statements: &[String],
    ) -> Result<(Vec<String>, Option<Fault>), Bad> {
        let mut lines = Vec::new();
        let mut rest = statements;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fitting = rest
                .iter()
                .take_while(|statement| {
                    bytes += statement.len() + 2;
                    bytes <= BATCH
                })
                .count()
                .max(1);
            let (batch, later) = rest.split_at(fitting);
            rest = later;
            match self.run(None, &batch.join(";\n")).await? {
                Ok(text) => lines.extend(text.lines().map(str::to_owned)),
                Err(fault) => return Ok((lines, Some(fault))),
            }
        }
        Ok((lines, None))
    }

    /// The answer to a query, as text.
    ///
    /// # Errors
    /// With `owner` at fault where the server refuses it and nothing else is in the way.
    pub(crate) async fn text(
        &self,
        database: Option<&str>,
        query: &str,
        owner: Owner,
    ) -> Result<String, Bad> {
        match self.run(database, query).await? {
            Ok(text) => Ok(text),
            Err(fault) => Err(self.blame(&fault, owner).await),
        }
    }

    /// The answer to a query of the rehearsal's, in the server's own `sql_mode`.
    ///
    /// # Errors
    /// Like [`Self::text`], the rehearsal being at fault where the server refuses it.
    pub(super) async fn answer(&self, database: Option<&str>, query: &str) -> Result<String, Bad> {
        match self.run_in(LIMITS, database, query).await? {
            Ok(text) => Ok(text),
            Err(fault) => Err(self.blame(&fault, Owner::Staging).await),
        }
    }

    /// Whose fault an error is: a server that went away is looked at.
    pub(super) async fn blame(&self, fault: &Fault, owner: Owner) -> Bad {
        let bad = fault.bad(&self.tool.source, owner);
        if fault.meaning() != Meaning::Lost {
            return bad;
        }
        let engine = &self.tool.staging.ground.engine;
        let Ok(state) = engine.container_state(&self.tool.container).await else {
            return bad;
        };
        if state.out_of_memory || state.exit_code == Some(137) {
            return Trouble::OutOfMemory.bad(&self.tool.source, "the server", &fault.line);
        }
        let log = engine
            .container_log(&self.tool.container, Some(400))
            .await
            .unwrap_or_default();
        if log.to_lowercase().contains("no space left on device") {
            return Trouble::NoSpace.bad(&self.tool.source, "the server", &fault.line);
        }
        match damage(&log) {
            Some(said) => Bad::new(
                Owner::Backup,
                format!("{}: the server went down: {said}", self.tool.source),
            ),
            None => bad,
        }
    }

    /// The databases of the server, without its own.
    ///
    /// # Errors
    /// When the server does not answer.
    pub(crate) async fn databases(&self) -> Result<Vec<String>, Bad> {
        let query = format!(
            "select schema_name from information_schema.schemata where schema_name not in ({SYSTEM}) order by 1"
        );
        let text = self.text(None, &query, Owner::Staging).await?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// The time of the newest data, by the rehearsal's query. A time without a zone is taken for UTC.
    ///
    /// # Errors
    /// Where the query is wrong, or what it gives is no time.
    pub(crate) async fn as_of(
        &self,
        restore: &str,
        database: Option<&str>,
        query: &str,
    ) -> Result<Timestamp, Bad> {
        let query = format!(
            "set time_zone = '+00:00'; select date_format(({}), '%Y-%m-%dT%H:%i:%sZ')",
            query.trim().trim_end_matches(';')
        );
        let text = self
            .answer(database, &query)
            .await
            .map_err(|bad| {
                if bad.help.is_some() || bad.owner != Owner::Staging {
                    bad
                } else {
                    bad.with_help("data_as_of has to be one select of one time; `database:` names where it is asked")
                }
            })?;
        text.trim().parse::<Timestamp>().map_err(|_| {
            Bad::new(
                Owner::Backup,
                format!("{restore}: data_as_of gave `{text}` instead of a time"),
            )
        })
    }
}

/// A value as an SQL literal.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// A name as an SQL identifier.
pub(super) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}
