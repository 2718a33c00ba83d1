//! Whether a step read the input that it does not have.
//!
//! Its input is an empty file in memory, last read in the year 2000: at its end at once, like `/dev/null`. Linux notes
//! when a file is read, also where there is nothing in it, so a time of today says that somebody would have had to answer.
//! Where the container has no `/dev/shm`, no `touch` or no `stat`, nothing is seen, and nothing is claimed.

use std::time::Duration;

use crate::engine::{Engine, ExecSpec};

/// `$1` is the file, `$2` the script.
const START: &str = r#"(: >"$1" && touch -a -t 200001010000 "$1") 2>/dev/null || set -- /dev/null "$2"
exec /bin/sh -e -c "$2" <"$1""#;

/// Tells when the file was last read, in seconds since 1970, and takes it away.
const LOOK: &str = r#"stat -c %X "$1" 2>/dev/null; rm -f "$1""#;

/// 2001: later than the time that the file was given in any time zone, and long ago.
const LONG_AGO: i64 = 978_307_200;

/// Looking takes no time; a container that is too busy for it is not waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// The input of one run of a step.
pub(super) struct Input(String);

impl Input {
    pub(super) fn new() -> Self {
        Self(format!(
            "/dev/shm/.rehearse-input-{:016x}",
            fastrand::u64(..)
        ))
    }

    /// The command that runs a script with this input.
    pub(super) fn command(&self, script: &str) -> Vec<String> {
        ["/bin/sh", "-c", START, "/bin/sh", &self.0, script]
            .map(str::to_owned)
            .to_vec()
    }

    /// Whether it was read; `None` where that cannot be seen. `spec` is what ran.
    pub(super) async fn was_read(
        &self,
        engine: &Engine,
        container: &str,
        spec: &ExecSpec,
    ) -> Option<bool> {
        let look = ExecSpec {
            command: ["/bin/sh", "-c", LOOK, "/bin/sh", &self.0]
                .map(str::to_owned)
                .to_vec(),
            user: spec.user.clone(),
            ..ExecSpec::default()
        };
        let looked = engine.exec(container, &look, |_| {});
        let outcome = tokio::time::timeout(PATIENCE, looked).await.ok()?.ok()?;
        let read_at: i64 = outcome.stdout.trim().parse().ok()?;
        Some(read_at > LONG_AGO)
    }
}
