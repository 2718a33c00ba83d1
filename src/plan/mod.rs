//! Manifests become a [`model::Plan`]: checked, resolved, ordered, digested. No I/O of its own.

pub mod advice;
mod cross;
mod emulators;
pub mod model;
pub(crate) mod order;
mod overlay;
pub mod paths;
mod promises;
mod resolve;
mod settings;
pub mod subset;

pub(crate) use cross::cross_check;
pub(crate) use resolve::start_order;
pub use resolve::{PackageFacts, resolve};
