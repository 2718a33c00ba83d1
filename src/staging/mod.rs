//! A staging that is alive: its network, its agent, its services and the branches they write to.
//!
//! Stages drive it; nothing here decides what a result means.

mod agent_image;
mod agent_link;
mod authority;
mod bad;
mod bastion;
mod emulators;
mod generation;
mod kept;
mod naming;
mod network;
mod ready;
mod service;
mod trust;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

pub use agent_image::AgentBinary;
pub use agent_link::AgentLink;
pub use authority::Authority;
pub use bad::Bad;
pub use bastion::{Bastion, Ended, PACKAGE_FOLDER};
pub use emulators::Emulators;
pub use generation::{Generation, OneShots};
pub use kept::KeptPlace;
pub use naming::Names;
pub use network::StagingNetwork;
pub use ready::{StartError, Why};
pub use service::{Blueprint, Running};
pub use trust::is_put_there;

use tokio::sync::watch;

use crate::engine::{Engine, EngineFacts, ImageFacts, Labels};
use crate::event::{EventKind, Stage};
use crate::mask::Mask;
use crate::plan::model::Plan;
use crate::report::Recorder;
use crate::state::{BaseStore, StateStore};

/// What every part of a run needs.
#[derive(Clone)]
pub struct Ground {
    /// What is to be done.
    pub plan: Arc<Plan>,
    /// The engine.
    pub engine: Engine,
    /// What the engine said of itself.
    pub facts: Arc<EngineFacts>,
    /// The labels of this run.
    pub labels: Labels,
    /// The names of this run's resources.
    pub names: Names,
    /// Where events go.
    pub recorder: Arc<Recorder>,
    /// What must not be shown. The recorder masks what it is given; whoever cuts a text or writes a file masks before.
    pub mask: Arc<Mask>,
    /// The stage that is running: background tasks name it in their events.
    pub stage: Arc<Mutex<Stage>>,
    /// From address to the service or container that has it.
    pub addresses: Arc<Mutex<HashMap<IpAddr, String>>>,
    /// The outside names that the agent was asked for and refused, in order.
    pub refused: watch::Sender<Vec<String>>,
    /// The containers that were killed because a limit was over: how they ended says nothing of what ran in them.
    pub killed: Arc<Mutex<HashSet<String>>>,
    /// Vouches for the emulators, where one of them speaks TLS.
    pub authority: Option<Arc<Authority>>,
    /// We check the services' health when we ask for it, and the engine does not check it all the time: what a stack wants
    /// to be checked four times a second would be a good part of the work where paths are walked side by side.
    pub checks_health: bool,
    /// The volume that has the package already: a path deploys the files that the deploy before it has brought into the
    /// engine.
    pub filled: Option<String>,
}

impl Ground {
    /// The stage that is running.
    pub fn current_stage(&self) -> Stage {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For one part of the run, whose resources have labels and names of their own.
    pub fn part(&self, part: &str) -> Self {
        Self {
            labels: self.labels.part(part),
            names: self.names.part(part),
            ..self.clone()
        }
    }

    /// For a path of a what-if: a part of the run that has its own network, and so its own addresses, questions and
    /// kills. What happens there is told to `recorder`.
    pub fn path(&self, part: &str, plan: Arc<Plan>, recorder: Arc<Recorder>) -> Self {
        Self {
            plan,
            recorder,
            stage: Arc::new(Mutex::new(Stage::Snapshot)),
            addresses: Arc::default(),
            refused: watch::Sender::new(Vec::new()),
            killed: Arc::default(),
            checks_health: true,
            ..self.part(part)
        }
    }

    /// A word to the reader.
    pub fn note(&self, text: impl Into<String>) {
        self.recorder.emit(EventKind::Note {
            stage: self.current_stage(),
            text: text.into(),
        });
    }

    /// Waits until the agent was asked for a name outside. The caller holds the deadline.
    pub async fn heard(&self, name: &str) {
        // The sender is our own, so the wait cannot fail.
        let _ = self
            .refused
            .subscribe()
            .wait_for(|names| names.iter().any(|heard| heard == name))
            .await;
    }

    /// Remembers whose address this is.
    pub fn learn_address(&self, address: Option<IpAddr>, name: &str) {
        if let Some(address) = address {
            self.addresses
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(address, name.to_owned());
        }
    }
}

/// A staging in the making: each stage fills in its part.
#[derive(Clone)]
pub struct Staging {
    /// What every part needs.
    pub ground: Ground,
    /// The agent's image.
    pub agent_image: String,
    /// The network and its agent.
    pub network: Arc<StagingNetwork>,
    /// The services' images.
    pub images: BTreeMap<String, ImageFacts>,
    /// Branches.
    pub state: StateStore,
    /// Bases.
    pub bases: BaseStore,
}

impl Staging {
    /// The same staging for one part of the run ([`Ground::part`]).
    pub fn part(&self, part: &str) -> Self {
        Self {
            ground: self.ground.part(part),
            ..self.clone()
        }
    }
}
