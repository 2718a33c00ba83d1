//! `rehearse history`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use jiff::{Timestamp, civil, tz};

use super::{Format, USAGE, say};
use crate::engine::OwnerId;
use crate::event::Mode;
use crate::history::{self, Entry, History, HistoryError, Wanted};
use crate::report::history::{Block, Shown, Standing, json, table};

/// Show earlier runs: verdicts, age of the data, backup size, restore time.
#[derive(Debug, Args)]
#[command(after_long_help = "\
The age of the data is what it was when the run began, that of the oldest backup where there are several; backup and restore \
are all of them together, and the change is against the newest earlier run of the same backups.

Exit codes: 0 (also where there is no run yet), 2 the history cannot be read, 64 usage.

Examples:
  rehearse history
  rehearse history rehearsals/site.yaml --mode backup-check --since 30d
  rehearse history site --format json | jq '.runs[] | select(.verdict != \"passed\") | .reason'")]
pub struct Arguments {
    /// Only runs of this rehearsal: its file, or its name
    #[arg(value_name = "REHEARSAL")]
    pub rehearsal: Option<PathBuf>,
    /// Only runs of this mode
    #[arg(long, value_enum)]
    pub mode: Option<ModeArgument>,
    /// Only runs that began within this time or since this moment: 30d, 2026-11-01, 2026-11-01T04:00Z
    #[arg(long, value_name = "WHEN", value_parser = since)]
    pub since: Option<Timestamp>,
    /// At most this many runs of each rehearsal, the newest
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
    /// The folder below which records, logs and reports of all runs lie
    #[arg(long, value_name = "DIR", default_value = ".rehearse")]
    pub report_dir: PathBuf,
    /// How to show it: for a person, or as one JSON document
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub format: Format,
}

/// What runs were for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModeArgument {
    /// `rehearse run`
    Rehearse,
    /// `rehearse backup-check`
    BackupCheck,
}

fn since(text: &str) -> Result<Timestamp, String> {
    let span = || {
        let span = crate::manifest::duration(text)?;
        Timestamp::now()
            .checked_sub(jiff::SignedDuration::try_from(span).ok()?)
            .ok()
    };
    let date = || {
        let date: civil::Date = text.parse().ok()?;
        Some(date.to_zoned(tz::TimeZone::UTC).ok()?.timestamp())
    };
    span()
        .or_else(|| text.parse().ok())
        .or_else(date)
        .ok_or_else(|| "write it as 12h, 30d, 2026-11-01 or 2026-11-01T04:00Z".to_owned())
}

/// Runs the command.
pub fn main(arguments: &Arguments) -> ExitCode {
    let rehearsal = match arguments.rehearsal.as_deref().map(name).transpose() {
        Ok(rehearsal) => rehearsal,
        Err(code) => return code,
    };
    match blocks(arguments, rehearsal.as_deref()) {
        Ok((blocks, known)) => show(arguments, rehearsal.as_deref(), &blocks, &known),
        Err(error) => {
            say::error(error.sentence(), error.help());
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// The name of a rehearsal that is given by its file or its name.
fn name(given: &Path) -> Result<String, ExitCode> {
    let is_path = given.components().count() > 1
        || given
            .extension()
            .is_some_and(|ending| ending == "yaml" || ending == "yml");
    if is_path || given.is_file() {
        return crate::manifest::load(given)
            .map(|loaded| loaded.rehearsal.name)
            .map_err(|problems| say::problems(&problems));
    }
    given.to_str().map(str::to_owned).ok_or_else(|| {
        say::error("the name of the rehearsal is not UTF-8", None);
        ExitCode::from(USAGE)
    })
}

/// Also the names of all rehearsals that the history knows.
fn blocks(
    arguments: &Arguments,
    rehearsal: Option<&str>,
) -> Result<(Vec<Block>, Vec<String>), HistoryError> {
    let path = arguments.report_dir.join(history::FILE);
    let Some(history) = History::open_existing(&path)? else {
        return Ok((Vec::new(), Vec::new()));
    };
    let known = history.rehearsals()?;
    let mut blocks = Vec::new();
    for name in known
        .iter()
        .filter(|name| rehearsal.is_none_or(|asked| asked == *name))
    {
        let mut entries = history.list(&Wanted {
            rehearsal: Some(name),
            mode: arguments.mode.map(|mode| match mode {
                ModeArgument::Rehearse => Mode::Rehearse,
                ModeArgument::BackupCheck => Mode::BackupCheck,
            }),
            since: arguments.since,
            // One more, for the oldest one shown to be compared with.
            limit: Some(arguments.limit.saturating_add(1)),
        })?;
        let before = (entries.len() > arguments.limit)
            .then(|| entries.pop())
            .flatten();
        if !entries.is_empty() {
            blocks.push(Block {
                rehearsal: name.clone(),
                runs: entries.into_iter().map(shown).collect(),
                before,
            });
        }
    }
    Ok((blocks, known))
}

fn shown(entry: Entry) -> Shown {
    let alive = || OwnerId::parse(&entry.process)?.is_alive();
    let standing = match entry.finished {
        Some(_) => Standing::Finished,
        None => match alive() {
            Some(true) => Standing::Running,
            Some(false) => Standing::Died,
            None => Standing::Unknown,
        },
    };
    Shown { entry, standing }
}

fn show(arguments: &Arguments, rehearsal: Option<&str>, blocks: &[Block], known: &[String]) {
    match arguments.format {
        Format::Json => say::line(json(blocks).to_string()),
        Format::Human if blocks.is_empty() => say::line(empty(arguments, rehearsal, known)),
        Format::Human => say::line(table(blocks, &std::io::stdout()).trim_end()),
    }
}

/// Why there is nothing to show.
fn empty(arguments: &Arguments, rehearsal: Option<&str>, known: &[String]) -> String {
    let place = arguments.report_dir.display();
    match rehearsal {
        _ if known.is_empty() => format!("no run has been recorded in `{place}` yet"),
        Some(name) if !known.iter().any(|other| other == name) => {
            let known = known.join("`, `");
            format!("no run of `{name}` has been recorded in `{place}` yet; it knows `{known}`")
        }
        Some(_) | None => {
            "no run is like that: ask with another --mode, --since or --limit".to_owned()
        }
    }
}
