//! Rehearse a production deploy before it happens: see `ARCHITECTURE.md` for how data flows.

pub mod agent;
mod archive;
pub mod check;
pub mod digest;
pub mod engine;
pub mod event;
pub mod gate;
pub mod manifest;
pub mod package;
pub mod plan;
pub mod report;
pub mod restore;
pub mod stage;
pub mod staging;
pub mod state;
pub mod verdict;
