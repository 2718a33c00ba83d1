//! `rehearse demo`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::afterwards::Telling;
use super::conduct::{Asked, run};
use super::run::KEEP_FOR;
use super::{Format, Reporting, USAGE, sample, say};
use crate::event::Mode;
use crate::stage::run::{Keep, Trying};

/// Rehearse the sample website's two releases: one passes, one takes the site down.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Run it in the project's folder. What is missing is made first: the base image (pulled, else built from Debian's packages by \
docker/base-image.sh, which takes root), the sample's images, and a fresh backup of the sample's database and uploads.

Exit codes: 0 when the good release passed and the bad one failed, as they must; 2 otherwise.")]
pub struct Arguments {
    /// The project's folder
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// Only make what is missing
    #[arg(long)]
    pub prepare: bool,
    /// The folder below which records, logs and reports of all runs lie
    #[arg(long, value_name = "DIR", default_value = ".rehearse")]
    pub report_dir: PathBuf,
}

/// The releases of the sample, the exit code that each must end with, and the story it tells.
const RELEASES: [(&str, u8, &str); 2] = [
    (
        "packages/site-2.4",
        0,
        "Release 2.4: the back end goes first, then the content that needs it.",
    ),
    (
        "packages/site-2.4-content-first",
        1,
        "The same release, handed over by two teams: content first. Each part was tested alone.",
    ),
];

/// Runs the command.
pub fn main(arguments: &Arguments) -> ExitCode {
    let dir = &arguments.dir;
    if !dir.join("docker/site/compose.yaml").is_file() {
        say::error(
            format!("`{}` is not the project's folder", dir.display()),
            Some("run the demo in a checkout of rehearse, or name one with --dir"),
        );
        return ExitCode::from(USAGE);
    }
    if let Err(error) = sample::prepare(dir) {
        say::error(error.to_string(), error.help.as_deref());
        return ExitCode::from(2);
    }
    if arguments.prepare {
        return ExitCode::SUCCESS;
    }
    let mut as_told = true;
    for (package, expected, story) in RELEASES {
        say::line(format!(
            "\n{story}\n$ rehearse run rehearsals/site.yaml --package {package}\n"
        ));
        let code = rehearse(dir, &dir.join(package), &arguments.report_dir);
        as_told &= code == ExitCode::from(expected);
    }
    if as_told {
        say::line(
            "\nBoth verdicts are as they must be: the first release may go to production, the second may not.",
        );
        say::line(format!(
            "$ rehearse gate --package {}   # the gate of a release job",
            RELEASES[0].0
        ));
        ExitCode::SUCCESS
    } else {
        say::error(
            "a verdict is not what the sample's story says",
            Some("the reports of both runs say why; please report it with them"),
        );
        ExitCode::from(2)
    }
}

fn rehearse(dir: &Path, package: &Path, report_dir: &Path) -> ExitCode {
    run(&Asked {
        rehearsal: &dir.join("rehearsals/site.yaml"),
        package: Some(package),
        set: &[],
        only: &[],
        deployed: &[],
        mode: Mode::Rehearse,
        keep: Keep::Never,
        keep_for: KEEP_FOR,
        reporting: &Reporting {
            junit: None,
            report_dir: report_dir.to_owned(),
            format: Format::Human,
        },
        telling: &Telling::default(),
        bases_limit: None,
        branching: None,
        without_isolation: false,
        prove: false,
        what_if: None,
        trying: Trying::default(),
        takeover: None,
    })
}
