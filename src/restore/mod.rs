//! One file a backup format.
