//! `rehearse sweep`

use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;

use super::say;
use crate::engine::{Engine, EngineError, Swept};
use crate::state::BaseStore;

/// Remove what dead runs left in the engine.
#[derive(Debug, Args)]
#[command(after_long_help = "\
A run is dead when its process is gone, or when its expiry is over. Runs that are alive, and kept ones that have not
expired, are left alone. Every `rehearse run` does the same at its start.")]
pub struct Arguments {
    /// Remove the cached bases, agent images and the empty volume too; the next run restores anew
    #[arg(long)]
    pub bases: bool,
    /// Remove this run, dead or alive (also a kept one)
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
}

/// Runs the command.
pub fn main(arguments: &Arguments) -> ExitCode {
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
    match runtime.block_on(sweep(arguments)) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(left) => {
            say::error(format!("{left} things could not be removed"), None);
            ExitCode::from(2)
        }
        Err(error) => {
            say::error(error.to_string(), error.help.as_deref());
            ExitCode::from(2)
        }
    }
}

async fn sweep(arguments: &Arguments) -> Result<usize, EngineError> {
    let host = std::env::var("DOCKER_HOST")
        .ok()
        .filter(|host| !host.is_empty());
    let engine = Engine::connect(host.as_deref()).await?;
    let now = Timestamp::now();
    let mut left = 0;
    if let Some(run) = &arguments.run {
        left += tell(&engine.remove_run(run).await?);
    } else {
        left += tell(&engine.sweep(now).await?);
        let bases = BaseStore::sweep(&engine, now).await?;
        if bases > 0 {
            say::line(format!(
                "removed {bases} volumes of restores that were never finished"
            ));
        }
    }
    if arguments.bases {
        left += tell(&engine.sweep_bases().await?);
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
