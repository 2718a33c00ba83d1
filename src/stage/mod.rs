//! The stages of a run, one file each, and the conductor that runs them.
//!
//! A stage works on [`run::Run`], emits events, and ends with nothing or with [`Bad`]. It never prints, and never
//! decides a verdict.

mod availability;
mod baseline;
pub mod conductor;
mod config;
mod database;
mod deploy;
mod during;
mod emulators;
mod fingerprint;
mod handed_over;
mod isolate;
mod locks;
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
pub mod surrounded;
pub mod takeover;
mod teardown;
mod unassisted;
mod verify;
mod whatif;

pub use crate::staging::Bad;
