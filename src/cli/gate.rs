//! `rehearse gate`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use jiff::{SignedDuration, Timestamp};

use super::{Format, USAGE, say};
use crate::gate::{self, Decision};
use crate::package::OpenLimits;

/// Let a release through only if exactly this package was rehearsed and passed.
#[derive(Debug, Args)]
#[command(after_long_help = "\
The package's digest is compared with the records of earlier runs. It is the same for a folder and for any archive of it. \
The gate is open only where the newest rehearsal of exactly these files passed unassisted, proved its rollback, and is young \
enough.

Exit codes: 0 open, 1 shut (with the reasons), 2 there is no record of this package, 64 usage.

Example, in a release job:
  rehearse gate --package site-2.4.tar.gz --max-age 24h && ./release site-2.4.tar.gz")]
pub struct Arguments {
    /// The package that wants to be released
    #[arg(long, value_name = "PATH")]
    pub package: PathBuf,
    /// Count only runs of this rehearsal (by its name)
    #[arg(long, value_name = "NAME")]
    pub rehearsal: Option<String>,
    /// The rehearsal must have finished within this time: 24h, 90m, 7d
    #[arg(long, value_name = "AGE", default_value = "24h", value_parser = super::age)]
    pub max_age: SignedDuration,
    /// The folder below which the records of all runs lie
    #[arg(long, value_name = "DIR", default_value = ".rehearse")]
    pub report_dir: PathBuf,
    /// How to say it: for a person, or as one JSON document
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub format: Format,
}

/// Runs the command.
pub fn main(arguments: &Arguments) -> ExitCode {
    let opened = match crate::package::open(&arguments.package, &OpenLimits::default()) {
        Ok(opened) => opened,
        Err(error) => {
            say::error(error.to_string(), Some(error.help()));
            return ExitCode::from(USAGE);
        }
    };
    let name = crate::manifest::load_package(&opened.root, &arguments.package)
        .ok()
        .map(|manifest| manifest.name);
    let (records, warnings) = gate::load_records(&arguments.report_dir);
    for sentence in warnings {
        say::warning(sentence);
    }
    let asked = gate::Asked {
        digest: &opened.digest,
        name: name.as_deref(),
        rehearsal: arguments.rehearsal.as_deref(),
        max_age: Some(arguments.max_age),
    };
    let decision = gate::decide(&records, &asked, Timestamp::now());
    match arguments.format {
        Format::Human => tell(&decision, &opened.digest),
        Format::Json => say::line(json(&decision, &opened.digest).to_string()),
    }
    ExitCode::from(decision.exit_code())
}

fn tell(decision: &Decision, digest: &str) {
    match decision {
        Decision::Open { run } => say::line(format!("open: {digest} passed in run {run}")),
        Decision::Shut { reasons } => {
            say::line(format!("shut: {digest}"));
            for reason in reasons {
                say::line(format!("  {reason}"));
            }
        }
        Decision::Unknown { reason, help } => {
            say::line(format!("unknown: {digest}"));
            say::line(format!("  {reason}"));
            say::line(format!("help: {help}"));
        }
    }
}

fn json(decision: &Decision, digest: &str) -> serde_json::Value {
    match decision {
        Decision::Open { run } => {
            serde_json::json!({"gate": "open", "digest": digest, "run": run})
        }
        Decision::Shut { reasons } => {
            serde_json::json!({"gate": "shut", "digest": digest, "reasons": reasons})
        }
        Decision::Unknown { reason, .. } => {
            serde_json::json!({"gate": "unknown", "digest": digest, "reasons": [reason]})
        }
    }
}
