//! Restores each backup into a base, or takes the base of an identical earlier restore; judges the age of the data; in a
//! backup check, examines what was restored.

mod age;
mod examine;
mod group;
mod obtain;
mod prove;

use std::collections::BTreeMap;
use std::time::Instant;

use futures_util::StreamExt as _;

use group::{Group, groups};
use obtain::{Obtained, obtain};

pub(super) use age::Age;
pub(super) use obtain::{cached, intact};
pub(super) use prove::sweep as sweep_damaged;

use super::Bad;
use super::run::{Run, passed};
use crate::check::ladder::Rung;
use crate::event::{EventKind, Owner, Stage};
use crate::plan::model::Restore;
use crate::restore::{Job, Site};
use crate::staging::Blueprint;
use crate::state::{Base, Frozen};

/// The fact of a base that says how old a restore's data is.
const AS_OF: &str = "as-of.";
/// The fact of a base that says how many seconds a restore took.
const SECONDS: &str = "seconds.";
/// What a restore told that later examinations need.
const TOLD: &str = "told.";

/// Runs the stage.
pub(super) async fn run(run: &mut Run) -> Result<(), Bad> {
    let restores = run.order.plan.restores.clone();
    let groups = groups(&restores);
    let started = Instant::now();
    let jobs = run.order.plan.limits.restore_jobs;
    let obtained: Vec<Result<Obtained, Bad>> = {
        let run = &*run;
        let works: Vec<_> = groups
            .iter()
            .map(|group| obtain(run, &restores, group))
            .collect();
        // All are heard, also when one goes wrong: the nightly reader wants to know of each backup.
        futures_util::stream::iter(works)
            .buffered(jobs.max(1))
            .collect()
            .await
    };
    let mut bad = None;
    let mut restored_anything = false;
    let mut there: Vec<Group> = Vec::new();
    for (group, obtained) in groups.iter().zip(obtained) {
        match obtained {
            Ok(Obtained { base, reused }) => {
                restored_anything |= !reused;
                there.push(group.clone());
                take(run, &base, reused);
                for member in &group.members {
                    tell(run, *member, &base, reused);
                    worst(&mut bad, age::judge(run, *member, &base.facts));
                }
            }
            Err(error) => worst(&mut bad, Err(error)),
        }
    }
    if restored_anything {
        run.recorder.emit(EventKind::Measured {
            what: "restore".to_owned(),
            seconds: started.elapsed().as_secs_f64(),
        });
    }
    let images = images(run, &restores);
    for member in images.iter().flat_map(|group| &group.members) {
        worst(&mut bad, tell_of_image(run, *member));
    }
    // Where a restore went wrong there is nothing to examine.
    there.extend(images);
    worst(&mut bad, examine::all(run, &there).await);
    if run.order.prove && bad.is_none() {
        worst(&mut bad, prove::all(run, &groups).await);
    }
    bad.map_or(Ok(()), Err)
}

/// Keeps what ends the judgement: somebody else's trouble before the backup's fault, and the first of each.
pub(super) fn worst(kept: &mut Option<Bad>, result: Result<(), Bad>) {
    let Err(bad) = result else { return };
    let replaces = kept
        .as_ref()
        .is_none_or(|kept| kept.owner == Owner::Backup && bad.owner != Owner::Backup);
    if replaces {
        *kept = Some(bad);
    }
}

/// What the services' volumes branch from, from now on.
fn take(run: &mut Run, base: &Base, reused: bool) {
    for (name, facts) in &base.volumes {
        run.recorder.emit(EventKind::Base {
            key: base.key.as_str().to_owned(),
            volume: name.clone(),
            reused,
        });
        run.frozen.insert(name.clone(), Frozen::of(facts));
    }
    run.bases.push(base.clone());
}

/// Says of one backup what its restore told.
fn tell(run: &Run, member: usize, base: &Base, reused: bool) {
    let restore = &run.order.plan.restores[member];
    let facts = &run.backups[member];
    let seconds = base.facts.get(&format!("{SECONDS}{}", restore.name));
    run.recorder.emit(EventKind::BackupRestored {
        restore: restore.name.clone(),
        format: facts.format.name().to_owned(),
        size: facts.size,
        seconds: seconds.and_then(|text| text.parse().ok()).unwrap_or(0.0),
        as_of: age::of(restore, facts, &base.facts).map(|age| age.as_of),
        reused,
        base: Some(base.key.as_str().to_owned()),
    });
}

/// The restores that became images when the images were made.
fn images(run: &Run, restores: &[Restore]) -> Vec<Group> {
    let group = |member: &usize| Group {
        target: restores[*member].into.clone(),
        members: vec![*member],
    };
    run.imported.keys().map(group).collect()
}

/// Says of one root filesystem what its import told.
fn tell_of_image(run: &Run, member: usize) -> Result<(), Bad> {
    let (restore, facts) = (&run.order.plan.restores[member], &run.backups[member]);
    let Some(imported) = run.imported.get(&member) else {
        return Ok(());
    };
    let (figure, seconds) = if imported.reused {
        ("an identical earlier restore is used again".to_owned(), 0.0)
    } else {
        let reference = crate::restore::rootfs::reference(facts);
        (format!("imported as {reference}"), imported.seconds)
    };
    let name = examine::name(restore, Rung::Restores);
    let case = passed(Stage::Restore, name, seconds, Some(figure));
    run.case(Stage::Restore, case);
    let told = BTreeMap::new();
    run.recorder.emit(EventKind::BackupRestored {
        restore: restore.name.clone(),
        format: facts.format.name().to_owned(),
        size: facts.size,
        seconds,
        as_of: age::of(restore, facts, &told).map(|age| age.as_of),
        reused: imported.reused,
        base: None,
    });
    age::judge(run, member, &told)
}

fn site(run: &Run) -> Result<Site<'_>, Bad> {
    Ok(Site {
        staging: run.staging()?,
        secrets: &run.order.secrets,
        limit: run.order.plan.limits.restore,
    })
}

fn job(run: &Run, member: usize) -> Job<'_> {
    Job {
        restore: &run.order.plan.restores[member],
        facts: &run.backups[member],
        source: run.sources.get(&member),
        image: run.tools.get(&member).map(String::as_str),
    }
}

fn blueprint(run: &Run, service: &str) -> Result<Blueprint, Bad> {
    run.staging()?
        .blueprints()
        .into_iter()
        .find(|blueprint| blueprint.service.name == service)
        .ok_or_else(super::run::out_of_order)
}
