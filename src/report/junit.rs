//! JUnit XML, as the consumers read it.
//!
//! Suites are flat, since some readers ignore nested ones. Class and name are unique together, since GitLab drops
//! doubles. A message stands in the attribute and in the text, since GitLab reads only the text and others only the
//! attribute. Every stage is a case too, so that a run which is not passed is never all green.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::event::{Case, CaseStatus, Event, EventKind, Mode, Owner, Part, Stage};
use crate::report::record::{Record, StageFacts};
use crate::report::text::{clean, clip, one_line, tail};
use crate::verdict::{Outcome, StageEnd, stages_seen};

/// The suite in which each stage is a case.
pub const STAGES: &str = "stages";

/// Bytes of output kept in one case; consumers keep whole reports in memory.
const MOST_OUTPUT: usize = 64 * 1024;

/// Characters of a runbook that stand before what its step wrote.
const MOST_PROSE: usize = 2 * 1024;

/// Renders the events so far. Works on any stream; one that does not begin with a run's start is one error.
pub fn render(events: &[Event]) -> String {
    let mut names = Names::default();
    let record = Record::of(events);
    let mut report = Report::new(
        record
            .as_ref()
            .map_or_else(|| "rehearse".to_owned(), |r| one_line(&r.rehearsal)),
    );
    if let Some(record) = &record {
        report.timestamp = timestamp(record.started);
        report.set_time(duration(record.seconds));
    }
    for suite in suites(events, record.as_ref(), &mut names) {
        report.add_test_suite(suite);
    }
    let mut stages = stages(events, record.as_ref(), &mut names);
    let outcome = record
        .as_ref()
        .map_or(Outcome::Invalid, |r| r.verdict.outcome);
    let over = record.as_ref().is_some_and(|r| r.finished.is_some());
    let red = report.failures + report.errors + stages.failures + stages.errors > 0;
    // What a run that died leaves behind, even after a good verdict, must not be taken for a run that passed.
    if !red && (outcome != Outcome::Passed || !over) {
        let reason = match &record {
            Some(r) if outcome == Outcome::Passed => {
                format!("the run is not over; so far: {}", r.verdict.reason)
            }
            Some(r) => r.verdict.reason.clone(),
            None => "the run never started".to_owned(),
        };
        let mut case = TestCase::new("verdict", told(NonSuccessKind::Error, &reason, &reason));
        case.set_classname(names.class(record.as_ref(), STAGES));
        stages.add_test_case(case);
    }
    report.add_test_suite(stages);
    // Writing into memory fails only where the library's own writer is broken; a reader must not take that for green.
    report.to_string().unwrap_or_else(|error| {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites tests=\"1\" errors=\"1\" failures=\"0\">\
             <testsuite name=\"{STAGES}\" tests=\"1\" errors=\"1\" failures=\"0\"><testcase classname=\"{STAGES}\" \
             name=\"report\"><error message=\"cannot write the report\">{}</error></testcase></testsuite></testsuites>\n",
            clean(&error.to_string()).replace(['<', '&', '>'], "?")
        )
    })
}

/// One suite for each name that cases give, in the order in which the names first came.
fn suites(events: &[Event], record: Option<&Record>, names: &mut Names) -> Vec<TestSuite> {
    let mut suites: Vec<TestSuite> = Vec::new();
    let mut index = BTreeMap::new();
    let said = said_before(events);
    for event in events {
        let EventKind::CaseFinished { case, .. } = &event.kind else {
            continue;
        };
        // A suite of the test plan that is called as ours would be mixed up with it.
        let name = one_line(&case.suite);
        let name = if name == STAGES {
            format!("{name} (test plan)")
        } else {
            name
        };
        let at = *index.entry(name.clone()).or_insert_with(|| {
            let mut suite = TestSuite::new(&name);
            suite.time = Some(Duration::ZERO);
            suites.push(suite);
            suites.len() - 1
        });
        let suite = &mut suites[at];
        let took = duration(case.seconds);
        let began = event
            .at
            .checked_sub(jiff::SignedDuration::try_from(took).unwrap_or_default())
            .unwrap_or(event.at);
        if suite.timestamp.is_none() {
            suite.timestamp = timestamp(began);
        }
        suite.time = suite.time.map(|time| time + took);
        let class = names.class(record, &name);
        let mut rendered = TestCase::new(names.unique(&class, &one_line(&case.name)), status(case));
        rendered.set_classname(class).set_time(took);
        rendered.timestamp = timestamp(began);
        let of_step = case.suite == Stage::Deploy.name();
        let prose = said.get(case.name.as_str()).filter(|_| of_step);
        if let Some(output) = output(case, record, prose) {
            rendered.set_system_out(output);
        }
        suite.add_test_case(rendered);
    }
    suites
}

/// What a runbook says before each of its steps, by the name of the step's case.
fn said_before(events: &[Event]) -> BTreeMap<String, String> {
    let mut said = BTreeMap::new();
    for event in events {
        let EventKind::Runbook { component, parts } = &event.kind else {
            continue;
        };
        let mut before = Vec::new();
        for part in parts {
            match part {
                Part::Prose { text } => before.push(clip(text, MOST_PROSE)),
                Part::Shown { .. } => {}
                Part::Step { step, rollback } => {
                    let text = std::mem::take(&mut before).join("\n");
                    if !rollback && !text.is_empty() {
                        said.insert(format!("{component} / {step}"), text);
                    }
                }
            }
        }
    }
    said
}

fn status(case: &Case) -> TestCaseStatus {
    let message = message(case);
    let text = text(case, &message);
    match case.status {
        // A warning does not stop a release, so a CI must not show red; its message is in the output.
        CaseStatus::Passed | CaseStatus::Warned => TestCaseStatus::success(),
        CaseStatus::Failed => told(NonSuccessKind::Failure, &message, &text),
        CaseStatus::Error => told(NonSuccessKind::Error, &message, &text),
        CaseStatus::Skipped => skipped(&message),
    }
}

fn message(case: &Case) -> String {
    let mismatch = case
        .mismatches
        .first()
        .map(|m| format!("{}: expected {}, seen {}", m.what, m.expected, m.seen));
    let word = match case.status {
        CaseStatus::Passed => "passed",
        CaseStatus::Failed => "an expectation was false",
        CaseStatus::Error => "it could not be determined",
        CaseStatus::Skipped => "it was not reached",
        CaseStatus::Warned => "an expectation was false; it only warns",
    };
    one_line(
        &case
            .message
            .clone()
            .or(mismatch)
            .unwrap_or_else(|| word.to_owned()),
    )
}

/// The message again, and everything that helps to find the cause.
fn text(case: &Case, message: &str) -> String {
    let mut text = message.to_owned();
    for m in &case.mismatches {
        let _ = write!(
            text,
            "\n{}\n  expected: {}\n  seen:     {}",
            m.what, m.expected, m.seen
        );
    }
    if let Some(component) = &case.component {
        let _ = write!(text, "\ncomponent: {component}");
    }
    if let Some(location) = &case.location {
        let _ = write!(text, "\nwritten at: {location}");
    }
    text
}

/// The one `system-out` of a case: a warning or figure, what it wrote, and its files in the words that GitLab and
/// Jenkins turn into links.
fn output(case: &Case, record: Option<&Record>, prose: Option<&String>) -> Option<String> {
    let mut parts: Vec<String> = prose.map(|said| clean(said)).into_iter().collect();
    match case.status {
        CaseStatus::Warned => {
            parts.push(clean(&format!("warning: {}", text(case, &message(case)))))
        }
        CaseStatus::Passed => parts.extend(case.message.as_deref().map(clean)),
        CaseStatus::Failed | CaseStatus::Error | CaseStatus::Skipped => {}
    }
    parts.extend(case.output.as_deref().map(clean));
    let dir = record.map_or("", |r| r.dir.as_str());
    parts.extend(
        case.evidence
            .iter()
            .map(|file| one_line(&format!("[[ATTACHMENT|{dir}/{file}]]"))),
    );
    (!parts.is_empty()).then(|| tail(&parts.join("\n"), MOST_OUTPUT))
}

/// Each stage as a case, with what the run was as properties.
fn stages(events: &[Event], record: Option<&Record>, names: &mut Names) -> TestSuite {
    let mut suite = TestSuite::new(STAGES);
    let Some(record) = record else { return suite };
    suite.timestamp = timestamp(record.started);
    suite.set_time(duration(record.stages.iter().map(|s| s.seconds).sum()));
    for (name, value) in properties(record) {
        suite.add_property((name, clean(&value).as_str()));
    }
    let seen = stages_seen(events);
    let class = names.class(Some(record), STAGES);
    for facts in &record.stages {
        let mut case = TestCase::new(
            names.unique(&class, facts.stage.name()),
            stage_status(facts, record.mode),
        );
        case.set_classname(class.as_str())
            .set_time(duration(facts.seconds));
        case.timestamp = seen
            .iter()
            .find(|s| s.stage == facts.stage)
            .and_then(|s| s.started)
            .and_then(timestamp);
        suite.add_test_case(case);
    }
    suite
}

fn stage_status(facts: &StageFacts, mode: Mode) -> TestCaseStatus {
    match &facts.end {
        StageEnd::Ok => TestCaseStatus::success(),
        StageEnd::Bad {
            owner,
            reason,
            help,
        } => {
            let kind = match (owner, mode) {
                (Owner::Package, Mode::Rehearse) | (Owner::Backup, Mode::BackupCheck) => {
                    NonSuccessKind::Failure
                }
                (Owner::Package, Mode::BackupCheck)
                | (Owner::Backup, Mode::Rehearse)
                | (
                    Owner::Staging
                    | Owner::Stack
                    | Owner::Testplan
                    | Owner::Isolation
                    | Owner::Engine,
                    _,
                ) => NonSuccessKind::Error,
            };
            let help = help
                .as_ref()
                .map(|help| format!("\nhelp: {help}"))
                .unwrap_or_default();
            told(
                kind,
                reason,
                &format!("{reason}\nat fault: {}{help}", owner.name()),
            )
        }
        StageEnd::Interrupted => told(NonSuccessKind::Error, "interrupted", "interrupted"),
        StageEnd::Unfinished => {
            let said = "it began and was not seen to end";
            told(NonSuccessKind::Error, said, said)
        }
        StageEnd::Skipped { reason } => skipped(reason),
        StageEnd::NotReached => skipped("it was not reached"),
    }
}

fn properties(record: &Record) -> Vec<(&'static str, String)> {
    let mut all = vec![
        ("run", record.run.clone()),
        ("rehearsal", record.rehearsal.clone()),
        ("rehearse", record.version.clone()),
        ("verdict", record.verdict.outcome.name().to_owned()),
        ("reason", record.verdict.reason.clone()),
        ("assisted", record.assisted.to_string()),
    ];
    if let Some(owner) = record.verdict.owner {
        all.push(("owner", owner.name().to_owned()));
    }
    if let Some(package) = &record.package {
        all.push(("package", package.name.clone()));
        all.extend(
            package
                .version
                .clone()
                .map(|version| ("package version", version)),
        );
        all.push(("package digest", package.digest.clone()));
    }
    if let Some(engine) = &record.engine {
        all.push(("engine", engine.version.clone()));
    }
    all
}

fn told(kind: NonSuccessKind, message: &str, text: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    status
        .set_message(one_line(message))
        .set_description(tail(&clean(text), MOST_OUTPUT));
    status
}

fn skipped(message: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::skipped();
    status
        .set_message(one_line(message))
        .set_description(clean(message));
    status
}

/// A figure that is no duration (infinite, negative) must not keep the report from being written.
fn duration(seconds: f64) -> Duration {
    let rounded = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    Duration::from_millis(u64::try_from(rounded.as_millis()).unwrap_or(u64::MAX))
}

/// ISO 8601 in the library's own type.
fn timestamp<T: std::str::FromStr>(at: Timestamp) -> Option<T> {
    at.strftime("%Y-%m-%dT%H:%M:%S%.3f+00:00")
        .to_string()
        .parse()
        .ok()
}

/// Keeps class and name unique together: a stage that runs twice repeats its cases.
#[derive(Default)]
struct Names(BTreeSet<(String, String)>);

impl Names {
    #[expect(
        clippy::unused_self,
        reason = "class and name belong together, and so do the two that make them"
    )]
    fn class(&self, record: Option<&Record>, suite: &str) -> String {
        record.map_or_else(
            || suite.to_owned(),
            |r| format!("{}.{suite}", one_line(&r.rehearsal)),
        )
    }

    fn unique(&mut self, class: &str, name: &str) -> String {
        let name = if name.is_empty() { "(no name)" } else { name };
        let mut tried = name.to_owned();
        for n in 2.. {
            if self.0.insert((class.to_owned(), tried.clone())) {
                break;
            }
            tried = format!("{name} ({n})");
        }
        tried
    }
}

#[cfg(test)]
mod tests;
