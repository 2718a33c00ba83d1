//! A zip, by its central directory; the local headers must agree with it.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use zip::read::ZipFile;
use zip::result::ZipError;
use zip::{ExtraField, ZipArchive, ZipReadOptions};

use super::names::{self, Tree};
use super::source::{Meter, Source, open_regular};
use super::tar_in::within;
use super::{ArchiveError, Bounds, Content, Entry, Kind, Mtime, RATIO_FLOOR, Visit, Walked};

const TYPE_MASK: u32 = 0o170_000;
/// As long as Linux allows a link's target to be.
const MAX_TARGET: u64 = 4096;

/// A file whose own errors are noted, without hashing: a zip is not read in order.
struct Seekable {
    file: File,
    meter: Meter,
}

impl Read for Seekable {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.file
            .read(buf)
            .inspect_err(|error| self.meter.note_fault(error))
    }
}

impl Seek for Seekable {
    fn seek(&mut self, pos: SeekFrom) -> io::Result<u64> {
        self.file.seek(pos)
    }
}

/// As [`super::walk`].
pub(super) fn walk(
    path: &Path,
    bounds: &Bounds,
    visit: &mut Visit<'_>,
) -> Result<Walked, ArchiveError> {
    let (mut whole, measured) = Source::open(path).map_err(ArchiveError::Read)?;
    io::copy(&mut whole, &mut io::sink()).map_err(ArchiveError::Read)?;
    let size = measured.bytes();

    let meter = Meter::default();
    let mut file = open_regular(path).map_err(ArchiveError::Read)?;
    if !has_end(&mut file, size).map_err(ArchiveError::Read)? {
        let what = "it has no end-of-archive record, so it was cut short";
        return Err(ArchiveError::Truncated(what.to_owned()));
    }
    let reader = BufReader::with_capacity(
        128 * 1024,
        Seekable {
            file,
            meter: meter.clone(),
        },
    );
    let mut archive = ZipArchive::new(reader)
        .map_err(|error| failed(error, &meter, "in its central directory"))?;
    if archive.has_duplicate_names() {
        let start = archive.central_directory_start();
        return Err(twice(path, start));
    }
    if archive
        .has_overlapping_entries()
        .map_err(|error| failed(error, &meter, "in a local header"))?
    {
        let what = "its entries overlap, as only in an archive made to fill a disk";
        return Err(ArchiveError::TooBig(what.to_owned()));
    }

    if bounds.unambiguous {
        nothing_else(path, &mut archive, size, &meter)?;
    }

    let mut tree = Tree::new(bounds.links);
    let mut walked = Walked {
        sha256: measured.sha256(),
        size,
        ..Walked::default()
    };
    for index in 0..archive.len() {
        let options = ZipReadOptions::new().enforce_header_consistency(true);
        let name = archive
            .by_index_data(index)
            .map(|data| names::shown(data.name_raw()))
            .unwrap_or_default();
        let mut file = archive
            .by_index_with_options(index, options)
            .map_err(|error| failed(error, &meter, &format!("at entry `{name}`")))?;
        let mut entry = entry(&mut file, &meter)?;
        tree.add(&mut entry)
            .map_err(|reason| ArchiveError::refused(&entry.path, reason))?;
        walked.count(&entry);
        within(bounds, &walked, &tree, &entry)?;
        if walked.bytes > RATIO_FLOOR && walked.bytes / size.max(1) > bounds.ratio {
            let what = "times its size, as only an archive made to fill a disk does";
            return Err(ArchiveError::TooBig(format!(
                "it unpacks to more than {} {what}",
                bounds.ratio
            )));
        }
        let expected = entry.size;
        let mut exact = Announced {
            inner: &mut file,
            left: expected,
        };
        let mut content = Content::new(&mut exact, &meter, &entry.path);
        visit(&entry, &mut content)?;
        content.copy_to(&mut io::sink())?;
    }
    walked.unpacked = walked.bytes;
    Ok(walked)
}

/// Whether the archive is its entries and nothing else. Tools read a zip by its directory, by the local headers, or by
/// whatever looks like an end: with gaps they would find other files in one and the same archive.
fn nothing_else(
    path: &Path,
    archive: &mut ZipArchive<BufReader<Seekable>>,
    size: u64,
    meter: &Meter,
) -> Result<(), ArchiveError> {
    let more = |what: &str| {
        ArchiveError::Damaged(format!(
            "it has {what}: tools would read other files from it"
        ))
    };
    let mut entries: Vec<(u64, u64)> = Vec::with_capacity(archive.len());
    for index in 0..archive.len() {
        let file = archive
            .by_index_raw(index)
            .map_err(|error| failed(error, meter, "in a local header"))?;
        let data = file
            .data_start()
            .ok_or_else(|| more("an entry without content"))?;
        entries.push((file.header_start(), data + file.compressed_size()));
    }
    entries.sort_unstable();
    let directory = archive.central_directory_start();
    let mut at = 0;
    for (start, end) in entries.into_iter().chain([(directory, directory)]) {
        let gap = start.checked_sub(at);
        // Checksum and sizes may follow an entry, with or without a mark, in 4 or 8 bytes each.
        let described = at > 0 && matches!(gap, Some(12 | 16 | 20 | 24));
        if gap != Some(0) && !described {
            return Err(more("something before, between or behind its entries"));
        }
        at = end;
    }
    let end = directory_end(path, directory, archive.len()).map_err(ArchiveError::Read)?;
    match end {
        Some(end) if end == size => Ok(()),
        Some(_) | None => Err(more("something beside the files that its directory counts")),
    }
}

/// Where an archive ends whose directory begins at `start` and counts so many entries; `None` where something else comes
/// than the records that end a directory (APPNOTE 4.3.14 to 4.3.16), or where its end holds another one.
fn directory_end(path: &Path, start: u64, entries: usize) -> io::Result<Option<u64>> {
    let mut file = BufReader::new(open_regular(path)?);
    let mut at = file.seek(SeekFrom::Start(start))?;
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    };
    for _ in 0..entries {
        let mut head = [0; 46];
        file.read_exact(&mut head)?;
        if !head.starts_with(b"PK\x01\x02") {
            return Ok(None);
        }
        let rest = number(&head[28..30]) + number(&head[30..32]) + number(&head[32..34]);
        file.seek_relative(i64::try_from(rest).unwrap_or_default())?;
        at += 46 + rest;
    }
    let mut rest = Vec::new();
    file.take(LONGEST_END).read_to_end(&mut rest)?;
    let (entries, length) = (entries as u64, at - start);
    let mut end = rest.as_slice();
    // The one for large archives, and what says where it is. Some tools believe it wherever it is.
    if end.starts_with(b"PK\x06\x06") {
        let (Some(record), Some(locator)) = (end.get(..56), end.get(56..76)) else {
            return Ok(None);
        };
        let says = [
            &record[4..12],
            &record[16..24],
            &record[24..32],
            &record[32..40],
            &record[40..48],
            &record[48..56],
        ];
        let holds = says.map(number) == [44, 0, entries, entries, length, start];
        let finds = locator.starts_with(b"PK\x06\x07")
            && number(&locator[4..8]) == 0
            && number(&locator[8..16]) == at;
        if !holds || !finds {
            return Ok(None);
        }
        end = end.get(76..).unwrap_or_default();
    }
    let Some(record) = end.get(..22).filter(|end| end.starts_with(b"PK\x05\x06")) else {
        return Ok(None);
    };
    // What is too large for a field has all its bits set there, and stands in the other record.
    let says = |from: usize, to: usize, what: u64| {
        let said = number(&record[from..to]);
        said == what || said == (1 << (8 * (to - from))) - 1
    };
    let holds = says(4, 8, 0)
        && says(8, 10, entries)
        && says(10, 12, entries)
        && says(12, 16, length)
        && says(16, 20, start);
    let comment = &end[22..];
    let whole = number(&record[20..22]) == comment.len() as u64;
    let another = comment.windows(4).any(|four| four == b"PK\x05\x06");
    Ok((holds && whole && !another).then_some(at + rest.len() as u64))
}

/// More than all records that end a directory can be, with the longest comment.
const LONGEST_END: u64 = 1 << 20;

/// The announced length and no other; the crate checks the checksum where its reader ends.
struct Announced<'a, R> {
    inner: &'a mut R,
    left: u64,
}

impl<R: Read> Read for Announced<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf)?;
        if read == 0 && self.left > 0 && !buf.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "it is longer than the archive's directory says",
            )
        })?;
        Ok(read)
    }
}

fn entry<R: Read>(file: &mut ZipFile<'_, R>, meter: &Meter) -> Result<Entry, ArchiveError> {
    let shown = names::shown(file.name_raw());
    let damaged = |what: String| ArchiveError::Damaged(format!("entry `{shown}` {what}"));
    let raw = file
        .name()
        .map_err(|error| damaged(format!("has an unreadable name: {error}")))?
        .into_owned();
    let path = names::clean(raw.as_bytes())
        .map_err(|reason| ArchiveError::refused(raw.as_bytes(), reason))?;
    let refused = |reason: &str| Err(ArchiveError::refused(&path, reason));
    if raw.contains('\\') {
        return refused("has a backslash in its name, which some tools take for a folder's end");
    }
    if file.encrypted() {
        return Err(ArchiveError::Unsupported(format!(
            "entry `{shown}` is encrypted"
        )));
    }
    let unix = file.unix_mode();
    let announced = file.size();
    let folder = raw.ends_with('/');
    let (kind, size) = match unix.map_or(0, |mode| mode & TYPE_MASK) {
        0o120_000 if !folder => {
            let mut target = Vec::new();
            file.take(MAX_TARGET)
                .read_to_end(&mut target)
                .map_err(|error| {
                    ArchiveError::from_reading(error, meter, &format!("inside entry `{shown}`"))
                })?;
            if target.len() as u64 != announced || announced >= MAX_TARGET {
                return refused("is a symbolic link with a target that is too long or cut short");
            }
            (Kind::Symlink(target), 0)
        }
        0o040_000 => (Kind::Directory, announced),
        0 if folder => (Kind::Directory, announced),
        0 | 0o100_000 if !folder => (Kind::File, announced),
        0o020_000 => return refused("is a character device"),
        0o060_000 => return refused("is a block device"),
        0o010_000 => return refused("is a FIFO"),
        0o140_000 => return refused("is a socket"),
        _ => return refused("is of one kind by its name and of another by its mode"),
    };
    if size > 0 && kind == Kind::Directory {
        return refused("is a folder with content");
    }
    let (uid, gid) = owner(file).unwrap_or((0, 0));
    Ok(Entry {
        path,
        kind,
        mode: unix.map(|mode| mode & 0o7777),
        uid,
        gid,
        mtime: mtime(file),
        size,
        xattrs: Vec::new(),
    })
}

/// Info-ZIP's extended timestamp, else the DOS time, which has no zone and is taken for UTC.
fn mtime<R: Read>(file: &ZipFile<'_, R>) -> Option<Mtime> {
    let exact = file.extra_data_fields().find_map(|field| match field {
        ExtraField::ExtendedTimestamp(stamp) => stamp.mod_time(),
        _ => None,
    });
    if let Some(secs) = exact {
        return Some(Mtime {
            secs: i64::from(secs.cast_signed()),
            nanos: 0,
        });
    }
    let dos = file.last_modified()?;
    let civil = jiff::civil::DateTime::new(
        i16::try_from(dos.year()).ok()?,
        i8::try_from(dos.month()).ok()?,
        i8::try_from(dos.day()).ok()?,
        i8::try_from(dos.hour()).ok()?,
        i8::try_from(dos.minute()).ok()?,
        i8::try_from(dos.second()).ok()?,
        0,
    )
    .ok()?;
    let stamp = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    Some(Mtime {
        secs: stamp.as_second(),
        nanos: 0,
    })
}

/// Info-ZIP's `ux` field: version 1, then a length and a little-endian number each for owner and group.
fn owner<R: Read>(file: &ZipFile<'_, R>) -> Option<(u64, u64)> {
    let data = file.extra_data_fields().find_map(|field| match field {
        ExtraField::Custom(custom) if custom.header_id == 0x7875 => Some(&custom.data),
        _ => None,
    })?;
    let rest = data.strip_prefix(&[1])?;
    let number = |data: &[u8]| -> Option<u64> {
        (data.len() <= 8).then(|| {
            data.iter()
                .rev()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        })
    };
    let (length, rest) = rest.split_first()?;
    let (uid, rest) = rest.split_at_checked(usize::from(*length))?;
    let (length, rest) = rest.split_first()?;
    Some((number(uid)?, number(rest.get(..usize::from(*length))?)?))
}

/// True where the last 64 KiB hold the record that a zip ends with.
fn has_end(file: &mut File, size: u64) -> io::Result<bool> {
    file.seek(SeekFrom::Start(size.saturating_sub(22 + 65_535)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    file.rewind()?;
    Ok(tail
        .windows(4)
        .enumerate()
        .any(|(at, magic)| magic == b"PK\x05\x06" && at + 22 <= tail.len()))
}

/// Finds the name that the central directory has twice; the crate only says that there is one.
fn twice(path: &Path, start: u64) -> ArchiveError {
    let mut seen = std::collections::HashSet::new();
    let mut scan = || -> io::Result<Option<Vec<u8>>> {
        let mut file = BufReader::new(open_regular(path)?);
        file.seek(SeekFrom::Start(start))?;
        loop {
            let mut head = [0; 46];
            file.read_exact(&mut head)?;
            if !head.starts_with(b"PK\x01\x02") {
                return Ok(None);
            }
            let length = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
            let mut name = vec![0; usize::from(length(28))];
            file.read_exact(&mut name)?;
            file.seek_relative(i64::from(length(30)) + i64::from(length(32)))?;
            if !seen.insert(name.clone()) {
                return Ok(Some(name));
            }
        }
    };
    match scan() {
        Ok(Some(name)) => ArchiveError::refused(&name, "is there twice"),
        Ok(None) | Err(_) => ArchiveError::Damaged("it has one entry twice".to_owned()),
    }
}

fn failed(error: ZipError, meter: &Meter, at: &str) -> ArchiveError {
    match error {
        ZipError::Io(error) => ArchiveError::from_reading(error, meter, at),
        ZipError::CompressionMethodNotSupported(method) => ArchiveError::Unsupported(format!(
            "it uses compression method {method} {at}, which is not supported; make it with deflate"
        )),
        ZipError::UnsupportedArchive(what) => ArchiveError::Unsupported(format!("{what}, {at}")),
        other => match meter.fault() {
            Some(fault) => ArchiveError::Read(fault),
            None => ArchiveError::Damaged(format!("it is damaged {at}: {other}")),
        },
    }
}
