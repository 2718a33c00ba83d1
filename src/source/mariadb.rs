//! MariaDB or MySQL, primary or replica, over its own protocol without TLS.
//!
//! All databases are read in one read-only transaction with a consistent snapshot, so that all counts are of one moment.
//! Tables of engines without transactions (`MyISAM`, `Aria`) are counted when their turn comes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts, OptsBuilder};

use super::SourceError;
use crate::check::source::{BackupDigest, DatabaseFacts, SourceManifest, VERSION};

/// What is wanted. It holds a password, so nothing prints it.
#[derive(Clone)]
pub struct Wanted {
    /// A host, or the path of a socket.
    pub host: String,
    /// Of a host.
    pub port: u16,
    /// As whom.
    pub user: String,
    /// Its password.
    pub password: Option<String>,
    /// The databases; none means all but the server's own.
    pub databases: Vec<String>,
    /// A backup that is there already. Counters are no part of a snapshot: read after the dump they may be past it, and
    /// would accuse it falsely, so they are left out.
    pub backup: Option<BackupDigest>,
}

/// Longer than this nobody may be in the way. Limits of the account are not for this session.
const SETTINGS: &str = "set lock_wait_timeout = 60, time_zone = '+00:00', sql_mode = 'STRICT_TRANS_TABLES' \
     /*M!100101 , max_statement_time = 0 */ /*!50708 , max_execution_time = 0 */";

/// MySQL 8 answers with numbers of yesterday otherwise; MariaDB does not know the variable.
const FRESH: &str = "set session information_schema_stats_expiry = 0";

const DATABASES: &str = "select cast(schema_name as char) from information_schema.schemata \
     where schema_name not in ('information_schema', 'mysql', 'performance_schema', 'sys') order by 1";

/// What the account may not read is not listed, and would be missing without a word.
const READABLE: &str = "select (select count(*) from information_schema.user_privileges \
     where privilege_type = 'SELECT') + (select count(*) from information_schema.schema_privileges \
     where privilege_type = 'SELECT' and ? like table_schema)";

const TABLES: &str = "select cast(table_name as char), cast(table_type as char), cast(auto_increment as unsigned) \
     from information_schema.tables where table_schema = ? and table_type not in ('VIEW', 'SYSTEM VIEW', 'TEMPORARY') order by 1";

const HELP: &str =
    "use an account that may read every table: GRANT SELECT, LOCK TABLES, SHOW VIEW ON *.* TO ..";

/// Takes the manifest.
///
/// # Errors
/// When the server does not answer, or refuses.
pub async fn take(wanted: &Wanted) -> Result<SourceManifest, SourceError> {
    let taken = Timestamp::now();
    let mut connection = Conn::new(options(wanted)).await.map_err(|error| {
        failed(
            "connect to the server",
            &error,
            "give --host, --user and the password in MYSQL_PWD; TLS is not spoken, so run it on the server's machine (a \
             path as --host is a socket) or through a tunnel",
        )
    })?;
    let read = read(&mut connection, wanted).await;
    // What is known is known: the session ends with the connection in any case.
    let _ = connection.disconnect().await;
    let (server_version, databases) = read?;
    Ok(SourceManifest {
        source_manifest: VERSION,
        taken,
        family: "mariadb".to_owned(),
        server_version,
        backup: wanted.backup.clone(),
        databases,
    })
}

fn options(wanted: &Wanted) -> Opts {
    let options = OptsBuilder::default()
        .user(Some(&wanted.user))
        .pass(wanted.password.clone())
        // Where somebody names a host, it is that one.
        .prefer_socket(false);
    if wanted.host.starts_with('/') {
        return options.socket(Some(&wanted.host)).into();
    }
    options
        .ip_or_hostname(&wanted.host)
        .tcp_port(wanted.port)
        .into()
}

fn failed(doing: &str, error: &mysql_async::Error, help: &'static str) -> SourceError {
    SourceError::Source {
        doing: doing.to_owned(),
        reason: error.to_string(),
        help,
    }
}

async fn read(
    connection: &mut Conn,
    wanted: &Wanted,
) -> Result<(String, BTreeMap<String, DatabaseFacts>), SourceError> {
    let set_up = |error: mysql_async::Error| failed("set up the session", &error, HELP);
    connection.query_drop(SETTINGS).await.map_err(set_up)?;
    let _ = connection.query_drop(FRESH).await;
    for statement in [
        "set session transaction isolation level repeatable read",
        "start transaction with consistent snapshot, read only",
    ] {
        connection.query_drop(statement).await.map_err(set_up)?;
    }
    let version: Option<String> = connection
        .query_first("select version()")
        .await
        .map_err(|error| failed("read the version", &error, HELP))?;
    let there: Vec<String> = connection
        .query(DATABASES)
        .await
        .map_err(|error| failed("list the databases", &error, HELP))?;
    let mut databases = BTreeMap::new();
    let names = if wanted.databases.is_empty() {
        &there
    } else {
        &wanted.databases
    };
    for name in names {
        if !there.contains(name) {
            return Err(SourceError::Source {
                doing: format!("read database `{name}`"),
                reason: format!("it is not one of {}", there.join(", ")),
                help: HELP,
            });
        }
        let facts = database(connection, wanted, name).await?;
        databases.insert(name.clone(), facts);
    }
    Ok((version.unwrap_or_default(), databases))
}

async fn database(
    connection: &mut Conn,
    wanted: &Wanted,
    name: &str,
) -> Result<DatabaseFacts, SourceError> {
    let asking = |what: &str| format!("{what} of database `{name}`");
    let listed = |error: mysql_async::Error| failed(&asking("list the tables"), &error, HELP);
    let readable: Option<u64> = connection
        .exec_first(READABLE, (name,))
        .await
        .map_err(listed)?;
    if readable.unwrap_or(0) == 0 {
        return Err(SourceError::Source {
            doing: asking("list the tables"),
            reason: "the account may not read all of them, and does not see the others".to_owned(),
            help: HELP,
        });
    }
    let tables: Vec<(String, String, Option<u64>)> =
        connection.exec(TABLES, (name,)).await.map_err(listed)?;
    let mut facts = DatabaseFacts::default();
    for (table, kind, next) in tables {
        let full = format!("{}.{}", quoted(name), quoted(&table));
        if kind == "SEQUENCE" {
            if wanted.backup.is_none() {
                let last = sequence(connection, &full).await.map_err(|error| {
                    failed(&asking(&format!("read sequence `{table}`")), &error, HELP)
                })?;
                facts.sequences.extend(last.map(|last| (table, Some(last))));
            }
            continue;
        }
        let rows: Option<u64> = connection
            .query_first(format!("select count(*) from {full}"))
            .await
            .map_err(|error| failed(&asking(&format!("count table `{table}`")), &error, HELP))?;
        facts.tables.insert(table.clone(), rows.unwrap_or_default());
        if let (Some(next), None) = (next, &wanted.backup) {
            let last = i64::try_from(next).ok().filter(|next| *next > 1);
            facts.sequences.insert(table, last.map(|next| next - 1));
        }
    }
    Ok(facts)
}

/// The last value that a sequence may have given, whatever it has cached; one that runs down is left out.
async fn sequence(connection: &mut Conn, full: &str) -> mysql_async::Result<Option<i64>> {
    let query = format!("select next_not_cached_value, increment from {full}");
    let row: Option<(i64, i64)> = connection.query_first(query).await?;
    Ok(row
        .filter(|(_, step)| *step > 0)
        .and_then(|(next, _)| next.checked_sub(1)))
}

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}
