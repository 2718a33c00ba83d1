//! What can go wrong at the door.

use bollard::errors::Error as Bollard;

/// How it is said that something is longer than it may be.
const TOO_LARGE: &str = "it is larger than";

/// An operation of the engine that failed: what was tried, on what, what the engine said and what to do.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation}: {cause}")]
pub struct EngineError {
    /// `create volume x`, `start container y`.
    pub operation: String,
    /// The engine's words.
    pub cause: String,
    /// The remedy, where one is known.
    pub help: Option<String>,
    /// The HTTP status of the engine's answer, where there was one.
    pub status: Option<u16>,
}

impl EngineError {
    /// An error with words of our own.
    pub fn new(operation: impl Into<String>, cause: impl Into<String>) -> Self {
        Self {
            operation: operation.into(),
            cause: cause.into(),
            help: None,
            status: None,
        }
    }

    /// Adds the remedy.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// True where the engine could not do what it was asked, rather than would not: it failed by its own word, is out
    /// of space, or hung up.
    pub fn is_engines_fault(&self) -> bool {
        let cause = self.cause.to_lowercase();
        self.status.is_some_and(|status| status >= 500)
            || cause.contains("no space left on device")
            || cause.contains("hyper legacy client")
            || cause.contains("connection closed")
    }

    /// That what was read is longer than it may be.
    pub(super) fn too_large(operation: impl Into<String>, limit: usize) -> Self {
        Self::new(operation, format!("{TOO_LARGE} {limit} bytes"))
    }

    /// True where what was read is longer than it may be.
    pub fn is_too_large(&self) -> bool {
        self.status.is_none() && self.cause.starts_with(TOO_LARGE)
    }

    /// True where the engine said that the object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.status == Some(404)
    }
}

/// Names the operation of a failed call.
pub(super) trait Doing<T> {
    /// The operation in words, made only on failure.
    fn doing(self, operation: impl FnOnce() -> String) -> Result<T, EngineError>;
}

impl<T> Doing<T> for Result<T, Bollard> {
    fn doing(self, operation: impl FnOnce() -> String) -> Result<T, EngineError> {
        self.map_err(|error| {
            let (cause, status) = match &error {
                Bollard::DockerResponseServerError {
                    status_code,
                    message,
                } => (message.trim().to_owned(), Some(*status_code)),
                Bollard::DockerStreamError { error } => (error.trim().to_owned(), None),
                other => (chain(other), None),
            };
            let help = remedy(&cause);
            EngineError {
                operation: operation(),
                cause,
                help,
                status,
            }
        })
    }
}

/// An error and all its sources in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let words = inner.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = inner.source();
    }
    text
}

/// The remedy for causes that have one.
fn remedy(cause: &str) -> Option<String> {
    let lower = cause.to_lowercase();
    let help = if lower.contains("no space left on device") {
        "free space where the engine keeps its data; `rehearse sweep --bases` removes cached bases"
    } else if lower.contains("non-overlapping") || lower.contains("address pool") {
        "the engine has no free network range: `rehearse sweep` removes networks of dead runs; `docker network ls` shows the rest"
    } else if lower.contains("permission denied") {
        "this user may not talk to the engine: use root or a member of the engine's group"
    } else {
        return None;
    };
    Some(help.to_owned())
}

#[cfg(test)]
mod tests {
    use super::EngineError;

    #[test]
    fn what_the_engine_cannot_do_is_not_what_it_will_not_do() {
        let error = |status, cause: &str| EngineError {
            operation: "build image `x`".to_owned(),
            cause: cause.to_owned(),
            help: None,
            status,
        };
        for (status, cause, engines) in [
            (Some(500), "something", true),
            (None, "write /x: no space left on device", true),
            (
                None,
                "Error in the hyper legacy client: client error (Connect)",
                true,
            ),
            (Some(400), "dockerfile parse error", false),
            (
                None,
                "The command '/bin/sh -c false' returned a non-zero code: 1",
                false,
            ),
        ] {
            assert_eq!(error(status, cause).is_engines_fault(), engines, "{cause}");
        }
    }
}
