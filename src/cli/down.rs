//! `rehearse down`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;

use super::{USAGE, known, say};
use crate::engine::{Engine, EngineError, StagingSeen, Stands};

/// Remove kept stagings now.
#[derive(Debug, Args)]
#[command(after_long_help = "\
All containers, networks, volumes and images of a kept staging go, at once and without a question; the reports stay. Where a \
retry has taken the staging over, either run names it. Runs that go on are refused: end them with Ctrl-C.

Examples:
  rehearse down latest
  rehearse down site-20261121-18 shop-20261121-19
  rehearse down --all")]
pub struct Arguments {
    /// The runs: their ids, as much of each beginning as is unique, or `latest`
    #[arg(value_name = "RUN", required_unless_present = "all")]
    pub runs: Vec<String>,
    /// All kept stagings in this engine
    #[arg(long, conflicts_with = "runs")]
    pub all: bool,
    /// The folder below which the reports of all runs lie
    #[arg(long, value_name = "DIR", default_value = ".rehearse")]
    pub report_dir: PathBuf,
}

/// Runs the command.
pub fn main(arguments: &Arguments) -> ExitCode {
    super::with_engine(async |engine| {
        let stagings = engine.stagings(Timestamp::now()).await?;
        let doomed = match doomed(arguments, &stagings) {
            Ok(doomed) => doomed,
            Err(code) => return Ok(code),
        };
        if doomed.is_empty() {
            say::line("no staging is kept");
        }
        let mut left = 0;
        for staging in doomed {
            left += remove(&engine, &staging).await?;
        }
        Ok(match left {
            0 => ExitCode::SUCCESS,
            left => {
                say::error(format!("{left} things could not be removed"), None);
                ExitCode::from(2)
            }
        })
    })
}

/// The stagings that are to go, each once.
fn doomed(arguments: &Arguments, stagings: &[StagingSeen]) -> Result<Vec<String>, ExitCode> {
    let kept = |seen: &&StagingSeen| match seen.stands {
        Stands::Kept(_) => seen.busy.is_none(),
        // What is left of a dead run is nobody's either.
        Stands::Dead => true,
        Stands::Running => false,
    };
    if arguments.all {
        for other in stagings.iter().filter(|seen| !kept(seen)) {
            say::line(format!("left {}: a run goes on in it", other.staging));
        }
        return Ok(stagings
            .iter()
            .filter(kept)
            .map(|seen| seen.staging.clone())
            .collect());
    }
    let mut names = known::runs(&arguments.report_dir);
    for seen in stagings {
        for name in [&seen.staging, &seen.tenant] {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
    }
    names.sort_by(|a, b| known::begun(a).cmp(&known::begun(b)));
    let mut doomed = Vec::new();
    for wanted in &arguments.runs {
        let run = known::meant(wanted, &names).map_err(|(error, help)| {
            say::error(error, Some(&help));
            ExitCode::from(USAGE)
        })?;
        let folder = known::folder(&arguments.report_dir, run);
        let of_record = known::record(&folder)
            .ok()
            .map(|record| known::staging_of(&record).to_owned());
        let found = stagings.iter().find(|seen| {
            seen.staging == *run || seen.tenant == *run || Some(&seen.staging) == of_record.as_ref()
        });
        match found {
            None => {
                say::error(
                    format!("nothing of run {run} is in this engine"),
                    Some("`rehearse ls` shows what is"),
                );
                return Err(ExitCode::from(2));
            }
            Some(seen) if !kept(&seen) => {
                say::error(
                    format!("a run goes on in the staging of {run}"),
                    Some("end it with Ctrl-C; it removes what it made"),
                );
                return Err(ExitCode::from(2));
            }
            Some(seen) if doomed.contains(&seen.staging) => {}
            Some(seen) => doomed.push(seen.staging.clone()),
        }
    }
    Ok(doomed)
}

async fn remove(engine: &Engine, staging: &str) -> Result<usize, EngineError> {
    let swept = engine.remove_run(staging).await?;
    for resource in &swept.removed {
        say::line(format!("removed {resource}"));
    }
    for (resource, reason) in &swept.left {
        say::error(format!("cannot remove {resource}: {reason}"), None);
    }
    Ok(swept.left.len())
}
