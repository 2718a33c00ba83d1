//! The negative control of a backup check: damaged copies of each backup go the same way, and each must be seen to be
//! bad. A check that lets one of them pass has shown nothing, and makes the run invalid.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::examine::{Exhibit, findings};
use super::group::{Group, volumes_of};
use super::obtain::within;
use super::{Run, blueprint, job, site};
use crate::backup::damage::{Damage, Damaged, damage};
use crate::backup::{BackupFacts, inspect};
use crate::check::ladder::{SEEN_TO_BE_BAD, Seen};
use crate::engine::OwnerId;
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

/// Begins the names of the folders with damaged copies; what follows says which process uses it.
const SCRATCH: &str = "damaged-";

/// Removes the damaged copies that dead runs left below a folder of reports: nothing but they needs so much room. What
/// cannot be removed stays for the next run, or for whoever may.
pub(in crate::stage) fn sweep(reports: &Path) -> usize {
    let below = |folder: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    let is_left = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str());
        let owner = name
            .and_then(|name| name.strip_prefix(SCRATCH))
            .and_then(|name| name.rsplit_once('.'));
        owner.is_some_and(|(owner, _)| OwnerId::is_gone_by_name(owner))
    };
    below(reports)
        .iter()
        .filter(|run| run.is_dir())
        .flat_map(|run| below(run))
        .filter(|path| is_left(path) && std::fs::remove_dir_all(path).is_ok())
        .count()
}

/// Feeds damaged copies of every backup.
pub(super) async fn all(run: &Run, groups: &[Group]) -> Result<(), Bad> {
    let scratch = tempfile::Builder::new()
        .prefix(&format!("{SCRATCH}{}.", OwnerId::current().in_a_name()))
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

/// What becomes of one damaged copy. A digest that was recorded shows every difference; past it the rest of the check
/// has to show what it sees, or it has never been tried.
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
        Err(error) if error.is_backup_fault() => {
            return Ok(Control::Seen(format!("by reading it: {error}")));
        }
        Err(error) => return Ok(Control::Hidden(Bad::new(Owner::Engine, error.to_string()))),
    };
    let by_digest = match recorded::judge(run, member, &facts) {
        Ok(()) => false,
        Err(bad) => match decided(bad) {
            Control::Seen(_) => true,
            other @ (Control::Missed(_) | Control::Hidden(_)) => return Ok(other),
        },
    };
    let past = match group {
        Some(group) => restored(run, group, member, &facts).await?,
        None => Control::Missed(
            "it was read without an error, and importing it looks no further".to_owned(),
        ),
    };
    Ok(if by_digest {
        Control::Seen(with_digest(past))
    } else {
        past
    })
}

/// How a copy was seen whose recorded digest is another one.
fn with_digest(past: Control) -> String {
    match past {
        Control::Seen(how) => format!("by its recorded digest, and past it {how}"),
        Control::Missed(what) => format!("only by its recorded digest: {what}"),
        Control::Hidden(trouble) => format!(
            "by its recorded digest; what else would have seen it could not be determined: {trouble}"
        ),
    }
}

/// What an end of the restore means for the control. That a limit was over shows nothing of the damage, also where it is
/// the backup's fault that its restore takes long.
fn decided(bad: Bad) -> Control {
    if bad.overrun {
        return Control::Hidden(Bad {
            owner: match bad.owner {
                Owner::Backup => Owner::Staging,
                other => other,
            },
            ..bad
        });
    }
    if bad.owner == Owner::Backup {
        Control::Seen(format!("by restoring it: {}", bad.reason))
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
                    let work = into_volume(site, volume, *job);
                    ended.push(timed(within(run, job.restore, work)).await);
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
            return Control::Seen(format!("by examining it: {}: {reason}", finding.rung));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn said(control: &Control) -> (&'static str, Option<Owner>) {
        match control {
            Control::Seen(_) => ("seen", None),
            Control::Missed(_) => ("missed", None),
            Control::Hidden(bad) => ("hidden", Some(bad.owner)),
        }
    }

    #[test]
    fn a_restore_over_its_time_is_not_seen_to_be_bad() {
        let limit = std::time::Duration::from_secs(1);
        for (key, owner) in [
            ("limits.restore", Owner::Backup),
            ("limits.examine", Owner::Staging),
        ] {
            let bad = crate::restore::Deadline::of(limit, key).overrun("the restore");
            assert_eq!(bad.owner, owner, "{key}");
            assert_eq!(said(&decided(bad)), ("hidden", Some(Owner::Staging)));
        }
        // It is known by its type: a tool may use the same words.
        let words = "the restore did not end within 1 s (limits.restore)";
        assert_eq!(
            said(&decided(Bad::new(Owner::Backup, words))),
            ("seen", None)
        );
        let engine = Bad::new(Owner::Engine, words);
        assert_eq!(said(&decided(engine)), ("hidden", Some(Owner::Engine)));
    }

    #[test]
    fn past_a_recorded_digest_it_says_what_else_sees_it() {
        for (past, words) in [
            (
                Control::Seen("by restoring it: x".into()),
                "and past it by restoring it: x",
            ),
            (Control::Missed("x".into()), "only by its recorded digest"),
            (
                Control::Hidden(Bad::new(Owner::Engine, "x")),
                "could not be determined: x",
            ),
        ] {
            let figure = with_digest(past);
            assert!(figure.contains(words), "{figure}");
        }
    }

    #[test]
    fn only_the_copies_of_dead_runs_are_swept() {
        let reports = tempfile::tempdir().unwrap();
        let run = reports.path().join("site-1");
        let me = OwnerId::current().in_a_name();
        // The same process id, started at another time.
        let dead = format!("{me}1");
        let names = [
            (format!("{SCRATCH}{me}.aaaaaa"), true),
            (format!("{SCRATCH}{dead}.aaaaaa"), false),
            (format!("{SCRATCH}0000000000000000-1-1.aaaaaa"), true),
            (format!("{SCRATCH}aaaaaa"), true),
            (format!("logs-{dead}.aaaaaa"), true),
        ];
        for (name, _) in &names {
            std::fs::create_dir_all(run.join(name)).unwrap();
            std::fs::write(run.join(name).join("copy"), "x").unwrap();
        }
        assert_eq!(sweep(reports.path()), 1);
        for (name, stays) in &names {
            assert_eq!(run.join(name).exists(), *stays, "{name}");
        }
        assert_eq!(sweep(&reports.path().join("none")), 0);
    }
}
