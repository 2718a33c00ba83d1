//! Waiting until a service is ready: by the engine's events, its health check and its ports.

use std::time::{Duration, Instant};

use super::{Blueprint, Running, Staging};
use crate::agent::protocol::{Answer, Ask};
use crate::engine::{EngineError, ExecSpec, NotReady};
use crate::plan::model::Healthcheck;

/// Why services could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A service did not get ready.
    #[error("service `{service}` did not get ready: {reason}")]
    Service {
        /// The service.
        service: String,
        /// In which way.
        why: Why,
        /// What was seen.
        reason: String,
        /// Its last log lines.
        log: String,
    },
    /// The engine did not do what it was asked.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// In which way a service did not get ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It ended although it should run, or with a code other than 0 although it should complete.
    Ended {
        /// Its exit code.
        exit_code: i64,
    },
    /// The kernel killed it, or a part of it, for want of memory.
    OutOfMemory,
    /// It runs, and its health check fails or a port of it does not answer.
    Unhealthy,
    /// `limits.start` was over before it was known.
    Late,
}

impl StartError {
    /// In which way the service did not get ready; `None` where the engine did not do what it was asked.
    pub const fn why(&self) -> Option<Why> {
        match self {
            Self::Service { why, .. } => Some(*why),
            Self::Engine(_) => None,
        }
    }

    /// The service's last log lines.
    pub fn log(&self) -> &str {
        match self {
            Self::Service { log, .. } => log,
            Self::Engine(_) => "",
        }
    }

    /// The sentence with the last log lines behind it.
    pub fn with_log(&self) -> String {
        match self {
            Self::Service { log, .. } if !log.trim().is_empty() => {
                let lines: Vec<&str> = log.lines().map(str::trim_end).collect();
                let from = lines.len().saturating_sub(5);
                format!("{self}; its last log lines: {}", lines[from..].join(" | "))
            }
            Self::Service { .. } | Self::Engine(_) => self.to_string(),
        }
    }
}

/// The command of a service's health check, where it has one.
fn health_command(blueprint: &Blueprint) -> Option<Vec<String>> {
    let test = match &blueprint.service.healthcheck {
        // Without a test of its own it changes only the intervals of the image's.
        Some(check) if !check.test.is_empty() => &check.test,
        Some(_) | None => &blueprint.facts.healthcheck.as_ref()?.test,
    };
    match test.split_first() {
        Some((kind, command)) if kind == "CMD" => Some(command.to_vec()),
        Some((kind, [script])) if kind == "CMD-SHELL" => {
            Some(vec!["/bin/sh".into(), "-c".into(), script.clone()])
        }
        Some(_) | None => None,
    }
}

/// A service with neither a health check nor a port that the stack names counts as ready when it still runs after
/// this. Most of what is going to end at its start has ended by then.
const SETTLE: Duration = Duration::from_secs(1);

/// Lines of a service's log that come with the error about it.
const LOG_LINES: usize = 20;

/// A container whose first process is dead has ended after this long, on an engine that answers at all.
const ENDING: Duration = Duration::from_secs(30);

/// Between two checks of our own, at first and at most.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The engine's own defaults, where a health check does not say them.
const INTERVAL: Duration = Duration::from_secs(30);
const RETRIES: u32 = 3;

/// How a health check is repeated.
#[derive(Clone, Copy, Debug)]
struct Pace {
    start_period: Duration,
    interval: Duration,
    timeout: Duration,
    retries: u32,
}

impl Pace {
    /// What the stack does not say, the image says, else the engine; a zero says nothing.
    fn of(running: &Running) -> Self {
        let blueprint = &running.blueprint;
        let stack = blueprint.service.healthcheck.as_ref();
        let image = blueprint.facts.healthcheck.as_ref();
        let of = |pick: fn(&Healthcheck) -> Option<Duration>| {
            let said = |check: Option<&Healthcheck>| check.and_then(pick).filter(|t| !t.is_zero());
            said(stack).or_else(|| said(image))
        };
        let times = |check: Option<&Healthcheck>| check?.retries.filter(|times| *times > 0);
        Self {
            start_period: of(|check| check.start_period).unwrap_or_default(),
            interval: of(|check| check.interval).unwrap_or(INTERVAL),
            timeout: of(|check| check.timeout).unwrap_or(INTERVAL),
            retries: times(stack).or_else(|| times(image)).unwrap_or(RETRIES),
        }
    }
}

/// As [`NotReady::Ended`] says it.
const MEMORY: &str = "killed for its memory";

impl Staging {
    /// Waits until a started service is ready: completed if it is a one-shot; else healthy, and accepting
    /// connections on each port that the stack names. `limits.start` is the deadline.
    ///
    /// # Errors
    /// As soon as it is known that it will not get ready, with its last log lines.
    pub async fn await_ready(&self, running: &Running) -> Result<(), StartError> {
        let service = &running.blueprint.service;
        let limit = self.ground.plan.limits.start;
        let waited = tokio::time::timeout(limit, self.watch(running, limit)).await;
        let (mut why, mut reason) = match waited {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(not_ready)) => {
                let reason = not_ready.to_string();
                match not_ready {
                    NotReady::Engine(error) => return Err(error.into()),
                    NotReady::Ended { exit_code, .. } => (Why::Ended { exit_code }, reason),
                    NotReady::Unhealthy(_) => (Why::Unhealthy, reason),
                }
            }
            Err(_) => (
                Why::Late,
                format!("not ready after {} s (limits.start)", limit.as_secs()),
            ),
        };
        if self.ground.engine.starved(&running.container, ENDING).await {
            why = Why::OutOfMemory;
            if !reason.contains(MEMORY) {
                reason = format!("{reason} ({MEMORY})");
            }
        }
        let log = self
            .ground
            .engine
            .container_log(&running.container, Some(LOG_LINES))
            .await
            .unwrap_or_default();
        Err(StartError::Service {
            service: service.name.clone(),
            why,
            reason,
            log,
        })
    }

    async fn watch(&self, running: &Running, limit: Duration) -> Result<(), NotReady> {
        let service = &running.blueprint.service;
        let engine = &self.ground.engine;
        if service.one_shot {
            engine.await_completed(&running.container).await?;
            return Ok(());
        }
        let begun = engine.container_state(&running.container).await?;
        // What it asks for while it starts is its own, too.
        self.ground.learn_address(begun.address, &service.name);
        let check = health_command(&running.blueprint);
        // Of a service that is being restored, or on a path, the engine is not asked to watch the health.
        let unwatched = begun.running && begun.health.is_none();
        let (state, healthy) = if let Some(check) = check.filter(|_| unwatched) {
            tokio::select! {
                checked = self.becomes_healthy(running, check, Pace::of(running)) => checked?,
                ended = engine.wait_container(&running.container) => {
                    return Err(NotReady::Ended { exit_code: ended?, out_of_memory: false });
                }
            }
            (begun, true)
        } else {
            let state = tokio::select! {
                state = engine.await_healthy(&running.container) => state?,
                () = self.looks_healthy(running) => engine.container_state(&running.container).await?,
            };
            let healthy = state.health.is_some();
            (state, healthy)
        };
        self.ground.learn_address(state.address, &service.name);
        if !healthy && service.tcp_ports.is_empty() {
            // Nothing tells that such a service is ready; that it does not end at once is all there is to see.
            tokio::select! {
                ended = engine.wait_container(&running.container) => {
                    return Err(NotReady::Ended { exit_code: ended?, out_of_memory: false });
                }
                () = tokio::time::sleep(SETTLE) => {}
            }
        }
        tokio::select! {
            answered = self.ports_answer(running, limit) => answered,
            ended = engine.wait_container(&running.container) => {
                Err(NotReady::Ended { exit_code: ended?, out_of_memory: false })
            }
        }
    }

    /// Waits until each port that the stack names accepts connections.
    async fn ports_answer(&self, running: &Running, patience: Duration) -> Result<(), NotReady> {
        let service = &running.blueprint.service;
        for port in &service.tcp_ports {
            let asked = self.network.agent.ask(Ask::AwaitTcp {
                host: service.name.clone(),
                port: *port,
                patience,
            });
            match asked.await?.answer {
                Answer::Connected(Ok(())) => {}
                Answer::Connected(Err(error)) => {
                    return Err(NotReady::Unhealthy(format!(
                        "port {port} does not answer: {error}"
                    )));
                }
                other => {
                    return Err(EngineError::new(
                        "ask the agent",
                        format!("unexpected answer {other:?}"),
                    )
                    .into());
                }
            }
        }
        Ok(())
    }

    /// Runs a service's health check ourselves until it succeeds. Engines before 25 run it for the first time only
    /// after a whole interval; a service is usually ready long before, and waits like that add up. It never says
    /// that a service is unhealthy: that is the engine's to say.
    async fn looks_healthy(&self, running: &Running) {
        let Some(command) = health_command(&running.blueprint) else {
            return std::future::pending().await;
        };
        let spec = ExecSpec {
            command,
            ..ExecSpec::default()
        };
        let begun = Instant::now();
        // A process in the container costs a hundred times what a question to its port does.
        let limit = self.ground.plan.limits.start;
        let _ = self.ports_answer(running, limit).await;
        loop {
            let outcome = self
                .ground
                .engine
                .exec(&running.container, &spec, |_| {})
                .await;
            if outcome.is_ok_and(|outcome| outcome.exit_code == 0) {
                return;
            }
            pause(begun).await;
        }
    }

    /// What a running service's health check complains of, made now in place of the engine; `None` where it is well, or has
    /// no check. It may fail as often as the engine would let it.
    ///
    /// # Errors
    /// When the engine cannot run it.
    pub async fn complaint(&self, running: &Running) -> Result<Option<String>, EngineError> {
        let Some(command) = health_command(&running.blueprint) else {
            return Ok(None);
        };
        let pace = Pace {
            start_period: Duration::ZERO,
            ..Pace::of(running)
        };
        let limit = self.ground.plan.limits.start;
        let checked = self.becomes_healthy(running, command, pace);
        match tokio::time::timeout(limit, checked).await {
            Ok(Ok(())) => Ok(None),
            Ok(Err(NotReady::Engine(error))) => Err(error),
            Ok(Err(not_ready)) => Ok(Some(not_ready.to_string())),
            Err(_) => Ok(Some(format!(
                "its health check did not succeed within {} s (limits.start)",
                limit.as_secs()
            ))),
        }
    }

    /// Runs a service's health check in place of the engine, until it succeeds or has failed as often as it may: once
    /// an interval counts, and nothing in the start period, as the engine counts.
    async fn becomes_healthy(
        &self,
        running: &Running,
        command: Vec<String>,
        pace: Pace,
    ) -> Result<(), NotReady> {
        let Pace {
            start_period,
            interval,
            timeout,
            retries,
        } = pace;
        let begun = Instant::now();
        let mut counts = begun + start_period + interval;
        let mut failures = 0;
        // Nothing counts before then, and a process in the container costs a hundred times what a question to its port does.
        let uncounted = start_period + interval;
        let _ = tokio::time::timeout(uncounted, self.ports_answer(running, uncounted)).await;
        let spec = ExecSpec {
            command,
            ..ExecSpec::default()
        };
        loop {
            let run = self.ground.engine.exec(&running.container, &spec, |_| {});
            let failed = match tokio::time::timeout(timeout, run).await {
                Ok(Ok(outcome)) if outcome.exit_code == 0 => return Ok(()),
                Ok(Ok(outcome)) => NotReady::Unhealthy(outcome.last_words()),
                Ok(Err(error)) if error.is_engines_fault() => NotReady::Engine(error),
                Ok(Err(error)) => NotReady::Unhealthy(error.to_string()),
                Err(_) => NotReady::Unhealthy(format!("no end within {timeout:?}")),
            };
            if Instant::now() >= counts {
                failures += 1;
                counts = Instant::now() + interval;
            }
            if failures >= retries {
                return Err(failed);
            }
            pause(begun).await;
        }
    }
}

/// Between two checks of our own: there is no event for a check that the engine did not make. The longer a service has
/// been starting, the less a moment more matters.
async fn pause(begun: Instant) {
    let pause = (begun.elapsed() / 4).clamp(PAUSE, LONGEST_PAUSE);
    tokio::time::sleep(pause).await;
}
