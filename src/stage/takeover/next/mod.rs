//! The place of the next try, made ready when a staging is kept: its network with the agent on it, a bastion that waits for
//! a package, branches of the snapshot, and the services' containers, made and never started.
//!
//! Nothing of production's has run in it. It is proved to be isolated when it is made, and proved again when it is taken; it
//! serves one try. Whoever takes it removes its ticket first, so that what a try that died has left is nobody's place.

mod make;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use futures_util::future::{join_all, try_join_all};
use serde::{Deserialize, Serialize};

use super::{GENERATION, KeptStaging, blueprints};
use crate::engine::{ContainerState, Engine, EngineError, NetworkFacts, Resource};
use crate::stage::run::Run;
use crate::stage::{Bad, provision};
use crate::staging::{Bastion, Blueprint, Generation, Ground, StagingNetwork};
use crate::state::Branch;
pub(super) use make::make;

/// What the branches are called on which the frozen files are compared, beside the services that start on others.
const LOOK: &str = "look";

/// The volume that is there until somebody takes the place.
const TICKET: &str = "ticket";

/// A place that is ready, as it is written down.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Next {
    /// What everything in it is named after.
    stem: String,
    /// What the services' containers stand on.
    branches: BTreeMap<String, Branch>,
    /// The same once more, to compare the frozen files on.
    look: BTreeMap<String, Branch>,
    /// What the files on those looked like: the containers that are made on the first ones were given files of the stack.
    prints: BTreeMap<String, String>,
    /// The agent's image, which is named after this program: two versions of it do not meet.
    agent: String,
    /// The id of the bastion's image, where there is a bastion.
    bastion: Option<String>,
    /// All that belongs to it, as [`Resource`] prints it.
    resources: BTreeSet<String>,
    /// Its containers, by name.
    members: BTreeMap<String, Member>,
}

/// A container of a place as it was when the place was made. Whoever starts it, ends it or connects it to another network
/// has made it another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Member {
    running: bool,
    paused: bool,
    started_at: String,
    address: Option<IpAddr>,
    networks: Vec<String>,
}

impl From<ContainerState> for Member {
    fn from(state: ContainerState) -> Self {
        Self {
            running: state.running,
            paused: state.paused,
            started_at: state.started_at,
            address: state.address,
            networks: state.networks,
        }
    }
}

/// The containers of resources, as they are.
async fn members(
    engine: &Engine,
    resources: &[Resource],
) -> Result<BTreeMap<String, Member>, EngineError> {
    let containers = resources.iter().filter_map(|resource| match resource {
        Resource::Container(name) => Some(name),
        Resource::Network(_) | Resource::Volume(_) | Resource::Image(_) => None,
    });
    let seen = containers.map(|name| async move {
        let state = engine.container_state(name).await?;
        Ok::<_, EngineError>((name.clone(), state.into()))
    });
    Ok(try_join_all(seen).await?.into_iter().collect())
}

/// A place that was taken.
pub(super) struct Place {
    /// The ground with its names.
    pub(super) ground: Ground,
    /// Its network, with the agent at work.
    pub(super) network: StagingNetwork,
    /// The services, of which the first are being started.
    pub(super) generation: Generation,
    /// Since when, and which.
    pub(super) begun: (Instant, BTreeSet<String>),
    /// The same volumes, for nobody to write to.
    pub(super) look: Generation,
    /// What their files looked like when they were made.
    pub(super) prints: BTreeMap<String, String>,
    /// The bastion, without a package.
    pub(super) bastion: Option<Bastion>,
}

/// Lets the last deploy's services stand still until they are ended: their health checks take from those that start. That one
/// cannot be paused costs a moment.
async fn quiet(ground: &Ground, kept: &KeptStaging, blueprints: &[Blueprint]) {
    let names = kept.names();
    let checked = blueprints
        .iter()
        .filter(|of| of.service.healthcheck.is_some() || of.facts.healthcheck.is_some())
        .map(|of| names.of(&format!("{GENERATION}-{}", of.service.name)));
    let paused = checked.map(|container| async move {
        let _costs_a_moment = ground.engine.pause_container(&container).await;
    });
    join_all(paused).await;
}

/// Everything in the staging that is named so.
async fn of_stem(ground: &Ground, stem: &str) -> Result<Vec<Resource>, EngineError> {
    let mut all = ground.engine.resources_of(ground.labels.run()).await?;
    all.retain(|resource| is_named(&resource.to_string(), stem));
    Ok(all)
}

/// True for what [`Resource`] prints of something that is named after the stem.
fn is_named(resource: &str, stem: &str) -> bool {
    let name = resource.split_once(' ').map_or(resource, |(_, name)| name);
    name.strip_prefix("rehearse-")
        .and_then(|rest| rest.strip_prefix(stem))
        .is_some_and(|rest| rest.starts_with('-'))
}

impl Next {
    /// What everything in it is named after.
    pub fn stem(&self) -> &str {
        &self.stem
    }

    /// True where all of it is there and nothing else is named so: nobody has taken it, and nothing of it was removed.
    fn stands(&self, there: &[Resource]) -> bool {
        let there: BTreeSet<String> = there
            .iter()
            .map(ToString::to_string)
            .filter(|name| is_named(name, &self.stem))
            .collect();
        there == self.resources
    }

    /// True where that is what it was made of, and each of its containers is as it was then.
    async fn is_as_made(
        &self,
        engine: &Engine,
        left: &[Resource],
        agent_image: &str,
    ) -> Result<bool, EngineError> {
        if !self.stands(left) || self.agent != agent_image {
            return Ok(false);
        }
        let of_it: Vec<Resource> = left
            .iter()
            .filter(|resource| is_named(&resource.to_string(), &self.stem))
            .cloned()
            .collect();
        let network = of_it.iter().find_map(|resource| match resource {
            Resource::Network(name) => Some(name),
            Resource::Container(_) | Resource::Volume(_) | Resource::Image(_) => None,
        });
        let Some(network) = network else {
            return Ok(false);
        };
        match tokio::try_join!(members(engine, &of_it), engine.network(network)) {
            Ok((members, network)) => Ok(members == self.members && self.has_alone(&network)),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// True where nobody is on its network but its own: what carries another label is no resource of it.
    fn has_alone(&self, network: &NetworkFacts) -> bool {
        network
            .members
            .values()
            .all(|name| self.members.contains_key(name))
    }

    /// True for what belongs to it.
    pub(super) fn has(&self, resource: &Resource) -> bool {
        is_named(&resource.to_string(), &self.stem)
    }

    /// Takes the place, where it is as it was made; `left` is all that stands there besides the snapshot. The caller has the
    /// right to work in the staging.
    pub(super) async fn take(
        &self,
        run: &Run,
        kept: &KeptStaging,
        left: &[Resource],
    ) -> Result<Option<Place>, Bad> {
        let plan = &run.order.plan;
        let ground = run.ground()?;
        let agent = &run.order.agent;
        let agent_image = agent
            .ensure_image(&ground.engine, &ground.facts.architecture)
            .await?;
        if !self.is_as_made(&ground.engine, left, &agent_image).await? {
            return Ok(None);
        }
        let ground = Ground {
            names: ground.names.clone().on(&self.stem),
            ..ground.clone()
        };
        // Another image may have that name by now, or none; or another one is to be built.
        let bastion = match &plan.bastion {
            Some(of) => Some(
                provision::image(&ground, "the bastion", &of.image)
                    .await?
                    .id,
            ),
            None => None,
        };
        if bastion != self.bastion {
            return Ok(None);
        }
        let ticket = ground.names.of(TICKET);
        ground.engine.remove_volume(&ticket).await?;
        let bastion = async {
            match &self.bastion {
                Some(_) => Bastion::again(&ground).await,
                None => Ok(None),
            }
        };
        let blueprints = blueprints(kept, plan)?;
        let generation = |name: &str, branches: &BTreeMap<String, Branch>| {
            Generation::made(&ground.names, name, blueprints.clone(), branches.clone())
        };
        let deploy = generation(GENERATION, &self.branches);
        let begun = Instant::now();
        // The first services take longest to start, and need nothing of what is done beside.
        let (network, bastion, first, ()) = tokio::join!(
            StagingNetwork::again(&ground),
            bastion,
            ground.start_first(&deploy),
            quiet(&ground, kept, &blueprints)
        );
        // An engine that was started anew has ended both: they are what an earlier run has left, then.
        let (Ok(network), Ok(bastion)) = (network, bastion) else {
            return Ok(None);
        };
        Ok(Some(Place {
            network,
            generation: deploy,
            begun: (begun, first),
            look: generation(LOOK, &self.look),
            prints: self.prints.clone(),
            bastion,
            ground,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::{BTreeMap, BTreeSet, Next, Resource, is_named};

    #[test]
    fn only_a_place_that_is_whole_and_untouched_stands() {
        let container = |name: &str| Resource::Container(name.to_owned());
        let volume = |name: &str| Resource::Volume(name.to_owned());
        let made = [
            container("rehearse-site-1.next-agent"),
            volume("rehearse-site-1.next-ticket"),
        ];
        let next = Next {
            stem: "site-1.next".to_owned(),
            branches: BTreeMap::new(),
            look: BTreeMap::new(),
            prints: BTreeMap::new(),
            agent: "rehearse-agent:1".to_owned(),
            members: BTreeMap::new(),
            bastion: None,
            resources: made
                .iter()
                .map(ToString::to_string)
                .collect::<BTreeSet<_>>(),
        };
        let deployed = container("rehearse-site-1-agent");
        let with = |more: &[Resource]| -> Vec<Resource> {
            [more, std::slice::from_ref(&deployed)].concat()
        };
        assert!(next.stands(&with(&made)));
        assert!(!next.stands(&with(&made[..1])), "somebody has its ticket");
        assert!(!next.stands(&with(&made[1..])), "the agent was removed");
        let filled = [made.as_slice(), &[volume("rehearse-site-1.next-package")]].concat();
        assert!(!next.stands(&with(&filled)), "something was made there");
        assert!(!next.stands(&[]));
    }

    #[test]
    fn names_that_only_begin_alike_are_others() {
        for (name, named) in [
            ("volume rehearse-a.next-ticket", true),
            ("network rehearse-a.next-net", true),
            ("volume rehearse-a.next", false),
            ("volume rehearse-a-next-ticket", false),
            ("volume rehearse-a.nextdoor-ticket", false),
            ("container rehearse-b-a.next-agent", false),
        ] {
            assert_eq!(is_named(name, "a.next"), named, "{name}");
        }
    }
}
