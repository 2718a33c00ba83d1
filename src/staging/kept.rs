//! What is started again in a staging whose run is over.

use std::collections::BTreeMap;

use super::bastion::idle;
use super::network::{agent_of, network_of};
use super::{Bastion, Names};
use crate::engine::{Attach, Engine, EngineError, Labels, VolumeAt};
use crate::staging::PACKAGE_FOLDER;

/// A staging whose run is over.
#[derive(Clone, Copy, Debug)]
pub struct KeptPlace<'a> {
    /// The engine.
    pub engine: &'a Engine,
    /// The names of the run whose deploy stands there.
    pub names: &'a Names,
    /// The labels of the staging.
    pub labels: &'a Labels,
}

impl KeptPlace<'_> {
    /// Starts the bastion again, with the package of the run, unless it runs. Returns its container.
    ///
    /// # Errors
    /// When its image, the network or the package is gone.
    pub async fn bastion(
        &self,
        image: &str,
        environment: &BTreeMap<String, String>,
    ) -> Result<String, EngineError> {
        let (engine, names) = (self.engine, self.names);
        let container = names.of(Bastion::NAME);
        match engine.container_state(&container).await {
            Ok(state) if state.running => return Ok(container),
            Ok(_) => engine.remove_container(&container).await?,
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        let package = names.of("package");
        if engine.volume(&package).await?.is_none() {
            return Err(EngineError::new(
                "start the bastion again",
                "the package's volume is not there: no step of this run came to use it",
            )
            .with_help("open a service instead"));
        }
        // The engine may have been started anew since: then the agent, which is the resolver, is asleep.
        let agent = agent_of(names);
        engine.start_container(&agent).await?;
        let resolver = engine.container_state(&agent).await?.address;
        let attach = Attach::Network {
            name: network_of(names),
            aliases: vec![Bastion::NAME.to_owned()],
            dns: resolver,
        };
        let memory = engine.facts().await?.most_memory();
        let mut spec = idle(&container, image, attach, environment, memory);
        spec.volumes = vec![VolumeAt {
            volume: package,
            target: PACKAGE_FOLDER.into(),
            read_only: true,
        }];
        engine.create_container(&spec, self.labels).await?;
        engine.start_container(&container).await?;
        Ok(container)
    }
}
