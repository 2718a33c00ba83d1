//! `rehearse bases`

use std::process::ExitCode;

use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::{Format, say};
use crate::engine::{Engine, EngineError};
use crate::report::text;
use crate::state::shelf::{self, Beyond, Removed, Shelved};

/// List the bases: the restores that are kept to be used again.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  rehearse bases                          least recently used first
  rehearse bases --format json
  rehearse bases remove 3f1c              by key, or as much of it as is unique
  rehearse sweep --bases-over 50g         until the rest takes up at most 50 GiB
  rehearse sweep --bases-older-than 14d   those that no run has used for two weeks")]
pub struct Arguments {
    /// What to do instead of listing
    #[command(subcommand)]
    pub action: Option<Action>,
    /// How to list: for a person, or as one JSON document
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub format: Format,
}

/// What can be done with bases.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Remove bases that no run stands on; the next run that needs one restores anew
    Remove {
        /// Keys, or as much of each as is unique
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<String>,
    },
}

/// Runs the command.
pub fn main(arguments: &Arguments) -> ExitCode {
    super::with_engine(async |engine| match &arguments.action {
        None => list(&engine, arguments.format).await,
        Some(Action::Remove { keys }) => remove(&engine, keys).await,
    })
}

async fn list(engine: &Engine, format: Format) -> Result<ExitCode, EngineError> {
    let now = Timestamp::now();
    let bases = shelf::list(engine, now).await?;
    match format {
        Format::Human if bases.is_empty() => say::line("no bases: the next run makes them"),
        Format::Human => table(&bases, now).iter().for_each(say::line),
        Format::Json => say::line(json(&bases).to_string()),
    }
    Ok(ExitCode::SUCCESS)
}

fn table(bases: &[Shelved], now: Timestamp) -> Vec<String> {
    let mut rows = vec![
        [
            "KEY",
            "REHEARSAL",
            "VOLUMES",
            "SIZE",
            "AGE",
            "LAST USE",
            "IN USE BY",
        ]
        .map(str::to_owned),
    ];
    rows.extend(bases.iter().map(|base| {
        let ago = |at: Timestamp| text::age(now.duration_since(at));
        let volumes: Vec<&str> = base.volumes.keys().map(String::as_str).collect();
        [
            base.key.to_string(),
            base.rehearsal.clone(),
            match base.complete {
                true => volumes.join(", "),
                false => format!("{} (incomplete: not used)", volumes.join(", ")),
            },
            text::bytes(base.bytes),
            ago(base.made),
            ago(base.used),
            match base.in_use_by.is_empty() {
                true => "-".to_owned(),
                false => base.in_use_by.join(", "),
            },
        ]
    }));
    let widths: Vec<usize> = (0..rows[0].len())
        .map(|column| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or_default()
        })
        .collect();
    let mut lines: Vec<String> = rows
        .iter()
        .map(|row| {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            cells.join("  ").trim_end().to_owned()
        })
        .collect();
    let bytes: u64 = bases.iter().map(|base| base.bytes).sum();
    let many = if bases.len() == 1 { "" } else { "s" };
    lines.push(format!(
        "{} base{many}, {}",
        bases.len(),
        text::bytes(bytes)
    ));
    lines
}

fn json(bases: &[Shelved]) -> serde_json::Value {
    let bases = bases.iter().map(|base| {
        serde_json::json!({
            "key": base.key.as_str(),
            "rehearsal": base.rehearsal,
            "made_by": base.made_by,
            "volumes": base.volumes,
            "complete": base.complete,
            "bytes": base.bytes,
            "files": base.files,
            "restore_seconds": base.seconds,
            "made": base.made,
            "last_use": base.used,
            "in_use_by": base.in_use_by,
        })
    });
    serde_json::Value::Array(bases.collect())
}

async fn remove(engine: &Engine, keys: &[String]) -> Result<ExitCode, EngineError> {
    let bases = shelf::list(engine, Timestamp::now()).await?;
    let mut chosen = Vec::new();
    for key in keys {
        let mut fitting = bases
            .iter()
            .filter(|base| !key.is_empty() && base.key.as_str().starts_with(key.as_str()));
        match (fitting.next(), fitting.next()) {
            (Some(base), None) => chosen.push(base),
            (found, _) => {
                let what = found.map_or("no base has", |_| "several bases have");
                say::error(
                    format!("{what} a key that begins with `{key}`"),
                    Some("`rehearse bases` lists them"),
                );
                return Ok(ExitCode::from(super::USAGE));
            }
        }
    }
    match remove_all(engine, chosen).await? {
        0 => Ok(ExitCode::SUCCESS),
        _ => Ok(ExitCode::from(2)),
    }
}

/// Removes bases and says so; returns how many could not be.
async fn remove_all(
    engine: &Engine,
    bases: impl IntoIterator<Item = &Shelved>,
) -> Result<usize, EngineError> {
    let mut left = 0;
    for base in bases {
        let key = &base.key;
        match shelf::remove(engine, key).await? {
            Removed::Gone => {
                say::line(format!("removed base {key} ({})", text::bytes(base.bytes)));
            }
            Removed::InUse(runs) => {
                left += 1;
                say::error(
                    format!("base {key} is in use by {}", runs.join(", ")),
                    Some(
                        "it can be removed when that is over, or after `rehearse sweep --run RUN`",
                    ),
                );
            }
            Removed::Partly(cause) => {
                left += 1;
                say::error(
                    format!("cannot remove all volumes of base {key}: {cause}"),
                    None,
                );
            }
        }
    }
    Ok(left)
}

/// Removes what is beyond a limit and says so; returns how many could not be. Those in use are left alone.
pub(super) async fn sweep(engine: &Engine, limit: Beyond) -> Result<usize, EngineError> {
    let now = Timestamp::now();
    let bases = shelf::list(engine, now).await?;
    remove_all(engine, shelf::beyond(&bases, limit, now)).await
}

/// A size as all files write it.
pub(super) fn size(text: &str) -> Result<u64, String> {
    crate::manifest::bytes(text).ok_or_else(|| "write it as 500m, 50g or 1.5t".to_owned())
}

/// The limit of `run` and `backup-check`.
#[derive(Clone, Debug, Args)]
pub struct Limit {
    /// After the run, remove the least recently used bases until the rest takes up at most this on disk: 500m, 50g; never
    /// one in use [default: REHEARSE_BASES_LIMIT, else no limit]
    #[arg(long = "bases-limit", value_name = "SIZE", value_parser = size)]
    pub bases_limit: Option<u64>,
}

impl Limit {
    /// In bytes; the environment's where the option is not given.
    ///
    /// # Errors
    /// The exit code where the environment's makes no sense; it has been said.
    pub(super) fn bytes(&self) -> Result<Option<u64>, ExitCode> {
        let from_environment = std::env::var(LIMIT).ok().filter(|text| !text.is_empty());
        match (self.bases_limit, from_environment) {
            (Some(bytes), _) => Ok(Some(bytes)),
            (None, None) => Ok(None),
            (None, Some(text)) => match size(&text) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(help) => {
                    say::error(
                        format!("{LIMIT} is `{text}`, which is no size"),
                        Some(&help),
                    );
                    Err(ExitCode::from(super::USAGE))
                }
            },
        }
    }
}

const LIMIT: &str = "REHEARSE_BASES_LIMIT";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::BaseKey;

    #[test]
    fn the_table_has_a_line_a_base_and_their_sum() {
        let now = Timestamp::from_second(200_000).expect("a time");
        let base = Shelved {
            key: BaseKey::of(&["one"]),
            rehearsal: "site".to_owned(),
            made_by: "site-1".to_owned(),
            volumes: [("db-data".to_owned(), "v".to_owned())].into(),
            complete: true,
            bytes: 40 << 20,
            files: 7,
            seconds: 1.0,
            made: Timestamp::from_second(0).expect("a time"),
            used: Timestamp::from_second(200_000 - 300).expect("a time"),
            in_use_by: vec!["site-2".to_owned()],
        };
        let lines = table(&[base], now);
        assert_eq!(lines.len(), 3);
        assert!(lines[1].contains("site"), "{lines:?}");
        let squeezed = lines[1]
            .split_whitespace()
            .skip(2)
            .collect::<Vec<_>>()
            .join(" ");
        assert_eq!(squeezed, "db-data 40 MiB 2 d 7 h 5 min site-2");
        assert_eq!(lines[2], "1 base, 40 MiB");
    }
}
