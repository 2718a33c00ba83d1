//! A file archive into a volume.

use crate::engine::{Attach, ContainerSpec, VolumeAt};
use crate::restore::{BackupFacts, archive};
use crate::staging::{Bad, Staging};

/// Unpacks an archive into a plain volume. The archive is re-written on the way, so that the engine gets nothing
/// that could leave the volume; owners are kept as numbers.
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
        target: "/v".into(),
        read_only: false,
    }];
    ground
        .engine
        .create_container(&spec, &ground.labels)
        .await?;
    let facts = facts.clone();
    let uploaded = ground
        .engine
        .upload_tar(&name, "/v", move |out| {
            archive::safe_tar(&facts.path, &facts, out).map_err(std::io::Error::other)
        })
        .await;
    ground.engine.remove_container(&name).await?;
    uploaded?;
    Ok(())
}
