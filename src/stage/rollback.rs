//! Back to the snapshot, timed, and proved: the same tests and the same fingerprints as before.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::run::{Carnage, Keep, Run, not_passed, out_of_order, passed};
use super::suite::{run_tests, tests_at};
use super::{Bad, fingerprint, snapshot, standing};
use crate::check::model::When;
use crate::event::{CaseStatus, EventKind, Mismatch, Owner, Stage};
use crate::staging::Generation;

/// Runs the stage.
pub(super) async fn run(run: &mut Run) -> Result<(), Bad> {
    let target = run.snapshot.take().ok_or_else(out_of_order)?;
    let begun = Instant::now();
    let deployed = run.generation.take();
    // The next containers are made while the old ones are got out of the way; they start when those are gone.
    let (left, next) = tokio::join!(
        leave(run, deployed.as_ref()),
        snapshot::prepare(
            run,
            "rollback",
            target.blueprints.clone(),
            &target.frozen,
            Owner::Engine
        )
    );
    let ran = left?;
    let next = next?;
    match run.order.keep {
        Keep::Never => {}
        Keep::OnFailure | Keep::Always => {
            run.carnage = deployed.map(|generation| Carnage { generation, ran });
        }
    }
    run.generation = Some(snapshot::start(run, next.generation, Owner::Engine).await?);
    let seconds = begun.elapsed().as_secs_f64();
    run.recorder.emit(EventKind::Measured {
        what: "rollback to healthy".to_owned(),
        seconds,
    });
    let in_time = judge_time(run, begun.elapsed());

    let mut fingerprints = next.files;
    fingerprints.extend(fingerprint::of_databases(run, run.generation()?).await?);
    run.recorder.emit(EventKind::Fingerprint {
        of: "rollback".to_owned(),
        parts: fingerprints.clone(),
    });
    let differences = compare(&target.fingerprints, &fingerprints);
    let name = "files, schema, row counts and sequences are as at the snapshot";
    let equal = if differences.is_empty() {
        let figure = format!("{} fingerprints equal", fingerprints.len());
        run.case(
            Stage::Rollback,
            passed(Stage::Rollback, name, 0.0, Some(figure)),
        );
        Ok(())
    } else {
        let first = &differences[0];
        let reason = format!(
            "after the rollback {} is not as it was at the snapshot ({} of {} fingerprints differ)",
            first.what,
            differences.len(),
            fingerprints.len()
        );
        let mut case = not_passed(Stage::Rollback, name, CaseStatus::Failed, 0.0, &reason);
        case.mismatches = differences;
        run.case(Stage::Rollback, case);
        Err(Bad::new(Owner::Engine, reason))
    };
    let shown = run_tests(run, Stage::Rollback, When::Rollback).await?;
    let down = standing::first_down(run, Stage::Rollback).await?;
    equal?;
    in_time?;
    if let Some(down) = down {
        return Err(Bad::new(
            Owner::Engine,
            format!("after the rollback {down}"),
        ));
    }
    let total = tests_at(run, When::Rollback).len();
    match shown.sentence(total) {
        None => Ok(()),
        Some(sentence) => Err(Bad::new(
            Owner::Engine,
            format!("after the rollback {sentence}"),
        )),
    }
}

/// A way back that takes longer than its limit is none: that is what the limit says.
fn judge_time(run: &Run, took: Duration) -> Result<(), Bad> {
    const NAME: &str = "the services are healthy again";
    let limit = run.order.plan.limits.rollback;
    let seconds = took.as_secs_f64();
    if took <= limit {
        run.case(
            Stage::Rollback,
            passed(Stage::Rollback, NAME, seconds, None),
        );
        return Ok(());
    }
    let reason = format!(
        "the rollback took {seconds:.1} s until the site was healthy, more than limits.rollback ({} s)",
        limit.as_secs_f64()
    );
    run.case(
        Stage::Rollback,
        not_passed(Stage::Rollback, NAME, CaseStatus::Failed, seconds, &reason),
    );
    Err(Bad::new(Owner::Engine, reason).with_help(
        "raise the limit in the rehearsal's `limits:` if that is what production may take",
    ))
}

/// Gets what the deploy left out of the way: at once, for nothing in it is wanted any more; or, where it may have to
/// be kept for people to look at, stopped but not removed. Returns the containers that ran until then.
async fn leave(run: &Run, generation: Option<&Generation>) -> Result<Vec<String>, Bad> {
    let Some(generation) = generation else {
        return Ok(Vec::new());
    };
    let staging = run.staging()?;
    let engine = &staging.ground.engine;
    let kills = generation.services.iter().map(|running| async move {
        let name = &running.container;
        let ran = engine
            .container_state(name)
            .await
            .is_ok_and(|state| state.running);
        engine.kill_container(name).await?;
        Ok::<_, crate::engine::EngineError>(ran.then(|| name.clone()))
    });
    let ran = futures_util::future::try_join_all(kills).await?;
    run.save_logs(generation).await?;
    match run.order.keep {
        Keep::Never => staging.discard(generation).await?,
        Keep::OnFailure | Keep::Always => {}
    }
    Ok(ran.into_iter().flatten().collect())
}

/// Every part that is not the same in both.
pub(super) fn compare(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> Vec<Mismatch> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let show = |value: Option<&String>| value.map_or_else(|| "not there".to_owned(), Clone::clone);
    names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| Mismatch {
            what: name.clone(),
            expected: show(before.get(name)),
            seen: show(after.get(name)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::compare;
    use std::collections::BTreeMap;

    #[test]
    fn what_changed_vanished_or_came_is_a_difference() {
        let parts = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect()
        };
        let before = parts(&[("a", "1"), ("b", "2"), ("c", "3")]);
        assert_eq!(compare(&before, &before), []);
        let after = parts(&[("a", "1"), ("b", "9"), ("d", "4")]);
        let named: Vec<String> = compare(&before, &after)
            .into_iter()
            .map(|difference| {
                format!(
                    "{} {} {}",
                    difference.what, difference.expected, difference.seen
                )
            })
            .collect();
        assert_eq!(named, ["b 2 9", "c 3 not there", "d not there 4"]);
    }
}
