//! The negative control of a backup check: damaged copies of each backup go the same way, and each must be seen to be
//! bad. A check that lets one of them pass has shown nothing, and makes the run invalid.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use super::examine::{Exhibit, findings};
use super::group::{Group, volumes_of};
use super::{Run, blueprint, job, site};
use crate::backup::damage::{Damage, Damaged, damage};
use crate::backup::{BackupFacts, inspect};
use crate::check::ladder::{SEEN_TO_BE_BAD, Seen};
use crate::event::{CaseStatus, Owner, Stage};
use crate::plan::model::Target;
use crate::restore::{Ended, Job, into_service, into_volume, timed};
use crate::stage::run::{not_passed, passed};
use crate::stage::{preflight, recorded};
use crate::staging::Bad;
use crate::state::{BaseKey, Frozen};

/// What became of a damaged copy.
enum Control {
    /// It was seen to be bad: how.
    Seen(String),
    /// It passed.
    Missed(String),
    /// Somebody else's trouble hid what would have become of it.
    Hidden(Bad),
}

/// Feeds damaged copies of every backup.
pub(super) async fn all(run: &Run, groups: &[Group]) -> Result<(), Bad> {
    let scratch = tempfile::Builder::new()
        .prefix("damaged-")
        .tempdir_in(&run.order.dir)
        .map_err(|error| cannot(&run.order.dir, &error))?;
    let mut bad = None;
    for (member, restore) in run.order.plan.restores.iter().enumerate() {
        let group = groups.iter().find(|group| group.members.contains(&member));
        for kind in Damage::ALL {
            let into = tempfile::tempdir_in(scratch.path())
                .map_err(|error| cannot(scratch.path(), &error))?;
            let begun = Instant::now();
            let name = format!("{}: {}{SEEN_TO_BE_BAD}", restore.name, kind.name());
            let facts = run.backups[member].clone();
            let recorded = recorded::is_recorded(run, member);
            let folder = into.path().to_owned();
            let made = tokio::task::spawn_blocking(move || damage(&facts, kind, &folder, recorded))
                .await
                .map_err(|panic| {
                    Bad::new(Owner::Engine, format!("damaging a copy broke off: {panic}"))
                })?
                .map_err(|error| cannot(into.path(), &error))?;
            let (copy, done) = match made {
                Damaged::Made(copy, done) => (copy, done),
                Damaged::Impossible(why) => {
                    let case = not_passed(Stage::Restore, name, CaseStatus::Skipped, 0.0, why);
                    run.case(Stage::Restore, case);
                    continue;
                }
            };
            let control = one(run, group, member, &copy).await?;
            let seconds = begun.elapsed().as_secs_f64();
            let (case, result) = match control {
                Control::Seen(how) => {
                    let figure = Some(format!("{done}: {how}"));
                    (passed(Stage::Restore, name, seconds, figure), Ok(()))
                }
                Control::Missed(what) => {
                    let reason = format!("{done}: {what}");
                    let why = format!("{}: {} passed ({done})", restore.name, kind.name());
                    (
                        not_passed(Stage::Restore, name, CaseStatus::Error, seconds, reason),
                        Err(Bad::new(Owner::Staging, format!("the check itself is not valid: {why}"))
                            .with_help(
                                "record the backup's digest (`checksum:`, `manifest:`), say how many rows there are (`expect:`), or use a format with checksums",
                            )),
                    )
                }
                Control::Hidden(trouble) => (
                    not_passed(
                        Stage::Restore,
                        name,
                        CaseStatus::Error,
                        seconds,
                        format!("{done}: could not be determined: {trouble}"),
                    ),
                    Err(trouble),
                ),
            };
            run.case(Stage::Restore, case);
            super::worst(&mut bad, result);
        }
    }
    bad.map_or(Ok(()), Err)
}

/// What becomes of one damaged copy.
async fn one(run: &Run, group: Option<&Group>, member: usize, copy: &Path) -> Result<Control, Bad> {
    let restore = &run.order.plan.restores[member];
    let wanted = preflight::wanted(&restore.method);
    let path = copy.to_owned();
    let read = tokio::task::spawn_blocking(move || inspect(&path, wanted))
        .await
        .map_err(|panic| {
            Bad::new(
                Owner::Engine,
                format!("reading a backup broke off: {panic}"),
            )
        })?;
    let facts = match read {
        Ok(facts) => facts,
        Err(error) if error.is_backup_fault() => return Ok(Control::Seen(error.to_string())),
        Err(error) => return Ok(Control::Hidden(Bad::new(Owner::Engine, error.to_string()))),
    };
    if let Err(bad) = recorded::judge(run, member, &facts) {
        return Ok(decided(bad));
    }
    let Some(group) = group else {
        return Ok(Control::Missed(
            "it was read without an error, and importing it looks no further".to_owned(),
        ));
    };
    restored(run, group, member, &facts).await
}

fn decided(bad: Bad) -> Control {
    if bad.owner == Owner::Backup {
        Control::Seen(bad.reason)
    } else {
        Control::Hidden(bad)
    }
}

/// Restores the group with the damaged copy in its place, and examines what came of it. Nothing of it lasts.
async fn restored(
    run: &Run,
    group: &Group,
    member: usize,
    facts: &BackupFacts,
) -> Result<Control, Bad> {
    let site = site(run)?;
    let staging = site.staging;
    let before = staging
        .ground
        .engine
        .resources_of(staging.ground.names.run())
        .await?;
    // Its content address is its own: a damaged copy can never become the base of the backup.
    let key = BaseKey::of(&[
        "damaged",
        &group.label(),
        &facts.sha256,
        staging.ground.names.run(),
    ]);
    let jobs: Vec<Job<'_>> = group
        .members
        .iter()
        .map(|other| {
            let job = job(run, *other);
            if *other == member {
                Job { facts, ..job }
            } else {
                job
            }
        })
        .collect();
    let mut volumes = BTreeMap::new();
    for name in volumes_of(run, group)? {
        let opened = staging.bases.open(&key, &name).await?;
        volumes.insert(name, opened);
    }
    let (service, ended) = match &group.target {
        Target::Service(service) | Target::Image(service) => {
            let blueprint = blueprint(run, service)?;
            let made = into_service(site, blueprint.clone(), &volumes, &jobs).await;
            (Some(blueprint), made.map(|made| made.ended))
        }
        Target::Volume(_) => {
            let mut ended: Vec<Ended> = Vec::new();
            for job in &jobs {
                for volume in volumes.values() {
                    ended.push(timed(into_volume(site, volume, *job)).await);
                }
            }
            (None, Ok(ended))
        }
    };
    let mut told = Vec::new();
    let mut control = None;
    match ended {
        Err(bad) => control = Some(decided(bad)),
        Ok(all) => {
            for ended in all {
                match ended.result {
                    Ok(one) => told.push(one.facts),
                    Err(bad) => {
                        control = Some(decided(bad));
                        break;
                    }
                }
            }
        }
    }
    let control = match control {
        Some(control) => control,
        None => {
            let mut frozen = run.frozen.clone();
            frozen.extend(
                volumes
                    .iter()
                    .map(|(name, facts)| (name.clone(), Frozen::of(facts))),
            );
            let exhibit = Exhibit {
                label: format!("damaged-{}", group.label()),
                service,
                frozen,
                jobs: jobs.into_iter().zip(told).collect(),
            };
            judged(findings(run, exhibit).await?)
        }
    };
    let engine = &staging.ground.engine;
    engine
        .remove_since(staging.ground.names.run(), &before)
        .await?;
    for volume in volumes.values() {
        engine.remove_volume(&volume.name).await?;
    }
    Ok(control)
}

/// What the ladder says of a damaged copy.
fn judged(findings: Vec<Vec<crate::check::ladder::Finding>>) -> Control {
    let all: Vec<_> = findings.into_iter().flatten().collect();
    for finding in &all {
        if let Seen::Broken(reason) = &finding.seen {
            return Control::Seen(format!("{}: {reason}", finding.rung));
        }
    }
    for finding in all {
        if let Seen::Unknown(reason, help) = finding.seen {
            let bad = Bad::new(Owner::Staging, reason);
            return Control::Hidden(match help {
                Some(help) => bad.with_help(help),
                None => bad,
            });
        }
    }
    Control::Missed("it was restored, and every rung of the ladder held or was skipped".to_owned())
}

fn cannot(folder: &Path, error: &std::io::Error) -> Bad {
    Bad::new(
        Owner::Engine,
        format!(
            "cannot make a damaged copy in `{}`: {error}",
            folder.display()
        ),
    )
    .with_help(
        "`--prove` needs room for a copy of the largest backup in the report folder (--report-dir)",
    )
}
