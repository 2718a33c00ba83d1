//! Why a backup cannot be restored.

use std::io;
use std::path::{Path, PathBuf};

use super::format::Wanted;
use crate::archive::ArchiveError;

/// Why a backup cannot be restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It is not there, or this machine may not or could not read it.
    #[error("cannot read backup `{}`: {source}", path.display())]
    Unreadable {
        /// The backup.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is nothing in it.
    #[error("cannot restore `{}`: expected a backup, found {seen}", path.display())]
    Empty {
        /// The backup.
        path: PathBuf,
        /// In which way it is empty.
        seen: String,
    },
    /// It ends before it should.
    #[error("cannot restore `{}`: it is truncated: {seen}", path.display())]
    Truncated {
        /// The backup.
        path: PathBuf,
        /// Where it ends, and what was expected there.
        seen: String,
    },
    /// It contradicts itself or a checksum in it.
    #[error("cannot restore `{}`: {seen}", path.display())]
    Damaged {
        /// The backup.
        path: PathBuf,
        /// Where and how.
        seen: String,
    },
    /// It is something else.
    #[error("cannot restore `{}`: expected {expected}, found {seen}", path.display())]
    WrongFormat {
        /// The backup.
        path: PathBuf,
        /// What could have been restored.
        expected: String,
        /// What it is, or how it begins.
        seen: String,
    },
    /// It may be good, but this version does not read it.
    #[error("cannot restore `{}`: {seen}", path.display())]
    Unsupported {
        /// The backup.
        path: PathBuf,
        /// What is not supported.
        seen: String,
    },
    /// An entry of an archive is not safe to unpack.
    #[error("cannot restore `{}`: entry `{entry}` {reason}", path.display())]
    Refused {
        /// The backup.
        path: PathBuf,
        /// The entry, as it is named there.
        entry: String,
        /// The end of a sentence that begins with the entry.
        reason: String,
    },
    /// It is not what it was when it was inspected.
    #[error("backup `{}` changed while it was used: expected {expected}, found {seen}", path.display())]
    Changed {
        /// The backup.
        path: PathBuf,
        /// The digest that was inspected.
        expected: String,
        /// The digest now.
        seen: String,
    },
    /// Nobody takes the stream that is made of it.
    #[error("cannot write what was read from `{}`: {source}", path.display())]
    Output {
        /// The backup.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl BackupError {
    /// True where the backup is bad or was never made; false where it could not be judged: this machine could not read
    /// it or pass it on, it is of a kind that is not supported yet, or somebody wrote to it meanwhile.
    pub fn is_backup_fault(&self) -> bool {
        match self {
            Self::Empty { .. }
            | Self::Truncated { .. }
            | Self::Damaged { .. }
            | Self::WrongFormat { .. }
            | Self::Refused { .. } => true,
            Self::Unreadable { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::Unsupported { .. } | Self::Changed { .. } | Self::Output { .. } => false,
        }
    }

    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "look at the log of the job that should have made it, or correct the path in the rehearsal"
            }
            Self::Unreadable { .. } => "check the path, its permissions and the disk it lies on",
            Self::Empty { .. } => "look at the log of the job that made it; it wrote nothing",
            Self::Truncated { .. } => {
                "look at the log of the job that made it for a full disk or a broken transfer, and make it again"
            }
            Self::Damaged { .. } => {
                "compare its checksum with the original's and transfer it again, or make it again"
            }
            Self::WrongFormat { .. } => "check which file or folder `restore:` names",
            Self::Unsupported { .. } => {
                "make it in one of the formats that `docs/rehearsal.md` lists under `restore`"
            }
            Self::Refused { .. } => "make it again without this entry",
            Self::Changed { .. } => {
                "rehearse a finished backup, not one that is still being written"
            }
            Self::Output { .. } => "the receiver ended early; see the engine's error",
        }
    }

    pub(super) fn unreadable(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        Self::Unreadable { path, source }
    }

    pub(super) fn empty(path: &Path, seen: impl Into<String>) -> Self {
        let (path, seen) = (path.to_owned(), seen.into());
        Self::Empty { path, seen }
    }

    pub(super) fn truncated(path: &Path, seen: impl Into<String>) -> Self {
        let (path, seen) = (path.to_owned(), seen.into());
        Self::Truncated { path, seen }
    }

    pub(super) fn damaged(path: &Path, seen: impl Into<String>) -> Self {
        let (path, seen) = (path.to_owned(), seen.into());
        Self::Damaged { path, seen }
    }

    pub(super) fn unsupported(path: &Path, seen: impl Into<String>) -> Self {
        let (path, seen) = (path.to_owned(), seen.into());
        Self::Unsupported { path, seen }
    }

    pub(super) fn wrong(path: &Path, wanted: Wanted, seen: impl Into<String>) -> Self {
        Self::WrongFormat {
            path: path.to_owned(),
            expected: wanted.expected().to_owned(),
            seen: seen.into(),
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
            ArchiveError::Truncated(seen) => Self::Truncated { path, seen },
            ArchiveError::Damaged(seen) => Self::Damaged { path, seen },
            ArchiveError::Unsupported(seen) | ArchiveError::TooBig(seen) => {
                Self::Unsupported { path, seen }
            }
            ArchiveError::Read(source) => Self::Unreadable { path, source },
            ArchiveError::Write(source) => Self::Output { path, source },
        }
    }
}
