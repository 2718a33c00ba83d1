//! What a package says of its deploy, beside the schema changes: promises that the rehearsal holds it to.

use std::time::Duration;

use serde::Serialize;

/// What the package declares; nothing where it is silent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Declares {
    /// Settings that it changes: `service.VARIABLE` and `service:/path`.
    pub config: Vec<String>,
    /// The sum of the times in which an `availability` target may not be there.
    pub max_downtime: Option<Duration>,
    /// The longest that a table may be locked against readers or writers.
    pub max_lock: Option<Duration>,
    /// How long its own way back takes, from its first step to healthy services.
    pub max_rollback: Option<Duration>,
}
