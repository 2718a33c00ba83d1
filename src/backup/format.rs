//! What a backup is, by its content.

use std::path::PathBuf;

use jiff::Timestamp;
use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};

use super::error::BackupError;
pub use crate::archive::source::Compression;

/// What is restored with which tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// `pg_dump -Fc`
    PostgresCustom,
    /// `pg_dump`, plain SQL
    PostgresPlain,
    /// `pg_dump -Fd`: a folder with `toc.dat` and one file a table.
    PostgresDirectory,
    /// `pg_dump -Ft`: a tar archive that begins with `toc.dat`.
    PostgresTar,
    /// `pg_dumpall`: roles, tablespaces and all databases, plain SQL.
    PostgresCluster,
    /// `pg_dumpall --globals-only`: roles and tablespaces, plain SQL.
    PostgresGlobals,
    /// `pg_basebackup -Fp`: a data folder.
    PostgresBaseFolder,
    /// `pg_basebackup -Ft`: a folder with `base.tar`, `pg_wal.tar` and tablespaces, compressed or not, or one such tar.
    PostgresBaseTar,
    /// A pgBackRest repository.
    PgBackRest,
    /// `mariadb-dump` or `mysqldump`, plain SQL
    MariadbDump,
    /// A folder of `mariadb-backup` or `xtrabackup`.
    MariadbFolder,
    /// A stream of `mariadb-backup --stream=xbstream` (`mbstream`).
    MariadbStream,
    /// A Redis snapshot.
    RedisRdb,
    /// Redis' append-only folder (version 7) or file.
    RedisAof,
    /// An SQLite database.
    Sqlite,
    /// A tar archive.
    Tar,
    /// A zip archive; always with [`Compression::None`], since it compresses its entries itself.
    Zip,
    /// A restic repository.
    Restic,
    /// A Borg repository.
    Borg,
    /// Whatever a `command:` restore knows to read: a file or a folder.
    Any,
}

impl Format {
    /// The name used in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PostgresCustom => "PostgreSQL custom-format dump",
            Self::PostgresPlain => "PostgreSQL plain SQL dump",
            Self::PostgresDirectory => "PostgreSQL directory-format dump",
            Self::PostgresTar => "PostgreSQL tar-format dump",
            Self::PostgresCluster => "PostgreSQL cluster dump",
            Self::PostgresGlobals => "PostgreSQL globals",
            Self::PostgresBaseFolder | Self::PostgresBaseTar => "PostgreSQL base backup",
            Self::PgBackRest => "pgBackRest repository",
            Self::MariadbDump => "MariaDB or MySQL dump",
            Self::MariadbFolder => "mariadb-backup folder",
            Self::MariadbStream => "mariadb-backup stream",
            Self::RedisRdb => "Redis snapshot",
            Self::RedisAof => "Redis append-only files",
            Self::Sqlite => "SQLite database",
            Self::Tar => "tar archive",
            Self::Zip => "zip archive",
            Self::Restic => "restic repository",
            Self::Borg => "Borg repository",
            Self::Any => "backup",
        }
    }
}

/// What a restore needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// `postgres: { dump: .. }`: a dump of one database, or of a cluster.
    PostgresDump,
    /// `postgres: { globals: .. }`
    PostgresGlobals,
    /// `postgres: { base_backup: .. }`
    PostgresBase,
    /// `postgres: { pgbackrest: .. }`
    PgBackRest,
    /// `mariadb: { dump: .. }`
    MariadbDump,
    /// `mariadb: { backup: .. }`
    MariadbBackup,
    /// `redis: { rdb: .. }`
    RedisRdb,
    /// `redis: { aof: .. }`
    RedisAof,
    /// `sqlite: { file: .. }`
    Sqlite,
    /// For a volume.
    Archive,
    /// A root filesystem as a tar archive: its owners, links and device files are the engine's to unpack.
    Rootfs,
    /// `restic: { repository: .. }`
    Restic,
    /// `borg: { repository: .. }`
    Borg,
    /// `command: { backup: .. }`
    Any,
}

impl Wanted {
    /// The formats that serve.
    pub const fn formats(self) -> &'static [Format] {
        match self {
            Self::PostgresDump => &[
                Format::PostgresCustom,
                Format::PostgresPlain,
                Format::PostgresDirectory,
                Format::PostgresTar,
                Format::PostgresCluster,
            ],
            Self::PostgresGlobals => &[Format::PostgresGlobals],
            Self::PostgresBase => &[Format::PostgresBaseFolder, Format::PostgresBaseTar],
            Self::PgBackRest => &[Format::PgBackRest],
            Self::MariadbDump => &[Format::MariadbDump],
            Self::MariadbBackup => &[Format::MariadbFolder, Format::MariadbStream],
            Self::RedisRdb => &[Format::RedisRdb],
            Self::RedisAof => &[Format::RedisAof],
            Self::Sqlite => &[Format::Sqlite],
            Self::Archive => &[Format::Tar, Format::Zip],
            Self::Rootfs => &[Format::Tar],
            Self::Restic => &[Format::Restic],
            Self::Borg => &[Format::Borg],
            Self::Any => &[Format::Any],
        }
    }

    /// What is expected, in words.
    pub const fn expected(self) -> &'static str {
        match self {
            Self::PostgresDump => {
                "a PostgreSQL dump (`pg_dump` in any of its formats, or `pg_dumpall`)"
            }
            Self::PostgresGlobals => "PostgreSQL globals (`pg_dumpall --globals-only`)",
            Self::PostgresBase => "a PostgreSQL base backup (`pg_basebackup`, plain or tar)",
            Self::PgBackRest => "a pgBackRest repository",
            Self::MariadbDump => "a dump of `mariadb-dump` or `mysqldump`",
            Self::MariadbBackup => "a folder or stream of `mariadb-backup`",
            Self::RedisRdb => "a Redis snapshot (`dump.rdb`)",
            Self::RedisAof => "Redis' append-only folder or file",
            Self::Sqlite => "an SQLite database",
            Self::Archive => "a tar (plain, gz, zst, bz2, xz) or zip archive",
            Self::Rootfs => "a root filesystem as a tar archive",
            Self::Restic => "a restic repository",
            Self::Borg => "a Borg repository",
            Self::Any => "a file or a folder",
        }
    }
}

/// What one reading of a backup showed. That there are facts means that it is whole, as far as its format can tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupFacts {
    /// The file or folder.
    pub path: PathBuf,
    /// Of the file as it is, hex without a prefix; of a folder, and of an SQLite database with a journal beside it, over
    /// the sorted paths, sizes and digests of its files. See [`super::digest`].
    pub sha256: String,
    /// Bytes of the file, or of all files of the folder.
    pub size: u64,
    /// True for a folder, false for a file.
    pub folder: bool,
    /// Files of a folder; 0 for a file.
    pub files: u64,
    /// Around the format; of a folder [`Compression::None`], whatever its files are.
    pub compression: Compression,
    /// Inside the compression.
    pub format: Format,
    /// Bytes after decompression; of a zip the bytes of its entries, of a folder of its files where they had to be
    /// decompressed to be judged.
    pub decompressed: u64,
    /// By what it was seen to be complete, or that its format cannot show that: one short figure.
    pub complete: String,
    /// False where its format cannot show at all whether it is complete: then `complete` says why.
    pub shown: bool,
    /// Entries of an archive, of every kind; 0 for a dump.
    pub entries: u64,
    /// The newest file or link in an archive; folders do not count. A zip without Info-ZIP's times has local times
    /// without a zone, which are taken for UTC.
    pub newest: Option<Timestamp>,
    /// What a dump says of itself.
    pub dump: Option<DumpFacts>,
}

/// What a dump says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DumpFacts {
    /// The database that was dumped; not in PostgreSQL's plain format.
    pub database: Option<String>,
    /// The version of the server that it came from: `15.14 (Debian 15.14-0+deb12u1)`.
    pub server_version: Option<String>,
    /// The version of `pg_dump` or `mariadb-dump`.
    pub tool_version: Option<String>,
    /// When it was made, on the clock and in the zone of the machine that made it; not in PostgreSQL's
    /// plain format.
    pub made_local: Option<DateTime>,
    /// Tables with data; not in plain formats.
    pub tables: Option<u64>,
    /// True where its data is compressed by gzip, which carries a checksum.
    pub checksummed: bool,
}

impl BackupFacts {
    /// Checks that this backup is of the kind that a restore needs.
    ///
    /// # Errors
    /// [`BackupError::WrongFormat`], which says what was expected and seen.
    pub fn require(&self, wanted: Wanted) -> Result<(), BackupError> {
        if wanted.formats().contains(&self.format) {
            return Ok(());
        }
        Err(BackupError::WrongFormat {
            path: self.path.clone(),
            expected: wanted.expected().to_owned(),
            seen: format!("a {}", self.format.name()),
        })
    }
}
