//! One generation of services: containers and the branches they write to, started in dependency order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use futures_util::future::{join_all, try_join_all};
use tokio::sync::watch;

use super::{Blueprint, Ground, Names, Running, Staging, StartError};
use crate::engine::{EngineError, VolumeAt};
use crate::event::EventKind;
use crate::plan::model::Condition;
use crate::state::{Branch, Frozen, StateStore};

/// A set of services on branches of one frozen state.
#[derive(Debug)]
pub struct Generation {
    /// `baseline`, `deploy`, `rollback`: part of the names.
    pub name: String,
    /// What the volumes branch to, by the stack's name for them.
    pub branches: BTreeMap<String, Branch>,
    /// In start order.
    pub services: Vec<Running>,
    /// What its one-shots have to do.
    pub one_shots: OneShots,
}

/// A one-shot that completed has left what it left in the volumes. On a snapshot of them it is not run again: a seed
/// or a migration would be done twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OneShots {
    /// Run, and are waited for.
    Run,
    /// They are part of what is branched from.
    Done,
}

/// How far a service has come; the order is the order in which it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Waiting,
    Started,
    Ready,
    Completed,
}

impl Generation {
    /// One on a snapshot, by what its containers are called.
    pub fn made(
        names: &Names,
        name: &str,
        blueprints: Vec<Blueprint>,
        branches: BTreeMap<String, Branch>,
    ) -> Self {
        let services = blueprints.into_iter().map(|blueprint| Running {
            container: names.of(&format!("{name}-{}", blueprint.service.name)),
            blueprint,
        });
        Self {
            name: name.to_owned(),
            branches,
            services: services.collect(),
            one_shots: OneShots::Done,
        }
    }
}

impl Ground {
    /// Starts what depends on nothing, for whoever will start and await the whole generation. Returns the containers that
    /// were started: what the engine refuses here it refuses there again.
    pub async fn start_first(&self, generation: &Generation) -> BTreeSet<String> {
        let first = generation.services.iter().filter(|running| {
            let service = &running.blueprint.service;
            let done = service.one_shot && generation.one_shots == OneShots::Done;
            service.depends_on.is_empty() && !done
        });
        let started = first.map(|running| async move {
            let started = self.engine.start_container(&running.container).await;
            started.is_ok().then(|| running.container.clone())
        });
        join_all(started).await.into_iter().flatten().collect()
    }

    /// One branch of each frozen volume, and says how long it took.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn branch(
        &self,
        store: &StateStore,
        frozen: &BTreeMap<String, Frozen>,
        generation: &str,
    ) -> Result<BTreeMap<String, Branch>, EngineError> {
        let begun = Instant::now();
        let branches = store.branch(frozen, generation).await?;
        self.recorder.emit(EventKind::Measured {
            what: "branch".to_owned(),
            seconds: begun.elapsed().as_secs_f64(),
        });
        Ok(branches)
    }
}

impl Staging {
    /// Makes branches of what is frozen and containers on them, and starts nothing.
    ///
    /// # Errors
    /// With the generation as far as it came.
    pub async fn prepare(
        &self,
        name: &str,
        blueprints: Vec<Blueprint>,
        frozen: &BTreeMap<String, Frozen>,
        one_shots: OneShots,
    ) -> Result<Generation, (Generation, StartError)> {
        let branches = self.ground.branch(&self.state, frozen, name).await;
        self.prepare_on(name, blueprints, branches, one_shots).await
    }

    /// The same on branches that are there already, or could not be made.
    ///
    /// # Errors
    /// With the generation as far as it came.
    pub async fn prepare_on(
        &self,
        name: &str,
        blueprints: Vec<Blueprint>,
        branches: Result<BTreeMap<String, Branch>, EngineError>,
        one_shots: OneShots,
    ) -> Result<Generation, (Generation, StartError)> {
        let mut generation = Generation {
            one_shots,
            ..Generation::made(&self.ground.names, name, blueprints, BTreeMap::new())
        };
        match branches {
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
            .await?;
        self.ground
            .put_trust(&running.blueprint.service.name, &running.container)
            .await
    }

    /// Starts the containers of a generation, each after what it depends on, and waits until all are ready.
    ///
    /// # Errors
    /// As soon as one is known not to get ready.
    pub async fn start(&self, generation: &Generation) -> Result<(), StartError> {
        self.start_after(generation, &BTreeSet::new()).await
    }

    /// The same where these containers were started already: one that has ended since is not started a second time.
    ///
    /// # Errors
    /// As soon as one is known not to get ready.
    pub async fn start_after(
        &self,
        generation: &Generation,
        begun: &BTreeSet<String>,
    ) -> Result<(), StartError> {
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
                if service.one_shot && generation.one_shots == OneShots::Done {
                    if let Some(own) = phases.get(service.name.as_str()) {
                        own.send_replace(Phase::Completed);
                    }
                    return Ok(());
                }
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
                if !begun.contains(&running.container) {
                    self.ground
                        .engine
                        .start_container(&running.container)
                        .await?;
                }
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
