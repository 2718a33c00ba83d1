//! `rehearse manifest`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{USAGE, say};
use crate::check::source::SourceManifest;
use crate::source::{self, SourceError};

/// Take the truth at the source of a backup, beside it: exact row counts of one moment.
#[derive(Debug, Args)]
#[command(after_long_help = "\
It runs where the backup is made and needs no engine. `manifest:` of a restore names the file, and the restore is compared \
with it. Nothing secret is in it; its owner alone may read it.

Examples:
  rehearse manifest postgres --host /var/run/postgresql --user backup --database site -o site.json
  MYSQL_PWD=.. rehearse manifest mariadb --host /run/mysqld/mysqld.sock --user backup --database shop -o shop.json
  rehearse manifest sqlite /srv/app/site.sqlite --backup site.sqlite.zst -o site.json")]
pub struct Arguments {
    /// What the source is
    #[command(subcommand)]
    pub source: Source,
}

/// The kinds of sources.
#[derive(Debug, Subcommand)]
pub enum Source {
    /// A PostgreSQL server, primary or standby
    Postgres(Postgres),
    /// A MariaDB or MySQL server, primary or replica
    #[command(alias = "mysql")]
    Mariadb(Mariadb),
    /// An SQLite database file
    Sqlite(Sqlite),
}

/// A PostgreSQL server, primary or standby
#[derive(Debug, Args)]
#[command(after_long_help = "\
The password is taken from --url, PGPASSWORD, or the password file (PGPASSFILE, else ~/.pgpass). TLS is not spoken: run it \
on the server's machine, or through a tunnel.

So that it counts what the dump holds, while the site is being written to: let one session export its snapshot \
(begin isolation level repeatable read; select pg_export_snapshot();) and stay open, then give that snapshot first to this \
command and then to pg_dump, both as --snapshot.")]
pub struct Postgres {
    /// The server as a URL: postgresql://user@host:5432/database
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// The server's host, or the folder of its socket; default PGHOST, else localhost
    #[arg(long, value_name = "HOST", conflicts_with = "url")]
    pub host: Option<String>,
    /// The server's port; default PGPORT, else 5432
    #[arg(long, value_name = "PORT", conflicts_with = "url")]
    pub port: Option<u16>,
    /// The role, which has to be able to read every table; default PGUSER, else postgres
    #[arg(long, value_name = "ROLE", conflicts_with = "url")]
    pub user: Option<String>,
    /// A database, repeatable; default that of --url, else all but the templates
    #[arg(long, value_name = "NAME")]
    pub database: Vec<String>,
    /// Count in this snapshot, of one database
    #[arg(long, value_name = "ID")]
    pub snapshot: Option<String>,
    /// Record the digest of this backup, which is finished; sequences, which are no part of a snapshot, are left out
    #[arg(long, value_name = "FILE")]
    pub backup: Option<PathBuf>,
    /// Where to write it; default standard output
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// A MariaDB or MySQL server, primary or replica
#[derive(Debug, Args)]
#[command(after_long_help = "\
The password is taken from MYSQL_PWD. TLS is not spoken: run it on the server's machine, or through a tunnel.

Everything is read in one transaction with a consistent snapshot. It is of the same moment as the dump where nothing is
written between the two: stop the writers, or take both on a replica after STOP REPLICA SQL_THREAD.")]
pub struct Mariadb {
    /// The server's host, or the path of its socket
    #[arg(long, value_name = "HOST", default_value = "localhost")]
    pub host: String,
    /// The server's port
    #[arg(long, value_name = "PORT", default_value_t = 3306)]
    pub port: u16,
    /// The account, which has to be able to read every table
    #[arg(long, value_name = "USER", default_value = "root")]
    pub user: String,
    /// A database, repeatable; default all but the server's own
    #[arg(long, value_name = "NAME")]
    pub database: Vec<String>,
    /// Record the digest of this backup, which is finished; AUTO_INCREMENT and sequences, which are no part of a
    /// snapshot, are left out
    #[arg(long, value_name = "FILE")]
    pub backup: Option<PathBuf>,
    /// Where to write it; default standard output
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// An SQLite database file
#[derive(Debug, Args)]
pub struct Sqlite {
    /// The database
    pub file: PathBuf,
    /// Record the digest of this backup, which is finished
    #[arg(long, value_name = "FILE")]
    pub backup: Option<PathBuf>,
    /// Where to write it; default standard output
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Runs the command.
pub fn main(arguments: &Arguments) -> ExitCode {
    let (taken, output) = match &arguments.source {
        Source::Postgres(postgres) => {
            let wanted = match wanted(postgres) {
                Ok(wanted) => wanted,
                Err(code) => return code,
            };
            (of_postgres(postgres, wanted), &postgres.output)
        }
        Source::Mariadb(mariadb) => (of_mariadb(mariadb), &mariadb.output),
        Source::Sqlite(sqlite) => {
            let taken = digest(sqlite.backup.as_deref())
                .and_then(|backup| source::sqlite::take(&sqlite.file, backup));
            (taken, &sqlite.output)
        }
    };
    let written = taken.and_then(|manifest| match output {
        Some(path) => source::write(&manifest, path).map(|()| say::line(told(&manifest, path))),
        None => {
            say::line(source::text(&manifest).trim_end());
            Ok(())
        }
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say::error(error.to_string(), Some(error.help()));
            ExitCode::from(2)
        }
    }
}

fn told(manifest: &SourceManifest, path: &Path) -> String {
    let tables = manifest.databases.values().map(|facts| facts.tables.len());
    let rows: u64 = manifest
        .databases
        .values()
        .flat_map(|facts| facts.tables.values())
        .sum();
    format!(
        "{}: {} databases, {} tables, {rows} rows",
        path.display(),
        manifest.databases.len(),
        tables.sum::<usize>()
    )
}

fn digest(
    backup: Option<&Path>,
) -> Result<Option<crate::check::source::BackupDigest>, SourceError> {
    backup.map(source::digest).transpose()
}

fn of_postgres(
    arguments: &Postgres,
    mut wanted: source::postgres::Wanted,
) -> Result<SourceManifest, SourceError> {
    wanted.backup = digest(arguments.backup.as_deref())?;
    runtime()?.block_on(source::postgres::take(&wanted))
}

fn of_mariadb(arguments: &Mariadb) -> Result<SourceManifest, SourceError> {
    let wanted = source::mariadb::Wanted {
        host: arguments.host.clone(),
        port: arguments.port,
        user: arguments.user.clone(),
        password: variable("MYSQL_PWD"),
        databases: arguments.database.clone(),
        backup: digest(arguments.backup.as_deref())?,
    };
    runtime()?.block_on(source::mariadb::take(&wanted))
}

fn runtime() -> Result<tokio::runtime::Runtime, SourceError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| SourceError::Source {
            doing: "start".to_owned(),
            reason: error.to_string(),
            help: "look at the limits of this process",
        })
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The connection, by the arguments, then by the environment as libpq reads it.
fn wanted(arguments: &Postgres) -> Result<source::postgres::Wanted, ExitCode> {
    let usage = |error: String, help| {
        say::error(error, Some(help));
        ExitCode::from(USAGE)
    };
    let mut databases = arguments.database.clone();
    let mut config = tokio_postgres::Config::new();
    if let Some(url) = &arguments.url {
        config = url.parse().map_err(|error: tokio_postgres::Error| {
            // The URL itself may hold a password.
            let reason = std::error::Error::source(&error).map(ToString::to_string);
            usage(
                format!(
                    "--url is not understood: {}",
                    reason.unwrap_or_else(|| error.to_string())
                ),
                "write postgresql://user@host:5432/database",
            )
        })?;
        if databases.is_empty() {
            databases.extend(config.get_dbname().map(str::to_owned));
        }
    } else {
        let host = arguments.host.clone().or_else(|| variable("PGHOST"));
        config.host(host.as_deref().unwrap_or("localhost"));
        let port = arguments
            .port
            .or_else(|| variable("PGPORT").and_then(|port| port.parse().ok()));
        config.port(port.unwrap_or(5432));
        let user = arguments.user.clone().or_else(|| variable("PGUSER"));
        config.user(user.as_deref().unwrap_or("postgres"));
    }
    if arguments.snapshot.is_some() && databases.len() != 1 {
        return Err(usage(
            "a snapshot belongs to one database".to_owned(),
            "name it with --database",
        ));
    }
    config
        .application_name("rehearse manifest")
        .connect_timeout(std::time::Duration::from_secs(30));
    if config.get_password().is_none()
        && let Some(password) = password(&config, databases.first())
    {
        config.password(password);
    }
    Ok(source::postgres::Wanted {
        config,
        databases,
        snapshot: arguments.snapshot.clone(),
        backup: None,
    })
}

fn password(config: &tokio_postgres::Config, database: Option<&String>) -> Option<String> {
    use tokio_postgres::config::Host;
    if let Some(password) = variable("PGPASSWORD") {
        return Some(password);
    }
    let file = variable("PGPASSFILE").map_or_else(
        || variable("HOME").map(|home| Path::new(&home).join(".pgpass")),
        |file| Some(PathBuf::from(file)),
    )?;
    let text = std::fs::read_to_string(file).ok()?;
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(host)) => host.as_str(),
        // As libpq looks up a socket.
        Some(Host::Unix(_)) | None => "localhost",
    };
    source::postgres::pgpass(
        &text,
        host,
        config.get_ports().first().copied().unwrap_or(5432),
        database.map_or("postgres", String::as_str),
        config.get_user().unwrap_or("postgres"),
    )
}
