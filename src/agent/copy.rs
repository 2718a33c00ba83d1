//! A folder copied with everything that belongs to it: what stands in where the engine cannot mount overlays.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chmod, chownat,
    ioctl_ficlone, lgetxattr, llistxattr, lsetxattr, mknodat, utimensat,
};
use rustix::io::Errno;
use serde::Serialize;

use super::tree::{self, cannot};

/// The most that the kernel allows an attribute, and a list of their names, to be.
const ATTRIBUTE_LIMIT: usize = 64 << 10;

/// What was copied.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Copied {
    /// Regular files, those of several names once.
    files: u64,
    /// Their bytes.
    bytes: u64,
    /// True where every file shares its blocks with its original: the copy took no room.
    reflinks: bool,
}

/// Copies `from` into `to`, which is made or is empty: owners, permissions, times, links of both kinds, devices,
/// extended attributes.
///
/// # Errors
/// The first thing that cannot be read or made. What was copied before it is left there.
pub(super) fn copy(from: &Path, to: &Path) -> Result<Copied, String> {
    let entries = tree::walk(from)?;
    fs::create_dir_all(to).map_err(|error| cannot("make", to, &error))?;
    let mut there = fs::read_dir(to).map_err(|error| cannot("read", to, &error))?;
    if there.next().is_some() {
        return Err(format!(
            "cannot copy into `{}`: it is not empty",
            to.display()
        ));
    }
    let mut copied = Copied {
        reflinks: true,
        ..Copied::default()
    };
    let mut names: HashMap<(u64, u64), PathBuf> = HashMap::new();
    for entry in &entries {
        let (source, target) = (tree::join(from, &entry.path), tree::join(to, &entry.path));
        let metadata = &entry.metadata;
        if metadata.is_dir() {
            if !entry.path.as_os_str().is_empty() {
                fs::create_dir(&target).map_err(|error| cannot("make", &target, &error))?;
            }
            continue;
        }
        if metadata.nlink() > 1 {
            let inode = (metadata.dev(), metadata.ino());
            if let Some(first) = names.get(&inode) {
                fs::hard_link(first, &target).map_err(|error| cannot("link", &target, &error))?;
                continue;
            }
            names.insert(inode, target.clone());
        }
        one(&source, metadata, &target, &mut copied)?;
        attributes(&source, metadata, &target)?;
    }
    // Folders last and the innermost first: filling them has changed their times.
    for entry in entries.iter().rev().filter(|entry| entry.metadata.is_dir()) {
        let (source, target) = (tree::join(from, &entry.path), tree::join(to, &entry.path));
        attributes(&source, &entry.metadata, &target)?;
    }
    copied.reflinks &= copied.files > 0;
    Ok(copied)
}

/// Anything but a folder.
fn one(
    source: &Path,
    metadata: &Metadata,
    target: &Path,
    copied: &mut Copied,
) -> Result<(), String> {
    let kind = metadata.file_type();
    if kind.is_file() {
        return file(source, target, copied);
    }
    if kind.is_symlink() {
        let to = fs::read_link(source).map_err(|error| cannot("read", source, &error))?;
        return std::os::unix::fs::symlink(to, target)
            .map_err(|error| cannot("make", target, &error));
    }
    let made = if kind.is_fifo() {
        FileType::Fifo
    } else if kind.is_socket() {
        FileType::Socket
    } else if kind.is_block_device() {
        FileType::BlockDevice
    } else {
        FileType::CharacterDevice
    };
    mknodat(CWD, target, made, Mode::empty(), metadata.rdev())
        .map_err(|error| cannot("make", target, &error))
}

fn file(source: &Path, target: &Path, copied: &mut Copied) -> Result<(), String> {
    let mut from = File::open(source).map_err(|error| cannot("read", source, &error))?;
    let mut to = File::create_new(target).map_err(|error| cannot("make", target, &error))?;
    // Where one file cannot be cloned none can: they lie on the same two file systems.
    copied.reflinks = copied.reflinks && ioctl_ficlone(&to, &from).is_ok();
    let bytes = match copied.reflinks {
        true => from.metadata().map(|metadata| metadata.len()),
        false => std::io::copy(&mut from, &mut to),
    };
    copied.bytes += bytes.map_err(|error| cannot("copy", source, &error))?;
    copied.files += 1;
    Ok(())
}

/// Gives `target` owner, extended attributes, permissions and times of `source`, in the one order in which none
/// undoes another: a change of owner clears the setuid bits, a change of attributes the times.
pub(super) fn attributes(source: &Path, metadata: &Metadata, target: &Path) -> Result<(), String> {
    let failed = |what: &'static str| move |error: Errno| cannot(what, target, &error);
    chownat(
        CWD,
        target,
        Some(Uid::from_raw(metadata.uid())),
        Some(Gid::from_raw(metadata.gid())),
        AtFlags::SYMLINK_NOFOLLOW,
    )
    .map_err(failed("change the owner of"))?;
    extended(source, target)?;
    if !metadata.is_symlink() {
        chmod(target, Mode::from_raw_mode(metadata.mode() & 0o7777))
            .map_err(failed("change the permissions of"))?;
    }
    let time = |seconds: i64, nanoseconds: i64| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let times = Timestamps {
        last_access: time(metadata.atime(), metadata.atime_nsec()),
        last_modification: time(metadata.mtime(), metadata.mtime_nsec()),
    };
    utimensat(CWD, target, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(failed("change the times of"))
}

/// Copies extended attributes. Only those that an ordinary program can have set must arrive: `security` and
/// `trusted` belong to the machine and take privileges that a container lacks.
fn extended(source: &Path, target: &Path) -> Result<(), String> {
    let failed = |error: Errno| cannot("copy the extended attributes of", source, &error);
    let mut names = vec![0; ATTRIBUTE_LIMIT];
    let length = match llistxattr(source, names.as_mut_slice()) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let mut value = vec![0; ATTRIBUTE_LIMIT];
    for name in names[..length].split(|byte| *byte == 0) {
        if name.is_empty() {
            continue;
        }
        let machine = name.starts_with(b"security.") || name.starts_with(b"trusted.");
        let set = lgetxattr(source, name, value.as_mut_slice())
            .and_then(|length| lsetxattr(target, name, &value[..length], XattrFlags::empty()));
        match set {
            Ok(()) => {}
            Err(Errno::PERM | Errno::OPNOTSUPP) if machine => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fingerprint::fingerprint;
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::time::{Duration, SystemTime};

    #[test]
    fn a_copy_has_the_fingerprint_times_and_links_of_its_original() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("deep/er")).unwrap();
        fs::write(from.join("deep/er/file"), vec![7; 300_000]).unwrap();
        fs::write(from.join("tool"), "#!/bin/sh").unwrap();
        fs::set_permissions(from.join("tool"), fs::Permissions::from_mode(0o4755)).unwrap();
        fs::hard_link(from.join("tool"), from.join("deep/tool")).unwrap();
        symlink("/nowhere", from.join("dangling")).unwrap();
        std::os::unix::net::UnixListener::bind(from.join("socket")).unwrap();
        mknodat(CWD, from.join("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        let then = SystemTime::now() - Duration::from_secs(86_400);
        for path in ["deep/er/file", "deep"] {
            File::open(from.join(path))
                .unwrap()
                .set_modified(then)
                .unwrap();
        }
        fs::set_permissions(&from, fs::Permissions::from_mode(0o750)).unwrap();

        let copied = copy(&from, &to).unwrap();
        assert_eq!((copied.files, copied.bytes), (2, 300_009));
        assert_eq!(fingerprint(&from, u64::MAX), fingerprint(&to, u64::MAX));
        assert_eq!(fingerprint(&from, 0), fingerprint(&to, 0));
        for path in ["deep/er/file", "deep"] {
            let modified = fs::metadata(to.join(path)).unwrap().modified().unwrap();
            assert_eq!(modified, then, "{path}");
        }
        let inode = |path: &str| fs::metadata(to.join(path)).unwrap().ino();
        assert_eq!(inode("tool"), inode("deep/tool"));
    }

    #[test]
    fn a_folder_that_is_not_empty_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("from")).unwrap();
        fs::create_dir_all(folder.path().join("to/something")).unwrap();
        let refused = copy(&folder.path().join("from"), &folder.path().join("to")).unwrap_err();
        assert!(refused.contains("it is not empty"), "{refused}");
    }
}
