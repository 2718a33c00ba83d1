//! Rights that one process at a time has, and waiting for their end.
//!
//! The engine may be shared by machines, so no file can be the lock. The name of a container can: the engine gives it
//! to one container at a time (409 for everybody else, on all engines from 20.10 on), and unlike a volume a container
//! also has an id, so what a dead owner left can be removed without ever removing what its successor made under
//! the same name. The container is never started.

use std::collections::HashMap;
use std::time::Duration;

use bollard::query_parameters::{
    CreateContainerOptions, EventsOptions, ListContainersOptions, WaitContainerOptions,
};
use futures_util::StreamExt;

use super::error::{Doing, EngineError};
use super::spec::create_body;
use super::{ContainerSpec, Engine, Labels, Purpose};

/// A container as far as a claim needs it.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The engine's id, which is never given again.
    pub id: String,
    /// Its labels.
    pub labels: HashMap<String, String>,
}

impl Engine {
    /// Makes a container and returns its id; `None` where its name is taken.
    ///
    /// # Errors
    /// When the engine refuses for another reason.
    pub async fn claim(
        &self,
        spec: &ContainerSpec,
        labels: &Labels,
        more: HashMap<String, String>,
    ) -> Result<Option<String>, EngineError> {
        let options = CreateContainerOptions {
            name: Some(spec.name.clone()),
            ..CreateContainerOptions::default()
        };
        let mut labels = labels.of(Purpose::Base);
        labels.extend(more);
        let body = create_body(spec, labels);
        let docker = self.docker.clone();
        let made = self
            .make(
                async move { docker.create_container(Some(options), body).await },
                || format!("create container `{}` from `{}`", spec.name, spec.image),
            )
            .await;
        match made {
            Ok(made) => Ok(Some(made.id)),
            Err(error) if error.status == Some(409) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The container that has a name; `None` when there is none.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn claimed(&self, name: &str) -> Result<Option<Claimed>, EngineError> {
        let seen = self
            .docker
            .inspect_container(name, None)
            .await
            .doing(|| format!("inspect container `{name}`"));
        match seen {
            Ok(seen) => Ok(Some(Claimed {
                id: seen.id.unwrap_or_default(),
                labels: seen
                    .config
                    .and_then(|config| config.labels)
                    .unwrap_or_default(),
            })),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All containers with one label, whatever they do.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn claims_with(&self, label: &str) -> Result<Vec<Claimed>, EngineError> {
        let listed = self
            .docker
            .list_containers(Some(ListContainersOptions {
                all: true,
                filters: Some(HashMap::from([(
                    "label".to_owned(),
                    vec![label.to_owned()],
                )])),
                ..ListContainersOptions::default()
            }))
            .await
            .doing(|| "list containers".into())?;
        Ok(listed
            .into_iter()
            .map(|container| Claimed {
                id: container.id.unwrap_or_default(),
                labels: container.labels.unwrap_or_default(),
            })
            .collect())
    }

    /// Waits until a container is removed. The engine tells (`wait` with the condition `removed`), and of one that is
    /// gone already it says so at once: nothing can be missed in between.
    ///
    /// # Errors
    /// When the engine hangs up.
    pub async fn container_gone(&self, id: &str) -> Result<(), EngineError> {
        let options = WaitContainerOptions {
            condition: "removed".to_owned(),
        };
        let mut waiting = self.docker.wait_container(id, Some(options));
        match waiting.next().await {
            Some(Ok(_)) | Some(Err(bollard::errors::Error::DockerContainerWaitError { .. })) => {
                Ok(())
            }
            Some(Err(error)) => {
                match Err(error).doing(|| format!("wait for the end of container `{id}`")) {
                    Err(error) if !error.is_not_found() => Err(error),
                    Ok(()) | Err(_) => Ok(()),
                }
            }
            None => Err(EngineError::new(
                format!("wait for the end of container `{id}`"),
                "the engine hung up",
            )),
        }
    }

    /// Waits until a volume is removed, by the engine's events.
    ///
    /// # Errors
    /// When the engine hangs up.
    pub async fn volume_gone(&self, name: &str) -> Result<(), EngineError> {
        let filters = [("type", "volume"), ("event", "destroy"), ("volume", name)]
            .map(|(key, value)| (key.to_owned(), vec![value.to_owned()]));
        let mut events = self.docker.events(Some(EventsOptions {
            filters: Some(HashMap::from(filters)),
            ..EventsOptions::default()
        }));
        // What happened before the engine took the subscription is not told, and there is no word that it took it: so it
        // is also asked, at once and now and then.
        let mut ask = tokio::time::interval(Duration::from_secs(2));
        loop {
            tokio::select! {
                event = events.next() => return match event {
                    Some(Ok(_)) => Ok(()),
                    Some(Err(error)) => Err(error).doing(|| "follow the engine's events".into()),
                    None => Err(EngineError::new("follow the engine's events", "the engine hung up")),
                },
                _ = ask.tick() => if self.volume(name).await?.is_none() {
                    return Ok(());
                }
            }
        }
    }
}
