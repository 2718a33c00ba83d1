//! One reading of a backup.

use std::io::{self, Read};
use std::path::Path;

use jiff::Timestamp;

use super::error::BackupError;
use super::format::{BackupFacts, Compression, DumpFacts, Format, Wanted};
use super::recognise::{self, Recognised};
use super::stream::Stream;
use super::{folder, pgdump, redis, sql, sqlite, xbstream};
use crate::archive::source::{self, Meter};
use crate::archive::{self, ArchiveError, Bounds, Container, Mtime, Walked};

/// What a format's judge saw.
pub(super) struct Judged {
    pub(super) format: Format,
    pub(super) complete: String,
    pub(super) shown: bool,
    pub(super) dump: Option<DumpFacts>,
    pub(super) entries: u64,
    pub(super) newest: Option<Timestamp>,
}

impl Judged {
    pub(super) fn new(format: Format, complete: impl Into<String>) -> Self {
        Self {
            format,
            complete: complete.into(),
            shown: true,
            dump: None,
            entries: 0,
            newest: None,
        }
    }

    /// Of a format, or a version of one, that does not show whether a backup is complete.
    pub(super) fn unseen(format: Format, why: &str) -> Self {
        Self {
            shown: false,
            ..Self::new(format, format!("cannot be seen: {why}"))
        }
    }
}

/// Reads the backup at `path` to its end: what it is, whether it is whole as far as its format can tell, its digest.
/// Once, but for a zip, whose directory stands at its end, and for small files of a folder that say what the others
/// should be.
///
/// What it is, its content tells; `wanted` decides what content cannot: whether a folder is a backup, whether a tar is
/// a root filesystem, whether anything will do. A compression's own checksums are verified on the way, and the entries
/// of an archive for a volume are judged as [`super::archive::check`] does.
///
/// # Errors
/// See [`BackupError`]; [`BackupError::is_backup_fault`] tells a bad backup from one that could not be judged. It is
/// [`BackupError::WrongFormat`] where it is whole but not what is wanted.
pub fn inspect(path: &Path, wanted: Wanted) -> Result<BackupFacts, BackupError> {
    let metadata =
        std::fs::metadata(path).map_err(|source| BackupError::unreadable(path, source))?;
    let facts = if metadata.is_dir() {
        folder::inspect(path, wanted)?
    } else if wanted == Wanted::Any {
        any_file(path)?
    } else {
        file(path, wanted)?
    };
    facts.require(wanted)?;
    Ok(facts)
}

fn file(path: &Path, wanted: Wanted) -> Result<BackupFacts, BackupError> {
    let opened = source::open_regular(path).and_then(|file| source::head(file, 4));
    let head = opened.map_err(|source| BackupError::unreadable(path, source))?;
    if source::is_zip(&head) {
        let walked = archive::walk(path, Container::Zip, &Bounds::NONE, &mut |_, _| Ok(()))
            .map_err(|error| BackupError::from_archive(path, error))?;
        let judged = archive_judged(path, Format::Zip, &walked)?;
        return Ok(BackupFacts {
            decompressed: walked.unpacked,
            sha256: walked.sha256,
            size: walked.size,
            ..facts(path, judged)
        });
    }
    let mut stream = Stream::open(path)?;
    let judged = match (recognise::recognise(&stream.head), wanted) {
        (Recognised::Known(Format::PostgresTar | Format::Tar), Wanted::PostgresBase) => {
            super::base::judge_tar(&mut stream)?
        }
        (Recognised::Known(Format::PostgresTar | Format::Tar), Wanted::Rootfs) => {
            tar(&mut stream, &Bounds::ROOTFS)?
        }
        (Recognised::Known(Format::PostgresTar), Wanted::Archive)
        | (Recognised::Known(Format::Tar), _) => tar(&mut stream, &Bounds::NONE)?,
        // A snapshot may be an append-only file's beginning.
        (Recognised::Known(Format::RedisRdb), Wanted::RedisAof) => redis::judge_aof(&mut stream)?,
        (Recognised::Known(format), _) => known(&mut stream, format)?,
        (Recognised::PostgresArchive, _) => custom(&mut stream)?,
        (Recognised::NotRead(what), _) => {
            return Err(BackupError::unsupported(
                path,
                format!("it is {what}, which is not read"),
            ));
        }
        (Recognised::Other(seen), _) => return Err(BackupError::wrong(path, wanted, seen)),
    };
    finish(stream, judged)
}

fn known(stream: &mut Stream, format: Format) -> Result<Judged, BackupError> {
    match format {
        Format::PostgresPlain
        | Format::PostgresCluster
        | Format::PostgresGlobals
        | Format::MariadbDump => sql::judge(stream, format),
        Format::PostgresTar => super::pgfiles::judge_tar(stream),
        Format::MariadbStream => xbstream::judge(stream),
        Format::RedisRdb => redis::judge_rdb(stream),
        Format::RedisAof => redis::judge_aof(stream),
        Format::Sqlite => sqlite::judge(stream),
        Format::Tar => tar(stream, &Bounds::NONE),
        Format::PostgresCustom => custom(stream),
        Format::PostgresDirectory
        | Format::PostgresBaseFolder
        | Format::PostgresBaseTar
        | Format::PgBackRest
        | Format::MariadbFolder
        | Format::Zip
        | Format::Restic
        | Format::Borg
        | Format::Any => {
            let seen = format!("it is a {}, which is no single file", format.name());
            Err(stream.damaged(seen))
        }
    }
}

/// Why nothing shows whether something that only a command knows is complete.
pub(super) const ANYTHING: &str = "it may be anything";
/// Why nothing shows whether an archive of a `pg_dump` from the future is complete.
pub(super) const NEWER: &str = "its archive version is newer than known";

/// Whatever a command knows to read: only its compression can be judged.
fn any_file(path: &Path) -> Result<BackupFacts, BackupError> {
    let mut stream = match Stream::open(path) {
        Ok(stream) => stream,
        // Perhaps the command knows this compression.
        Err(BackupError::Unsupported { .. }) => Stream::raw(path)?,
        Err(error) => return Err(error),
    };
    stream.rest("inside it")?;
    let judged = match stream.compression {
        Compression::None => Judged::unseen(Format::Any, ANYTHING),
        compression => {
            let what = format!(
                "the {} around it is whole; what is in it may be anything",
                compression.name()
            );
            Judged::new(Format::Any, what)
        }
    };
    finish(stream, judged)
}

fn finish(stream: Stream, judged: Judged) -> Result<BackupFacts, BackupError> {
    let facts = BackupFacts {
        sha256: stream.meter.sha256(),
        size: stream.meter.bytes(),
        compression: stream.compression,
        decompressed: stream.count,
        ..facts(&stream.path, judged)
    };
    if facts.format == Format::Sqlite && facts.compression == Compression::None {
        return sqlite::with_journals(facts);
    }
    Ok(facts)
}

/// Facts without a digest.
pub(super) fn facts(path: &Path, judged: Judged) -> BackupFacts {
    BackupFacts {
        path: path.to_owned(),
        sha256: String::new(),
        size: 0,
        folder: false,
        files: 0,
        compression: Compression::None,
        format: judged.format,
        decompressed: 0,
        complete: judged.complete,
        shown: judged.shown,
        entries: judged.entries,
        newest: judged.newest,
        dump: judged.dump,
    }
}

/// Opens a backup for reading without its compression. The end of the stream is reached only where the compressed
/// file is whole; a reader must read on until it is told so.
///
/// # Errors
/// Those of opening the file.
pub fn open_decompressed(
    path: &Path,
    compression: Compression,
) -> io::Result<Box<dyn Read + Send>> {
    source::decoder(source::open_regular(path)?, compression)
}

/// The `sha256` that [`BackupFacts::sha256`] gives for the file or folder at `path`; of a file it is the file's own, so
/// not that of an SQLite database with a journal beside it.
///
/// Of a folder it is over one line for each file, folder and link, sorted by their paths' bytes: path, NUL, size, NUL,
/// hex digest, line feed; for a folder the path and `/`, for a link its target instead of the digest, without a size.
///
/// # Errors
/// As [`inspect`] for a path that cannot be read, and for entries that a folder may not have.
pub fn digest(path: &Path) -> Result<String, BackupError> {
    let unreadable = |source| BackupError::unreadable(path, source);
    if std::fs::metadata(path).map_err(unreadable)?.is_dir() {
        return folder::digest(path);
    }
    source::digest(path).map_err(unreadable)
}

fn custom(stream: &mut Stream) -> Result<Judged, BackupError> {
    let dump = pgdump::walk(&mut *stream)
        .map_err(|fault| dump_error(&stream.path, &stream.meter, fault))?;
    let judged = match dump.tables {
        Some(tables) => Judged::new(
            Format::PostgresCustom,
            format!("table of contents: the data of {tables} tables is there"),
        ),
        None => Judged::unseen(Format::PostgresCustom, NEWER),
    };
    Ok(Judged {
        dump: Some(dump),
        ..judged
    })
}

pub(super) fn dump_error(path: &Path, meter: &Meter, fault: pgdump::Fault) -> BackupError {
    match fault {
        pgdump::Fault::Io(error, at) => {
            BackupError::from_archive(path, ArchiveError::from_reading(error, meter, &at))
        }
        // The same error for a cut file and a cut compression around it, unless the disk is to blame.
        pgdump::Fault::Truncated(seen) => match meter.fault() {
            Some(source) => BackupError::unreadable(path, source),
            None => BackupError::truncated(path, seen),
        },
        pgdump::Fault::Damaged(seen) => BackupError::damaged(path, seen),
        pgdump::Fault::Unsupported(seen) => BackupError::unsupported(path, seen),
    }
}

fn tar(stream: &mut Stream, bounds: &Bounds) -> Result<Judged, BackupError> {
    let (path, meter) = (stream.path.clone(), stream.meter.clone());
    let walked = archive::walk_tar(stream, &meter, bounds, &mut |_, _| Ok(()))
        .map_err(|error| BackupError::from_archive(&path, error))?;
    archive_judged(&path, Format::Tar, &walked)
}

fn archive_judged(path: &Path, format: Format, walked: &Walked) -> Result<Judged, BackupError> {
    if walked.entries == 0 {
        let seen = format!("a {} without entries", format.name());
        return Err(BackupError::empty(path, seen));
    }
    Ok(Judged {
        entries: walked.entries,
        newest: newest(walked.newest),
        ..Judged::new(
            format,
            format!("read to its end: {} entries", walked.entries),
        )
    })
}

/// A time that no calendar holds is no time.
pub(super) fn newest(mtime: Option<Mtime>) -> Option<Timestamp> {
    mtime.and_then(|mtime| Timestamp::new(mtime.secs, i32::try_from(mtime.nanos).ok()?).ok())
}
