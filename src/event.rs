//! The one event stream of a run.
//!
//! Stages emit these; progress, JUnit, the record and the verdict are folds over them. Every event is numbered
//! without gaps from 1, and exactly one [`EventKind::RunFinished`] ends the stream.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::verdict::Verdict;

/// A phase of a run, in the order in which phases happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Reads and checks every file, digests package and backups, asks the engine what it can do.
    Preflight,
    /// Network, agent, images and volumes.
    Provision,
    /// Proves from inside that nothing outside can be reached.
    Isolate,
    /// Restores each backup, or reuses the base of an identical earlier restore.
    Restore,
    /// The services are healthy and the test plan is green before the deploy.
    Baseline,
    /// Freezes volumes and container filesystems as one point.
    Snapshot,
    /// Runs the package, unassisted.
    Deploy,
    /// The test plan after the deploy.
    Verify,
    /// Other ways that the deploy could go, each from the same snapshot.
    #[serde(rename = "what-if")]
    WhatIf,
    /// Back to the snapshot, proved by tests and fingerprints.
    Rollback,
    /// Removes everything this run made, or keeps it with an expiry.
    Teardown,
}

impl Stage {
    /// Every stage in order.
    pub const ALL: [Self; 11] = [
        Self::Preflight,
        Self::Provision,
        Self::Isolate,
        Self::Restore,
        Self::Baseline,
        Self::Snapshot,
        Self::Deploy,
        Self::Verify,
        Self::WhatIf,
        Self::Rollback,
        Self::Teardown,
    ];

    /// The name used in output, suites and files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Preflight => "preflight",
            Self::Provision => "provision",
            Self::Isolate => "isolate",
            Self::Restore => "restore",
            Self::Baseline => "baseline",
            Self::Snapshot => "snapshot",
            Self::Deploy => "deploy",
            Self::Verify => "verify",
            Self::WhatIf => "what-if",
            Self::Rollback => "rollback",
            Self::Teardown => "teardown",
        }
    }
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// What a run is for: it decides which stages are needed and who owns a bad backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// `rehearse run`: all stages.
    Rehearse,
    /// `rehearse backup-check`: up to baseline, then teardown. A bad backup is *failed*.
    BackupCheck,
}

impl Mode {
    /// The name used in output and files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rehearse => "rehearse",
            Self::BackupCheck => "backup-check",
        }
    }
}

/// Who is at fault when a stage goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// The package that was handed over.
    Package,
    /// A backup that cannot be restored, or is too old.
    Backup,
    /// The staging's own services before the deploy.
    Staging,
    /// The stack file, or an image it names.
    Stack,
    /// The test plan.
    Testplan,
    /// The staging network let something out, or its isolation could not be proved.
    Isolation,
    /// The engine, or this machine.
    Engine,
}

impl Owner {
    /// The name used in output and files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Package => "package",
            Self::Backup => "backup",
            Self::Staging => "staging",
            Self::Stack => "stack",
            Self::Testplan => "testplan",
            Self::Isolation => "isolation",
            Self::Engine => "engine",
        }
    }
}

/// How a stage ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum StageOutcome {
    /// Everything the stage had to show was shown.
    Ok,
    /// The stage went wrong, and `owner` is at fault. Whether that makes the verdict failed or invalid is
    /// the verdict's decision, not the stage's.
    Bad {
        /// Who is at fault.
        owner: Owner,
        /// One sentence: the operation, the object, and what was seen.
        reason: String,
        /// What to do about it, where that is known.
        help: Option<String>,
    },
    /// Somebody pressed Ctrl-C, or the process was asked to end.
    Interrupted,
}

/// The result of one test case, in the three words of the glossary and two more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CaseStatus {
    /// Every expectation was seen to be true.
    Passed,
    /// An expectation was false.
    Failed,
    /// It could not be determined.
    Error,
    /// It was not reached. Never counts as passed.
    Skipped,
    /// An expectation of a `severity: warn` test was false.
    Warned,
}

/// One expectation that did not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mismatch {
    /// What was looked at: `status`, `header content-type`, `body`, `exit code`, `rows`.
    pub what: String,
    /// What the file asked for.
    pub expected: String,
    /// What was seen, shortened to something a person can read.
    pub seen: String,
}

/// One test case, of the test plan or of a stage's own suite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// The suite it belongs to: a stage's name, or `<stage>.<test plan>`.
    pub suite: String,
    /// Unique within its suite.
    pub name: String,
    /// How it ended.
    pub status: CaseStatus,
    /// Seconds it took.
    pub seconds: f64,
    /// One line for failed, error, skipped and warned cases; for a passed one, an optional figure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The expectations that were false.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mismatches: Vec<Mismatch>,
    /// The component of the package that is the likely cause, where one can be named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// Where the case is written: `testplans/site.yaml:12:5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Output worth keeping beside the case (a step's last lines, a response's body).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Files of the run's folder that show more, relative to that folder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
}

/// Which of a process's two outputs a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How something came to an emulator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exchange {
    /// A request without TLS.
    #[default]
    Http,
    /// A request with TLS.
    Https,
    /// A mail.
    Smtp,
    /// A connection to a blackhole.
    Tcp,
    /// A handshake of TLS that failed.
    Tls,
}

impl Exchange {
    /// The name used in output and files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Smtp => "smtp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }
}

/// A piece of a runbook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "part", rename_all = "kebab-case")]
pub enum Part {
    /// What a person reads, as it is written, without comments.
    Prose {
        /// Lines of Markdown.
        text: String,
    },
    /// A block that is a step.
    Step {
        /// Its name.
        step: String,
        /// True for a step of the way back.
        rollback: bool,
    },
    /// A block that is shown, and not run: it is in no language that is.
    Shown {
        /// The first word behind its fence; may be empty.
        language: String,
        /// What is in it.
        text: String,
    },
}

/// A file that a run depends on, as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artefact {
    /// What it is for: `rehearsal`, `stack`, `testplan`, `package`, or the name of a restore.
    pub role: String,
    /// The path as given.
    pub path: String,
    /// `sha256:<hex>`.
    pub digest: String,
    /// Bytes.
    pub size: u64,
}

/// A time in which an `availability` target was not there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outage {
    /// The target's name.
    pub target: String,
    /// When the first question was asked that failed.
    pub from: Timestamp,
    /// When the first question was asked that succeeded again; absent where it was still down when the deploy had ended.
    pub to: Option<Timestamp>,
    /// Seconds that it lasted, as far as it was watched.
    pub seconds: f64,
    /// How many questions failed.
    pub probes: u64,
    /// What the first of them said.
    pub reason: String,
    /// The steps that were running meanwhile, as `component / step`; none where it lay between two.
    pub steps: Vec<String>,
}

/// How an `availability` target stood the deploy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Availability {
    /// The target's name.
    pub target: String,
    /// How many questions were asked.
    pub probes: u64,
    /// How many of them failed.
    pub failed: u64,
    /// How many times it was not there; of more than 100 the first are told one by one.
    pub outages: u64,
    /// The sum of these times, in seconds.
    pub downtime_seconds: f64,
    /// The longest of them, in seconds.
    pub longest_seconds: f64,
    /// The slowest good answer, in seconds.
    pub slowest_seconds: f64,
}

/// A path of a what-if that is to be tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathPlanned {
    /// Its name, unique in the run.
    pub path: String,
    /// The what-if that it is part of: `rollback`, `rerun`, `interrupt`, `order`, `subset`, `again`.
    pub what_if: String,
    /// True where its outcome is told, and does not decide the verdict.
    pub advisory: bool,
}

/// How a path ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PathOutcome {
    /// It ended as it has to.
    Passed,
    /// It did not: the package is at fault.
    Failed,
    /// That could not be seen.
    Invalid,
}

impl PathOutcome {
    /// The name used in output and files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Invalid => "invalid",
        }
    }
}

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
        /// False where no route fitted, or somebody was written to who may not be.
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
