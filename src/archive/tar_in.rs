//! A tar, read strictly.
//!
//! The tar crate decodes the header fields. The walk over them is our own, because the crate takes the end of the
//! file for the end of the archive, reads long names and PAX headers without a limit, and skips what it does not
//! know; each of these would let a broken or a hostile archive pass.

use std::io::{self, Read};

use tar::{EntryType, Header};

use super::names::{self, Seen, Tree};
use super::pax::{Fault, Pax};
use super::source::{Counted, Meter};
use super::{ArchiveError, Bounds, Content, Entry, Kind, Mtime, Visit, Walked};

const BLOCK: u64 = 512;
/// Long names and PAX headers; a real one has some hundred bytes, with attributes some thousand.
const MAX_EXTENSION: u64 = 1024 * 1024;

/// What extension headers said about the next entry.
#[derive(Default)]
struct Pending {
    pax: Option<Pax>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl Pending {
    fn any(&self) -> bool {
        self.pax.is_some() || self.long_name.is_some() || self.long_link.is_some()
    }
}

/// One header's type, as far as it matters here.
enum Member {
    LongName,
    LongLink,
    Pax,
    GlobalPax,
    /// A volume's label says nothing about files.
    Label,
    Entry(EntryType),
}

struct Reader<'a, R> {
    inner: Counted<R>,
    meter: &'a Meter,
    /// The last entry's name, to say where something went wrong.
    last: Option<String>,
}

/// As [`super::walk`], for decompressed bytes.
pub(super) fn walk(
    reader: impl Read,
    meter: &Meter,
    bounds: &Bounds,
    visit: &mut Visit<'_>,
) -> Result<Walked, ArchiveError> {
    let mut reader = Reader {
        inner: Counted::new(reader, meter.clone(), bounds),
        meter,
        last: None,
    };
    let mut tree = Tree::new(bounds.links);
    let mut walked = Walked::default();
    let mut global = Pax::default();
    let mut pending = Pending::default();
    while let Some(header) = reader.header()? {
        let member = member(&header);
        let header_size = size_of(&header)?;
        match member {
            Member::LongName => once(&mut pending.long_name, reader.extension(header_size)?)?,
            Member::LongLink => once(&mut pending.long_link, reader.extension(header_size)?)?,
            Member::Pax => {
                let data = reader.extension(header_size)?;
                let pax = Pax::parse(&data, false).map_err(|fault| reader.fault(fault))?;
                once(&mut pending.pax, pax)?;
            }
            Member::GlobalPax => {
                let data = reader.extension(header_size)?;
                let pax = Pax::parse(&data, true).map_err(|fault| reader.fault(fault))?;
                global = pax.or(&global);
            }
            Member::Label => {
                let size = header_size;
                reader.skip(size)?;
            }
            Member::Entry(kind)
                if bounds.links == names::Links::Anywhere
                    && (kind.is_character_special()
                        || kind.is_block_special()
                        || kind.is_fifo()) =>
            {
                pending = Pending::default();
                walked.entries += 1;
                reader.skip(header_size.next_multiple_of(BLOCK))?;
            }
            Member::Entry(kind) => {
                let said = std::mem::take(&mut pending);
                let mut entry = entry(&header, kind, header_size, said, &global, &tree)?;
                tree.add(&mut entry)
                    .map_err(|reason| ArchiveError::refused(&entry.path, reason))?;
                walked.count(&entry);
                within(bounds, &walked, &tree, &entry)?;
                reader.last = Some(names::shown(&entry.path));
                reader.content(&entry, visit)?;
            }
        }
    }
    if pending.any() {
        return Err(ArchiveError::Damaged(
            "it ends with a header for an entry that does not follow".to_owned(),
        ));
    }
    reader.end()?;
    walked.unpacked = reader.inner.count;
    walked.sha256 = meter.sha256();
    walked.size = meter.bytes();
    Ok(walked)
}

/// Refuses an entry by its announced size, before it is visited.
pub(super) fn within(
    bounds: &Bounds,
    walked: &Walked,
    tree: &Tree,
    entry: &Entry,
) -> Result<(), ArchiveError> {
    let at = names::shown(&entry.path);
    if walked.bytes > bounds.bytes {
        return Err(ArchiveError::TooBig(format!(
            "it unpacks to more than {} bytes, at entry `{at}`",
            bounds.bytes
        )));
    }
    if tree.len() > bounds.entries {
        return Err(ArchiveError::TooBig(format!(
            "it has more than {} entries, at entry `{at}`",
            bounds.entries
        )));
    }
    Ok(())
}

/// True where a block is a header whose checksum is right.
pub(super) fn checksum_holds(block: &[u8; 512]) -> bool {
    let mut header = Header::new_old();
    header.as_mut_bytes().copy_from_slice(block);
    let sum: u32 = block[..148]
        .iter()
        .chain(&block[156..])
        .map(|byte| u32::from(*byte))
        .sum();
    header
        .cksum()
        .is_ok_and(|expected| expected == sum + 8 * u32::from(b' '))
}

fn member(header: &Header) -> Member {
    let kind = header.entry_type();
    match kind.as_byte() {
        b'L' => Member::LongName,
        b'K' => Member::LongLink,
        b'x' => Member::Pax,
        b'g' => Member::GlobalPax,
        b'V' => Member::Label,
        _ => Member::Entry(kind),
    }
}

fn size_of(header: &Header) -> Result<u64, ArchiveError> {
    if header
        .as_old()
        .size
        .iter()
        .all(|byte| matches!(byte, 0 | b' '))
    {
        return Ok(0);
    }
    header.entry_size().map_err(|error| {
        ArchiveError::Damaged(format!("it has a header with an unreadable size: {error}"))
    })
}

fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), ArchiveError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(ArchiveError::Damaged(
            "it has two headers of one kind for one entry".to_owned(),
        )),
    }
}

/// Makes an entry of a header and of what was said before it.
fn entry(
    header: &Header,
    kind: EntryType,
    header_size: u64,
    pending: Pending,
    global: &Pax,
    tree: &Tree,
) -> Result<Entry, ArchiveError> {
    let pax = pending.pax.unwrap_or_default().or(global);
    let differ = |pax: &Option<Vec<u8>>, gnu: &Option<Vec<u8>>| matches!((pax, gnu), (Some(pax), Some(gnu)) if pax != gnu);
    if differ(&pax.path, &pending.long_name) || differ(&pax.linkpath, &pending.long_link) {
        let shown = pax.path.or(pending.long_name).unwrap_or_default();
        let reason =
            "has two different names, a PAX one and a GNU one: readers disagree which counts";
        return Err(ArchiveError::refused(&shown, reason));
    }
    let raw_path = pax
        .path
        .or(pending.long_name)
        .unwrap_or_else(|| header.path_bytes().into_owned());
    let path =
        names::clean(&raw_path).map_err(|reason| ArchiveError::refused(&raw_path, reason))?;
    let raw_link = pax
        .linkpath
        .or(pending.long_link)
        .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned))
        .unwrap_or_default();
    let size = pax.size.unwrap_or(header_size);
    let refused = |reason: &str| Err(ArchiveError::refused(&path, reason));
    let kind = match kind {
        // Old tars know folders only by the slash.
        EntryType::Regular if raw_path.ends_with(b"/") => Kind::Directory,
        EntryType::Regular | EntryType::Continuous => Kind::File,
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => Kind::Symlink(raw_link),
        EntryType::Link => {
            let target = names::clean(&raw_link).map_err(|reason| {
                ArchiveError::refused(&path, format!("is a hard link whose target {reason}"))
            })?;
            match tree.at(&target) {
                // Two names of one link: the same as two links with one target.
                Some(Seen::Symlink(to)) => Kind::Symlink(to.clone()),
                Some(Seen::Implied | Seen::Directory | Seen::File(_)) | None => {
                    Kind::Hardlink(target)
                }
            }
        }
        EntryType::Char => return refused("is a character device"),
        EntryType::Block => return refused("is a block device"),
        EntryType::Fifo => return refused("is a FIFO"),
        EntryType::GNUSparse => {
            return Err(ArchiveError::Unsupported(format!(
                "entry `{}` is stored as a sparse file, which is not supported yet; make the archive without `--sparse`",
                names::shown(&path)
            )));
        }
        other => {
            return refused(&format!(
                "is of the unknown kind {:?}",
                char::from(other.as_byte())
            ));
        }
    };
    if size > 0 && kind != Kind::File {
        return refused("has content, which only a file can have");
    }
    if let Some((name, _)) = pax.xattrs.iter().find(|(name, _)| redirects(name)) {
        return refused(&format!(
            "carries the attribute `{name}`, which would change what an overlay shows"
        ));
    }
    let mtime = Mtime {
        secs: header.mtime().unwrap_or(0).cast_signed(),
        nanos: 0,
    };
    Ok(Entry {
        kind,
        mode: Some(header.mode().unwrap_or(0) & 0o7777),
        uid: pax.uid.unwrap_or_else(|| header.uid().unwrap_or(0)),
        gid: pax.gid.unwrap_or_else(|| header.gid().unwrap_or(0)),
        mtime: Some(pax.mtime.unwrap_or(mtime)),
        size,
        xattrs: pax.xattrs,
        path,
    })
}

/// Overlay file systems read these as instructions: what is restored becomes the lower layer of one.
fn redirects(xattr: &str) -> bool {
    xattr.starts_with("trusted.overlay.") || xattr.starts_with("user.overlay.")
}

impl<R: Read> Reader<'_, R> {
    fn at(&self) -> String {
        match &self.last {
            Some(name) => format!("after entry `{name}`"),
            None => "before its first entry".to_owned(),
        }
    }

    fn failed(&self, error: io::Error) -> ArchiveError {
        ArchiveError::from_reading(error, self.meter, &self.at())
    }

    fn fault(&self, fault: Fault) -> ArchiveError {
        match fault {
            Fault::Damaged(what) => ArchiveError::Damaged(format!("{what}, {}", self.at())),
            Fault::Ambiguous(what) => ArchiveError::Refused {
                entry: "PAX header".to_owned(),
                reason: format!("{}: {what}", self.at()),
            },
            Fault::Unsupported(what) => ArchiveError::Unsupported(what.to_owned()),
        }
    }

    /// The next header; `None` at the first zero block.
    fn header(&mut self) -> Result<Option<Header>, ArchiveError> {
        let Some(block) = self.block()? else {
            let what = "but the two zero blocks that end a tar are missing";
            return Err(ArchiveError::Truncated(format!(
                "it ends {}, {what}",
                self.at()
            )));
        };
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        if !checksum_holds(&block) {
            return Err(ArchiveError::Damaged(format!(
                "the header {} does not match its checksum",
                self.at()
            )));
        }
        let mut header = Header::new_old();
        header.as_mut_bytes().copy_from_slice(&block);
        Ok(Some(header))
    }

    /// A block; `None` where the archive ends right before it.
    fn block(&mut self) -> Result<Option<[u8; 512]>, ArchiveError> {
        let mut block = [0; 512];
        let mut filled = 0;
        while filled < block.len() {
            match self.inner.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(self.failed(io::ErrorKind::UnexpectedEof.into())),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        Ok(Some(block))
    }

    /// The content of an extension header, without the NUL that GNU tar ends names with.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>, ArchiveError> {
        if size > MAX_EXTENSION {
            return Err(ArchiveError::Damaged(format!(
                "a header {} claims {size} bytes for a name",
                self.at()
            )));
        }
        let mut data = source_exact(&mut self.inner, size).map_err(|error| self.failed(error))?;
        self.skip(padding(size))?;
        if data.last() == Some(&0) {
            data.pop();
        }
        Ok(data)
    }

    fn skip(&mut self, size: u64) -> Result<(), ArchiveError> {
        let skipped = io::copy(&mut (&mut self.inner).take(size), &mut io::sink())
            .map_err(|error| self.failed(error))?;
        if skipped < size {
            return Err(self.failed(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(())
    }

    fn content(&mut self, entry: &Entry, visit: &mut Visit<'_>) -> Result<(), ArchiveError> {
        let mut exact = Exact {
            inner: &mut self.inner,
            left: entry.size,
        };
        let mut content = Content::new(&mut exact, self.meter, &entry.path);
        visit(entry, &mut content)?;
        content.copy_to(&mut io::sink())?;
        self.skip(padding(entry.size))
    }

    /// Judges what comes after the first zero block.
    fn end(&mut self) -> Result<(), ArchiveError> {
        match self.block()? {
            Some(block) if block.iter().all(|byte| *byte == 0) => {}
            Some(_) => return Err(self.trailing()),
            None => {
                let what = "but only one of the two zero blocks that end a tar is there";
                return Err(ArchiveError::Truncated(format!(
                    "it ends {}, {what}",
                    self.at()
                )));
            }
        }
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match self.inner.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) if buffer[..read].iter().all(|byte| *byte == 0) => {}
                Ok(_) => return Err(self.trailing()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    /// Readers disagree on whether to go on after the end, so the archive would mean different things to them.
    fn trailing(&self) -> ArchiveError {
        ArchiveError::Damaged(format!("something follows its end, {}", self.at()))
    }
}

fn padding(size: u64) -> u64 {
    size.next_multiple_of(BLOCK) - size
}

fn source_exact(reader: &mut impl Read, size: u64) -> io::Result<Vec<u8>> {
    let mut data = Vec::new();
    reader.take(size).read_to_end(&mut data)?;
    if (data.len() as u64) < size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(data)
}

/// Exactly `left` bytes: fewer are an error, more are not touched.
struct Exact<'a, R> {
    inner: &'a mut R,
    left: u64,
}

impl<R: Read> Read for Exact<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let wanted = buf
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        match self.inner.read(&mut buf[..wanted])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.left -= read as u64;
                Ok(read)
            }
        }
    }
}
