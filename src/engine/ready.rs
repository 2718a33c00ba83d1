//! Waiting for a container by the engine's events, never by sleeping.

use std::collections::HashMap;

use bollard::query_parameters::EventsOptions;
use futures_util::StreamExt;
use jiff::Timestamp;

use super::error::{Doing, EngineError};
use super::{ContainerState, Engine};

/// Why a container did not get ready.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// It ended although it should run, or with a code other than 0 although it should complete.
    #[error("it ended with exit code {exit_code}{}", if *.out_of_memory { " (killed for its memory)" } else { "" })]
    Ended {
        /// Its exit code.
        exit_code: i64,
        /// It was killed for its memory.
        out_of_memory: bool,
    },
    /// Its health check failed as often as it may.
    #[error("its health check failed: {0}")]
    Unhealthy(String),
    /// The engine did not answer.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// What a container is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// It runs and, where it has a health check, is healthy.
    Healthy,
    /// It has ended with exit code 0.
    Completed,
}

impl Engine {
    /// Waits until a started container is healthy (or, without a health check, runs). The caller holds the deadline.
    ///
    /// # Errors
    /// As soon as it is known that it will not get ready.
    pub async fn await_healthy(&self, name: &str) -> Result<ContainerState, NotReady> {
        self.await_state(name, Until::Healthy).await
    }

    /// Waits until a started container has ended with exit code 0. The caller holds the deadline.
    ///
    /// # Errors
    /// When it ended otherwise.
    pub async fn await_completed(&self, name: &str) -> Result<ContainerState, NotReady> {
        self.await_state(name, Until::Completed).await
    }

    async fn await_state(&self, name: &str, until: Until) -> Result<ContainerState, NotReady> {
        let first = self.container_state(name).await?;
        // The engine replays its events since the container's start and then goes on with new ones, without a gap:
        // whatever happened after the first look comes as an event, and the state is looked at anew after each.
        let since = first
            .started_at
            .parse::<Timestamp>()
            .ok()
            .map(|started| started.as_second())
            .filter(|seconds| *seconds > 0);
        if let Some(result) = judge(first, until) {
            return result;
        }
        let options = EventsOptions {
            since: since.map(|seconds| seconds.to_string()),
            filters: Some(HashMap::from([
                ("container".to_owned(), vec![name.to_owned()]),
                ("type".to_owned(), vec!["container".to_owned()]),
            ])),
            ..EventsOptions::default()
        };
        let mut events = self.docker.events(Some(options));
        while let Some(event) = events.next().await {
            event.doing(|| format!("watch container `{name}`"))?;
            if let Some(result) = judge(self.container_state(name).await?, until) {
                return result;
            }
        }
        Err(EngineError::new(format!("watch container `{name}`"), "the engine hung up").into())
    }
}

fn judge(state: ContainerState, until: Until) -> Option<Result<ContainerState, NotReady>> {
    let ended = |state: &ContainerState| NotReady::Ended {
        exit_code: state.exit_code.unwrap_or(-1),
        out_of_memory: state.out_of_memory,
    };
    match (until, state.running) {
        (Until::Completed, true) => None,
        (Until::Completed, false) if state.exit_code == Some(0) => Some(Ok(state)),
        (Until::Completed | Until::Healthy, false) => Some(Err(ended(&state))),
        (Until::Healthy, true) => match state.health.as_deref() {
            None | Some("healthy") => Some(Ok(state)),
            Some("unhealthy") => Some(Err(NotReady::Unhealthy(
                state.last_check.unwrap_or_default().trim().to_owned(),
            ))),
            Some(_) => None,
        },
    }
}
