//! What `rehearse manifest` takes at the source of a backup: the counts of one consistent view, written beside the
//! backup. The form is [`SourceManifest`], which the ladder compares a restore with.

pub mod mariadb;
pub mod postgres;
pub mod sqlite;

use std::io::Write as _;
use std::path::Path;

use crate::backup::{BackupError, Wanted};
use crate::check::source::{BackupDigest, SourceManifest};

/// Why a manifest could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The source does not answer, or refuses.
    #[error("cannot {doing}: {reason}")]
    Source {
        /// The operation.
        doing: String,
        /// What the source said.
        reason: String,
        /// What to do.
        help: &'static str,
    },
    /// The backup that it belongs to cannot be read.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The manifest cannot be written.
    #[error("cannot write `{path}`: {reason}")]
    Output {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
}

impl SourceError {
    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Source { help, .. } => help,
            Self::Backup(error) => error.help(),
            Self::Output { .. } => "check the folder, its permissions and the disk it lies on",
        }
    }
}

/// The digest of a backup, of whatever kind, as a restore's preflight computes it.
///
/// # Errors
/// When it cannot be read, or is empty.
pub fn digest(backup: &Path) -> Result<BackupDigest, SourceError> {
    let facts = crate::backup::inspect(backup, Wanted::Any)?;
    Ok(BackupDigest {
        sha256: facts.sha256,
        size: facts.size,
    })
}

/// The manifest as text.
pub fn text(manifest: &SourceManifest) -> String {
    // Maps of strings and numbers: they always can be written.
    let mut text = serde_json::to_string_pretty(manifest).unwrap_or_default();
    text.push('\n');
    text
}

/// Writes a manifest in one step: a reader sees the old file or the new one, never half of it. Only its owner may read
/// it.
///
/// # Errors
/// When the folder cannot be written.
pub fn write(manifest: &SourceManifest, path: &Path) -> Result<(), SourceError> {
    let failed = |error: &dyn std::fmt::Display| SourceError::Output {
        path: path.display().to_string(),
        reason: error.to_string(),
    };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // Made with mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|error| failed(&error))?;
    file.write_all(text(manifest).as_bytes())
        .and_then(|()| file.as_file().sync_all())
        .map_err(|error| failed(&error))?;
    file.persist(path).map_err(|error| failed(&error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::check::source::{DatabaseFacts, VERSION};

    #[test]
    fn a_manifest_is_written_for_its_owner_alone_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let backup = folder.path().join("site.dump");
        std::fs::write(&backup, "hello\n").unwrap();
        let manifest = SourceManifest {
            source_manifest: VERSION,
            taken: jiff::Timestamp::UNIX_EPOCH,
            family: "postgres".to_owned(),
            server_version: "15.14".to_owned(),
            backup: Some(digest(&backup).unwrap()),
            databases: BTreeMap::from([(
                "site".to_owned(),
                DatabaseFacts {
                    tables: BTreeMap::from([("public.invoice".to_owned(), 412)]),
                    sequences: BTreeMap::from([("public.invoice_id".to_owned(), None)]),
                    ..DatabaseFacts::default()
                },
            )]),
        };
        let path = folder.path().join("site.json");
        std::fs::write(&path, "old").unwrap();
        write(&manifest, &path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let read: SourceManifest =
            serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(read, manifest);
        let digest = read.backup.unwrap();
        // `echo hello | sha256sum`
        assert!(
            digest
                .sha256
                .starts_with("5891b5b522d5df086d0ff0b110fbd9d2")
        );
        assert_eq!(digest.size, 6);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
        let nowhere = folder.path().join("no/site.json");
        assert!(write(&manifest, &nowhere).is_err());
    }
}
