//! The one event stream of a run.
//!
//! Stages emit these; progress, JUnit, the record and the verdict are folds over them. Every event is numbered
//! without gaps from 1, and exactly one [`EventKind::RunFinished`] ends the stream.

mod case;
mod seen;
mod stage;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::verdict::Verdict;

pub use case::{Case, CaseStatus, Mismatch, Output};
pub use seen::{Artefact, Availability, Exchange, Outage, Part, PathOutcome, PathPlanned};
pub use stage::{Mode, Owner, Stage, StageOutcome};

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum EventKind {
    /// The first event.
    RunStarted {
        /// The run's id.
        run: String,
        /// The rehearsal's name.
        rehearsal: String,
        /// The rehearsal's file, as given.
        file: String,
        /// What the run is for.
        mode: Mode,
        /// The version of `rehearse`.
        version: String,
        /// Where record, logs and reports lie.
        dir: String,
    },
    /// The run tries again in a staging that was kept: its stages up to the snapshot take what that staging's own run
    /// showed, and check that it still holds.
    TakenOver {
        /// The run after whose deploy this one tries again.
        run: String,
        /// The run that made the staging: it restored the backups and proved the baseline.
        origin: String,
        /// `sha256:<hex>` of the origin's record.
        record: String,
    },
    /// A stage began.
    StageStarted {
        /// Which.
        stage: Stage,
    },
    /// A stage ended.
    StageFinished {
        /// Which.
        stage: Stage,
        /// How.
        #[serde(flatten)]
        outcome: StageOutcome,
        /// Seconds from its start to its end.
        seconds: f64,
    },
    /// A stage was not reached. Never counts as ok.
    StageSkipped {
        /// Which.
        stage: Stage,
        /// Why.
        reason: String,
    },
    /// A digest taken by preflight.
    ArtefactDigested(Artefact),
    /// The package under rehearsal.
    PackageOpened {
        /// Its name.
        name: String,
        /// Its version, where it says one.
        version: Option<String>,
        /// `sha256:<hex>` over its sorted file digests.
        digest: String,
        /// How many files it holds.
        files: u64,
        /// Their bytes.
        bytes: u64,
        /// `deploy.yaml`, `DEPLOY.md`, `deploy.sh` or `compose.yaml`.
        shape: String,
        /// The components in the order in which they will be deployed.
        components: Vec<String>,
        /// The components that will not be, by `--only`. Such a run opens no gate.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        left_out: Vec<String>,
        /// What-ifs that the rehearsal requires and that will not be tried, by the command line. Such a run opens no gate
        /// either.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        what_ifs_left_out: Vec<String>,
        /// What its document asks a person to do: such a run is assisted.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        manual: Vec<String>,
    },
    /// The document of a runbook, in its order.
    Runbook {
        /// The component whose steps it holds.
        component: String,
        /// What it says.
        parts: Vec<Part>,
    },
    /// The engine answered.
    EngineFound {
        /// Its version.
        version: String,
        /// The API version that was agreed on.
        api: String,
        /// Its storage driver.
        storage: String,
        /// How branches are made there: `overlay` or `copy`.
        branches: String,
    },
    /// A base was made, or found and used again.
    Base {
        /// Its content address.
        key: String,
        /// The volume it fills, as the stack names it.
        volume: String,
        /// True when an identical earlier restore served.
        reused: bool,
    },
    /// A backup that is to be restored, before it is read, and what it will be held against.
    BackupExpected {
        /// The restore's name.
        restore: String,
        /// Bytes of the backup as it lies there, where it is one file.
        size: Option<u64>,
        /// How old its data may be, in seconds.
        max_age_seconds: Option<u64>,
        /// What its restore may take, in seconds.
        limit_seconds: u64,
        /// The median of its sizes in earlier, passed runs, in bytes.
        usual_size: Option<u64>,
        /// How many earlier runs that is the median of.
        earlier_runs: u64,
    },
    /// A backup was restored, or an identical earlier restore of it was taken.
    BackupRestored {
        /// The restore's name.
        restore: String,
        /// What the backup is: `PostgreSQL custom-format dump`.
        format: String,
        /// Bytes of the backup as it lies there.
        size: u64,
        /// Seconds that the restore took; those of the earlier one where it was taken.
        seconds: f64,
        /// The time of the newest data, where it could be told.
        as_of: Option<Timestamp>,
        /// True when an identical earlier restore served.
        reused: bool,
        /// The content address of the base that it is in; `None` where it became an image.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        base: Option<String>,
    },
    /// A word to the reader that is neither progress nor a result.
    Note {
        /// The stage it belongs to.
        stage: Stage,
        /// The text, one line.
        text: String,
    },
    /// How far something that takes long has come.
    Progress {
        /// The stage it belongs to.
        stage: Stage,
        /// What is being done: `build rehearse-site/cms:1`, `restore site.dump`.
        what: String,
        /// Done so far, in `unit`.
        done: u64,
        /// All there is to do, where it is known.
        total: Option<u64>,
        /// `bytes`, `services`, `tests`.
        unit: String,
    },
    /// A step of the package began.
    StepStarted {
        /// Its component.
        component: String,
        /// Its name.
        step: String,
        /// Where it runs: `bastion` or a service.
        target: String,
    },
    /// A step of the package ended.
    StepFinished {
        /// Its component.
        component: String,
        /// Its name.
        step: String,
        /// The exit code, where a process ran and ended by itself.
        exit_code: Option<i64>,
        /// Seconds.
        seconds: f64,
    },
    /// A line that a step, a restore or a build wrote.
    OutputLine {
        /// The stage it belongs to.
        stage: Stage,
        /// Who wrote it: `backend/migrate the schema`, `restore db`.
        source: String,
        /// To which output.
        output: Output,
        /// The line, without its end, with control characters removed.
        line: String,
    },
    /// A test case ended.
    CaseFinished {
        /// The stage it ran in.
        stage: Stage,
        /// The case.
        #[serde(flatten)]
        case: Case,
    },
    /// A name outside staging was asked for; it was refused.
    OutsideName {
        /// The stage in which it was asked.
        stage: Stage,
        /// The name.
        name: String,
        /// The asking service or container, where its address is known.
        asker: String,
    },
    /// An emulator was asked for something.
    EmulatorRequest {
        /// The stage in which it was asked.
        stage: Stage,
        /// The emulator.
        emulator: String,
        /// The asking service or container, where its address is known.
        asker: String,
        /// How it came.
        kind: Exchange,
        /// `POST /charge`, `mail from a to b: subject`.
        summary: String,
        /// False where no route fitted, somebody was written to who may not be, or nobody listens on the port.
        matched: bool,
        /// The status of the answer, of HTTP.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        /// The beginning of its headers and body.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
    /// Somebody called an address outside staging without asking for a name; nobody answered.
    OutsideCall {
        /// The stage in which it called.
        stage: Stage,
        /// The calling service or container, where its address is known.
        caller: String,
    },
    /// A time in which an `availability` target was not there during the deploy.
    Unavailable(Outage),
    /// How an `availability` target stood the deploy.
    Availability(Availability),
    /// The what-ifs that the run is asked to try after the deploy: without an end of each, and of their stage, it is not
    /// passed.
    PathsPlanned {
        /// In the order in which they begin.
        paths: Vec<PathPlanned>,
        /// Orders of the components that are not tried, because they are more than asked for.
        orders_left_out: u64,
        /// What orders were sampled with.
        seed: u64,
    },
    /// A path of a what-if began, on a branch and a network of its own.
    PathStarted {
        /// Its name.
        path: String,
    },
    /// Something happened on a path. It is no part of the deploy that is judged, and nothing that reads events may take it
    /// for one: that is why it is wrapped.
    OnPath {
        /// The path's name.
        path: String,
        /// What happened there.
        happened: Box<EventKind>,
    },
    /// A path ended, and its branch and network are gone.
    PathEnded {
        /// Its name.
        path: String,
        /// How.
        outcome: PathOutcome,
        /// One sentence: of a path that did not pass, why; of one that did, what was learnt.
        reason: Option<String>,
        /// Seconds from its start to its end.
        seconds: f64,
        /// What its branch had written, in bytes on disk; `None` where it was not measured.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bytes: Option<u64>,
    },
    /// What the snapshot looks like, or what stands there after rollback.
    Fingerprint {
        /// `snapshot` or `rollback`.
        of: String,
        /// From a volume's or database's name to `sha256:<hex>`.
        parts: BTreeMap<String, String>,
    },
    /// A measured duration that a person takes to a meeting.
    Measured {
        /// `restore`, `snapshot`, `deploy`, `rollback to healthy`.
        what: String,
        /// Seconds.
        seconds: f64,
    },
    /// Something of this run could not be removed and will be swept later.
    Leftover {
        /// `container x`, `volume y`, `network z`.
        what: String,
        /// The engine's words.
        reason: String,
    },
    /// Staging was left up on request.
    Kept {
        /// When it will be swept.
        expires: Timestamp,
        /// The service containers, from service name to container name.
        containers: BTreeMap<String, String>,
    },
    /// The verdict as it stands after verify (or after the stage that ended the judgement). A crash in
    /// rollback or teardown does not lose it.
    Judged {
        /// The verdict so far; its rollback is not known yet.
        verdict: Verdict,
    },
    /// The one terminal event.
    RunFinished {
        /// The final verdict.
        verdict: Verdict,
        /// The process's exit code.
        exit_code: u8,
        /// Seconds from the first event.
        seconds: f64,
    },
}

/// One numbered event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// From 1, without gaps.
    pub seq: u64,
    /// Wall clock, UTC.
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}
