//! What a file is, by its first bytes after decompression.

use super::format::Format;
use crate::archive::source;

/// What the first bytes after decompression tell.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Recognised {
    /// To be judged as this.
    Known(Format),
    /// `PGDMP`: a custom dump, or the table of contents of another.
    PostgresArchive,
    /// Known, but not read.
    NotRead(&'static str),
    /// Known, and not what is restored here.
    Other(String),
}

/// How many bytes [`recognise`] looks at.
pub(super) const HEAD: usize = 4096;

const MAGIC: [(&[u8], Format); 10] = [
    (b"-- MySQL dump", Format::MariadbDump),
    (b"-- MariaDB dump", Format::MariadbDump),
    (
        b"/*!999999\\- enable the sandbox mode */",
        Format::MariadbDump,
    ),
    (
        b"/*M!999999\\- enable the sandbox mode */",
        Format::MariadbDump,
    ),
    // The first statements of a dump without comments.
    (
        b"/*!40101 SET @OLD_CHARACTER_SET_CLIENT",
        Format::MariadbDump,
    ),
    (
        b"\n/*!40101 SET @OLD_CHARACTER_SET_CLIENT",
        Format::MariadbDump,
    ),
    (b"/*!40103 SET @OLD_TIME_ZONE", Format::MariadbDump),
    (b"REDIS0", Format::RedisRdb),
    (b"SQLite format 3\0", Format::Sqlite),
    (b"XBSTCK01", Format::MariadbStream),
];

const NOT_READ: [(&[u8], &str); 15] = [
    (b"\x6d\xe2\x99\x81", "a MongoDB archive"),
    (b"\x1f\x8b\x08", "a gzip file inside the compression"),
    (
        b"\x28\xb5\x2f\xfd",
        "a Zstandard file inside the compression",
    ),
    (b"BZh91AY&SY", "a bzip2 file inside the compression"),
    (b"\xfd7zXZ\0", "an xz file inside the compression"),
    (b"PK\x03\x04", "a zip inside the compression"),
    (b"070701", "a cpio archive"),
    (b"Salted__", "a file encrypted with openssl"),
    (b"age-encryption.org/", "a file encrypted with age"),
    (b"-----BEGIN PGP", "a file encrypted or signed with PGP"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"TAPE", "a Microsoft SQL Server backup"),
    (
        b"BORG_SEG",
        "one segment of a Borg repository; name the repository's folder",
    ),
    (b"\xfebin", "a MariaDB or MySQL binary log"),
];

const OTHER: [(&[u8], &str); 3] = [
    (b"\x7fELF", "a program"),
    (b"%PDF", "a PDF"),
    (
        b"\xff\xfe",
        "UTF-16 text, as a redirect in PowerShell writes it; use `pg_dump --file`",
    ),
];

/// Judges the first bytes of a backup after decompression.
pub(super) fn recognise(head: &[u8]) -> Recognised {
    if head.starts_with(b"PGDMP") {
        return Recognised::PostgresArchive;
    }
    if let Some(block) = head.get(..512)
        && source::is_tar(block)
    {
        let contents = block.starts_with(b"toc.dat\0") && head[512..].starts_with(b"PGDMP");
        return Recognised::Known(if contents {
            Format::PostgresTar
        } else {
            Format::Tar
        });
    }
    if let Some((_, format)) = MAGIC.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Recognised::Known(*format);
    }
    if let Some((_, name)) = NOT_READ.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Recognised::NotRead(name);
    }
    if let Some((_, name)) = OTHER.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Recognised::Other((*name).to_owned());
    }
    // A command of Redis' append-only file, or the note of time before one.
    if matches!(head, [b'*', b'1'..=b'9', ..])
        && head.windows(3).take(24).any(|part| part == b"\r\n$")
        || head.starts_with(b"#TS:")
    {
        return Recognised::Known(Format::RedisAof);
    }
    text(head)
}

fn text(head: &[u8]) -> Recognised {
    let text = String::from_utf8_lossy(head);
    for (line, format) in [
        (
            "-- PostgreSQL database cluster dump",
            Format::PostgresCluster,
        ),
        ("-- PostgreSQL database dump", Format::PostgresPlain),
        ("-- MySQL dump ", Format::MariadbDump),
        ("-- MariaDB dump ", Format::MariadbDump),
    ] {
        let names = |seen: &str| match format {
            Format::MariadbDump => seen.starts_with(line),
            _ => seen.trim_end() == line,
        };
        if text.lines().any(names) {
            return Recognised::Known(format);
        }
    }
    let start = text.trim_start().to_ascii_lowercase();
    if start.starts_with("<!doctype") || start.starts_with("<html") {
        return Recognised::Other(
            "an HTML page, such as a download answers when it fails".to_owned(),
        );
    }
    for failure in [
        "pg_dump: error",
        "pg_dump: [",
        "pg_dumpall: error",
        "mysqldump: ",
        "mariadb-dump: ",
    ] {
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
