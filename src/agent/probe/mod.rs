//! Looks at a service as its users do.

mod http;
mod sql;
pub(super) mod tcp;

use std::time::{Duration, Instant};

use crate::check::model::{Observation, Probe, Unseen};

/// What every look needs.
pub(super) struct Prober {
    clients: http::Clients,
}

impl Prober {
    /// # Errors
    /// The HTTP client cannot be made.
    pub(super) fn new() -> Result<Self, String> {
        Ok(Self {
            clients: http::Clients::new()?,
        })
    }

    /// Looks once. The time is that of the exchange for HTTP, of the connecting for TCP, of the query for SQL.
    pub(super) async fn probe(&self, probe: Probe) -> (Result<Observation, Unseen>, Duration) {
        let started = Instant::now();
        let (seen, measured) = match probe {
            Probe::Http(probe) => (http::probe(&self.clients, probe).await, None),
            Probe::Tcp(probe) => with_time(tcp::probe(&probe).await),
            Probe::Sql(probe) => with_time(sql::probe(&probe).await),
            Probe::Exec(_) => (not_here("exec"), None),
            Probe::File(_) => (not_here("file"), None),
            Probe::Emulator(_) => (not_here("emulator"), None),
        };
        (seen, measured.unwrap_or_else(|| started.elapsed()))
    }
}

fn with_time(
    seen: Result<(Observation, Duration), Unseen>,
) -> (Result<Observation, Unseen>, Option<Duration>) {
    match seen {
        Ok((observation, elapsed)) => (Ok(observation), Some(elapsed)),
        Err(unseen) => (Err(unseen), None),
    }
}

fn not_here(kind: &str) -> Result<Observation, Unseen> {
    Err(Unseen::Undetermined(format!(
        "the agent does not look at `{kind}`: the engine does"
    )))
}

#[cfg(test)]
mod tests;
