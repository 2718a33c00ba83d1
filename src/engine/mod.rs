//! The one door to Docker's engine: nothing else in the crate imports `bollard`.
//!
//! Everything made here is labelled in the request that makes it, so that a crash at any moment leaves only
//! resources that [`sweep`] can find again.

mod body;
mod build;
mod changes;
mod claim;
mod connect;
mod container;
mod error;
mod exec;
mod files;
mod image;
mod kept;
mod labels;
mod log;
mod memory;
mod network;
mod once;
mod ready;
mod spec;
mod surroundings;
mod sweep;
mod terminal;
mod volume;

pub use build::{BuildSpec, Network as BuildNetwork};
pub use changes::ChangedPath;
pub use claim::Claimed;
pub use connect::{Engine, EngineFacts};
pub use container::ContainerState;
pub use error::EngineError;
pub use exec::{ExecLine, ExecOutcome, ExecSpec, Interactive, KEPT, LogChunk};
pub use files::{HostPaths, Modes};
pub use image::{ImageFacts, Obtained};
pub use kept::{StagingSeen, Stands};
pub use labels::{BASE_RUN, Labels, OwnerId, Purpose, REHEARSAL, RUN, is_dead};
pub use network::NetworkFacts;
pub use ready::NotReady;
pub use spec::{Attach, ContainerSpec, HostNetwork, VolumeAt};
pub use surroundings::{MountSeen, Surroundings};
pub use sweep::{Resource, Swept, live_runs};
pub use terminal::{Session, TerminalSpec};
pub use volume::VolumeFacts;
