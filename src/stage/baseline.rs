//! Proves that staging works before the deploy: a staging that was broken before says nothing about a package.

use std::time::Instant;

use super::run::{Run, passed};
use super::suite::{run_tests, tests_at};
use super::{Bad, provision};
use crate::check::model::When;
use crate::event::{Owner, Stage};

/// Runs the stage.
pub(super) async fn run(run: &mut Run) -> Result<(), Bad> {
    let begun = Instant::now();
    let empty = provision::empty_volume(run.ground()?).await?;
    let staging = run.staging.as_mut().ok_or_else(super::run::out_of_order)?;
    for volume in staging.unrestored_volumes() {
        staging.begin_volume(&volume, empty.clone());
    }
    let started = staging.launch("baseline", staging.blueprints()).await;
    match started {
        Ok(generation) => run.generation = Some(generation),
        Err((generation, error)) => {
            run.save_logs(&generation).await?;
            run.generation = Some(generation);
            let bad = Bad::start(&error, Owner::Staging);
            let mut case = super::run::not_passed(
                Stage::Baseline,
                "the services are ready",
                crate::event::CaseStatus::Failed,
                begun.elapsed().as_secs_f64(),
                &bad.reason,
            );
            if bad.owner == Owner::Engine {
                case.status = crate::event::CaseStatus::Error;
            }
            run.case(Stage::Baseline, case);
            return Err(bad);
        }
    }
    run.case(
        Stage::Baseline,
        passed(
            Stage::Baseline,
            "the services are ready",
            begun.elapsed().as_secs_f64(),
            None,
        ),
    );
    let shown = run_tests(run, Stage::Baseline, When::Baseline).await?;
    let total = tests_at(run, When::Baseline).len();
    match shown.sentence(total) {
        None => {
            run.baseline_seen = shown.seen;
            Ok(())
        }
        Some(sentence) => Err(
            Bad::new(Owner::Staging, format!("before the deploy {sentence}")).with_help(
                "staging or its test plan is wrong, not the package: mend them and run again",
            ),
        ),
    }
}
