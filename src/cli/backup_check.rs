//! `rehearse backup-check`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::Reporting;
use super::conduct::{Asked, run};
use super::run::KEEP_FOR;
use crate::event::Mode;
use crate::stage::run::Keep;

/// Prove that the backups can be restored and that staging works on them; nothing is deployed.
#[derive(Debug, Args)]
#[command(after_long_help = "\
The stages of `rehearse run` up to baseline, then teardown. Here a bad backup is *failed* (exit code 1); trouble with the
engine, the stack or the test plan is *invalid* (exit code 2), so that an alert means what it says.

Example, nightly:
  rehearse backup-check rehearsals/site.yaml --junit backup.xml || mail -s 'backup not valid' admin < backup.xml")]
pub struct Arguments {
    /// The rehearsal's file
    pub rehearsal: PathBuf,
    /// Where and how to report
    #[command(flatten)]
    pub reporting: Reporting,
}

/// Runs the command.
pub fn main(arguments: &Arguments) -> ExitCode {
    run(&Asked {
        rehearsal: &arguments.rehearsal,
        package: None,
        mode: Mode::BackupCheck,
        keep: Keep::Never,
        keep_for: KEEP_FOR,
        reporting: &arguments.reporting,
        branching: None,
        without_isolation: false,
    })
}
