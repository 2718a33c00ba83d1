//! A group's base: found, waited for, or restored.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use super::examine;
use super::group::{Group, groups, key, keys, volumes_of};
use super::{AS_OF, SECONDS, TOLD, blueprint, job, site};
use crate::check::ladder::Rung;
use crate::engine::{Resource, VolumeFacts};
use crate::event::{CaseStatus, Owner, Stage};
use crate::plan::model::{Restore, Target};
use crate::restore::{Ended, Job, Site, Told};
use crate::stage::run::{Run, not_passed, passed};
use crate::staging::Bad;
use crate::state::{Base, BaseKey, Claim, Frozen, Obtain};

/// What became of a group.
pub(super) struct Obtained {
    pub(super) base: Base,
    pub(super) reused: bool,
}

/// What the volumes branch from, if every restore of this run was made before; `None` where one has to be made. Whether
/// they still are what was restored is for [`intact`] to say.
pub(in crate::stage) async fn cached(run: &Run) -> Result<Option<BTreeMap<String, Frozen>>, Bad> {
    let promised = run.staging()?.bases.promised(&keys(run)?).await?;
    Ok(promised.map(|volumes| {
        let frozen = volumes.iter();
        frozen
            .map(|(name, facts)| (name.clone(), Frozen::of(facts)))
            .collect()
    }))
}

/// Whether all bases of this run are there and untouched. The restore stage need not look again.
pub(in crate::stage) async fn intact(run: &Run) -> Result<bool, Bad> {
    let keys = keys(run)?;
    let bases = run.staging()?.bases.intact(&keys).await?;
    let restores = &run.order.plan.restores;
    let limit = run.order.plan.limits.restore;
    let mut groups = groups(restores).into_iter().zip(&keys);
    Ok(groups.all(|(group, key)| {
        let base = bases.get(key);
        base.is_some_and(|base| too_slow(&group, restores, base, limit).is_none())
    }))
}

/// The base of a group.
pub(super) async fn obtain(
    run: &Run,
    restores: &[Restore],
    group: &Group,
) -> Result<Obtained, Bad> {
    let bases = &run.staging()?.bases;
    let key = key(run, group)?;
    let claim = match claim(run, restores, group, &key).await? {
        Obtain::Ready(base) => {
            for member in &group.members {
                reused(run, &restores[*member], &base);
            }
            return Ok(Obtained { base, reused: true });
        }
        Obtain::Restore(claim) => claim,
    };
    let made = make(run, restores, group, &key, &claim).await;
    // Whoever waits goes on: with this base, or with a restore of its own, whose verdict has its own evidence.
    let released = claim.release(bases).await;
    let base = made?;
    released?;
    Ok(Obtained {
        base,
        reused: false,
    })
}

/// The base, or the right to restore it. Another run may have that right for as long as it may restore itself.
async fn claim(
    run: &Run,
    restores: &[Restore],
    group: &Group,
    key: &BaseKey,
) -> Result<Obtain, Bad> {
    let each = run.order.plan.limits.restore;
    let members = u32::try_from(group.members.len()).unwrap_or(u32::MAX);
    let limit = each.saturating_mul(members);
    let ground = run.ground()?;
    let mut last = None;
    let obtained = run.staging()?.bases.obtain(
        key,
        |base| too_slow(group, restores, base, each),
        |news| {
            ground.note(news.to_string());
            last = Some(news);
        },
    );
    match tokio::time::timeout(limit, obtained).await {
        Ok(obtained) => Ok(obtained?),
        Err(_) => {
            let news = last.map_or_else(
                || "the engine did not say whether there is a base".to_owned(),
                |news| news.to_string(),
            );
            Err(Bad::new(
                Owner::Engine,
                format!(
                    "{news}: for more than {} s (limits.restore)",
                    limit.as_secs()
                ),
            ))
        }
    }
}

/// Restores a group into a new base.
async fn make(
    run: &Run,
    restores: &[Restore],
    group: &Group,
    key: &BaseKey,
    claim: &Claim,
) -> Result<Base, Bad> {
    let part = group.part();
    let staging = run.staging()?.part(&part);
    let site = Site {
        staging: &staging,
        ..site(run)?
    };
    let mut logged = false;
    let filled = match &group.target {
        Target::Volume(volume) => fill_volume(run, site, key, volume, &group.members).await,
        Target::Service(service) | Target::Image(service) => {
            fill_service(run, site, key, service, group, &mut logged).await
        }
    };
    // Now, and not at the run's end: the copies of the backups take as much room as what was made of them. What a stage
    // that was broken off leaves is found by the run's label.
    let cleared = clear(run, &part, filled.is_err() && !logged).await;
    let (volumes, told) = match filled {
        Ok(filled) => filled,
        Err(bad) => {
            // What keeps half a restore from being removed is said by the teardown, which tries again.
            if cleared.is_ok() {
                let _ = staging.bases.give_up(key).await;
            }
            return Err(bad);
        }
    };
    cleared?;
    let facts = facts_of(restores, &group.members, told);
    let bases = &run.staging()?.bases;
    Ok(bases.seal(key, volumes, facts, claim).await?)
}

/// Removes what the restores of one group have in the engine besides the base's volumes. The logs of their containers are
/// evidence where they failed: those are saved first, unless the restore gave the server's log itself.
async fn clear(run: &Run, part: &str, save: bool) -> Result<(), Bad> {
    let ground = run.ground()?;
    let left = ground
        .engine
        .resources_of_part(ground.names.run(), part)
        .await?;
    for resource in &left {
        let Resource::Container(name) = resource else {
            continue;
        };
        // A log that cannot be read or kept must not hide what the restore said.
        if save && let Ok(log) = ground.engine.container_log(name, None).await {
            let prefix = ground.names.part(part).of("");
            let own = name.strip_prefix(&prefix).unwrap_or(name);
            keep_log(run, own, &log).await;
        }
    }
    Ok(ground.engine.remove_resources(left).await?)
}

/// Writes a log below the run's folder, behind what a tool of the same name has written. That it cannot be kept must not
/// hide what the restore said.
async fn keep_log(run: &Run, name: &str, log: &str) {
    if log.trim().is_empty() {
        return;
    }
    let folder = run.order.dir.join("logs");
    if tokio::fs::create_dir_all(&folder).await.is_err() {
        return;
    }
    let mut options = tokio::fs::OpenOptions::new();
    options.create(true).append(true);
    if let Ok(mut file) = options.open(folder.join(format!("{name}.log"))).await {
        let log = run.order.mask.text(log.to_owned());
        let _ = file.write_all(log.as_bytes()).await;
        let _ = file.flush().await;
    }
}

type Filled = (BTreeMap<String, VolumeFacts>, Vec<(Told, f64)>);

async fn fill_volume(
    run: &Run,
    site: Site<'_>,
    key: &BaseKey,
    volume: &str,
    members: &[usize],
) -> Result<Filled, Bad> {
    let into = site.staging.bases.open(key, volume).await?;
    let mut told = Vec::new();
    for member in members {
        let job = job(run, *member);
        let work = crate::restore::into_volume(site, &into, job);
        let ended = crate::restore::timed(within(run, job.restore, work)).await;
        told.push(report(run, job.restore, ended)?);
    }
    Ok((BTreeMap::from([(volume.to_owned(), into)]), told))
}

async fn fill_service(
    run: &Run,
    site: Site<'_>,
    key: &BaseKey,
    service: &str,
    group: &Group,
    logged: &mut bool,
) -> Result<Filled, Bad> {
    let blueprint = blueprint(run, service)?;
    let mut volumes = BTreeMap::new();
    for name in volumes_of(run, group)? {
        let opened = site.staging.bases.open(key, &name).await?;
        volumes.insert(name, opened);
    }
    if volumes.is_empty() {
        return Err(Bad::new(
            Owner::Stack,
            format!("service `{service}` has no volume in which a restored database would last"),
        )
        .with_help("give it a named volume at its data folder"));
    }
    let jobs: Vec<Job<'_>> = group
        .members
        .iter()
        .map(|member| job(run, *member))
        .collect();
    let made = crate::restore::into_service(site, blueprint, &volumes, &jobs).await?;
    if let Some(log) = &made.log {
        keep_log(run, &format!("restore-{service}"), log).await;
        *logged = true;
    }
    let mut told = Vec::new();
    for (job, ended) in jobs.iter().zip(made.ended) {
        told.push(report(run, job.restore, ended)?);
    }
    if told.len() < jobs.len() {
        return Err(Bad::new(
            Owner::Engine,
            format!("not every backup of `{service}` was restored (a defect of rehearse)"),
        ));
    }
    Ok((volumes, told))
}

/// What a base remembers of its restores.
fn facts_of(
    restores: &[Restore],
    members: &[usize],
    told: Vec<(Told, f64)>,
) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    for (member, (told, seconds)) in members.iter().zip(told) {
        let name = &restores[*member].name;
        facts.insert(format!("{SECONDS}{name}"), format!("{seconds:.3}"));
        if let Some(as_of) = told.as_of {
            facts.insert(format!("{AS_OF}{name}"), as_of.to_string());
        }
        for (fact, value) in told.facts {
            facts.insert(format!("{TOLD}{name}.{fact}"), value);
        }
    }
    facts
}

/// What a restore comes to within `limits.restore`.
pub(super) async fn within<T>(
    run: &Run,
    restore: &Restore,
    work: impl Future<Output = Result<T, Bad>>,
) -> Result<T, Bad> {
    let limit = run.order.plan.limits.restore;
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        let deadline = crate::restore::Deadline::of(limit, "limits.restore");
        Err(deadline.overrun(&format!("the restore of {}", restore.name)))
    })
}

/// Says that an identical earlier restore serves.
fn reused(run: &Run, restore: &Restore, base: &Base) {
    let name = examine::name(restore, Rung::Restores);
    let took = took(restore, base);
    let figure = format!("an identical earlier restore is used again; it took {took:.1} s");
    let case = passed(Stage::Restore, name, 0.0, Some(figure));
    run.case(Stage::Restore, case);
}

/// The seconds that a restore took when its base was made.
fn took(restore: &Restore, base: &Base) -> f64 {
    let took = base.facts.get(&format!("{SECONDS}{}", restore.name));
    // A base that does not say it of each of its restores says it of all together.
    took.and_then(|text| text.parse().ok())
        .unwrap_or(base.seconds)
}

/// That a restore of a base took longer than the limit is today. A busy machine then says nothing of today: it is restored
/// anew, and what that takes decides.
fn too_slow(group: &Group, restores: &[Restore], base: &Base, limit: Duration) -> Option<String> {
    let mut members = group.members.iter().map(|member| &restores[*member]);
    members.find_map(|restore| over(&restore.name, took(restore, base), limit))
}

fn over(restore: &str, took: f64, limit: Duration) -> Option<String> {
    (took > limit.as_secs_f64()).then(|| {
        format!(
            "the restore of {restore} took {took:.1} s when it was made, more than {} s (limits.restore)",
            limit.as_secs_f64()
        )
    })
}

fn report(run: &Run, restore: &Restore, ended: Ended) -> Result<(Told, f64), Bad> {
    let name = examine::name(restore, Rung::Restores);
    let seconds = ended.seconds;
    match ended.result {
        Ok(told) => {
            let figure = told.figure.clone();
            run.case(
                Stage::Restore,
                passed(Stage::Restore, name, seconds, figure),
            );
            Ok((told, seconds))
        }
        Err(bad) => {
            let status = if bad.owner == Owner::Backup {
                CaseStatus::Failed
            } else {
                CaseStatus::Error
            };
            let mut case = not_passed(Stage::Restore, name, status, seconds, &bad.reason);
            case.location = Some(restore.location.to_string());
            run.case(Stage::Restore, case);
            Err(bad)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_held_to_the_limit_of_today() {
        let seconds = Duration::from_secs;
        for (took, limit, refused) in [
            (9.9, seconds(10), false),
            (10.0, seconds(10), false),
            (10.1, seconds(10), true),
            (0.6, Duration::from_millis(500), true),
        ] {
            let why = over("db/site", took, limit);
            assert_eq!(why.is_some(), refused, "{took} s within {limit:?}");
            if let Some(why) = why {
                assert!(why.contains(&format!("took {took:.1} s")), "{why}");
            }
        }
    }
}
