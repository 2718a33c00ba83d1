//! Plain SQL dumps: what they say of themselves, and whether their end is there.

use super::format::DumpFacts;

/// The end of a dump is looked for in so many last bytes.
pub(super) const TAIL: usize = 8192;

/// Reads the comments that a dump begins with.
pub(super) fn facts(head: &[u8]) -> DumpFacts {
    let head = String::from_utf8_lossy(head);
    let after = |prefix: &str| {
        head.lines()
            .find_map(|line| line.strip_prefix(prefix))
            .map(|text| text.trim().to_owned())
    };
    DumpFacts {
        server_version: after("-- Dumped from database version "),
        tool_version: after("-- Dumped by pg_dump version "),
        ..DumpFacts::default()
    }
}

/// How an end is wrong: what was expected and seen.
pub(super) enum BadEnd {
    Missing(String),
    /// The dump is whole, but something was written after it.
    Continued(String),
}

/// Judges the last bytes of a dump.
pub(super) fn judge_end(head: &[u8], tail: &[u8]) -> Result<(), BadEnd> {
    let head = String::from_utf8_lossy(head);
    let tail = String::from_utf8_lossy(tail);
    let expected = "expected the line `-- PostgreSQL database dump complete` at its end";
    let Some((_, after)) = tail.rsplit_once("\n-- PostgreSQL database dump complete") else {
        let last = tail.trim_end().lines().last().unwrap_or_default();
        let last: String = last.chars().take(80).collect();
        return Err(BadEnd::Missing(format!(
            "{expected}, its last line is `{last}`"
        )));
    };
    // Newer versions of pg_dump lock the file with a random word, and unlock it at its very end.
    let token = |text: &str, command: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(command))
            .map(|word| word.trim().to_owned())
    };
    if let Some(word) = token(&head, "\\restrict ")
        && token(after, "\\unrestrict ").as_ref() != Some(&word)
    {
        let what =
            format!("expected `\\unrestrict {word}` at its end, after `\\restrict` at its start");
        return Err(BadEnd::Missing(what));
    }
    let plain =
        |line: &str| line.is_empty() || line.starts_with("--") || line.starts_with("\\unrestrict ");
    match after
        .lines()
        .skip(1)
        .map(str::trim_end)
        .find(|line| !plain(line))
    {
        Some(line) => {
            let line: String = line.chars().take(80).collect();
            Err(BadEnd::Continued(format!(
                "{expected}, but more follows it: `{line}`"
            )))
        }
        None => Ok(()),
    }
}
