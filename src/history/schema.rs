//! The form of the database, and how an older one becomes the present one.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::HistoryError;

/// The form that this version writes, kept in SQLite's `user_version`.
pub(super) const VERSION: i64 = 1;

/// SQLite's `application_id`: says whose file it is, to us and to `file`. ASCII `RhHi`.
const APPLICATION: i64 = 0x5268_4869;

/// What each form adds to the one before it; the first to an empty file. Times are milliseconds since 1970, UTC.
/// `notified` is null where nothing was to be sent, 1 where it was delivered and 0 where it was not (yet).
const FORMS: [&str; VERSION as usize] = ["
CREATE TABLE runs (
    run TEXT NOT NULL UNIQUE,
    rehearsal TEXT NOT NULL,
    file TEXT NOT NULL,
    mode TEXT NOT NULL,
    started INTEGER NOT NULL,
    process TEXT NOT NULL,
    finished INTEGER,
    outcome TEXT,
    owner TEXT,
    stage TEXT,
    reason TEXT,
    exit_code INTEGER,
    stuck INTEGER NOT NULL DEFAULT 0,
    interrupted INTEGER NOT NULL DEFAULT 0,
    assisted INTEGER NOT NULL DEFAULT 0,
    notified INTEGER,
    record TEXT
) STRICT;
CREATE INDEX runs_by_rehearsal ON runs (rehearsal, finished);
CREATE TABLE restores (
    run TEXT NOT NULL REFERENCES runs (run) ON DELETE CASCADE,
    restore TEXT NOT NULL,
    format TEXT,
    digest TEXT,
    size INTEGER NOT NULL,
    seconds REAL,
    as_of INTEGER,
    reused INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (run, restore)
) STRICT;
"];

/// Makes sure of the form, and of how each transaction is written.
pub(super) fn prepare(db: &mut Connection, path: &Path) -> Result<(), HistoryError> {
    let open = |source| HistoryError::Sqlite {
        what: "open",
        path: path.to_owned(),
        source,
    };
    // A rollback journal and no write-ahead log: it works on network file systems, and one file is all there is to
    // copy. `EXTRA` also makes sure of the journal's removal, without which a power failure could take back the
    // newest transaction (sqlite.org/pragma.html#pragma_synchronous).
    db.execute_batch("PRAGMA synchronous = EXTRA; PRAGMA foreign_keys = ON;")
        .map_err(open)?;
    if form(db, path)? == VERSION {
        return Ok(());
    }
    let change = db
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(open)?;
    // Another process may have been quicker: what counts is what is there now.
    let found = form(&change, path)?;
    for add in FORMS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        change.execute_batch(add).map_err(open)?;
    }
    change
        .pragma_update(None, "application_id", APPLICATION)
        .and_then(|()| change.pragma_update(None, "user_version", VERSION))
        .and_then(|()| change.commit())
        .map_err(open)
}

/// The form of the file; 0 of an empty one.
fn form(db: &Connection, path: &Path) -> Result<i64, HistoryError> {
    let ask = |sql: &str| {
        db.query_row(sql, [], |row| row.get::<_, i64>(0))
            .map_err(|source| HistoryError::Sqlite {
                what: "open",
                path: path.to_owned(),
                source,
            })
    };
    let whose = ask("PRAGMA application_id")?;
    let found = ask("PRAGMA user_version")?;
    let tables = ask("SELECT count(*) FROM sqlite_schema")?;
    match (whose, found) {
        (0, 0) if tables == 0 => Ok(0),
        (APPLICATION, 1..=VERSION) => Ok(found),
        (APPLICATION, _) if found > VERSION => Err(HistoryError::Newer {
            path: path.to_owned(),
            found,
        }),
        _ => Err(HistoryError::Foreign {
            path: path.to_owned(),
        }),
    }
}
