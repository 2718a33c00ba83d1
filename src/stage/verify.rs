//! Judges what stands there after the deploy: the test plan, and the isolation once more.

use super::isolate::{Moment, Outside};
use super::run::{Run, not_passed, passed};
use super::suite::{run_tests, tests_at};
use super::{Bad, isolate, schema};
use crate::check::model::When;
use crate::event::{CaseStatus, Owner, Stage};

/// Runs the stage.
pub(super) async fn run(run: &mut Run) -> Result<(), Bad> {
    let (shown, isolated) =
        tokio::join!(run_tests(run, Stage::Verify, When::Verify), isolated(run));
    let shown = shown?;
    let standing = standing(run).await?;
    let schema = match &run.snapshot {
        Some(snapshot) => schema::judge(run, &snapshot.schemas).await?,
        None => None,
    };
    let total = tests_at(run, When::Verify).len();
    if !shown.failed.is_empty() {
        let sentence = shown.sentence(total).unwrap_or_default();
        let blamed: Vec<&String> = shown
            .failed
            .iter()
            .filter_map(|name| run.first_broken_by.get(name))
            .collect();
        let component = match blamed.first() {
            Some(first) if blamed.iter().all(|other| other == first) => {
                format!("; they fail since component `{first}` was deployed")
            }
            Some(_) | None => String::new(),
        };
        return Err(Bad::new(
            Owner::Package,
            format!("after the deploy {sentence}{component}"),
        ));
    }
    if let Some(down) = standing.first() {
        return Err(Bad::new(Owner::Package, format!("after the deploy {down}"))
            .with_help("its whole log is in the run's folder, below logs/"));
    }
    if let Some(sentence) = schema {
        return Err(
            Bad::new(Owner::Package, format!("after the deploy {sentence}")).with_help(
                "write the change down in the package's declares.schema, or take it out of the package",
            ),
        );
    }
    isolated?;
    match shown.sentence(total) {
        None => Ok(()),
        Some(sentence) => Err(Bad::new(
            Owner::Testplan,
            format!("after the deploy {sentence}"),
        )),
    }
}

/// What no test of the plan looks at may have died all the same: each service must still run, and its own health
/// check must not say otherwise. Returns a sentence for each that does not stand.
async fn standing(run: &Run) -> Result<Vec<String>, Bad> {
    let engine = &run.staging()?.ground.engine;
    let mut down = Vec::new();
    for running in &run.generation()?.services {
        let service = &running.blueprint.service;
        if service.one_shot {
            continue;
        }
        let name = format!("service `{}` still runs", service.name);
        let what = match engine.container_state(&running.container).await {
            Ok(state) if !state.running => Some(format!(
                "service `{}` does not run: it ended with exit code {}",
                service.name,
                state.exit_code.unwrap_or(-1)
            )),
            Ok(state) if state.health.as_deref() == Some("unhealthy") => Some(format!(
                "service `{}` is unhealthy: {}",
                service.name,
                state.last_check.unwrap_or_default().trim()
            )),
            Ok(_) => None,
            Err(error) if error.is_not_found() => Some(format!(
                "service `{}` has no container any more",
                service.name
            )),
            Err(error) => return Err(error.into()),
        };
        run.case(
            Stage::Verify,
            match &what {
                None => passed(Stage::Verify, name, 0.0, None),
                Some(what) => not_passed(Stage::Verify, name, CaseStatus::Failed, 0.0, what),
            },
        );
        down.extend(what);
    }
    Ok(down)
}

/// The deploy may have opened a door: the whole proof once more.
async fn isolated(run: &Run) -> Result<(), Bad> {
    let staging = run.staging()?;
    let outside = Outside::open(&staging.ground, &staging.agent_image, Moment::AfterDeploy).await?;
    isolate::run(run, &outside).await
}
