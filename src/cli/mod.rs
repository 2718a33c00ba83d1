//! One file a command. Only here is the environment read, and only here and in the reports is anything printed.

pub mod afterwards;
pub mod backup_check;
pub mod bases;
pub mod check;
mod conduct;
pub mod demo;
pub mod down;
pub mod gate;
mod hidden;
pub mod history;
mod known;
pub mod logs;
pub mod ls;
pub mod manifest;
pub mod open;
pub mod package;
pub mod retry;
pub mod run;
mod sample;
mod say;
pub mod show;
pub mod sweep;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::SignedDuration;

use crate::agent::AgentCommand;
use crate::engine::Engine;

/// The exit code for arguments and files that make no sense.
pub const USAGE: u8 = 64;

/// Rehearse a production deploy before it happens.
///
/// An isolated staging is made of containers, a prod-like backup is restored into it, staging is proved to work and
/// snapshotted, the package is deployed without anybody's help, the test plan is run, and everything is rolled back to
/// the snapshot. The verdict is passed, failed (the package is at fault) or invalid (this rehearsal could not judge it,
/// and why).
#[derive(Debug, Parser)]
#[command(
    name = "rehearse",
    version,
    max_term_width = 100,
    after_long_help = "\
Examples:
  rehearse demo                                        see it at work on the sample website
  rehearse check rehearsals/site.yaml                  are the files right? (no engine needed)
  rehearse package lint site-2.4.tar.gz                what would it do, and what will be regretted?
  rehearse run rehearsals/site.yaml --package site-2.4.tar.gz
  rehearse run rehearsals/site.yaml --keep on-failure  leave the carnage up to look at
  rehearse open latest web                             a shell in it; the run is marked as assisted
  rehearse retry latest --package site-2.4.1.tar.gz    deploy again from the same snapshot, in seconds
  rehearse down latest                                 remove it
  rehearse ls                                          which runs there are, and what still stands
  rehearse backup-check rehearsals/site.yaml           could we come back from this backup?
  rehearse gate --package site-2.4.tar.gz              was exactly this package rehearsed?
  rehearse history rehearsals/site.yaml                how did it go, night by night?
  rehearse bases                                       the restores that are kept to be used again
  rehearse sweep                                       remove what crashed runs left

Exit codes:
  0    passed (gate: open; check: the files are right)
  1    failed: the package is at fault (backup-check: the backup; gate: shut)
  2    invalid: this rehearsal could not judge it (gate: there is no record of this package)
  3    passed or failed, but the rollback is stuck
  64   the arguments or files make no sense
  130  interrupted

Environment:
  DOCKER_HOST      the engine, as Docker's own client reads it (unix://, tcp://; TLS with
                   DOCKER_TLS_VERIFY and DOCKER_CERT_PATH)
  REHEARSE_AGENT   a static build of rehearse for the engine's machine, where that is another one
  REHEARSE_NOTIFY_SECRET   with what notifications are signed
  REHEARSE_BASES_LIMIT   as --bases-limit of run and backup-check
  NO_COLOR         no colour"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Rehearse a deploy: restore, prove, snapshot, deploy, test, judge, roll back.
    Run(run::Arguments),
    /// Prove that the backups can be restored and that staging works on them; nothing is deployed.
    BackupCheck(backup_check::Arguments),
    /// Let a release through only if exactly this package was rehearsed and passed.
    Gate(gate::Arguments),
    /// Show earlier runs: verdicts, age of the data, backup size, restore time.
    History(history::Arguments),
    /// Read and cross-check files without an engine: rehearsals, stacks, packages, test plans.
    Check(check::Arguments),
    /// Look at a package without an engine: what it would do, what to mend in it, its digest.
    Package(package::Arguments),
    /// Rehearse the sample website's two releases: one passes, one takes the site down.
    Demo(demo::Arguments),
    /// Take the truth at the source of a backup, beside it: exact row counts of one moment.
    Manifest(manifest::Arguments),
    /// List the bases: the restores that are kept to be used again.
    Bases(bases::Arguments),
    /// List runs and kept stagings: verdicts, and what still stands in the engine.
    Ls(ls::Arguments),
    /// Show a run's verdict again.
    Show(show::Arguments),
    /// Show what a service or a step of a run wrote.
    Logs(logs::Arguments),
    /// Open a shell in a kept staging; its run is marked as assisted, for ever.
    Open(open::Arguments),
    /// Deploy again in a kept staging, from its snapshot.
    Retry(retry::Arguments),
    /// Remove kept stagings now.
    Down(down::Arguments),
    /// Remove what dead runs left in the engine.
    Sweep(sweep::Arguments),
    /// What runs inside staging. Not for people.
    #[command(hide = true)]
    Agent {
        /// What the agent does.
        #[command(subcommand)]
        command: AgentCommand,
    },
}

/// Where reports go and how a run is shown.
#[derive(Clone, Debug, Args)]
pub struct Reporting {
    /// Write the JUnit file here too (it is always in the run's folder as junit.xml)
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// The folder below which records, logs and reports of all runs lie
    #[arg(long, value_name = "DIR", default_value = ".rehearse")]
    pub report_dir: PathBuf,
    /// How to show the run: to a person (live progress on a terminal, plain lines elsewhere), or as the event stream on
    /// standard output, one event a line
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub format: Format,
}

/// How a run is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For a person.
    Human,
    /// For a program.
    Json,
}

/// An age as all files write it.
fn age(text: &str) -> Result<SignedDuration, String> {
    crate::manifest::duration(text)
        .and_then(|duration| SignedDuration::try_from(duration).ok())
        .ok_or_else(|| "write it as 90m, 24h or 7d".to_owned())
}

/// Connects to the engine and does one thing with it; what goes wrong is said, and is exit code 2.
fn with_engine(
    work: impl AsyncFnOnce(Engine) -> Result<ExitCode, crate::engine::EngineError>,
) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            say::error(format!("cannot start: {error}"), None);
            return ExitCode::from(2);
        }
    };
    let done = runtime.block_on(async {
        let host = std::env::var("DOCKER_HOST")
            .ok()
            .filter(|host| !host.is_empty());
        work(Engine::connect(host.as_deref()).await?).await
    });
    done.unwrap_or_else(|error| {
        say::error(error.to_string(), error.help.as_deref());
        ExitCode::from(2)
    })
}

impl Cli {
    /// Reads the arguments. Help and version end with 0, nonsense with [`USAGE`].
    ///
    /// # Errors
    /// The exit code to end with; everything has been said.
    pub fn parse_or_usage(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, ExitCode> {
        Self::try_parse_from(arguments).map_err(|error| {
            // Nothing can be done about a closed pipe.
            let _ = error.print();
            if error.use_stderr() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::SUCCESS
            }
        })
    }
}
