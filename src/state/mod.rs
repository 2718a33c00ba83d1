//! Copy-on-write state: bases, snapshots and branches.
//!
//! What a restore or a snapshot left is *frozen* and never written again. What services write to is a *branch* of
//! something frozen. With overlay volumes a freeze and a branch cost the same at any size; where the engine cannot
//! mount them, a branch is a copy (reflinked where the filesystem can), and the record says so.

mod base;
mod branch;
mod claim;
mod key;
pub mod shelf;
mod stamp;

pub use base::{Base, BaseStore};
pub use branch::{Branch, Branching, Frozen, StateStore};
pub(crate) use branch::{agent, distinct, slug};
pub use claim::{Claim, News, Obtain};
pub use key::BaseKey;
pub use stamp::Broken;
