//! Backups that are folders: what is in them, read once, by several threads.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use sha2::{Digest as _, Sha256};

use super::error::BackupError;
use super::format::{BackupFacts, Format, Wanted};
use super::kinds;
use super::read::{self, Judged};
use super::stream::Stream;
use crate::archive::names;
use crate::archive::source::{self, Meter};

/// Small files that say something of the others: a manifest lists up to a million files.
pub(super) const MAX_TEXT: u64 = 1 << 30;

/// A folder's files by their names; what may not be in a backup was refused.
pub(super) struct Folder {
    pub(super) path: PathBuf,
    /// With their sizes in bytes; relative, with `/`.
    pub(super) files: BTreeMap<String, u64>,
    pub(super) folders: BTreeSet<String>,
    paths: BTreeMap<String, PathBuf>,
    links: BTreeMap<String, PathBuf>,
}

/// What the files hold.
pub(super) struct Contents<T> {
    pub(super) files: BTreeMap<String, T>,
    pub(super) sha256: String,
}

/// The lines that a folder's digest is over.
#[derive(Default)]
pub(super) struct Lines(BTreeMap<Vec<u8>, Vec<u8>>);

impl Lines {
    pub(super) fn file(&mut self, path: &[u8], size: u64, sha256: &str) {
        let line = format!("{size}\0{sha256}\n").into_bytes();
        self.0.insert(path.to_vec(), line);
    }

    fn folder(&mut self, path: &[u8]) {
        self.0.insert([path, b"/"].concat(), b"\0\n".to_vec());
    }

    fn link(&mut self, path: &[u8], target: &[u8]) {
        self.0
            .insert(path.to_vec(), [b"\0", target, b"\n"].concat());
    }

    pub(super) fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        for (path, rest) in &self.0 {
            hasher.update(path);
            hasher.update(b"\0");
            hasher.update(rest);
        }
        source::hex(&hasher.finalize())
    }
}

/// As [`read::inspect`], for a folder.
pub(super) fn inspect(path: &Path, wanted: Wanted) -> Result<BackupFacts, BackupError> {
    let folder = Folder::list(path)?;
    if folder.files.is_empty() {
        return Err(BackupError::empty(path, "a folder without files"));
    }
    let Some(format) = kinds::recognise(&folder, wanted) else {
        let first: Vec<&str> = folder.top().into_iter().take(3).collect();
        let seen = format!("a folder with `{}`", first.join("`, `"));
        return Err(BackupError::wrong(path, wanted, seen));
    };
    if !wanted.formats().contains(&format) {
        // Before hours of reading something that nobody wants.
        return Err(BackupError::wrong(
            path,
            wanted,
            format!("a {}", format.name()),
        ));
    }
    let (judged, sha256, unpacked) = match kinds::kind(format) {
        Some(kind) => (kind.judge)(&folder)?,
        None => {
            let judged = Judged::unseen(Format::Any, read::ANYTHING);
            let contents = folder.digest_all()?;
            (judged, contents.sha256, None)
        }
    };
    let size = folder.files.values().sum();
    Ok(BackupFacts {
        folder: true,
        files: folder.files.len() as u64,
        sha256,
        size,
        decompressed: unpacked.unwrap_or(size),
        ..read::facts(path, judged)
    })
}

/// What a folder's judge returns: what it saw, the digest, and bytes after decompression where files had to be.
pub(super) type FolderJudged = (Judged, String, Option<u64>);

/// The digest of a folder, whatever it is.
pub(super) fn digest(path: &Path) -> Result<String, BackupError> {
    Ok(Folder::list(path)?.digest_all()?.sha256)
}

impl Folder {
    /// Lists all files below `path`.
    ///
    /// # Errors
    /// [`BackupError::Refused`] for a link that leaves the folder, a device, a FIFO and a socket.
    pub(super) fn list(path: &Path) -> Result<Self, BackupError> {
        let mut folder = Self {
            path: path.to_owned(),
            files: BTreeMap::new(),
            folders: BTreeSet::new(),
            paths: BTreeMap::new(),
            links: BTreeMap::new(),
        };
        let mut left = vec![PathBuf::new()];
        while let Some(below) = left.pop() {
            let here = path.join(&below);
            let unreadable = |source| BackupError::unreadable(&here, source);
            for entry in fs::read_dir(&here).map_err(unreadable)? {
                let entry = entry.map_err(unreadable)?;
                let relative = below.join(entry.file_name());
                if folder.add(&relative)? {
                    left.push(relative);
                }
            }
        }
        Ok(folder)
    }

    /// Adds one entry; true for a folder.
    fn add(&mut self, relative: &Path) -> Result<bool, BackupError> {
        let whole = self.path.join(relative);
        let bytes = relative.as_os_str().as_bytes();
        let name = names::shown(bytes);
        let metadata =
            fs::symlink_metadata(&whole).map_err(|error| self.vanished(&name, &whole, error))?;
        let refused = |reason: String| BackupError::Refused {
            path: self.path.clone(),
            entry: name.clone(),
            reason,
        };
        let kind = metadata.file_type();
        if kind.is_dir() {
            self.folders.insert(name.clone());
        } else if kind.is_symlink() {
            let target =
                fs::read_link(&whole).map_err(|error| self.vanished(&name, &whole, error))?;
            if let Some(what) = postgres_link(&name)
                && target.is_absolute()
            {
                return Err(BackupError::unsupported(
                    &self.path,
                    format!(
                        "`{name}` is a link to {what} outside of it; make it with `pg_basebackup -Ft`"
                    ),
                ));
            }
            names::judge_link(bytes, target.as_os_str().as_bytes(), names::Links::Inside)
                .map_err(refused)?;
            self.links.insert(name.clone(), target);
        } else if kind.is_file() {
            self.files.insert(name.clone(), metadata.len());
        } else {
            return Err(refused("is a device, a FIFO or a socket".to_owned()));
        }
        match self.paths.insert(name.clone(), relative.to_owned()) {
            None => Ok(kind.is_dir()),
            Some(_) => Err(BackupError::unsupported(
                &self.path,
                format!("it has two names that read as `{name}`"),
            )),
        }
    }

    /// Of an entry that was there a moment ago: somebody is writing here, which is not the backup's fault.
    fn vanished(&self, name: &str, whole: &Path, error: io::Error) -> BackupError {
        if error.kind() == io::ErrorKind::NotFound {
            return BackupError::Changed {
                path: self.path.clone(),
                expected: format!("the file `{name}`"),
                seen: "none".to_owned(),
            };
        }
        BackupError::unreadable(whole, error)
    }

    /// Names right below the folder.
    pub(super) fn top(&self) -> BTreeSet<&str> {
        self.paths
            .keys()
            .filter(|name| !name.contains('/'))
            .map(String::as_str)
            .collect()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    pub(super) fn full(&self, name: &str) -> PathBuf {
        self.path.join(
            self.paths
                .get(name)
                .map_or_else(|| Path::new(name), PathBuf::as_path),
        )
    }

    pub(super) fn truncated(&self, seen: impl Into<String>) -> BackupError {
        BackupError::truncated(&self.path, seen)
    }

    pub(super) fn damaged(&self, seen: impl Into<String>) -> BackupError {
        BackupError::damaged(&self.path, seen)
    }

    /// A file that must be there, and not empty.
    pub(super) fn need(&self, name: &str) -> Result<u64, BackupError> {
        match self.files.get(name) {
            None => Err(self.truncated(format!("expected the file `{name}` in it"))),
            Some(0) => Err(self.truncated(format!("its file `{name}` is empty"))),
            Some(size) => Ok(*size),
        }
    }

    /// The content of a file that says something of the others.
    pub(super) fn content(&self, name: &str) -> Result<Vec<u8>, BackupError> {
        let size = self.need(name)?;
        if size > MAX_TEXT {
            return Err(self.damaged(format!("its file `{name}` has {size} bytes")));
        }
        let path = self.full(name);
        fs::read(&path).map_err(|error| self.vanished(name, &path, error))
    }

    pub(super) fn text(&self, name: &str) -> Result<String, BackupError> {
        Ok(String::from_utf8_lossy(&self.content(name)?).into_owned())
    }

    /// Reads every file once, several at a time. `job` gets a file's name and path, and must read it to its end.
    pub(super) fn read<T: Send>(
        &self,
        job: impl Fn(&str, &Path) -> Result<(Meter, T), BackupError> + Sync,
    ) -> Result<Contents<T>, BackupError> {
        let mut work: Vec<(&String, u64)> = self
            .files
            .iter()
            .map(|(name, size)| (name, *size))
            .collect();
        // The largest first, so that no thread is left alone with it.
        work.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
        let next = AtomicUsize::new(0);
        let stop = AtomicBool::new(false);
        let one = || {
            let mut done = Vec::new();
            while !stop.load(Ordering::Relaxed)
                && let Some((name, size)) = work.get(next.fetch_add(1, Ordering::Relaxed))
            {
                let path = self.full(name);
                let result = job(name, &path).and_then(|(meter, seen)| {
                    if meter.bytes() != *size {
                        return Err(BackupError::Changed {
                            path: path.clone(),
                            expected: format!("{size} bytes"),
                            seen: format!("{} bytes", meter.bytes()),
                        });
                    }
                    Ok((meter.sha256(), seen))
                });
                if result.is_err() {
                    stop.store(true, Ordering::Relaxed);
                }
                done.push(((*name).clone(), *size, result));
            }
            done
        };
        let threads = std::thread::available_parallelism().map_or(1, |count| count.get().min(4));
        let done = std::thread::scope(|scope| {
            let handles: Vec<_> = (1..threads.min(work.len()))
                .map(|_| scope.spawn(one))
                .collect();
            let mut done = one();
            for handle in handles {
                match handle.join() {
                    Ok(more) => done.extend(more),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            done
        });
        let mut lines = self.lines();
        let mut files = BTreeMap::new();
        let mut first: Option<(String, BackupError)> = None;
        for (name, size, result) in done {
            match result {
                Ok((sha256, seen)) => {
                    lines.file(self.raw(&name), size, &sha256);
                    files.insert(name, seen);
                }
                Err(error) if first.as_ref().is_none_or(|(other, _)| name < *other) => {
                    first = Some((name, error));
                }
                Err(_) => {}
            }
        }
        match first {
            Some((name, BackupError::Unreadable { source, path })) => {
                Err(self.vanished(&name, &path, source))
            }
            Some((_, error)) => Err(error),
            None => Ok(Contents {
                files,
                sha256: lines.digest(),
            }),
        }
    }

    /// Reads every file for its digest, which is returned for each.
    pub(super) fn digest_all(&self) -> Result<Contents<String>, BackupError> {
        self.read(|_, path| {
            let mut stream = Stream::raw(path)?;
            stream.rest("inside it")?;
            let digest = stream.meter.sha256();
            Ok((stream.meter, digest))
        })
    }

    fn raw<'a>(&'a self, name: &'a str) -> &'a [u8] {
        self.paths
            .get(name)
            .map_or(name.as_bytes(), |path| path.as_os_str().as_bytes())
    }

    fn lines(&self) -> Lines {
        let mut lines = Lines::default();
        for name in &self.folders {
            lines.folder(self.raw(name));
        }
        for (name, target) in &self.links {
            lines.link(self.raw(name), target.as_os_str().as_bytes());
        }
        lines
    }
}

/// What a data folder of PostgreSQL may have elsewhere.
fn postgres_link(name: &str) -> Option<&'static str> {
    if name == "pg_wal" {
        return Some("the WAL");
    }
    name.starts_with("pg_tblspc/").then_some("a tablespace")
}
