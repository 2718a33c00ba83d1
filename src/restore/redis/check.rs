//! What `redis-check-rdb` and `redis-check-aof` say.

use jiff::Timestamp;

use crate::engine::ExecOutcome;
use crate::event::Owner;
use crate::restore::{Toolbox, Trouble};
use crate::staging::Bad;

/// What the checking tool saw of a snapshot, also of one with which an append-only file begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Checked {
    /// The version of the server that wrote it.
    pub(super) version: Option<String>,
    /// When it was begun.
    pub(super) made: Option<Timestamp>,
    pub(super) keys: u64,
    /// Of the keys those that expire some time.
    pub(super) expires: u64,
    /// The checksum was there and held.
    pub(super) checksum: bool,
}

/// What was seen of a file that is in order.
pub(super) fn read(text: &str) -> Checked {
    let mut checked = Checked::default();
    for line in text.lines() {
        let aux = |key: &str| {
            let (_, value) = line.split_once(&format!("AUX FIELD {key} = '"))?;
            value.strip_suffix('\'')
        };
        let count = |what: &str| -> Option<u64> {
            let number = line.strip_prefix("[info] ")?.strip_suffix(what)?;
            number.trim().parse().ok()
        };
        if let Some(version) = aux("redis-ver") {
            checked.version = Some(version.to_owned());
        } else if let Some(seconds) = aux("ctime") {
            checked.made = seconds
                .parse()
                .ok()
                .and_then(|seconds| Timestamp::from_second(seconds).ok());
        } else if let Some(keys) = count("keys read") {
            checked.keys = keys;
        } else if let Some(expires) = count("expires") {
            checked.expires = expires;
        } else if line.ends_with("Checksum OK") {
            checked.checksum = true;
        }
    }
    checked
}

/// Says what the tool found wrong.
fn fault(text: &str) -> String {
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let marked = lines()
        .skip_while(|line| !line.contains("ERROR DETECTED"))
        .nth(1);
    let worded = || {
        let words = [
            "0x",
            "not valid",
            "Expected",
            "EOF",
            "Unexpected",
            "rror",
            "annot",
        ];
        lines().find(|line| words.iter().any(|word| line.contains(word)))
    };
    marked
        .or_else(worded)
        .or_else(|| lines().next_back())
        .unwrap_or("it says nothing")
        .to_owned()
}

/// Runs a checking tool, never with `--fix`.
///
/// # Errors
/// The backup is at fault where the tool says so; the stack where its Redis is older than what wrote the backup.
pub(super) async fn check(tool: &Toolbox<'_>, command: &[&str]) -> Result<Checked, Bad> {
    let outcome = tool.run(command).await?;
    let text = said(&outcome);
    if outcome.exit_code == 0 {
        return Ok(read(&text));
    }
    let name = command.first().copied().unwrap_or_default();
    let fault = fault(&text);
    if let Some(trouble) = Trouble::of(&outcome) {
        return Err(trouble.bad(&tool.source, name, &fault));
    }
    Err(too_new(Bad::new(
        Owner::Backup,
        format!("{}: `{name}` refuses the backup: {fault}", tool.source),
    )))
}

fn said(outcome: &ExecOutcome) -> String {
    format!("{}\n{}", outcome.stdout, outcome.stderr)
}

/// A format that is newer than the server is no fault of the backup.
pub(super) fn too_new(bad: Bad) -> Bad {
    if bad.reason.contains("handle RDB format version") {
        return Bad {
            owner: Owner::Stack,
            ..bad.with_help("use the same major version of Redis as production in the stack")
        };
    }
    bad
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[offset 0] Checking RDB file /data/dump.rdb
[offset 27] AUX FIELD redis-ver = '7.0.15'
[offset 41] AUX FIELD redis-bits = '64'
[offset 53] AUX FIELD ctime = '1795263261'
[offset 68] AUX FIELD used-mem = '963808'
[offset 80] AUX FIELD aof-base = '0'
[offset 89] Checksum OK
[offset 89] \\o/ RDB looks OK! \\o/
[info] 1000 keys read
[info] 7 expires
[info] 0 already expired
";

    #[test]
    fn the_tools_words_are_read() {
        let checked = read(GOOD);
        assert_eq!(checked.version.as_deref(), Some("7.0.15"));
        assert_eq!(checked.made.map(Timestamp::as_second), Some(1_795_263_261));
        assert_eq!((checked.keys, checked.expires), (1000, 7));
        assert!(checked.checksum);
        assert!(
            !read(&GOOD.replace(
                "Checksum OK",
                "RDB file was saved with checksum disabled: no check performed."
            ))
            .checksum
        );
    }

    #[test]
    fn a_fault_is_told_in_the_tools_words() {
        let bad = "[offset 0] Checking RDB file x\n--- RDB ERROR DETECTED ---\n[offset 0] Wrong signature trying to load DB from file\n[additional info] While doing: start\n";
        assert_eq!(
            fault(bad),
            "[offset 0] Wrong signature trying to load DB from file"
        );
        assert_eq!(fault(""), "it says nothing");
    }

    #[test]
    fn a_newer_format_is_the_stacks_fault() {
        let bad = |reason: &str| too_new(Bad::new(Owner::Backup, reason)).owner;
        assert_eq!(bad("Can't handle RDB format version 12"), Owner::Stack);
        assert_eq!(bad("RDB CRC error"), Owner::Backup);
    }
}
