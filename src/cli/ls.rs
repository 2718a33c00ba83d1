//! `rehearse ls`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::{Format, known, say};
use crate::engine::{Engine, StagingSeen, Stands};
use crate::event::Mode;
use crate::report::record::Record;
use crate::verdict::Rollback;

/// List runs and kept stagings: verdicts, and what still stands in the engine.
#[derive(Debug, Args)]
#[command(after_long_help = "\
The runs below the report folder, the newest last, and the stagings in the engine, also those whose reports lie elsewhere. \
Without an engine the runs are listed all the same, and nothing is said of what stands.

Examples:
  rehearse ls
  rehearse ls --limit 100
  rehearse ls --format json | jq -r '.runs[] | select(.staging == \"kept\") | .run'")]
pub struct Arguments {
    /// At most this many runs of the folder, the newest; stagings are always listed
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
    /// The folder below which the reports of all runs lie
    #[arg(long, value_name = "DIR", default_value = ".rehearse")]
    pub report_dir: PathBuf,
    /// How to list: for a person, or as one JSON document
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub format: Format,
}

/// What became of a run's staging.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    /// It was not kept, or is not any more.
    Gone,
    /// The run goes on; in another run's staging where one is named.
    Running(Option<String>),
    /// It is kept until then.
    Kept(Timestamp),
    /// A later run has tried again in it.
    TakenOver(String),
    /// It is there, and the next sweep removes it.
    Dead,
    /// The engine does not answer.
    Unknown,
}

struct Row {
    run: String,
    record: Option<Record>,
    rehearsal: String,
    assisted: bool,
    standing: Standing,
}

/// Runs the command.
pub fn main(arguments: &Arguments) -> ExitCode {
    let stagings = match stagings() {
        Ok(stagings) => Some(stagings),
        Err(error) => {
            say::warning(format!("what stands is not known: {error}"));
            None
        }
    };
    let rows = rows(arguments, stagings.as_deref());
    match arguments.format {
        Format::Human if rows.is_empty() => {
            say::line("no runs: `rehearse run` makes the first one");
        }
        Format::Human => table(&rows).iter().for_each(say::line),
        Format::Json => {
            let runs: Vec<_> = rows.iter().map(document).collect();
            let known = stagings.is_some();
            say::line(json!({"engine": known, "runs": runs}).to_string());
        }
    }
    ExitCode::SUCCESS
}

fn stagings() -> Result<Vec<StagingSeen>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime
        .block_on(async {
            let host = std::env::var("DOCKER_HOST")
                .ok()
                .filter(|host| !host.is_empty());
            let engine = Engine::connect(host.as_deref()).await?;
            engine.stagings(Timestamp::now()).await
        })
        .map_err(|error| error.to_string())
}

fn rows(arguments: &Arguments, stagings: Option<&[StagingSeen]>) -> Vec<Row> {
    let names = known::runs(&arguments.report_dir);
    let mut rows = Vec::new();
    for run in &names {
        let record = known::record(&known::folder(&arguments.report_dir, run)).ok();
        let standing = stagings.map_or(Standing::Unknown, |stagings| {
            standing(run, record.as_ref(), stagings)
        });
        let on_engine = stagings.into_iter().flatten();
        let assisted = record.as_ref().is_some_and(|record| record.assisted)
            || on_engine
                .flat_map(|seen| &seen.assisted)
                .any(|of| of == run);
        rows.push(Row {
            rehearsal: record
                .as_ref()
                .map_or_else(String::new, |record| record.rehearsal.clone()),
            run: run.clone(),
            record,
            assisted,
            standing,
        });
    }
    // What stands is listed however old it is.
    let old = rows.len().saturating_sub(arguments.limit);
    let mut index = 0;
    rows.retain(|row| {
        index += 1;
        index > old || !matches!(row.standing, Standing::Gone | Standing::Unknown)
    });
    for seen in stagings.into_iter().flatten() {
        if names.contains(&seen.tenant) || names.contains(&seen.staging) {
            continue;
        }
        rows.push(Row {
            run: seen.tenant.clone(),
            record: None,
            rehearsal: seen.rehearsal.clone(),
            assisted: seen.assisted.contains(&seen.tenant),
            standing: standing(&seen.tenant, None, std::slice::from_ref(seen)),
        });
    }
    rows.sort_by(|a, b| known::begun(&a.run).cmp(&known::begun(&b.run)));
    rows
}

fn standing(run: &str, record: Option<&Record>, stagings: &[StagingSeen]) -> Standing {
    let own = record.map_or(run, known::staging_of);
    let Some(seen) = stagings
        .iter()
        .find(|seen| seen.staging == own || seen.tenant == run)
    else {
        return Standing::Gone;
    };
    if seen.busy.as_deref() == Some(run) {
        return Standing::Running(Some(seen.staging.clone()));
    }
    match seen.stands {
        Stands::Dead => Standing::Dead,
        Stands::Running => Standing::Running(None),
        Stands::Kept(until) if seen.tenant == run => Standing::Kept(until),
        Stands::Kept(_) => Standing::TakenOver(seen.tenant.clone()),
    }
}

impl Standing {
    const fn name(&self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Running(_) => "running",
            Self::Kept(_) => "kept",
            Self::TakenOver(_) => "taken-over",
            Self::Dead => "dead",
            Self::Unknown => "unknown",
        }
    }

    fn sentence(&self, record: Option<&Record>) -> String {
        match self {
            Self::Gone if record.is_some_and(|record| record.kept.is_some()) => {
                "was kept, removed".to_owned()
            }
            Self::Gone => "-".to_owned(),
            Self::Running(None) => "running".to_owned(),
            Self::Running(Some(staging)) => format!("running, in the staging of {staging}"),
            Self::Kept(until) => format!("kept until {}", until.strftime("%F %H:%MZ")),
            Self::TakenOver(by) => format!("taken over by {by}"),
            Self::Dead => "dead: `rehearse sweep` removes it".to_owned(),
            Self::Unknown => "?".to_owned(),
        }
    }
}

fn package(record: Option<&Record>) -> String {
    let Some(record) = record else {
        return "?".to_owned();
    };
    match (&record.package, record.mode) {
        (Some(package), _) => match &package.version {
            Some(version) => format!("{} {version}", package.name),
            None => package.name.clone(),
        },
        (None, Mode::BackupCheck) => "(backup check)".to_owned(),
        (None, Mode::Rehearse) => "-".to_owned(),
    }
}

fn verdict(row: &Row) -> String {
    let said = match &row.record {
        None => "?",
        Some(record) if record.finished.is_none() => match row.standing {
            Standing::Running(_) => "-",
            Standing::Gone
            | Standing::Kept(_)
            | Standing::TakenOver(_)
            | Standing::Dead
            | Standing::Unknown => "not over",
        },
        Some(record) => record.verdict.outcome.name(),
    };
    if row.assisted {
        format!("{said}, assisted")
    } else {
        said.to_owned()
    }
}

fn rollback(record: Option<&Record>) -> String {
    match record.map(|record| &record.verdict.rollback) {
        None | Some(Rollback::NotReached) => "-".to_owned(),
        Some(Rollback::Proved { seconds }) => format!("{seconds:.1} s"),
        Some(Rollback::Stuck { .. }) => "STUCK".to_owned(),
    }
}

fn table(rows: &[Row]) -> Vec<String> {
    let mut cells = vec![
        [
            "RUN",
            "REHEARSAL",
            "PACKAGE",
            "VERDICT",
            "ROLLBACK",
            "STARTED",
            "STAGING",
        ]
        .map(str::to_owned),
    ];
    cells.extend(rows.iter().map(|row| {
        let record = row.record.as_ref();
        let started = record.map(|record| record.started.strftime("%F %H:%MZ").to_string());
        [
            row.run.clone(),
            row.rehearsal.clone(),
            package(record),
            verdict(row),
            rollback(record),
            started.unwrap_or_else(|| "?".to_owned()),
            row.standing.sentence(record),
        ]
    }));
    let widths: Vec<usize> = (0..cells[0].len())
        .map(|column| {
            let lengths = cells.iter().map(|row| row[column].chars().count());
            lengths.max().unwrap_or_default()
        })
        .collect();
    cells
        .iter()
        .map(|row| {
            let padded: Vec<String> = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            padded.join("  ").trim_end().to_owned()
        })
        .collect()
}

fn document(row: &Row) -> serde_json::Value {
    let record = row.record.as_ref();
    let until = match &row.standing {
        Standing::Kept(until) => Some(until.to_string()),
        Standing::Gone
        | Standing::Running(_)
        | Standing::TakenOver(_)
        | Standing::Dead
        | Standing::Unknown => None,
    };
    json!({
        "run": row.run,
        "rehearsal": row.rehearsal,
        "mode": record.map(|record| record.mode),
        "package": record.and_then(|record| record.package.as_ref()),
        "finished": record.and_then(|record| record.finished),
        "started": record.map(|record| record.started),
        "verdict": record.filter(|record| record.finished.is_some()).map(|record| record.verdict.outcome),
        "assisted": row.assisted,
        "rollback": record.map(|record| &record.verdict.rollback),
        "again": record.and_then(|record| record.taken_over.as_ref()),
        "staging": row.standing.name(),
        "kept_until": until,
        "reports": record.map(|record| &record.dir),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn seen(stands: Stands, tenant: &str, busy: Option<&str>) -> StagingSeen {
        StagingSeen {
            staging: "a".to_owned(),
            rehearsal: "site".to_owned(),
            stands,
            tenant: tenant.to_owned(),
            busy: busy.map(str::to_owned),
            assisted: BTreeSet::new(),
        }
    }

    #[test]
    fn a_staging_is_of_the_run_whose_deploy_stands_in_it() {
        let until = Timestamp::UNIX_EPOCH;
        let kept = Stands::Kept(until);
        for (run, staging, expected) in [
            ("a", seen(kept, "a", None), Standing::Kept(until)),
            (
                "a",
                seen(kept, "b", None),
                Standing::TakenOver("b".to_owned()),
            ),
            ("b", seen(kept, "b", None), Standing::Kept(until)),
            ("c", seen(kept, "b", None), Standing::Gone),
            (
                "a",
                seen(Stands::Running, "a", None),
                Standing::Running(None),
            ),
            ("a", seen(Stands::Dead, "a", None), Standing::Dead),
            ("a", seen(kept, "a", Some("b")), Standing::Kept(until)),
        ] {
            assert_eq!(standing(run, None, &[staging]), expected, "{run}");
        }
    }
}
