//! A tar made of clean entries, for the engine's endpoint: ustar headers, and PAX where they do not suffice.

use std::io::{self, Write};

use tar::{Builder, EntryType, Header};

use super::{ArchiveError, Content, Entry, Kind, Mtime};

/// Writes entries, and the end of the archive on [`TarOut::finish`] only: the crate's builder also ends it when it
/// is dropped, and the engine must not take for whole what an error ended.
pub(crate) struct TarOut<W: Write> {
    out: W,
}

impl<W: Write> TarOut<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out }
    }

    /// Writes the header of `entry`, after which exactly `entry.size` bytes must follow through
    /// [`TarOut::content`].
    pub(crate) fn header(&mut self, entry: &Entry) -> io::Result<()> {
        let mut header = Header::new_ustar();
        let mut path = if entry.path.is_empty() {
            b".".to_vec()
        } else {
            entry.path.clone()
        };
        let (kind, target, default_mode) = match &entry.kind {
            Kind::File => (EntryType::Regular, None, 0o644),
            Kind::Directory => (EntryType::Directory, None, 0o755),
            Kind::Symlink(target) => (EntryType::Symlink, Some(target), 0o777),
            Kind::Hardlink(target) => (EntryType::Link, Some(target), 0o644),
        };
        if entry.kind == Kind::Directory {
            path.push(b'/');
        }
        header.set_entry_type(kind);
        header.set_mode(entry.mode.unwrap_or(default_mode));
        header.set_uid(entry.uid);
        header.set_gid(entry.gid);
        header.set_size(entry.size);
        let mtime = entry.mtime.unwrap_or(Mtime { secs: 0, nanos: 0 });
        header.set_mtime(u64::try_from(mtime.secs).unwrap_or(0));

        let mut records: Vec<(String, Vec<u8>)> = Vec::new();
        if !put(&mut header.as_old_mut().name, &path) {
            records.push(("path".to_owned(), path));
        }
        if let Some(target) = target
            && !put(&mut header.as_old_mut().linkname, target)
        {
            records.push(("linkpath".to_owned(), target.clone()));
        }
        if mtime.secs < 0 || mtime.nanos > 0 {
            records.push(("mtime".to_owned(), decimal(mtime).into_bytes()));
        }
        records.extend(
            entry
                .xattrs
                .iter()
                .map(|(name, value)| (format!("SCHILY.xattr.{name}"), value.clone())),
        );
        if !records.is_empty() {
            let mut extension = Builder::new(Vec::new());
            extension.append_pax_extensions(
                records
                    .iter()
                    .map(|(key, value)| (key.as_str(), value.as_slice())),
            )?;
            self.out.write_all(extension.get_ref())?;
        }
        header.set_cksum();
        self.out.write_all(header.as_bytes())
    }

    /// Writes bytes of the current entry's content.
    pub(crate) fn content(&mut self) -> &mut W {
        &mut self.out
    }

    /// Fills the last block of a content of `size` bytes.
    pub(crate) fn pad(&mut self, size: u64) -> io::Result<()> {
        let missing = usize::try_from(size.next_multiple_of(512) - size).unwrap_or(0);
        self.out.write_all(&[0; 512][..missing])
    }

    /// Writes an entry and its content.
    pub(crate) fn copy(
        &mut self,
        entry: &Entry,
        content: &mut Content<'_>,
    ) -> Result<(), ArchiveError> {
        self.header(entry).map_err(ArchiveError::Write)?;
        content.copy_to(self.content())?;
        self.pad(entry.size).map_err(ArchiveError::Write)
    }

    /// Writes an entry whose content is at hand.
    pub(crate) fn bytes(&mut self, entry: &Entry, content: &[u8]) -> io::Result<()> {
        self.header(entry)?;
        self.content().write_all(content)?;
        self.pad(entry.size)
    }

    /// Writes the two zero blocks that make it a complete tar.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 1024])?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// False where `value` does not fit; then its beginning is put, for readers that know no PAX.
fn put(field: &mut [u8], value: &[u8]) -> bool {
    let fits = value.len() <= field.len();
    let length = value.len().min(field.len());
    field.fill(0);
    field[..length].copy_from_slice(&value[..length]);
    fits
}

/// Seconds with their fraction, as PAX writes negative times too: `-1.25` is one and a quarter before 1970.
fn decimal(time: Mtime) -> String {
    if time.secs < 0 && time.nanos > 0 {
        let whole = -(i128::from(time.secs) + 1);
        return format!("-{whole}.{:09}", 1_000_000_000 - time.nanos);
    }
    format!("{}.{:09}", time.secs, time.nanos)
}
