//! Runs the test plan at one moment and reports each test as a case.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Bad;
use super::run::Run;
use crate::agent::protocol::{Answer, Ask};
use crate::check::model::{
    Expect, FileSeen, HttpBody, Observation, Probe, Severity, Test, Unseen, When,
};
use crate::check::{Judgement, judge};
use crate::engine::ExecSpec;
use crate::event::{Case, CaseStatus, EventKind, Owner, Stage};
use crate::mask::Mask;
use crate::staging::{Ended, Generation, Staging};

/// A file of which more than this would have to be read is not read for a test.
const FILE_LIMIT: usize = 256 * 1024 * 1024;

/// What a suite showed.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// The names of the tests that failed.
    pub failed: Vec<String>,
    /// The names of those that could not be determined.
    pub errors: Vec<String>,
    /// What was seen, by test.
    pub seen: BTreeMap<String, Observation>,
}

impl Shown {
    /// `3 of 24 tests failed: a, b, c`, or `None` where nothing is wrong.
    pub(super) fn sentence(&self, total: usize) -> Option<String> {
        let named = |names: &[String]| {
            let shown: Vec<String> = names.iter().take(3).map(|n| format!("`{n}`")).collect();
            let more = names.len().saturating_sub(3);
            if more > 0 {
                format!("{} and {more} more", shown.join(", "))
            } else {
                shown.join(", ")
            }
        };
        match (self.failed.len(), self.errors.len()) {
            (0, 0) => None,
            (0, errors) => Some(format!(
                "{errors} of {total} tests could not be determined: {}",
                named(&self.errors)
            )),
            (failed, _) => Some(format!(
                "{failed} of {total} tests failed: {}",
                named(&self.failed)
            )),
        }
    }
}

/// The tests of one moment. Paths go side by side, where everything takes longer.
pub(super) fn tests_at(run: &Run, when: When) -> Vec<Test> {
    run.order
        .plan
        .testplan
        .iter()
        .flat_map(|plan| &plan.tests)
        .filter(|test| test.when.contains(&when))
        .map(|test| match run.on_path {
            true => without_speed(test),
            false => test.clone(),
        })
        .collect()
}

/// Runs all tests of a moment, in listing order: a later test may look at what an earlier one did.
pub(super) async fn run_tests(run: &Run, stage: Stage, when: When) -> Result<Shown, Bad> {
    run_these(run, stage, &tests_at(run, when)).await
}

/// Runs these tests, in this order.
pub(super) async fn run_these(run: &Run, stage: Stage, tests: &[Test]) -> Result<Shown, Bad> {
    let staging = run.staging()?;
    let generation = run.generation()?;
    let total = tests.len() as u64;
    // What came before is known by then, so that what comes now can be told from it.
    if matches!(stage, Stage::Verify | Stage::Rollback) {
        let entered = staging
            .network
            .emulators
            .enter(&staging.ground, stage)
            .await;
        entered.map_err(|why| Bad::new(Owner::Engine, why))?;
    }
    let suite = match &run.order.plan.testplan {
        Some(plan) => format!("{}.{}", stage.name(), plan.name),
        None => stage.name().to_owned(),
    };
    let mut shown = Shown::default();
    for (done, test) in tests.iter().enumerate() {
        run.recorder.emit(EventKind::Progress {
            stage,
            what: test.name.clone(),
            done: done as u64,
            total: Some(total),
            unit: "tests".to_owned(),
        });
        let begun = Instant::now();
        let (judgement, seen) =
            until_passed(staging, generation, test, reference(run, stage, test)).await?;
        let seconds = begun.elapsed().as_secs_f64();
        let mut case = Case {
            suite: suite.clone(),
            name: test.name.clone(),
            status: CaseStatus::Passed,
            seconds,
            message: None,
            mismatches: Vec::new(),
            component: None,
            location: Some(test.location.to_string()),
            output: None,
            evidence: Vec::new(),
        };
        match judgement {
            Judgement::Passed => {}
            Judgement::Failed {
                message,
                mismatches,
            } => {
                case.status = match test.severity {
                    Severity::Fail => {
                        shown.failed.push(test.name.clone());
                        CaseStatus::Failed
                    }
                    Severity::Warn => CaseStatus::Warned,
                };
                case.message = Some(message);
                case.mismatches = mismatches;
                case.component = run.first_broken_by.get(&test.name).cloned();
                let shown = seen
                    .as_ref()
                    .ok()
                    .and_then(|seen| masked(&staging.ground.mask, seen));
                case.output = shown.as_ref().and_then(excerpt);
            }
            Judgement::Error { message } => {
                shown.errors.push(test.name.clone());
                case.status = CaseStatus::Error;
                case.message = Some(message);
            }
        }
        run.case(stage, case);
        if let Ok(seen) = seen {
            shown.seen.insert(test.name.clone(), seen);
        }
    }
    Ok(shown)
}

/// The beginning of what a person would look at first.
fn excerpt(seen: &Observation) -> Option<String> {
    let text = match seen {
        Observation::Http { body, .. } => body.clone(),
        Observation::Tcp { banner } => banner.clone(),
        Observation::Sql { .. } => return None,
        Observation::Exec { stdout, stderr, .. } => format!("{stdout}{stderr}"),
        Observation::File(file) => file.as_ref()?.text.clone()?,
        Observation::Emulator(received) => {
            let lines = received
                .iter()
                .map(|one| format!("{}: {}\n", one.asker, one.summary()));
            lines.collect()
        }
    };
    let short: String = text.chars().take(4096).collect();
    (!short.trim().is_empty()).then_some(short)
}

type Seen = Result<Observation, Unseen>;

/// What `same_as: baseline` compares with. At the baseline a test is its own measure.
enum Reference<'a> {
    Itself,
    Baseline(Option<&'a Observation>),
}

fn reference<'a>(run: &'a Run, stage: Stage, test: &Test) -> Reference<'a> {
    match stage {
        Stage::Baseline => Reference::Itself,
        _ => Reference::Baseline(run.baseline_seen.get(&test.name)),
    }
}

async fn until_passed(
    staging: &Staging,
    generation: &Generation,
    test: &Test,
    reference: Reference<'_>,
) -> Result<(Judgement, Seen), Bad> {
    let begun = Instant::now();
    loop {
        let (seen, elapsed) = look(staging, generation, &test.probe).await?;
        let baseline = match &reference {
            Reference::Itself => seen.as_ref().ok(),
            Reference::Baseline(baseline) => *baseline,
        };
        let judgement = judge(test, &seen, elapsed, baseline);
        let passed = matches!(judgement, Judgement::Passed);
        let over = test
            .retry
            .is_none_or(|retry| begun.elapsed() + retry.every > retry.total);
        let Some(retry) = test.retry.filter(|_| !passed && !over) else {
            let mask = &staging.ground.mask;
            let judgement = in_masked_words(mask, judgement, |mask| {
                let seen = match &seen {
                    Ok(seen) => Ok(masked(mask, seen)?),
                    Err(unseen) => Err(unseen.clone()),
                };
                let baseline = match baseline {
                    Some(baseline) => Some(masked(mask, baseline)?),
                    None => None,
                };
                Some(judge(test, &seen, elapsed, baseline.as_ref()))
            });
            return Ok((judgement, seen));
        };
        // The test plan itself asks for this pause.
        tokio::time::sleep(retry.every).await;
    }
}

/// A test is judged by what was seen, and what is shown of it is cut: a piece of a secret is none that could be found. So
/// the words about a failure come from judging the same without the secrets.
fn in_masked_words(
    mask: &Mask,
    judgement: Judgement,
    again: impl FnOnce(&Mask) -> Option<Judgement>,
) -> Judgement {
    match judgement {
        Judgement::Failed { .. } if !mask.is_empty() => match again(mask) {
            Some(told @ Judgement::Failed { .. }) => told,
            Some(Judgement::Passed | Judgement::Error { .. }) | None => Judgement::Failed {
                message: "what was seen is not what is expected; it differs where a secret is"
                    .to_owned(),
                mismatches: Vec::new(),
            },
        },
        judgement => judgement,
    }
}

/// What was seen, without the secrets.
fn masked(mask: &Mask, seen: &Observation) -> Option<Observation> {
    if mask.is_empty() {
        return Some(seen.clone());
    }
    let document = serde_json::to_value(seen).ok()?;
    serde_json::from_value(mask.document(document)).ok()
}

/// Looks once, from inside the network.
async fn look(
    staging: &Staging,
    generation: &Generation,
    probe: &Probe,
) -> Result<(Seen, Duration), Bad> {
    let begun = Instant::now();
    match probe {
        Probe::Http(_) | Probe::Tcp(_) | Probe::Sql(_) => {
            let probe = with_content(probe.clone());
            let probe = match probe {
                Ok(probe) => probe,
                Err(error) => return Ok((Err(Unseen::Undetermined(error)), begun.elapsed())),
            };
            let reply = staging.network.agent.ask(Ask::Probe(probe)).await?;
            let seen = match reply.answer {
                Answer::Seen(seen) => seen,
                other => Err(Unseen::Undetermined(format!(
                    "the agent answered {other:?}"
                ))),
            };
            Ok((seen, reply.elapsed))
        }
        Probe::Exec(exec) => {
            let container = container_of(generation, &exec.service);
            let spec = ExecSpec {
                command: exec.command.clone(),
                user: exec.user.clone(),
                ..ExecSpec::default()
            };
            let ended = staging
                .ground
                .exec_within(&container, &spec, exec.timeout, |_| {})
                .await;
            let seen = match ended {
                Ok(Ended::ByItself(outcome)) => Ok(Observation::Exec {
                    exit_code: outcome.exit_code,
                    stdout: outcome.stdout,
                    stderr: outcome.stderr,
                }),
                Ok(Ended::Killed) => Err(Unseen::Unanswered(format!(
                    "the command did not end within {:?} and service `{}` was killed with it",
                    exec.timeout, exec.service
                ))),
                Err(error) if error.status == Some(409) => Err(Unseen::Unanswered(format!(
                    "service `{}` does not run",
                    exec.service
                ))),
                Err(error) => Err(Unseen::Undetermined(error.to_string())),
            };
            Ok((seen, begun.elapsed()))
        }
        Probe::Emulator(probe) => {
            let seen = staging
                .network
                .emulators
                .received(&staging.ground, probe)
                .await;
            Ok((seen.map(Observation::Emulator), begun.elapsed()))
        }
        Probe::File(file) => {
            let container = container_of(generation, &file.service);
            let got = staging
                .ground
                .engine
                .download(&container, &file.path, FILE_LIMIT)
                .await;
            let seen = match got {
                Ok(tar) => first_entry(&tar).map(|file| Observation::File(Some(file))),
                Err(error) if error.is_not_found() => Ok(Observation::File(None)),
                Err(error) => Err(Unseen::Undetermined(error.to_string())),
            };
            Ok((seen, begun.elapsed()))
        }
    }
}

fn container_of(generation: &Generation, service: &str) -> String {
    generation
        .services
        .iter()
        .find(|running| running.blueprint.service.name == service)
        .map(|running| running.container.clone())
        .unwrap_or_default()
}

/// Fills in the bytes of files that a form uploads.
fn with_content(mut probe: Probe) -> Result<Probe, String> {
    if let Probe::Http(http) = &mut probe
        && let HttpBody::Form { files, .. } = &mut http.body
    {
        for file in files {
            file.content = std::fs::read(&file.path)
                .map_err(|error| format!("cannot read `{}`: {error}", file.path.display()))?;
        }
    }
    Ok(probe)
}

/// What the engine says of a path: the first entry of the tar it sends.
fn first_entry(tar: &[u8]) -> Result<FileSeen, Unseen> {
    use std::io::Read as _;
    let unreadable = |error: std::io::Error| {
        Unseen::Undetermined(format!("the engine's answer is no tar: {error}"))
    };
    let mut archive = tar::Archive::new(tar);
    let mut entry = archive
        .entries()
        .map_err(unreadable)?
        .next()
        .ok_or_else(|| Unseen::Undetermined("the engine's answer is an empty tar".to_owned()))?
        .map_err(unreadable)?;
    let header = entry.header();
    let kind = match header.entry_type() {
        tar::EntryType::Directory => "directory",
        tar::EntryType::Symlink => "symlink",
        _ => "file",
    };
    let mut seen = FileSeen {
        kind: kind.to_owned(),
        size: header.size().map_err(unreadable)?,
        mode: header.mode().map_err(unreadable)? & 0o7777,
        uid: header.uid().map_err(unreadable)?,
        gid: header.gid().map_err(unreadable)?,
        sha256: None,
        text: None,
    };
    if kind == "file" {
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(unreadable)?;
        let digest = crate::digest::sha256(&content);
        seen.sha256 = digest.strip_prefix("sha256:").map(str::to_owned);
        content.truncate(1024 * 1024);
        seen.text = Some(String::from_utf8_lossy(&content).into_owned());
    }
    Ok(seen)
}

/// For one question of [`first_failures`]: the time runs for the deploy.
const GLANCE: Duration = Duration::from_secs(3);

/// Those tests that may be asked at any time without changing anything, without patience. Where a test counts what
/// emulators are asked for, no page is asked for: it may ask them in turn.
pub(super) fn harmless(tests: Vec<Test>) -> Vec<Test> {
    let counted = tests
        .iter()
        .any(|test| matches!(test.probe, Probe::Emulator(_)));
    let mut tests: Vec<Test> = tests.iter().map(without_speed).collect();
    tests.retain_mut(|test| match &mut test.probe {
        Probe::Http(http) => {
            http.timeout = http.timeout.min(GLANCE);
            !counted && matches!(http.method.as_str(), "GET" | "HEAD")
        }
        Probe::Tcp(tcp) => {
            tcp.timeout = tcp.timeout.min(GLANCE);
            true
        }
        Probe::Sql(_) | Probe::Exec(_) | Probe::File(_) | Probe::Emulator(_) => false,
    });
    tests
}

/// The names of those of some [`harmless`] tests that fail now, asked once: they tell after which component something
/// broke. What they say is evidence, never a verdict.
pub(super) async fn first_failures<'a>(
    run: &Run,
    tests: impl Iterator<Item = &'a Test>,
) -> Result<Vec<String>, Bad> {
    let staging = run.staging()?;
    let generation = run.generation()?;
    let mut failed = Vec::new();
    for test in tests {
        let (seen, elapsed) = look(staging, generation, &test.probe).await?;
        // It may only be slow.
        if elapsed >= GLANCE && matches!(seen, Err(Unseen::Unanswered(_))) {
            continue;
        }
        let baseline = run.baseline_seen.get(&test.name);
        if let Judgement::Failed { .. } = judge(test, &seen, elapsed, baseline) {
            failed.push(test.name.clone());
        }
    }
    Ok(failed)
}

/// A test of which only counts what is seen, not how fast: right after a restart everything is slower.
fn without_speed(test: &Test) -> Test {
    let mut test = test.clone();
    match &mut test.expect {
        Expect::Http(expect) => expect.within = None,
        Expect::Tcp(expect) => expect.within = None,
        Expect::Sql(expect) => expect.within = None,
        Expect::Exec(expect) => expect.within = None,
        Expect::File(_) | Expect::Emulator(_) => {}
    }
    test
}
