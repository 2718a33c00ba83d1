//! The bytes of an archive or a backup: measured as they are read, recognised, and decompressed.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How a file is compressed, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, also of several members one after another.
    Gzip,
    /// Zstandard, also of several frames one after another.
    Zstd,
    /// bzip2, also of several streams one after another.
    Bzip2,
    /// xz, also of several streams one after another.
    Xz,
}

impl Compression {
    /// The name used in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
        }
    }
}

/// A file that is hashed and counted as it is read.
pub(crate) struct Source {
    file: File,
    meter: Meter,
}

/// What a [`Source`] has seen, kept apart so that it outlives the decoders around the source.
#[derive(Clone, Default)]
pub(crate) struct Meter(Arc<Mutex<Measured>>);

#[derive(Default)]
struct Measured {
    hasher: Sha256,
    bytes: u64,
    fault: Option<(io::ErrorKind, String)>,
}

impl Meter {
    fn lock(&self) -> MutexGuard<'_, Measured> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes read so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    /// Of the bytes read so far, in hex.
    pub(crate) fn sha256(&self) -> String {
        hex(&self.lock().hasher.clone().finalize())
    }

    /// The error with which the file itself could not be read. Decoders pass errors on in their own words, and
    /// some call them corruption; here the truth is kept.
    pub(crate) fn fault(&self) -> Option<io::Error> {
        self.lock()
            .fault
            .as_ref()
            .map(|(kind, text)| io::Error::new(*kind, text.clone()))
    }

    pub(crate) fn note_fault(&self, error: &io::Error) {
        if error.kind() != io::ErrorKind::Interrupted {
            self.lock().fault = Some((error.kind(), error.to_string()));
        }
    }

    fn note(&self, data: &[u8]) {
        let mut measured = self.lock();
        measured.hasher.update(data);
        measured.bytes += data.len() as u64;
    }
}

impl Source {
    /// Opens a regular file.
    ///
    /// # Errors
    /// Those of opening it, and `IsADirectory` or `InvalidInput` where it is something else.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, Meter)> {
        let file = open_regular(path)?;
        let meter = Meter::default();
        Ok((
            Self {
                file,
                meter: meter.clone(),
            },
            meter,
        ))
    }
}

/// Opens `path` where it is a regular file; a FIFO or a device could hang or never end.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    let kind = std::fs::metadata(path)?.file_type();
    if kind.is_dir() {
        return Err(io::Error::new(
            io::ErrorKind::IsADirectory,
            "it is a folder, not a file",
        ));
    }
    if !kind.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        ));
    }
    File::open(path)
}

impl Read for Source {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self
            .file
            .read(buf)
            .inspect_err(|error| self.meter.note_fault(error))?;
        self.meter.note(&buf[..read]);
        Ok(read)
    }
}

/// `sha256` of the file at `path`, in hex.
pub(crate) fn digest(path: &Path) -> io::Result<String> {
    let (mut source, meter) = Source::open(path)?;
    io::copy(&mut source, &mut io::sink())?;
    Ok(meter.sha256())
}

/// `xz -9` needs 65 MiB to decompress; a header that asks for much more is damaged or hostile.
const XZ_MEMORY_KIB: u32 = 192 * 1024;

/// Decompresses `source`. The reader reports a missing end as `UnexpectedEof`, and anything after the end that is
/// not another member or frame as an error.
pub(crate) fn decoder(
    source: impl Read + Send + 'static,
    compression: Compression,
) -> io::Result<Box<dyn Read + Send>> {
    let source = BufReader::with_capacity(256 * 1024, source);
    Ok(match compression {
        Compression::None => Box::new(source),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(source)?),
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(source)),
        Compression::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(
            source,
            true,
            XZ_MEMORY_KIB,
        )),
    })
}

/// The compression that `head`, a file's first bytes, tells of.
///
/// # Errors
/// A sentence that names a compression which is known but not read.
pub(crate) fn recognise(head: &[u8]) -> Result<Compression, String> {
    const KNOWN: [(&[u8], &str); 3] = [
        (b"\x04\x22\x4d\x18", "lz4"),
        (b"\x1f\x9d", "compress (.Z)"),
        (b"LZIP", "lzip"),
    ];
    if head.starts_with(b"\x1f\x8b\x08") {
        return Ok(Compression::Gzip);
    }
    // A skippable frame may come first; `pzstd` writes one.
    let skippable = matches!(head, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]);
    if head.starts_with(b"\x28\xb5\x2f\xfd") || skippable {
        return Ok(Compression::Zstd);
    }
    if matches!(head, [b'B', b'Z', b'h', b'1'..=b'9', ..]) {
        return Ok(Compression::Bzip2);
    }
    if head.starts_with(b"\xfd7zXZ\0") {
        return Ok(Compression::Xz);
    }
    match KNOWN.iter().find(|(magic, _)| head.starts_with(magic)) {
        Some((_, name)) => Err(format!(
            "it is compressed with {name}, which is not supported yet"
        )),
        None => Ok(Compression::None),
    }
}

/// True for the first bytes of a zip, an empty one included.
pub(crate) fn is_zip(head: &[u8]) -> bool {
    head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06")
}

/// True for a tar's first block: a header whose checksum is right (old tars have no magic), or one that carries
/// the magic, or the zeros of an empty tar.
pub(crate) fn is_tar(block: &[u8]) -> bool {
    if block.get(257..262) == Some(b"ustar") {
        return true;
    }
    let Ok(block) = <&[u8; 512]>::try_from(block) else {
        return false;
    };
    block.iter().all(|byte| *byte == 0) || super::tar_in::checksum_holds(block)
}

/// Up to `count` bytes from the start of `reader`.
pub(crate) fn head(reader: impl Read, count: u64) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    reader.take(count).read_to_end(&mut head)?;
    Ok(head)
}

/// Carried inside an `io::Error` by [`Counted`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Exceeded(pub(crate) String);

/// Counts decompressed bytes, remembers whether the end was seen, and enforces the limits on them.
pub(crate) struct Counted<R> {
    inner: R,
    meter: Meter,
    bytes: u64,
    ratio: u64,
    /// Bytes that came out.
    pub(crate) count: u64,
    /// True once a read returned nothing.
    pub(crate) ended: bool,
}

impl<R: Read> Counted<R> {
    pub(crate) fn new(inner: R, meter: Meter, bounds: &super::Bounds) -> Self {
        // Headers and padding do not count as content, so they get room of their own.
        let headers = bounds.entries.saturating_mul(4096);
        let bytes = bounds.bytes.saturating_add(headers);
        Self {
            inner,
            meter,
            bytes,
            ratio: bounds.ratio,
            count: 0,
            ended: false,
        }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf)?;
        self.ended |= read == 0 && !buf.is_empty();
        self.count += read as u64;
        if self.count > self.bytes {
            return Err(io::Error::other(Exceeded(format!(
                "it unpacks to more than {} bytes",
                self.bytes
            ))));
        }
        if self.count > super::RATIO_FLOOR && self.count / self.meter.bytes().max(1) > self.ratio {
            return Err(io::Error::other(Exceeded(format!(
                "it unpacks to more than {} times its size, as only an archive made to fill a disk does",
                self.ratio
            ))));
        }
        Ok(read)
    }
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('?'));
            }
            text
        })
}
