//! `rehearse backup-check`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::Reporting;
use super::afterwards::Telling;
use super::bases::Limit;
use super::conduct::{Asked, run};
use super::run::KEEP_FOR;
use crate::event::Mode;
use crate::stage::run::{Keep, Trying};

/// Prove that the backups can be restored and that staging works on them; nothing is deployed.
#[derive(Debug, Args)]
#[command(after_long_help = "\
The stages of `rehearse run` up to baseline, then teardown. Here a bad backup is *failed* (exit code 1); trouble with the \
engine, the stack or the test plan is *invalid* (exit code 2), so that an alert means what it says.

Its last lines say of each backup how old its data is, what its restore took beside its limit, its size beside the usual \
one and the base that it is in, and then whether one could come back: yes, NO or NOT KNOWN. `backup_check` in record.json \
has the same.

Examples, nightly:
  rehearse backup-check rehearsals/site.yaml > backup.log || mail -s 'no valid backup' root < backup.log
  rehearse backup-check rehearsals/site.yaml --metrics /var/lib/node-exporter/site.prom
  rehearse backup-check rehearsals/site.yaml --notify https://alerts.example.com/rehearse
  rehearse backup-check rehearsals/site.yaml --prove      once a week: can this check fail at all?")]
pub struct Arguments {
    /// The rehearsal's file
    pub rehearsal: PathBuf,
    /// Prove that this check can fail: feed it damaged copies of each backup (truncated, empty, without one of its
    /// files, with a flipped bit), each of which has to be seen to be bad
    #[arg(long)]
    pub prove: bool,
    /// How much bases may take up
    #[command(flatten)]
    pub limit: Limit,
    /// Where and how to report
    #[command(flatten)]
    pub reporting: Reporting,
    /// Whom to tell of it
    #[command(flatten)]
    pub telling: Telling,
}

/// Runs the command.
pub fn main(arguments: &Arguments) -> ExitCode {
    let bases_limit = match arguments.limit.bytes() {
        Ok(limit) => limit,
        Err(code) => return code,
    };
    run(&Asked {
        rehearsal: &arguments.rehearsal,
        package: None,
        set: &[],
        only: &[],
        deployed: &[],
        mode: Mode::BackupCheck,
        keep: Keep::Never,
        keep_for: KEEP_FOR,
        reporting: &arguments.reporting,
        telling: &arguments.telling,
        bases_limit,
        branching: None,
        without_isolation: false,
        prove: arguments.prove,
        what_if: None,
        trying: Trying::default(),
        takeover: None,
    })
}
