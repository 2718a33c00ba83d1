//! The parts of a record.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::{Case, Event, EventKind, Exchange, Stage};
use crate::verdict::{PathEnd, StageEnd, paths_seen};

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
    /// Required what-ifs of the rehearsal that were not tried, by the command line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub what_ifs_left_out: Vec<String>,
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

/// What an emulator was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmulatedFacts {
    /// The stage in which it was asked.
    pub stage: Stage,
    /// The emulator.
    pub emulator: String,
    /// The asking service or container.
    pub asker: String,
    /// How it came.
    pub kind: Exchange,
    /// `POST /charge`, `mail from a to b: subject`.
    pub summary: String,
    /// False where no route fitted, somebody was written to who may not be, or nobody listens on the port.
    pub matched: bool,
    /// The status of the answer, of HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// How often.
    pub times: usize,
}

/// Calls to addresses outside staging, which nobody answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutsideCallFacts {
    /// The stage in which it called.
    pub stage: Stage,
    /// The calling service or container.
    pub caller: String,
    /// How often at least.
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

/// The what-ifs of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WhatIfFacts {
    /// What orders were sampled with.
    pub seed: u64,
    /// Orders of the components that were not tried, because they are more than asked for.
    pub orders_left_out: u64,
    /// Every path that was planned.
    pub paths: Vec<PathFacts>,
}

/// A path of a what-if.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathFacts {
    /// Its name.
    pub path: String,
    /// The what-if that it is part of.
    pub what_if: String,
    /// True where its outcome does not decide the verdict.
    pub advisory: bool,
    /// How it ended.
    #[serde(rename = "outcome")]
    pub end: PathEnd,
    /// Why it did not pass, or what was learnt.
    pub reason: Option<String>,
    /// Seconds it took.
    pub seconds: f64,
    /// What its branch had written, in bytes on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

impl WhatIfFacts {
    /// `None` where no what-if was asked for.
    pub(super) fn of(events: &[Event]) -> Option<Self> {
        let planned = events.iter().find_map(|event| match &event.kind {
            EventKind::PathsPlanned {
                orders_left_out,
                seed,
                ..
            } => Some((*orders_left_out, *seed)),
            _ => None,
        });
        let (orders_left_out, seed) = planned?;
        let paths = paths_seen(events).into_iter().map(|seen| PathFacts {
            path: seen.path,
            what_if: seen.what_if,
            advisory: seen.advisory,
            end: seen.end,
            reason: seen.reason,
            seconds: seen.seconds,
            bytes: seen.bytes,
        });
        Some(Self {
            seed,
            orders_left_out,
            paths: paths.collect(),
        })
    }
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
