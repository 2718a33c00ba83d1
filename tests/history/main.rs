//! The history, metrics and notifications as a user meets them, without an engine: a run that finds none is invalid
//! within a moment, which is verdict enough here.

mod common;
mod kept;
mod metrics;
mod notify;
mod systemd;
