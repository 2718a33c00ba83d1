//! Runs the package's components and steps in dependency order, unassisted.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::during::During;
use super::run::{Run, not_passed, out_of_order, passed};
use super::step::LATE;
use super::suite::{first_failures, harmless, tests_at};
use super::surrounded::Watched;
use super::{Bad, emulators, handed_over, isolate, provision, step, unassisted};
use crate::agent::protocol::{Answer, Ask};
use crate::check::model::{Test, When};
use crate::event::{CaseStatus, Event, EventKind, Owner, Stage};
use crate::plan::model::{Action, Component, Package, Step};
use crate::staging::Bastion;

/// Runs the stage.
pub(super) async fn run(run: &mut Run) -> Result<(), Bad> {
    let package = run.order.plan.package.clone().ok_or_else(out_of_order)?;
    handed_over::unchanged(run, "before").await?;
    emulators::begin(run).await?;
    run.watched = Watched::new();
    let steps = package.components.iter().flat_map(|of| &of.steps);
    let bastion = open_bastion(run, &package, steps).await?;
    run.during = Some(During::begin(run, &package).await?);
    let begun = Instant::now();
    let limit = run.order.plan.limits.deploy;
    let since = run.recorder.events().len();
    let ended = tokio::time::timeout(limit, components(run, &package, bastion.as_ref())).await;
    let result = match ended {
        Ok(result) => result,
        Err(_) => Err(overrun(run, &package, since, limit).await?),
    };
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
    handed_over::unchanged(run, "during").await?;
    // A path has the volume of the deploy itself.
    if !run.on_path {
        handed_over::as_used(run, &package).await?;
    }
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
    stop(run).await
}

/// Ends what steps have started.
async fn stop(run: &mut Run) -> Result<(), Bad> {
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
    let watched: Vec<Test> = harmless(tests_at(run, When::Verify));
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
        for name in first_failures(run, watched.iter()).await? {
            run.first_broken_by
                .entry(name)
                .or_insert_with(|| component.name.clone());
        }
        // What works again was broken in between only, which another story (availability) judges.
        let broken = run.first_broken_by.clone();
        let suspects = watched.iter().filter(|of| broken.contains_key(&of.name));
        let still: Vec<String> = first_failures(run, suspects).await?;
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

/// The time of all steps is over: ends the one that is under way, and says of it and of those after it what became of them.
/// The steps' events come after `since` others.
async fn overrun(
    run: &mut Run,
    package: &Package,
    since: usize,
    limit: Duration,
) -> Result<Bad, Bad> {
    stop(run).await?;
    let mut events = run.recorder.events();
    let events = events.split_off(since);
    let started = |event: &Event| match &event.kind {
        EventKind::StepStarted {
            component, step, ..
        } => Some((component.clone(), step.clone(), event.at)),
        _ => None,
    };
    let finished = |event: &&Event| matches!(event.kind, EventKind::StepFinished { .. });
    let begun: Vec<_> = events.iter().filter_map(started).collect();
    let ended = events.iter().filter(finished).count();
    let reason = format!(
        "the deploy did not end within {} s (limits.deploy)",
        limit.as_secs()
    );
    // Between two steps, none is under way.
    if let Some((component, step, at)) = begun.get(ended) {
        let seconds = Timestamp::now().duration_since(*at).as_secs_f64();
        run.recorder.emit(EventKind::StepFinished {
            component: component.clone(),
            step: step.clone(),
            exit_code: None,
            seconds,
        });
        let why = format!("it {LATE}, and was killed: {reason}");
        let name = format!("{component} / {step}");
        let mut case = not_passed(Stage::Deploy, name, CaseStatus::Failed, seconds, why);
        case.component = Some(component.clone());
        run.case(Stage::Deploy, case);
        let all = package.components.iter().filter(|of| of.name == *component);
        let mut steps = all.flat_map(|of| &of.steps);
        let runs = |of: &Step| of.name == *step && matches!(of.action, Action::Run { .. });
        if steps.any(runs) {
            // Its input was not looked at.
            run.watched.unseen.insert(format!("{component}/{step}"));
        }
    }
    let told: BTreeSet<String> = events
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::CaseFinished { case, .. } => Some(case.name.clone()),
            _ => None,
        })
        .collect();
    for component in &package.components {
        let of_it = begun.iter().filter(|(name, ..)| *name == component.name);
        let reached = of_it.count();
        // After a step that failed the others are told already.
        let name = |step: &Step| format!("{} / {}", component.name, step.name);
        if !component
            .steps
            .iter()
            .skip(reached)
            .any(|step| told.contains(&name(step)))
        {
            skip(run, component, reached);
        }
    }
    Ok(Bad::new(Owner::Package, reason))
}

fn skip(run: &Run, component: &Component, from: usize) {
    for step in &component.steps[from..] {
        let mut case = not_passed(
            Stage::Deploy,
            format!("{} / {}", component.name, step.name),
            CaseStatus::Skipped,
            0.0,
            "not reached: an earlier step failed, or took all the time",
        );
        case.component = Some(component.name.clone());
        run.case(Stage::Deploy, case);
    }
}
