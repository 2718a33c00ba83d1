//! `rehearse logs`

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use futures_util::StreamExt as _;

use super::{USAGE, known, say};
use crate::event::Output;
use crate::report::files::{log_files, read_events};

/// Show what a service or a step of a run wrote.
#[derive(Debug, Args)]
#[command(after_long_help = "\
RUN is the id of a run, as much of its beginning as is unique, or `latest`. NAME is a service, a step as COMPONENT/STEP, or \
whatever else wrote; without it, the names are listed. The logs were saved during the run, without the secrets of its package. \
With --follow the service's container in a kept staging is read instead, as it is: what it writes goes on to come.

Examples:
  rehearse logs latest
  rehearse logs latest web
  rehearse logs latest 'backend/migrate the schema'
  rehearse logs latest web --follow")]
pub struct Arguments {
    /// The run
    #[arg(value_name = "RUN")]
    pub run: String,
    /// The service, or the step as COMPONENT/STEP
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Read the service's container in the kept staging, and go on reading
    #[arg(long, requires = "name")]
    pub follow: bool,
    /// The folder below which the reports of all runs lie
    #[arg(long, value_name = "DIR", default_value = ".rehearse")]
    pub report_dir: PathBuf,
}

/// The generations of services that a run has, in their order.
const GENERATIONS: [&str; 3] = ["baseline", "deploy", "rollback"];

/// From a name to the files that it has in `logs/`.
type Logs = BTreeMap<String, Vec<PathBuf>>;

/// Runs the command.
pub fn main(arguments: &Arguments) -> ExitCode {
    let (run, dir) = match known::find(&arguments.report_dir, &arguments.run) {
        Ok(found) => found,
        Err(code) => return code,
    };
    let record = known::record(&dir).ok();
    let live: BTreeMap<String, String> = record
        .and_then(|record| record.kept)
        .map(|kept| kept.containers)
        .unwrap_or_default();
    let logs = logs(&dir);
    let Some(name) = &arguments.name else {
        logs.keys().for_each(say::line);
        return ExitCode::SUCCESS;
    };
    if arguments.follow {
        let Some(container) = live.get(name) else {
            let names: Vec<&str> = live.keys().map(String::as_str).collect();
            say::error(
                format!("run {run} has kept no service `{name}` to follow"),
                Some(&match names.is_empty() {
                    true => "nothing of it was kept: leave --follow out".to_owned(),
                    false => format!("there is {}", names.join(", ")),
                }),
            );
            return ExitCode::from(USAGE);
        };
        return follow(container);
    }
    let Some(files) = logs.get(name) else {
        let names: Vec<&str> = logs.keys().map(String::as_str).collect();
        say::error(
            format!("nothing called `{name}` wrote in run {run}"),
            Some(&match names.is_empty() {
                true => "the run has saved no logs".to_owned(),
                false => format!("there is {}", names.join(", ")),
            }),
        );
        return ExitCode::from(USAGE);
    };
    print(files)
}

/// Everything that was saved, by the names of those who wrote it.
fn logs(dir: &Path) -> Logs {
    let folder = dir.join("logs");
    let mut logs = Logs::new();
    let mut known = BTreeSet::new();
    for (source, file) in log_files(&read_events(dir).unwrap_or_default()) {
        let path = folder.join(file);
        if path.is_file() {
            known.insert(path.clone());
            logs.entry(source).or_default().push(path);
        }
    }
    let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.retain(|path| !known.contains(path));
    let rank = |path: &PathBuf| {
        let stem = stem(path);
        let place = GENERATIONS.iter().position(|of| stem.starts_with(of));
        (place.unwrap_or(GENERATIONS.len()), stem)
    };
    files.sort_by_key(rank);
    for path in files {
        let stem = stem(&path);
        let service = GENERATIONS
            .iter()
            .find_map(|of| stem.strip_prefix(of)?.strip_prefix('-'));
        let name = service.unwrap_or(&stem).to_owned();
        logs.entry(name).or_default().push(path);
    }
    logs
}

fn stem(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
}

fn print(files: &[PathBuf]) -> ExitCode {
    let mut out = std::io::stdout();
    for path in files {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) => {
                say::error(format!("cannot read `{}`: {error}", path.display()), None);
                return ExitCode::from(2);
            }
        };
        if files.len() > 1 {
            say::line(format!("==> {} <==", stem(path)));
        }
        // A reader that closed the pipe has seen enough.
        if out.write_all(&text).and_then(|()| out.flush()).is_err() {
            return ExitCode::SUCCESS;
        }
    }
    ExitCode::SUCCESS
}

fn follow(container: &str) -> ExitCode {
    super::with_engine(async |engine| {
        let mut chunks = std::pin::pin!(engine.container_chunks(container, true));
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| {
                error.with_help("`rehearse ls` says whether the staging still stands; without --follow the saved log is shown")
            })?;
            let written = match chunk.output {
                Output::Stdout => {
                    let mut out = std::io::stdout();
                    out.write_all(&chunk.bytes).and_then(|()| out.flush())
                }
                Output::Stderr => std::io::stderr().write_all(&chunk.bytes),
            };
            if written.is_err() {
                break;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_has_the_logs_of_its_generations_in_their_order() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = dir.path().join("logs");
        std::fs::create_dir(&folder).expect("a folder");
        for name in [
            "rollback-web",
            "baseline-web",
            "deploy-web",
            "deploy-web-2",
            "other",
        ] {
            std::fs::write(folder.join(format!("{name}.log")), "x").expect("a file");
        }
        let logs = logs(dir.path());
        let names: Vec<&str> = logs.keys().map(String::as_str).collect();
        assert_eq!(names, ["other", "web", "web-2"]);
        let of_web: Vec<String> = logs["web"].iter().map(|path| stem(path)).collect();
        assert_eq!(of_web, ["baseline-web", "deploy-web", "rollback-web"]);
    }
}
