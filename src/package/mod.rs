//! Opening, digesting and unpacking what was handed over.
//!
//! Nothing of a package is trusted: it is read through [`crate::archive`] to its end and judged before anything of it is
//! written, written only below a folder of our own, and scanned again as a folder, so that an archive and the folder it
//! was made of are judged and digested by the same code.

mod digest;
pub mod dockerfile;
mod error;
mod folder;
pub mod image_archive;
mod sums;
mod tar_folder;
mod unpack;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use tempfile::TempDir;

pub use error::OpenError;
pub use tar_folder::{TarError, TarOptions, tar_folder};

use crate::archive;

/// What a package may be at most. Exceeding a limit is an error before anything of the package is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenLimits {
    /// Bytes of all files together.
    pub bytes: u64,
    /// Files, folders and links.
    pub entries: u64,
    /// Unpacked bytes for each byte of the archive; judged from 64 MiB on, since small archives of zeros are
    /// harmless and common.
    pub ratio: u64,
}

impl Default for OpenLimits {
    /// 32 GiB (a package may carry images), 200,000 entries, 200 times.
    fn default() -> Self {
        Self {
            bytes: 32 << 30,
            entries: 200_000,
            ratio: 200,
        }
    }
}

impl OpenLimits {
    pub(crate) fn bounds(&self) -> archive::Bounds {
        archive::Bounds {
            bytes: self.bytes,
            entries: self.entries,
            ratio: self.ratio,
            links: archive::names::Links::Inside,
            unambiguous: true,
        }
    }
}

/// One file or symbolic link of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Relative to the package's root, with `/`.
    pub path: String,
    /// Bytes; of a link 0.
    pub size: u64,
    /// Of the content, or of a link's target text; hex without a prefix.
    pub sha256: String,
    /// True where the owner may execute it; of a link false.
    pub executable: bool,
    /// A symbolic link's target, as written.
    pub link: Option<String>,
}

/// A package, ready to be read.
#[derive(Debug)]
pub struct OpenedPackage {
    /// The folder in which its files lie: the folder that was given, or a temporary one that is removed when this
    /// value is dropped. Where one single top folder wraps everything, that folder.
    pub root: PathBuf,
    /// `sha256:<hex>`, the same for a folder and for any archive of it.
    ///
    /// It is the SHA-256 of the line `rehearsal package 1` with a line feed, followed by one record for each file and
    /// symbolic link, sorted by the bytes of its path: `f` for a file, `x` for a file that its owner may execute, or
    /// `l` for a link; a space; the SHA-256 of the content, or of the link's target text, in hex; a space; the path
    /// relative to the root; a NUL. A hard link counts as the file it is. Not part of it, because archive formats
    /// and tools disagree on them: folders (so empty ones do not count, and are not deployed), other permission bits, owners, times and
    /// extended attributes.
    pub digest: String,
    /// How many files and links.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Every file and link, sorted by the bytes of its path.
    pub listing: Vec<FileEntry>,
    source: PathBuf,
    limits: OpenLimits,
    unpacked: Option<TempDir>,
}

/// Opens the package at `path`: a folder, or a tar, tar.gz, tar.zst or zip, recognised by its content.
///
/// Where all files lie in one single top folder, that folder is the package (and so on within it), whether it came
/// as an archive or as a folder. Permission bits below 0o1000 survive unpacking, with the owner's read and write
/// bits set; setuid, setgid and sticky bits, owners and extended attributes do not.
///
/// # Errors
/// Everything that makes it unsafe, incomplete or unreadable; see [`OpenError`]. Where a `SHA256SUMS` stands in its
/// root, every deviation from it is reported at once.
pub fn open(path: &Path, limits: &OpenLimits) -> Result<OpenedPackage, OpenError> {
    let unreadable = |source| OpenError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let kind = std::fs::metadata(path).map_err(unreadable)?.file_type();
    let unpacked = if kind.is_dir() {
        None
    } else {
        Some(unpack::unpack(path, limits)?)
    };
    let top = unpacked.as_ref().map_or(path, TempDir::path);
    let scanned = folder::scan(path, top, limits)?;
    sums::enforce(path, &scanned)?;
    Ok(OpenedPackage {
        digest: digest::of(&scanned.listing),
        files: scanned.listing.len() as u64,
        bytes: scanned.listing.iter().map(|file| file.size).sum(),
        root: scanned.root,
        listing: scanned.listing,
        source: path.to_owned(),
        limits: limits.clone(),
        unpacked,
    })
}

/// The digest of the package that lies in a folder; see [`OpenedPackage::digest`].
///
/// # Errors
/// As [`open`].
pub fn digest_of(folder: &Path) -> Result<String, OpenError> {
    let scanned = folder::scan(folder, folder, &OpenLimits::default())?;
    Ok(digest::of(&scanned.listing))
}

impl OpenedPackage {
    /// True where [`OpenedPackage::root`] is a temporary folder.
    pub fn is_unpacked(&self) -> bool {
        self.unpacked.is_some()
    }

    /// Reads every file again and compares: a folder may have been edited since it was opened, and then its digest
    /// does not tell what was deployed.
    ///
    /// # Errors
    /// [`OpenError::Changed`], with the first file that differs, and those of [`open`].
    pub fn verify_unchanged(&self) -> Result<(), OpenError> {
        let top = self
            .unpacked
            .as_ref()
            .map_or(self.source.as_path(), TempDir::path);
        let now = folder::scan(&self.source, top, &self.limits)?;
        if now.listing == self.listing {
            return Ok(());
        }
        let differing = now.listing.iter().find(|file| !self.listing.contains(file));
        let gone = self.listing.iter().find(|file| !now.listing.contains(file));
        let file = differing
            .or(gone)
            .map(|file| file.path.clone())
            .unwrap_or_default();
        Err(OpenError::Changed {
            path: self.source.clone(),
            file,
        })
    }
}
