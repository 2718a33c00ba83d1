//! What is done on each path, and how it has to end.

use std::time::Duration;

use super::walk::{Walk, parts, with_components};
use super::wrong::{Failed, Told, Wrong};
use super::{Shared, compare, interrupt, state};
use crate::event::Owner;
use crate::plan::model::{Course, DeployPath, Package, Why};
use crate::stage::Bad;
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
    let after = state::read(walk).await?;
    let found = compared(walk, before, &before.state, &after).await?;
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
    if !excused.unread.is_empty() {
        let when = "after the package's own rollback";
        return Err(Wrong::Unseen(unseen(when, &excused.unread, true)));
    }
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
    said += &before.not_compared(&excused.not_compared);
    Ok(Told {
        own_rollback: Some(took),
        ..Told::of(said)
    })
}

/// All that is not the same in two states, and what was not compared.
async fn compared(
    walk: &Walk,
    reference: &state::Reference,
    before: &state::State,
    after: &state::State,
) -> Result<compare::Found, Wrong> {
    let mut found = compare::parts(reference, before, after);
    state::differing_files(walk, reference, before, after, &mut found).await?;
    Ok(found)
}

/// That a path cannot be judged: nothing that was looked at differs, and not all was looked at. `may_leave` where a package
/// may say that it leaves that.
fn unseen(when: &str, unread: &[compare::Unread], may_leave: bool) -> Bad {
    let names: Vec<String> = unread.iter().map(|of| of.what.clone()).collect();
    let mut ways = Vec::new();
    if unread.iter().any(|of| of.by_limit) {
        ways.push("raise `limits.compare`");
    }
    if may_leave {
        ways.push("name it in `rollback.leaves`");
    }
    ways.push("ask for the path as advisory");
    let reason = format!(
        "{when} nothing was seen to differ, but what is too large was not compared: {}",
        compare::listed(&names)
    );
    Bad::new(Owner::Staging, reason).with_help(ways.join(", or "))
}

async fn rerun(walk: &mut Walk, shared: &Shared) -> Result<Told, Wrong> {
    let before = state::reference(walk, shared).await?;
    walk.deploy().await?;
    let first = state::read(walk).await?;
    walk.deploy()
        .await
        .map_err(|wrong| wrong.after("the second deploy: "))?;
    let second = state::read(walk).await?;
    let excused = compare::excuse(compared(walk, before, &first, &second).await?, &[]);
    if let Some(difference) = excused.left.first() {
        let more = match excused.left.len() - 1 {
            0 => String::new(),
            1 => " and 1 more thing".to_owned(),
            n => format!(" and {n} more things"),
        };
        return Err(Wrong::Failed(Failed {
            reason: format!("the second deploy changed {}{more}", difference.what),
            mismatches: excused.left,
            ..Failed::default()
        }));
    }
    walk.verify()
        .await
        .map_err(|wrong| wrong.after("after the second deploy "))?;
    if !excused.unread.is_empty() {
        let when = "after the second deploy";
        return Err(Wrong::Unseen(unseen(when, &excused.unread, false)));
    }
    let not_compared = before.not_compared(&excused.not_compared);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_too_large_is_named_with_what_to_do() {
        let of = |what: &str, by_limit| compare::Unread {
            what: what.to_owned(),
            excused_by: Vec::new(),
            by_limit,
        };
        let table = of("the content of table public.orders of db/site", true);
        let volume = of("the files of volume uploads", false);
        let (raise, leave, advisory) = (
            "raise `limits.compare`",
            "name it in `rollback.leaves`",
            "ask for the path as advisory",
        );
        for (unread, may_leave, help) in [
            (vec![table.clone()], true, vec![raise, leave, advisory]),
            (vec![table.clone()], false, vec![raise, advisory]),
            (vec![volume.clone()], true, vec![leave, advisory]),
            (vec![volume, table], false, vec![raise, advisory]),
        ] {
            let bad = unseen("then", &unread, may_leave);
            assert_eq!(bad.owner, Owner::Staging);
            assert_eq!(bad.help, Some(help.join(", or ")));
            for of in &unread {
                assert!(bad.reason.contains(&of.what), "{bad}");
            }
        }
    }
}
