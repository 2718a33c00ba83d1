//! Judges what stands there after the deploy: the test plan, and the isolation once more.

use super::run::Run;
use super::suite::{run_tests, tests_at};
use super::{Bad, isolate};
use crate::check::model::When;
use crate::event::{Owner, Stage};

/// Runs the stage.
pub(super) async fn run(run: &mut Run) -> Result<(), Bad> {
    let shown = run_tests(run, Stage::Verify, When::Verify).await?;
    let isolated = isolate::run(run, isolate::Moment::AfterDeploy).await;
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
    isolated?;
    match shown.sentence(total) {
        None => Ok(()),
        Some(sentence) => Err(Bad::new(
            Owner::Testplan,
            format!("after the deploy {sentence}"),
        )),
    }
}
