//! SQLite, read in one transaction of one reader: a writer may go on.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags};

use super::SourceError;
use crate::check::source::{BackupDigest, DatabaseFacts, SourceManifest, VERSION};

/// Takes the manifest of a database file.
///
/// # Errors
/// When it cannot be read, or is no database.
pub fn take(file: &Path, backup: Option<BackupDigest>) -> Result<SourceManifest, SourceError> {
    let taken = Timestamp::now();
    let tables = count(file).map_err(|error| SourceError::Source {
        doing: format!("read the database `{}`", file.display()),
        reason: error.to_string(),
        help: "check the path and its permissions: the folder has to be readable too, where the database keeps a WAL",
    })?;
    Ok(SourceManifest {
        source_manifest: VERSION,
        taken,
        family: "sqlite".to_owned(),
        server_version: rusqlite::version().to_owned(),
        backup,
        databases: BTreeMap::from([(
            "main".to_owned(),
            DatabaseFacts {
                tables,
                ..DatabaseFacts::default()
            },
        )]),
    })
}

fn count(file: &Path) -> rusqlite::Result<BTreeMap<String, u64>> {
    let mut connection = Connection::open_with_flags(
        file,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(std::time::Duration::from_secs(60))?;
    let reading = connection.transaction()?;
    let mut named = reading.prepare(
        // Ordinary tables, as the examination of a restore counts them: not what a virtual table stands on.
        "select name from pragma_table_list where schema = 'main' and type = 'table' and name not like 'sqlite\\_%' escape '\\' order by name",
    )?;
    let names = named
        .query_map([], |row| row.get::<_, String>(0))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let mut tables = BTreeMap::new();
    for name in names {
        let query = format!("select count(*) from \"{}\"", name.replace('"', "\"\""));
        let rows: i64 = reading.query_row(&query, [], |row| row.get(0))?;
        tables.insert(name, rows.unsigned_abs());
    }
    Ok(tables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_rows_of_all_tables_are_counted_and_no_database_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("site.sqlite");
        assert!(take(&path, None).is_err());
        assert!(!path.exists());
        let connection = Connection::open(&path).unwrap();
        connection
            .execute_batch(
                "create table paper (id integer primary key autoincrement); create table \"a\"\"b\" (x); \
                 insert into paper default values; insert into paper default values;",
            )
            .unwrap();
        let manifest = take(&path, None).unwrap();
        let expected = BTreeMap::from([("a\"b".to_owned(), 0), ("paper".to_owned(), 2)]);
        assert_eq!(manifest.databases["main"].tables, expected);
        std::fs::write(&path, "no database at all, but long enough to be one").unwrap();
        assert!(take(&path, None).is_err());
    }
}
