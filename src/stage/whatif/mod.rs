//! Other ways that the deploy could go, each on a branch and a network of its own, side by side.

mod compare;
mod courses;
mod grants;
mod interrupt;
mod mariadb;
mod state;
mod walk;
mod wrong;

use std::collections::HashMap;
use std::time::Instant;

use futures_util::StreamExt as _;
use tokio::sync::OnceCell;

use self::state::Reference;
use self::wrong::{Told, Wrong};
use super::run::{Run, not_passed, out_of_order, passed};
use super::{Bad, handed_over};
use crate::event::{Case, CaseStatus, EventKind, Owner, PathOutcome, Stage};
use crate::plan::model::{Course, DeployPath};

/// What all paths of a run share.
pub(super) struct Shared {
    /// What the site looks like before a deploy, and what of it does not keep still by itself. The first path that wants to
    /// compare reads it.
    reference: OnceCell<Reference>,
    /// Seconds that each step took in the deploy that was judged, by component and step.
    took: HashMap<(String, String), f64>,
}

/// Runs the stage.
pub(super) async fn run(run: &mut Run) -> Result<(), Bad> {
    let paths = run.paths.clone().ok_or_else(out_of_order)?.paths;
    let shared = Shared {
        reference: OnceCell::new(),
        took: took(run),
    };
    let main: &Run = run;
    // Of the package's own rollback the time is told and judged: nothing else is walked beside it.
    let (alone, beside): (Vec<_>, Vec<_>) = paths
        .iter()
        .enumerate()
        .partition(|(_, path)| path.course == Course::Rollback);
    let mut ended: Vec<Tried> = Vec::new();
    for (index, path) in alone {
        ended.push(tried(main, &shared, index + 1, path).await);
    }
    let walks = beside.into_iter().map(|(index, path)| {
        let shared = &shared;
        async move { tried(main, shared, index + 1, path).await }
    });
    let others: Vec<_> = futures_util::stream::iter(walks)
        .buffer_unordered(run.order.trying.jobs.max(1))
        .collect()
        .await;
    ended.extend(others);
    // Their package is the one that was judged: it was read from this machine again for each path.
    handed_over::unchanged(run, "after").await?;
    judged(&paths, ended)
}

/// How a path ended.
struct Tried {
    number: usize,
    outcome: PathOutcome,
    reason: Option<String>,
    /// Where it could not be judged: whose affair that is, and what to do.
    unseen: Option<(Owner, Option<String>)>,
}

/// The first path that decides, in the order of the plan. What could not be judged comes before what failed.
fn judged(paths: &[DeployPath], mut ended: Vec<Tried>) -> Result<(), Bad> {
    ended.sort_by_key(|tried| tried.number);
    let first = |wanted: PathOutcome| {
        ended.iter().find_map(|tried| {
            let path = paths.get(tried.number - 1)?;
            (!path.advisory && tried.outcome == wanted).then_some((path, tried))
        })
    };
    let reason = |tried: &Tried| tried.reason.clone().unwrap_or_default();
    if let Some((path, tried)) = first(PathOutcome::Invalid) {
        let why = reason(tried);
        let said = format!("the path `{}` could not be judged: {why}", path.name);
        let (owner, help) = tried.unseen.clone().unwrap_or((Owner::Engine, None));
        return Err(Bad {
            help,
            ..Bad::new(owner, said)
        });
    }
    if let Some((path, tried)) = first(PathOutcome::Failed) {
        let said = format!("the path `{}` failed: {}", path.name, reason(tried));
        return Err(Bad::new(Owner::Package, said).with_help(
            "the deploy itself passed; `what_if: [{ path: .., advisory: true }]` tells of a path without judging by it",
        ));
    }
    Ok(())
}

/// Removes what paths that were broken off have left.
pub(super) async fn clear(run: &Run) -> Result<(), Bad> {
    let ground = run.ground()?;
    let engine = &ground.engine;
    let made = engine
        .resources_of_parts(ground.labels.run(), walk::is_part)
        .await?;
    Ok(engine.remove_resources(made).await?)
}

/// Says of every path that it was not tried.
pub(super) fn not_tried(run: &Run, reason: &str) {
    for path in run.paths.iter().flat_map(|paths| &paths.paths) {
        let status = CaseStatus::Skipped;
        let case = not_passed(Stage::WhatIf, &path.name, status, 0.0, reason);
        run.case(Stage::WhatIf, of(path, case));
    }
}

fn of(path: &DeployPath, case: Case) -> Case {
    Case {
        suite: format!("{}.{}", Stage::WhatIf, path.what_if.name()),
        ..case
    }
}

fn took(run: &Run) -> HashMap<(String, String), f64> {
    let events = run.recorder.events();
    let steps = events.into_iter().filter_map(|event| match event.kind {
        EventKind::StepFinished {
            component,
            step,
            seconds,
            ..
        } => Some(((component, step), seconds)),
        _ => None,
    });
    steps.collect()
}

/// Walks one path to its end, removes all that it made, and tells how it ended.
async fn tried(main: &Run, shared: &Shared, number: usize, path: &DeployPath) -> Tried {
    let begun = Instant::now();
    main.recorder.emit(EventKind::PathStarted {
        path: path.name.clone(),
    });
    let ended = courses::walk(main, shared, number, path).await;
    let mut bytes = None;
    let mut unseen = None;
    for part in walk::parts(number) {
        if let Err(bad) = walk::clear(main, &part).await {
            // Teardown finds it by its labels.
            main.recorder.emit(EventKind::Note {
                stage: Stage::WhatIf,
                text: format!(
                    "not all of the path `{}` could be removed: {bad}",
                    path.name
                ),
            });
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let (outcome, mut case) = match ended {
        Ok(told) => {
            bytes = told.bytes;
            if let Some(own) = told.own_rollback {
                main.recorder.emit(EventKind::Measured {
                    what: crate::verdict::OWN_ROLLBACK_MEASURE.to_owned(),
                    seconds: own.as_secs_f64(),
                });
            }
            let Told { said, output, .. } = told;
            let mut case = passed(Stage::WhatIf, &path.name, seconds, said);
            case.output = output;
            (PathOutcome::Passed, case)
        }
        Err(Wrong::Failed(failed)) => {
            let status = if path.advisory {
                CaseStatus::Warned
            } else {
                CaseStatus::Failed
            };
            let mut case = not_passed(Stage::WhatIf, &path.name, status, seconds, failed.reason);
            case.mismatches = failed.mismatches;
            case.output = failed.output;
            case.component = failed.component;
            (PathOutcome::Failed, case)
        }
        Err(Wrong::Unseen(bad)) => {
            let status = if path.advisory {
                CaseStatus::Warned
            } else {
                CaseStatus::Error
            };
            let case = not_passed(Stage::WhatIf, &path.name, status, seconds, bad.reason);
            unseen = Some((bad.owner, bad.help));
            (PathOutcome::Invalid, case)
        }
    };
    case.seconds = seconds;
    let reason = case.message.clone();
    main.case(Stage::WhatIf, of(path, case));
    main.recorder.emit(EventKind::PathEnded {
        path: path.name.clone(),
        outcome,
        reason: reason.clone(),
        seconds,
        bytes,
    });
    Tried {
        number,
        outcome,
        reason,
        unseen,
    }
}
