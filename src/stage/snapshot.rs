//! Freezes volumes and container filesystems as one point, and starts the services again on branches of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use super::run::{Run, Snapshot, out_of_order, passed};
use super::{Bad, fingerprint, schema, standing, takeover};
use crate::engine::{ChangedPath, EngineError};
use crate::event::{EventKind, Owner, Stage};
use crate::staging::{Blueprint, Generation, OneShots, Staging, is_put_there};
use crate::state::{Branch, Frozen};

/// Runs the stage.
pub(super) async fn run(run: &mut Run) -> Result<(), Bad> {
    let before = run.generation.take().ok_or_else(out_of_order)?;
    let staging = run.staging()?;

    // The clean stop of the database is what makes the frozen volume one that starts without recovery.
    let begun = Instant::now();
    staging.stop(&before).await?;
    let frozen: BTreeMap<String, Frozen> = before
        .branches
        .iter()
        .map(|(volume, branch)| (volume.clone(), branch.freeze(staging.state.branching)))
        .collect();
    measured(run, "services' stop", begun);

    // While the engine looks for what containers changed, the next ones are made as if nothing had changed.
    let begun = Instant::now();
    let unchanged: Vec<Blueprint> = before
        .services
        .iter()
        .map(|running| running.blueprint.clone())
        .collect();
    let (blueprints, next) = tokio::join!(
        freeze_containers(run.staging()?, &before),
        prepare(run, "deploy", unchanged, &frozen, Owner::Staging)
    );
    let ((blueprints, written), mut next) = (blueprints?, next?);
    run.staging()?
        .remake_changed(&mut next.generation, &blueprints)
        .await?;
    measured(run, "snapshot", begun);

    let begun = Instant::now();
    let (generation, cleared) = tokio::join!(
        start(run, next.generation, Owner::Staging),
        clear_away(run, &before)
    );
    cleared?;
    run.generation = Some(generation?);
    let seconds = begun.elapsed().as_secs_f64();
    measured(run, "services' start", begun);

    let mut fingerprints = next.files;
    let generation = run.generation()?;
    let (databases, schemas) = tokio::join!(
        fingerprint::of_databases(run, generation),
        schema::read(run, generation)
    );
    let schemas = schemas?;
    fingerprints.extend(databases?);
    run.recorder.emit(EventKind::Fingerprint {
        of: "snapshot".to_owned(),
        parts: fingerprints.clone(),
    });
    run.case(
        Stage::Snapshot,
        passed(
            Stage::Snapshot,
            "the services are ready again on the snapshot",
            seconds,
            None,
        ),
    );
    if let Some(down) = standing::first_down(run, Stage::Snapshot).await? {
        return Err(Bad::new(Owner::Staging, format!("on the snapshot {down}")));
    }
    run.snapshot = Some(Arc::new(Snapshot {
        frozen,
        blueprints,
        fingerprints,
        schemas,
        written,
    }));
    takeover::write_down(run).await
}

/// The containers of the baseline are not needed any more; what they wrote to volumes is frozen, and stays.
async fn clear_away(run: &Run, generation: &Generation) -> Result<(), Bad> {
    run.save_logs(generation).await?;
    let engine = &run.staging()?.ground.engine;
    let removed = generation
        .services
        .iter()
        .map(|running| engine.remove_container(&running.container));
    futures_util::future::try_join_all(removed).await?;
    Ok(())
}

fn measured(run: &Run, what: &str, begun: Instant) {
    run.recorder.emit(EventKind::Measured {
        what: what.to_owned(),
        seconds: begun.elapsed().as_secs_f64(),
    });
}

/// By service: what it wrote to its container's own filesystem.
type Written = BTreeMap<String, BTreeSet<String>>;

/// A container that changed its own filesystem becomes an image; one that did not is as good as its image.
async fn freeze_containers(
    staging: &Staging,
    generation: &Generation,
) -> Result<(Vec<Blueprint>, Written), Bad> {
    let ground = &staging.ground;
    let containers: Vec<&str> = generation
        .services
        .iter()
        .map(|running| running.container.as_str())
        .collect();
    let helper = ground.names.of(&format!("changes-{}", generation.name));
    let changes = ground
        .engine
        .changed_paths(&containers, (&helper, &staging.agent_image), &ground.labels)
        .await?;
    let written = generation
        .services
        .iter()
        .zip(&changes)
        .map(|(running, changes)| {
            let service = &running.blueprint.service.name;
            let trusts = ground.plan.trusted_by(service);
            let lasting = lasting_changes(changes, &running.blueprint, trusts);
            let paths = lasting.into_iter().map(|change| change.path.clone());
            (service.clone(), paths.collect())
        })
        .collect();
    let services = generation.services.iter().zip(changes);
    let freezes = services.map(|(running, changes)| async move {
        let mut blueprint = running.blueprint.clone();
        if let Some(first) = lasting_changes(&changes, &blueprint, ground.plan.trusted_by(&blueprint.service.name)).first() {
            ground.note(format!(
                "the container of `{}` has changed its own filesystem ({}, …): it is part of the snapshot",
                blueprint.service.name, first.path
            ));
            let image = ground
                .names
                .image(&format!("snapshot-{}", blueprint.service.name));
            ground
                .engine
                .commit(&running.container, &image, &ground.labels)
                .await?;
            blueprint.image = image;
        }
        Ok::<_, crate::engine::EngineError>(blueprint)
    });
    let blueprints = futures_util::future::try_join_all(freezes).await?;
    Ok((blueprints, written))
}

/// Folders whose content lasts only as long as a system runs (Filesystem Hierarchy Standard 3.0, 3.15 and 3.18):
/// process ids, sockets, scratch files. A container that is started again makes them anew.
const FLEETING: [&str; 5] = ["/run", "/var/run", "/tmp", "/var/lock", "/dev"];

/// The changes that a container made from its image alone would not have: not what is fleeting, not the mount points
/// and files that are put into each new container anyway, not a folder that is only named because of what is in it.
pub(super) fn lasting_changes<'a>(
    changes: &'a [ChangedPath],
    blueprint: &Blueprint,
    trusts: bool,
) -> Vec<&'a ChangedPath> {
    let service = &blueprint.service;
    let volumes = service.volumes_with(&blueprint.facts);
    let below = |path: &str, folder: &str| {
        path == folder
            || path
                .strip_prefix(folder)
                .is_some_and(|rest| rest.starts_with('/'))
    };
    let put_there = |path: &str| {
        (trusts && is_put_there(path))
            || service.files.iter().any(|file| below(path, &file.target))
            // What lies below a mount point is hidden by what is mounted there.
            || volumes.iter().any(|(_, at)| below(path, &at.target))
            || service.tmpfs.keys().any(|target| below(path, target))
    };
    changes
        .iter()
        .filter(|change| {
            let path = change.path.as_str();
            let holds_others = || {
                changes
                    .iter()
                    .any(|other| other.path != path && below(&other.path, path))
            };
            // The engine leaves the folder in which it changed its root when it was given files for a container.
            let engines_own = path.starts_with("/.pivot_root");
            let fleeting = FLEETING.iter().any(|folder| below(path, folder));
            let only_named = change.modified && holds_others();
            !(engines_own || fleeting || put_there(path) || only_named)
        })
        .collect()
}

/// A generation that is made and not started, and the fingerprints of its files.
pub(super) struct Prepared {
    pub generation: Generation,
    pub files: BTreeMap<String, String>,
}

/// Makes a generation on branches of what is frozen, and takes the fingerprints of its files before a service can write to
/// them.
pub(super) async fn prepare(
    run: &Run,
    name: &str,
    blueprints: Vec<Blueprint>,
    frozen: &BTreeMap<String, Frozen>,
    owner: Owner,
) -> Result<Prepared, Bad> {
    let staging = run.staging()?;
    let branches = staging.ground.branch(&staging.state, frozen, name).await;
    prepare_on(run, name, blueprints, branches, owner).await
}

/// The same on branches that are there already, or could not be made.
pub(super) async fn prepare_on(
    run: &Run,
    name: &str,
    blueprints: Vec<Blueprint>,
    branches: Result<BTreeMap<String, Branch>, EngineError>,
    owner: Owner,
) -> Result<Prepared, Bad> {
    let staging = run.staging()?;
    let generation = staging
        .prepare_on(name, blueprints, branches, OneShots::Done)
        .await
        .map_err(|(_, error)| Bad::start(&error, owner))?;
    let files = fingerprint::of_volumes(run, staging, &generation).await?;
    Ok(Prepared { generation, files })
}

/// Starts what was prepared.
pub(super) async fn start(
    run: &Run,
    generation: Generation,
    owner: Owner,
) -> Result<Generation, Bad> {
    if let Err(error) = run.staging()?.start(&generation).await {
        run.save_logs(&generation).await?;
        return Err(Bad::start(&error, owner));
    }
    Ok(generation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ImageFacts;
    use crate::plan::model::{FileMount, Service};

    #[test]
    fn only_what_a_new_container_would_lack_is_frozen() {
        let mut blueprint = Blueprint {
            service: Service::named("web"),
            image: "web".to_owned(),
            facts: ImageFacts::default(),
            unset: Default::default(),
        };
        blueprint.service.files = vec![FileMount {
            source: "nginx.conf".into(),
            target: "/etc/nginx/nginx.conf".into(),
            mode: None,
            uid: 0,
            gid: 0,
        }];
        let modified = |path: &str| ChangedPath {
            path: path.to_owned(),
            modified: true,
        };
        let added = |path: &str| ChangedPath {
            path: path.to_owned(),
            modified: false,
        };
        blueprint.service.tmpfs = [("/scratch".to_owned(), String::new())].into();
        for (changes, lasting) in [
            (vec![], vec![]),
            (
                vec![
                    modified("/etc"),
                    modified("/etc/nginx"),
                    modified("/etc/nginx/nginx.conf"),
                    modified("/run"),
                    added("/run/nginx.pid"),
                    added("/tmp/x"),
                    added("/.pivot_root487461428"),
                    added("/scratch"),
                ],
                vec![],
            ),
            (
                vec![
                    modified("/var"),
                    modified("/var/lib"),
                    added("/var/lib/state"),
                ],
                vec!["/var/lib/state"],
            ),
            (
                vec![modified("/etc"), modified("/etc/passwd")],
                vec!["/etc/passwd"],
            ),
            (vec![added("/runner")], vec!["/runner"]),
        ] {
            let found: Vec<&str> = lasting_changes(&changes, &blueprint, false)
                .into_iter()
                .map(|change| change.path.as_str())
                .collect();
            assert_eq!(found, lasting, "{changes:?}");
        }
    }
}
