//! `rehearse retry`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use jiff::SignedDuration;

use super::afterwards::Telling;
use super::conduct::{Asked, run};
use super::run::{KEEP_FOR, KeepArgument, chosen, keep_for, what_if_names};
use super::{Reporting, known, say};
use crate::event::Mode;
use crate::plan::model::Plan;
use crate::report::record::{self, Record};
use crate::stage::Bad;
use crate::stage::run::Trying;
use crate::stage::takeover::{KeptStaging, Takeover, Unkept};

/// Deploy again in a kept staging, from its snapshot.
#[derive(Debug, Args)]
#[command(after_long_help = "\
A new run, with a verdict of its own: what the deploy left is removed, the services start on fresh branches of the snapshot, \
and the package is deployed, unassisted, and judged. What was restored and proved before the snapshot is taken over, and \
compared: the fingerprints must be those of the snapshot, and the isolation is proved again. A shell that was opened in the \
staging is of no account: nothing that it did is in the snapshot.

Refused where the rehearsal, the stack, the test plan, a file of theirs or a backup changed since: then `rehearse run` is due.

RUN is the id of a run, as much of its beginning as is unique, or `latest`.

Examples:
  rehearse run rehearsals/site.yaml --keep on-failure     it fails, and is left up
  rehearse retry latest                                   the same package, mended in its folder
  rehearse retry latest --package site-2.4.1.tar.gz       another one

Exit codes: as those of `rehearse run`; 2 also where the staging is not there any more.")]
pub struct Arguments {
    /// The run after whose deploy to try again
    #[arg(value_name = "RUN")]
    pub run: String,
    /// The package to rehearse [default: the one that the run was given, as it lies there now]
    #[arg(long, value_name = "PATH")]
    pub package: Option<PathBuf>,
    /// Whether to leave staging up at the end [default: as the run was told]
    #[arg(long, value_enum)]
    pub keep: Option<KeepArgument>,
    /// Keep the staging for this long from now on: 12h, 3d; at most 14d [default: as long as it was to be kept anyway]
    #[arg(long, value_name = "DURATION", value_parser = keep_for)]
    pub keep_for: Option<SignedDuration>,
    /// What-ifs to try, with a comma between two [default: as the run was told]
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = what_if_names(), hide_possible_values = true)]
    pub what_if: Vec<String>,
    /// Try no what-if
    #[arg(long, conflicts_with = "what_if")]
    pub no_what_if: bool,
    /// Where and how to report
    #[command(flatten)]
    pub reporting: Reporting,
}

/// Runs the command.
pub fn main(arguments: &Arguments) -> ExitCode {
    let report_dir = &arguments.reporting.report_dir;
    let takeover = match found(report_dir, arguments) {
        Ok(takeover) => takeover,
        Err(code) => return code,
    };
    if let Err(code) = stands(&takeover) {
        return code;
    }
    let kept = takeover.kept.clone();
    // Named from here, before paths start where those of the run started.
    let here = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let moved = std::env::current_dir().is_ok_and(|folder| folder != kept.given.folder);
    let mut reporting = arguments.reporting.clone();
    let mut package = arguments.package.clone();
    if moved {
        reporting.report_dir = here(&reporting.report_dir);
        reporting.junit = reporting.junit.as_deref().map(here);
        package = package.as_deref().map(here);
        if let Err(error) = std::env::set_current_dir(&kept.given.folder) {
            let folder = kept.given.folder.display();
            say::error(
                format!("cannot go to `{folder}`, where the run was started: {error}"),
                Some("run the rehearsal anew"),
            );
            return ExitCode::from(2);
        }
    }
    run(&Asked {
        rehearsal: &kept.rehearsal,
        package: Some(package.as_deref().unwrap_or(&kept.package)),
        set: &kept.given.set,
        only: &kept.given.only,
        deployed: &kept.given.deployed,
        mode: Mode::Rehearse,
        keep: arguments.keep.map_or(kept.keep, Into::into),
        keep_for: arguments.keep_for.unwrap_or(KEEP_FOR),
        reporting: &reporting,
        telling: &Telling::default(),
        bases_limit: None,
        branching: Some(kept.branching),
        without_isolation: false,
        prove: false,
        what_if: chosen(arguments.no_what_if, &arguments.what_if)
            .or_else(|| kept.given.what_if.clone()),
        trying: Trying::default(),
        takeover: Some(Arc::new(takeover)),
    })
}

/// What the run has written down, and what the run showed that made the staging.
fn found(report_dir: &Path, arguments: &Arguments) -> Result<Takeover, ExitCode> {
    let refused = |error: String, help: &str| {
        say::error(error, Some(help));
        ExitCode::from(2)
    };
    const ANEW: &str = "run the rehearsal anew, with --keep";
    let (run, dir) = known::find(report_dir, &arguments.run)?;
    let kept = KeptStaging::read(&dir, &run).map_err(|error| {
        let before = known::record(&dir)
            .ok()
            .and_then(|record| record.taken_over);
        match (&error, before) {
            (Unkept::None { .. }, Some(before)) => refused(
                error.to_string(),
                &format!("try run {} again instead", before.run),
            ),
            (Unkept::None { .. } | Unkept::Unreadable { .. }, _) => {
                refused(error.to_string(), ANEW)
            }
        }
    })?;
    let origin = known::folder(report_dir, &kept.staging);
    let unread = |error: String| {
        refused(
            format!(
                "cannot read what run {} showed, which made the staging: {error}",
                kept.staging
            ),
            ANEW,
        )
    };
    let text =
        std::fs::read(origin.join(record::FILE)).map_err(|error| unread(error.to_string()))?;
    let record = Record::read(&origin).map_err(|error| unread(error.to_string()))?;
    let takeover = Takeover {
        kept,
        origin: record,
        digest: crate::digest::sha256(text),
        extends: arguments.keep_for.is_some(),
    };
    match takeover.doubt() {
        Some(doubt) => Err(refused(doubt, ANEW)),
        None => Ok(takeover),
    }
}

/// Asked before there is a run, so that nothing is on record of a try that could not begin.
fn stands(takeover: &Takeover) -> Result<(), ExitCode> {
    let mut bad: Option<Bad> = None;
    let code = super::with_engine(async |engine| {
        bad = takeover.stands(&engine).await.err();
        let staging = &takeover.kept.staging;
        let seen = engine.staging(staging, jiff::Timestamp::now()).await?;
        if let (None, Some(other)) = (&bad, seen.and_then(|seen| seen.busy)) {
            let said = format!("{other} is at work in the staging of run {staging}");
            bad = Some(Bad::new(crate::event::Owner::Engine, said).with_help("wait for its end"));
        }
        Ok(ExitCode::SUCCESS)
    });
    match bad {
        Some(bad) => {
            say::error(bad.reason, bad.help.as_deref());
            Err(ExitCode::from(2))
        }
        None if code == ExitCode::SUCCESS => Ok(()),
        None => Err(code),
    }
}

/// Refuses to try again by other files than the run's: its verdict is bound to what was rehearsed.
pub(super) fn unchanged(
    takeover: &Takeover,
    plan: &Plan,
    files: &[(String, PathBuf)],
) -> Result<(), ExitCode> {
    let kept = &takeover.kept;
    let changed = match kept.changed(plan, files) {
        Ok(changed) => changed,
        Err(error) => vec![format!("a file cannot be read again: {error}")],
    };
    if changed.is_empty() {
        return Ok(());
    }
    say::error(
        format!(
            "{} since run {}, so what that run showed does not hold for it",
            changed.join(", and "),
            kept.staging
        ),
        Some("run the rehearsal anew, with `rehearse run`"),
    );
    Err(ExitCode::from(2))
}
