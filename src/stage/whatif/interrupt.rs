//! A deploy that is killed half-way, and what it takes to come to a good end from there.

use std::time::{Duration, Instant};

use super::courses::{end, led_back};
use super::walk::{Walk, parts};
use super::wrong::{Failed, Told, Wrong};
use super::{Shared, state};
use crate::check::model::When;
use crate::event::{EventKind, Stage};
use crate::plan::model::{Action, Component, DeployPath, Moment, Override, Step};
use crate::stage::run::{Run, out_of_order};
use crate::stage::suite::{run_these, tests_at};
use crate::stage::{deploy, emulators, step};
use crate::staging::Bastion;

/// Where a deploy is killed.
#[derive(Clone, Copy)]
pub(super) struct Kill<'a> {
    pub component: &'a str,
    pub step: &'a str,
    pub moment: Moment,
}

/// Walks the path: the deploy up to the kill, then the whole deploy once more. Where that does not end well and the package
/// has a way back, the same kill on another branch, and the way back.
pub(super) async fn walk(
    main: &Run,
    shared: &Shared,
    number: usize,
    path: &DeployPath,
    kill: Kill<'_>,
) -> Result<Told, Wrong> {
    let package = main.order.plan.package.as_ref().ok_or_else(out_of_order)?;
    let [part, second] = parts(number);
    let mut first = Walk::open(main, &part, path, package.clone()).await?;
    let half_way = match stopped(&mut first, shared, kill).await {
        Ok(half_way) => half_way,
        Err(wrong) => return end(&first, Err(wrong)).await,
    };
    let failed = match resumed(&mut first).await {
        Ok(()) => {
            let said = format!("deployed again it ends well; {half_way}");
            let told = Told {
                output: Some(half_way),
                ..Told::of(said)
            };
            return end(&first, Ok(told)).await;
        }
        Err(Wrong::Unseen(bad)) => return end(&first, Err(Wrong::Unseen(bad))).await,
        Err(Wrong::Failed(failed)) => failed,
    };
    first.keep_logs().await;
    drop(first);
    super::walk::clear(main, &part).await?;
    let output = [Some(half_way), failed.output.clone()]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join("\n");
    if package.rollback.is_empty() {
        return Err(Wrong::Failed(Failed {
            reason: format!(
                "deployed again after it was killed, it does not end well, and the package has no rollback: {}",
                failed.reason
            ),
            output: Some(output),
            ..failed
        }));
    }
    let mut walk = Walk::open(main, &second, path, package.clone()).await?;
    let back = back(&mut walk, shared, kill).await;
    let told = match back {
        Ok(told) => Ok(Told {
            said: Some(format!(
                "its rollback leads back from there{}; deployed again it would fail: {}",
                told.said
                    .map(|said| format!(" ({said})"))
                    .unwrap_or_default(),
                failed.reason
            )),
            output: Some(output),
            // That is the time of a way back from half-way; the number for the meeting is that of the whole one.
            own_rollback: None,
            bytes: None,
        }),
        Err(Wrong::Failed(also)) => Err(Wrong::Failed(Failed {
            reason: format!(
                "neither ends well: deployed again after it was killed: {}; rolled back: {}",
                failed.reason, also.reason
            ),
            output: Some(output),
            ..also
        })),
        Err(unseen @ Wrong::Unseen(_)) => Err(unseen),
    };
    end(&walk, told).await
}

/// The deploy up to the kill. Says what stands then.
async fn stopped(walk: &mut Walk, shared: &Shared, kill: Kill<'_>) -> Result<String, Wrong> {
    let killed = killed(walk, shared, kill).await?;
    Ok(format!("{killed}; {}", half_way(walk).await?))
}

/// The whole deploy after that.
async fn resumed(walk: &mut Walk) -> Result<(), Wrong> {
    walk.start_again().await?;
    walk.deploy().await?;
    walk.verify().await
}

async fn back(walk: &mut Walk, shared: &Shared, kill: Kill<'_>) -> Result<Told, Wrong> {
    let before = state::reference(walk, shared).await?;
    killed(walk, shared, kill).await?;
    walk.start_again().await?;
    let took = walk.own_rollback().await?;
    led_back(walk, before, took).await
}

/// Deploys up to the kill, and kills. Says when that was.
async fn killed(walk: &mut Walk, shared: &Shared, kill: Kill<'_>) -> Result<String, Wrong> {
    let package = walk.package()?;
    walk.at(Stage::Deploy);
    emulators::begin(&walk.run).await?;
    let all = package.components.iter().flat_map(|of| &of.steps);
    let bastion = deploy::open_bastion(&mut walk.run, &package, all).await?;
    let mut said = None;
    for component in &package.components {
        let here = component.name == kill.component;
        let at = component
            .steps
            .iter()
            .position(|step| here && step.name == kill.step);
        let whole = match (at, kill.moment) {
            (None, _) => component.steps.len(),
            (Some(at), Moment::Before | Moment::During) => at,
            (Some(at), Moment::After) => at + 1,
        };
        let before = Component {
            steps: component.steps[..whole].to_vec(),
            ..component.clone()
        };
        // It did not fail in the deploy that was judged.
        if let Some(bad) = deploy::steps(&mut walk.run, &before, bastion.as_ref()).await? {
            return Err(Wrong::from(bad).after("before it was to be killed, "));
        }
        let Some(step) = at.and_then(|at| component.steps.get(at)) else {
            continue;
        };
        said = Some(match kill.moment {
            Moment::Before | Moment::After => "it was killed between two steps".to_owned(),
            Moment::During => {
                let key = (component.name.clone(), step.name.clone());
                let took = shared.took.get(&key).copied().unwrap_or_default();
                let half = Duration::from_secs_f64((took / 2.0).max(0.0));
                during(walk, component, step, bastion.as_ref(), half).await?
            }
        });
        break;
    }
    // The admin's own session is gone with whatever it had started.
    deploy::end(&mut walk.run).await?;
    walk.run.ground()?.engine.all_made().await;
    if let Some(bad) = emulators::judge(&walk.run, Stage::Deploy).await? {
        return Err(bad.into());
    }
    said.ok_or_else(|| out_of_order().into())
}

/// Starts a step, and kills what it works in after that time.
async fn during(
    walk: &mut Walk,
    component: &Component,
    step: &Step,
    bastion: Option<&Bastion>,
    half: Duration,
) -> Result<String, Wrong> {
    let begun = Instant::now();
    walk.run.recorder.emit(EventKind::StepStarted {
        component: component.name.clone(),
        step: step.name.clone(),
        target: step::target(step),
    });
    let ended = tokio::select! {
        biased;
        outcome = step::perform(&mut walk.run, &component.name, step, bastion) => Some(outcome?),
        // This is the moment that is asked for, not a wait for something else.
        () = tokio::time::sleep(half) => None,
    };
    let seconds = begun.elapsed().as_secs_f64();
    walk.run.recorder.emit(EventKind::StepFinished {
        component: component.name.clone(),
        step: step.name.clone(),
        exit_code: ended.as_ref().and_then(|outcome| outcome.exit_code),
        seconds,
    });
    if ended.is_some() {
        return Ok(format!(
            "it ended after {seconds:.1} s, before it could be killed, and was killed after that"
        ));
    }
    // The engine would go on with what it was told, and stop the service under the next deploy.
    let service = match &step.action {
        Action::Image { service, .. }
        | Action::Env { service, .. }
        | Action::Restart { service }
        | Action::Override(Override { service, .. }) => Some(service),
        Action::Run { .. } | Action::Copy { .. } | Action::Files { .. } | Action::Wait { .. } => {
            None
        }
    };
    if let Some(service) = service {
        let services = &walk.run.generation()?.services;
        walk.run.working_in = services
            .iter()
            .find(|running| running.blueprint.service.name == *service)
            .map(|running| running.container.clone());
    }
    let what = match &step.action {
        Action::Run { service: None, .. } => "with the bastion",
        Action::Run {
            service: Some(_), ..
        } => "with its service",
        Action::Copy { .. }
        | Action::Image { .. }
        | Action::Env { .. }
        | Action::Override(_)
        | Action::Files { .. }
        | Action::Restart { .. }
        | Action::Wait { .. } => "in the middle of what the engine does",
    };
    // `working_in` says where a command runs: the end of the deploy kills that container.
    Ok(format!("it was killed {what} after {seconds:.1} s"))
}

/// Whether the site is up there: told, and never decides, but whom it asked outside does. Only what holds before the deploy and after it is asked, once.
async fn half_way(walk: &Walk) -> Result<String, Wrong> {
    walk.at(Stage::Verify);
    let mut tests = tests_at(&walk.run, When::Verify);
    tests.retain(|test| test.when.contains(&When::Baseline));
    for test in &mut tests {
        test.retry = None;
    }
    let shown = run_these(&walk.run, Stage::Verify, &tests).await?;
    // Whom a site writes to that stands half-way is no question of being up.
    if let Some(bad) = emulators::judge(&walk.run, Stage::Verify).await? {
        return Err(Wrong::from(bad).after("half-way, "));
    }
    Ok(match shown.sentence(tests.len()) {
        None if tests.is_empty() => "nothing tells whether the site was up half-way".to_owned(),
        None => "the site was up half-way".to_owned(),
        Some(sentence) => format!("half-way {sentence}"),
    })
}
