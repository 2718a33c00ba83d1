//! Archives that nobody vouches for, read entry by entry.
//!
//! Every reader of packages, file backups and image archives goes through [`walk`]; so a name, a link or a size
//! that is refused for one is refused for all. Invariants a visitor may rely on:
//!
//! - a path is relative, has no `.`, `..` or empty parts, and is visited once;
//! - no entry lies below a link or below a file, so a path means the same on disk as in the archive;
//! - a symbolic link cannot lead out of the archive, alone or through other links of it, unless [`Bounds::links`]
//!   lets it be absolute: then nobody may follow it, only write it;
//! - a hard link names a regular file that was visited before, and has its mode, owner, time and attributes;
//! - content has exactly the announced length, or the walk ends with an error.

pub(crate) mod names;
mod pax;
pub(crate) mod source;
mod tar_in;
pub(crate) mod tar_out;
mod zip_in;

#[cfg(test)]
pub(crate) mod testing;

use std::io::{self, Read, Write};
use std::path::Path;

use source::{Compression, Meter};

/// One entry, cleaned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Relative, without `.` and `..`; empty for the archive's own root folder.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    /// Permission bits including setuid, setgid and sticky; `None` where the archive has none (zip from elsewhere).
    pub(crate) mode: Option<u32>,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) mtime: Option<Mtime>,
    /// Bytes of content; 0 for all but files.
    pub(crate) size: u64,
    /// Extended attributes, in the archive's order.
    pub(crate) xattrs: Vec<(String, Vec<u8>)>,
}

/// What an entry is. Devices, FIFOs and sockets are refused before an entry is made of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    /// With its target as written.
    Symlink(Vec<u8>),
    /// With the cleaned path of the file that it shares.
    Hardlink(Vec<u8>),
}

/// Seconds since 1970 and nanoseconds after that second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mtime {
    pub(crate) secs: i64,
    pub(crate) nanos: u32,
}

/// The file format around the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Container {
    Tar(Compression),
    Zip,
}

/// How much an archive may unpack to, and where its links may lead. Exceeding a limit ends the walk before the entry that does so is visited,
/// where its size is announced, and otherwise at the byte that exceeds it.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
    /// Unpacked bytes for each byte of the file, judged once [`RATIO_FLOOR`] bytes were unpacked.
    pub(crate) ratio: u64,
    pub(crate) links: names::Links,
    /// All tools that read such an archive have to find the same files in it.
    pub(crate) unambiguous: bool,
}

impl Bounds {
    /// For a backup: its owner is trusted with its size, and the disk is the limit. Its links are written, never
    /// followed, and programs do make absolute ones.
    pub(crate) const NONE: Self = Self {
        bytes: u64::MAX,
        entries: u64::MAX,
        ratio: u64::MAX,
        links: names::Links::AlsoAbsolute,
        unambiguous: false,
    };

    /// For a root filesystem, which the engine unpacks inside itself: its links may lead anywhere and pass through one
    /// another, and its device files and FIFOs are counted but not visited.
    pub(crate) const ROOTFS: Self = Self {
        links: names::Links::Anywhere,
        ..Self::NONE
    };
}

/// Small archives compress very well by chance, and cannot hurt.
pub(crate) const RATIO_FLOOR: u64 = 64 * 1024 * 1024;

/// Why a walk ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    /// An entry is not safe to unpack.
    #[error("entry `{entry}` {reason}")]
    Refused { entry: String, reason: String },
    /// It ends before it should.
    #[error("{0}")]
    Truncated(String),
    /// It contradicts itself or a checksum.
    #[error("{0}")]
    Damaged(String),
    /// Perhaps good, but not read by this version.
    #[error("{0}")]
    Unsupported(String),
    /// It exceeds [`Bounds`].
    #[error("{0}")]
    TooBig(String),
    /// The file itself could not be read: no fault of the archive.
    #[error("{0}")]
    Read(io::Error),
    /// What was made of it could not be written: no fault of the archive.
    #[error("{0}")]
    Write(io::Error),
}

impl ArchiveError {
    pub(crate) fn refused(path: &[u8], reason: impl Into<String>) -> Self {
        Self::Refused {
            entry: names::shown(path),
            reason: reason.into(),
        }
    }

    /// Sorts an error that came up through a decoder: the machine's fault, a limit, or the archive's.
    pub(crate) fn from_reading(error: io::Error, meter: &Meter, at: &str) -> Self {
        if let Some(fault) = meter.fault() {
            return Self::Read(fault);
        }
        if let Some(source::Exceeded(what)) = error.get_ref().and_then(|inner| inner.downcast_ref())
        {
            return Self::TooBig(what.clone());
        }
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Self::Truncated(format!("it ends {at}"));
        }
        if error.to_string().contains("mem_limit") {
            return Self::Unsupported(
                "it is compressed with an xz dictionary larger than 128 MiB; compress it with `xz -9` or less".to_owned(),
            );
        }
        if error.to_string().contains("too much memory") {
            return Self::Unsupported(format!(
                "it is compressed with a window larger than 128 MiB ({error}); compress it without `--long` above 27"
            ));
        }
        Self::Damaged(format!("it is damaged {at}: {error}"))
    }
}

/// The content of the entry that is being visited. What a visitor leaves unread is read, and so checked, afterwards.
pub(crate) struct Content<'a> {
    reader: &'a mut dyn Read,
    meter: &'a Meter,
    name: String,
}

impl<'a> Content<'a> {
    fn new(reader: &'a mut dyn Read, meter: &'a Meter, path: &[u8]) -> Self {
        Self {
            reader,
            meter,
            name: names::shown(path),
        }
    }

    /// Copies all that is left and returns how much that was.
    pub(crate) fn copy_to(&mut self, out: &mut dyn Write) -> Result<u64, ArchiveError> {
        let mut buffer = vec![0; 128 * 1024];
        let mut total = 0;
        loop {
            let read = match self.reader.read(&mut buffer) {
                Ok(0) => return Ok(total),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(ArchiveError::from_reading(
                        error,
                        self.meter,
                        &format!("inside entry `{}`", self.name),
                    ));
                }
            };
            out.write_all(&buffer[..read])
                .map_err(ArchiveError::Write)?;
            total += read as u64;
        }
    }
}

/// What a walk saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Walked {
    /// Entries of every kind, the archive's own root folder included.
    pub(crate) entries: u64,
    /// Bytes of all files' content; a file with two hard links counts once.
    pub(crate) bytes: u64,
    /// The newest file or link; folders do not count, since writing a backup may touch them.
    pub(crate) newest: Option<Mtime>,
    /// Bytes after decompression, with all headers; for a zip the same as `bytes`.
    pub(crate) unpacked: u64,
    /// `sha256` of the archive file as it is, in hex.
    pub(crate) sha256: String,
    /// Its size.
    pub(crate) size: u64,
}

impl Walked {
    fn count(&mut self, entry: &Entry) {
        self.entries += 1;
        self.bytes += entry.size;
        if entry.kind != Kind::Directory {
            self.newest = self.newest.max(entry.mtime);
        }
    }
}

/// Called for each entry with its content.
pub(crate) type Visit<'a> = dyn FnMut(&Entry, &mut Content<'_>) -> Result<(), ArchiveError> + 'a;

/// Visits every entry of the archive at `path`, in the archive's order, and reads the file to its end.
pub(crate) fn walk(
    path: &Path,
    container: Container,
    bounds: &Bounds,
    visit: &mut Visit<'_>,
) -> Result<Walked, ArchiveError> {
    match container {
        Container::Tar(compression) => {
            let (source, meter) = source::Source::open(path).map_err(ArchiveError::Read)?;
            let decoder = source::decoder(source, compression).map_err(ArchiveError::Read)?;
            tar_in::walk(decoder, &meter, bounds, visit)
        }
        Container::Zip => zip_in::walk(path, bounds, visit),
    }
}

/// As [`walk`] for a tar whose decompressed bytes come from `reader`, which `meter` measures.
pub(crate) fn walk_tar(
    reader: impl Read,
    meter: &Meter,
    bounds: &Bounds,
    visit: &mut Visit<'_>,
) -> Result<Walked, ArchiveError> {
    tar_in::walk(reader, meter, bounds, visit)
}

/// What the file of a package holds, by its content; `None` where it is no archive. Only backups come as bzip2 and xz.
///
/// # Errors
/// Reading the file, and compressions that are known but not read.
pub(crate) fn recognise(path: &Path) -> Result<Option<Container>, ArchiveError> {
    let file = source::open_regular(path).map_err(ArchiveError::Read)?;
    let head = source::head(file, 512).map_err(ArchiveError::Read)?;
    if source::is_zip(&head) {
        return Ok(Some(Container::Zip));
    }
    let compression = source::recognise(&head).map_err(ArchiveError::Unsupported)?;
    if matches!(compression, Compression::Bzip2 | Compression::Xz) {
        return Err(ArchiveError::Unsupported(format!(
            "it is compressed with {}, which is not supported yet",
            compression.name()
        )));
    }
    let (source, meter) = source::Source::open(path).map_err(ArchiveError::Read)?;
    let decoder = source::decoder(source, compression).map_err(ArchiveError::Read)?;
    let block = source::head(decoder, 512)
        .map_err(|error| ArchiveError::from_reading(error, &meter, "before its first entry"))?;
    Ok(source::is_tar(&block).then_some(Container::Tar(compression)))
}
