//! The isolated network and the agent on it.

use std::net::{IpAddr, Ipv4Addr};

use futures_util::StreamExt;
use tokio::task::JoinHandle;

use super::{AgentLink, Emulators, Ground, Names};
use crate::agent::protocol::{CalledOut, RefusedName};
use crate::engine::{Attach, ContainerSpec, EngineError};
use crate::event::EventKind;
use crate::plan::model::Stack;
use crate::state::agent;

/// The network's agent has these names on it; no service may take them.
const AGENT_NAME: &str = "rehearse-agent";

/// What a run's network is called.
pub(super) fn network_of(names: &Names) -> String {
    names.of("net")
}

/// What the container of a run's agent is called.
pub(super) fn agent_of(names: &Names) -> String {
    names.of("agent")
}

/// An isolated network with its agent at work.
pub struct StagingNetwork {
    /// The engine's name of the network.
    pub name: String,
    /// The agent's container.
    pub agent_container: String,
    /// The agent's address: every other container's resolver.
    pub resolver: IpAddr,
    /// Asks the agent.
    pub agent: AgentLink,
    /// What stands in for systems outside.
    pub emulators: Emulators,
    names_task: JoinHandle<()>,
}

impl Drop for StagingNetwork {
    fn drop(&mut self) {
        // It follows a log of a container that teardown removes.
        self.names_task.abort();
    }
}

impl StagingNetwork {
    /// Makes the network and starts its agent. `host_reachable` leaves the isolation option out: only the test of
    /// the isolate stage wants it.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn open(
        ground: &Ground,
        agent_image: &str,
        host_reachable: bool,
    ) -> Result<Self, EngineError> {
        let name = network_of(&ground.names);
        ground
            .engine
            .create_isolated_network(&name, &ground.labels, &ground.facts, host_reachable)
            .await?;
        let container = agent_of(&ground.names);
        let attach = Attach::Network {
            name: name.clone(),
            aliases: vec![AGENT_NAME.to_owned()],
            // Its own questions for outside names come back to itself: without this the engine would ask the
            // host's resolvers for it (CVE-2024-29018).
            dns: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        };
        let mut spec = ContainerSpec::new(&container, agent_image, attach);
        spec.command = Some(agent(&["serve"]));
        spec.hears_the_wire = true;
        ground
            .engine
            .create_container(&spec, &ground.labels)
            .await?;
        ground.engine.start_container(&container).await?;
        let (resolver, agent, names_task) = at_work(ground, &container).await?;
        let emulators = Emulators::open(ground, &name, resolver, agent_image).await?;
        Ok(Self {
            name,
            agent_container: container,
            resolver,
            agent,
            emulators,
            names_task,
        })
    }

    /// A network that was opened before, without emulators, in which nobody but the agent has asked for a name.
    ///
    /// # Errors
    /// When its agent is not at work any more.
    pub async fn again(ground: &Ground) -> Result<Self, EngineError> {
        let container = agent_of(&ground.names);
        let (resolver, agent, names_task) = at_work(ground, &container).await?;
        Ok(Self {
            name: network_of(&ground.names),
            agent_container: container,
            resolver,
            agent,
            emulators: Emulators::default(),
            names_task,
        })
    }
}

/// The address of an agent that was started, the line to it, and the task that hears what it is asked.
async fn at_work(
    ground: &Ground,
    container: &str,
) -> Result<(IpAddr, AgentLink, JoinHandle<()>), EngineError> {
    let state = ground.engine.container_state(container).await?;
    let Some(resolver) = state.address else {
        let said = ground.engine.container_log(container, Some(5)).await?;
        return Err(EngineError::new(
            format!("start the agent `{container}`"),
            format!("it has no address on the network: {}", said.trim()),
        ));
    };
    ground.learn_address(Some(resolver), AGENT_NAME);
    let agent = AgentLink::open(&ground.engine, container).await?;
    let names_task = tokio::spawn(follow_names(ground.clone(), container.to_owned()));
    Ok((resolver, agent, names_task))
}

/// Each outside name that somebody in staging asks for, and each call to an outside address, becomes an event.
async fn follow_names(ground: Ground, container: String) {
    let lines = ground.engine.follow_stdout(&container);
    let mut lines = std::pin::pin!(lines);
    while let Some(Ok(line)) = lines.next().await {
        if let Ok(called) = serde_json::from_str::<CalledOut>(&line) {
            ground.recorder.emit(EventKind::OutsideCall {
                stage: ground.current_stage(),
                caller: whose(&ground, called.caller),
            });
            continue;
        }
        let Ok(refused) = serde_json::from_str::<RefusedName>(&line) else {
            continue;
        };
        // Our own proof asks too; that is no outside call of anybody's.
        if refused.asker.is_loopback() {
            ground
                .refused
                .send_modify(|names| names.push(refused.name.clone()));
            continue;
        }
        // Other records than addresses of an emulated host (a mail exchanger, say) are not known to the engine.
        if ground.plan.is_emulated(&refused.name) {
            continue;
        }
        // A service that is being replaced is not known to the engine for a moment; its name is no outside one.
        if is_of_stack(&ground.plan.stack, &refused.name) {
            continue;
        }
        ground.recorder.emit(EventKind::OutsideName {
            stage: ground.current_stage(),
            asker: whose(&ground, refused.asker),
            name: refused.name,
        });
    }
}

/// The service or container that has an address, else the address.
fn whose(ground: &Ground, address: IpAddr) -> String {
    ground
        .addresses
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .get(&address)
        .cloned()
        .unwrap_or_else(|| address.to_string())
}

fn is_of_stack(stack: &Stack, name: &str) -> bool {
    stack.services.iter().any(|service| {
        service.name == name
            || service.hostname.as_deref() == Some(name)
            || service.aliases.iter().any(|alias| alias == name)
    })
}

#[cfg(test)]
mod tests {
    use super::is_of_stack;
    use crate::plan::model::{Service, Stack};

    #[test]
    fn the_stacks_own_names_are_not_outside() {
        let mut cms = Service::named("cms");
        cms.aliases = vec!["cms.internal".to_owned()];
        cms.hostname = Some("cms-1".to_owned());
        let stack = Stack {
            file: "compose.yaml".into(),
            dir: ".".into(),
            services: vec![Service::named("db"), cms],
            volumes: Vec::new(),
        };
        for (name, own) in [
            ("cms", true),
            ("cms.internal", true),
            ("cms-1", true),
            ("db.prod.example.com", false),
            ("example.com", false),
        ] {
            assert_eq!(is_of_stack(&stack, name), own, "{name}");
        }
    }
}
