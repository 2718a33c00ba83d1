//! Carries out one step of a package, unassisted: no input, no terminal, a deadline that kills all of it.

mod image;
mod input;
mod overlay;
mod script;
mod settings;
mod wait;

use std::time::Duration;

use super::Bad;
use super::run::{Run, out_of_order};
use crate::engine::HostPaths;
use crate::event::Owner;
use crate::plan::model::{Action, Override, Step};
use crate::staging::{Bastion, Blueprint, StartError};

/// How it is said of a step that its time was over.
pub(super) const LATE: &str = "did not end within its timeout";

/// How a step ended.
#[derive(Debug)]
pub(super) struct Outcome {
    /// `Ok` may have a figure; `Err` says what was seen instead of success, in words for the reader: the package is at
    /// fault.
    pub result: Result<Option<String>, String>,
    /// The exit code, where a process ran and ended by itself.
    pub exit_code: Option<i64>,
    /// The last lines of its output.
    pub tail: String,
}

impl Outcome {
    const fn ok() -> Self {
        Self {
            result: Ok(None),
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
        | Action::Files { service, .. }
        | Action::Restart { service }
        | Action::Override(Override { service, .. }) => service.clone(),
        Action::Wait { .. } => "agent".to_owned(),
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
            let script = script::Script {
                text: script,
                service: service.as_deref(),
                user: user.as_deref(),
            };
            script::run(run, component, step, &script, bastion).await
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
            uploaded(step, copied)
        }
        Action::Files { service, files } => {
            let container = container_of(run, service)?;
            settings::files(run, step, &container, files).await
        }
        Action::Wait { probe } => wait::answered(run, step, probe).await,
        Action::Image { service, source } => {
            let (reference, facts) = match image::brought(run, component, step, source).await? {
                Ok(brought) => brought,
                Err(outcome) => return Ok(outcome),
            };
            recreate(run, step, service, |blueprint| {
                blueprint.image = reference;
                blueprint.facts = facts;
            })
            .await
        }
        Action::Env { service, set } => {
            let set = settings::variables(run, set)?;
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
        Action::Override(changes) => overlay::carry_out(run, component, step, changes).await,
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

/// What became of copying something into a service.
fn uploaded(
    step: &Step,
    copied: Option<Result<(), crate::engine::EngineError>>,
) -> Result<Outcome, Bad> {
    Ok(match copied {
        None => timed_out(step),
        Some(Ok(())) => Outcome::ok(),
        // 404: no such path; 400: not a folder; 403: read-only, which older engines call 500,
        // as they do a file in the way. The package asked for it.
        Some(Err(error))
            if error.status.is_some_and(|status| status < 500)
                || error.cause.contains("marked read-only")
                || error.cause.contains("not a directory") =>
        {
            Outcome::failed(error.to_string())
        }
        Some(Err(error)) => return Err(error.into()),
    })
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
    Outcome::failed(format!("it {LATE} of {} s", limit.as_secs()))
}

fn container_of(run: &Run, service: &str) -> Result<String, Bad> {
    run.generation()?
        .services
        .iter()
        .find(|running| running.blueprint.service.name == service)
        .map(|running| running.container.clone())
        .ok_or_else(out_of_order)
}
