//! How one service is made: from the stack, changed by what the deploy did.

use std::collections::BTreeSet;

use super::{Ground, Staging};
use crate::engine::{Attach, ContainerSpec, EngineError, HostPaths, ImageFacts, Modes, VolumeAt};
use crate::plan::model::{Healthcheck, Service};
use crate::state::slug;

/// How a service is made: what the stack says, changed by what the deploy did.
#[derive(Clone, Debug)]
pub struct Blueprint {
    /// The service, with its environment as it is now.
    pub service: Service,
    /// The image that its container is made from.
    pub image: String,
    /// What is known of that image.
    pub facts: ImageFacts,
    /// Variables that the deploy took away: the image may bring them, above all one that the snapshot made of a
    /// container that had them.
    pub unset: BTreeSet<String>,
}

/// A container that stands for a service.
#[derive(Clone, Debug)]
pub struct Running {
    /// How it was made.
    pub blueprint: Blueprint,
    /// The engine's name of its container.
    pub container: String,
}

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
        ContainerSpec {
            command: service.command.clone(),
            entrypoint: service.entrypoint.clone(),
            environment: service.environment.clone(),
            unset: blueprint.unset.clone(),
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
            healthcheck: if self.checks_health {
                Some(Healthcheck::disabled())
            } else {
                service.healthcheck.clone()
            },
            memory: service.memory.or_else(|| self.facts.most_memory()),
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
        let package = self.plan.package.as_ref().map(|package| &package.root);
        for file in &service.files {
            // Of what a package brings only that counts which its digest covers.
            let is_packaged = package.is_some_and(|root| file.source.starts_with(root));
            let mode = match (is_packaged, file.mode) {
                (true, None) => Modes::Normal,
                (true, Some(mode)) => Modes::NormalBut(mode),
                (false, None) => Modes::Kept,
                (false, Some(mode)) => Modes::Set(mode),
            };
            let paths = HostPaths {
                source: file.source.clone(),
                target: file.target.clone(),
                owner: (file.uid, file.gid),
                mode,
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
                    unset: BTreeSet::new(),
                })
            })
            .collect()
    }
}
