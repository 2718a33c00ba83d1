//! What `rehearse manifest` takes at the source of a backup, beside it: the truth that the restore is compared with.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The only version of this form that is written and read.
pub const VERSION: u32 = 1;

/// What was true at the source when the backup was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceManifest {
    /// The version of this form.
    pub source_manifest: u32,
    /// When it was taken, by the clock of the machine that took it.
    pub taken: Timestamp,
    /// `postgres`, `mariadb`, `redis` or `sqlite`.
    pub family: String,
    /// The server's version in its own words: `15.14`.
    pub server_version: String,
    /// The backup that it belongs to, where it was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupDigest>,
    /// From a database's name to what was in it.
    pub databases: BTreeMap<String, DatabaseFacts>,
}

/// Which backup a source manifest belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupDigest {
    /// As `BackupFacts::sha256`: hex without a prefix.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
}

/// What was in one database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseFacts {
    /// From a table's name (`public.invoice`; without a schema where there are none) to its exact number of rows.
    pub tables: BTreeMap<String, u64>,
    /// From a sequence's name to its last value; `null` where it was never used.
    #[serde(default)]
    pub sequences: BTreeMap<String, Option<i64>>,
    /// From a collation's provider and name to its version: `libc en_US.utf8` to `2.36`.
    #[serde(default)]
    pub collations: BTreeMap<String, String>,
}
