//! Builds event streams for tests.

use jiff::{SignedDuration, Timestamp};

use crate::event::{
    Artefact, Case, CaseStatus, Event, EventKind, Mismatch, Mode, Output, Owner, Stage,
    StageOutcome,
};
use crate::verdict::{ROLLBACK_MEASURE, Verdict, exit_code};

/// A stream that grows by a fixed 250 ms an event.
#[derive(Clone)]
pub(crate) struct Stream {
    pub(crate) events: Vec<Event>,
}

impl Stream {
    pub(crate) fn new(mode: Mode) -> Self {
        let mut stream = Self { events: Vec::new() };
        stream.push(EventKind::RunStarted {
            run: "01JD0000000000000000000000".to_owned(),
            rehearsal: "site".to_owned(),
            file: "rehearsals/site.yaml".to_owned(),
            mode,
            version: "0.1.0".to_owned(),
            dir: ".rehearse/runs/01JD0000000000000000000000".to_owned(),
        });
        stream
    }

    pub(crate) fn push(&mut self, kind: EventKind) -> &mut Self {
        let seq = self.events.len() as u64 + 1;
        let start: Timestamp = "2025-11-21T02:00:00Z".parse().unwrap();
        let at = start + SignedDuration::from_millis(250 * (seq as i64 - 1));
        self.events.push(Event { seq, at, kind });
        self
    }

    pub(crate) fn begin(&mut self, stage: Stage) -> &mut Self {
        self.push(EventKind::StageStarted { stage })
    }

    pub(crate) fn end(&mut self, stage: Stage, outcome: StageOutcome) -> &mut Self {
        self.push(EventKind::StageFinished {
            stage,
            outcome,
            seconds: 1.5,
        })
    }

    pub(crate) fn ok(&mut self, stages: &[Stage]) -> &mut Self {
        for stage in stages {
            self.begin(*stage).end(*stage, StageOutcome::Ok);
        }
        self
    }

    pub(crate) fn bad(&mut self, stage: Stage, owner: Owner, reason: &str) -> &mut Self {
        self.begin(stage).end_bad(stage, owner, reason)
    }

    pub(crate) fn end_bad(&mut self, stage: Stage, owner: Owner, reason: &str) -> &mut Self {
        self.end(
            stage,
            StageOutcome::Bad {
                owner,
                reason: reason.to_owned(),
                help: None,
            },
        )
    }

    pub(crate) fn case(&mut self, stage: Stage, name: &str, status: CaseStatus) -> &mut Self {
        let case = case(stage, name, status);
        self.push(EventKind::CaseFinished { stage, case })
    }

    pub(crate) fn step(
        &mut self,
        component: &str,
        step: &str,
        exit: i64,
        lines: &[&str],
    ) -> &mut Self {
        let (component, step) = (component.to_owned(), step.to_owned());
        self.push(EventKind::StepStarted {
            component: component.clone(),
            step: step.clone(),
            target: "bastion".to_owned(),
        });
        for line in lines {
            self.push(EventKind::OutputLine {
                stage: Stage::Deploy,
                source: format!("{component}/{step}"),
                output: Output::Stdout,
                line: (*line).to_owned(),
            });
        }
        self.push(EventKind::StepFinished {
            component,
            step,
            exit_code: Some(exit),
            seconds: 0.75,
        })
    }

    pub(crate) fn rolled_back(&mut self) -> &mut Self {
        self.begin(Stage::Rollback)
            .push(EventKind::Measured {
                what: ROLLBACK_MEASURE.to_owned(),
                seconds: 2.25,
            })
            .end(Stage::Rollback, StageOutcome::Ok)
    }

    pub(crate) fn judged(&mut self) -> &mut Self {
        let verdict = Verdict::of(&self.events);
        self.push(EventKind::Judged { verdict })
    }

    pub(crate) fn finish(&mut self) -> &mut Self {
        let verdict = Verdict::of(&self.events);
        let exit_code = exit_code(&verdict);
        let seconds = self.events.len() as f64 / 4.0;
        self.push(EventKind::RunFinished {
            verdict,
            exit_code,
            seconds,
        })
    }
}

pub(crate) fn case(stage: Stage, name: &str, status: CaseStatus) -> Case {
    let failed = status == CaseStatus::Failed;
    Case {
        suite: match stage {
            Stage::Baseline | Stage::Verify | Stage::Rollback => format!("{stage}.site"),
            _ => stage.name().to_owned(),
        },
        name: name.to_owned(),
        status,
        seconds: 0.125,
        message: match status {
            CaseStatus::Passed => None,
            CaseStatus::Failed => Some("status is 502, not 200".to_owned()),
            CaseStatus::Error => Some("the agent did not answer".to_owned()),
            CaseStatus::Skipped => Some("the time for the stage was over".to_owned()),
            CaseStatus::Warned => Some("took 900 ms, not 500 ms".to_owned()),
        },
        mismatches: if failed {
            vec![Mismatch {
                what: "status".to_owned(),
                expected: "200".to_owned(),
                seen: "502".to_owned(),
            }]
        } else {
            Vec::new()
        },
        component: failed.then(|| "content".to_owned()),
        location: Some("testplans/site.yaml:12:5".to_owned()),
        output: failed.then(|| "<h1>502 Bad Gateway</h1>".to_owned()),
        evidence: if failed {
            vec!["logs/web.log".to_owned()]
        } else {
            Vec::new()
        },
    }
}

pub(crate) const BEFORE_BASELINE: [Stage; 4] = [
    Stage::Preflight,
    Stage::Provision,
    Stage::Isolate,
    Stage::Restore,
];

/// Everything up to and with the snapshot, all well, with what a real run says on its way.
pub(crate) fn up_to_snapshot() -> Stream {
    let mut s = Stream::new(Mode::Rehearse);
    s.begin(Stage::Preflight)
        .push(EventKind::ArtefactDigested(Artefact {
            role: "rehearsal".to_owned(),
            path: "rehearsals/site.yaml".to_owned(),
            digest: format!("sha256:{}", "a1".repeat(32)),
            size: 812,
        }))
        .push(EventKind::PackageOpened {
            name: "site".to_owned(),
            version: Some("2.4.0".to_owned()),
            digest: format!("sha256:{}", "b2".repeat(32)),
            files: 14,
            bytes: 40_960,
            shape: "deploy.yaml".to_owned(),
            components: vec!["backend".to_owned(), "content".to_owned()],
            left_out: Vec::new(),
            what_ifs_left_out: Vec::new(),
            manual: Vec::new(),
        })
        .push(EventKind::EngineFound {
            version: "20.10.24".to_owned(),
            api: "1.41".to_owned(),
            storage: "overlay2".to_owned(),
            branches: "overlay".to_owned(),
        })
        .end(Stage::Preflight, StageOutcome::Ok)
        .ok(&[Stage::Provision])
        .begin(Stage::Isolate)
        .case(
            Stage::Isolate,
            "the gateway 10.9.0.1 does not answer",
            CaseStatus::Passed,
        )
        .end(Stage::Isolate, StageOutcome::Ok)
        .begin(Stage::Restore)
        .push(EventKind::Base {
            key: "5f1c".to_owned(),
            volume: "db".to_owned(),
            reused: true,
        })
        .push(EventKind::Measured {
            what: "restore".to_owned(),
            seconds: 0.5,
        })
        .end(Stage::Restore, StageOutcome::Ok)
        .begin(Stage::Baseline)
        .case(
            Stage::Baseline,
            "the front page answers",
            CaseStatus::Passed,
        )
        .case(Stage::Baseline, "no order is lost", CaseStatus::Passed)
        .end(Stage::Baseline, StageOutcome::Ok)
        .begin(Stage::Snapshot)
        .push(EventKind::Fingerprint {
            of: "snapshot".to_owned(),
            parts: [("db/site".to_owned(), format!("sha256:{}", "c3".repeat(32)))].into(),
        })
        .end(Stage::Snapshot, StageOutcome::Ok);
    s
}

pub(crate) fn up_to_deploy() -> Stream {
    let mut s = up_to_snapshot();
    s.begin(Stage::Deploy)
        .step(
            "backend",
            "migrate the schema",
            0,
            &["BEGIN", "ALTER TABLE", "COMMIT"],
        )
        .step("content", "push the pages", 0, &[])
        .end(Stage::Deploy, StageOutcome::Ok);
    s
}

/// A run that passes, up to the end of verify.
pub(crate) fn passing_up_to_verify() -> Stream {
    let mut s = up_to_deploy();
    s.begin(Stage::Verify)
        .case(Stage::Verify, "the front page answers", CaseStatus::Passed)
        .case(Stage::Verify, "no order is lost", CaseStatus::Passed)
        .case(Stage::Verify, "the search is quick", CaseStatus::Warned)
        .end(Stage::Verify, StageOutcome::Ok);
    s
}

/// A whole run that passes.
pub(crate) fn passing() -> Stream {
    let mut s = passing_up_to_verify();
    s.begin(Stage::Isolate)
        .case(
            Stage::Isolate,
            "the gateway 10.9.0.1 does not answer",
            CaseStatus::Passed,
        )
        .end(Stage::Isolate, StageOutcome::Ok)
        .judged()
        .rolled_back()
        .ok(&[Stage::Teardown])
        .finish();
    s
}

/// A whole run whose front page is gone after the deploy.
pub(crate) fn failing() -> Stream {
    let mut s = up_to_deploy();
    s.begin(Stage::Verify)
        .push(EventKind::OutsideName {
            stage: Stage::Verify,
            name: "fonts.example.com".to_owned(),
            asker: "web".to_owned(),
        })
        .case(Stage::Verify, "the front page answers", CaseStatus::Failed)
        .case(Stage::Verify, "no order is lost", CaseStatus::Passed)
        .end_bad(Stage::Verify, Owner::Package, "1 of 2 tests failed")
        .judged()
        .rolled_back()
        .ok(&[Stage::Teardown])
        .finish();
    s
}

/// A whole backup check that passes.
pub(crate) fn backup_check() -> Stream {
    let mut s = Stream::new(Mode::BackupCheck);
    s.ok(&BEFORE_BASELINE)
        .begin(Stage::Baseline)
        .case(Stage::Baseline, "no order is lost", CaseStatus::Passed)
        .end(Stage::Baseline, StageOutcome::Ok)
        .judged()
        .ok(&[Stage::Teardown])
        .finish();
    s
}
