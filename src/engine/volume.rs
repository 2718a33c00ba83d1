//! Volumes: plain ones, and copy-on-write branches of them by the built-in `local` driver.

use std::collections::HashMap;

use bollard::models::VolumeCreateRequest;
use bollard::query_parameters::{ListVolumesOptions, RemoveVolumeOptions};

use super::error::{Doing, EngineError};
use super::{Engine, Labels, Purpose};

/// A volume as the engine sees it.
#[derive(Clone, Debug)]
pub struct VolumeFacts {
    /// Its name.
    pub name: String,
    /// Where its content lies on the engine's host.
    pub mountpoint: String,
    /// Its labels.
    pub labels: HashMap<String, String>,
}

impl Engine {
    /// Makes a plain volume. Making one that exists already returns that one.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn create_volume(
        &self,
        name: &str,
        labels: &Labels,
        purpose: Purpose,
        more: HashMap<String, String>,
    ) -> Result<VolumeFacts, EngineError> {
        self.create(name, labels, purpose, more, HashMap::new())
            .await
    }

    /// Makes a volume that shows `lowers` (uppermost first, never written to) with everything that is written
    /// going to `upper`. Nothing is copied and nothing is mounted until a container uses it. All paths are on the
    /// engine's host.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn create_overlay_volume(
        &self,
        name: &str,
        labels: &Labels,
        lowers: &[String],
        layer: &str,
    ) -> Result<VolumeFacts, EngineError> {
        let options = HashMap::from([
            ("type".to_owned(), "overlay".to_owned()),
            ("device".to_owned(), "overlay".to_owned()),
            (
                "o".to_owned(),
                format!(
                    "lowerdir={},upperdir={layer}/upper,workdir={layer}/work",
                    lowers.join(":")
                ),
            ),
        ]);
        self.create(name, labels, Purpose::Run, HashMap::new(), options)
            .await
    }

    async fn create(
        &self,
        name: &str,
        labels: &Labels,
        purpose: Purpose,
        more: HashMap<String, String>,
        driver_opts: HashMap<String, String>,
    ) -> Result<VolumeFacts, EngineError> {
        let mut labels = labels.of(purpose);
        labels.extend(more);
        let request = VolumeCreateRequest {
            name: Some(name.to_owned()),
            driver: Some("local".to_owned()),
            driver_opts: Some(driver_opts),
            labels: Some(labels),
            ..VolumeCreateRequest::default()
        };
        let docker = self.docker.clone();
        let made = self
            .make(async move { docker.create_volume(request).await }, || {
                format!("create volume `{name}`")
            })
            .await?;
        Ok(VolumeFacts {
            name: made.name,
            mountpoint: made.mountpoint,
            labels: made.labels,
        })
    }

    /// A volume; `None` when it does not exist.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn volume(&self, name: &str) -> Result<Option<VolumeFacts>, EngineError> {
        let seen = self
            .docker
            .inspect_volume(name)
            .await
            .doing(|| format!("inspect volume `{name}`"));
        match seen {
            Ok(seen) => Ok(Some(VolumeFacts {
                name: seen.name,
                mountpoint: seen.mountpoint,
                labels: seen.labels,
            })),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All volumes with one label.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn volumes_with(&self, label: &str) -> Result<Vec<VolumeFacts>, EngineError> {
        let options = ListVolumesOptions {
            filters: Some(HashMap::from([(
                "label".to_owned(),
                vec![label.to_owned()],
            )])),
        };
        let listed = self
            .docker
            .list_volumes(Some(options))
            .await
            .doing(|| "list volumes".into())?;
        Ok(listed
            .volumes
            .unwrap_or_default()
            .into_iter()
            .map(|volume| VolumeFacts {
                name: volume.name,
                mountpoint: volume.mountpoint,
                labels: volume.labels,
            })
            .collect())
    }

    /// Removes a volume. One that is gone is fine.
    ///
    /// # Errors
    /// When a container still uses it.
    pub async fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        let removed = self
            .docker
            .remove_volume(name, None::<RemoveVolumeOptions>)
            .await
            .doing(|| format!("remove volume `{name}`"));
        match removed {
            Err(error) if error.is_not_found() => Ok(()),
            other => other,
        }
    }
}
