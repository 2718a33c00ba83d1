//! `rehearse down`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;

use super::{USAGE, known, say};
use crate::engine::{Engine, EngineError, Labels, StagingSeen, Stands};

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
    /// The runs: their ids, as much of each beginning as is unique, or `latest`, the newest below the report folder
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
        let mut busy = false;
        for staging in doomed {
            match remove(&engine, staging).await? {
                Ok(of_it) => left += of_it,
                Err(other) => {
                    busy = true;
                    say::error(
                        format!("{other} is at work in the staging of {}", staging.staging),
                        Some("wait for its end, and try again"),
                    );
                }
            }
        }
        if left > 0 {
            say::error(format!("{left} things could not be removed"), None);
        }
        Ok(match left > 0 || busy {
            true => ExitCode::from(2),
            false => ExitCode::SUCCESS,
        })
    })
}

/// The stagings that are to go, each once.
fn doomed<'a>(
    arguments: &Arguments,
    stagings: &'a [StagingSeen],
) -> Result<Vec<&'a StagingSeen>, ExitCode> {
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
        return Ok(stagings.iter().filter(kept).collect());
    }
    let own = known::runs(&arguments.report_dir);
    let mut names = own.clone();
    for seen in stagings {
        for name in [&seen.staging, &seen.tenant] {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
    }
    names.sort_by(|a, b| known::begun(a).cmp(&known::begun(b)));
    let mut doomed: Vec<&StagingSeen> = Vec::new();
    for wanted in &arguments.runs {
        // The newest one in the engine may be a colleague's: what is removed without a question is named, or one's own.
        let known = if wanted == known::LATEST {
            &own
        } else {
            &names
        };
        let run = known::meant(wanted, known).map_err(|(error, help)| {
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
            Some(seen) if doomed.iter().any(|of| of.staging == seen.staging) => {}
            Some(seen) => doomed.push(seen),
        }
    }
    Ok(doomed)
}

/// Removes a staging in which nobody is at work, and returns how much of it could not be removed; else who is. What was
/// seen before is another's to change until the right to work in it is held.
async fn remove(
    engine: &Engine,
    staging: &StagingSeen,
) -> Result<Result<usize, String>, EngineError> {
    let now = Timestamp::now();
    let labels = Labels::new(&staging.staging, &staging.rehearsal, now, now);
    match occupied(engine, &labels).await {
        Ok(Ok(())) => {}
        Ok(Err(other)) => return Ok(Err(other)),
        // On a disk that is full nothing can be made, and that is when room is wanted.
        Err(error) => {
            let seen = engine.staging(&staging.staging, now).await?;
            if let Some(other) = seen.and_then(|seen| seen.busy) {
                return Ok(Err(other));
            }
            say::error(
                format!("{error}: what is removed is not held meanwhile"),
                None,
            );
        }
    }
    let swept = engine.remove_run(&staging.staging).await?;
    for resource in &swept.removed {
        say::line(format!("removed {resource}"));
    }
    for (resource, reason) in &swept.left {
        say::error(format!("cannot remove {resource}: {reason}"), None);
    }
    Ok(Ok(swept.left.len()))
}

/// Takes the right to work in a staging, or says who has it.
async fn occupied(engine: &Engine, labels: &Labels) -> Result<Result<(), String>, EngineError> {
    let facts = engine.facts().await?;
    let agent = super::conduct::agent_binary()
        .map_err(|error| EngineError::new("find this program's own file", error.to_string()))?;
    let image = agent.ensure_image(engine, &facts.architecture).await?;
    engine.occupy(labels, &image, "rehearse down").await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_those_in_which_nobody_works() {
        let later = Timestamp::now();
        let seen = |staging: &str, stands, busy: Option<&str>| StagingSeen {
            staging: staging.to_owned(),
            rehearsal: "site".to_owned(),
            stands,
            tenant: staging.to_owned(),
            busy: busy.map(str::to_owned),
            assisted: Default::default(),
        };
        let stagings = [
            seen("kept", Stands::Kept(later), None),
            seen("tried-again", Stands::Kept(later), Some("site-2")),
            seen("goes-on", Stands::Running, None),
            seen("died", Stands::Dead, None),
        ];
        let all = Arguments {
            runs: Vec::new(),
            all: true,
            report_dir: PathBuf::from("nowhere"),
        };
        let found = doomed(&all, &stagings).expect("all can be meant");
        let names: Vec<&str> = found.iter().map(|seen| seen.staging.as_str()).collect();
        assert_eq!(names, ["kept", "died"]);
        let named = |run: &str| Arguments {
            runs: vec![run.to_owned()],
            all: false,
            report_dir: PathBuf::from("nowhere"),
        };
        assert!(doomed(&named("tried-again"), &stagings).is_err());
        assert!(doomed(&named("goes-on"), &stagings).is_err());
        let found = doomed(&named("kept"), &stagings).expect("nobody works there");
        assert_eq!(found.len(), 1);
    }
}
