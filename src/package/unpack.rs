//! An archive into a folder of our own. It is read twice: all of it is judged before anything of it is written.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::{OpenError, OpenLimits};
use crate::archive::{self, ArchiveError, Container, Content, Entry, Kind};

/// Unpacks `path` into a new temporary folder. On an error nothing is left behind.
pub(super) fn unpack(path: &Path, limits: &OpenLimits) -> Result<TempDir, OpenError> {
    let judged = Judged::of(path, limits)?;
    let folder = tempfile::Builder::new()
        .prefix("rehearse-package-")
        .tempdir()
        .map_err(|source| OpenError::Unpack {
            path: path.to_owned(),
            source,
        })?;
    judged.unpack(folder.path())?;
    Ok(folder)
}

/// An archive that was read to its end, and of which every entry may be unpacked.
pub(super) struct Judged<'a> {
    path: &'a Path,
    limits: &'a OpenLimits,
    container: Container,
    /// Of the file that was judged.
    sha256: String,
}

impl<'a> Judged<'a> {
    /// Reads the archive without writing anything.
    pub(super) fn of(path: &'a Path, limits: &'a OpenLimits) -> Result<Self, OpenError> {
        let failed = |error| OpenError::from_archive(path, error);
        let Some(container) = archive::recognise(path).map_err(failed)? else {
            return Err(not_a_package(path)?);
        };
        let walked = archive::walk(path, container, &limits.bounds(), &mut |entry, _| {
            judge(entry)
        })
        .map_err(failed)?;
        Ok(Self {
            path,
            limits,
            container,
            sha256: walked.sha256,
        })
    }

    /// Unpacks it below `root`, an empty folder. Nothing keeps the file from being another one by now, so every entry is
    /// judged again before it is written, and what was written counts only where it came of the bytes that were judged.
    ///
    /// That nothing is written outside rests on the walk's invariants: no entry lies below a link, so every folder that
    /// is passed through is one that was made here.
    pub(super) fn unpack(&self, root: &Path) -> Result<(), OpenError> {
        let bounds = self.limits.bounds();
        let written = archive::walk(self.path, self.container, &bounds, &mut |entry, content| {
            judge(entry)?;
            write(root, entry, content)
        });
        let changed = || OpenError::ChangedMeanwhile {
            path: self.path.to_owned(),
        };
        match written {
            Ok(walked) if walked.sha256 == self.sha256 => Ok(()),
            Ok(_) => Err(changed()),
            Err(error @ (ArchiveError::Read(_) | ArchiveError::Write(_))) => {
                Err(OpenError::from_archive(self.path, error))
            }
            // All of it was in order a moment ago, so most likely somebody writes to it.
            Err(
                error @ (ArchiveError::Refused { .. }
                | ArchiveError::Truncated(_)
                | ArchiveError::Damaged(_)
                | ArchiveError::Unsupported(_)
                | ArchiveError::TooBig(_)),
            ) => match archive::source::digest(self.path) {
                Ok(seen) if seen != self.sha256 => Err(changed()),
                Ok(_) | Err(_) => Err(OpenError::from_archive(self.path, error)),
            },
        }
    }
}

fn not_a_package(path: &Path) -> Result<OpenError, OpenError> {
    let unreadable = |source| OpenError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let file = archive::source::open_regular(path).map_err(unreadable)?;
    let size = file.metadata().map_err(unreadable)?.len();
    let head = archive::source::head(file, 2).map_err(unreadable)?;
    let seen = match (size, head.as_slice()) {
        (0, _) => {
            return Ok(OpenError::Empty {
                path: path.to_owned(),
            });
        }
        (_, [0x1f, 0x8b]) => "a compressed file that is no tar".to_owned(),
        _ => format!("a file of {size} bytes that is none of them"),
    };
    Ok(OpenError::NotAPackage {
        path: path.to_owned(),
        seen,
    })
}

/// Refuses what the walk lets pass and a package may not hold.
fn judge(entry: &Entry) -> Result<(), ArchiveError> {
    for name in [&entry.path[..], target(&entry.kind)] {
        if std::str::from_utf8(name).is_err() {
            return Err(ArchiveError::refused(
                &entry.path,
                "has a name or a target that is not UTF-8",
            ));
        }
    }
    Ok(())
}

fn write(root: &Path, entry: &Entry, content: &mut Content<'_>) -> Result<(), ArchiveError> {
    let path = below(root, &entry.path);
    let make_parents = || match path.parent() {
        Some(parent) => DirBuilder::new().recursive(true).mode(0o755).create(parent),
        None => Ok(()),
    };
    let made = match &entry.kind {
        Kind::Directory => directory(&path, entry.mode),
        Kind::File => {
            make_parents().map_err(ArchiveError::Write)?;
            return file(&path, entry, content);
        }
        Kind::Symlink(target) => {
            make_parents().and_then(|()| symlink(OsStr::from_bytes(target), &path))
        }
        Kind::Hardlink(target) => {
            make_parents().and_then(|()| fs::hard_link(below(root, target), &path))
        }
    };
    made.map_err(ArchiveError::Write)
}

fn target(kind: &Kind) -> &[u8] {
    match kind {
        Kind::Symlink(target) | Kind::Hardlink(target) => target,
        Kind::File | Kind::Directory => b"",
    }
}

fn below(root: &Path, path: &[u8]) -> PathBuf {
    if path.is_empty() {
        root.to_owned()
    } else {
        root.join(OsStr::from_bytes(path))
    }
}

/// The owner's bits are set, so that we can read and remove what we unpacked.
fn directory(path: &Path, mode: Option<u32>) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(path)?;
    fs::set_permissions(
        path,
        Permissions::from_mode(mode.unwrap_or(0o755) & 0o777 | 0o700),
    )
}

fn file(path: &Path, entry: &Entry, content: &mut Content<'_>) -> Result<(), ArchiveError> {
    // `create_new` follows no link and opens nothing that is there already.
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(ArchiveError::Write)?;
    content.copy_to(&mut file)?;
    let finish = || -> io::Result<()> {
        file.set_permissions(Permissions::from_mode(
            entry.mode.unwrap_or(0o644) & 0o777 | 0o600,
        ))?;
        let age = entry.mtime.filter(|mtime| mtime.secs >= 0);
        let modified = age.and_then(|mtime| {
            SystemTime::UNIX_EPOCH
                .checked_add(Duration::new(mtime.secs.unsigned_abs(), mtime.nanos))
        });
        // A time that this file system cannot hold is not worth an error: it has no effect on a deploy.
        let _ = modified.map(|time| file.set_modified(time));
        Ok(())
    };
    finish().map_err(ArchiveError::Write)
}
