//! Judges what stands there after the deploy: the test plan, and the isolation once more.

use super::isolate::{Moment, Outside};
use super::run::Run;
use super::suite::{run_tests, tests_at};
use super::{Bad, emulators, isolate, schema, standing};
use crate::check::model::When;
use crate::event::{Owner, Stage};

/// Runs the stage.
pub(super) async fn run(run: &mut Run) -> Result<(), Bad> {
    let (shown, isolated) =
        tokio::join!(run_tests(run, Stage::Verify, When::Verify), isolated(run));
    let shown = shown?;
    let asked = emulators::judge(run, Stage::Verify).await?;
    let down = standing::first_down(run, Stage::Verify).await?;
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
    if let Some(down) = down {
        return Err(Bad::new(Owner::Package, format!("after the deploy {down}"))
            .with_help("its whole log is in the run's folder, below logs/"));
    }
    if let Some(asked) = asked {
        return Err(asked);
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
        Some(sentence) => {
            // A test that could be determined before the deploy is not itself at fault.
            let known = shown
                .errors
                .iter()
                .all(|name| run.baseline_seen.contains_key(name));
            let owner = if known {
                Owner::Engine
            } else {
                Owner::Testplan
            };
            Err(Bad::new(owner, format!("after the deploy {sentence}")))
        }
    }
}

/// The deploy may have opened a door: the whole proof once more.
async fn isolated(run: &Run) -> Result<(), Bad> {
    let staging = run.staging()?;
    let outside = Outside::open(&staging.ground, &staging.agent_image, Moment::AfterDeploy).await?;
    isolate::run(run, &outside).await
}
