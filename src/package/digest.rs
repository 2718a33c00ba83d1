//! The package's digest; what goes into it stands at [`super::OpenedPackage::digest`].

use sha2::{Digest, Sha256};

use super::FileEntry;
use crate::archive::source::hex;

/// Over a listing that is sorted by path.
pub(super) fn of(listing: &[FileEntry]) -> String {
    let mut hasher = Sha256::new();
    hasher.update(b"rehearsal package 1\n");
    for file in listing {
        let kind = match (&file.link, file.executable) {
            (Some(_), _) => "l",
            (None, true) => "x",
            (None, false) => "f",
        };
        // A path holds no NUL, so no two listings have the same records.
        hasher.update(format!("{kind} {} {}\0", file.sha256, file.path));
    }
    format!("sha256:{}", hex(&hasher.finalize()))
}
