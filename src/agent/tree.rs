//! Everything below a folder, in one order.

use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Something in a folder, or the folder itself.
pub(super) struct Entry {
    /// From the folder; empty for the folder itself.
    pub(super) path: PathBuf,
    /// Its own, not that of what a link points to.
    pub(super) metadata: Metadata,
}

/// The folder and everything in it, sorted by the bytes of the path, so each after the folder it is in. Links are
/// not followed.
///
/// # Errors
/// A folder that is none or cannot be read, or an entry that vanished: what moves has no fingerprint.
pub(super) fn walk(root: &Path) -> Result<Vec<Entry>, String> {
    let metadata = fs::symlink_metadata(root).map_err(|error| cannot("read", root, &error))?;
    if !metadata.is_dir() {
        return Err(format!("cannot read `{}`: not a folder", root.display()));
    }
    let mut entries = vec![Entry {
        path: PathBuf::new(),
        metadata,
    }];
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let absolute = join(root, &folder);
        let failed = |error| cannot("read", &absolute, &error);
        for entry in fs::read_dir(&absolute).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let metadata = entry
                .metadata()
                .map_err(|error| cannot("read", &entry.path(), &error))?;
            let path = folder.join(entry.file_name());
            if metadata.is_dir() {
                folders.push(path.clone());
            }
            entries.push(Entry { path, metadata });
        }
    }
    entries.sort_by(|a, b| {
        a.path
            .as_os_str()
            .as_bytes()
            .cmp(b.path.as_os_str().as_bytes())
    });
    Ok(entries)
}

/// `Path::join` would put a slash after the root itself.
pub(super) fn join(root: &Path, path: &Path) -> PathBuf {
    match path.as_os_str().is_empty() {
        true => root.to_owned(),
        false => root.join(path),
    }
}

/// The words for something that cannot be done to a path.
pub(super) fn cannot(what: &str, path: &Path, error: &(dyn std::error::Error + 'static)) -> String {
    format!(
        "cannot {what} `{}`: {}",
        path.display(),
        super::fault::say(error)
    )
}
