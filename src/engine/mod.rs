//! The one door to Docker's engine: nothing else in the crate imports `bollard`.
//!
//! Everything made here is labelled in the request that makes it, so that a crash at any moment leaves only
//! resources that [`sweep`] can find again.

mod body;
mod build;
mod changes;
mod connect;
mod container;
mod error;
mod exec;
mod image;
mod labels;
mod network;
mod once;
mod ready;
mod sweep;
mod volume;

pub use build::{BuildSpec, Network as BuildNetwork};
pub use changes::ChangedPath;
pub use connect::{Engine, EngineFacts};
pub use container::{
    Attach, ContainerSpec, ContainerState, FileUpload, HostNetwork, HostPaths, VolumeAt,
};
pub use error::EngineError;
pub use exec::{ExecLine, ExecOutcome, ExecSpec, Interactive};
pub use image::{ImageFacts, Obtained};
pub use labels::{BASE_RUN, Labels, OwnerId, Purpose, is_dead};
pub use network::NetworkFacts;
pub use ready::NotReady;
pub use sweep::{Resource, Swept};
pub use volume::VolumeFacts;
