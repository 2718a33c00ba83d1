//! The stages of a run, one file each, and the conductor that runs them.
//!
//! A stage works on [`run::Run`], emits events, and ends with nothing or with [`Bad`]. It never prints, and never
//! decides a verdict.

mod baseline;
pub mod conductor;
mod database;
mod deploy;
mod fingerprint;
mod isolate;
mod preflight;
mod provision;
mod recorded;
mod restore;
mod rollback;
pub mod run;
mod schema;
mod size;
mod snapshot;
mod standing;
mod step;
mod suite;
pub mod takeover;
mod teardown;
mod unassisted;
mod verify;

pub use crate::staging::Bad;
