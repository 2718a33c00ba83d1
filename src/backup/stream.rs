//! One file that is read once: digested as it is, and handed out without its compression.

use std::io::{self, Chain, Cursor, Read};
use std::path::{Path, PathBuf};

use super::error::BackupError;
use super::format::Compression;
use super::recognise::HEAD;
use crate::archive::ArchiveError;
use crate::archive::source::{self, Meter, Source};

/// The bytes of a file after decompression, from the first one.
pub(super) struct Stream {
    pub(super) path: PathBuf,
    pub(super) meter: Meter,
    pub(super) compression: Compression,
    /// Its first bytes, which will be read again.
    pub(super) head: Vec<u8>,
    /// Bytes read so far.
    pub(super) count: u64,
    inner: Chain<Cursor<Vec<u8>>, Box<dyn Read + Send>>,
}

impl Stream {
    /// Opens a file whose compression is told by its content. It has bytes, before and after decompression.
    pub(super) fn open(path: &Path) -> Result<Self, BackupError> {
        let unreadable = |source| BackupError::unreadable(path, source);
        let file = source::open_regular(path).map_err(unreadable)?;
        let raw = source::head(file, 512).map_err(unreadable)?;
        if raw.is_empty() {
            return Err(BackupError::empty(path, "a file of 0 bytes"));
        }
        let compression =
            source::recognise(&raw).map_err(|seen| BackupError::unsupported(path, seen))?;
        let stream = Self::decompress(path, compression)?;
        if stream.head.is_empty() {
            let seen = format!("a {} file that holds nothing", compression.name());
            return Err(BackupError::empty(path, seen));
        }
        Ok(stream)
    }

    /// Opens a file as it is, be it empty.
    pub(super) fn raw(path: &Path) -> Result<Self, BackupError> {
        Self::decompress(path, Compression::None)
    }

    fn decompress(path: &Path, compression: Compression) -> Result<Self, BackupError> {
        let unreadable = |source| BackupError::unreadable(path, source);
        let (source, meter) = Source::open(path).map_err(unreadable)?;
        let mut decoder = source::decoder(source, compression).map_err(unreadable)?;
        let mut head = Vec::new();
        (&mut decoder)
            .take(HEAD as u64)
            .read_to_end(&mut head)
            .map_err(|error| {
                let error = ArchiveError::from_reading(error, &meter, "in its first bytes");
                BackupError::from_archive(path, error)
            })?;
        Ok(Self {
            path: path.to_owned(),
            meter,
            compression,
            inner: Cursor::new(head.clone()).chain(decoder),
            head,
            count: 0,
        })
    }

    /// An error that came up through the decoder, `at` some part: the machine's fault or the backup's.
    pub(super) fn failed(&self, error: io::Error, at: &str) -> BackupError {
        BackupError::from_archive(
            &self.path,
            ArchiveError::from_reading(error, &self.meter, at),
        )
    }

    pub(super) fn truncated(&self, seen: impl Into<String>) -> BackupError {
        BackupError::truncated(&self.path, seen)
    }

    pub(super) fn damaged(&self, seen: impl Into<String>) -> BackupError {
        BackupError::damaged(&self.path, seen)
    }

    /// Fills `buffer`; its end is too early `at` that part.
    pub(super) fn exact(&mut self, buffer: &mut [u8], at: &str) -> Result<(), BackupError> {
        match self.fill(buffer, at)? {
            filled if filled == buffer.len() => Ok(()),
            _ => Err(self.truncated(format!("it ends {at}"))),
        }
    }

    /// Fills as much of `buffer` as there is.
    pub(super) fn fill(&mut self, buffer: &mut [u8], at: &str) -> Result<usize, BackupError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error, at)),
            }
        }
        Ok(filled)
    }

    /// Reads to the end, showing each part to `see`.
    pub(super) fn each(&mut self, at: &str, mut see: impl FnMut(&[u8])) -> Result<(), BackupError> {
        let mut buffer = vec![0; 128 * 1024];
        loop {
            match self.fill(&mut buffer, at)? {
                0 => return Ok(()),
                filled => see(&buffer[..filled]),
            }
        }
    }

    /// Reads to the end and returns the last `keep` bytes.
    pub(super) fn tail(&mut self, keep: usize, at: &str) -> Result<Vec<u8>, BackupError> {
        let mut tail = Tail::new(keep);
        self.each(at, |part| tail.push(part))?;
        Ok(tail.kept)
    }

    /// Reads to the end, so that the digest is that of all.
    pub(super) fn rest(&mut self, at: &str) -> Result<(), BackupError> {
        self.each(at, |_| ())
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf)?;
        self.count += read as u64;
        Ok(read)
    }
}

/// The last bytes of what was pushed.
pub(super) struct Tail {
    pub(super) kept: Vec<u8>,
    keep: usize,
}

impl Tail {
    pub(super) fn new(keep: usize) -> Self {
        Self {
            kept: Vec::new(),
            keep,
        }
    }

    pub(super) fn push(&mut self, part: &[u8]) {
        let new = &part[part.len().saturating_sub(self.keep)..];
        let old = self.kept.len().min(self.keep - new.len());
        self.kept.drain(..self.kept.len() - old);
        self.kept.extend_from_slice(new);
    }
}

impl io::Write for Tail {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.push(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
