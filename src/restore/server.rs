//! A service that runs alone on the volumes of a base in the making.

use std::collections::BTreeMap;
use std::time::Duration;

use super::trouble::not_started;
use crate::engine::{EngineError, VolumeAt, VolumeFacts};
use crate::event::Owner;
use crate::plan::model::Healthcheck;
use crate::staging::{Bad, Blueprint, Running, Staging};

/// A clean stop writes everything to disk; after a large restore that takes time, and a kill would make the base
/// one that has to recover.
const STOP_GRACE: Duration = Duration::from_secs(600);

/// A service that runs alone on the volumes of a base in the making.
#[derive(Debug)]
pub struct Server {
    /// Its container.
    pub running: Running,
}

/// The service's own volumes, mounted as it mounts them.
pub(in crate::restore) fn mounts(
    blueprint: &Blueprint,
    volumes: &BTreeMap<String, VolumeFacts>,
) -> Vec<VolumeAt> {
    blueprint
        .service
        .volumes_with(&blueprint.facts)
        .into_iter()
        .filter_map(|(name, at)| {
            let facts = volumes.get(&name)?;
            Some(VolumeAt {
                volume: facts.name.clone(),
                read_only: false,
                ..at
            })
        })
        .collect()
}

impl Server {
    /// Starts the service on its volumes, as the stack describes it, and waits until it is ready and answers on
    /// `port`, where one is given. `more` is mounted besides; `owner` is at fault where it does not get ready.
    ///
    /// # Errors
    /// When it does not get ready.
    pub async fn start(
        staging: &Staging,
        mut blueprint: Blueprint,
        volumes: &BTreeMap<String, VolumeFacts>,
        more: Vec<VolumeAt>,
        port: impl Into<Option<u16>>,
        owner: Owner,
    ) -> Result<Self, Bad> {
        let ground = &staging.ground;
        // It stands alone: what it depends on in the stack is not there yet.
        blueprint.service.depends_on.clear();
        if let Some(port) = port.into()
            && !blueprint.service.tcp_ports.contains(&port)
        {
            blueprint.service.tcp_ports.push(port);
        }
        let mut at = mounts(&blueprint, volumes);
        at.extend(more);
        let container = Self::container(staging, &blueprint.service.name);
        let network = (staging.network.name.as_str(), staging.network.resolver);
        let mut spec = ground.service_spec(&blueprint, container.clone(), network, at);
        // The engine would start a process in the container four times a second for as long as the restore takes, where
        // a stack asks for that. When it is ready is looked at by ourselves.
        spec.healthcheck = Some(Healthcheck::disabled());
        ground
            .engine
            .create_container(&spec, &ground.labels)
            .await?;
        ground
            .upload_service_files(&blueprint.service, &container)
            .await?;
        ground.engine.start_container(&container).await?;
        let running = Running {
            blueprint,
            container,
        };
        staging.await_ready(&running).await.map_err(|error| {
            // A server that cannot read its data ends. One that runs and does not answer is still at it.
            let unhealthy = match owner {
                Owner::Backup => Owner::Staging,
                other => other,
            };
            let operation = format!("start `{}`", running.blueprint.service.name);
            not_started(&error, owner, unhealthy, &operation)
        })?;
        Ok(Self { running })
    }

    /// The engine's name of the container in which a service is restored.
    pub fn container(staging: &Staging, service: &str) -> String {
        staging.ground.names.of(&format!("restore-{service}"))
    }

    /// The service's name.
    pub fn service(&self) -> &str {
        &self.running.blueprint.service.name
    }

    /// The server's whole log.
    ///
    /// # Errors
    /// When its container is gone.
    pub async fn log(&self, staging: &Staging) -> Result<String, EngineError> {
        staging
            .ground
            .engine
            .container_log(&self.running.container, None)
            .await
    }

    /// Stops the server cleanly and removes its container; its volumes can be frozen now.
    ///
    /// # Errors
    /// When it did not end with exit code 0: then its volumes are not what a base is made of.
    pub async fn stop_cleanly(self, staging: &Staging) -> Result<(), Bad> {
        let engine = &staging.ground.engine;
        let container = &self.running.container;
        engine.stop_container(container, STOP_GRACE).await?;
        let state = engine.container_state(container).await?;
        if state.exit_code != Some(0) {
            let log = engine.container_log(container, Some(5)).await?;
            let bad = Bad::new(
                Owner::Staging,
                format!(
                    "service `{}` did not stop cleanly after the restore (exit code {:?}): {}",
                    self.service(),
                    state.exit_code,
                    log.trim().replace('\n', " | ")
                ),
            )
            .with_help("the image's stop signal should be SIGINT (fast shutdown) or SIGTERM");
            return Err(Bad {
                // The engine kills what does not stop in time: that is no want of memory.
                overrun: state.exit_code == Some(137),
                ..bad
            });
        }
        engine.remove_container(container).await?;
        Ok(())
    }
}
