//! Streams of `mariadb-backup --stream=xbstream`: chunks of files, each with a checksum, and a last chunk for each file.
//!
//! Source of the format: `extra/mariabackup/xbstream.h` and `xbstream_read.cc` of MariaDB.

use std::collections::BTreeMap;

use super::error::BackupError;
use super::format::Format;
use super::mariadb;
use super::read::Judged;
use super::stream::Stream;

const MAGIC: &[u8] = b"XBSTCK01";
const MAX_PATH: u32 = 4096;
/// A reader may skip chunks of unknown kinds that have this flag.
const IGNORABLE: u8 = 1;

/// A file of the stream.
#[derive(Default)]
struct File {
    length: u64,
    ended: bool,
    /// Its content, where it is one that says something of the backup.
    text: Vec<u8>,
}

/// Reads a stream to its end.
pub(super) fn judge(stream: &mut Stream) -> Result<Judged, BackupError> {
    let mut files: BTreeMap<String, File> = BTreeMap::new();
    let mut at = "before its first file".to_owned();
    while let Some((kind, flags)) = start(stream, &at)? {
        let name = name(stream, &at)?;
        let inside = format!("inside file `{name}`");
        let file = files.entry(name.clone()).or_default();
        if file.ended {
            return Err(stream.damaged(format!("file `{name}` goes on after its end")));
        }
        match kind {
            b'P' => payload(stream, file, &name, &inside)?,
            b'E' => file.ended = true,
            other => {
                let kind = char::from(other);
                let ignorable = if flags & IGNORABLE == 0 {
                    ""
                } else {
                    ", which may be ignored"
                };
                return Err(BackupError::unsupported(
                    &stream.path,
                    format!(
                        "it has a chunk of the kind {kind:?} for file `{name}`{ignorable}: only streams of `mariadb-backup` are read"
                    ),
                ));
            }
        }
        at = format!("after a chunk of file `{name}`");
    }
    if let Some((name, _)) = files.iter().find(|(_, file)| !file.ended) {
        return Err(stream.truncated(format!("the last chunk of file `{name}` is missing")));
    }
    let text = |names: &[&str]| {
        let file = names.iter().find_map(|name| files.get(*name));
        Ok(file.map(|file| String::from_utf8_lossy(&file.text).into_owned()))
    };
    let sizes = files
        .iter()
        .map(|(name, file)| (name.as_str(), file.length));
    let seen = mariadb::judge(&stream.path, sizes, text)?;
    Ok(Judged {
        dump: Some(seen.dump),
        ..Judged::new(
            Format::MariadbStream,
            format!(
                "{} files with their ends and checksums, {}",
                files.len(),
                seen.complete
            ),
        )
    })
}

/// The kind and the flags of the next chunk; `None` at the end.
fn start(stream: &mut Stream, at: &str) -> Result<Option<(u8, u8)>, BackupError> {
    let mut start = [0; 10];
    match stream.fill(&mut start, at)? {
        0 => Ok(None),
        10 if start.starts_with(MAGIC) => Ok(Some((start[9], start[8]))),
        10 => Err(stream.damaged(format!("expected a chunk {at}, found something else"))),
        _ => Err(stream.truncated(format!("it ends {at}"))),
    }
}

fn name(stream: &mut Stream, at: &str) -> Result<String, BackupError> {
    let length = u32::from_le_bytes(bytes(stream, at)?);
    if length == 0 || length > MAX_PATH {
        return Err(stream.damaged(format!("it has a name of {length} bytes {at}")));
    }
    let mut name = vec![0; length as usize];
    stream.exact(&mut name, at)?;
    let clean = crate::archive::names::clean(&name).map_err(|reason| BackupError::Refused {
        path: stream.path.clone(),
        entry: crate::archive::names::shown(&name),
        reason: reason.to_owned(),
    })?;
    Ok(crate::archive::names::shown(&clean))
}

fn payload(stream: &mut Stream, file: &mut File, name: &str, at: &str) -> Result<(), BackupError> {
    let length = u64::from_le_bytes(bytes(stream, at)?);
    let offset = u64::from_le_bytes(bytes(stream, at)?);
    let expected = u32::from_le_bytes(bytes(stream, at)?);
    if offset != file.length {
        return Err(stream.damaged(format!(
            "file `{name}` goes on at byte {offset}, expected {}",
            file.length
        )));
    }
    let keep = mariadb::SAYS.contains(&name);
    let mut crc = flate2::Crc::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut left = length;
    while left > 0 {
        let step = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        stream.exact(&mut buffer[..step], at)?;
        crc.update(&buffer[..step]);
        if keep && file.text.len() < mariadb::MAX_TEXT {
            file.text.extend_from_slice(&buffer[..step]);
        }
        left -= step as u64;
    }
    if crc.sum() != expected {
        return Err(stream.damaged(format!(
            "the checksum of a chunk of file `{name}` does not hold"
        )));
    }
    file.length = file.length.saturating_add(length);
    Ok(())
}

fn bytes<const N: usize>(stream: &mut Stream, at: &str) -> Result<[u8; N], BackupError> {
    let mut bytes = [0; N];
    stream.exact(&mut bytes, at)?;
    Ok(bytes)
}
