//! One reading of a backup.

use std::io::{self, Cursor, Read};
use std::path::Path;

use jiff::Timestamp;

use super::error::BackupError;
use super::format::{self, BackupFacts, Compression, DumpFacts, Format, Recognised};
use super::{pgdump, sql};
use crate::archive::source::{self, Meter, Source};
use crate::archive::{self, ArchiveError, Bounds, Container, Mtime, Walked};

/// Reads the backup at `path` to its end: what it is, whether it is whole, its digest. Once, but for a zip, whose
/// directory stands at its end.
///
/// A compression's own checksums are verified on the way, an archive's entries are judged as
/// [`super::archive::check`] does, and a custom dump's data blocks are held against its table of contents.
///
/// # Errors
/// See [`BackupError`]; [`BackupError::is_backup_fault`] tells a bad backup from one that could not be judged.
pub fn inspect(path: &Path) -> Result<BackupFacts, BackupError> {
    let unreadable = |source| BackupError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let file = source::open_regular(path).map_err(unreadable)?;
    let raw = source::head(file, 512).map_err(unreadable)?;
    if raw.is_empty() {
        return Err(BackupError::Empty {
            path: path.to_owned(),
            seen: "a file of 0 bytes".to_owned(),
        });
    }
    if source::is_zip(&raw) {
        let walked = walk(path, Container::Zip)?;
        return archive_facts(path, Compression::None, Format::Zip, walked);
    }
    let compression = source::recognise(&raw).map_err(|seen| BackupError::Unsupported {
        path: path.to_owned(),
        seen,
    })?;
    let (source, meter) = Source::open(path).map_err(unreadable)?;
    let mut decoder = source::decoder(source, compression).map_err(unreadable)?;
    let failed = |error, at: &str| {
        BackupError::from_archive(path, ArchiveError::from_reading(error, &meter, at))
    };
    let mut head = Vec::new();
    (&mut decoder)
        .take(format::HEAD as u64)
        .read_to_end(&mut head)
        .map_err(|error| failed(error, "in its first bytes"))?;
    if head.is_empty() {
        let seen = format!("a {} file that holds nothing", compression.name());
        return Err(BackupError::Empty {
            path: path.to_owned(),
            seen,
        });
    }
    let recognised = format::recognise(&head);
    let mut whole = Measured {
        inner: Cursor::new(head.clone()).chain(decoder),
        count: 0,
    };
    let (format, dump) = match recognised {
        Recognised::Tar => {
            let walked = archive::walk_tar(whole, &meter, &Bounds::NONE, &mut |_, _| Ok(()))
                .map_err(|error| BackupError::from_archive(path, error))?;
            return archive_facts(path, compression, Format::Tar, walked);
        }
        Recognised::PostgresArchive => (Format::PostgresCustom, custom(path, &mut whole, &meter)?),
        Recognised::PostgresPlain => {
            let tail =
                tail(&mut whole, sql::TAIL).map_err(|error| failed(error, "inside its SQL"))?;
            sql::judge_end(&head, &tail).map_err(|bad| match bad {
                sql::BadEnd::Missing(seen) => BackupError::Truncated {
                    path: path.to_owned(),
                    seen,
                },
                sql::BadEnd::Continued(seen) => BackupError::Damaged {
                    path: path.to_owned(),
                    seen,
                },
            })?;
            (Format::PostgresPlain, sql::facts(&head))
        }
        Recognised::NotYet(what) => {
            let seen = format!("it is {what}, which is not supported yet");
            return Err(BackupError::Unsupported {
                path: path.to_owned(),
                seen,
            });
        }
        Recognised::Other(seen) => return Err(format::wrong(path, seen)),
    };
    Ok(BackupFacts {
        path: path.to_owned(),
        sha256: meter.sha256(),
        size: meter.bytes(),
        compression,
        format,
        decompressed: whole.count,
        entries: 0,
        newest: None,
        dump: Some(dump),
    })
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

fn custom(path: &Path, whole: &mut impl Read, meter: &Meter) -> Result<DumpFacts, BackupError> {
    pgdump::walk(whole).map_err(|fault| {
        let path = path.to_owned();
        match fault {
            pgdump::Fault::Io(error, at) => {
                BackupError::from_archive(&path, ArchiveError::from_reading(error, meter, &at))
            }
            // The same error for a cut file and a cut compression around it, unless the disk is to blame.
            pgdump::Fault::Truncated(seen) => match meter.fault() {
                Some(source) => BackupError::Unreadable { path, source },
                None => BackupError::Truncated { path, seen },
            },
            pgdump::Fault::Damaged(seen) => BackupError::Damaged { path, seen },
            pgdump::Fault::Unsupported(seen) => BackupError::Unsupported { path, seen },
        }
    })
}

fn walk(path: &Path, container: Container) -> Result<Walked, BackupError> {
    archive::walk(path, container, &Bounds::NONE, &mut |_, _| Ok(()))
        .map_err(|error| BackupError::from_archive(path, error))
}

fn archive_facts(
    path: &Path,
    compression: Compression,
    format: Format,
    walked: Walked,
) -> Result<BackupFacts, BackupError> {
    if walked.entries == 0 {
        let seen = format!("a {} without entries", format.name());
        return Err(BackupError::Empty {
            path: path.to_owned(),
            seen,
        });
    }
    Ok(BackupFacts {
        path: path.to_owned(),
        sha256: walked.sha256,
        size: walked.size,
        compression,
        format,
        decompressed: walked.unpacked,
        entries: walked.entries,
        newest: newest(walked.newest),
        dump: None,
    })
}

/// A time that no calendar holds is no time.
pub(super) fn newest(mtime: Option<Mtime>) -> Option<Timestamp> {
    mtime.and_then(|mtime| Timestamp::new(mtime.secs, i32::try_from(mtime.nanos).ok()?).ok())
}

struct Measured<R> {
    inner: R,
    count: u64,
}

impl<R: Read> Read for Measured<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf)?;
        self.count += read as u64;
        Ok(read)
    }
}

/// Reads to the end and returns the last `keep` bytes.
fn tail(reader: &mut impl Read, keep: usize) -> io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        let read = match reader.read(&mut buffer) {
            Ok(0) => return Ok(kept),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        kept.extend_from_slice(&buffer[..read]);
        if kept.len() > keep {
            kept.drain(..kept.len() - keep);
        }
    }
}
