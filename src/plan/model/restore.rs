//! What is restored, from where, with which tool, and what has to be true of it afterwards.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::Location;
use crate::check::ladder::Rung;

/// One backup and where it goes.
#[derive(Clone, Debug, Serialize)]
pub struct Restore {
    /// Names it in output: `db/site` or `uploads`.
    pub name: String,
    /// The backup: a file or a folder.
    pub source: PathBuf,
    /// What it is restored into.
    pub into: Target,
    /// With which tool.
    pub method: Method,
    /// The data must not be older than this.
    pub max_age: Option<Duration>,
    /// What has to be true of it, beyond what every backup has to show.
    pub demands: Demands,
    /// Where the restore is written.
    pub location: Location,
}

/// What a backup is restored into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Target {
    /// The volumes of a service, by the service's own image.
    Service(String),
    /// A named volume.
    Volume(String),
    /// The image of a service: a root filesystem.
    Image(String),
}

/// With which tool a backup is restored.
#[derive(Clone, Debug, Serialize)]
pub enum Method {
    /// `pg_restore` or `psql`: a dump in any of `pg_dump`'s formats, or of `pg_dumpall`.
    PostgresDump {
        /// The database; made if it is not there. `None` only for a dump of a cluster, which names its own.
        database: Option<String>,
        /// The role that restores. Default: the service's `POSTGRES_USER`, else `postgres`.
        user: String,
        /// Parallel jobs, where the format allows it.
        jobs: u16,
    },
    /// `psql`: roles and tablespaces of `pg_dumpall --globals-only`.
    PostgresGlobals {
        /// The role that restores.
        user: String,
    },
    /// `pg_verifybackup`, then recovery by the server.
    PostgresBaseBackup {
        /// The role that is asked afterwards.
        user: String,
    },
    /// `pgbackrest restore`, then recovery by the server; archiving off.
    PgBackRest {
        /// The stanza.
        stanza: String,
        /// Recover to this point in time, as PostgreSQL reads it; `None` is the latest.
        time: Option<String>,
        /// The repository's cipher passphrase.
        passphrase: Option<Secret>,
        /// The image that has `pgbackrest`; default the service's own, else our tool image.
        image: Option<String>,
        /// The role that is asked afterwards.
        user: String,
    },
    /// The client `mariadb` or `mysql`.
    MariadbDump {
        /// The database; made if it is not there. `None` where the dump names its own (`--all-databases`, `--databases`).
        database: Option<String>,
        /// The account that restores. Default `root`.
        user: String,
    },
    /// `mariadb-backup --prepare`, then `--copy-back`.
    MariadbBackup {
        /// The account that is asked afterwards. Default `root`.
        user: String,
    },
    /// A snapshot in Redis' data folder before it starts, append-only off.
    RedisRdb,
    /// The append-only folder in Redis' data folder before it starts.
    RedisAof,
    /// A copy of the database file with its journals.
    Sqlite {
        /// Where it lies in the volume, relative to its root.
        to: String,
    },
    /// A tar or zip archive.
    Archive,
    /// `restic check --read-data`, then `restic restore --verify`.
    Restic(Repository),
    /// `borg check --verify-data`, then `borg extract`.
    Borg(Repository),
    /// The engine's import: a root filesystem becomes the image of a service.
    Rootfs,
    /// The rehearsal's own command; it finds the backup at `/backup` and fails by its exit code.
    Command {
        /// A script for `/bin/sh -e -c`.
        run: String,
        /// Where it runs: `None` is in the running service.
        image: Option<String>,
    },
}

impl Method {
    /// The image that the rehearsal names for the tool, which a method may do without.
    pub fn image(&self) -> Option<&str> {
        match self {
            Self::PgBackRest { image, .. } | Self::Command { image, .. } => image.as_deref(),
            Self::Restic(repository) | Self::Borg(repository) => repository.image.as_deref(),
            Self::PostgresDump { .. }
            | Self::PostgresGlobals { .. }
            | Self::PostgresBaseBackup { .. }
            | Self::MariadbDump { .. }
            | Self::MariadbBackup { .. }
            | Self::RedisRdb
            | Self::RedisAof
            | Self::Sqlite { .. }
            | Self::Archive
            | Self::Rootfs => None,
        }
    }

    /// The same without the image's name.
    pub fn without_image(&self) -> Self {
        let mut method = self.clone();
        match &mut method {
            Self::PgBackRest { image, .. } | Self::Command { image, .. } => *image = None,
            Self::Restic(repository) | Self::Borg(repository) => repository.image = None,
            Self::PostgresDump { .. }
            | Self::PostgresGlobals { .. }
            | Self::PostgresBaseBackup { .. }
            | Self::MariadbDump { .. }
            | Self::MariadbBackup { .. }
            | Self::RedisRdb
            | Self::RedisAof
            | Self::Sqlite { .. }
            | Self::Archive
            | Self::Rootfs => {}
        }
        method
    }
}

/// Of a backup program that keeps snapshots in a repository.
#[derive(Clone, Debug, Serialize)]
pub struct Repository {
    /// Its password; a Borg repository may have none.
    pub password: Option<Secret>,
    /// The snapshot or archive: a name, an id, or `latest`.
    pub snapshot: String,
    /// The folder inside the snapshot whose content becomes the volume's; `None` is its root.
    pub path: Option<String>,
    /// The image that has the tool; default our tool image.
    pub image: Option<String>,
}

/// Where a secret comes from. Its value is never part of a plan.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Secret {
    /// A variable of the environment of `rehearse`.
    Environment(String),
    /// A file's content, without a trailing line end.
    File(PathBuf),
}

impl std::fmt::Display for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Environment(name) => write!(f, "${name}"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Restore {
    /// The service that it is restored into, where it is one.
    pub fn service(&self) -> Option<&str> {
        match &self.into {
            Target::Service(service) => Some(service),
            Target::Volume(_) | Target::Image(_) => None,
        }
    }

    /// The volume that it is restored into, where it is one.
    pub fn volume(&self) -> Option<&str> {
        match &self.into {
            Target::Volume(volume) => Some(volume),
            Target::Service(_) | Target::Image(_) => None,
        }
    }

    /// The secret that its tool needs.
    pub const fn secret(&self) -> Option<&Secret> {
        match &self.method {
            Method::PgBackRest { passphrase, .. } => passphrase.as_ref(),
            Method::Restic(repository) | Method::Borg(repository) => repository.password.as_ref(),
            Method::PostgresDump { .. }
            | Method::PostgresGlobals { .. }
            | Method::PostgresBaseBackup { .. }
            | Method::MariadbDump { .. }
            | Method::MariadbBackup { .. }
            | Method::RedisRdb
            | Method::RedisAof
            | Method::Sqlite { .. }
            | Method::Archive
            | Method::Rootfs
            | Method::Command { .. } => None,
        }
    }
}

/// Which server, if any, holds what a method restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Family {
    /// PostgreSQL.
    Postgres,
    /// MariaDB or MySQL.
    Mariadb,
    /// Redis.
    Redis,
    /// SQLite.
    Sqlite,
    /// Files of no known kind.
    Files,
}

impl Method {
    /// Which server, if any, holds what it restored.
    pub const fn family(&self) -> Family {
        match self {
            Self::PostgresDump { .. }
            | Self::PostgresGlobals { .. }
            | Self::PostgresBaseBackup { .. }
            | Self::PgBackRest { .. } => Family::Postgres,
            Self::MariadbDump { .. } | Self::MariadbBackup { .. } => Family::Mariadb,
            Self::RedisRdb | Self::RedisAof => Family::Redis,
            Self::Sqlite { .. } => Family::Sqlite,
            Self::Archive
            | Self::Restic(_)
            | Self::Borg(_)
            | Self::Rootfs
            | Self::Command { .. } => Family::Files,
        }
    }

    /// The role or account that is asked about what was restored.
    pub fn user(&self) -> Option<&str> {
        match self {
            Self::PostgresDump { user, .. }
            | Self::PostgresGlobals { user }
            | Self::PostgresBaseBackup { user }
            | Self::PgBackRest { user, .. }
            | Self::MariadbDump { user, .. }
            | Self::MariadbBackup { user } => Some(user),
            Self::RedisRdb
            | Self::RedisAof
            | Self::Sqlite { .. }
            | Self::Archive
            | Self::Restic(_)
            | Self::Borg(_)
            | Self::Rootfs
            | Self::Command { .. } => None,
        }
    }

    /// The one database that it restores; `None` where it is a whole server's, or no database at all.
    pub fn database(&self) -> Option<&str> {
        match self {
            Self::PostgresDump { database, .. } | Self::MariadbDump { database, .. } => {
                database.as_deref()
            }
            _ => None,
        }
    }

    /// True where the server's data folder itself is what was backed up: it is filled before the server starts.
    pub const fn is_physical(&self) -> bool {
        matches!(
            self,
            Self::PostgresBaseBackup { .. }
                | Self::PgBackRest { .. }
                | Self::MariadbBackup { .. }
                | Self::RedisRdb
                | Self::RedisAof
        )
    }
}

/// What has to be true of what was restored, beyond what every backup has to show.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Demands {
    /// A query whose one value is the time of the newest data.
    pub data_as_of: Option<String>,
    /// The database in which queries about a whole server run.
    pub database: Option<String>,
    /// Messages of the restoring tool that are known and do no harm.
    pub tolerate: Vec<Tolerated>,
    /// Rungs that must have run.
    pub require: Vec<Rung>,
    /// Exact row counts, by table.
    pub rows: BTreeMap<String, RowCount>,
    /// What `rehearse manifest` took at the source beside the backup.
    pub manifest: Option<PathBuf>,
    /// A file in the form of `sha256sum` that records the backup's digest.
    pub checksum: Option<PathBuf>,
    /// The backup must have at least so many bytes; replaces the comparison with its history.
    pub min_size: Option<u64>,
    /// Queries that must give no row.
    pub invariants: Vec<Invariant>,
    /// Where files lie that the database names.
    pub files: Option<FilesNamed>,
}

/// A message that a restore may give, exactly so often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tolerated {
    /// The message, exactly, without the tool's name and `ERROR:` before it.
    pub message: String,
    /// How often it comes: neither more nor less.
    pub count: u64,
}

/// How many rows a table has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum RowCount {
    /// `412`
    Exactly(u64),
    /// `">= 412"`
    AtLeast(u64),
}

/// A query that must give no row: each row is one breach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Invariant {
    /// Its name in the report.
    pub name: String,
    /// The query.
    pub query: String,
}

/// Files that the database names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FilesNamed {
    /// A query that gives one relative path a row.
    pub query: String,
    /// The volume in which they are.
    pub volume: String,
    /// The folder in the volume below which they are; empty is its root.
    pub below: String,
}
