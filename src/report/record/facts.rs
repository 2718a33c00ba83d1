//! The parts of a record.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::{Case, Stage};
use crate::verdict::StageEnd;

/// The package of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageFacts {
    /// Its name.
    pub name: String,
    /// Its version, where it says one.
    pub version: Option<String>,
    /// `sha256:<hex>` over its sorted file digests.
    pub digest: String,
    /// Components that were not deployed, by `--only`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

/// The engine of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineFacts {
    /// Its version.
    pub version: String,
    /// The API version that was agreed on.
    pub api: String,
    /// Its storage driver.
    pub storage: String,
    /// How branches were made: `overlay` or `copy`.
    pub branches: String,
}

/// A base of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseFacts {
    /// Its content address.
    pub key: String,
    /// The volume it filled, as the stack names it.
    pub volume: String,
    /// True when an identical earlier restore served.
    pub reused: bool,
}

/// A backup of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestoreFacts {
    /// The restore's name.
    pub restore: String,
    /// What the backup is.
    pub format: String,
    /// Bytes of the backup as it lies there.
    pub size: u64,
    /// Seconds that the restore took; those of the earlier one where it was taken.
    pub seconds: f64,
    /// The time of the newest data, where it could be told.
    pub as_of: Option<Timestamp>,
    /// True when an identical earlier restore served.
    pub reused: bool,
}

/// A stage of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageFacts {
    /// Which.
    pub stage: Stage,
    /// How it ended.
    #[serde(flatten)]
    pub end: StageEnd,
    /// Seconds it took.
    pub seconds: f64,
}

/// A suite of a run, counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuiteFacts {
    /// Its name.
    pub suite: String,
    /// The stage it ran in.
    pub stage: Stage,
    /// Every expectation was seen to be true.
    pub passed: usize,
    /// An expectation was false.
    pub failed: usize,
    /// It could not be determined.
    pub errors: usize,
    /// It was not reached.
    pub skipped: usize,
    /// An expectation of a `severity: warn` test was false.
    pub warned: usize,
}

/// A case that is not passed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaseFacts {
    /// The stage it ran in.
    pub stage: Stage,
    /// The case, as it was reported.
    #[serde(flatten)]
    pub case: Case,
}

/// A measured duration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// `restore`, `snapshot`, `deploy`, `rollback to healthy`.
    pub what: String,
    /// Seconds.
    pub seconds: f64,
}

/// A name outside staging that was asked for, and refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutsideFacts {
    /// The stage in which it was asked.
    pub stage: Stage,
    /// The name.
    pub name: String,
    /// The asking service or container.
    pub asker: String,
    /// How often.
    pub times: usize,
}

/// Something that could not be removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftoverFacts {
    /// `container x`, `volume y`, `network z`.
    pub what: String,
    /// The engine's words.
    pub reason: String,
}

/// Staging that was left up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptFacts {
    /// When it will be swept.
    pub expires: Timestamp,
    /// From service name to container name.
    pub containers: BTreeMap<String, String>,
}

/// The kept staging in which a run tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenOverFacts {
    /// The run after whose deploy it was.
    pub run: String,
    /// The run that made the staging.
    pub origin: String,
    /// `sha256:<hex>` of the origin's record.
    pub record: String,
}
