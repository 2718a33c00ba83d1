//! Manifests become a [`model::Plan`]: checked, resolved, ordered, digested. No I/O of its own.
pub mod model;
