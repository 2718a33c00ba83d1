//! Events in, bytes out.
