//! Whether a backup's size is plausible beside its own history.

use super::Bad;
use super::run::{Run, not_passed, passed};
use crate::backup::BackupFacts;
use crate::check::ladder::Rung;
use crate::event::{CaseStatus, EventKind, Mismatch, Mode, Owner, Stage};
use crate::history::size::{Bounds, SizeJudgement, plausible, usual};
use crate::plan::model::Restore;

/// Says of each backup what it will be held against.
pub(super) fn expect(run: &Run) {
    for restore in &run.order.plan.restores {
        let earlier = run.order.earlier_sizes.get(&restore.name);
        let usual = earlier.and_then(|sizes| usual(sizes));
        run.recorder.emit(EventKind::BackupExpected {
            restore: restore.name.clone(),
            size: std::fs::metadata(&restore.source)
                .ok()
                .filter(std::fs::Metadata::is_file)
                .map(|file| file.len()),
            max_age_seconds: restore.max_age.map(|age| age.as_secs()),
            limit_seconds: run.order.plan.limits.restore.as_secs(),
            usual_size: usual.map(|(median, _)| median),
            earlier_runs: usual.map_or(0, |(_, runs)| runs as u64),
        });
    }
}

/// Judges the size of a backup by those of earlier, passed runs.
///
/// # Errors
/// When it has shrunk below half of what it was: data is missing, or it was cut.
pub(super) fn judge(run: &Run, restore: &Restore, facts: &BackupFacts) -> Result<(), Bad> {
    let earlier = run
        .order
        .earlier_sizes
        .get(&restore.name)
        .map_or(&[][..], Vec::as_slice);
    let bounds = Bounds::default();
    let name = format!("{}: {}", restore.name, Rung::Size.says());
    if let Some(least) = restore.demands.min_size {
        return at_least(run, restore, facts, least);
    }
    let required = restore.demands.require.contains(&Rung::Size);
    let case = match plausible(earlier, facts.size, bounds) {
        SizeJudgement::NotJudged { reason } if required => {
            let why = format!(
                "{}: `require:` names size, which could not be run: {reason}",
                restore.name
            );
            let case = not_passed(Stage::Preflight, name, CaseStatus::Error, 0.0, &why);
            run.case(Stage::Preflight, case);
            return Err(Bad::new(Owner::Staging, why)
                .with_help("run without requiring it until there is a history to compare with"));
        }
        SizeJudgement::NotJudged { reason } => {
            // A rehearsal says only what it judged.
            if run.order.mode == Mode::Rehearse {
                return Ok(());
            }
            not_passed(Stage::Preflight, name, CaseStatus::Skipped, 0.0, reason)
        }
        SizeJudgement::Plausible(beside) => {
            let figure = format!("{} % of the median of {} runs", beside.percent, beside.runs);
            passed(Stage::Preflight, name, 0.0, Some(figure))
        }
        SizeJudgement::Grown(beside) => {
            let figure = format!(
                "{} % of the median of {} runs: worth a look",
                beside.percent, beside.runs
            );
            passed(Stage::Preflight, name, 0.0, Some(figure))
        }
        SizeJudgement::Shrunk(beside) => {
            let reason = format!(
                "the backup of {} has {} bytes, {} % of the {} that it had in the median of {} runs",
                restore.name, facts.size, beside.percent, beside.median, beside.runs
            );
            let mut case = not_passed(Stage::Preflight, name, CaseStatus::Failed, 0.0, &reason);
            case.location = Some(restore.location.to_string());
            case.mismatches.push(Mismatch {
                what: "bytes".to_owned(),
                expected: format!("at least {} % of {}", bounds.least, beside.median),
                seen: facts.size.to_string(),
            });
            run.case(Stage::Preflight, case);
            return Err(Bad::new(Owner::Backup, reason).with_help(
                "look at the job that makes it; if so much was really deleted, say how large it has to be with `min_size:`",
            ));
        }
    };
    run.case(Stage::Preflight, case);
    Ok(())
}

/// Judges the size by what the rehearsal says.
fn at_least(run: &Run, restore: &Restore, facts: &BackupFacts, least: u64) -> Result<(), Bad> {
    let name = format!("{}: {}", restore.name, Rung::Size.says());
    if facts.size >= least {
        let figure = format!("{} bytes, at least {least}", facts.size);
        run.case(
            Stage::Preflight,
            passed(Stage::Preflight, name, 0.0, Some(figure)),
        );
        return Ok(());
    }
    let reason = format!(
        "the backup of {} has {} bytes, less than min_size {least}",
        restore.name, facts.size
    );
    let mut case = not_passed(Stage::Preflight, name, CaseStatus::Failed, 0.0, &reason);
    case.location = Some(restore.location.to_string());
    run.case(Stage::Preflight, case);
    Err(Bad::new(Owner::Backup, reason).with_help("look at the job that makes it"))
}
