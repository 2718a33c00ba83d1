//! The product on a real engine: every test runs the built `rehearse`.
//!
//! A machine without an engine fails these tests with the remedy; nothing is skipped. The first test that needs it
//! makes what is missing (`rehearse demo --prepare`).

mod availability;
mod backup;
mod bases;
mod chinook;
mod command;
mod common;
mod crash;
mod emulators;
mod exit_codes;
mod handoff;
mod history;
mod hostile;
mod isolation;
mod junit;
mod kept;
mod manifest;
mod manifest_mariadb;
mod mariadb;
mod next_try;
mod overrides;
mod packages;
mod postgres_dumps;
mod postgres_physical;
mod postgres_source;
mod prove;
mod redis;
mod release;
mod repositories;
mod rootfs;
mod shapes;
mod sqlite;
mod stack;
mod stages;
mod staging;
mod trouble;
mod unassisted;
mod whatif;
mod workshop;
