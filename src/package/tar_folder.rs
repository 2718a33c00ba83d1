//! A folder or a file as a tar stream, for the engine's endpoint that puts archives into containers.

use std::fs::{self, Metadata};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::archive::tar_out::TarOut;
use crate::archive::{Entry, Kind, Mtime};

/// How [`tar_folder`] writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TarOptions {
    /// Where the folder stands in the tar, or the file's path in it; relative, with `/`. Empty: a folder's contents
    /// stand at the top (with no entry for the folder itself, so that the target keeps its own mode and owner), and
    /// a file keeps its name. The prefix gets an entry of its own, the folders above it do not.
    pub prefix: String,
    /// Owner and group of every entry. Default: those on this machine.
    pub owner: Option<(u64, u64)>,
    /// Permission bits of every file. Default: the file's own.
    pub file_mode: Option<u32>,
    /// Permission bits of every folder. Default: the folder's own.
    pub folder_mode: Option<u32>,
    /// What is deployed depends only on what the package's digest covers: folders without any file or link below them
    /// are left out, files get 0755 where their owner may execute them, else 0644, and folders 0755. `file_mode` and
    /// `folder_mode` come first.
    pub as_digested: bool,
}

/// Why a folder cannot be streamed.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// A file of it cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is a device, a FIFO or a socket.
    #[error("cannot pack `{}`: it is neither a file, a folder nor a link", path.display())]
    Special {
        /// The file.
        path: PathBuf,
    },
    /// It became shorter or longer while it was read.
    #[error("cannot pack `{}`: its size changed while it was read", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// Nobody takes the stream any more.
    #[error("cannot write the tar stream: {0}")]
    Write(io::Error),
}

/// Streams `root`, a folder or a file, as a tar into `out`, and returns `out` after the tar's end.
///
/// The order depends on names only. Permission bits (below 0o10000), times to the nanosecond and symbolic links are
/// kept; a hard link becomes a file of its own. Only `root` itself is followed where it is a link.
///
/// # Errors
/// See [`TarError`]. What was written by then lacks a tar's end, so no reader takes it for whole.
pub fn tar_folder<W: Write>(root: &Path, out: W, options: &TarOptions) -> Result<W, TarError> {
    let mut tar = TarOut::new(out);
    let facts = fs::metadata(root).map_err(|source| TarError::Read {
        path: root.to_owned(),
        source,
    })?;
    let prefix = options.prefix.trim_matches('/').as_bytes().to_vec();
    if facts.is_dir() {
        if !prefix.is_empty() {
            let entry = entry(&prefix, Kind::Directory, &facts, options);
            tar.header(&entry).map_err(TarError::Write)?;
        }
        folder(&mut tar, root, &prefix, options)?;
    } else {
        let own = || {
            root.file_name()
                .map(|name| name.as_bytes().to_vec())
                .unwrap_or_default()
        };
        let path = if prefix.is_empty() { own() } else { prefix };
        file(&mut tar, root, &path, &facts, options)?;
    }
    tar.finish().map_err(TarError::Write)
}

fn folder<W: Write>(
    tar: &mut TarOut<W>,
    root: &Path,
    prefix: &[u8],
    options: &TarOptions,
) -> Result<(), TarError> {
    // A stack instead of recursion, last in first out, so the names of a folder are pushed in reverse.
    let mut waiting = children(root, prefix)?;
    // Folders, each in the one before it, that nothing was found in yet.
    let mut bare: Vec<Entry> = Vec::new();
    while let Some((on_disk, in_tar)) = waiting.pop() {
        while bare.pop_if(|folder| !is_below(&in_tar, folder)).is_some() {}
        let failed = |source| TarError::Read {
            path: on_disk.clone(),
            source,
        };
        let facts = fs::symlink_metadata(&on_disk).map_err(failed)?;
        if facts.is_dir() {
            bare.push(entry(&in_tar, Kind::Directory, &facts, options));
            waiting.append(&mut children(&on_disk, &in_tar)?);
            if options.as_digested {
                continue;
            }
        }
        for folder in bare.drain(..) {
            tar.header(&folder).map_err(TarError::Write)?;
        }
        if facts.is_symlink() {
            let target = fs::read_link(&on_disk)
                .map_err(failed)?
                .into_os_string()
                .into_vec();
            tar.header(&entry(&in_tar, Kind::Symlink(target), &facts, options))
                .map_err(TarError::Write)?;
        } else if !facts.is_dir() {
            file(tar, &on_disk, &in_tar, &facts, options)?;
        }
    }
    Ok(())
}

fn is_below(path: &[u8], folder: &Entry) -> bool {
    path.strip_prefix(folder.path.as_slice())
        .is_some_and(|rest| rest.starts_with(b"/"))
}

/// What lies in a folder, in reverse order of the names' bytes, with the paths in the tar.
fn children(folder: &Path, in_tar: &[u8]) -> Result<Vec<(PathBuf, Vec<u8>)>, TarError> {
    let failed = |source| TarError::Read {
        path: folder.to_owned(),
        source,
    };
    let mut found = Vec::new();
    for child in fs::read_dir(folder).map_err(failed)? {
        let child = child.map_err(failed)?;
        let name = child.file_name();
        let separator: &[u8] = if in_tar.is_empty() { b"" } else { b"/" };
        found.push((child.path(), [in_tar, separator, name.as_bytes()].concat()));
    }
    found.sort_by(|a, b| b.1.cmp(&a.1));
    Ok(found)
}

fn file<W: Write>(
    tar: &mut TarOut<W>,
    on_disk: &Path,
    in_tar: &[u8],
    facts: &Metadata,
    options: &TarOptions,
) -> Result<(), TarError> {
    if !facts.is_file() {
        return Err(TarError::Special {
            path: on_disk.to_owned(),
        });
    }
    let failed = |source| TarError::Read {
        path: on_disk.to_owned(),
        source,
    };
    let mut source = fs::File::open(on_disk).map_err(failed)?;
    let entry = entry(in_tar, Kind::File, facts, options);
    tar.header(&entry).map_err(TarError::Write)?;
    let mut buffer = vec![0; 128 * 1024];
    let mut total = 0;
    loop {
        let read = match io::Read::read(&mut source, &mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        total += read as u64;
        if total > entry.size {
            break;
        }
        tar.content()
            .write_all(&buffer[..read])
            .map_err(TarError::Write)?;
    }
    if total != entry.size {
        return Err(TarError::Changed {
            path: on_disk.to_owned(),
        });
    }
    tar.pad(entry.size).map_err(TarError::Write)
}

fn entry(path: &[u8], kind: Kind, facts: &Metadata, options: &TarOptions) -> Entry {
    let (forced, normal) = match &kind {
        Kind::File | Kind::Hardlink(_) if facts.mode() & 0o100 != 0 => (options.file_mode, 0o755),
        Kind::File | Kind::Hardlink(_) => (options.file_mode, 0o644),
        Kind::Directory => (options.folder_mode, 0o755),
        Kind::Symlink(_) => (None, 0o777),
    };
    let own = if options.as_digested {
        normal
    } else {
        facts.mode()
    };
    let (uid, gid) = options
        .owner
        .unwrap_or((u64::from(facts.uid()), u64::from(facts.gid())));
    Entry {
        path: path.to_vec(),
        size: if kind == Kind::File { facts.len() } else { 0 },
        kind,
        mode: Some(forced.unwrap_or(own) & 0o7777),
        uid,
        gid,
        mtime: Some(Mtime {
            secs: facts.mtime(),
            nanos: u32::try_from(facts.mtime_nsec()).unwrap_or(0),
        }),
        xattrs: Vec::new(),
    }
}
