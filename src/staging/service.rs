//! One generation of services: containers and the branches they write to, started in dependency order.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use tokio::sync::watch;

use super::{Ground, Staging};
use crate::agent::protocol::{Answer, Ask};
use crate::engine::{
    Attach, ContainerSpec, EngineError, ExecSpec, HostPaths, ImageFacts, NotReady, VolumeAt,
};
use crate::plan::model::{Condition, Service};
use crate::state::{Branch, Frozen, slug};

/// How a service is made: what the stack says, changed by what the deploy did.
#[derive(Clone, Debug)]
pub struct Blueprint {
    /// The service, with its environment as it is now.
    pub service: Service,
    /// The image that its container is made from.
    pub image: String,
    /// What is known of that image.
    pub facts: ImageFacts,
}

/// A container that stands for a service.
#[derive(Clone, Debug)]
pub struct Running {
    /// How it was made.
    pub blueprint: Blueprint,
    /// The engine's name of its container.
    pub container: String,
}

/// A set of services on branches of one frozen state.
#[derive(Debug)]
pub struct Generation {
    /// `baseline`, `deploy`, `rollback`: part of the names.
    pub name: String,
    /// What the volumes branch to, by the stack's name for them.
    pub branches: BTreeMap<String, Branch>,
    /// In start order.
    pub services: Vec<Running>,
}

/// Why services could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A service did not get ready.
    #[error("service `{service}` did not get ready: {reason}")]
    Service {
        /// The service.
        service: String,
        /// What was seen.
        reason: String,
        /// Its last log lines.
        log: String,
    },
    /// The engine did not do what it was asked.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl StartError {
    /// The sentence with the last log lines behind it.
    pub fn with_log(&self) -> String {
        match self {
            Self::Service { log, .. } if !log.trim().is_empty() => {
                let lines: Vec<&str> = log.lines().map(str::trim_end).collect();
                let from = lines.len().saturating_sub(5);
                format!("{self}; its last log lines: {}", lines[from..].join(" | "))
            }
            Self::Service { .. } | Self::Engine(_) => self.to_string(),
        }
    }
}

/// How far a service has come; the order is the order in which it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Waiting,
    Started,
    Ready,
    Completed,
}

/// The command of a service's health check, where it has one.
fn health_command(blueprint: &Blueprint) -> Option<Vec<String>> {
    let test = match &blueprint.service.healthcheck {
        // Without a test of its own it changes only the intervals of the image's.
        Some(check) if !check.test.is_empty() => &check.test,
        Some(_) | None => blueprint.facts.healthcheck.as_ref()?,
    };
    match test.split_first() {
        Some((kind, command)) if kind == "CMD" => Some(command.to_vec()),
        Some((kind, [script])) if kind == "CMD-SHELL" => {
            Some(vec!["/bin/sh".into(), "-c".into(), script.clone()])
        }
        Some(_) | None => None,
    }
}

/// Lines of a service's log that come with the error about it.
const LOG_LINES: usize = 20;

impl Service {
    /// The volumes of a service by the stack's names, with those that only its image declares under a name of
    /// their own: an anonymous volume belongs to the snapshot like any other.
    pub fn volumes_with(&self, image: &ImageFacts) -> Vec<(String, VolumeAt)> {
        let mut volumes: Vec<(String, VolumeAt)> = self
            .volumes
            .iter()
            .map(|mount| {
                let at = VolumeAt {
                    volume: String::new(),
                    target: mount.target.clone(),
                    read_only: mount.read_only,
                };
                (mount.volume.clone(), at)
            })
            .collect();
        for path in &image.volumes {
            let path = path.trim_end_matches('/');
            let covered = self
                .volumes
                .iter()
                .any(|mount| mount.target.trim_end_matches('/') == path)
                || self.tmpfs.keys().any(|at| at.trim_end_matches('/') == path);
            if !covered {
                let at = VolumeAt {
                    volume: String::new(),
                    target: path.to_owned(),
                    read_only: false,
                };
                volumes.push((slug(&format!("{}-anonymous-{path}", self.name)), at));
            }
        }
        volumes
    }
}

impl Ground {
    /// The container of a service on the isolated network. `volumes` are the engine's.
    pub fn service_spec(
        &self,
        blueprint: &Blueprint,
        container: String,
        network: (&str, std::net::IpAddr),
        volumes: Vec<VolumeAt>,
    ) -> ContainerSpec {
        let service = &blueprint.service;
        let mut aliases = vec![service.name.clone()];
        aliases.extend(service.aliases.iter().cloned());
        let attach = Attach::Network {
            name: network.0.to_owned(),
            aliases,
            dns: Some(network.1),
        };
        let engine_memory = u64::try_from(self.facts.memory).unwrap_or(0);
        ContainerSpec {
            command: service.command.clone(),
            entrypoint: service.entrypoint.clone(),
            environment: service.environment.clone(),
            volumes,
            tmpfs: service.tmpfs.clone(),
            user: service.user.clone(),
            working_dir: service.working_dir.clone(),
            hostname: Some(
                service
                    .hostname
                    .clone()
                    .unwrap_or_else(|| service.name.clone()),
            ),
            healthcheck: service.healthcheck.clone(),
            // A service that says no limit may still not take the engine's host down.
            memory: service
                .memory
                .or_else(|| (engine_memory > 0).then_some(engine_memory / 4 * 3)),
            cpus: service.cpus,
            shm_size: service.shm_size,
            init: service.init,
            read_only: service.read_only,
            stop_signal: service.stop_signal.clone(),
            ..ContainerSpec::new(container, &blueprint.image, attach)
        }
    }

    /// Copies the stack's files, secrets and configs of a service into its container, which need not run.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub async fn upload_service_files(
        &self,
        service: &Service,
        container: &str,
    ) -> Result<(), EngineError> {
        for file in &service.files {
            let paths = HostPaths {
                source: file.source.clone(),
                target: file.target.clone(),
                owner: (file.uid, file.gid),
                mode: file.mode,
            };
            self.engine.upload_paths(container, paths).await?;
        }
        Ok(())
    }
}

impl Staging {
    /// The services as the stack describes them.
    pub fn blueprints(&self) -> Vec<Blueprint> {
        self.ground
            .plan
            .stack
            .services
            .iter()
            .filter_map(|service| {
                let facts = self.images.get(&service.name)?.clone();
                Some(Blueprint {
                    service: service.clone(),
                    image: facts.id.clone(),
                    facts,
                })
            })
            .collect()
    }

    /// Makes branches of what is frozen and containers on them, and starts nothing.
    ///
    /// # Errors
    /// With the generation as far as it came.
    pub async fn prepare(
        &self,
        name: &str,
        blueprints: Vec<Blueprint>,
        frozen: &BTreeMap<String, Frozen>,
    ) -> Result<Generation, (Generation, StartError)> {
        let mut generation = Generation {
            name: name.to_owned(),
            branches: BTreeMap::new(),
            services: blueprints
                .into_iter()
                .map(|blueprint| Running {
                    container: self
                        .ground
                        .names
                        .of(&format!("{name}-{}", blueprint.service.name)),
                    blueprint,
                })
                .collect(),
        };
        match self.state.branch(frozen, name).await {
            Ok(branches) => generation.branches = branches,
            Err(error) => return Err((generation, error.into())),
        }
        let created = try_join_all(
            generation
                .services
                .iter()
                .map(|running| self.create(running, &generation.branches)),
        )
        .await;
        match created {
            Ok(_) => Ok(generation),
            Err(error) => Err((generation, error.into())),
        }
    }

    /// Makes a service's container without starting it.
    async fn create(
        &self,
        running: &Running,
        branches: &BTreeMap<String, Branch>,
    ) -> Result<(), EngineError> {
        let volumes = running
            .blueprint
            .service
            .volumes_with(&running.blueprint.facts)
            .into_iter()
            .filter_map(|(name, at)| {
                let branch = branches.get(&name)?;
                Some(VolumeAt {
                    volume: branch.volume.clone(),
                    ..at
                })
            })
            .collect();
        let spec = self.ground.service_spec(
            &running.blueprint,
            running.container.clone(),
            (&self.network.name, self.network.resolver),
            volumes,
        );
        self.ground
            .engine
            .create_container(&spec, &self.ground.labels)
            .await?;
        self.ground
            .upload_service_files(&running.blueprint.service, &running.container)
            .await
    }

    /// Starts the containers of a generation, each after what it depends on, and waits until all are ready.
    ///
    /// # Errors
    /// As soon as one is known not to get ready.
    pub async fn start(&self, generation: &Generation) -> Result<(), StartError> {
        let phases: BTreeMap<&str, watch::Sender<Phase>> = generation
            .services
            .iter()
            .map(|running| {
                let name = running.blueprint.service.name.as_str();
                (name, watch::Sender::new(Phase::Waiting))
            })
            .collect();
        let starts = generation.services.iter().map(|running| {
            let phases = &phases;
            async move {
                let service = &running.blueprint.service;
                for dependency in &service.depends_on {
                    let needed = match dependency.condition {
                        Condition::Started => Phase::Started,
                        Condition::Healthy => Phase::Ready,
                        Condition::Completed => Phase::Completed,
                    };
                    if let Some(other) = phases.get(dependency.service.as_str()) {
                        // The sender lives as long as all of this, so the wait cannot fail; when the other one
                        // does not get there, its own error ends this wait.
                        let _ = other.subscribe().wait_for(|phase| *phase >= needed).await;
                    }
                }
                let Some(own) = phases.get(service.name.as_str()) else {
                    return Ok::<(), StartError>(());
                };
                self.ground
                    .engine
                    .start_container(&running.container)
                    .await?;
                own.send_replace(Phase::Started);
                self.await_ready(running).await?;
                own.send_replace(if service.one_shot {
                    Phase::Completed
                } else {
                    Phase::Ready
                });
                Ok(())
            }
        });
        try_join_all(starts).await?;
        Ok(())
    }

    /// Waits until a started service is ready: completed if it is a one-shot; else healthy, and accepting
    /// connections on each port that the stack names. `limits.start` is the deadline.
    ///
    /// # Errors
    /// As soon as it is known that it will not get ready, with its last log lines.
    pub async fn await_ready(&self, running: &Running) -> Result<(), StartError> {
        let service = &running.blueprint.service;
        let limit = self.ground.plan.limits.start;
        let waited = tokio::time::timeout(limit, self.watch(running, limit)).await;
        let reason = match waited {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(NotReady::Engine(error))) => return Err(error.into()),
            Ok(Err(not_ready)) => not_ready.to_string(),
            Err(_) => format!("not ready after {} s (limits.start)", limit.as_secs()),
        };
        let log = self
            .ground
            .engine
            .container_log(&running.container, Some(LOG_LINES))
            .await
            .unwrap_or_default();
        Err(StartError::Service {
            service: service.name.clone(),
            reason,
            log,
        })
    }

    async fn watch(&self, running: &Running, limit: Duration) -> Result<(), NotReady> {
        let service = &running.blueprint.service;
        let engine = &self.ground.engine;
        if service.one_shot {
            engine.await_completed(&running.container).await?;
            return Ok(());
        }
        let state = tokio::select! {
            state = engine.await_healthy(&running.container) => state?,
            () = self.looks_healthy(running) => engine.container_state(&running.container).await?,
        };
        self.ground.learn_address(state.address, &service.name);
        for port in &service.tcp_ports {
            let asked = self.network.agent.ask(Ask::AwaitTcp {
                host: service.name.clone(),
                port: *port,
                patience: limit,
            });
            tokio::select! {
                reply = asked => match reply?.answer {
                    Answer::Connected(Ok(())) => {}
                    Answer::Connected(Err(error)) => {
                        return Err(NotReady::Unhealthy(format!("port {port} does not answer: {error}")));
                    }
                    other => {
                        return Err(EngineError::new("ask the agent", format!("unexpected answer {other:?}")).into());
                    }
                },
                ended = engine.wait_container(&running.container) => {
                    return Err(NotReady::Ended { exit_code: ended?, out_of_memory: false });
                }
            }
        }
        Ok(())
    }

    /// Runs a service's health check ourselves until it succeeds. Engines before 25 run it for the first time only
    /// after a whole interval; a service is usually ready long before, and waits like that add up. It never says
    /// that a service is unhealthy: that is the engine's to say.
    async fn looks_healthy(&self, running: &Running) {
        /// Between two checks: there is no event for a check that the engine did not make.
        const PAUSE: Duration = Duration::from_millis(100);
        let Some(command) = health_command(&running.blueprint) else {
            return std::future::pending().await;
        };
        let spec = ExecSpec {
            command,
            ..ExecSpec::default()
        };
        loop {
            let outcome = self
                .ground
                .engine
                .exec(&running.container, &spec, |_| {})
                .await;
            if outcome.is_ok_and(|outcome| outcome.exit_code == 0) {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Stops the services of a generation cleanly, dependents first.
    ///
    /// # Errors
    /// When the engine cannot stop one.
    pub async fn stop(&self, generation: &Generation) -> Result<(), EngineError> {
        let done: BTreeMap<&str, watch::Sender<bool>> = generation
            .services
            .iter()
            .map(|running| {
                let name = running.blueprint.service.name.as_str();
                (name, watch::Sender::new(false))
            })
            .collect();
        let stops = generation.services.iter().map(|running| {
            let done = &done;
            let name = running.blueprint.service.name.as_str();
            async move {
                let dependents = generation.services.iter().filter(|other| {
                    other
                        .blueprint
                        .service
                        .depends_on
                        .iter()
                        .any(|dependency| dependency.service == name)
                });
                for dependent in dependents {
                    if let Some(stopped) = done.get(dependent.blueprint.service.name.as_str()) {
                        let _ = stopped.subscribe().wait_for(|stopped| *stopped).await;
                    }
                }
                let grace = running.blueprint.service.stop_grace_period;
                let stopped = self
                    .ground
                    .engine
                    .stop_container(&running.container, grace)
                    .await;
                if let Some(own) = done.get(name) {
                    own.send_replace(true);
                }
                stopped
            }
        });
        // All are asked, also when one cannot be stopped.
        join_all(stops).await.into_iter().collect()
    }

    /// Removes a generation's containers and branches at once; nothing in them is wanted any more.
    ///
    /// # Errors
    /// When the engine cannot remove one.
    pub async fn discard(&self, generation: &Generation) -> Result<(), EngineError> {
        let removed = join_all(
            generation
                .services
                .iter()
                .map(|running| self.ground.engine.remove_container(&running.container)),
        )
        .await;
        removed.into_iter().collect::<Result<(), _>>()?;
        let discarded = join_all(generation.branches.values().map(|b| self.state.discard(b))).await;
        discarded.into_iter().collect()
    }

    /// Replaces one service's container, keeping its volumes, and waits until it is ready.
    ///
    /// # Errors
    /// When the new one does not get ready.
    pub async fn recreate(
        &self,
        generation: &mut Generation,
        service: &str,
        change: impl FnOnce(&mut Blueprint),
    ) -> Result<(), StartError> {
        let Some(running) = generation
            .services
            .iter_mut()
            .find(|running| running.blueprint.service.name == service)
        else {
            return Err(EngineError::new(
                format!("recreate service `{service}`"),
                "the stack has no such service",
            )
            .into());
        };
        let engine = &self.ground.engine;
        let grace = running.blueprint.service.stop_grace_period;
        engine.stop_container(&running.container, grace).await?;
        engine.remove_container(&running.container).await?;
        change(&mut running.blueprint);
        let running = running.clone();
        self.create(&running, &generation.branches).await?;
        engine.start_container(&running.container).await?;
        self.await_ready(&running).await
    }

    /// Makes those containers of a generation anew, before it is started, that come from another image by now.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn remake_changed(
        &self,
        generation: &mut Generation,
        blueprints: &[Blueprint],
    ) -> Result<(), EngineError> {
        for (running, blueprint) in generation.services.iter_mut().zip(blueprints) {
            if running.blueprint.image != blueprint.image {
                running.blueprint = blueprint.clone();
                self.ground
                    .engine
                    .remove_container(&running.container)
                    .await?;
                self.create(running, &generation.branches).await?;
            }
        }
        Ok(())
    }

    /// Adds the volumes that services have and nothing restored: they begin as branches of `empty`.
    pub fn complete(&self, frozen: &mut BTreeMap<String, Frozen>, empty: &Frozen) {
        for blueprint in self.blueprints() {
            for (volume, _) in blueprint.service.volumes_with(&blueprint.facts) {
                frozen.entry(volume).or_insert_with(|| empty.clone());
            }
        }
    }
}
