//! The bastion: the container from which steps run by default, with the package at `/package`.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;

use super::{Ground, StagingNetwork};
use crate::engine::{
    Attach, ContainerSpec, EngineError, ExecLine, ExecOutcome, ExecSpec, HostPaths, Purpose,
    VolumeAt,
};
use crate::plan::model::{Healthcheck, Package};

/// Waits for ever and ends at once when asked. It needs no more than the shell that steps need anyway.
const IDLE: &str = "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done";

/// What the volume with the package is called in a run's names.
const PACKAGE_VOLUME: &str = "package";

/// Where the package lies in the bastion.
pub const PACKAGE_FOLDER: &str = "/package";

/// The container of a bastion, without its package.
pub(super) fn idle(
    container: &str,
    image: &str,
    attach: Attach,
    environment: &BTreeMap<String, String>,
    memory: Option<u64>,
) -> ContainerSpec {
    let mut spec = ContainerSpec::new(container, image, attach);
    spec.entrypoint = Some(vec!["/bin/sh".into(), "-c".into(), IDLE.into()]);
    spec.command = Some(Vec::new());
    spec.init = true;
    // What its image would check is no step's doing.
    spec.healthcheck = Some(Healthcheck::disabled());
    spec.hostname = Some(Bastion::NAME.into());
    spec.keeps_volumes = true;
    spec.working_dir = Some(PACKAGE_FOLDER.into());
    spec.environment = environment.clone();
    spec.memory = memory;
    spec
}

/// A running bastion.
#[derive(Debug)]
pub struct Bastion {
    container: String,
}

/// How a command in a container ended, or that its time was over.
#[derive(Debug)]
pub enum Ended {
    /// By itself.
    ByItself(ExecOutcome),
    /// It was killed, with everything it had started, after its time was over.
    Killed,
}

impl Bastion {
    /// What its container is called in a run's names.
    pub const NAME: &str = "bastion";

    /// Starts a bastion that has the package read-only, in a volume that is filled with it.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn open(
        ground: &Ground,
        network: &StagingNetwork,
        agent_image: &str,
        image: &str,
        package: &Package,
    ) -> Result<Self, EngineError> {
        let volume = Self::fill(ground, agent_image, package).await?;
        Self::on_volume(ground, network, image, volume).await
    }

    /// Starts a bastion before there is a package: it has what [`Bastion::fill`] brings, as soon as that is there.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn waiting(
        ground: &Ground,
        network: &StagingNetwork,
        image: &str,
    ) -> Result<Self, EngineError> {
        let volume = ground.package_volume();
        let engine = &ground.engine;
        engine
            .create_volume(&volume, &ground.labels, Purpose::Run, Default::default())
            .await?;
        Self::on_volume(ground, network, image, volume).await
    }

    async fn on_volume(
        ground: &Ground,
        network: &StagingNetwork,
        image: &str,
        volume: String,
    ) -> Result<Self, EngineError> {
        let engine = &ground.engine;
        let container = ground.names.of(Self::NAME);
        let attach = Attach::Network {
            name: network.name.clone(),
            aliases: vec!["bastion".to_owned()],
            dns: Some(network.resolver),
        };
        let environment = ground
            .plan
            .bastion
            .as_ref()
            .map(|of| of.environment.clone());
        let mut spec = idle(
            &container,
            image,
            attach,
            &environment.unwrap_or_default(),
            ground.facts.most_memory(),
        );
        spec.volumes = vec![VolumeAt {
            volume,
            target: PACKAGE_FOLDER.into(),
            read_only: true,
        }];
        engine.create_container(&spec, &ground.labels).await?;
        ground.put_trust(Self::NAME, &container).await?;
        Self::started(ground, container).await
    }

    /// Brings the package into the volume that has it. Returns the volume's name.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn fill(
        ground: &Ground,
        agent_image: &str,
        package: &Package,
    ) -> Result<String, EngineError> {
        let engine = &ground.engine;
        if let Some(filled) = &ground.filled {
            // The engine would make an empty one of that name.
            let Some(_) = engine.volume(filled).await? else {
                let gone = format!("the volume {filled}, which has the package, is gone");
                return Err(EngineError::new("open a bastion", gone)
                    .with_help("somebody removed it; run the rehearsal anew"));
            };
            return Ok(filled.clone());
        }
        let volume = ground.package_volume();
        engine
            .create_volume(&volume, &ground.labels, Purpose::Run, Default::default())
            .await?;
        let filler = ground.names.of("package-filler");
        let mut spec = ContainerSpec::new(&filler, agent_image, Attach::None);
        // It is never started: the engine fills the volumes of a container that exists.
        spec.command = Some(crate::state::agent(&["idle"]));
        spec.volumes = vec![VolumeAt {
            volume: volume.clone(),
            target: "/v".into(),
            read_only: false,
        }];
        engine.create_container(&spec, &ground.labels).await?;
        let paths = HostPaths {
            source: package.root.clone(),
            target: "/v".into(),
            owner: (0, 0),
            mode: crate::engine::Modes::Normal,
        };
        engine.upload_paths(&filler, paths).await?;
        engine.remove_container(&filler).await?;
        Ok(volume)
    }

    /// The bastion that was opened before, with the files that it had, started again where it was killed; `None` where there
    /// is none.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn again(ground: &Ground) -> Result<Option<Self>, EngineError> {
        let container = ground.names.of(Self::NAME);
        match ground.engine.container_state(&container).await {
            Ok(state) if state.running => {
                ground.learn_address(state.address, Self::NAME);
                Ok(Some(Self { container }))
            }
            Ok(_) => Self::started(ground, container).await.map(Some),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn started(ground: &Ground, container: String) -> Result<Self, EngineError> {
        let engine = &ground.engine;
        engine.start_container(&container).await?;
        let state = engine.container_state(&container).await?;
        if !state.running {
            let said = engine.container_log(&container, Some(5)).await?;
            return Err(EngineError::new(
                "start the bastion",
                format!("it ended at once: {}", said.trim()),
            )
            .with_help("the bastion's image needs /bin/sh and sleep"));
        }
        ground.learn_address(state.address, Self::NAME);
        Ok(Self { container })
    }

    /// The engine's name of its container.
    pub fn container(&self) -> &str {
        &self.container
    }
}

impl Ground {
    /// The engine's name of the volume with the package.
    pub fn package_volume(&self) -> String {
        let filled = self.filled.clone();
        filled.unwrap_or_else(|| self.names.of(PACKAGE_VOLUME))
    }

    /// Runs a command in a container with a deadline. When the time is over the whole container is killed: a
    /// process cannot be trusted to take its children with it.
    ///
    /// # Errors
    /// When the engine could not run it.
    pub async fn exec_within(
        &self,
        container: &str,
        spec: &ExecSpec,
        limit: Duration,
        line: impl FnMut(ExecLine) + Send,
    ) -> Result<Ended, EngineError> {
        let run = self.engine.exec(container, spec, line);
        match tokio::time::timeout(limit, run).await {
            Ok(outcome) => Ok(Ended::ByItself(outcome?)),
            Err(_) => {
                // First: whoever sees its end may ask why.
                self.killed
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(container.to_owned());
                self.engine.kill_container(container).await?;
                Ok(Ended::Killed)
            }
        }
    }

    /// True where a container was killed because a limit was over.
    pub fn was_killed(&self, container: &str) -> bool {
        let killed = self.killed.lock();
        killed
            .unwrap_or_else(PoisonError::into_inner)
            .contains(container)
    }
}
