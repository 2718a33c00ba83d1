//! What is heard while a dump is fed to the client.

use super::fault::{Fault, Meaning};
use crate::event::Owner;
use crate::plan::model::Tolerated;
use crate::staging::Bad;

/// Begins the line that says, with an exit code behind it, that `cat` did not read the dump to its end.
pub(super) const UNREAD: &str = "rehearse: the dump was not read, exit code";

/// What the client says, heard line by line: with `--force` a dump may give a message for each of its lines, so they are
/// counted and not kept.
pub(super) struct Heard<'a> {
    tolerate: &'a [Tolerated],
    /// How often each came that is tolerated.
    came: Vec<u64>,
    any: bool,
    /// The first that nobody tolerates.
    unknown: Option<Fault>,
    /// The first that says that the server is gone, tolerated or not.
    lost: Option<Fault>,
    /// What `cat` said last.
    cat: Option<String>,
    /// The exit code of `cat`.
    code: Option<String>,
}

impl<'a> Heard<'a> {
    pub(super) fn new(tolerate: &'a [Tolerated]) -> Self {
        Self {
            tolerate,
            came: vec![0; tolerate.len()],
            any: false,
            unknown: None,
            lost: None,
            cat: None,
            code: None,
        }
    }

    /// Hears one line of standard error.
    pub(super) fn hear(&mut self, line: &str) {
        if let Some(code) = line.strip_prefix(UNREAD) {
            self.code = Some(code.trim().to_owned());
            return;
        }
        if line.starts_with("cat: ") {
            self.cat = Some(line.to_owned());
            return;
        }
        let Some(fault) = Fault::of(line) else {
            return;
        };
        self.any = true;
        if self.lost.is_none() && fault.meaning() == Meaning::Lost {
            self.lost = Some(fault.clone());
        }
        let mut tolerated = false;
        for (one, came) in self.tolerate.iter().zip(&mut self.came) {
            if one.message == fault.message {
                *came += 1;
                tolerated = true;
            }
        }
        if !tolerated {
            self.unknown.get_or_insert(fault);
        }
    }

    /// Why the dump could not be read, in the words of `cat`. A client that stops leaves `cat` nobody to write to: that
    /// is no fault of the dump's file.
    pub(super) fn unread(&self) -> Option<String> {
        /// A shell's exit code of a program that wrote to nobody.
        const PIPE: &str = "141";
        let code = self.code.as_deref().filter(|code| *code != PIPE)?;
        match self.cat.as_deref() {
            Some(said) if said.to_lowercase().contains("broken pipe") => None,
            Some(said) => Some(said.to_owned()),
            None => Some(format!("`cat` ended with exit code {code}")),
        }
    }

    /// The first message that says that the server is gone.
    pub(super) const fn lost(&self) -> Option<&Fault> {
        self.lost.as_ref()
    }

    /// The first message that is not tolerated.
    pub(super) const fn unknown(&self) -> Option<&Fault> {
        self.unknown.as_ref()
    }

    /// True where the client gave no message.
    pub(super) const fn is_empty(&self) -> bool {
        !self.any
    }

    /// Checks that each tolerated message came exactly as often as the rehearsal says, and gives how many came in all.
    pub(super) fn as_often(&self, name: &str) -> Result<u64, Bad> {
        for (tolerated, came) in self.tolerate.iter().zip(&self.came) {
            if *came != tolerated.count {
                return Err(Bad::new(
                    Owner::Backup,
                    format!(
                        "{name}: the message `{}` came {came} times, `tolerate:` says {}",
                        tolerated.message, tolerated.count
                    ),
                )
                .with_help("find out what changed in the dump before you change the number"));
            }
        }
        Ok(self.came.iter().sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &str = "ERROR 1050 (42S01) at line 2: Table 'x' already exists";

    fn tolerate(count: u64) -> Vec<Tolerated> {
        vec![Tolerated {
            message: "Table 'x' already exists".into(),
            count,
        }]
    }

    fn heard<'a>(tolerate: &'a [Tolerated], said: &[&str]) -> Heard<'a> {
        let mut heard = Heard::new(tolerate);
        said.iter().for_each(|line| heard.hear(line));
        heard
    }

    #[test]
    fn tolerated_messages_come_exactly_so_often() {
        for (count, owner) in [
            (2, None),
            (1, Some(Owner::Backup)),
            (3, Some(Owner::Backup)),
        ] {
            let tolerate = tolerate(count);
            let judged = heard(&tolerate, &[KNOWN, KNOWN]).as_often("db");
            assert_eq!(judged.err().map(|bad| bad.owner), owner, "{count}");
        }
    }

    #[test]
    fn a_message_behind_a_flood_of_known_ones_is_heard() {
        let mut said = vec![KNOWN; 100_000];
        let tolerate = tolerate(100_000);
        let known = heard(&tolerate, &said);
        assert_eq!(known.as_often("db").ok(), Some(100_000));
        assert!(known.unknown().is_none() && known.lost().is_none());
        let other = "ERROR 1062 (23000) at line 9: Duplicate entry '1' for key 'PRIMARY'";
        let gone = "ERROR 2013 (HY000) at line 10: Lost connection to server during query";
        said.extend([other, gone]);
        let all = heard(&tolerate, &said);
        assert_eq!(all.unknown().map(|fault| fault.line.as_str()), Some(other));
        assert_eq!(all.lost().map(|fault| fault.line.as_str()), Some(gone));
        assert!(heard(&tolerate, &said[1..]).as_often("db").is_err());
    }

    #[test]
    fn a_file_that_cannot_be_read_is_told_from_a_client_that_stopped() {
        let code = |code: &str| format!("{UNREAD} {code}");
        let (one, pipe, killed) = (code("1"), code("141"), code("137"));
        for (said, expected) in [
            (vec![], None),
            (vec![KNOWN], None),
            (
                vec!["cat: read error: Input/output error", one.as_str()],
                Some("Input/output error"),
            ),
            // The client takes what it got for all, and finds it wrong.
            (
                vec![
                    "cat: /inbox/0: Input/output error",
                    one.as_str(),
                    "ERROR 1064 (42000) at line 7: You have an error in your SQL syntax",
                ],
                Some("Input/output error"),
            ),
            (vec![killed.as_str()], Some("exit code 137")),
            (vec![KNOWN, pipe.as_str()], None),
            (
                vec![KNOWN, "cat: write error: Broken pipe", one.as_str()],
                None,
            ),
        ] {
            let unread = heard(&[], &said).unread();
            assert_eq!(unread.is_some(), expected.is_some(), "{said:?}");
            assert!(
                unread
                    .unwrap_or_default()
                    .contains(expected.unwrap_or_default()),
                "{said:?}"
            );
        }
    }
}
