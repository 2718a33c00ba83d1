//! Freezes volumes and container filesystems as one point, and starts the services again on branches of it.

use std::collections::BTreeMap;
use std::time::Instant;

use super::run::{Run, Snapshot, out_of_order, passed};
use super::{Bad, fingerprint};
use crate::engine::ChangedPath;
use crate::event::{EventKind, Owner, Stage};
use crate::plan::model::Service;
use crate::staging::{Blueprint, Generation, Staging};

/// Runs the stage.
pub(super) async fn run(run: &mut Run) -> Result<(), Bad> {
    let generation = run.generation.take().ok_or_else(out_of_order)?;
    let staging = run.staging()?;

    // The clean stop of the database is what makes the frozen volume one that starts without recovery.
    let begun = Instant::now();
    staging.stop(&generation).await?;
    measured(run, "services' stop", begun);

    let begun = Instant::now();
    let blueprints = freeze_containers(staging, &generation).await?;
    let frozen = generation
        .branches
        .iter()
        .map(|(volume, branch)| (volume.clone(), branch.freeze(staging.state.branching)))
        .collect::<BTreeMap<_, _>>();
    measured(run, "snapshot", begun);

    run.save_logs(&generation).await?;
    for running in &generation.services {
        staging
            .ground
            .engine
            .remove_container(&running.container)
            .await?;
    }
    let staging = run.staging.as_mut().ok_or_else(out_of_order)?;
    staging.frozen.clone_from(&frozen);
    // The branches' mounts go away with their containers; what was written stays in their own volumes, which are
    // part of what is frozen now.
    let begun = Instant::now();
    let (generation, files) = relaunch(run, "deploy", blueprints.clone(), Owner::Staging).await?;
    measured(run, "services' start", begun);
    run.generation = Some(generation);

    let mut fingerprints = files;
    let databases = fingerprint::of_databases(run, run.staging()?, run.generation()?).await?;
    fingerprints.extend(databases);
    run.recorder.emit(EventKind::Fingerprint {
        of: "snapshot".to_owned(),
        parts: fingerprints.clone(),
    });
    run.case(
        Stage::Snapshot,
        passed(
            Stage::Snapshot,
            "the services are ready again on the snapshot",
            begun.elapsed().as_secs_f64(),
            None,
        ),
    );
    run.snapshot = Some(Snapshot {
        frozen,
        blueprints,
        fingerprints,
    });
    Ok(())
}

fn measured(run: &Run, what: &str, begun: Instant) {
    run.recorder.emit(EventKind::Measured {
        what: what.to_owned(),
        seconds: begun.elapsed().as_secs_f64(),
    });
}

/// A container that changed its own filesystem becomes an image; one that did not is as good as its image.
async fn freeze_containers(
    staging: &Staging,
    generation: &Generation,
) -> Result<Vec<Blueprint>, Bad> {
    let freezes = generation.services.iter().map(|running| async move {
        let ground = &staging.ground;
        let mut blueprint = running.blueprint.clone();
        let changes = ground.engine.changed_paths(&running.container).await?;
        if !lasting_changes(&changes, &blueprint.service).is_empty() {
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
    Ok(futures_util::future::try_join_all(freezes).await?)
}

/// Folders whose content lasts only as long as a system runs (Filesystem Hierarchy Standard 3.0, 3.15 and 3.18):
/// process ids, sockets, scratch files. A container that is started again makes them anew.
const FLEETING: [&str; 5] = ["/run", "/var/run", "/tmp", "/var/lock", "/dev"];

/// The changes that a container made from its image alone would not have: not what is fleeting, not the mount points
/// and files that are put into each new container anyway, not a folder that is only named because of what is in it.
fn lasting_changes<'a>(changes: &'a [ChangedPath], service: &Service) -> Vec<&'a ChangedPath> {
    let below = |path: &str, folder: &str| {
        path == folder
            || path
                .strip_prefix(folder)
                .is_some_and(|rest| rest.starts_with('/'))
    };
    let put_there = |path: &str| {
        service.files.iter().any(|file| below(path, &file.target))
            || service.volumes.iter().any(|mount| path == mount.target)
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
            !FLEETING.iter().any(|folder| below(path, folder))
                && !put_there(path)
                && !(change.modified && holds_others())
        })
        .collect()
}

/// Starts a generation from what is frozen now, and takes the fingerprints of its files before its services can
/// write to them.
pub(super) async fn relaunch(
    run: &Run,
    name: &str,
    blueprints: Vec<Blueprint>,
    owner: Owner,
) -> Result<(Generation, BTreeMap<String, String>), Bad> {
    let staging = run.staging()?;
    let generation = staging
        .prepare(name, blueprints)
        .await
        .map_err(|(_, error)| Bad::start(&error, owner))?;
    let files = fingerprint::of_files(run, staging, &generation).await?;
    if let Err(error) = staging.start(&generation).await {
        run.save_logs(&generation).await?;
        return Err(Bad::start(&error, owner));
    }
    Ok((generation, files))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::model::FileMount;

    #[test]
    fn only_what_a_new_container_would_lack_is_frozen() {
        let service = Service {
            files: vec![FileMount {
                source: "nginx.conf".into(),
                target: "/etc/nginx/nginx.conf".into(),
                mode: None,
                uid: 0,
                gid: 0,
            }],
            ..Service::named("web")
        };
        let modified = |path: &str| ChangedPath {
            path: path.to_owned(),
            modified: true,
        };
        let added = |path: &str| ChangedPath {
            path: path.to_owned(),
            modified: false,
        };
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
                ],
                vec![],
            ),
            (
                vec![modified("/var"), modified("/var/lib"), added("/var/lib/state")],
                vec!["/var/lib/state"],
            ),
            (vec![modified("/etc"), modified("/etc/passwd")], vec!["/etc/passwd"]),
            (vec![added("/runner")], vec!["/runner"]),
        ] {
            let found: Vec<&str> = lasting_changes(&changes, &service)
                .into_iter()
                .map(|change| change.path.as_str())
                .collect();
            assert_eq!(found, lasting, "{changes:?}");
        }
    }
}
