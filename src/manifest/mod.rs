//! The files as written, with positions.
//!
//! [`load`] reads a rehearsal and all it names, [`load_package`] what a package says about itself, [`check`] any one of these files. Each reports
//! everything that is wrong at once, and every problem quotes the line that is wrong.

pub mod check;
pub(crate) mod declares;
pub(crate) mod decode;
pub mod emulators;
mod environment;
pub(crate) mod interpolate;
pub mod load;
pub(crate) mod names;
pub mod package;
pub mod parameter;
pub(crate) mod paths;
pub mod place;
pub mod problem;
pub mod rehearsal;
mod render;
pub mod restore;
mod runbook;
pub mod stack;
mod step;
pub(crate) mod suggest;
pub mod testplan;
pub(crate) mod tree;
pub(crate) mod units;
mod what_if;

pub use check::{Checked, check, check_package};
pub use load::{Loaded, load};
pub use package::{PackageManifest, load_package};
pub use problem::{Problem, Problems};

/// A duration as all files write it: `500ms`, `90m`, `26h`, `7d`, `1m30s`. `None` where it is none.
pub fn duration(text: &str) -> Option<std::time::Duration> {
    units::duration(text)
}

#[cfg(test)]
mod tests;

/// A size as all files write it, in powers of 1024: `512m`, `1g`, `1.5gb`. `None` where it is none, or 0.
pub fn bytes(text: &str) -> Option<u64> {
    units::bytes(text)
}
