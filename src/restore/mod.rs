//! Reading backups: what a file is, whether it is whole, and how it becomes a clean stream.
//!
//! Reading is done before an engine is asked for anything, and answers two questions apart: is the backup bad, or
//! could this machine not read it? Then `postgres` and `volume` restore it in staging, by the service's own tools.

pub mod archive;
mod error;
mod format;
mod pgdump;
pub mod postgres;
mod read;
mod sql;
pub mod volume;

#[cfg(test)]
mod tests;

pub use error::BackupError;
pub use format::{BackupFacts, Compression, DumpFacts, Format, Wanted};
pub use read::{inspect, open_decompressed};
