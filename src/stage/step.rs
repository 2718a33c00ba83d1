//! Carries out one step of a package, unassisted: no input, no terminal, a deadline that kills all of it.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::time::Duration;

use super::Bad;
use super::run::{Run, out_of_order};
use crate::engine::{BuildNetwork, BuildSpec, EngineError, ExecSpec, HostPaths};
use crate::event::{EventKind, Output, Owner, Stage};
use crate::package::dockerfile::{Reference, references};
use crate::package::image_archive;
use crate::plan::model::{Action, Build, ImageSource, Step};
use crate::staging::{Bastion, Blueprint, Ended, Ground, PACKAGE_FOLDER, StartError};

/// Lines of a step's output that are kept beside its case.
const TAIL: usize = 40;

/// How a step ended.
#[derive(Debug)]
pub(super) struct Outcome {
    /// `Err` says what was seen instead of success, in words for the reader; the package is at fault.
    pub result: Result<(), String>,
    /// The exit code, where a process ran and ended by itself.
    pub exit_code: Option<i64>,
    /// The last lines of its output.
    pub tail: String,
}

impl Outcome {
    const fn ok() -> Self {
        Self {
            result: Ok(()),
            exit_code: None,
            tail: String::new(),
        }
    }

    fn failed(why: impl Into<String>) -> Self {
        Self {
            result: Err(why.into()),
            ..Self::ok()
        }
    }
}

/// Where a step runs, for the reader.
pub(super) fn target(step: &Step) -> String {
    match &step.action {
        Action::Run { service: None, .. } => "bastion".to_owned(),
        Action::Run {
            service: Some(service),
            ..
        }
        | Action::Copy { service, .. }
        | Action::Image { service, .. }
        | Action::Env { service, .. }
        | Action::Restart { service } => service.clone(),
    }
}

/// Carries out a step.
///
/// # Errors
/// Only where the engine failed; what the package did wrong is in the outcome.
pub(super) async fn perform(
    run: &mut Run,
    component: &str,
    step: &Step,
    bastion: Option<&Bastion>,
) -> Result<Outcome, Bad> {
    match &step.action {
        Action::Run {
            script,
            service,
            user,
        } => {
            let command = (script.as_str(), service.as_deref(), user);
            run_script(run, component, step, command, bastion).await
        }
        Action::Copy {
            service,
            from,
            to,
            owner,
        } => {
            let root = &run
                .order
                .plan
                .package
                .as_ref()
                .ok_or_else(out_of_order)?
                .root;
            let paths = HostPaths {
                source: root.join(from),
                target: to.clone(),
                owner: *owner,
                mode: crate::engine::Modes::Normal,
            };
            let container = container_of(run, service)?;
            let copied = within(step, run.ground()?.engine.upload_paths(&container, paths)).await;
            Ok(match copied {
                None => timed_out(step),
                Some(Ok(())) => Outcome::ok(),
                // 404: no such path; 400: not a folder; 403: read-only, which older engines call 500. The package asked
                // for it.
                Some(Err(error))
                    if error.status.is_some_and(|status| status < 500)
                        || error.cause.contains("marked read-only") =>
                {
                    Outcome::failed(error.to_string())
                }
                Some(Err(error)) => return Err(error.into()),
            })
        }
        Action::Image { service, source } => {
            let reference = run
                .ground()?
                .names
                .image(&format!("{component}-{}", step.name));
            match within(step, bring_image(run, component, step, source, &reference)).await {
                None => return Ok(timed_out(step)),
                Some(Ok(())) => {}
                Some(Err(error)) if error.is_engines_fault() => return Err(error.into()),
                Some(Err(error)) => return Ok(Outcome::failed(error.to_string())),
            }
            let facts = run.ground()?.engine.image(&reference).await?;
            let Some(facts) = facts else {
                return Ok(Outcome::failed(format!("image `{reference}` is not there")));
            };
            recreate(run, step, service, |blueprint| {
                blueprint.image = reference;
                blueprint.facts = facts;
            })
            .await
        }
        Action::Env { service, set } => {
            let set = set.clone();
            recreate(run, step, service, |blueprint| {
                for (key, value) in set {
                    if let Some(value) = value {
                        blueprint.unset.remove(&key);
                        blueprint.service.environment.insert(key, value);
                    } else {
                        blueprint.service.environment.remove(&key);
                        blueprint.unset.insert(key);
                    }
                }
            })
            .await
        }
        Action::Restart { service } => {
            let staging = run.staging()?;
            let generation = run.generation()?;
            let running = generation
                .services
                .iter()
                .find(|running| running.blueprint.service.name == *service)
                .ok_or_else(out_of_order)?;
            let restart = async {
                let engine = &staging.ground.engine;
                let grace = running.blueprint.service.stop_grace_period;
                engine.stop_container(&running.container, grace).await?;
                engine.start_container(&running.container).await?;
                staging.await_ready(running).await
            };
            started(step, within(step, restart).await)
        }
    }
}

/// Lines of one step that become events. A step that floods its output must not fill memory and disk with it; what
/// it says last is kept beside its case all the same.
const LINES: usize = 20_000;

/// Characters of a line that become part of an event.
const LINE_LENGTH: usize = 4_000;

async fn run_script(
    run: &mut Run,
    component: &str,
    step: &Step,
    (script, service, user): (&str, Option<&str>, &Option<String>),
    bastion: Option<&Bastion>,
) -> Result<Outcome, Bad> {
    let ground = run.ground()?.clone();
    let (container, working_dir) = match service {
        Some(service) => (container_of(run, service)?, None),
        None => (
            bastion.ok_or_else(out_of_order)?.container().to_owned(),
            Some(PACKAGE_FOLDER.to_owned()),
        ),
    };
    let spec = ExecSpec {
        command: ["/bin/sh", "-e", "-c", script].map(str::to_owned).to_vec(),
        user: user.clone(),
        working_dir,
        ..ExecSpec::default()
    };
    let source = format!("{component}/{}", step.name);
    let mut tail: VecDeque<String> = VecDeque::new();
    let mut lines = 0_usize;
    let emit = |output: Output, line: String| {
        ground.recorder.emit(EventKind::OutputLine {
            stage: Stage::Deploy,
            source: source.clone(),
            output,
            line,
        });
    };
    run.working_in = Some(container.clone());
    let ended = ground
        .exec_within(&container, &spec, step.timeout, |line| {
            let text = shortened(line.line);
            if tail.len() == TAIL {
                tail.pop_front();
            }
            tail.push_back(text.clone());
            lines += 1;
            match lines.cmp(&LINES) {
                Ordering::Less => emit(line.output, text),
                Ordering::Equal => emit(
                    line.output,
                    format!("(the step writes more than {LINES} lines; only its last {TAIL} are kept from here on)"),
                ),
                Ordering::Greater => {}
            }
        })
        .await;
    run.working_in = None;
    let tail = tail.into_iter().collect::<Vec<_>>();
    let ended = match ended {
        Ok(ended) => ended,
        Err(error) if error.status.is_some_and(|status| status < 500) => {
            return Ok(Outcome::failed(error.to_string()));
        }
        Err(error) => return Err(error.into()),
    };
    let tail = tail.join("\n");
    Ok(match ended {
        Ended::Killed => Outcome {
            result: Err(format!(
                "it did not end within its timeout of {} s and was killed",
                step.timeout.as_secs()
            )),
            exit_code: None,
            tail,
        },
        Ended::ByItself(outcome) => {
            let result = if outcome.exit_code == step.expect_exit {
                Ok(())
            } else {
                let expected = if step.expect_exit == 0 {
                    String::new()
                } else {
                    format!(" instead of {}", step.expect_exit)
                };
                let words = outcome.last_words();
                let said = if words.is_empty() {
                    " and wrote nothing".to_owned()
                } else {
                    format!(": {words}")
                };
                Err(format!("exit code {}{expected}{said}", outcome.exit_code))
            };
            Outcome {
                result,
                exit_code: Some(outcome.exit_code),
                tail,
            }
        }
    })
}

fn shortened(line: String) -> String {
    if line.chars().count() <= LINE_LENGTH {
        return line;
    }
    let start: String = line.chars().take(LINE_LENGTH).collect();
    format!("{start}…")
}

/// Brings an image of the package into the engine, under a name that belongs to this run.
async fn bring_image(
    run: &Run,
    component: &str,
    step: &Step,
    source: &ImageSource,
    reference: &str,
) -> Result<(), EngineError> {
    let (Some(ground), Some(package)) = (&run.ground, &run.order.plan.package) else {
        return Err(EngineError::new("bring an image", "there is no package"));
    };
    match source {
        ImageSource::Archive(path) => {
            let path = package.root.join(path);
            let shown = path.display().to_string();
            let name = reference.to_owned();
            ground
                .engine
                .load_image(&shown, move |out| {
                    image_archive::retag(&path, &name, out).map_err(std::io::Error::other)
                })
                .await?;
            Ok(())
        }
        ImageSource::Context(path) => {
            let build = Build {
                context: package.root.join(path),
                dockerfile: "Dockerfile".to_owned(),
                args: Default::default(),
                target: None,
            };
            brings_everything(ground, &build).await?;
            let spec = BuildSpec::of(&build, reference, BuildNetwork::None)?;
            let source = format!("{component}/{}", step.name);
            ground
                .engine
                .build_image(&spec, |line| {
                    ground.recorder.emit(EventKind::OutputLine {
                        stage: Stage::Deploy,
                        source: source.clone(),
                        output: Output::Stdout,
                        line,
                    });
                })
                .await
        }
    }
}

/// The engine would fetch what a Dockerfile names and does not bring, from outside staging.
async fn brings_everything(ground: &Ground, build: &Build) -> Result<(), EngineError> {
    let path = build.context.join(&build.dockerfile);
    let refused = |what: String| {
        EngineError::new(format!("build from `{}`", path.display()), what).with_help(
            "bring it along in the package, or build on an image that the stack already has",
        )
    };
    let text = tokio::fs::read_to_string(&path)
        .await
        .map_err(|error| refused(format!("the Dockerfile cannot be read: {error}")))?;
    for reference in references(&text) {
        match reference {
            Reference::Image(image) => {
                if ground.engine.image(&image).await?.is_none() {
                    return Err(refused(format!(
                        "the image `{image}` is not present, and a deploy may not fetch it"
                    )));
                }
            }
            Reference::Remote(instruction) => {
                return Err(refused(format!(
                    "`{instruction}` reaches outside, which a deploy may not"
                )));
            }
            Reference::Unknown(image) => {
                return Err(refused(format!(
                    "the image `{image}` is not named in the Dockerfile itself"
                )));
            }
        }
    }
    Ok(())
}

async fn recreate(
    run: &mut Run,
    step: &Step,
    service: &str,
    change: impl FnOnce(&mut Blueprint),
) -> Result<Outcome, Bad> {
    let staging = run.staging.as_ref().ok_or_else(out_of_order)?;
    let generation = run.generation.as_mut().ok_or_else(out_of_order)?;
    let recreated = within(step, staging.recreate(generation, service, change)).await;
    started(step, recreated)
}

/// What a service's start means for the step that caused it.
fn started(step: &Step, result: Option<Result<(), StartError>>) -> Result<Outcome, Bad> {
    match result {
        None => Ok(timed_out(step)),
        Some(Ok(())) => Ok(Outcome::ok()),
        Some(Err(StartError::Engine(error))) => {
            // The engine answered and would not: the image has no such command, a file is missing.
            if error.status.is_some_and(|status| status < 500) {
                Ok(Outcome::failed(error.to_string()))
            } else {
                Err(Bad {
                    owner: Owner::Engine,
                    ..Bad::from(error)
                })
            }
        }
        Some(Err(error @ StartError::Service { .. })) => Ok(Outcome {
            result: Err(error.to_string()),
            exit_code: None,
            tail: match error {
                StartError::Service { log, .. } => log,
                StartError::Engine(_) => String::new(),
            },
        }),
    }
}

async fn within<T>(step: &Step, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(step.timeout, work).await.ok()
}

fn timed_out(step: &Step) -> Outcome {
    let limit: Duration = step.timeout;
    Outcome::failed(format!(
        "it did not end within its timeout of {} s",
        limit.as_secs()
    ))
}

fn container_of(run: &Run, service: &str) -> Result<String, Bad> {
    run.generation()?
        .services
        .iter()
        .find(|running| running.blueprint.service.name == service)
        .map(|running| running.container.clone())
        .ok_or_else(out_of_order)
}
