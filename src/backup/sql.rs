//! Plain SQL dumps: what they say of themselves, and whether their end is there.

use jiff::civil::DateTime;

use super::error::BackupError;
use super::format::{DumpFacts, Format};
use super::read::Judged;
use super::stream::Stream;

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

/// Whose dump it is, by the line that ends it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Maker {
    PgDump,
    PgDumpAll,
    Mysqldump,
}

impl Maker {
    const fn last_line(self) -> &'static str {
        match self {
            Self::PgDump => "-- PostgreSQL database dump complete",
            Self::PgDumpAll => "-- PostgreSQL database cluster dump complete",
            Self::Mysqldump => "-- Dump completed",
        }
    }
}

/// Judges the last bytes of a dump.
pub(super) fn judge_end(maker: Maker, head: &[u8], tail: &[u8]) -> Result<(), BadEnd> {
    let head = String::from_utf8_lossy(head);
    let tail = String::from_utf8_lossy(tail);
    let line = maker.last_line();
    let expected = format!("expected the line `{line}` at its end");
    let Some((_, after)) = tail.rsplit_once(&format!("\n{line}")) else {
        let last = tail.trim_end().lines().last().unwrap_or_default();
        let last: String = last.chars().take(80).collect();
        let without = match maker {
            Maker::Mysqldump => {
                "; a dump made with `--skip-comments` or `--compact` has none and cannot be told from a cut one: make it without"
            }
            Maker::PgDump | Maker::PgDumpAll => "",
        };
        return Err(BadEnd::Missing(format!(
            "{expected}, its last line is `{last}`{without}"
        )));
    };
    // Newer versions of pg_dump lock the file with a random word, and unlock it at its very end.
    let token = |text: &str, command: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(command))
            .map(|word| word.trim().to_owned())
    };
    if maker == Maker::PgDump
        && let Some(word) = token(&head, "\\restrict ")
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

/// Reads a plain dump to its end.
pub(super) fn judge(stream: &mut Stream, format: Format) -> Result<Judged, BackupError> {
    let mut end = super::stream::Tail::new(TAIL);
    let mut databases = Finder::new();
    stream.each("inside its SQL", |part| {
        end.push(part);
        databases.push(part);
    })?;
    let maker = match format {
        Format::MariadbDump => Maker::Mysqldump,
        Format::PostgresCluster => Maker::PgDumpAll,
        _ => Maker::PgDump,
    };
    judge_end(maker, &stream.head, &end.kept).map_err(|bad| match bad {
        BadEnd::Missing(seen) => stream.truncated(seen),
        BadEnd::Continued(seen) => stream.damaged(seen),
    })?;
    let (format, dump) = match format {
        Format::PostgresCluster if !databases.found => {
            (Format::PostgresGlobals, facts(&stream.head))
        }
        Format::MariadbDump => (format, mysql_facts(&stream.head, &end.kept)),
        _ => (format, facts(&stream.head)),
    };
    Ok(Judged {
        dump: Some(dump),
        ..Judged::new(format, "trailer seen")
    })
}

/// Looks for what only a dump of databases has, also where parts meet: the heading that `pg_dump` writes for each
/// database of a cluster. `CREATE DATABASE` would be one too, but the first of the two is always there.
struct Finder {
    found: bool,
    carried: Vec<u8>,
}

const HEADING: &[u8] = b"\n--\n-- PostgreSQL database dump\n--\n";

impl Finder {
    fn new() -> Self {
        Self {
            found: false,
            carried: Vec::new(),
        }
    }

    fn push(&mut self, part: &[u8]) {
        if self.found {
            return;
        }
        self.carried.extend_from_slice(part);
        let mut rest = self.carried.as_slice();
        while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
            rest = &rest[at..];
            if rest.starts_with(HEADING) {
                self.found = true;
                return;
            }
            rest = &rest[1..];
        }
        let keep = self.carried.len().min(HEADING.len());
        self.carried.drain(..self.carried.len() - keep);
    }
}

/// What a dump of MariaDB or MySQL says of itself in its first lines and its last.
fn mysql_facts(head: &[u8], tail: &[u8]) -> DumpFacts {
    let head = String::from_utf8_lossy(head);
    let after = |prefix: &str| head.lines().find_map(|line| line.strip_prefix(prefix));
    let tool = head
        .lines()
        .find(|line| line.starts_with("-- MariaDB dump ") || line.starts_with("-- MySQL dump "));
    let tail = String::from_utf8_lossy(tail);
    let made_local = tail
        .rsplit_once("\n-- Dump completed on ")
        .and_then(|(_, time)| {
            // The hour may be padded with a space.
            let mut words = time.lines().next()?.split_whitespace();
            let (day, hour) = (words.next()?, words.next()?);
            format!("{day} {hour:0>8}").parse::<DateTime>().ok()
        });
    DumpFacts {
        checksummed: false,
        database: after("-- Host: ")
            .and_then(|line| line.split_once("Database: "))
            .map(|(_, name)| name.trim().to_owned())
            .filter(|name| !name.is_empty()),
        server_version: after("-- Server version").map(|text| text.trim().to_owned()),
        tool_version: tool.map(|line| {
            let (_, version) = line.split_once("dump ").unwrap_or_default();
            version
                .split(", for ")
                .next()
                .unwrap_or_default()
                .trim()
                .to_owned()
        }),
        made_local,
        tables: None,
    }
}
