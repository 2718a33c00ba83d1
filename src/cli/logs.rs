//! `rehearse logs`

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use futures_util::StreamExt as _;

use super::{USAGE, hidden, known, say};
use crate::event::Output;
use crate::mask::{Lines, Mask};
use crate::plan::model::Secret;
use crate::report::files::{log_files, read_events};
use crate::report::record::Record;
use crate::stage::takeover::KeptStaging;

/// Show what a service or a step of a run wrote.
#[derive(Debug, Args)]
#[command(after_long_help = "\
RUN is the id of a run, as much of its beginning as is unique, or `latest`. NAME is a service, a step as COMPONENT/STEP, or \
whatever else wrote; without it, the names are listed. The logs were saved during the run, without the secrets of its package. \
With --follow the service's container in a kept staging is read instead: what it writes goes on to come, line by line, \
without the secrets that the run's rehearsal names. They are read again for it, and must be where the rehearsal says.

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
    let logs = logs(&dir);
    let Some(name) = &arguments.name else {
        logs.keys().for_each(say::line);
        return ExitCode::SUCCESS;
    };
    if arguments.follow {
        return follow(&run, &dir, name).unwrap_or_else(|code| code);
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

/// Goes on reading a service of a kept staging.
fn follow(run: &str, dir: &Path, name: &str) -> Result<ExitCode, ExitCode> {
    let record = known::record(dir).ok();
    let kept = record.as_ref().and_then(|record| record.kept.as_ref());
    let containers = kept.map(|kept| &kept.containers);
    let container = containers.and_then(|containers| containers.get(name));
    let (Some(record), Some(container)) = (&record, container) else {
        let names: Vec<&str> = containers
            .into_iter()
            .flat_map(BTreeMap::keys)
            .map(String::as_str)
            .collect();
        say::error(
            format!("run {run} has kept no service `{name}` to follow"),
            Some(&match names.is_empty() {
                true => "nothing of it was kept: leave --follow out".to_owned(),
                false => format!("there is {}", names.join(", ")),
            }),
        );
        return Err(ExitCode::from(USAGE));
    };
    let mask = mask(run, dir, record)?;
    Ok(super::with_engine(async |engine| {
        let mut chunks = std::pin::pin!(engine.container_chunks(container, true));
        let mut out = Lines::new(mask.clone());
        let mut err = Lines::new(mask);
        let mut ended = Ok(ExitCode::SUCCESS);
        while let Some(chunk) = chunks.next().await {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) => {
                    ended = Err(error.with_help("`rehearse ls` says whether the staging still stands; without --follow the saved log is shown"));
                    break;
                }
            };
            let written = match chunk.output {
                Output::Stdout => write(chunk.output, &out.push(&chunk.bytes)),
                Output::Stderr => write(chunk.output, &err.push(&chunk.bytes)),
            };
            // A reader that closed the pipe has seen enough.
            if written.is_err() {
                return Ok(ExitCode::SUCCESS);
            }
        }
        for (output, lines) in [(Output::Stdout, &mut out), (Output::Stderr, &mut err)] {
            let _ = write(output, &lines.finish());
        }
        ended
    }))
}

fn write(output: Output, bytes: &[u8]) -> std::io::Result<()> {
    match output {
        Output::Stdout => {
            let mut out = std::io::stdout();
            out.write_all(bytes)?;
            out.flush()
        }
        Output::Stderr => std::io::stderr().write_all(bytes),
    }
}

/// Hides the secrets that the run's rehearsal names, by the values that they have now: no run writes one down.
fn mask(run: &str, dir: &Path, record: &Record) -> Result<Mask, ExitCode> {
    // What was given is named from where the run was started.
    let file = match KeptStaging::read(dir, run) {
        Ok(kept) => kept.given.folder.join(kept.rehearsal),
        Err(_) => PathBuf::from(&record.file),
    };
    let loaded = crate::manifest::load(&file).map_err(|wrong| {
        let code = say::problems(&wrong);
        say::error(
            format!(
                "cannot keep the secrets out of what is followed: which there are says `{}`",
                file.display()
            ),
            Some(
                "start this in the folder from which the run was started; without --follow the saved log is shown",
            ),
        );
        code
    })?;
    changed(run, &file, record);
    let plan = crate::plan::resolve(&loaded, None).map_err(|wrong| say::problems(&wrong))?;
    let of_restores = hidden::secrets(&plan)?;
    let mut of_package: Vec<(&str, String)> = Vec::new();
    for (name, secret) in &loaded.rehearsal.secrets {
        of_package.push((&name.value, value(&name.value, secret)?));
    }
    let of_package: Vec<(&str, &str)> = of_package
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    hidden::hiding(&plan, &of_package, &of_restores, run)
}

/// A secret that a changed rehearsal does not name any more is not known.
fn changed(run: &str, file: &Path, record: &Record) {
    let rehearsed = record
        .artefacts
        .iter()
        .find(|artefact| artefact.role == "rehearsal" && artefact.path == record.file);
    let now = std::fs::read(file).map(crate::digest::sha256).ok();
    if rehearsed.is_some_and(|rehearsed| Some(&rehearsed.digest) != now.as_ref()) {
        say::warning(format!(
            "`{}` changed since run {run}: masked are the secrets that it names now",
            file.display()
        ));
    }
}

/// What a secret of the package stands for.
fn value(name: &str, secret: &Secret) -> Result<String, ExitCode> {
    let help = match secret {
        Secret::Environment(variable) => {
            format!("set `{variable}` in the environment of `rehearse`, as it was for the run")
        }
        Secret::File(path) => format!("put `{}` back, as it was for the run", path.display()),
    };
    hidden::read(secret).map_err(|error| {
        say::error(
            format!(
                "cannot keep the secret `{name}` out of what is followed: {secret} cannot be read: {error}"
            ),
            Some(&format!("{help}; without --follow the saved log is shown")),
        );
        ExitCode::from(USAGE)
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

    #[test]
    fn a_secret_that_cannot_be_read_again_is_not_followed_past() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("token");
        let secret = Secret::File(path.clone());
        assert_eq!(value("TOKEN", &secret), Err(ExitCode::from(USAGE)));
        std::fs::write(&path, "hunter22\r\n").expect("a file");
        assert_eq!(value("TOKEN", &secret), Ok("hunter22".to_owned()));
        let unset = Secret::Environment("REHEARSE_TEST_NOT_SET".to_owned());
        assert_eq!(value("TOKEN", &unset), Err(ExitCode::from(USAGE)));
    }
}
