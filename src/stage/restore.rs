//! Restores each backup into a base, or takes the base of an identical earlier restore; judges the age of the data.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::Bad;
use super::run::{Run, not_passed, passed};
use crate::event::{CaseStatus, EventKind, Owner, Stage};
use crate::package::{TarOptions, tar_folder};
use crate::plan::model::{Restore, RestoreTarget};
use crate::restore::{BackupFacts, postgres, volume};
use crate::staging::{Blueprint, Staging};
use crate::state::{Base, BaseKey, Frozen};

/// The fact of a base that says how old a restore's data is.
const AS_OF: &str = "as-of.";

/// Restores that fill the same volumes and so make one base together.
enum Group {
    /// All databases of one service.
    Service {
        service: String,
        members: Vec<usize>,
    },
    /// One archive.
    Volume { volume: String, member: usize },
}

/// Runs the stage.
pub(super) async fn run(run: &mut Run) -> Result<(), Bad> {
    let restores = run.order.plan.restores.clone();
    let started = Instant::now();
    let mut restored_anything = false;
    for group in groups(&restores) {
        let (base, reused) = obtain(run, &restores, &group).await?;
        restored_anything |= !reused;
        for (name, facts) in &base.volumes {
            run.recorder.emit(EventKind::Base {
                key: base.key.as_str().to_owned(),
                volume: name.clone(),
                reused,
            });
            run.frozen.insert(name.clone(), Frozen::of(facts));
        }
        let members = match &group {
            Group::Service { members, .. } => members.clone(),
            Group::Volume { member, .. } => vec![*member],
        };
        for member in members {
            judge_age(run, &restores[member], &run.backups[member], &base)?;
        }
    }
    if restored_anything {
        run.recorder.emit(EventKind::Measured {
            what: "restore".to_owned(),
            seconds: started.elapsed().as_secs_f64(),
        });
    }
    Ok(())
}

fn groups(restores: &[Restore]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (index, restore) in restores.iter().enumerate() {
        match &restore.target {
            RestoreTarget::Archive { volume } => groups.push(Group::Volume {
                volume: volume.clone(),
                member: index,
            }),
            RestoreTarget::Postgres { service, .. } => {
                let known = groups.iter_mut().find_map(|group| match group {
                    Group::Service {
                        service: other,
                        members,
                    } if other == service => Some(members),
                    Group::Service { .. } | Group::Volume { .. } => None,
                });
                match known {
                    Some(members) => members.push(index),
                    None => groups.push(Group::Service {
                        service: service.clone(),
                        members: vec![index],
                    }),
                }
            }
        }
    }
    groups
}

/// The content address of what a group restores.
fn key(run: &Run, restores: &[Restore], group: &Group) -> Result<BaseKey, Bad> {
    match group {
        Group::Volume { volume, member } => {
            let facts = &run.backups[*member];
            Ok(BaseKey::of(&["archive", volume, &facts.sha256]))
        }
        Group::Service { service, members } => {
            service_key(run, restores, members, &blueprint(run, service)?)
        }
    }
}

fn blueprint(run: &Run, service: &str) -> Result<Blueprint, Bad> {
    run.staging()?
        .blueprints()
        .into_iter()
        .find(|blueprint| blueprint.service.name == service)
        .ok_or_else(super::run::out_of_order)
}

/// What the volumes branch from, if every restore of this run was made before; `None` where one has to be made.
pub(super) async fn cached(run: &Run) -> Result<Option<BTreeMap<String, Frozen>>, Bad> {
    let restores = &run.order.plan.restores;
    let mut frozen = BTreeMap::new();
    for group in groups(restores) {
        let key = key(run, restores, &group)?;
        let Some(base) = run.staging()?.bases.find(&key).await? else {
            return Ok(None);
        };
        for (name, facts) in &base.volumes {
            frozen.insert(name.clone(), Frozen::of(facts));
        }
    }
    Ok(Some(frozen))
}

async fn obtain(run: &Run, restores: &[Restore], group: &Group) -> Result<(Base, bool), Bad> {
    let staging = run.staging()?;
    let key = key(run, restores, group)?;
    let members: &[usize] = match group {
        Group::Volume { member, .. } => std::slice::from_ref(member),
        Group::Service { members, .. } => members,
    };
    if let Some(base) = staging.bases.find(&key).await? {
        for member in members {
            reused(run, &restores[*member]);
        }
        return Ok((base, true));
    }
    match group {
        Group::Volume { volume, member } => {
            let (restore, facts) = (&restores[*member], &run.backups[*member]);
            let into = staging.bases.open(&key, volume).await?;
            let begun = Instant::now();
            let limit = run.order.plan.limits.restore;
            let filled = within(limit, restore, volume::fill(staging, &into.name, facts)).await;
            report(run, restore, begun, filled)?;
            let volumes = BTreeMap::from([(volume.clone(), into)]);
            let known = facts_of(&[(restore, facts, None)]);
            let base = staging.bases.seal(&key, volumes, known).await?;
            Ok((base, false))
        }
        Group::Service { service, members } => {
            let blueprint = blueprint(run, service)?;
            restore_service(run, staging, restores, members, blueprint, &key).await
        }
    }
}

async fn restore_service(
    run: &Run,
    staging: &Staging,
    restores: &[Restore],
    members: &[usize],
    blueprint: Blueprint,
    key: &BaseKey,
) -> Result<(Base, bool), Bad> {
    // Volumes that an archive is restored into are not the database's own.
    let archives: Vec<&str> = restores
        .iter()
        .filter_map(|restore| match &restore.target {
            RestoreTarget::Archive { volume } => Some(volume.as_str()),
            RestoreTarget::Postgres { .. } => None,
        })
        .collect();
    let mut volumes = BTreeMap::new();
    for (name, _) in blueprint.service.volumes_with(&blueprint.facts) {
        if !archives.contains(&name.as_str()) {
            let opened = staging.bases.open(key, &name).await?;
            volumes.insert(name, opened);
        }
    }
    if volumes.is_empty() {
        return Err(Bad::new(
            Owner::Stack,
            format!(
                "service `{}` has no volume in which a restored database would last",
                blueprint.service.name
            ),
        )
        .with_help("give it a named volume at its data folder"));
    }
    let backups: Vec<(&Restore, &BackupFacts)> = members
        .iter()
        .map(|member| (&restores[*member], &run.backups[*member]))
        .collect();
    let mut server = postgres::Server::start(staging, blueprint, &volumes, &backups).await?;
    let mut known = Vec::new();
    let mut outcome = Ok(());
    for (index, (restore, facts)) in backups.iter().enumerate() {
        let begun = Instant::now();
        let limit = run.order.plan.limits.restore;
        let result = server.restore(staging, index, restore, facts, limit).await;
        match result {
            Ok(as_of) => {
                report(run, restore, begun, Ok(()))?;
                known.push((*restore, *facts, as_of));
            }
            Err(bad) => {
                outcome = report(run, restore, begun, Err(bad));
                break;
            }
        }
    }
    let log = server.log(staging).await;
    let folder = run.order.dir.join("logs");
    // The log is evidence; that it cannot be kept must not hide what the restore said.
    if let (Ok(()), Ok(text)) = (tokio::fs::create_dir_all(&folder).await, log) {
        let name = format!("restore-{}.log", server.service());
        let _ = tokio::fs::write(folder.join(name), text).await;
    }
    outcome?;
    server.stop_cleanly(staging).await?;
    let base = staging.bases.seal(key, volumes, facts_of(&known)).await?;
    Ok((base, false))
}

/// Everything that decides what the restore of a service's databases produces.
fn service_key(
    run: &Run,
    restores: &[Restore],
    members: &[usize],
    blueprint: &Blueprint,
) -> Result<BaseKey, Bad> {
    let mut parts = vec!["postgres".to_owned(), blueprint.facts.id.clone()];
    let service = &blueprint.service;
    parts.push(format!("{:?}", (&service.command, &service.entrypoint)));
    parts.push(format!("{:?}", (&service.user, &service.environment)));
    parts.push(format!("{:?}", service.volumes));
    for file in &service.files {
        // A folder as well as a file: what its init scripts make is part of what the restore produces.
        let packed = tar_folder(&file.source, Vec::new(), &TarOptions::default())
            .map_err(|error| Bad::new(Owner::Stack, error.to_string()))?;
        parts.push(format!("{} {}", file.target, crate::digest::sha256(packed)));
    }
    for member in members {
        if let RestoreTarget::Postgres {
            database,
            user,
            data_as_of,
            ..
        } = &restores[*member].target
        {
            parts.push(format!("{database} {user} {data_as_of:?}"));
            parts.push(run.backups[*member].sha256.clone());
        }
    }
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    Ok(BaseKey::of(&parts))
}

fn facts_of(known: &[(&Restore, &BackupFacts, Option<Timestamp>)]) -> BTreeMap<String, String> {
    known
        .iter()
        .filter_map(|(restore, _, as_of)| {
            Some((format!("{AS_OF}{}", restore.name), (*as_of)?.to_string()))
        })
        .collect()
}

async fn within(
    limit: Duration,
    restore: &Restore,
    work: impl Future<Output = Result<(), Bad>>,
) -> Result<(), Bad> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        Err(Bad::new(
            Owner::Backup,
            format!(
                "the restore of {} did not end within {} s (limits.restore)",
                restore.name,
                limit.as_secs()
            ),
        ))
    })
}

fn reused(run: &Run, restore: &Restore) {
    run.case(
        Stage::Restore,
        passed(
            Stage::Restore,
            restored(restore),
            0.0,
            Some("an identical earlier restore is used again".to_owned()),
        ),
    );
}

fn restored(restore: &Restore) -> String {
    format!("{}: restores without errors", restore.name)
}

fn report(
    run: &Run,
    restore: &Restore,
    begun: Instant,
    result: Result<(), Bad>,
) -> Result<(), Bad> {
    let seconds = begun.elapsed().as_secs_f64();
    match result {
        Ok(()) => {
            run.case(
                Stage::Restore,
                passed(Stage::Restore, restored(restore), seconds, None),
            );
            Ok(())
        }
        Err(bad) => {
            let status = if bad.owner == Owner::Backup {
                CaseStatus::Failed
            } else {
                CaseStatus::Error
            };
            let mut case = not_passed(
                Stage::Restore,
                restored(restore),
                status,
                seconds,
                &bad.reason,
            );
            case.location = Some(restore.location.to_string());
            run.case(Stage::Restore, case);
            Err(bad)
        }
    }
}

/// Judges `max_age` by the data: a query, else what the backup says of itself. The file's own time says when
/// somebody copied it, so it is never asked.
fn judge_age(run: &Run, restore: &Restore, facts: &BackupFacts, base: &Base) -> Result<(), Bad> {
    let Some(max_age) = restore.max_age else {
        return Ok(());
    };
    let name = format!("{}: the data is fresh", restore.name);
    let queried = base
        .facts
        .get(&format!("{AS_OF}{}", restore.name))
        .and_then(|text| text.parse::<Timestamp>().ok())
        .map(|as_of| (as_of, "by data_as_of", CLOCKS));
    let made = facts
        .dump
        .as_ref()
        .and_then(|dump| dump.made_local)
        .and_then(|local| local.to_zoned(jiff::tz::TimeZone::UTC).ok())
        .map(|zoned| {
            (
                zoned.timestamp(),
                "by the dump's own clock, taken for UTC",
                ZONES,
            )
        });
    let newest = facts
        .newest
        .map(|newest| (newest, "by the newest file in the archive", CLOCKS));
    let Some((as_of, how, tolerated)) = queried.or(made).or(newest) else {
        let reason = format!(
            "the age of {} cannot be told: the backup does not say when it was made",
            restore.name
        );
        run.case(
            Stage::Restore,
            not_passed(Stage::Restore, name, CaseStatus::Error, 0.0, &reason),
        );
        return Err(Bad::new(Owner::Staging, reason).with_help(
            "give the restore a `data_as_of:` query for the time of the newest row, or leave `max_age` out",
        ));
    };
    let age = Timestamp::now().duration_since(as_of);
    if age < -tolerated {
        let reason = format!(
            "the data of {} says that it is of {as_of:.0}, which is in the future ({how}): its age cannot be trusted",
            restore.name
        );
        run.case(
            Stage::Restore,
            not_passed(Stage::Restore, name, CaseStatus::Failed, 0.0, &reason),
        );
        return Err(Bad::new(Owner::Backup, reason).with_help(
            "look at the clock of the machine that made it, or at the newest rows or files",
        ));
    }
    let limit = jiff::SignedDuration::try_from(max_age).unwrap_or(jiff::SignedDuration::MAX);
    let figure = format!("data of {as_of:.0}, {} old, {how}", round(age));
    if age <= limit {
        run.case(
            Stage::Restore,
            passed(Stage::Restore, name, 0.0, Some(figure)),
        );
        return Ok(());
    }
    let reason = format!(
        "the data of {} is {} old, more than max_age {} ({how})",
        restore.name,
        round(age),
        round(limit)
    );
    let mut case = not_passed(Stage::Restore, name, CaseStatus::Failed, 0.0, &reason);
    case.mismatches.push(crate::event::Mismatch {
        what: "age".to_owned(),
        expected: format!("at most {}", round(limit)),
        seen: figure,
    });
    case.location = Some(restore.location.to_string());
    run.case(Stage::Restore, case);
    Err(Bad::new(Owner::Backup, reason).with_help("look at the job that makes the backup"))
}

/// Two clocks may differ by this and still be called right.
const CLOCKS: jiff::SignedDuration = jiff::SignedDuration::from_mins(10);

/// A dump's own clock shows local time without its zone, which may be this far ahead of UTC.
const ZONES: jiff::SignedDuration = jiff::SignedDuration::from_hours(14);

/// In the two largest units that matter to a person.
fn round(age: jiff::SignedDuration) -> String {
    let minutes = age.as_mins();
    match minutes {
        ..=119 => format!("{minutes} min"),
        120..=2879 => format!("{} h", minutes / 60),
        _ => format!("{} d {} h", minutes / 1440, minutes % 1440 / 60),
    }
}
