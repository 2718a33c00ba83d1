//! What runs inside the staging network: checks, resolver, traffic.

pub mod protocol;
