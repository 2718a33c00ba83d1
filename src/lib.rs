//! Rehearse a production deploy before it happens: see `ARCHITECTURE.md` for how data flows.

pub mod agent;
mod archive;
pub mod backup;
pub mod check;
pub mod cli;
pub mod digest;
pub mod engine;
pub mod event;
pub mod gate;
pub mod history;
pub mod manifest;
pub mod mask;
pub mod notify;
pub mod package;
pub mod plan;
pub mod report;
pub mod restore;
pub mod secret;
pub mod source;
pub mod stage;
pub mod staging;
pub mod state;
pub mod template;
pub mod verdict;
