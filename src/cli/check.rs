//! `rehearse check`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::{USAGE, say};
use crate::package::OpenLimits;

/// Read and cross-check files without an engine: rehearsals, stacks, packages, test plans.
#[derive(Debug, Args)]
#[command(after_long_help = "\
What a file is, is recognised by its content. A rehearsal is checked with all it names. All problems are said at once, each \
with its line, its column and what to do.

Examples:
  rehearse check rehearsals/*.yaml
  rehearse check site-2.4.tar.gz")]
pub struct Arguments {
    /// Rehearsals, Compose files, test plans, deploy.yaml files, packages (folders or archives)
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// Runs the command.
pub fn main(arguments: &Arguments) -> ExitCode {
    let mut wrong = false;
    for file in &arguments.files {
        wrong |= !one(file);
    }
    if wrong {
        ExitCode::from(USAGE)
    } else {
        ExitCode::SUCCESS
    }
}

fn one(file: &Path) -> bool {
    let checked = if is_package(file) {
        match crate::package::open(file, &OpenLimits::default()) {
            Ok(opened) => crate::manifest::check_package(&opened.root, file),
            Err(error) => {
                say::error(error.to_string(), Some(error.help()));
                return false;
            }
        }
    } else {
        crate::manifest::check(file)
    };
    match checked {
        Ok(checked) => {
            let found = if checked.found.is_empty() {
                String::new()
            } else {
                format!(" ({})", checked.found.join(", "))
            };
            say::line(format!(
                "ok: {}: {} `{}`{found}",
                file.display(),
                checked.kind,
                checked.name
            ));
            for note in &checked.notes {
                say::line(format!("    {note}"));
            }
            true
        }
        Err(problems) => {
            say::problems(&problems);
            false
        }
    }
}

/// A folder, or an archive by its name: everything else is YAML.
fn is_package(file: &Path) -> bool {
    let name = file.to_string_lossy().to_lowercase();
    file.is_dir()
        || [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".zip"]
            .iter()
            .any(|ending| name.ends_with(ending))
}
