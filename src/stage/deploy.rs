//! Runs the package's components and steps in dependency order, unassisted.

use std::time::{Duration, Instant};

use super::during::During;
use super::run::{Run, not_passed, out_of_order, passed};
use super::suite::{first_failures, tests_at};
use super::surrounded::Watched;
use super::{Bad, emulators, isolate, provision, step, unassisted};
use crate::agent::protocol::{Answer, Ask};
use crate::check::model::{Test, When};
use crate::event::{CaseStatus, Event, EventKind, Owner, Stage};
use crate::plan::model::{Action, Component, Package, Step};
use crate::staging::Bastion;

/// Runs the stage.
pub(super) async fn run(run: &mut Run) -> Result<(), Bad> {
    let package = run.order.plan.package.clone().ok_or_else(out_of_order)?;
    unchanged(run, "before").await?;
    emulators::begin(run).await?;
    run.watched = Watched::new();
    let steps = package.components.iter().flat_map(|of| &of.steps);
    let bastion = open_bastion(run, &package, steps).await?;
    run.during = Some(During::begin(run, &package).await?);
    let begun = Instant::now();
    let result = components(run, &package, bastion.as_ref()).await;
    run.recorder.emit(EventKind::Measured {
        what: "deploy".to_owned(),
        seconds: begun.elapsed().as_secs_f64(),
    });
    let took = begun.elapsed();
    if matches!(&result, Err(bad) if bad.owner != Owner::Package) {
        return result;
    }
    if let Some(during) = run.during.take() {
        during.end(run, &package, result.is_ok()).await?;
    }
    unchanged(run, "during").await?;
    let events = run.recorder.events();
    unassisted_suite(run, &package, &events, took).await?;
    let asked = emulators::judge(run, Stage::Deploy).await?;
    if let Some(bad) = deviation(run) {
        return Err(bad);
    }
    result?;
    asked.map_or(Ok(()), Err)
}

/// Says of the steps in `events` as they were seen whether they needed anybody. `took` is the time of all of them.
pub(super) async fn unassisted_suite(
    run: &Run,
    package: &Package,
    events: &[Event],
    took: Duration,
) -> Result<(), Bad> {
    let staging = run.staging()?;
    let heard = isolate::heard_so_far(staging).await;
    let network = staging.network.agent.ask(Ask::Network).await?.answer;
    let cases = unassisted::cases(&unassisted::Deploy {
        events,
        took,
        limit: run.order.plan.limits.deploy,
        manual: &package.manual,
        digest: &package.digest,
        heard,
        watched: &run.watched,
        habits: &run.habits,
        hears_calls: matches!(network, Answer::Network(facts) if facts.hears_calls),
    });
    for case in cases {
        run.case(Stage::Deploy, case);
    }
    Ok(())
}

/// What steps had around them and nobody declared.
pub(super) fn deviation(run: &Run) -> Option<Bad> {
    let found: Vec<&str> = run.watched.deviations.iter().map(String::as_str).collect();
    (!found.is_empty()).then(|| {
        Bad::new(
            Owner::Engine,
            format!(
                "steps had something around them that was not declared (a defect of rehearse): {}",
                found.join("; ")
            ),
        )
    })
}

/// Ends everything of the deploy that could go on: the bastion with all that steps started in it, and the service in
/// which a step was broken off by a deadline or Ctrl-C. Where there is nothing to end, nothing is done.
pub(super) async fn end(run: &mut Run) -> Result<(), Bad> {
    if let Some(during) = run.during.take() {
        during.abandon(run).await;
    }
    if let Some(container) = run.working_in.take() {
        run.ground()?.engine.kill_container(&container).await?;
    }
    if let Some(bastion) = run.bastion.take() {
        let engine = &run.ground()?.engine;
        if run.on_path {
            // An admin's machine keeps its files. With the kill all that steps started there is gone.
            engine.kill_container(&bastion).await?;
        } else {
            engine.remove_container(&bastion).await?;
        }
    }
    Ok(())
}

/// The digest that the verdict is bound to is that of the files that were deployed.
pub(super) async fn unchanged(run: &mut Run, when: &str) -> Result<(), Bad> {
    let Some(opened) = run.order.opened.take() else {
        return Ok(());
    };
    let (opened, verified) = tokio::task::spawn_blocking(move || {
        let verified = opened.verify_unchanged();
        (opened, verified)
    })
    .await
    .map_err(|panic| {
        Bad::new(
            Owner::Engine,
            format!("digesting the package broke off: {panic}"),
        )
    })?;
    run.order.opened = Some(opened);
    verified.map_err(|error| {
        Bad::new(
            Owner::Engine,
            format!("the package's files on this machine changed {when} the deploy: {error}"),
        )
        .with_help("nobody may write to a package while it is rehearsed; run again")
    })
}

/// Whether the deploy of a package needs a bastion.
pub(super) fn needs_bastion(package: &Package) -> bool {
    let mut steps = package.components.iter().flat_map(|of| &of.steps);
    steps.any(is_for_bastion)
}

const fn is_for_bastion(step: &Step) -> bool {
    matches!(step.action, Action::Run { service: None, .. })
}

/// A bastion, where one of these steps needs one: the one that a retry has opened already, on a path the one that was there
/// before, else a new one.
pub(super) async fn open_bastion<'a>(
    run: &mut Run,
    package: &Package,
    mut steps: impl Iterator<Item = &'a Step>,
) -> Result<Option<Bastion>, Bad> {
    if !steps.any(is_for_bastion) {
        return Ok(None);
    }
    run.bastion = Some(run.ground()?.names.of(Bastion::NAME));
    if let Some(opened) = run.taken.as_mut().and_then(|taken| taken.bastion.take()) {
        return Ok(Some(opened));
    }
    if run.on_path
        && let Some(again) = Bastion::again(run.ground()?).await?
    {
        return Ok(Some(again));
    }
    bastion(run, package).await
}

/// The bastion of a deploy that has not begun, where a step of it needs one.
pub(super) async fn early_bastion(run: &Run, package: &Package) -> Result<Option<Bastion>, Bad> {
    if !needs_bastion(package) {
        return Ok(None);
    }
    bastion(run, package).await
}

/// Opens a bastion, where the rehearsal has one.
async fn bastion(run: &Run, package: &Package) -> Result<Option<Bastion>, Bad> {
    let Some(bastion) = &run.order.plan.bastion else {
        return Ok(None);
    };
    let staging = run.staging()?;
    let facts = provision::image(&staging.ground, "the bastion", &bastion.image).await?;
    let opened = Bastion::open(
        &staging.ground,
        &staging.network,
        &staging.agent_image,
        &facts.id,
        package,
    )
    .await?;
    Ok(Some(opened))
}

async fn components(
    run: &mut Run,
    package: &Package,
    bastion: Option<&Bastion>,
) -> Result<(), Bad> {
    let watched: Vec<Test> = tests_at(run, When::Verify);
    let mut bad: Option<Bad> = None;
    for component in &package.components {
        if bad.is_some() {
            skip(run, component, 0);
            continue;
        }
        bad = steps(run, component, bastion).await?;
        // On a path nothing may change but by the package, and to ask a site may move what it counts.
        if run.on_path {
            continue;
        }
        // Evidence for the reader: after which component did something stop working?
        for name in first_failures(run, &watched).await? {
            run.first_broken_by
                .entry(name)
                .or_insert_with(|| component.name.clone());
        }
        // What works again was broken in between only, which another story (availability) judges.
        let still: Vec<String> = first_failures(run, &watched).await?;
        run.first_broken_by.retain(|name, _| still.contains(name));
    }
    bad.map_or(Ok(()), Err)
}

/// Runs a component's steps until one fails, and returns what went wrong.
pub(super) async fn steps(
    run: &mut Run,
    component: &Component,
    bastion: Option<&Bastion>,
) -> Result<Option<Bad>, Bad> {
    for (index, step) in component.steps.iter().enumerate() {
        let begun = Instant::now();
        run.recorder.emit(EventKind::StepStarted {
            component: component.name.clone(),
            step: step.name.clone(),
            target: step::target(step),
        });
        if let Some(during) = &run.during {
            during.pause(step).await;
        }
        let outcome = step::perform(run, &component.name, step, bastion).await?;
        if let Some(during) = &run.during {
            during.resume(step).await;
        }
        let seconds = begun.elapsed().as_secs_f64();
        run.recorder.emit(EventKind::StepFinished {
            component: component.name.clone(),
            step: step.name.clone(),
            exit_code: outcome.exit_code,
            seconds,
        });
        let name = format!("{} / {}", component.name, step.name);
        let mut case = match &outcome.result {
            Ok(figure) => passed(Stage::Deploy, name, seconds, figure.clone()),
            Err(why) => not_passed(Stage::Deploy, name, CaseStatus::Failed, seconds, why),
        };
        case.component = Some(component.name.clone());
        case.location = Some(step.location.to_string());
        case.output = (!outcome.tail.is_empty()).then_some(outcome.tail);
        run.case(Stage::Deploy, case);
        if let Err(why) = outcome.result {
            skip(run, component, index + 1);
            return Ok(Some(
                Bad::new(
                    Owner::Package,
                    format!(
                        "step `{}` of component `{}` failed: {why}",
                        step.name, component.name
                    ),
                )
                .with_help(format!(
                    "the step is at {}; its output is in the run's logs",
                    step.location
                )),
            ));
        }
    }
    Ok(None)
}

fn skip(run: &Run, component: &Component, from: usize) {
    for step in &component.steps[from..] {
        let mut case = not_passed(
            Stage::Deploy,
            format!("{} / {}", component.name, step.name),
            CaseStatus::Skipped,
            0.0,
            "not reached: an earlier step failed",
        );
        case.component = Some(component.name.clone());
        run.case(Stage::Deploy, case);
    }
}
