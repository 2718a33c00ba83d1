//! The record: what a run was and what came of it, for machines and for later.

pub mod assisted;
mod backups;
mod facts;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::{
    Artefact, Availability, Case, CaseStatus, Event, EventKind, Exchange, Mode, Outage, Part, Stage,
};
pub use backups::{BackupCheck, BackupSeen, Became, ComeBack};
pub use facts::*;

use crate::verdict::{StageEnd, Verdict, needed, stages_seen};

/// The version of the record's form that is written, and the only one that is read.
pub const VERSION: u32 = 1;

/// The record's file in a run's folder.
pub const FILE: &str = "record.json";

/// A run in one document, folded from its events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The version of this form.
    pub record: u32,
    /// The run's id.
    pub run: String,
    /// The rehearsal's name.
    pub rehearsal: String,
    /// The rehearsal's file, as given.
    pub file: String,
    /// What the run was for.
    pub mode: Mode,
    /// The version of `rehearse`.
    pub version: String,
    /// Where record, logs and reports were written.
    pub dir: String,
    /// When it began.
    pub started: Timestamp,
    /// When its terminal event came; absent in the record of a run that is still going on or died.
    pub finished: Option<Timestamp>,
    /// Seconds from the first event to the last one so far.
    pub seconds: f64,
    /// The process's exit code; absent as long as `finished` is.
    pub exit_code: Option<u8>,
    /// The verdict as it stands.
    pub verdict: Verdict,
    /// True where a person had a shell in staging: such a run does not count as passed, for ever.
    pub assisted: bool,
    /// What was deployed.
    pub package: Option<PackageFacts>,
    /// The package's runbook, where it is one: what a person reads beside the steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runbook: Vec<Part>,
    /// Where it ran.
    pub engine: Option<EngineFacts>,
    /// The files it depended on, with their digests.
    pub artefacts: Vec<Artefact>,
    /// What was restored into which volume.
    pub bases: Vec<BaseFacts>,
    /// The backups, and what their restores told.
    #[serde(default)]
    pub restores: Vec<RestoreFacts>,
    /// What a backup check found of each backup, and what that means. Of backup checks only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_check: Option<BackupCheck>,
    /// How each stage ended.
    pub stages: Vec<StageFacts>,
    /// How many cases of each suite ended how.
    pub suites: Vec<SuiteFacts>,
    /// Every case that is not passed.
    pub cases: Vec<CaseFacts>,
    /// Measured durations in order.
    pub measured: Vec<Measure>,
    /// From `snapshot` and `rollback` to what stood there.
    pub fingerprints: BTreeMap<String, BTreeMap<String, String>>,
    /// Names outside staging that were asked for.
    pub outside_names: Vec<OutsideFacts>,
    /// What the emulators were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub emulated: Vec<EmulatedFacts>,
    /// Calls to addresses outside staging, for which no name was asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outside_calls: Vec<OutsideCallFacts>,
    /// How each `availability` target stood the deploy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub availability: Vec<Availability>,
    /// The times in which one was not there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outages: Vec<Outage>,
    /// What could not be removed.
    pub leftovers: Vec<LeftoverFacts>,
    /// Staging, where it was left up.
    pub kept: Option<KeptFacts>,
    /// The what-ifs that were asked for, and what came of each path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what_ifs: Option<WhatIfFacts>,
    /// The kept staging in which this run tried again, where it made none of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_over: Option<TakenOverFacts>,
}

/// Why a record could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file is not there, or not to be read or written.
    #[error("cannot {what} `{}`", .path.display())]
    Io {
        /// `read` or `write`.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
    /// It is not a record: half-written by a run that died, or of another form.
    #[error("cannot understand the record `{}`: {problem}", .path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl Record {
    /// Folds the events so far; `None` where they do not begin with a run's start.
    pub fn of(events: &[Event]) -> Option<Self> {
        let first = events.first()?;
        let EventKind::RunStarted {
            run,
            rehearsal,
            file,
            mode,
            version,
            dir,
        } = &first.kind
        else {
            return None;
        };
        let last = events.last().map_or(first.at, |event| event.at);
        let verdict = Verdict::of(events);
        let mut record = Self {
            record: VERSION,
            run: run.clone(),
            rehearsal: rehearsal.clone(),
            file: file.clone(),
            mode: *mode,
            version: version.clone(),
            dir: dir.clone(),
            started: first.at,
            finished: None,
            seconds: last.duration_since(first.at).as_secs_f64(),
            exit_code: None,
            assisted: verdict.assisted,
            verdict,
            package: None,
            runbook: Vec::new(),
            engine: None,
            artefacts: Vec::new(),
            bases: Vec::new(),
            restores: Vec::new(),
            backup_check: None,
            stages: stage_facts(events, *mode),
            suites: Vec::new(),
            cases: Vec::new(),
            measured: Vec::new(),
            fingerprints: BTreeMap::new(),
            outside_names: Vec::new(),
            emulated: Vec::new(),
            outside_calls: Vec::new(),
            availability: Vec::new(),
            outages: Vec::new(),
            leftovers: Vec::new(),
            kept: None,
            what_ifs: WhatIfFacts::of(events),
            taken_over: None,
        };
        for event in events {
            record.add(event);
        }
        if *mode == Mode::BackupCheck {
            record.backup_check = Some(BackupCheck::of(events, first.at, record.verdict.outcome));
        }
        Some(record)
    }

    fn add(&mut self, event: &Event) {
        match event.kind.clone() {
            EventKind::ArtefactDigested(artefact) => self.artefacts.push(artefact),
            EventKind::PackageOpened {
                name,
                version,
                digest,
                left_out,
                what_ifs_left_out,
                ..
            } => {
                self.package = Some(PackageFacts {
                    name,
                    version,
                    digest,
                    left_out,
                    what_ifs_left_out,
                });
            }
            EventKind::EngineFound {
                version,
                api,
                storage,
                branches,
            } => {
                self.engine = Some(EngineFacts {
                    version,
                    api,
                    storage,
                    branches,
                });
            }
            EventKind::Base {
                key,
                volume,
                reused,
            } => self.bases.push(BaseFacts {
                key,
                volume,
                reused,
            }),
            EventKind::BackupRestored {
                restore,
                format,
                size,
                seconds,
                as_of,
                reused,
                base: _,
            } => self.restores.push(RestoreFacts {
                restore,
                format,
                size,
                seconds,
                as_of,
                reused,
            }),
            EventKind::CaseFinished { stage, case } => self.add_case(stage, case),
            EventKind::OutsideName { stage, name, asker } => self.add_outside(stage, name, asker),
            EventKind::EmulatorRequest {
                stage,
                emulator,
                asker,
                kind,
                summary,
                matched,
                status,
                detail: _,
            } => self.add_emulated(EmulatedFacts {
                stage,
                emulator,
                asker,
                kind,
                summary,
                matched,
                status,
                times: 1,
            }),
            EventKind::OutsideCall { stage, caller } => self.add_call(stage, caller),
            EventKind::Unavailable(outage) => self.outages.push(outage),
            EventKind::Availability(target) => self.availability.push(target),
            EventKind::Fingerprint { of, parts } => {
                self.fingerprints.entry(of).or_default().extend(parts)
            }
            EventKind::Measured { what, seconds } => self.measured.push(Measure { what, seconds }),
            EventKind::Leftover { what, reason } => {
                self.leftovers.push(LeftoverFacts { what, reason })
            }
            EventKind::Kept {
                expires,
                containers,
            } => {
                self.kept = Some(KeptFacts {
                    expires,
                    containers,
                })
            }
            EventKind::TakenOver {
                run,
                origin,
                record,
            } => {
                self.taken_over = Some(TakenOverFacts {
                    run,
                    origin,
                    record,
                });
            }
            EventKind::RunFinished { exit_code, .. } => {
                self.finished = Some(event.at);
                self.exit_code = Some(exit_code);
            }
            EventKind::Runbook { parts, .. } => self.runbook = parts,
            EventKind::PathsPlanned { .. }
            | EventKind::PathStarted { .. }
            | EventKind::OnPath { .. }
            | EventKind::PathEnded { .. }
            | EventKind::RunStarted { .. }
            | EventKind::StageStarted { .. }
            | EventKind::StageFinished { .. }
            | EventKind::StageSkipped { .. }
            | EventKind::BackupExpected { .. }
            | EventKind::Note { .. }
            | EventKind::Progress { .. }
            | EventKind::StepStarted { .. }
            | EventKind::StepFinished { .. }
            | EventKind::OutputLine { .. }
            | EventKind::Judged { .. } => {}
        }
    }

    fn add_case(&mut self, stage: Stage, case: Case) {
        let known = self.suites.iter().position(|s| s.suite == case.suite);
        let at = known.unwrap_or_else(|| {
            self.suites.push(SuiteFacts {
                suite: case.suite.clone(),
                stage,
                passed: 0,
                failed: 0,
                errors: 0,
                skipped: 0,
                warned: 0,
            });
            self.suites.len() - 1
        });
        let suite = &mut self.suites[at];
        match case.status {
            CaseStatus::Passed => suite.passed += 1,
            CaseStatus::Failed => suite.failed += 1,
            CaseStatus::Error => suite.errors += 1,
            CaseStatus::Skipped => suite.skipped += 1,
            CaseStatus::Warned => suite.warned += 1,
        }
        if case.status != CaseStatus::Passed {
            self.cases.push(CaseFacts { stage, case });
        }
    }

    fn add_call(&mut self, stage: Stage, caller: String) {
        let same = |o: &&mut OutsideCallFacts| o.stage == stage && o.caller == caller;
        match self.outside_calls.iter_mut().find(same) {
            Some(known) => known.times += 1,
            None => self.outside_calls.push(OutsideCallFacts {
                stage,
                caller,
                times: 1,
            }),
        }
    }

    fn add_outside(&mut self, stage: Stage, name: String, asker: String) {
        let same = |o: &&mut OutsideFacts| o.stage == stage && o.name == name && o.asker == asker;
        match self.outside_names.iter_mut().find(same) {
            Some(known) => known.times += 1,
            None => self.outside_names.push(OutsideFacts {
                stage,
                name,
                asker,
                times: 1,
            }),
        }
    }

    fn add_emulated(&mut self, asked: EmulatedFacts) {
        let same = |known: &&mut EmulatedFacts| {
            let times = known.times;
            **known
                == EmulatedFacts {
                    times,
                    ..asked.clone()
                }
        };
        match self.emulated.iter_mut().find(same) {
            Some(known) => known.times += 1,
            None => self.emulated.push(asked),
        }
    }

    /// Mails that the deploy, or what it left standing, would have sent to people who may not be written to.
    pub fn mails_to_strangers(&self) -> usize {
        let of_deploy = |stage: Stage| matches!(stage, Stage::Deploy | Stage::Verify);
        self.emulated
            .iter()
            .filter(|asked| {
                asked.kind == Exchange::Smtp && !asked.matched && of_deploy(asked.stage)
            })
            .map(|asked| asked.times)
            .sum()
    }

    /// Reads the record of a run's folder, as a mark beside it makes it. Fails where there is none, or none of this form.
    pub fn read(dir: &Path) -> Result<Self, RecordError> {
        let path = dir.join(FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(source) => {
                return Err(RecordError::Io {
                    what: "read",
                    path,
                    source,
                });
            }
        };
        let malformed = |problem: String| RecordError::Malformed {
            path: path.clone(),
            problem,
        };
        // The version comes first: a record of a later form should say so, not complain about a field.
        let value: serde_json::Value =
            serde_json::from_slice(&text).map_err(|e| malformed(e.to_string()))?;
        match value.get("record").and_then(serde_json::Value::as_u64) {
            Some(version) if version == u64::from(VERSION) => {}
            Some(version) => {
                return Err(malformed(format!(
                    "it has form {version}; this version reads form {VERSION}"
                )));
            }
            None => return Err(malformed("it does not say which form it has".to_owned())),
        }
        let record: Self = serde_json::from_value(value).map_err(|e| malformed(e.to_string()))?;
        Ok(record.marked_by(dir))
    }

    /// Writes the record into a run's folder so that a reader sees the old one or the new one, whole.
    pub fn write(&self, dir: &Path) -> Result<(), RecordError> {
        let path = dir.join(FILE);
        let text = serde_json::to_string_pretty(self).map_err(std::io::Error::other);
        text.and_then(|text| write_atomically(&path, format!("{text}\n").as_bytes()))
            .map_err(|source| RecordError::Io {
                what: "write",
                path,
                source,
            })
    }
}

/// Every stage that the mode needs, rollback and teardown, and any other that the events mention.
fn stage_facts(events: &[Event], mode: Mode) -> Vec<StageFacts> {
    let what_ifs = events
        .iter()
        .any(|event| matches!(event.kind, EventKind::PathsPlanned { .. }));
    stages_seen(events)
        .into_iter()
        .filter(|seen| {
            let always = match mode {
                // Only where it is asked for is it missed.
                Mode::Rehearse => seen.stage != Stage::WhatIf || what_ifs,
                Mode::BackupCheck => {
                    needed(mode).contains(&seen.stage) || seen.stage == Stage::Teardown
                }
            };
            always || seen.end != StageEnd::NotReached
        })
        .map(|seen| StageFacts {
            stage: seen.stage,
            end: seen.end,
            seconds: seen.seconds,
        })
        .collect()
}

/// Writes a file under another name in the same folder, makes sure of it on disk, and renames it.
pub(super) fn write_atomically(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // Temporary files are private by default; a report is there to be read by a CI's own user.
    let mut file = tempfile::Builder::new()
        .prefix(".rehearse-")
        .permissions(std::fs::Permissions::from_mode(0o644))
        .tempfile_in(folder)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    std::fs::File::open(folder)?.sync_all()
}
