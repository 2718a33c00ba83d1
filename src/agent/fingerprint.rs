//! The content of a folder in one digest.
//!
//! SHA-256 over the folder itself (path empty) and everything below it, sorted by the bytes of the path relative
//! to the folder. Each entry contributes, numbers as eight bytes with the lowest first, texts with their length
//! before them:
//!
//! - one letter: `d` folder, `f` file, `l` link, `s` socket, `p` fifo, `b` and `c` devices;
//! - the path;
//! - not for sockets and fifos, which come and go with their processes: permission bits (`mode & 07777`, except
//!   of links, which have none), owner, group;
//! - of a file the SHA-256 of its content, of a link its target, of a device its number.
//!
//! Times, extended attributes and whether two names are one file do not count.
//!
//! An *outline* is the same with size and time of modification of a file in place of its content: its cost grows with
//! the number of files and not with their bytes, and it opens none. It says so in front of its digest.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest as _, Sha256};

use super::protocol::Fingerprint;
use super::tree::{self, Entry};

/// Files read at once: enough to keep a disk busy, few enough to leave the services some of it.
const READERS: usize = 4;

/// Digests a folder; where its files have more than `most` bytes, its outline.
///
/// # Errors
/// Something in it cannot be read, or vanished meanwhile.
pub(super) fn fingerprint(folder: &Path, most: u64) -> Result<Fingerprint, String> {
    let entries = tree::walk(folder)?;
    let files: Vec<&Entry> = entries
        .iter()
        .filter(|entry| entry.metadata.is_file())
        .collect();
    let size: u64 = files.iter().map(|file| file.metadata.size()).sum();
    let in_outline = size > most;
    let contents = if in_outline {
        files.iter().map(|file| outline(file)).collect()
    } else {
        contents(folder, &files)?
    };
    let mut contents = contents.iter();
    let mut bytes = 0;
    let mut digest = Sha256::new();
    for entry in &entries {
        let content = match entry.metadata.is_file() {
            true => contents.next(),
            false => None,
        };
        bytes += content.map_or(0, |content| content.length);
        add(&mut digest, folder, entry, content)?;
    }
    let kind = if in_outline { "outline " } else { "" };
    Ok(Fingerprint {
        digest: format!("{kind}sha256:{}", hex(&digest.finalize())),
        files: files.len() as u64,
        bytes,
    })
}

struct Content {
    digest: [u8; 32],
    length: u64,
}

fn add(
    digest: &mut Sha256,
    folder: &Path,
    entry: &Entry,
    content: Option<&Content>,
) -> Result<(), String> {
    let kind = entry.metadata.file_type();
    let letter = if kind.is_dir() {
        b'd'
    } else if kind.is_file() {
        b'f'
    } else if kind.is_symlink() {
        b'l'
    } else if kind.is_socket() {
        b's'
    } else if kind.is_fifo() {
        b'p'
    } else if kind.is_block_device() {
        b'b'
    } else {
        b'c'
    };
    digest.update([letter]);
    text(digest, entry.path.as_os_str().as_bytes());
    if matches!(letter, b's' | b'p') {
        return Ok(());
    }
    if letter != b'l' {
        number(digest, u64::from(entry.metadata.mode() & 0o7777));
    }
    number(digest, u64::from(entry.metadata.uid()));
    number(digest, u64::from(entry.metadata.gid()));
    match (letter, content) {
        (b'f', Some(content)) => digest.update(content.digest),
        (b'l', _) => {
            let path = tree::join(folder, &entry.path);
            let target =
                std::fs::read_link(&path).map_err(|error| tree::cannot("read", &path, &error))?;
            text(digest, target.as_os_str().as_bytes());
        }
        (b'b' | b'c', _) => number(digest, entry.metadata.rdev()),
        (_, _) => {}
    }
    Ok(())
}

fn number(digest: &mut Sha256, number: u64) {
    digest.update(number.to_le_bytes());
}

fn text(digest: &mut Sha256, text: &[u8]) {
    number(digest, text.len() as u64);
    digest.update(text);
}

/// Reads all files on a few threads; the answer is in their order.
fn contents(folder: &Path, files: &[&Entry]) -> Result<Vec<Content>, String> {
    let next = AtomicUsize::new(0);
    let read_some = || {
        let mut read = Vec::new();
        let mut buffer = vec![0; 128 << 10];
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(file) = files.get(at) else {
                return Ok(read);
            };
            match content(&tree::join(folder, &file.path), &mut buffer) {
                Ok(content) => read.push((at, content)),
                Err(reason) => {
                    // The others need not go on.
                    next.store(files.len(), Ordering::Relaxed);
                    return Err(reason);
                }
            }
        }
    };
    let mut all = Vec::with_capacity(files.len());
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS.min(files.len()))
            .map(|_| scope.spawn(read_some))
            .collect();
        for reader in readers {
            match reader.join() {
                Ok(read) => all.extend(read?),
                Err(_) => return Err("the agent's own mistake while reading files".to_owned()),
            }
        }
        Ok(())
    })?;
    all.sort_unstable_by_key(|(at, _)| *at);
    Ok(all.into_iter().map(|(_, content)| content).collect())
}

/// In place of what is in a file: when it was written to, and how much there is.
fn outline(file: &Entry) -> Content {
    let mut digest = Sha256::new();
    digest.update(file.metadata.mtime().to_le_bytes());
    digest.update(file.metadata.mtime_nsec().to_le_bytes());
    number(&mut digest, file.metadata.size());
    Content {
        digest: digest.finalize().into(),
        length: file.metadata.size(),
    }
}

fn content(path: &Path, buffer: &mut [u8]) -> Result<Content, String> {
    let failed = |error: std::io::Error| tree::cannot("read", path, &error);
    let mut file = File::open(path).map_err(failed)?;
    let mut digest = Sha256::new();
    let mut length = 0;
    loop {
        match file.read(buffer) {
            Ok(0) => break,
            Ok(read) => {
                digest.update(&buffer[..read]);
                length += read as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(Content {
        digest: digest.finalize().into(),
        length,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::os::unix::net::UnixListener;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(root.join("a")).unwrap();
        for number in 0..20 {
            fs::write(root.join(format!("a/{number}")), format!("{number}")).unwrap();
        }
        fs::write(root.join("a.b"), "between `a` and `a/0`").unwrap();
        symlink("a/1", root.join("link")).unwrap();
        folder
    }

    fn digest(folder: &Path) -> String {
        fingerprint(folder, u64::MAX).unwrap().digest
    }

    #[test]
    fn the_same_content_has_the_same_digest_elsewhere_and_at_another_time() {
        let (one, two) = (folder(), folder());
        let hour_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
        let file = File::options()
            .write(true)
            .open(two.path().join("a.b"))
            .unwrap();
        file.set_modified(hour_ago).unwrap();
        let print = fingerprint(one.path(), 51).unwrap();
        assert_eq!(print, fingerprint(two.path(), 51).unwrap());
        assert_eq!((print.files, print.bytes), (21, 30 + 21));
    }

    #[test]
    fn an_outline_opens_no_file_and_shows_sizes_times_names_and_permissions() {
        let folder = folder();
        let root = folder.path();
        let path = root.join("a/7");
        let was = fs::metadata(&path).unwrap().modified().unwrap();
        let outline = || fingerprint(root, 50).unwrap().digest;
        let before = outline();
        assert!(before.starts_with("outline sha256:"), "{before}");
        assert_eq!(outline(), before);
        let set_modified = |time| {
            let file = File::options().write(true).open(&path).unwrap();
            file.set_modified(time).unwrap();
        };
        // The same size and time: what an outline does not show.
        fs::write(&path, "8").unwrap();
        set_modified(was);
        assert_eq!(outline(), before);
        set_modified(was + std::time::Duration::from_nanos(1));
        assert_ne!(outline(), before, "time");
        set_modified(was);
        fs::write(&path, "77").unwrap();
        set_modified(was);
        assert_ne!(outline(), before, "size");
        fs::write(&path, "7").unwrap();
        set_modified(was);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_ne!(outline(), before, "permissions");
        fs::remove_file(&path).unwrap();
        assert_ne!(outline(), before, "a file less");
    }

    /// Each change by itself must show: what does not show, rollback would not notice.
    #[test]
    fn every_change_shows() {
        type Change = (&'static str, fn(&Path));
        let changes: [Change; 10] = [
            ("content", |root| fs::write(root.join("a/7"), "8").unwrap()),
            ("new file", |root| fs::write(root.join("new"), "").unwrap()),
            ("new folder", |root| {
                fs::create_dir(root.join("new")).unwrap()
            }),
            ("gone", |root| fs::remove_file(root.join("a/7")).unwrap()),
            ("renamed", |root| {
                fs::rename(root.join("a/7"), root.join("a/70")).unwrap()
            }),
            ("swapped", |root| {
                fs::write(root.join("a/7"), "8").unwrap();
                fs::write(root.join("a/8"), "7").unwrap();
            }),
            ("permissions", |root| {
                fs::set_permissions(root.join("a/7"), fs::Permissions::from_mode(0o600)).unwrap();
            }),
            ("the folder's own permissions", |root| {
                fs::set_permissions(root, fs::Permissions::from_mode(0o700)).unwrap();
            }),
            ("link", |root| {
                fs::remove_file(root.join("link")).unwrap();
                symlink("a/2", root.join("link")).unwrap();
            }),
            ("socket", |root| {
                UnixListener::bind(root.join("socket")).unwrap();
            }),
        ];
        let untouched = digest(folder().path());
        for (what, change) in changes {
            let folder = folder();
            change(folder.path());
            assert_ne!(digest(folder.path()), untouched, "{what}");
        }
    }

    #[test]
    fn what_is_not_there_or_no_folder_has_no_fingerprint() {
        let folder = folder();
        for path in ["nothing", "a.b", "link"] {
            let refused = fingerprint(&folder.path().join(path), 0).unwrap_err();
            assert!(refused.contains(path), "{refused}");
        }
    }
}
