//! Whether anything in a folder was touched, without reading a file's content.
//!
//! SHA-256 over the folder itself (path empty) and everything below it, sorted by the bytes of the path relative to
//! the folder. Each entry contributes, numbers as eight bytes with the lowest first, texts with their length before
//! them: path, mode (with the type of the file), owner, group, size, time of modification, time of change, device
//! number, and the target of a link.
//!
//! The time of change (`st_ctime`, stat(3type)) is what makes this enough: the kernel sets it at every write and every
//! change of permissions or names, and no call sets it to a chosen time, as `touch -d` does with the time of
//! modification. The time of access does not count: reading touches nothing.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::protocol::Stamp;
use super::size::BLOCK;
use super::tree;

/// Stamps a folder.
///
/// # Errors
/// Something in it cannot be read, or vanished meanwhile.
pub(super) fn stamp(folder: &Path) -> Result<Stamp, String> {
    let mut digest = Sha256::new();
    let mut stamp = Stamp::default();
    // A file of several names takes its place once.
    let mut seen = std::collections::HashSet::new();
    for entry in tree::walk(folder)? {
        let metadata = &entry.metadata;
        text(&mut digest, entry.path.as_os_str().as_bytes());
        for number in [
            u64::from(metadata.mode()),
            u64::from(metadata.uid()),
            u64::from(metadata.gid()),
            metadata.size(),
            metadata.rdev(),
        ] {
            digest.update(number.to_le_bytes());
        }
        for number in [
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.ctime(),
            metadata.ctime_nsec(),
        ] {
            digest.update(number.to_le_bytes());
        }
        if metadata.is_symlink() {
            let path = tree::join(folder, &entry.path);
            let target =
                std::fs::read_link(&path).map_err(|error| tree::cannot("read", &path, &error))?;
            text(&mut digest, target.as_os_str().as_bytes());
        }
        if metadata.is_dir()
            || metadata.nlink() == 1
            || seen.insert((metadata.dev(), metadata.ino()))
        {
            stamp.disk += metadata.blocks() * BLOCK;
        }
        if metadata.is_file() {
            stamp.files += 1;
            stamp.bytes += metadata.size();
        }
    }
    stamp.stamp = format!("sha256:{}", crate::digest::hex(&digest.finalize()));
    Ok(stamp)
}

fn text(digest: &mut Sha256, text: &[u8]) {
    digest.update((text.len() as u64).to_le_bytes());
    digest.update(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("a/1"), "one").unwrap();
        fs::write(folder.path().join("a/2"), "two").unwrap();
        symlink("a/1", folder.path().join("link")).unwrap();
        folder
    }

    #[test]
    fn reading_and_looking_touch_nothing() {
        let folder = folder();
        let before = stamp(folder.path()).unwrap();
        assert_eq!((before.files, before.bytes), (2, 6));
        fs::read(folder.path().join("a/1")).unwrap();
        fs::read_dir(folder.path()).unwrap().for_each(drop);
        assert_eq!(stamp(folder.path()).unwrap(), before);
    }

    /// Each by itself; the times are those that a file system gives, so each change waits until its clock has moved.
    #[test]
    fn every_touch_shows() {
        type Change = (&'static str, fn(&Path));
        let changes: [Change; 7] = [
            ("a byte, and the time put back", |root| {
                let path = root.join("a/1");
                let was = fs::metadata(&path).unwrap().modified().unwrap();
                fs::write(&path, "onE").unwrap();
                let file = File::options().write(true).open(&path).unwrap();
                file.set_modified(was).unwrap();
            }),
            ("a file more", |root| {
                fs::write(root.join("a/3"), "").unwrap()
            }),
            ("a file less", |root| {
                fs::remove_file(root.join("a/2")).unwrap()
            }),
            ("a name", |root| {
                fs::rename(root.join("a/1"), root.join("a/0")).unwrap();
            }),
            ("permissions", |root| {
                fs::set_permissions(root.join("a/1"), fs::Permissions::from_mode(0o600)).unwrap();
            }),
            ("a link", |root| {
                fs::remove_file(root.join("link")).unwrap();
                symlink("a/2", root.join("link")).unwrap();
            }),
            ("there and back", |root| {
                fs::write(root.join("a/1"), "new").unwrap();
                fs::write(root.join("a/1"), "one").unwrap();
            }),
        ];
        for (what, change) in changes {
            let folder = folder();
            let root = folder.path();
            let before = stamp(root).unwrap();
            await_clock(root);
            change(root);
            assert_ne!(stamp(root).unwrap().stamp, before.stamp, "{what}");
        }
    }

    /// The kernel stamps files with the time of its last tick: waits until that is a later one.
    fn await_clock(root: &Path) {
        let newest = fs::metadata(root.join("link")).unwrap().ctime_nsec();
        let probe = root.parent().unwrap().join(format!(
            "probe-{}",
            root.file_name().unwrap().to_string_lossy()
        ));
        loop {
            fs::write(&probe, "").unwrap();
            let now = fs::metadata(&probe).unwrap().ctime_nsec();
            fs::remove_file(&probe).unwrap();
            if now != newest {
                return;
            }
        }
    }

    #[test]
    fn what_is_not_there_has_no_stamp() {
        let folder = folder();
        assert!(stamp(&folder.path().join("nothing")).is_err());
    }
}
