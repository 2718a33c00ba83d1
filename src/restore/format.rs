//! What a backup is, by its content.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::civil::DateTime;

use super::error::BackupError;
use crate::archive::source;
pub use crate::archive::source::Compression;

/// What is restored with which tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `pg_dump -Fc`
    PostgresCustom,
    /// `pg_dump`, plain SQL
    PostgresPlain,
    /// A tar archive.
    Tar,
    /// A zip archive; always with [`Compression::None`], since it compresses its entries itself.
    Zip,
}

impl Format {
    /// The name used in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PostgresCustom => "PostgreSQL custom-format dump",
            Self::PostgresPlain => "PostgreSQL plain SQL dump",
            Self::Tar => "tar archive",
            Self::Zip => "zip archive",
        }
    }
}

/// What a restore needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// For a database.
    PostgresDump,
    /// For a volume.
    Archive,
}

/// What one reading of a backup showed. That there are facts means that it is whole, as far as its format can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupFacts {
    /// The file.
    pub path: PathBuf,
    /// Of the file as it is; hex without a prefix.
    pub sha256: String,
    /// Bytes of the file.
    pub size: u64,
    /// Around the format.
    pub compression: Compression,
    /// Inside the compression.
    pub format: Format,
    /// Bytes after decompression; of a zip the bytes of its entries.
    pub decompressed: u64,
    /// Entries of an archive, of every kind; 0 for a dump.
    pub entries: u64,
    /// The newest file or link in an archive; folders do not count. A zip without Info-ZIP's times has local times
    /// without a zone, which are taken for UTC.
    pub newest: Option<Timestamp>,
    /// What a dump says of itself.
    pub dump: Option<DumpFacts>,
}

/// What a PostgreSQL dump says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DumpFacts {
    /// The database that was dumped; custom format only.
    pub database: Option<String>,
    /// The version of the server that it came from: `15.14 (Debian 15.14-0+deb12u1)`.
    pub server_version: Option<String>,
    /// The version of `pg_dump`.
    pub tool_version: Option<String>,
    /// When it was made, on the clock and in the zone of the machine that made it; custom format only.
    pub made_local: Option<DateTime>,
    /// Tables with data; custom format only.
    pub tables: Option<u64>,
}

impl BackupFacts {
    /// Checks that this backup is of the kind that a restore needs.
    ///
    /// # Errors
    /// [`BackupError::WrongFormat`], which says what was expected and seen.
    pub fn require(&self, wanted: Wanted) -> Result<(), BackupError> {
        let (fits, expected) = match (wanted, self.format) {
            (Wanted::PostgresDump, Format::PostgresCustom | Format::PostgresPlain)
            | (Wanted::Archive, Format::Tar | Format::Zip) => (true, ""),
            (Wanted::PostgresDump, Format::Tar | Format::Zip) => {
                (false, "a PostgreSQL dump (`pg_dump -Fc` or plain SQL)")
            }
            (Wanted::Archive, Format::PostgresCustom | Format::PostgresPlain) => {
                (false, "a tar, tar.gz, tar.zst or zip archive")
            }
        };
        if fits {
            return Ok(());
        }
        Err(BackupError::WrongFormat {
            path: self.path.clone(),
            expected: expected.to_owned(),
            seen: format!("a {}", self.format.name()),
        })
    }
}

/// What the first bytes after decompression tell.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Recognised {
    PostgresArchive,
    PostgresPlain,
    Tar,
    /// Known, and for a later version.
    NotYet(&'static str),
    /// Known, and not what is restored here.
    Other(String),
}

/// How many bytes [`recognise`] looks at.
pub(super) const HEAD: usize = 4096;

/// Judges the first bytes of a backup after decompression.
pub(super) fn recognise(head: &[u8]) -> Recognised {
    const NOT_YET: [(&[u8], &str); 17] = [
        (b"-- MySQL dump", "a MySQL dump"),
        (b"-- MariaDB dump", "a MariaDB dump"),
        (b"/*!999999\\- enable the sandbox mode */", "a MariaDB dump"),
        (
            b"/*M!999999\\- enable the sandbox mode */",
            "a MariaDB dump",
        ),
        (b"REDIS0", "a Redis snapshot"),
        (b"SQLite format 3\0", "an SQLite database"),
        (b"\x6d\xe2\x99\x81", "a MongoDB archive"),
        (b"XBSTCK01", "an xtrabackup stream"),
        (b"\x1f\x8b\x08", "a gzip file inside the compression"),
        (
            b"\x28\xb5\x2f\xfd",
            "a Zstandard file inside the compression",
        ),
        (b"PK\x03\x04", "a zip inside the compression"),
        (b"070701", "a cpio archive"),
        (b"Salted__", "a file encrypted with openssl"),
        (b"age-encryption.org/", "a file encrypted with age"),
        (b"-----BEGIN PGP", "a file encrypted or signed with PGP"),
        (b"Rar!\x1a\x07", "a RAR archive"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    ];
    const OTHER: [(&[u8], &str); 3] = [
        (b"\x7fELF", "a program"),
        (b"%PDF", "a PDF"),
        (
            b"\xff\xfe",
            "UTF-16 text, as a redirect in PowerShell writes it; use `pg_dump --file`",
        ),
    ];
    if head.starts_with(b"PGDMP") {
        return Recognised::PostgresArchive;
    }
    if let Some(block) = head.get(..512)
        && source::is_tar(block)
    {
        return Recognised::Tar;
    }
    if let Some((_, name)) = NOT_YET.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Recognised::NotYet(name);
    }
    if let Some((_, name)) = OTHER.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Recognised::Other((*name).to_owned());
    }
    let text = String::from_utf8_lossy(head);
    if text
        .lines()
        .any(|line| line.trim_end() == "-- PostgreSQL database cluster dump")
    {
        return Recognised::NotYet("a dump of a whole PostgreSQL cluster (`pg_dumpall`)");
    }
    if text
        .lines()
        .any(|line| line.trim_end() == "-- PostgreSQL database dump")
    {
        return Recognised::PostgresPlain;
    }
    let start = text.trim_start().to_ascii_lowercase();
    if start.starts_with("<!doctype") || start.starts_with("<html") {
        return Recognised::Other(
            "an HTML page, such as a download answers when it fails".to_owned(),
        );
    }
    for failure in ["pg_dump: error", "pg_dump: [", "mysqldump: "] {
        if start.starts_with(failure) {
            return Recognised::Other(format!("an error message: {}", first_line(&text)));
        }
    }
    let printable = !text
        .chars()
        .take(200)
        .any(|c| c == '\u{fffd}' || (c.is_control() && !c.is_whitespace()));
    Recognised::Other(if printable {
        format!("text that begins with `{}`", first_line(&text))
    } else {
        "data of no known kind".to_owned()
    })
}

fn first_line(text: &str) -> String {
    text.trim_start()
        .lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(80)
        .collect()
}

/// The path's own words in an error about something that no restore takes.
pub(super) fn wrong(path: &Path, seen: String) -> BackupError {
    BackupError::WrongFormat {
        path: path.to_owned(),
        expected: "a PostgreSQL dump or a tar or zip archive".to_owned(),
        seen,
    }
}
