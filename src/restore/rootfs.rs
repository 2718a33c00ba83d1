//! A root filesystem becomes the image of a service.
//!
//! The engine unpacks it, with its owners, links, device files and set-user bits; nothing of it is unpacked on this
//! machine. The image is named by the backup's content and shared by all runs, as a base is.

use std::time::Instant;

use jiff::Timestamp;

use crate::backup::{BackupFacts, open_decompressed};
use crate::engine::{EngineError, ImageFacts};
use crate::event::Owner;
use crate::plan::model::Restore;
use crate::staging::{Bad, Ground};

/// How the image came to be there.
#[derive(Clone, Copy, Debug)]
pub struct Imported {
    /// Seconds that it took.
    pub seconds: f64,
    /// It was there: an earlier run imported the same backup.
    pub reused: bool,
}

/// The image's name, by the backup's content.
pub fn reference(facts: &BackupFacts) -> String {
    let digest = facts.sha256.trim_start_matches("sha256:");
    format!("rehearse-rootfs:{}", digest.get(..24).unwrap_or(digest))
}

/// Makes sure that the image of a root filesystem is there. It carries the label of what runs share, so
/// `rehearse sweep --bases` removes it, and the engine keeps it for as long as a container is made of it.
///
/// # Errors
/// The backup is at fault where the engine cannot read it as a tar.
pub async fn import(
    ground: &Ground,
    restore: &Restore,
    facts: &BackupFacts,
) -> Result<(ImageFacts, Imported), Bad> {
    let begun = Instant::now();
    let reference = reference(facts);
    let imported = |reused| Imported {
        seconds: begun.elapsed().as_secs_f64(),
        reused,
    };
    if let Some(image) = ground.engine.image(&reference).await? {
        return Ok((image, imported(true)));
    }
    let changes = vec![
        "LABEL rehearse.purpose=shared".to_owned(),
        format!("LABEL rehearse.created={}", Timestamp::now()),
    ];
    let (path, compression) = (facts.path.clone(), facts.compression);
    ground
        .engine
        .import_rootfs(&reference, changes, move |out| {
            std::io::copy(&mut open_decompressed(&path, compression)?, out).map(drop)
        })
        .await
        .map_err(|error| blame(restore, &error))?;
    match ground.engine.image(&reference).await? {
        Some(image) => Ok((image, imported(false))),
        None => Err(Bad::new(
            Owner::Engine,
            format!("{reference} is not there although it was just imported"),
        )),
    }
}

fn blame(restore: &Restore, error: &EngineError) -> Bad {
    let mut bad = Bad::from(error);
    bad.reason = format!(
        "the root filesystem of {} cannot be imported: {error}",
        restore.name
    );
    if is_no_tar(&error.cause) {
        bad.owner = Owner::Backup;
    }
    bad
}

/// True where the engine did not understand what it was given.
fn is_no_tar(cause: &str) -> bool {
    ["archive/tar", "unexpected eof", "invalid tar header"]
        .iter()
        .any(|words| cause.to_lowercase().contains(words))
}

#[cfg(test)]
mod tests {
    use super::is_no_tar;

    #[test]
    fn a_full_disk_is_not_the_backups_fault() {
        for (cause, expected) in [
            (
                "Error processing tar file(exit status 1): unexpected EOF",
                true,
            ),
            ("archive/tar: invalid tar header", true),
            (
                "Error processing tar file(exit status 1): write /x: no space left on device",
                false,
            ),
            ("Cannot connect to the Docker daemon", false),
        ] {
            assert_eq!(is_no_tar(cause), expected, "{cause}");
        }
    }
}
