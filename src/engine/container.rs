//! Containers: made, started, stopped, removed, looked at.

use std::net::IpAddr;
use std::time::Duration;

use bollard::query_parameters::{
    CreateContainerOptions, KillContainerOptions, RemoveContainerOptions, StopContainerOptions,
    WaitContainerOptions,
};
use futures_util::StreamExt;

use super::error::{Doing, EngineError};
use super::spec::create_body;
use super::{ContainerSpec, Engine, Labels, Purpose};

/// What a container is doing.
#[derive(Clone, Debug)]
pub struct ContainerState {
    /// It runs.
    pub running: bool,
    /// Its health, where it has a check: `starting`, `healthy`, `unhealthy`.
    pub health: Option<String>,
    /// What the last health check wrote.
    pub last_check: Option<String>,
    /// Its exit code, once it has ended.
    pub exit_code: Option<i64>,
    /// It was killed for its memory.
    pub out_of_memory: bool,
    /// Its address on the first network that gave it one.
    pub address: Option<IpAddr>,
    /// The gateway of that network.
    pub gateway: Option<IpAddr>,
    /// Where the engine's host keeps what the container wrote to its own filesystem, for storage drivers that keep it
    /// apart.
    pub layer: Option<String>,
    /// Its processes stand still.
    pub paused: bool,
    /// When it was started, as the engine writes it.
    pub started_at: String,
    /// The networks that it is on, or will be once it is started, in their order.
    pub networks: Vec<String>,
}

impl Engine {
    /// Makes a container without starting it.
    ///
    /// # Errors
    /// When the engine refuses, for instance because the image is gone.
    pub async fn create_container(
        &self,
        spec: &ContainerSpec,
        labels: &Labels,
    ) -> Result<(), EngineError> {
        let options = CreateContainerOptions {
            name: Some(spec.name.clone()),
            ..CreateContainerOptions::default()
        };
        let docker = self.docker.clone();
        let body = create_body(spec, labels.of(Purpose::Run));
        self.make(
            async move { docker.create_container(Some(options), body).await },
            || format!("create container `{}` from `{}`", spec.name, spec.image),
        )
        .await?;
        Ok(())
    }

    /// Starts a container; starting one that runs is not an error.
    ///
    /// # Errors
    /// When its command does not exist, a volume cannot be mounted, and so on.
    pub async fn start_container(&self, name: &str) -> Result<(), EngineError> {
        self.docker
            .start_container(name, None)
            .await
            .doing(|| format!("start container `{name}`"))
    }

    /// Asks a container to stop by its own signal and kills it after `grace`. One that is gone or has ended is fine.
    ///
    /// # Errors
    /// When the engine cannot stop it.
    pub async fn stop_container(&self, name: &str, grace: Duration) -> Result<(), EngineError> {
        let options = StopContainerOptions {
            t: Some(i32::try_from(grace.as_secs()).unwrap_or(i32::MAX)),
            ..StopContainerOptions::default()
        };
        absent_is_fine(
            self.docker
                .stop_container(name, Some(options))
                .await
                .doing(|| format!("stop container `{name}`")),
        )
    }

    /// Kills a container and everything in it at once. One that is gone or has ended is fine.
    ///
    /// # Errors
    /// When the engine cannot kill it.
    pub async fn kill_container(&self, name: &str) -> Result<(), EngineError> {
        let options = KillContainerOptions {
            signal: "SIGKILL".to_owned(),
        };
        absent_is_fine(
            self.docker
                .kill_container(name, Some(options))
                .await
                .doing(|| format!("kill container `{name}`")),
        )
    }

    /// Sends a signal to a container's main process.
    ///
    /// # Errors
    /// When the engine refuses, also where the container does not run.
    pub async fn signal_container(&self, name: &str, signal: &str) -> Result<(), EngineError> {
        let options = KillContainerOptions {
            signal: signal.to_owned(),
        };
        self.docker
            .kill_container(name, Some(options))
            .await
            .doing(|| format!("send {signal} to container `{name}`"))
    }

    /// Lets nothing in a container run until [`Engine::unpause_container`]. One that is gone or does not run is fine.
    ///
    /// # Errors
    /// When the engine cannot.
    pub async fn pause_container(&self, name: &str) -> Result<(), EngineError> {
        let paused = self.docker.pause_container(name).await;
        match paused.doing(|| format!("pause container `{name}`")) {
            Err(error) if matches!(error.status, Some(404 | 409)) => Ok(()),
            other => other,
        }
    }

    /// Lets a container go on. One that is gone or is not paused is fine.
    ///
    /// # Errors
    /// When the engine cannot.
    pub async fn unpause_container(&self, name: &str) -> Result<(), EngineError> {
        let unpaused = self.docker.unpause_container(name).await;
        match unpaused.doing(|| format!("unpause container `{name}`")) {
            Err(error)
                if matches!(error.status, Some(404 | 409 | 500))
                    && error.cause.contains("not paused") =>
            {
                Ok(())
            }
            Err(error) if error.is_not_found() => Ok(()),
            other => other,
        }
    }

    /// Removes a container, running or not, with the anonymous volumes that it alone used. One that is gone is fine.
    ///
    /// One after the other: in engines before 23 two containers that leave the same network in the same moment can hang
    /// the whole engine for ever. Its `processEndpointDelete` waits for the network with the controller's lock in its
    /// hand, and its `getSvcRecords` the other way round (seen in the stacks of a hung 20.10.24).
    ///
    /// # Errors
    /// When the engine cannot remove it.
    pub async fn remove_container(&self, name: &str) -> Result<(), EngineError> {
        let options = RemoveContainerOptions {
            force: true,
            v: true,
            ..RemoveContainerOptions::default()
        };
        let _one_at_a_time = self.leaving.lock().await;
        absent_is_fine(
            self.docker
                .remove_container(name, Some(options))
                .await
                .doing(|| format!("remove container `{name}`")),
        )
    }

    /// What a container is doing.
    ///
    /// # Errors
    /// When it does not exist.
    pub async fn container_state(&self, name: &str) -> Result<ContainerState, EngineError> {
        let seen = self
            .docker
            .inspect_container(name, None)
            .await
            .doing(|| format!("inspect container `{name}`"))?;
        let layer = seen
            .graph_driver
            .and_then(|driver| driver.data.get("UpperDir").cloned());
        let state = seen.state.unwrap_or_default();
        let running = state.running.unwrap_or(false);
        let (health, last_check) = match state.health {
            Some(health) => (
                health.status.map(|status| status.to_string()),
                health
                    .log
                    .and_then(|log| log.into_iter().next_back())
                    .and_then(|check| check.output),
            ),
            None => (None, None),
        };
        let networks = seen
            .network_settings
            .and_then(|settings| settings.networks)
            .unwrap_or_default();
        let mut names: Vec<String> = networks.keys().cloned().collect();
        names.sort();
        let (address, gateway) = networks
            .into_iter()
            .find_map(|(_, endpoint)| {
                let address: IpAddr = endpoint.ip_address?.parse().ok()?;
                let gateway = endpoint.gateway.and_then(|text| text.parse().ok());
                Some((address, gateway))
            })
            .unzip();
        let gateway = gateway.flatten();
        Ok(ContainerState {
            running,
            health: health.filter(|status| !status.is_empty() && status != "none"),
            last_check,
            exit_code: if running { None } else { state.exit_code },
            out_of_memory: state.oom_killed.unwrap_or(false),
            address,
            gateway,
            layer,
            paused: state.paused.unwrap_or(false),
            started_at: state.started_at.unwrap_or_default(),
            networks: names,
        })
    }

    /// Waits until a container has ended and returns its exit code.
    ///
    /// # Errors
    /// When it does not exist, or the engine hangs up.
    pub async fn wait_container(&self, name: &str) -> Result<i64, EngineError> {
        let options = WaitContainerOptions {
            condition: "not-running".to_owned(),
        };
        let mut waiting = self.docker.wait_container(name, Some(options));
        match waiting.next().await {
            Some(Ok(end)) => Ok(end.status_code),
            // bollard reports an exit code other than 0 as an error of its own.
            Some(Err(bollard::errors::Error::DockerContainerWaitError { code, .. })) => Ok(code),
            Some(Err(error)) => Err(error).doing(|| format!("wait for container `{name}`")),
            None => Err(EngineError::new(
                format!("wait for container `{name}`"),
                "the engine hung up",
            )),
        }
    }
}

fn absent_is_fine(result: Result<(), EngineError>) -> Result<(), EngineError> {
    match result {
        // 304: it has ended already. 409 on kill: it is not running.
        Err(error) if matches!(error.status, Some(304 | 404)) => Ok(()),
        Err(error)
            if error.status == Some(409)
                && (error.cause.contains("is not running")
                    || error.cause.contains("already in progress")) =>
        {
            Ok(())
        }
        other => other,
    }
}
