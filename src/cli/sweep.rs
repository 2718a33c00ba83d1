//! `rehearse sweep`

use std::process::ExitCode;

use clap::Args;
use jiff::{SignedDuration, Timestamp};

use super::{bases, say};
use crate::engine::{Engine, EngineError, Swept};
use crate::state::shelf::{self, Beyond};

/// Remove what dead runs left in the engine.
#[derive(Debug, Args)]
#[command(after_long_help = "\
A run is dead when its process is gone, or when its expiry is over. Runs that are alive, and kept ones that have not \
expired, are left alone, and so are the bases on which they stand. Every `rehearse run` does the same at its start.")]
pub struct Arguments {
    /// Remove all bases that are not in use, the agent images and the empty volume too; the next run restores anew
    #[arg(long)]
    pub bases: bool,
    /// Remove the least recently used bases until the rest takes up at most this on disk: 500m, 50g
    #[arg(long, value_name = "SIZE", value_parser = bases::size)]
    pub bases_over: Option<u64>,
    /// Remove bases that no run has used for this long: 12h, 14d
    #[arg(long, value_name = "AGE", value_parser = super::age)]
    pub bases_older_than: Option<SignedDuration>,
    /// Remove this run, dead or alive (also a kept one)
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
}

/// Runs the command.
pub fn main(arguments: &Arguments) -> ExitCode {
    super::with_engine(async |engine| match sweep(&engine, arguments).await? {
        0 => Ok(ExitCode::SUCCESS),
        left => {
            say::error(format!("{left} things could not be removed"), None);
            Ok(ExitCode::from(2))
        }
    })
}

async fn sweep(engine: &Engine, arguments: &Arguments) -> Result<usize, EngineError> {
    let now = Timestamp::now();
    let mut left = 0;
    if let Some(run) = &arguments.run {
        left += tell(&engine.remove_run(run).await?);
    } else {
        left += tell(&engine.sweep(now).await?);
        let unfinished = shelf::sweep(engine, now).await?;
        if unfinished > 0 {
            say::line(format!(
                "removed {unfinished} things of restores that were never finished"
            ));
        }
    }
    let limits = [
        arguments.bases_older_than.map(Beyond::Age),
        arguments.bases_over.map(Beyond::Bytes),
        arguments.bases.then_some(Beyond::Everything),
    ];
    for limit in limits.into_iter().flatten() {
        left += bases::sweep(engine, limit).await?;
    }
    if arguments.bases {
        for base in shelf::list(engine, now).await? {
            if !base.in_use_by.is_empty() {
                let runs = base.in_use_by.join(", ");
                say::line(format!("left base {}: {runs} stands on it", base.key));
            }
        }
        match engine.sweep_shared(now).await? {
            // What a live run stands on is where it belongs: that is no failure of the sweep.
            Err(run) => say::line(format!("left what runs share: {run} is alive, or kept")),
            Ok(swept) => left += tell(&swept),
        }
    }
    Ok(left)
}

fn tell(swept: &Swept) -> usize {
    for resource in &swept.removed {
        say::line(format!("removed {resource}"));
    }
    for (resource, reason) in &swept.left {
        say::error(format!("cannot remove {resource}: {reason}"), None);
    }
    if swept.removed.is_empty() && swept.left.is_empty() {
        say::line("nothing to remove");
    }
    swept.left.len()
}
