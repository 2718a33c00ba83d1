//! What containers wrote to their own filesystems.

use bollard::models::ChangeType;

use super::error::{Doing, EngineError};
use super::{Attach, ContainerSpec, Engine, Labels};

/// A path at which a container's own filesystem differs from its image's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedPath {
    /// Absolute.
    pub path: String,
    /// Modified, rather than added or deleted. A folder counts as modified when something in it came or went.
    pub modified: bool,
}

impl Engine {
    /// What each of these containers, which do not run, wrote to its own filesystem.
    ///
    /// The engine can be asked, but some of its storage drivers (fuse-overlayfs, vfs) then compare the whole image
    /// file by file. Where it says in which folder it keeps a container's layer, `helper`, an image with our agent,
    /// looks there instead: what that costs depends on the changes alone.
    ///
    /// # Errors
    /// When a container does not exist, or the engine does not answer.
    pub async fn changed_paths(
        &self,
        containers: &[&str],
        helper: (&str, &str),
        labels: &Labels,
    ) -> Result<Vec<Vec<ChangedPath>>, EngineError> {
        let mut layers = Vec::new();
        for name in containers {
            layers.extend(self.container_state(name).await?.layer);
        }
        if layers.len() == containers.len() && !layers.is_empty() {
            // A layer that cannot be looked at from a container (a remote or nested engine) is no error: the engine
            // itself is asked then.
            if let Ok(changes) = self.look_at_layers(&layers, helper, labels).await {
                return Ok(changes);
            }
        }
        let asked = containers.iter().map(|name| self.ask_for_changes(name));
        futures_util::future::try_join_all(asked).await
    }

    async fn look_at_layers(
        &self,
        layers: &[String],
        (name, image): (&str, &str),
        labels: &Labels,
    ) -> Result<Vec<Vec<ChangedPath>>, EngineError> {
        let mut spec = ContainerSpec::new(name, image, Attach::None);
        let mut command = vec!["/rehearse".to_owned(), "agent".into(), "changes".into()];
        for (index, layer) in layers.iter().enumerate() {
            let target = format!("/v/{index}");
            command.push(target.clone());
            spec.engine_folders.push((layer.clone(), target));
        }
        spec.command = Some(command);
        let output = self.run_once(&spec, labels).await?;
        let changes: Vec<Vec<ChangedPath>> = output
            .lines()
            .filter_map(|line| serde_json::from_str::<Vec<String>>(line).ok())
            .map(|paths| {
                paths
                    .into_iter()
                    .map(|path| ChangedPath {
                        path,
                        modified: false,
                    })
                    .collect()
            })
            .collect();
        if changes.len() == layers.len() {
            Ok(changes)
        } else {
            Err(EngineError::new(
                "look at what containers changed",
                "the helper answered for fewer of them",
            ))
        }
    }

    async fn ask_for_changes(&self, name: &str) -> Result<Vec<ChangedPath>, EngineError> {
        let changes = self
            .docker
            .container_changes(name)
            .await
            .doing(|| format!("list the changes of container `{name}`"))?;
        Ok(changes
            .unwrap_or_default()
            .into_iter()
            .map(|change| ChangedPath {
                path: change.path,
                modified: matches!(change.kind, ChangeType::_0),
            })
            .collect())
    }
}
