//! `rehearse run`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use jiff::SignedDuration;

use super::Reporting;
use super::afterwards::Telling;
use super::bases::Limit;
use super::conduct::{Asked, run};
use crate::event::Mode;
use crate::plan::model::WhatIf;
use crate::stage::run::{Keep, Trying};
use crate::state::Branching;

/// Rehearse a deploy: restore, prove, snapshot, deploy, test, judge, roll back.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  rehearse run rehearsals/site.yaml
  rehearse run rehearsals/site.yaml --package site-2.4.tar.gz --junit rehearsal.xml
  rehearse run rehearsals/site.yaml --keep on-failure
  rehearse run rehearsals/site.yaml --format json | jq 'select(.event == \"case-finished\")'

The verdict, the record, JUnit, an HTML page and all logs are in .rehearse/runs/<run id>/.
Exit codes: 0 passed, 1 failed, 2 invalid, 3 rollback stuck, 64 usage, 130 interrupted.")]
pub struct Arguments {
    /// The rehearsal's file
    pub rehearsal: PathBuf,
    /// The package to rehearse: a folder, .tar, .tar.gz, .tar.zst or .zip [default: the rehearsal's `package:`]
    #[arg(long, value_name = "PATH")]
    pub package: Option<PathBuf>,
    /// Give a parameter of the package a value; it counts more than the rehearsal's `parameters:`
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = assignment)]
    pub set: Vec<(String, String)>,
    /// Deploy these components of the package only; such a run opens no gate
    #[arg(long, value_name = "COMPONENTS", value_delimiter = ',')]
    pub only: Vec<String>,
    /// With --only: components that the restored site has already
    #[arg(
        long,
        value_name = "COMPONENTS",
        value_delimiter = ',',
        requires = "only"
    )]
    pub deployed: Vec<String>,
    /// Whether to leave staging up at the end, as the deploy left it, to look at
    #[arg(long, value_enum, default_value_t = KeepArgument::Never)]
    pub keep: KeepArgument,
    /// How long a staging that is left up stays: 12h, 3d; at most 14d
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = keep_for)]
    pub keep_for: SignedDuration,
    /// What-ifs to try, with a comma between two, instead of the rehearsal's `what_if:`
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = what_if_names(), hide_possible_values = true)]
    pub what_if: Vec<String>,
    /// Try no what-if, whatever the rehearsal says
    #[arg(long, conflicts_with = "what_if")]
    pub no_what_if: bool,
    /// Paths of what-ifs side by side [default: the cores of this machine, at most 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub jobs: Option<u8>,
    /// The most orders of the components that the what-if `order` tries
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub max_orders: u16,
    /// Sample the same orders as a run that told this seed [default: by the package's digest]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// How writable branches of restored data are made: by overlay volumes where the engine can mount them, else by
    /// copies
    #[arg(long, value_enum, default_value_t = BranchesArgument::Auto)]
    pub branches: BranchesArgument,
    /// How much bases may take up
    #[command(flatten)]
    pub limit: Limit,
    /// Where and how to report
    #[command(flatten)]
    pub reporting: Reporting,
    /// Whom to tell of it
    #[command(flatten)]
    pub telling: Telling,
    /// Leave the isolation option of the network out, to see the isolate stage fail.
    #[arg(long, hide = true)]
    pub without_isolation: bool,
}

/// What to do with staging at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KeepArgument {
    /// Remove it
    Never,
    /// Leave it up unless the verdict is passed
    OnFailure,
    /// Leave it up
    Always,
}

/// How branches are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BranchesArgument {
    /// Find out what the engine can do
    Auto,
    /// Overlay volumes: nothing is copied until it is written
    Overlay,
    /// Copies, with reflinks where the filesystem can
    Copy,
}

impl From<KeepArgument> for Keep {
    fn from(argument: KeepArgument) -> Self {
        match argument {
            KeepArgument::Never => Self::Never,
            KeepArgument::OnFailure => Self::OnFailure,
            KeepArgument::Always => Self::Always,
        }
    }
}

/// Disks are not for ever, and neither is what was true of production.
const LONGEST: SignedDuration = SignedDuration::from_hours(14 * 24);

/// How long to keep a staging.
pub(super) fn keep_for(text: &str) -> Result<SignedDuration, String> {
    let duration = super::age(text)?;
    if duration.is_zero() || duration > LONGEST {
        return Err("a staging is kept for up to 14d".to_owned());
    }
    Ok(duration)
}

/// How long a kept staging lives unless told otherwise, and how long a crashed one on another machine, which cannot be seen to be dead.
pub(super) const KEEP_FOR: SignedDuration = SignedDuration::from_hours(24);

/// The what-ifs of the command line; `None` where it leaves them to the rehearsal.
pub(super) fn chosen(none: bool, names: &[String]) -> Option<Vec<WhatIf>> {
    match (none, names) {
        (true, _) => Some(Vec::new()),
        (false, []) => None,
        (false, names) => {
            let named = |what_if: &WhatIf| names.iter().any(|name| name == what_if.name());
            Some(WhatIf::ALL.into_iter().filter(named).collect())
        }
    }
}

/// The names that `--what-if` knows.
pub(super) fn what_if_names() -> clap::builder::PossibleValuesParser {
    WhatIf::ALL.map(WhatIf::name).into()
}

fn assignment(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or_else(|| "write NAME=VALUE".to_owned())
}

/// Runs the command.
pub fn main(arguments: &Arguments) -> ExitCode {
    let bases_limit = match arguments.limit.bytes() {
        Ok(limit) => limit,
        Err(code) => return code,
    };
    run(&Asked {
        rehearsal: &arguments.rehearsal,
        package: arguments.package.as_deref(),
        set: &arguments.set,
        only: &arguments.only,
        deployed: &arguments.deployed,
        mode: Mode::Rehearse,
        keep: arguments.keep.into(),
        keep_for: arguments.keep_for,
        reporting: &arguments.reporting,
        telling: &arguments.telling,
        bases_limit,
        branching: match arguments.branches {
            BranchesArgument::Auto => None,
            BranchesArgument::Overlay => Some(Branching::Overlay),
            BranchesArgument::Copy => Some(Branching::Copy),
        },
        without_isolation: arguments.without_isolation,
        prove: false,
        what_if: chosen(arguments.no_what_if, &arguments.what_if),
        trying: Trying {
            jobs: arguments.jobs.map_or(Trying::default().jobs, usize::from),
            most_orders: arguments.max_orders.into(),
            seed: arguments.seed,
        },
        takeover: None,
    })
}
