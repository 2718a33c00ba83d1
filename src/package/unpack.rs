//! An archive into a folder of our own.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::{OpenError, OpenLimits};
use crate::archive::{self, ArchiveError, Content, Entry, Kind};

/// Unpacks `path` into a new temporary folder. On an error nothing is left behind.
///
/// That nothing is written outside rests on the walk's invariants: no entry lies below a link, so every folder that
/// is passed through is one that was made here.
pub(super) fn unpack(path: &Path, limits: &OpenLimits) -> Result<TempDir, OpenError> {
    let failed = |error| OpenError::from_archive(path, error);
    let Some(container) = archive::recognise(path).map_err(failed)? else {
        return Err(not_a_package(path)?);
    };
    let unpack_failed = |source| OpenError::Unpack {
        path: path.to_owned(),
        source,
    };
    let folder = tempfile::Builder::new()
        .prefix("rehearse-package-")
        .tempdir()
        .map_err(unpack_failed)?;
    let root = folder.path();
    archive::walk(path, container, &limits.bounds(), &mut |entry, content| {
        write(root, entry, content)
    })
    .map_err(failed)?;
    Ok(folder)
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

fn write(root: &Path, entry: &Entry, content: &mut Content<'_>) -> Result<(), ArchiveError> {
    for name in [&entry.path[..], target(&entry.kind)] {
        if std::str::from_utf8(name).is_err() {
            return Err(ArchiveError::refused(
                &entry.path,
                "has a name or a target that is not UTF-8",
            ));
        }
    }
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
