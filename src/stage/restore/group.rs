//! Restores that fill the same volumes, and the content address of what they make together.

use super::blueprint;
use crate::event::Owner;
use crate::package::{TarOptions, tar_folder};
use crate::plan::model::{Method, Restore, Target};
use crate::stage::run::Run;
use crate::staging::{Bad, Blueprint};
use crate::state::BaseKey;

/// Restores that fill the same volumes and so make one base together.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) target: Target,
    pub(super) members: Vec<usize>,
}

impl Group {
    /// What is made for it while it is restored is named and labelled by this: a service and a volume may have the
    /// same name.
    pub(super) fn part(&self) -> String {
        let first = self.members.iter().min().copied().unwrap_or_default();
        format!("restore-{first}")
    }

    /// The service or volume that it fills.
    pub(super) fn label(&self) -> String {
        match &self.target {
            Target::Service(name) | Target::Volume(name) | Target::Image(name) => name.clone(),
        }
    }
}

pub(super) fn groups(restores: &[Restore]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (index, restore) in restores.iter().enumerate() {
        // The image of a service was made when the images were.
        if matches!(restore.into, Target::Image(_)) {
            continue;
        }
        match groups.iter_mut().find(|group| group.target == restore.into) {
            Some(group) => group.members.push(index),
            None => groups.push(Group {
                target: restore.into.clone(),
                members: vec![index],
            }),
        }
    }
    for group in &mut groups {
        // Dumps name the roles that globals make, whatever is listed first.
        group.members.sort_by_key(|member| {
            !matches!(restores[*member].method, Method::PostgresGlobals { .. })
        });
    }
    groups
}

/// The volumes that a group fills, by the stack's names.
pub(super) fn volumes_of(run: &Run, group: &Group) -> Result<Vec<String>, Bad> {
    let service = match &group.target {
        Target::Volume(volume) => return Ok(vec![volume.clone()]),
        Target::Service(service) | Target::Image(service) => service,
    };
    // Volumes that another restore fills are not the service's own.
    let restores = &run.order.plan.restores;
    let others: Vec<&str> = restores.iter().filter_map(Restore::volume).collect();
    let blueprint = blueprint(run, service)?;
    Ok(blueprint
        .service
        .volumes_with(&blueprint.facts)
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| !others.contains(&name.as_str()))
        .collect())
}

/// The content address of what a group restores: everything that decides what it produces.
pub(super) fn key(run: &Run, group: &Group) -> Result<BaseKey, Bad> {
    let mut parts = match &group.target {
        Target::Volume(volume) => vec!["volume".to_owned(), volume.clone()],
        Target::Service(service) | Target::Image(service) => {
            service_parts(&blueprint(run, service)?)?
        }
    };
    for member in &group.members {
        let restore = &run.order.plan.restores[*member];
        let demands = &restore.demands;
        // Facts of a base go by the restore's name.
        parts.push(restore.name.clone());
        parts.push(format!("{:?}", restore.method.without_image()));
        // By what it is, not by what it is called: a tag moves.
        parts.push(run.tools.get(member).cloned().unwrap_or_default());
        parts.push(format!(
            "{:?}",
            (&demands.data_as_of, &demands.database, &demands.tolerate)
        ));
        parts.push(run.backups[*member].sha256.clone());
    }
    // Which volumes it fills depends on what else is restored.
    parts.push(volumes_of(run, group)?.join("\n"));
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    Ok(BaseKey::of(&parts))
}

fn service_parts(blueprint: &Blueprint) -> Result<Vec<String>, Bad> {
    let service = &blueprint.service;
    let mut parts = vec![
        "service".to_owned(),
        service.name.clone(),
        blueprint.facts.id.clone(),
    ];
    parts.push(format!("{:?}", (&service.command, &service.entrypoint)));
    parts.push(format!("{:?}", (&service.user, &service.environment)));
    parts.push(format!("{:?}", service.volumes));
    for file in &service.files {
        // A folder as well as a file: what its init scripts make is part of what the restore produces.
        let packed = tar_folder(&file.source, Vec::new(), &TarOptions::default())
            .map_err(|error| Bad::new(Owner::Stack, error.to_string()))?;
        parts.push(format!("{} {}", file.target, crate::digest::sha256(packed)));
    }
    Ok(parts)
}

/// The addresses of all groups, in their order.
pub(super) fn keys(run: &Run) -> Result<Vec<BaseKey>, Bad> {
    groups(&run.order.plan.restores)
        .iter()
        .map(|group| key(run, group))
        .collect()
}
