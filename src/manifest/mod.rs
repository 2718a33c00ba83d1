//! The files as written, with positions.
