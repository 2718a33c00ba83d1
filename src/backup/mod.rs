//! Reading backups: what a file or folder is, whether it is whole, and how it becomes a clean stream.
//!
//! Reading is done before an engine is asked for anything, and answers two questions apart: is the backup bad, or
//! could this machine not read it? Restoring it, by the real tools in staging, is `restore`.

pub mod archive;
mod base;
pub mod damage;
mod error;
mod folder;
mod format;
mod kinds;
mod manifest;
mod mariadb;
mod pgdump;
mod pgfiles;
mod read;
mod recognise;
mod redis;
pub mod remembered;
mod repository;
mod sql;
mod sqlite;
mod stream;
mod xbstream;

#[cfg(test)]
mod tests;

pub use error::BackupError;
pub use format::{BackupFacts, Compression, DumpFacts, Format, Wanted};
pub use read::{digest, inspect, open_decompressed};
