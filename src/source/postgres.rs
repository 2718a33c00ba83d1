//! PostgreSQL, primary or standby, over its own protocol without TLS.
//!
//! Each database is read in one read-only transaction of the isolation level `repeatable read`, so that all counts are
//! of one moment; with a snapshot that `pg_export_snapshot()` gave, of the moment of the dump that uses it too.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tokio_postgres::{Client, Config, NoTls};

use super::SourceError;
use crate::check::source::{BackupDigest, DatabaseFacts, SourceManifest, VERSION};

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Where and as whom.
    pub config: Config,
    /// The databases; none means all that can be connected to, without templates and, where there are others, without
    /// `postgres`.
    pub databases: Vec<String>,
    /// What `pg_export_snapshot()` gave.
    pub snapshot: Option<String>,
    /// A backup that is there already. Sequences are no part of a snapshot: read after the dump they may be past it,
    /// and would accuse it falsely, so they are left out.
    pub backup: Option<BackupDigest>,
}

/// Longer than this nobody may be in the way: a table that is locked exclusively is being rewritten.
const SETTINGS: &str = "set lock_timeout = '60s'; set statement_timeout = 0; set timezone = 'UTC'; \
     set search_path = pg_catalog; set row_security = off";

/// The tables with rows of their own and partitioned ones, with what counts them. On a standby unlogged tables cannot
/// be read, and hold nothing.
const TABLES: &str = "select n.nspname || '.' || c.relname, \
     case when c.relpersistence = 'u' and pg_is_in_recovery() then 'select 0::bigint' \
     else format('select count(*) from %I.%I', n.nspname, c.relname) end \
     from pg_class c join pg_namespace n on n.oid = c.relnamespace \
     where c.relkind in ('r', 'p') and n.nspname not in ('pg_catalog', 'information_schema') \
     and n.nspname !~ '^pg_(toast|temp)' order by 1";

const SEQUENCES: &str =
    "select schemaname || '.' || sequencename, last_value from pg_sequences order by 1";

/// Each collation that sorts something, with the version that the library has now.
const COLLATIONS: &str = "with used as ( \
     select unnest(i.indcollation::oid[]) as oid from pg_index i join pg_class c on c.oid = i.indrelid \
     where c.relnamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace, 'pg_toast'::regnamespace) \
     union select a.attcollation from pg_attribute a join pg_class c on c.oid = a.attrelid \
     where a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'p', 'm') \
     and c.relnamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace, 'pg_toast'::regnamespace)) \
     select c.collprovider::text, \
     case when n.nspname = 'pg_catalog' then c.collname else n.nspname || '.' || c.collname end, \
     pg_collation_actual_version(c.oid) from pg_collation c join pg_namespace n on n.oid = c.collnamespace \
     where c.oid in (select oid from used) and c.collprovider in ('i', 'c', 'b')";

/// The database's own collation has a version since PostgreSQL 15.
const DEFAULT: &str = "select d.datlocprovider::text, \
     coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale', d.datcollate), \
     pg_database_collation_actual_version(d.oid) from pg_database d where d.datname = current_database()";

/// Takes the manifest.
///
/// # Errors
/// When the server does not answer, refuses, or lacks the snapshot.
pub async fn take(wanted: &Wanted) -> Result<SourceManifest, SourceError> {
    let taken = Timestamp::now();
    let mut names = wanted.databases.clone();
    if names.is_empty() {
        names = all(&wanted.config).await?;
    }
    let mut databases = BTreeMap::new();
    let mut server_version = String::new();
    for name in names {
        let mut config = wanted.config.clone();
        config.dbname(&name);
        let (client, server) = connect(&config).await?;
        let (version, facts) = database(&client, wanted, &name).await?;
        // Ends the session.
        drop(client);
        let _ = server.await;
        server_version = version;
        databases.insert(name, facts);
    }
    Ok(SourceManifest {
        source_manifest: VERSION,
        taken,
        family: "postgres".to_owned(),
        server_version,
        backup: wanted.backup.clone(),
        databases,
    })
}

async fn connect(config: &Config) -> Result<(Client, tokio::task::JoinHandle<()>), SourceError> {
    let name = config.get_dbname().unwrap_or_default().to_owned();
    let (client, connection) = config.connect(NoTls).await.map_err(|error| {
        failed(
            &format!("connect to database `{name}`"),
            &error,
            "give --host, --user and the password in PGPASSWORD or ~/.pgpass; TLS is not spoken, so run it on the server's \
             machine (a folder as --host is a socket) or through a tunnel",
        )
    })?;
    // Its errors are the client's.
    let server = tokio::spawn(async move {
        let _ = connection.await;
    });
    client
        .batch_execute(SETTINGS)
        .await
        .map_err(|error| failed("set up the session", &error, HELP))?;
    Ok((client, server))
}

const HELP: &str = "use a role that may read every table, such as a member of pg_read_all_data";

fn failed(doing: &str, error: &tokio_postgres::Error, help: &'static str) -> SourceError {
    let reason = match error.as_db_error() {
        Some(said) => said.message().to_owned(),
        None => match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    };
    SourceError::Source {
        doing: doing.to_owned(),
        reason,
        help,
    }
}

async fn all(config: &Config) -> Result<Vec<String>, SourceError> {
    let mut config = config.clone();
    config.dbname("postgres");
    let (client, server) = connect(&config).await?;
    let query =
        "select datname::text from pg_database where datallowconn and not datistemplate order by 1";
    let rows = client
        .query(query, &[])
        .await
        .map_err(|error| failed("list the databases", &error, HELP))?;
    let mut names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    if names.len() > 1 {
        names.retain(|name| name != "postgres");
    }
    drop(client);
    let _ = server.await;
    Ok(names)
}

async fn database(
    client: &Client,
    wanted: &Wanted,
    name: &str,
) -> Result<(String, DatabaseFacts), SourceError> {
    let asking = |what: &str| format!("{what} of database `{name}`");
    let begin = |error: &tokio_postgres::Error| {
        failed(
            &asking("begin to read the tables"),
            error,
            "a snapshot lives as long as the transaction that exported it, and only in its own database",
        )
    };
    client
        .batch_execute("begin isolation level repeatable read, read only")
        .await
        .map_err(|error| begin(&error))?;
    if let Some(snapshot) = &wanted.snapshot {
        let snapshot = snapshot.replace('\'', "''");
        client
            .batch_execute(&format!("set transaction snapshot '{snapshot}'"))
            .await
            .map_err(|error| begin(&error))?;
    }
    let rows = async |what: &str, query: &str| {
        client
            .query(query, &[])
            .await
            .map_err(|error| failed(&asking(what), &error, HELP))
    };
    let server = rows(
        "read the version",
        "select current_setting('server_version'), current_setting('server_version_num')::int",
    )
    .await?;
    let (version, number): (String, i32) = server
        .first()
        .map(|row| (row.get(0), row.get(1)))
        .unwrap_or_default();
    let mut facts = DatabaseFacts::default();
    for table in rows("list the tables", TABLES).await? {
        let (table, count): (String, String) = (table.get(0), table.get(1));
        let counted = rows(&format!("count table `{table}`"), &count).await?;
        let count: i64 = counted.first().map(|row| row.get(0)).unwrap_or_default();
        facts.tables.insert(table, count.unsigned_abs());
    }
    if number >= 100_000 {
        if wanted.backup.is_none() {
            for sequence in rows("read the sequences", SEQUENCES).await? {
                facts.sequences.insert(sequence.get(0), sequence.get(1));
            }
        }
        let mut collations = rows("read the collations", COLLATIONS).await?;
        if number >= 150_000 {
            collations.extend(rows("read the collation", DEFAULT).await?);
        }
        for row in collations {
            let (provider, name, version): (String, String, Option<String>) =
                (row.get(0), row.get(1), row.get(2));
            let provider = match provider.as_str() {
                "i" => "icu",
                "b" => "builtin",
                _ => "libc",
            };
            // The C locale has none.
            if let Some(version) = version {
                facts
                    .collations
                    .insert(format!("{provider} {name}"), version);
            }
        }
    }
    client
        .batch_execute("commit")
        .await
        .map_err(|error| failed(&asking("end the reading"), &error, HELP))?;
    let version = version.split_whitespace().next().unwrap_or_default();
    Ok((version.to_owned(), facts))
}

/// The password for a connection from the lines of a `.pgpass` file. Source of the form: "The Password File" in
/// PostgreSQL's manual for libpq.
pub fn pgpass(text: &str, host: &str, port: u16, database: &str, user: &str) -> Option<String> {
    let port = port.to_string();
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .find_map(|line| {
            let fields = fields(line);
            let [of_host, of_port, of_database, of_user, password] = fields.as_slice() else {
                return None;
            };
            let matches = [
                (of_host, host),
                (of_port, &port),
                (of_database, database),
                (of_user, user),
            ]
            .iter()
            .all(|(field, value)| *field == "*" || field == value);
            matches.then(|| password.clone())
        })
}

/// Split at colons, with `\:` and `\\` for themselves.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        let written = match letter {
            ':' if fields.len() < 5 => {
                fields.push(String::new());
                continue;
            }
            '\\' => letters.next().unwrap_or('\\'),
            letter => letter,
        };
        if let Some(last) = fields.last_mut() {
            last.push(written);
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::pgpass;

    #[test]
    fn the_first_line_of_the_password_file_that_matches_counts() {
        let text = "# db:5432:*:*:comment\ndb:5433:*:*:other\ndb:5432:site:backup:se\\:cr\\\\et\n*:*:*:*:rest:all\nbroken\n";
        for (host, port, database, user, expected) in [
            ("db", 5432, "site", "backup", "se:cr\\et"),
            ("db", 5433, "site", "backup", "other"),
            ("db2", 5432, "site", "backup", "rest:all"),
        ] {
            let found = pgpass(text, host, port, database, user);
            assert_eq!(found.as_deref(), Some(expected));
        }
        assert_eq!(
            pgpass("db:5432:site:backup:x", "db", 5432, "site", "root"),
            None
        );
    }
}
