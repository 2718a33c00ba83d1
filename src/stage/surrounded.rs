//! What surrounds the steps of a deploy: whether they had anything but the package and what was declared, and whether
//! they read the input that they do not have.
//!
//! What is wrong here is a defect of ours, never of the package: it is told as such, and judges nobody.

use std::collections::{BTreeMap, BTreeSet};

use super::Bad;
use super::run::{Run, out_of_order};
use crate::engine::{ImageFacts, MountSeen, Surroundings};
use crate::staging::PACKAGE_FOLDER;

/// What was seen around the steps so far.
#[derive(Debug, Default)]
pub struct Watched {
    /// From a container's name in staging to what it has.
    pub(super) containers: BTreeMap<String, String>,
    /// What differs from what was declared, each with its container.
    pub(super) deviations: BTreeSet<String>,
    /// Steps that read their input, as `component/step`.
    pub(super) reads: BTreeSet<String>,
    /// Steps of which nobody could see whether they did.
    pub(super) unseen: BTreeSet<String>,
    /// Steps that wrote a secret.
    pub(super) told: BTreeSet<String>,
}

impl Watched {
    /// Nothing seen.
    pub const fn new() -> Self {
        Self {
            containers: BTreeMap::new(),
            deviations: BTreeSet::new(),
            reads: BTreeSet::new(),
            unseen: BTreeSet::new(),
            told: BTreeSet::new(),
        }
    }
}

/// What a container that a step runs in was declared to have.
struct Declared {
    mounts: Vec<MountSeen>,
    environment: BTreeMap<String, String>,
    unset: BTreeSet<String>,
    network: String,
}

/// Compares a container in which a step ran with what was declared; `service` is `None` for the bastion.
pub(super) async fn look_at(
    run: &mut Run,
    container: &str,
    service: Option<&str>,
) -> Result<(), Bad> {
    let engine = &run.ground()?.engine;
    let seen = engine.surroundings(container).await?;
    let image = engine.image(&seen.image).await?;
    let declared = match service {
        None => of_bastion(run)?,
        Some(service) => of_service(run, service)?,
    };
    let image = image.unwrap_or_default();
    let name = service.unwrap_or("bastion");
    let found = deviations(&seen, &declared, &image);
    let watched = &mut run.watched;
    watched
        .deviations
        .extend(found.into_iter().map(|what| format!("{name}: {what}")));
    watched
        .containers
        .insert(name.to_owned(), format!("{name}: {}", told(&declared)));
    Ok(())
}

/// What a container has, for the reader: `/package read-only; PGHOST, PGUSER; one network`.
fn told(declared: &Declared) -> String {
    let list = |what: &str, names: Vec<String>| match names.as_slice() {
        [] => format!("no {what}"),
        names => names.join(", "),
    };
    let mounts = declared.mounts.iter().map(|mount| {
        let access = if mount.writable { "" } else { " read-only" };
        format!("{}{access}", mount.target)
    });
    let variables = declared.environment.keys().cloned();
    format!(
        "{}; {}; one network",
        list("volume", mounts.collect()),
        list("variable", variables.collect())
    )
}

fn of_bastion(run: &Run) -> Result<Declared, Bad> {
    let ground = run.ground()?;
    let bastion = run.order.plan.bastion.as_ref().ok_or_else(out_of_order)?;
    Ok(Declared {
        mounts: vec![MountSeen {
            kind: "volume".to_owned(),
            source: ground.package_volume(),
            target: PACKAGE_FOLDER.to_owned(),
            writable: false,
        }],
        environment: bastion.environment.clone(),
        unset: BTreeSet::new(),
        network: run.staging()?.network.name.clone(),
    })
}

fn of_service(run: &Run, name: &str) -> Result<Declared, Bad> {
    let generation = run.generation()?;
    let blueprint = generation
        .services
        .iter()
        .map(|running| &running.blueprint)
        .find(|blueprint| blueprint.service.name == name)
        .ok_or_else(out_of_order)?;
    let mounts = blueprint
        .service
        .volumes_with(&blueprint.facts)
        .into_iter()
        .filter_map(|(volume, at)| {
            Some(MountSeen {
                kind: "volume".to_owned(),
                source: generation.branches.get(&volume)?.volume.clone(),
                target: at.target,
                writable: !at.read_only,
            })
        });
    Ok(Declared {
        mounts: mounts.collect(),
        environment: blueprint.service.environment.clone(),
        unset: blueprint.unset.clone(),
        network: run.staging()?.network.name.clone(),
    })
}

/// The engine itself gives a container a new, empty volume wherever its image declares one and nothing else is mounted.
fn is_anonymous(mount: &MountSeen, image: &ImageFacts) -> bool {
    let at = |path: &str| path.trim_end_matches('/') == mount.target.trim_end_matches('/');
    let is_unnamed =
        mount.source.len() == 64 && mount.source.chars().all(|c| c.is_ascii_hexdigit());
    mount.kind == "volume"
        && mount.writable
        && is_unnamed
        && image.volumes.iter().any(|path| at(path))
}

/// Everything that is there and was not declared, or is not as it was. Values of variables are never told.
fn deviations(seen: &Surroundings, declared: &Declared, image: &ImageFacts) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for mount in &seen.mounts {
        if !declared.mounts.contains(mount) && !is_anonymous(mount, image) {
            let access = if mount.writable {
                "writable"
            } else {
                "read-only"
            };
            found.push(format!(
                "the {} `{}` is mounted at `{}`, {access}",
                mount.kind, mount.source, mount.target
            ));
        }
    }
    for mount in &declared.mounts {
        if !seen.mounts.iter().any(|seen| seen.target == mount.target) {
            found.push(format!("nothing is mounted at `{}`", mount.target));
        }
    }
    for variable in &seen.environment {
        let Some((name, value)) = variable.split_once('=') else {
            continue;
        };
        let is_declared = declared.environment.get(name).map_or_else(
            || image.environment.contains(variable) && !declared.unset.contains(name),
            |declared| declared == value,
        );
        if !is_declared {
            found.push(format!("the variable `{name}` is not as it was declared"));
        }
    }
    if seen.networks != [declared.network.as_str()] {
        found.push(format!("its networks are {}", seen.networks.join(", ")));
    }
    found.extend(seen.privileges.iter().map(|what| format!("it has {what}")));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(writable: bool) -> MountSeen {
        MountSeen {
            kind: "volume".to_owned(),
            source: "run-package".to_owned(),
            target: PACKAGE_FOLDER.to_owned(),
            writable,
        }
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn whatever_was_not_declared_is_found() {
        let declared = Declared {
            mounts: vec![package(false)],
            environment: [("GREETING".to_owned(), "hello".to_owned())].into(),
            unset: ["OLD".to_owned()].into(),
            network: "staging".to_owned(),
        };
        let image = ImageFacts {
            environment: texts(&["PATH=/bin", "OLD=1"]),
            volumes: texts(&["/var/lib/data/"]),
            ..ImageFacts::default()
        };
        let as_declared = Surroundings {
            image: String::new(),
            mounts: vec![package(false)],
            environment: texts(&["PATH=/bin", "GREETING=hello", "OLD"]),
            networks: texts(&["staging"]),
            privileges: Vec::new(),
        };
        assert_eq!(
            deviations(&as_declared, &declared, &image),
            Vec::<String>::new()
        );
        let bind = MountSeen {
            kind: "bind".to_owned(),
            source: "/home/author".to_owned(),
            target: "/home".to_owned(),
            writable: false,
        };
        let with = |change: fn(&mut Surroundings)| {
            let mut seen = as_declared.clone();
            change(&mut seen);
            deviations(&seen, &declared, &image)
        };
        assert_eq!(with(|seen| seen.mounts = vec![package(true)]).len(), 1);
        assert_eq!(with(|seen| seen.mounts.clear()).len(), 1);
        assert_eq!(
            with(|seen| seen.networks.push("bridge".to_owned())).len(),
            1
        );
        assert_eq!(
            with(|seen| seen.privileges.push("privileged".to_owned())).len(),
            1
        );
        for variable in ["SECRET=of whoever runs it", "GREETING=other", "OLD=1"] {
            let mut seen = as_declared.clone();
            seen.environment = texts(&[variable]);
            let found = deviations(&seen, &declared, &image);
            assert_eq!(found.len(), 1, "{variable}");
            assert!(!found[0].contains("whoever"), "{found:?}");
        }
        for (source, target, found) in [
            ("0a".repeat(32), "/var/lib/data", 0),
            ("0a".repeat(32), "/elsewhere", 1),
            ("somebodys".to_owned(), "/var/lib/data", 1),
        ] {
            let mut seen = as_declared.clone();
            seen.mounts.push(MountSeen {
                kind: "volume".to_owned(),
                source,
                target: target.to_owned(),
                writable: true,
            });
            assert_eq!(deviations(&seen, &declared, &image).len(), found);
        }
        let mut seen = as_declared.clone();
        seen.mounts.push(bind);
        assert_eq!(
            deviations(&seen, &declared, &image),
            ["the bind `/home/author` is mounted at `/home`, read-only"]
        );
    }
}
