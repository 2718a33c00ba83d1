//! Climbs the ladder of validity: each restored service is started alone on a branch of its base, asked, written to,
//! stopped and thrown away. The base itself is never touched.
//!
//! A backup check climbs all of it; a rehearsal only the rungs that `require:` names, because its own stages show that
//! staging works.

use std::collections::BTreeMap;
use std::time::Instant;

use super::group::Group;
use super::{Run, TOLD, blueprint, job, site};
use crate::check::ladder::{Finding, Rung, Seen, not_run};
use crate::event::{Case, CaseStatus, Mode, Owner, Stage};
use crate::plan::model::{Family, Restore, Target};
use crate::restore::{self, Job, Site, Subject, Trouble, at_rest, examine};
use crate::stage::run::{not_passed, passed};
use crate::staging::{Bad, Blueprint, Generation, OneShots, StartError, Why};
use crate::state::Frozen;

/// The name of a rung's test case.
pub(super) fn name(restore: &Restore, rung: Rung) -> String {
    format!("{}: {}", restore.name, rung.says())
}

/// Examines everything that was restored.
pub(super) async fn all(run: &Run, groups: &[Group]) -> Result<(), Bad> {
    let mut bad = None;
    for group in groups {
        let wanted = |member: &usize| {
            run.order.mode == Mode::BackupCheck
                || !run.order.plan.restores[*member].demands.require.is_empty()
        };
        if !group.members.iter().any(wanted) {
            continue;
        }
        super::worst(&mut bad, of_group(run, group).await);
    }
    bad.map_or(Ok(()), Err)
}

/// What is examined: one group of restores, wherever they lie.
pub(super) struct Exhibit<'a> {
    /// Part of the names of what is made for it.
    pub(super) label: String,
    /// The service that holds it, for restores into a service.
    pub(super) service: Option<Blueprint>,
    /// What the volumes branch from.
    pub(super) frozen: BTreeMap<String, Frozen>,
    /// Each restore, and what it told.
    pub(super) jobs: Vec<(Job<'a>, BTreeMap<String, String>)>,
}

async fn of_group(run: &Run, group: &Group) -> Result<(), Bad> {
    if let (Target::Image(service), [member]) = (&group.target, group.members.as_slice())
        && !blueprint(run, service)?.service.depends_on.is_empty()
    {
        let alone = Finding::skipped(
            Rung::Starts,
            format!("`{service}` depends on other services: the baseline starts it with them"),
        );
        return report(run, &run.order.plan.restores[*member], vec![alone]);
    }
    let exhibit = Exhibit {
        label: group.label(),
        service: match &group.target {
            Target::Service(service) | Target::Image(service) => Some(blueprint(run, service)?),
            Target::Volume(_) => None,
        },
        frozen: run.frozen.clone(),
        jobs: group
            .members
            .iter()
            .map(|member| (job(run, *member), told(run, *member)))
            .collect(),
    };
    let found = findings(run, exhibit).await?;
    let mut bad = None;
    for (member, findings) in group.members.iter().zip(found) {
        let restore = &run.order.plan.restores[*member];
        super::worst(&mut bad, report(run, restore, findings));
    }
    bad.map_or(Ok(()), Err)
}

/// Climbs the ladder with each restore of an exhibit, on branches that are gone afterwards.
///
/// # Errors
/// When it could not be tried at all.
pub(super) async fn findings(run: &Run, exhibit: Exhibit<'_>) -> Result<Vec<Vec<Finding>>, Bad> {
    let site = Site {
        limit: run.order.plan.limits.examine,
        ..site(run)?
    };
    let staging = site.staging;
    let mut frozen = exhibit.frozen;
    let blueprints: Vec<Blueprint> = exhibit
        .service
        .into_iter()
        .map(|mut alone| {
            // It stands alone: what it depends on in the stack is not there.
            alone.service.depends_on.clear();
            alone
        })
        .collect();
    let empty = crate::stage::provision::empty_volume(run.ground()?).await?;
    for blueprint in &blueprints {
        for (volume, _) in blueprint.service.volumes_with(&blueprint.facts) {
            frozen.entry(volume).or_insert_with(|| empty.clone());
        }
    }
    let begun = Instant::now();
    let name = crate::state::slug(&format!("examine-{}", exhibit.label));
    let prepared = staging
        .prepare(&name, blueprints, &frozen, OneShots::Run)
        .await;
    let started = match prepared {
        Ok(generation) => match staging.start(&generation).await {
            Ok(()) => Ok(generation),
            Err(error) => Err((generation, error)),
        },
        Err(failed) => Err(failed),
    };
    let (generation, start) = match started {
        Ok(generation) => (generation, Ok(())),
        // The same service started on the same image to be restored into: what differs is the data.
        Err((generation, error)) => {
            let bad = not_started(&error, &exhibit.jobs);
            (generation, Err(bad))
        }
    };
    let seconds = begun.elapsed().as_secs_f64();
    let found = climb(&exhibit.jobs, site, &generation, &start, seconds).await;
    run.save_logs(&generation).await?;
    staging.discard(&generation).await?;
    found
}

/// That a server does not start on what was restored. It started on the same image to be restored into, so the data is
/// at fault, unless it lacked memory, room or time. A Redis answers its health check only when it has loaded its data;
/// one that cannot load it ends.
fn not_started(error: &StartError, jobs: &[(Job<'_>, BTreeMap<String, String>)]) -> Bad {
    let redis = jobs
        .iter()
        .any(|(job, _)| job.restore.method.family() == Family::Redis);
    let unhealthy = if redis { Owner::Staging } else { Owner::Backup };
    let operation = "start on what was restored";
    let bad = restore::not_started(error, Owner::Backup, unhealthy, operation);
    // Of a service whose image is a backup: a program that is not there may be the stack's mistake as well as the
    // backup's lack.
    let is_image = jobs
        .iter()
        .any(|(job, _)| matches!(job.restore.into, Target::Image(_)));
    if is_image && without_program(error) {
        return Bad {
            owner: Owner::Staging,
            ..bad.with_help(
                "the backup does not have what the service's `command` names: correct the stack, or look at what was backed up",
            )
        };
    }
    bad
}

fn without_program(error: &StartError) -> bool {
    const SAID: [&str; 2] = ["executable file not found", "no such file or directory"];
    match error {
        StartError::Service { why, log, .. } => {
            *why == (Why::Ended { exit_code: 127 }) || SAID.iter().any(|said| log.contains(said))
        }
        StartError::Engine(error) => SAID.iter().any(|said| error.cause.contains(said)),
    }
}

/// What was found of each restore of an exhibit that was started, or could not be.
async fn climb(
    jobs: &[(Job<'_>, BTreeMap<String, String>)],
    site: Site<'_>,
    generation: &Generation,
    start: &Result<(), Bad>,
    seconds: f64,
) -> Result<Vec<Vec<Finding>>, Bad> {
    let subjects: Vec<Subject<'_>> = jobs
        .iter()
        .map(|(job, told)| Subject {
            site,
            job: *job,
            told,
            server: generation.services.first(),
            branches: &generation.branches,
        })
        .collect();
    let mut found: Vec<Vec<Finding>> = vec![Vec::new(); jobs.len()];
    for (subject, findings) in subjects.iter().zip(&mut found) {
        if subject.server.is_some() {
            let seen = match start {
                Ok(()) => Seen::Holds(Some(format!("ready after {seconds:.1} s"))),
                Err(bad) if bad.owner == Owner::Backup => Seen::Broken(bad.reason.clone()),
                Err(bad) => Seen::Unknown(bad.reason.clone(), bad.help.clone()),
            };
            findings.push(Finding {
                seconds,
                ..Finding::new(Rung::Starts, seen)
            });
        }
        if start.is_ok() {
            findings.extend(examine(*subject).await);
        }
    }
    if let (Ok(()), Some(server)) = (start, generation.services.first())
        && found.iter().flatten().any(went_wrong)
        && let (Some(trouble), _) = Trouble::befell(site.staging, server).await
    {
        for finding in found.iter_mut().flatten() {
            explain(finding, trouble);
        }
    }
    let killed = generation
        .services
        .iter()
        .any(|server| site.staging.ground.was_killed(&server.container));
    if start.is_ok() && killed {
        // Its files are as the kill left them, which is not what a clean stop would have left.
        for findings in &mut found {
            let known = |finding: &Finding| finding.rung == Rung::Checksums;
            if !findings.iter().any(known) {
                let why = "the server was killed when `limits.examine` was over";
                findings.push(Finding::skipped(Rung::Checksums, why));
            }
        }
    } else if start.is_ok() {
        site.staging.stop(generation).await?;
        for (subject, findings) in subjects.iter().zip(&mut found) {
            findings.extend(at_rest(*subject).await);
        }
    }
    Ok(found)
}

const fn went_wrong(finding: &Finding) -> bool {
    match finding.seen {
        Seen::Broken(_) | Seen::Unknown(..) => true,
        Seen::Holds(_) | Seen::Skipped(_) => false,
    }
}

/// A server that met something else has shown nothing of the data to whoever lost it. What was seen to be broken before
/// stays broken.
fn explain(finding: &mut Finding, trouble: Trouble) {
    let said = match &finding.seen {
        Seen::Broken(said) if Trouble::is_loss(said) => said,
        Seen::Unknown(said, _) => said,
        Seen::Broken(_) | Seen::Holds(_) | Seen::Skipped(_) => return,
    };
    let bad = trouble.bad("examine what was restored", "the server", said);
    finding.seen = Seen::Unknown(bad.reason, bad.help);
}

/// What the restore of a member told for later examinations.
fn told(run: &Run, member: usize) -> BTreeMap<String, String> {
    let prefix = format!("{TOLD}{}.", run.order.plan.restores[member].name);
    run.bases
        .iter()
        .flat_map(|base| &base.facts)
        .filter_map(|(fact, value)| Some((fact.strip_prefix(&prefix)?.to_owned(), value.clone())))
        .collect()
}

/// Rungs that other places report: they need no server.
const ELSEWHERE: [Rung; 5] = [
    Rung::Named,
    Rung::Size,
    Rung::Complete,
    Rung::Restores,
    Rung::Fresh,
];

/// Turns findings into cases, and the worst of them into the stage's end.
fn report(run: &Run, restore: &Restore, mut findings: Vec<Finding>) -> Result<(), Bad> {
    for rung in Rung::ALL {
        let known = findings.iter().any(|finding| finding.rung == rung);
        if !known && !ELSEWHERE.contains(&rung) {
            findings.push(Finding::skipped(
                rung,
                "there is no such check for this kind of backup",
            ));
        }
    }
    findings.sort_by_key(|finding| finding.rung);
    let mut bad = None;
    for finding in &findings {
        run.case(Stage::Restore, case(restore, finding));
        let said = |reason: &str| format!("{}: {reason}", name(restore, finding.rung));
        let result = match &finding.seen {
            Seen::Holds(_) | Seen::Skipped(_) => Ok(()),
            Seen::Broken(reason) => Err(Bad::new(Owner::Backup, said(reason)).with_help(
                "this backup would not bring production back: look at the job that makes it",
            )),
            Seen::Unknown(reason, help) => {
                let bad = Bad::new(Owner::Staging, said(reason));
                Err(match help {
                    Some(help) => bad.with_help(help),
                    None => bad,
                })
            }
        };
        super::worst(&mut bad, result);
    }
    let required: Vec<Rung> = restore
        .demands
        .require
        .iter()
        .copied()
        .filter(|rung| !ELSEWHERE.contains(rung))
        .collect();
    let missing = not_run(&required, &findings);
    if !missing.is_empty() {
        let names: Vec<&str> = missing.iter().map(|rung| rung.name()).collect();
        let reason = format!(
            "{}: `require:` names {}, which could not be run",
            restore.name,
            names.join(", ")
        );
        super::worst(
            &mut bad,
            Err(Bad::new(Owner::Staging, reason)
                .with_help("the skipped cases say why; make it possible, or require less")),
        );
    }
    bad.map_or(Ok(()), Err)
}

fn case(restore: &Restore, finding: &Finding) -> Case {
    let name = name(restore, finding.rung);
    let not = |status, reason: &str| Case {
        location: Some(restore.location.to_string()),
        ..not_passed(Stage::Restore, &name, status, finding.seconds, reason)
    };
    match &finding.seen {
        Seen::Holds(figure) => passed(Stage::Restore, &name, finding.seconds, figure.clone()),
        Seen::Broken(reason) => not(CaseStatus::Failed, reason),
        Seen::Unknown(reason, _) => not(CaseStatus::Error, reason),
        Seen::Skipped(reason) => not(CaseStatus::Skipped, reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_broken_before_the_server_went_away_stays_broken() {
        for (seen, rewritten) in [
            (Seen::Broken("`t` has 1 rows, expected 2".to_owned()), false),
            (
                Seen::Broken("psql: error: server closed the connection unexpectedly".to_owned()),
                true,
            ),
            (Seen::Unknown("the server is gone".to_owned(), None), true),
            (Seen::Holds(None), false),
            (Seen::Skipped("it has none".to_owned()), false),
        ] {
            let mut finding = Finding::new(Rung::Rows, seen.clone());
            explain(&mut finding, Trouble::OutOfMemory);
            assert_eq!(finding.seen != seen, rewritten, "{seen:?}");
            if rewritten {
                let said = matches!(&finding.seen, Seen::Unknown(said, _) if said.contains("ran out of memory"));
                assert!(said, "{finding:?}");
            }
        }
    }
}
