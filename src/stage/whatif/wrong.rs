//! How a path ended.

use std::time::Duration;

use crate::engine::EngineError;
use crate::event::{Mismatch, Owner};
use crate::stage::Bad;
use crate::staging::StartError;

/// A path that ended as it has to.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// What was learnt, in one line.
    pub said: Option<String>,
    /// What was seen on the way.
    pub output: Option<String>,
    /// What the package's own rollback took, where it led back.
    pub own_rollback: Option<Duration>,
    /// What the branch had written, in bytes on disk.
    pub bytes: Option<u64>,
}

impl Told {
    pub(super) fn of(said: impl Into<String>) -> Self {
        Self {
            said: Some(said.into()),
            ..Self::default()
        }
    }
}

/// A path that did not.
#[derive(Debug)]
pub(super) enum Wrong {
    /// The package is at fault.
    Failed(Failed),
    /// It could not be seen how it ends.
    Unseen(Bad),
}

/// What the package did on a path.
#[derive(Debug, Default)]
pub(super) struct Failed {
    /// One sentence.
    pub reason: String,
    /// What is not as it was to be.
    pub mismatches: Vec<Mismatch>,
    /// What was seen on the way.
    pub output: Option<String>,
    /// The component that is the likely cause.
    pub component: Option<String>,
}

impl Wrong {
    pub(super) fn failed(reason: impl Into<String>) -> Self {
        Self::Failed(Failed {
            reason: reason.into(),
            ..Failed::default()
        })
    }

    /// The same with words before a failure's own.
    pub(super) fn after(self, when: &str) -> Self {
        match self {
            Self::Failed(failed) => Self::Failed(Failed {
                reason: format!("{when}{}", failed.reason),
                ..failed
            }),
            Self::Unseen(bad) => Self::Unseen(Bad {
                reason: format!("{when}{}", bad.reason),
                ..bad
            }),
        }
    }

    /// The same with what was seen on the way.
    pub(super) fn with_output(self, output: Option<String>) -> Self {
        match self {
            Self::Failed(failed) => Self::Failed(Failed {
                output: failed.output.or(output),
                ..failed
            }),
            Self::Unseen(bad) => Self::Unseen(bad),
        }
    }
}

impl From<Bad> for Wrong {
    fn from(bad: Bad) -> Self {
        match bad.owner {
            Owner::Package => Self::failed(bad.reason),
            Owner::Backup
            | Owner::Staging
            | Owner::Stack
            | Owner::Testplan
            | Owner::Isolation
            | Owner::Engine => Self::Unseen(bad),
        }
    }
}

impl From<EngineError> for Wrong {
    fn from(error: EngineError) -> Self {
        Self::Unseen(error.into())
    }
}

impl From<StartError> for Wrong {
    /// After a deploy: a service that does not get ready is the package's doing.
    fn from(error: StartError) -> Self {
        match error {
            StartError::Engine(error) => error.into(),
            error @ StartError::Service { .. } => Self::failed(error.with_log()),
        }
    }
}
