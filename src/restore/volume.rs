//! A file archive into a volume.

use crate::backup::{BackupFacts, archive};
use crate::engine::{Attach, ContainerSpec, VolumeAt};
use crate::staging::{Bad, Staging};

/// Where the volume is mounted, below `/`.
const MOUNT: &str = "v";

/// Unpacks an archive into a plain volume. The archive is re-written on the way, so that the engine gets nothing
/// that could leave the volume; owners are kept as numbers. The volume's own folder gets the owner, mode and time of the
/// archive's root entry, where there is one.
///
/// # Errors
/// When the archive changed since it was checked, or the engine refuses.
pub async fn fill(staging: &Staging, volume: &str, facts: &BackupFacts) -> Result<(), Bad> {
    let ground = &staging.ground;
    let name = format!("{}-filler", volume);
    let mut spec = ContainerSpec::new(&name, &staging.agent_image, Attach::None);
    // Never started: the engine fills the volumes of a container that exists.
    spec.command = Some(crate::state::agent(&["idle"]));
    spec.volumes = vec![VolumeAt {
        volume: volume.to_owned(),
        target: format!("/{MOUNT}"),
        read_only: false,
    }];
    ground
        .engine
        .create_container(&spec, &ground.labels)
        .await?;
    let facts = facts.clone();
    let uploaded = ground
        .engine
        .upload_tar(&name, "/", move |out| {
            archive::safe_tar(&facts.path, &facts, MOUNT, out).map_err(std::io::Error::other)
        })
        .await;
    ground.engine.remove_container(&name).await?;
    uploaded?;
    Ok(())
}
