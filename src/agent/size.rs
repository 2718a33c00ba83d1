//! What folders take up on disk.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{lines, tree};

/// Bytes in one of `st_blocks`, whatever the file system's own block is.
pub(super) const BLOCK: u64 = 512;

/// What one folder takes up.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Size<'a> {
    folder: &'a Path,
    /// Allocated, folders included; a file of several names counts once.
    bytes: u64,
    /// Regular files.
    files: u64,
}

/// Prints one line a folder.
pub(super) fn size(folders: &[PathBuf]) -> Result<(), String> {
    folders
        .iter()
        .try_for_each(|folder| lines::print(&measure(folder)?))
}

fn measure(folder: &Path) -> Result<Size<'_>, String> {
    let mut seen = HashSet::new();
    let (mut bytes, mut files) = (0, 0);
    for entry in tree::walk(folder)? {
        let metadata = entry.metadata;
        let again = metadata.nlink() > 1
            && !metadata.is_dir()
            && !seen.insert((metadata.dev(), metadata.ino()));
        if !again {
            bytes += metadata.blocks() * BLOCK;
            files += u64::from(metadata.is_file());
        }
    }
    Ok(Size {
        folder,
        bytes,
        files,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_two_names_takes_its_place_once() {
        let folder = tempfile::tempdir().unwrap();
        let empty = measure(folder.path()).unwrap().bytes;
        std::fs::write(folder.path().join("one"), vec![1; 100_000]).unwrap();
        std::fs::hard_link(folder.path().join("one"), folder.path().join("two")).unwrap();
        let size = measure(folder.path()).unwrap();
        assert_eq!(size.files, 1);
        // No exact figure: how a file system allocates is its own affair.
        assert!(
            (100_000..200_000).contains(&(size.bytes - empty)),
            "{size:?}"
        );
    }

    #[test]
    fn a_missing_folder_is_not_an_empty_one() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(measure(&folder.path().join("missing")).is_err());
    }
}
