//! Why a package cannot be opened.

use std::io;
use std::path::{Path, PathBuf};

use crate::archive::ArchiveError;

/// Why a package cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is not there, or this machine may not read it.
    #[error("cannot read package `{}`: {source}", path.display())]
    Unreadable {
        /// The package, or the file in it.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that is no archive.
    #[error("cannot open package `{}`: expected a folder, tar, tar.gz, tar.zst or zip, found {seen}", path.display())]
    NotAPackage {
        /// The package.
        path: PathBuf,
        /// What it seems to be.
        seen: String,
    },
    /// There is no file in it.
    #[error("cannot open package `{}`: it holds no files", path.display())]
    Empty {
        /// The package.
        path: PathBuf,
    },
    /// Something in it is not safe to unpack or to use.
    #[error("cannot open package `{}`: entry `{entry}` {reason}", path.display())]
    Refused {
        /// The package.
        path: PathBuf,
        /// The entry, as it is named there.
        entry: String,
        /// The end of a sentence that begins with the entry.
        reason: String,
    },
    /// It ends before it should.
    #[error("cannot open package `{}`: it is truncated: {what}", path.display())]
    Truncated {
        /// The package.
        path: PathBuf,
        /// Where it ends.
        what: String,
    },
    /// It contradicts itself or a checksum in it.
    #[error("cannot open package `{}`: {what}", path.display())]
    Damaged {
        /// The package.
        path: PathBuf,
        /// Where and how.
        what: String,
    },
    /// It uses something that this version does not read.
    #[error("cannot open package `{}`: {what}", path.display())]
    Unsupported {
        /// The package.
        path: PathBuf,
        /// What.
        what: String,
    },
    /// It exceeds [`super::OpenLimits`].
    #[error("cannot open package `{}`: {what}", path.display())]
    TooBig {
        /// The package.
        path: PathBuf,
        /// Which limit.
        what: String,
    },
    /// Its files are not those of its `SHA256SUMS`.
    #[error("cannot open package `{}`: its files are not those of its SHA256SUMS:\n  {}", path.display(), problems.join("\n  "))]
    Sums {
        /// The package.
        path: PathBuf,
        /// Every deviation, sorted.
        problems: Vec<String>,
    },
    /// It is not what it was when it was opened.
    #[error("package `{}` changed since it was opened: `{file}` differs", path.display())]
    Changed {
        /// The package.
        path: PathBuf,
        /// The first file that differs.
        file: String,
    },
    /// Its file became another one between the reading that judges it and the one that unpacks it.
    #[error("cannot unpack package `{}`: it changed while it was read", path.display())]
    ChangedMeanwhile {
        /// The package.
        path: PathBuf,
    },
    /// There is no place to unpack it to.
    #[error("cannot unpack package `{}` into the temporary folder: {source}", path.display())]
    Unpack {
        /// The package.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl OpenError {
    /// False where this machine is at fault: it could not read the package, or not unpack it, or somebody changed it.
    pub fn is_package_fault(&self) -> bool {
        match self {
            Self::Unreadable { .. }
            | Self::Unpack { .. }
            | Self::Changed { .. }
            | Self::ChangedMeanwhile { .. } => false,
            Self::NotAPackage { .. }
            | Self::Empty { .. }
            | Self::Refused { .. }
            | Self::Truncated { .. }
            | Self::Damaged { .. }
            | Self::Unsupported { .. }
            | Self::TooBig { .. }
            | Self::Sums { .. } => true,
        }
    }

    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "check the path and its permissions",
            Self::NotAPackage { .. } => {
                "hand over the folder with `deploy.yaml`, `DEPLOY.md`, `deploy.sh` or `compose.yaml`, or an archive of it"
            }
            Self::Empty { .. } => "check the command that made it; nothing was packed",
            Self::Refused { .. } => {
                "pack it again without this entry; a package may only hold files, folders and links among them"
            }
            Self::Truncated { .. } => {
                "transfer it again and compare its size and checksum with the original's"
            }
            Self::Damaged { .. } => "transfer it again, or pack it again",
            Self::Unsupported { .. } => "pack it as plain tar.gz, tar.zst or zip",
            Self::TooBig { .. } => {
                "look at what it holds; if it is meant to be so large, hand it over as a folder"
            }
            Self::Sums { .. } => {
                "have its authors write SHA256SUMS last, over all files, and transfer it again"
            }
            Self::Changed { .. } | Self::ChangedMeanwhile { .. } => {
                "rehearse a copy that nobody edits meanwhile"
            }
            Self::Unpack { .. } => "free space there, or point TMPDIR to a larger place",
        }
    }

    pub(super) fn from_archive(path: &Path, error: ArchiveError) -> Self {
        let path = path.to_owned();
        match error {
            ArchiveError::Refused { entry, reason } => Self::Refused {
                path,
                entry,
                reason,
            },
            ArchiveError::Truncated(what) => Self::Truncated { path, what },
            ArchiveError::Damaged(what) => Self::Damaged { path, what },
            ArchiveError::Unsupported(what) => Self::Unsupported { path, what },
            ArchiveError::TooBig(what) => Self::TooBig { path, what },
            ArchiveError::Read(source) => Self::Unreadable { path, source },
            ArchiveError::Write(source) => Self::Unpack { path, source },
        }
    }
}
