//! `rehearse open`

mod talk;

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;

use super::{USAGE, known, say};
use crate::engine::{Engine, EngineError, Labels, Stands, TerminalSpec};
use crate::history::{self, History};
use crate::report::record::Record;
use crate::report::record::assisted::{Shell, mark};
use crate::stage::takeover::{KeptBastion, KeptStaging};
use crate::staging::{Bastion, KeptPlace, Names, PACKAGE_FOLDER};

/// Open a shell in a kept staging; its run is marked as assisted, for ever.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Before the shell starts the run is marked: from then on it counts as assisted, the gate stays shut for it, and nothing takes \
that back. A run that tries again in the same staging is not assisted by it, since it starts from the snapshot. `bastion` is \
the container from which the package's steps ran; it is started again, with the package at /package.

The shell is bash where the container has it, else sh; with a terminal where standard input is one. The exit code is that of \
the shell or command.

Examples:
  rehearse open latest web
  rehearse open latest bastion
  rehearse open latest db -- psql -U postgres site
  echo 'select count(*) from orders' | rehearse open latest db -- psql -U postgres site")]
pub struct Arguments {
    /// The run: its id, as much of its beginning as is unique, or `latest`
    #[arg(value_name = "RUN")]
    pub run: String,
    /// The service, or `bastion`
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// What to run instead of a shell
    #[arg(value_name = "COMMAND", last = true)]
    pub command: Vec<String>,
    /// The folder below which the reports of all runs lie
    #[arg(long, value_name = "DIR", default_value = ".rehearse")]
    pub report_dir: PathBuf,
}

/// A container's best shell.
const SHELL: &str = "if command -v bash >/dev/null 2>&1; then exec bash; else exec sh; fi";

/// A run in whose staging a shell is wanted.
struct Wanted<'a> {
    run: String,
    dir: PathBuf,
    report_dir: &'a Path,
    record: Record,
    service: &'a str,
    command: Vec<String>,
}

/// Runs the command.
pub fn main(arguments: &Arguments) -> ExitCode {
    let wanted = match wanted(arguments) {
        Ok(wanted) => wanted,
        Err(code) => return code,
    };
    super::with_engine(async |engine| match open(&engine, &wanted).await? {
        Ok((container, spec)) => talk::talk(&engine, &container, &spec).await,
        Err(refused) => {
            say::error(refused.0, Some(&refused.1));
            Ok(ExitCode::from(2))
        }
    })
}

fn wanted(arguments: &Arguments) -> Result<Wanted<'_>, ExitCode> {
    let (run, dir) = known::find(&arguments.report_dir, &arguments.run)?;
    let record = known::record(&dir).map_err(|error| {
        say::error(error, Some("without its record a run cannot be marked"));
        ExitCode::from(2)
    })?;
    let service = arguments.service.as_str();
    let containers = containers(&record);
    if service != Bastion::NAME && !containers.contains_key(service) {
        let mut names: Vec<&str> = containers.keys().map(String::as_str).collect();
        names.push(Bastion::NAME);
        say::error(
            format!("run {run} has kept no service `{service}`"),
            Some(&format!("there is {}", names.join(", "))),
        );
        return Err(ExitCode::from(USAGE));
    }
    let command = match arguments.command.is_empty() {
        true => ["sh", "-c", SHELL].map(str::to_owned).to_vec(),
        false => arguments.command.clone(),
    };
    Ok(Wanted {
        run,
        dir,
        report_dir: &arguments.report_dir,
        record,
        service,
        command,
    })
}

fn containers(record: &Record) -> BTreeMap<String, String> {
    record
        .kept
        .as_ref()
        .map(|kept| kept.containers.clone())
        .unwrap_or_default()
}

type Refused = (String, String);

/// Marks the run and returns where the shell is to be started; or why it is not.
async fn open(
    engine: &Engine,
    wanted: &Wanted<'_>,
) -> Result<Result<(String, TerminalSpec), Refused>, EngineError> {
    let staging = known::staging_of(&wanted.record);
    let until = match stands(engine, wanted).await? {
        Ok(until) => until,
        Err(refused) => return Ok(Err(refused)),
    };
    let now = Timestamp::now();
    let labels = Labels::new(staging, &wanted.record.rehearsal, now, until);
    let agent = super::conduct::agent_binary()
        .map_err(|error| EngineError::new("find this program's own file", error.to_string()))?;
    let facts = engine.facts().await?;
    let image = agent.ensure_image(engine, &facts.architecture).await?;
    // While this is held nobody begins to try again in the staging.
    if let Err(other) = engine.occupy(&labels, &image, "rehearse open").await? {
        return Ok(Err((
            format!("{other} is at work in the staging of run {staging}"),
            "wait for its end".to_owned(),
        )));
    }
    let opened = within(engine, wanted, &labels).await;
    engine.vacate(staging).await?;
    opened
}

/// Whether what the run left stands there still, and until when.
async fn stands(
    engine: &Engine,
    wanted: &Wanted<'_>,
) -> Result<Result<Timestamp, Refused>, EngineError> {
    let run = &wanted.run;
    let staging = known::staging_of(&wanted.record);
    let gone = "`rehearse ls` shows what stands; run the rehearsal anew, with --keep";
    let Some(seen) = engine.staging(staging, Timestamp::now()).await? else {
        return Ok(Err((
            format!("nothing of run {run} is in this engine"),
            gone.to_owned(),
        )));
    };
    Ok(match seen.stands {
        Stands::Running => Err((
            format!(
                "run {run} is still running: a shell would make it assisted while it is judged"
            ),
            "wait for its end; with --keep it leaves its staging up".to_owned(),
        )),
        Stands::Dead => Err((
            format!("the staging of run {run} has expired"),
            gone.to_owned(),
        )),
        Stands::Kept(_) if seen.tenant != *run => Err((
            format!(
                "what run {run} left is gone: run {} has tried again in its staging",
                seen.tenant
            ),
            format!("open run {} instead", seen.tenant),
        )),
        Stands::Kept(until) => Ok(until),
    })
}

/// With the right to work in the staging: looks once more, marks, and readies the container.
async fn within(
    engine: &Engine,
    wanted: &Wanted<'_>,
    labels: &Labels,
) -> Result<Result<(String, TerminalSpec), Refused>, EngineError> {
    if let Err(refused) = stands(engine, wanted).await? {
        return Ok(Err(refused));
    }
    let bastion = match wanted.service == Bastion::NAME {
        false => None,
        true => match bastion_of(wanted) {
            Ok(bastion) => Some(bastion),
            Err(refused) => return Ok(Err(refused)),
        },
    };
    // A retry that was killed may have left them paused.
    for container in containers(&wanted.record).values() {
        engine.unpause_container(container).await?;
    }
    if bastion.is_none() {
        let container = &containers(&wanted.record)[wanted.service];
        let state = engine.container_state(container).await?;
        if !state.running {
            let code = state.exit_code.unwrap_or(-1);
            return Ok(Err((
                format!(
                    "service `{}` does not run: it ended with exit code {code}",
                    wanted.service
                ),
                format!(
                    "`rehearse logs {} {}` shows what it wrote last",
                    wanted.run, wanted.service
                ),
            )));
        }
    }
    if let Err(why) = marked(engine, wanted, labels).await {
        return Ok(Err((
            format!("no shell is opened, because {why}"),
            "a shell that nothing tells of would let an assisted run pass".to_owned(),
        )));
    }
    let container = match bastion {
        Some(bastion) => {
            let (bastion, names) = bastion;
            let place = KeptPlace {
                engine,
                names: &names,
                labels,
            };
            place.bastion(&bastion.image, &bastion.environment).await?
        }
        None => containers(&wanted.record)[wanted.service].clone(),
    };
    let tty = std::io::stdin().is_terminal();
    let environment = std::env::var("TERM").ok().filter(|_| tty);
    let spec = TerminalSpec {
        command: wanted.command.clone(),
        environment: environment
            .map(|term| format!("TERM={term}"))
            .into_iter()
            .collect(),
        working_dir: (wanted.service == Bastion::NAME).then(|| PACKAGE_FOLDER.to_owned()),
        tty,
    };
    Ok(Ok((container, spec)))
}

/// The bastion of the run whose deploy stands there, and what that run's resources are called.
fn bastion_of(wanted: &Wanted<'_>) -> Result<(KeptBastion, Names), Refused> {
    let kept = KeptStaging::read(&wanted.dir, &wanted.run)
        .map_err(|error| (error.to_string(), "open a service instead".to_owned()))?;
    let names = kept.names();
    let bastion = kept.bastion.ok_or_else(|| {
        (
            "the rehearsal has no `bastion:`".to_owned(),
            "open a service instead".to_owned(),
        )
    })?;
    Ok((bastion, names))
}

/// Writes down, everywhere where the run is known, that a person had a shell in it.
async fn marked(engine: &Engine, wanted: &Wanted<'_>, labels: &Labels) -> Result<(), String> {
    let shell = Shell {
        run: wanted.run.clone(),
        at: Timestamp::now(),
        service: wanted.service.to_owned(),
        command: wanted.command.clone(),
    };
    mark(&wanted.dir, &shell).map_err(|error| match std::error::Error::source(&error) {
        Some(cause) => format!("it {error}: {cause}"),
        None => format!("it {error}"),
    })?;
    engine
        .mark_assisted(labels, &wanted.run)
        .await
        .map_err(|error| format!("the engine could not be told: {error}"))?;
    let path = wanted.report_dir.join(history::FILE);
    // The gate reads records; what the history lacks only spoils its own figures.
    let noted = match History::open_existing(&path) {
        Ok(Some(mut history)) => history.assist(&wanted.run),
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = noted {
        say::warning(format!(
            "the history does not know of this: {}",
            error.sentence()
        ));
    }
    say::warning(format!(
        "run {} is marked as assisted, for ever; `rehearse retry` makes one that is not",
        wanted.run
    ));
    Ok(())
}
