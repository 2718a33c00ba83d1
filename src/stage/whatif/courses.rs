//! What is done on each path, and how it has to end.

use std::time::Duration;

use super::walk::{Walk, parts, with_components};
use super::wrong::{Failed, Told, Wrong};
use super::{Shared, compare, interrupt, state};
use crate::plan::model::{Course, DeployPath, Package, Why};
use crate::stage::run::{Run, out_of_order};

/// Walks a path.
pub(super) async fn walk(
    main: &Run,
    shared: &Shared,
    number: usize,
    path: &DeployPath,
) -> Result<Told, Wrong> {
    let package = main.order.plan.package.as_ref().ok_or_else(out_of_order)?;
    let [part, _] = parts(number);
    let open = |package: Package| Walk::open(main, &part, path, package);
    match &path.course {
        Course::Rollback => {
            if package.rollback.is_empty() {
                return Err(Wrong::failed("the package has no rollback"));
            }
            let mut walk = open(package.clone()).await?;
            let ended = rollback(&mut walk, shared).await;
            end(&walk, ended).await
        }
        Course::Rerun => {
            let mut walk = open(package.clone()).await?;
            let ended = rerun(&mut walk, shared).await;
            end(&walk, ended).await
        }
        Course::Again { .. } => {
            let mut walk = open(package.clone()).await?;
            let ended = once(&mut walk).await.map(|()| Told::default());
            end(&walk, ended).await
        }
        Course::Ordered { components, why } => {
            let mut walk = open(with_components(package, components)?).await?;
            let ended = ordered(why, once(&mut walk).await);
            end(&walk, ended).await
        }
        Course::Subset {
            components,
            missing,
        } => {
            let mut walk = open(with_components(package, components)?).await?;
            let ended = subset(&mut walk, missing).await;
            end(&walk, ended).await
        }
        Course::Interrupted {
            component,
            step,
            moment,
        } => {
            let kill = interrupt::Kill {
                component,
                step,
                moment: *moment,
            };
            interrupt::walk(main, shared, number, path, kill).await
        }
    }
}

/// What is left to tell of a path, while it still stands.
pub(super) async fn end(walk: &Walk, ended: Result<Told, Wrong>) -> Result<Told, Wrong> {
    match ended {
        Ok(told) => Ok(Told {
            bytes: walk.written().await,
            ..told
        }),
        Err(wrong) => {
            walk.keep_logs().await;
            Err(wrong)
        }
    }
}

/// The deploy and its tests.
async fn once(walk: &mut Walk) -> Result<(), Wrong> {
    walk.deploy().await?;
    walk.verify().await
}

async fn rollback(walk: &mut Walk, shared: &Shared) -> Result<Told, Wrong> {
    let before = state::reference(walk, shared).await?;
    walk.deploy().await?;
    let took = walk.own_rollback().await?;
    led_back(walk, before, took).await
}

/// After the package's own rollback everything is as it was at the snapshot.
pub(super) async fn led_back(
    walk: &Walk,
    before: &state::Reference,
    took: Duration,
) -> Result<Told, Wrong> {
    let package = walk.package()?;
    let mut after = state::read(walk).await?;
    let found = differences(walk, before, &before.state, &mut after).await?;
    let excused = compare::excuse(found, &package.rollback_leaves);
    let seconds = took.as_secs_f64();
    if let Some(first) = excused.left.first() {
        let more = match excused.left.len() - 1 {
            0 => String::new(),
            1 => " and 1 more thing".to_owned(),
            n => format!(" and {n} more things"),
        };
        return Err(Wrong::Failed(Failed {
            reason: format!(
                "after the package's own rollback, which took {seconds:.1} s and says that it succeeded, {}{more} {} not as at the snapshot",
                first.what,
                compare::verb(excused.left.len())
            ),
            mismatches: excused.left,
            ..Failed::default()
        }));
    }
    walk.as_before()
        .await
        .map_err(|wrong| wrong.after("after the package's own rollback "))?;
    let mut said = format!("the package's own rollback took {seconds:.1} s");
    if let Some(most) = package.declares.max_rollback {
        said += &format!(" of {:.1} s that it declares", most.as_secs_f64());
    }
    if !excused.idle.is_empty() {
        said += &format!(
            "; it says that it leaves {}, and does not",
            excused.idle.join(", ")
        );
    }
    said += &before.not_compared(&after);
    Ok(Told {
        own_rollback: Some(took),
        ..Told::of(said)
    })
}

/// All that is not the same in two states.
async fn differences(
    walk: &Walk,
    reference: &state::Reference,
    before: &state::State,
    after: &mut state::State,
) -> Result<Vec<compare::Difference>, Wrong> {
    let mut found = compare::parts(reference, before, after);
    found.extend(state::differing_files(walk, reference, before, after).await?);
    Ok(found)
}

async fn rerun(walk: &mut Walk, shared: &Shared) -> Result<Told, Wrong> {
    let before = state::reference(walk, shared).await?;
    walk.deploy().await?;
    let first = state::read(walk).await?;
    walk.deploy()
        .await
        .map_err(|wrong| wrong.after("the second deploy: "))?;
    let mut second = state::read(walk).await?;
    second
        .not_compared
        .extend(first.not_compared.iter().cloned());
    let found = compare::excuse(differences(walk, before, &first, &mut second).await?, &[]).left;
    if let Some(difference) = found.first() {
        let more = match found.len() - 1 {
            0 => String::new(),
            1 => " and 1 more thing".to_owned(),
            n => format!(" and {n} more things"),
        };
        return Err(Wrong::Failed(Failed {
            reason: format!("the second deploy changed {}{more}", difference.what),
            mismatches: found,
            ..Failed::default()
        }));
    }
    walk.verify()
        .await
        .map_err(|wrong| wrong.after("after the second deploy "))?;
    let not_compared = before.not_compared(&second);
    Ok(Told::of(format!(
        "the second deploy changed nothing{not_compared}"
    )))
}

/// An order that the package allows has to pass; one that it forbids tells something either way.
fn ordered(why: &Why, ended: Result<(), Wrong>) -> Result<Told, Wrong> {
    match (why, ended) {
        (Why::Allowed { .. }, Ok(())) => Ok(Told::default()),
        (Why::Allowed { swapped }, Err(Wrong::Failed(failed))) => {
            let pairs: Vec<String> = swapped
                .iter()
                .map(|(now_earlier, now_later)| format!("`{now_earlier}` before `{now_later}`"))
                .collect();
            let matters = match (pairs.as_slice(), swapped.as_slice()) {
                ([pair], [(earlier, later)]) => {
                    format!(
                        "{pair} matters and is not declared (`{earlier}` lacks `after: [{later}]`)"
                    )
                }
                (several, _) => format!(
                    "one of these matters and is not declared: {}",
                    several.join(", ")
                ),
            };
            Err(Wrong::Failed(Failed {
                reason: format!("{matters}: {}", failed.reason),
                ..failed
            }))
        }
        (Why::Forbidden { component, after }, Ok(())) => Ok(Told::of(format!(
            "the declared dependency `{component}` after `{after}` was not needed in this staging"
        ))),
        (Why::Forbidden { component, after }, Err(Wrong::Failed(failed))) => {
            Err(Wrong::Failed(Failed {
                reason: format!(
                    "the declared dependency `{component}` after `{after}` is real: {}",
                    failed.reason
                ),
                ..failed
            }))
        }
        (Why::Allowed { .. } | Why::Forbidden { .. }, Err(unseen @ Wrong::Unseen(_))) => {
            Err(unseen)
        }
    }
}

/// A part of the deploy: its steps succeed, and what holds before and after the deploy holds in between.
async fn subset(walk: &mut Walk, missing: &[String]) -> Result<Told, Wrong> {
    let ended = match walk.deploy().await {
        Ok(()) => walk.in_between().await,
        Err(wrong) => Err(wrong),
    };
    let lacks = match missing {
        [] => String::new(),
        some => format!("without {}: ", some.join(", ")),
    };
    ended.map_err(|wrong| wrong.after(&lacks))?;
    Ok(Told::default())
}
