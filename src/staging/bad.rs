//! That something went wrong, and whose fault it is.

use crate::engine::EngineError;
use crate::event::Owner;

use super::StartError;

/// A stage went wrong: who is at fault, why, and what to do.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Bad {
    /// Who is at fault.
    pub owner: Owner,
    /// One sentence.
    pub reason: String,
    /// What to do, where that is known.
    pub help: Option<String>,
    /// One of the rehearsal's limits ended it: what would have become of it was not seen.
    pub overrun: bool,
}

impl Bad {
    /// Without help.
    pub fn new(owner: Owner, reason: impl Into<String>) -> Self {
        Self {
            owner,
            reason: reason.into(),
            help: None,
            overrun: false,
        }
    }

    /// Adds what to do.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Services that did not start: the owner of what was started is at fault, unless the engine is.
    pub fn start(error: &StartError, owner: Owner) -> Self {
        match error {
            StartError::Engine(error) => Self::from(error),
            StartError::Service { .. } => Self::new(owner, error.with_log())
                .with_help("the service's whole log is in the run's folder, below logs/"),
        }
    }
}

impl From<&EngineError> for Bad {
    fn from(error: &EngineError) -> Self {
        Self {
            owner: Owner::Engine,
            reason: error.to_string(),
            help: error.help.clone(),
            overrun: false,
        }
    }
}

impl From<EngineError> for Bad {
    fn from(error: EngineError) -> Self {
        Self::from(&error)
    }
}
