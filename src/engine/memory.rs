//! Whether the kernel killed something in a container for want of memory, by the kernel's own count.
//!
//! The count of a container's memory control group goes up before the victim gets its signal (`__oom_kill_process` in
//! the kernel's `mm/oom_kill.c`), so whoever saw that something died can ask. The engine's `oom` events and its flag
//! `OOMKilled` come later or, where it is nested in a container, never; and of a child that was killed a server's own
//! log may never tell.

use std::time::Duration;

use super::{Engine, ExecSpec};

/// The count's file of the second version of control groups, and of the first one (since Linux 4.13).
const COUNTS: [&str; 2] = [
    "/sys/fs/cgroup/memory.events",
    "/sys/fs/cgroup/memory/memory.oom_control",
];

/// Exit code of a process that got SIGKILL.
const KILLED: i64 = 137;

impl Engine {
    /// True where something in a container is known to have been killed for want of memory since its start; a main
    /// process that ended by SIGKILL is that too, so this must not be asked of a container that we killed. One that is
    /// about to end is waited for as long as `patience`.
    pub async fn starved(&self, container: &str, patience: Duration) -> bool {
        let Ok(state) = self.container_state(container).await else {
            return false;
        };
        if state.out_of_memory {
            return true;
        }
        if !state.running {
            return state.exit_code == Some(KILLED);
        }
        let mut command = vec!["cat".to_owned()];
        command.extend(COUNTS.map(str::to_owned));
        let spec = ExecSpec {
            command,
            // The image's own user may not read everything.
            user: Some("0:0".to_owned()),
            ..ExecSpec::default()
        };
        match self.exec(container, &spec, |_| {}).await {
            // One of the two files is never there, and `cat` tells the other one all the same. Where it was killed
            // itself, there is not even memory for it, or the first process took it along.
            Ok(outcome) => outcome.exit_code == KILLED || kills(&outcome.stdout) > 0,
            Err(error) if error.cause.contains("executable file not found") => false,
            // Nothing can be run in a container whose first process is dead.
            Err(_) => {
                let ended = tokio::time::timeout(patience, self.wait_container(container)).await;
                matches!(ended, Ok(Ok(KILLED)))
                    || self
                        .container_state(container)
                        .await
                        .is_ok_and(|state| state.out_of_memory)
            }
        }
    }
}

/// The number of kills in either file: `oom_kill 1`. Others begin alike: `oom_kill_disable 0`, `oom_group_kill 0`.
fn kills(text: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::kills;

    #[test]
    fn kills_are_counted_in_both_versions() {
        for (text, expected) in [
            ("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", 3),
            (
                "low 0\nhigh 0\nmax 41\noom 2\noom_kill 1\noom_group_kill 7\n",
                1,
            ),
            ("oom_kill_disable 1\nunder_oom 0\noom_kill 0\n", 0),
            ("oom_kill_disable 1\n", 0),
            ("", 0),
        ] {
            assert_eq!(kills(text), expected, "{text}");
        }
    }
}
