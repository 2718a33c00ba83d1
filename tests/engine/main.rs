//! The product on a real engine: every test runs the built `rehearse`.
//!
//! A machine without an engine fails these tests with the remedy; nothing is skipped. The first test that needs it
//! makes what is missing (`rehearse demo --prepare`).

mod backup;
mod chinook;
mod common;
mod crash;
mod exit_codes;
mod isolation;
mod junit;
mod release;
mod shapes;
mod stack;
mod stages;
mod staging;
mod unassisted;
