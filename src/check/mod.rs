//! Test kinds and expectations: pure judgement of what the agent saw. No I/O, no engine.
//!
//! [`judge()`] compares one [`model::Observation`] with one test's expectations and keeps *failed* (an
//! expectation was false) apart from *error* (it could not be determined). [`vacuous`] and [`compile`] let the
//! plan refuse what could never be judged.

pub mod availability;
pub mod config;
mod emulator;
mod exec;
mod file;
mod findings;
mod http;
mod judge;
pub mod ladder;
pub mod locks;
pub mod model;
pub mod rows;
pub mod schema;
mod show;
pub mod source;
mod sql;
mod tcp;
mod text;
mod vacuous;

#[cfg(test)]
mod tests;

pub use judge::{Judgement, judge};
pub use text::compile;
pub use vacuous::vacuous;
