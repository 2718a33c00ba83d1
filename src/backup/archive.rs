//! A file archive as a clean tar stream for the engine's endpoint.
//!
//! The engine unpacks with the daemon's rights, so it is never given what somebody handed over: every entry is
//! read, judged and written anew.

use std::io::Write;
use std::path::Path;

use jiff::Timestamp;

use super::error::BackupError;
use super::format::{BackupFacts, Format};
use super::read::newest;
use crate::archive::tar_out::TarOut;
use crate::archive::{self, ArchiveError, Bounds, Container, Entry, Kind, Visit, Walked};

/// What an archive holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveFacts {
    /// Entries of every kind.
    pub entries: u64,
    /// Bytes of all files; a file with two hard links counts once.
    pub bytes: u64,
    /// The newest file or link; folders do not count.
    pub newest: Option<Timestamp>,
}

/// Judges every entry of the archive at `path`, so that a bad one is refused before anything is written.
///
/// Refused, with the entry's name: absolute paths, `..`, links that leave the archive by `..`, entries below links,
/// names that are there twice, devices, FIFOs, attributes that overlay file systems obey.
///
/// # Errors
/// See [`BackupError`]; [`BackupError::Changed`] where the file is not the one that `facts` are of.
pub fn check(path: &Path, facts: &BackupFacts) -> Result<ArchiveFacts, BackupError> {
    walk(path, facts, &mut |_, _| Ok(()))
}

/// Writes the archive at `path` (tar, tar.gz, tar.zst or zip) to `out` as a tar of clean entries that all stand in the
/// folder `below` (relative; empty: at the top).
///
/// With a folder's name, the tar is for what lies above that folder. Only so does the engine give the archive's root
/// entry's owner, mode and time to the folder, because it skips an entry for the very folder that it unpacks into; and
/// only so, unpacking into `/`, does it set the mode of hard links, whose file lost setuid and setgid as it was given to
/// its owner again: it looks for that file from `/`.
///
/// Kept: numeric owners, permission bits with setuid, setgid and sticky, times to the nanosecond, symbolic and hard
/// links, long names, extended attributes. Of a zip: Unix modes where it has them (else 0644 and 0755), Info-ZIP's
/// times and owners (else 0:0).
///
/// # Errors
/// As [`check`]. What was written by then lacks a tar's end, so that no reader takes it for whole.
pub fn safe_tar(
    path: &Path,
    facts: &BackupFacts,
    below: &str,
    out: impl Write,
) -> Result<ArchiveFacts, BackupError> {
    let mut tar = TarOut::new(out);
    let written = walk(path, facts, &mut |entry, content| {
        tar.copy(&moved(entry, below.as_bytes()), content)
    })?;
    tar.finish().map_err(|source| BackupError::Output {
        path: path.to_owned(),
        source,
    })?;
    Ok(written)
}

/// The entry in the folder `below`. Symbolic links stay as they are: their meaning depends on no folder above the root.
fn moved(entry: &Entry, below: &[u8]) -> Entry {
    let join = |path: &[u8]| match (below, path) {
        (below, b"") => below.to_vec(),
        (b"", path) => path.to_vec(),
        (below, path) => [below, b"/", path].concat(),
    };
    Entry {
        path: join(&entry.path),
        kind: match &entry.kind {
            Kind::Hardlink(target) => Kind::Hardlink(join(target)),
            kept @ (Kind::File | Kind::Directory | Kind::Symlink(_)) => kept.clone(),
        },
        ..entry.clone()
    }
}

fn walk(
    path: &Path,
    facts: &BackupFacts,
    visit: &mut Visit<'_>,
) -> Result<ArchiveFacts, BackupError> {
    facts.require(super::Wanted::Archive)?;
    let container = match facts.format {
        Format::Zip => Container::Zip,
        _ => Container::Tar(facts.compression),
    };
    let walked = archive::walk(path, container, &Bounds::NONE, visit);
    match walked {
        Ok(walked) => unchanged(path, facts, walked),
        // Of a file that was whole before, an error may only mean that somebody writes to it.
        Err(error @ (ArchiveError::Truncated(_) | ArchiveError::Damaged(_))) => {
            match archive::source::digest(path) {
                Ok(seen) if seen != facts.sha256 => Err(changed(path, facts, seen)),
                Ok(_) | Err(_) => Err(BackupError::from_archive(path, error)),
            }
        }
        Err(error) => Err(BackupError::from_archive(path, error)),
    }
}

fn unchanged(
    path: &Path,
    facts: &BackupFacts,
    walked: Walked,
) -> Result<ArchiveFacts, BackupError> {
    if walked.sha256 != facts.sha256 {
        return Err(changed(path, facts, walked.sha256));
    }
    Ok(ArchiveFacts {
        entries: walked.entries,
        bytes: walked.bytes,
        newest: newest(walked.newest),
    })
}

fn changed(path: &Path, facts: &BackupFacts, seen: String) -> BackupError {
    BackupError::Changed {
        path: path.to_owned(),
        expected: facts.sha256.clone(),
        seen,
    }
}
