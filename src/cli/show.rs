//! `rehearse show`

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{Format, known, say};
use crate::report::record::assisted;

/// Show a run's verdict again.
#[derive(Debug, Args)]
#[command(after_long_help = "\
RUN is the id of a run, as much of its beginning as is unique, or `latest`.

Examples:
  rehearse show                       the newest run
  rehearse show site-20261121-18
  rehearse show latest --format json  its record")]
pub struct Arguments {
    /// The run: its id, as much of its beginning as is unique, or `latest`
    #[arg(value_name = "RUN", default_value = "latest")]
    pub run: String,
    /// The folder below which the reports of all runs lie
    #[arg(long, value_name = "DIR", default_value = ".rehearse")]
    pub report_dir: PathBuf,
    /// How to show it: for a person, or the run's record
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub format: Format,
}

/// Runs the command.
pub fn main(arguments: &Arguments) -> ExitCode {
    let (run, dir) = match known::find(&arguments.report_dir, &arguments.run) {
        Ok(found) => found,
        Err(code) => return code,
    };
    let record = match known::record(&dir) {
        Ok(record) => record,
        Err(error) => {
            say::error(error, Some("the run died before it could say anything"));
            return ExitCode::from(2);
        }
    };
    match arguments.format {
        Format::Json => match serde_json::to_string_pretty(&record) {
            Ok(text) => say::line(text),
            Err(error) => {
                say::error(format!("cannot print the record: {error}"), None);
                return ExitCode::from(2);
            }
        },
        Format::Human => {
            let events = match crate::report::files::read_events(&dir) {
                Ok(events) => events,
                Err(error) => {
                    say::error(
                        format!("cannot read the events of run {run}: {error}"),
                        None,
                    );
                    return ExitCode::from(2);
                }
            };
            say::line(format!("run {run}"));
            // A reader that closed the pipe has seen enough.
            let _ = anstream::stdout().write_all(crate::report::summary_of(&events).as_bytes());
            if record.finished.is_none() {
                say::line("   this run is not over, or died before its end: it counts as no pass");
            }
            if record.assisted {
                let shells = assisted::shells(&dir);
                let last = shells
                    .last()
                    .map(|shell| format!(": a shell in {}, {:.0}", shell.service, shell.at));
                say::line(format!(
                    "   ASSISTED{}; the gate stays shut for this run",
                    last.unwrap_or_default()
                ));
            }
        }
    }
    ExitCode::SUCCESS
}
