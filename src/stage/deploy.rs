//! Runs the package's components and steps in dependency order, unassisted.

use std::time::{Duration, Instant};

use super::run::{Run, not_passed, out_of_order, passed};
use super::suite::{first_failures, tests_at};
use super::{Bad, isolate, provision, step, unassisted};
use crate::check::model::{Test, When};
use crate::event::{CaseStatus, EventKind, Owner, Stage};
use crate::plan::model::{Action, Component, Package};
use crate::staging::Bastion;

/// Runs the stage.
pub(super) async fn run(run: &mut Run) -> Result<(), Bad> {
    let package = run.order.plan.package.clone().ok_or_else(out_of_order)?;
    unchanged(run, "before").await?;
    let begun = Instant::now();
    let bastion = open_bastion(run).await?;
    let result = components(run, &package, bastion.as_ref()).await;
    run.recorder.emit(EventKind::Measured {
        what: "deploy".to_owned(),
        seconds: begun.elapsed().as_secs_f64(),
    });
    let took = begun.elapsed();
    if matches!(&result, Err(bad) if bad.owner != Owner::Package) {
        return result;
    }
    unchanged(run, "during").await?;
    unassisted_suite(run, &package, took).await?;
    result
}

/// Says of the deploy as it was seen whether it needed anybody.
async fn unassisted_suite(run: &Run, package: &Package, took: Duration) -> Result<(), Bad> {
    let heard = isolate::heard_so_far(run.staging()?).await;
    let events = run.recorder.events();
    let cases = unassisted::cases(&unassisted::Deploy {
        events: &events,
        took,
        limit: run.order.plan.limits.deploy,
        manual: &package.manual,
        digest: &package.digest,
        heard,
    });
    for case in cases {
        run.case(Stage::Deploy, case);
    }
    Ok(())
}

/// Ends everything of the deploy that could go on: the bastion with all that steps started in it, and the service in
/// which a step was broken off by a deadline or Ctrl-C. Where there is nothing to end, nothing is done.
pub(super) async fn end(run: &mut Run) -> Result<(), Bad> {
    if let Some(container) = run.working_in.take() {
        run.ground()?.engine.kill_container(&container).await?;
    }
    if let Some(bastion) = run.bastion.take() {
        run.ground()?.engine.remove_container(&bastion).await?;
    }
    Ok(())
}

/// The digest that the verdict is bound to is that of the files that were deployed.
async fn unchanged(run: &mut Run, when: &str) -> Result<(), Bad> {
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

/// A bastion, where a step needs one: the one that a retry has opened already, else a new one.
async fn open_bastion(run: &mut Run) -> Result<Option<Bastion>, Bad> {
    let name = run.ground()?.names.of(Bastion::NAME);
    run.bastion = Some(name);
    if let Some(opened) = run.taken.as_mut().and_then(|taken| taken.bastion.take()) {
        return Ok(Some(opened));
    }
    bastion(run).await
}

/// Opens a bastion, where a step needs one.
pub(super) async fn bastion(run: &Run) -> Result<Option<Bastion>, Bad> {
    let package = run.order.plan.package.as_ref().ok_or_else(out_of_order)?;
    let needed = package
        .components
        .iter()
        .flat_map(|component| &component.steps)
        .any(|step| matches!(step.action, Action::Run { service: None, .. }));
    let Some(bastion) = run.order.plan.bastion.as_ref().filter(|_| needed) else {
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
async fn steps(
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
        let outcome = step::perform(run, &component.name, step, bastion).await?;
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
