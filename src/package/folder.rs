//! A folder as a package: every file named, hashed and judged.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{FileEntry, OpenError, OpenLimits};
use crate::archive::names;
use crate::archive::source::{Source, hex};

/// A folder's files.
pub(super) struct Scanned {
    /// The package's root, at or below the folder that was scanned.
    pub(super) root: PathBuf,
    /// Sorted by the bytes of the path.
    pub(super) listing: Vec<FileEntry>,
}

struct Scan<'a> {
    package: &'a Path,
    top: &'a Path,
    limits: &'a OpenLimits,
    entries: u64,
    bytes: u64,
    listing: Vec<FileEntry>,
}

/// Lists what lies below `top`. Errors name `package`, which is the archive where `top` is where it was unpacked.
pub(super) fn scan(package: &Path, top: &Path, limits: &OpenLimits) -> Result<Scanned, OpenError> {
    let mut scan = Scan {
        package,
        top,
        limits,
        entries: 0,
        bytes: 0,
        listing: Vec::new(),
    };
    // Not recursion: a folder's depth is not ours to trust.
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        scan.folder(&folder, &mut folders)?;
    }
    let mut listing = scan.listing;
    if listing.is_empty() {
        return Err(OpenError::Empty {
            path: package.to_owned(),
        });
    }
    let mut root = top.to_owned();
    while let Some(wrapper) = wrapper(&listing) {
        root.push(&wrapper);
        for file in &mut listing {
            file.path.drain(..=wrapper.len());
        }
    }
    listing.sort_by(|a, b| a.path.cmp(&b.path));
    for file in &listing {
        if let Some(target) = &file.link {
            let path = file.path.as_bytes();
            names::judge_link(path, target.as_bytes(), names::Links::Inside).map_err(|reason| {
                OpenError::Refused {
                    path: package.to_owned(),
                    entry: names::shown(file.path.as_bytes()),
                    reason,
                }
            })?;
        }
    }
    Ok(Scanned { root, listing })
}

/// The single top folder that holds everything.
fn wrapper(listing: &[FileEntry]) -> Option<String> {
    let (first, _) = listing.first()?.path.split_once('/')?;
    let inside = |file: &FileEntry| {
        file.path
            .strip_prefix(first)
            .is_some_and(|rest| rest.starts_with('/'))
    };
    listing.iter().all(inside).then(|| first.to_owned())
}

impl Scan<'_> {
    fn refused(&self, entry: &[u8], reason: &str) -> OpenError {
        OpenError::Refused {
            path: self.package.to_owned(),
            entry: names::shown(entry),
            reason: reason.to_owned(),
        }
    }

    fn unreadable(&self, file: &str) -> impl Fn(io::Error) -> OpenError {
        let path = if file.is_empty() {
            self.top.to_owned()
        } else {
            self.top.join(file)
        };
        move |source| OpenError::Unreadable {
            path: path.clone(),
            source,
        }
    }

    fn folder(&mut self, folder: &str, folders: &mut Vec<String>) -> Result<(), OpenError> {
        for found in fs::read_dir(self.top.join(folder)).map_err(self.unreadable(folder))? {
            let found = found.map_err(self.unreadable(folder))?;
            let name = found.file_name();
            let Some(name) = name.to_str() else {
                let entry = [
                    folder.as_bytes(),
                    if folder.is_empty() { b"" } else { b"/" },
                    name.as_bytes(),
                ]
                .concat();
                return Err(self.refused(&entry, "has a name that is not UTF-8"));
            };
            let path = if folder.is_empty() {
                name.to_owned()
            } else {
                format!("{folder}/{name}")
            };
            self.entries += 1;
            if self.entries > self.limits.entries {
                let what = format!(
                    "it has more than {} entries, at entry `{path}`",
                    self.limits.entries
                );
                return Err(OpenError::TooBig {
                    path: self.package.to_owned(),
                    what,
                });
            }
            let kind = found.file_type().map_err(self.unreadable(&path))?;
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_symlink() {
                self.link(path)?;
            } else if kind.is_file() {
                self.file(path)?;
            } else {
                return Err(self.refused(path.as_bytes(), "is a device, a FIFO or a socket"));
            }
        }
        Ok(())
    }

    fn link(&mut self, path: String) -> Result<(), OpenError> {
        let target = fs::read_link(self.top.join(&path)).map_err(self.unreadable(&path))?;
        let Some(target) = target.to_str() else {
            return Err(self.refused(
                path.as_bytes(),
                "is a symbolic link to a name that is not UTF-8",
            ));
        };
        let sha256 = hex(&Sha256::digest(target.as_bytes()));
        self.listing.push(FileEntry {
            path,
            size: 0,
            sha256,
            executable: false,
            link: Some(target.to_owned()),
        });
        Ok(())
    }

    fn file(&mut self, path: String) -> Result<(), OpenError> {
        let full = self.top.join(&path);
        let facts = fs::symlink_metadata(&full).map_err(self.unreadable(&path))?;
        self.bytes += facts.len();
        if self.bytes > self.limits.bytes {
            let what = format!(
                "it has more than {} bytes, at entry `{path}`",
                self.limits.bytes
            );
            return Err(OpenError::TooBig {
                path: self.package.to_owned(),
                what,
            });
        }
        let (mut source, meter) = Source::open(&full).map_err(self.unreadable(&path))?;
        io::copy(&mut source, &mut io::sink()).map_err(self.unreadable(&path))?;
        let executable = facts.permissions().mode() & 0o100 != 0;
        self.listing.push(FileEntry {
            path,
            size: meter.bytes(),
            sha256: meter.sha256(),
            executable,
            link: None,
        });
        Ok(())
    }
}
