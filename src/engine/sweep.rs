//! Finding and removing what runs left behind.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bollard::query_parameters::{
    ListContainersOptions, ListImagesOptions, ListNetworksOptions, ListVolumesOptions,
};
use jiff::Timestamp;

use super::error::{Doing, EngineError};
use super::kept::{busy, busy_name, kept_until};
use super::labels::{PART, PURPOSE, RUN, is_dead};
use super::{Engine, Purpose, VolumeFacts};

/// One labelled thing in the engine. The order is the order of removal: what holds others goes first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// By name.
    Container(String),
    /// By name.
    Network(String),
    /// By name.
    Volume(String),
    /// By reference or id.
    Image(String),
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Container(name) => write!(f, "container {name}"),
            Self::Network(name) => write!(f, "network {name}"),
            Self::Volume(name) => write!(f, "volume {name}"),
            Self::Image(name) => write!(f, "image {name}"),
        }
    }
}

/// Images that a run made are named after it: an image that is loaded from an archive cannot be labelled, and each
/// label of a build costs a step.
const RUN_IMAGES: &str = "rehearse-run/";

/// What a sweep did.
#[derive(Clone, Debug, Default)]
pub struct Swept {
    /// The runs whose resources were removed.
    pub runs: Vec<String>,
    /// What was removed.
    pub removed: Vec<Resource>,
    /// What could not be removed, and the engine's words.
    pub left: Vec<(Resource, String)>,
}

pub(super) type Labelled = (Resource, HashMap<String, String>);

impl Engine {
    /// Everything that carries the labels of one run, in the order of removal.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn resources_of(&self, run: &str) -> Result<Vec<Resource>, EngineError> {
        let mut found: Vec<Resource> = self
            .labelled(&format!("{RUN}={run}"))
            .await?
            .into_iter()
            .map(|(resource, _)| resource)
            .collect();
        found.extend(
            self.run_images()
                .await?
                .into_iter()
                .filter(|(made_by, _)| made_by == run)
                .map(|(_, image)| image),
        );
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// Images named after runs, with the run.
    async fn run_images(&self) -> Result<Vec<(String, Resource)>, EngineError> {
        let filters = Some(HashMap::from([(
            "reference".to_owned(),
            vec![format!("{RUN_IMAGES}*")],
        )]));
        let images = self
            .docker
            .list_images(Some(ListImagesOptions {
                filters,
                ..ListImagesOptions::default()
            }))
            .await
            .doing(|| "list the images of runs".into())?;
        Ok(images
            .into_iter()
            .flat_map(|image| image.repo_tags)
            .filter_map(|reference| {
                let run = reference.strip_prefix(RUN_IMAGES)?.split(':').next()?;
                Some((run.to_owned(), Resource::Image(reference.clone())))
            })
            .collect())
    }

    /// Removes everything of one run, and last of all the right to work in its staging: nobody begins in what is half there.
    ///
    /// # Errors
    /// When the engine does not answer; what it refuses to remove is listed in the result.
    pub async fn remove_run(&self, run: &str) -> Result<Swept, EngineError> {
        let right = Resource::Container(busy_name(run));
        let (right, rest) = self
            .resources_of(run)
            .await?
            .into_iter()
            .partition(|resource| *resource == right);
        let mut swept = Swept::default();
        self.remove_all(rest, &mut swept).await;
        let mut given_back = Swept::default();
        self.remove_all(right, &mut given_back).await;
        swept.left.append(&mut given_back.left);
        Ok(swept)
    }

    /// What one part of a run has in the engine, in the order of removal.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn resources_of_part(
        &self,
        run: &str,
        part: &str,
    ) -> Result<Vec<Resource>, EngineError> {
        self.resources_of_parts(run, |label| label == part).await
    }

    /// What the parts of a run have whose names are wanted, in the order of removal.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn resources_of_parts(
        &self,
        run: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<Resource>, EngineError> {
        let of_run = self.labelled(&format!("{RUN}={run}")).await?;
        let mut found: Vec<Resource> = of_run
            .into_iter()
            .filter(|(_, labels)| labels.get(PART).is_some_and(|label| wanted(label)))
            .map(|(resource, _)| resource)
            .collect();
        found.sort();
        Ok(found)
    }

    /// Removes these resources.
    ///
    /// # Errors
    /// With the first that the engine refuses to remove, after all were tried.
    pub async fn remove_resources(&self, resources: Vec<Resource>) -> Result<(), EngineError> {
        let mut swept = Swept::default();
        self.remove_all(resources, &mut swept).await;
        match swept.left.first() {
            None => Ok(()),
            Some((resource, reason)) => Err(EngineError::new(
                format!("remove {resource}"),
                reason.clone(),
            )),
        }
    }

    /// Removes what a run has made since it had no more than `before`.
    ///
    /// # Errors
    /// When the engine does not answer, or refuses.
    pub async fn remove_since(&self, run: &str, before: &[Resource]) -> Result<(), EngineError> {
        let mut since = self.resources_of(run).await?;
        since.retain(|resource| !before.contains(resource));
        self.remove_resources(since).await
    }

    /// Removes what dead runs left: those whose process is gone, and those that have expired.
    ///
    /// # Errors
    /// When the engine does not answer; what it refuses to remove is listed in the result.
    pub async fn sweep(&self, now: Timestamp) -> Result<Swept, EngineError> {
        let mut runs: BTreeMap<String, Vec<Labelled>> = BTreeMap::new();
        for (resource, labels) in self.labelled(RUN).await? {
            let run = labels.get(RUN).cloned().unwrap_or_default();
            runs.entry(run).or_default().push((resource, labels));
        }
        let mut swept = Swept::default();
        let mut alive = Vec::new();
        for (run, mut resources) in runs {
            if !run_is_dead(&resources, now) {
                alive.push(run);
                continue;
            }
            resources.sort_by(|a, b| a.0.cmp(&b.0));
            let resources = resources
                .into_iter()
                .map(|(resource, _)| resource)
                .collect();
            self.remove_all(resources, &mut swept).await;
            swept.runs.push(run);
        }
        // Whatever else a run has, it has a network for as long as it is alive or kept.
        let orphans = self
            .run_images()
            .await?
            .into_iter()
            .filter(|(run, _)| !alive.contains(run))
            .map(|(_, image)| image)
            .collect();
        self.remove_all(orphans, &mut swept).await;
        Ok(swept)
    }

    /// Removes what runs share, unless one of them is alive: branches stand on the empty volume, and the engine does not
    /// know what an overlay volume stands on. Then that run is returned.
    ///
    /// # Errors
    /// When the engine does not answer; what it refuses to remove is listed in the result.
    pub async fn sweep_shared(&self, now: Timestamp) -> Result<Result<Swept, String>, EngineError> {
        if let Some(run) = live_runs(&self.volumes_with(RUN).await?, now).pop_first() {
            return Ok(Err(run));
        }
        let shared = self
            .labelled(&format!("{PURPOSE}={}", Purpose::Shared.name()))
            .await?;
        let mut resources: Vec<Resource> =
            shared.into_iter().map(|(resource, _)| resource).collect();
        resources.sort();
        let mut swept = Swept::default();
        self.remove_all(resources, &mut swept).await;
        Ok(Ok(swept))
    }

    /// All volumes of bases, with everything that is written down about them.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn volumes_of_bases(&self) -> Result<Vec<VolumeFacts>, EngineError> {
        self.volumes_with(&format!("{PURPOSE}={}", Purpose::Base.name()))
            .await
    }

    /// Containers first, for they hold the others; within one kind all at once.
    async fn remove_all(&self, resources: Vec<Resource>, swept: &mut Swept) {
        let (containers, others): (Vec<_>, Vec<_>) = resources
            .into_iter()
            .partition(|resource| matches!(resource, Resource::Container(_)));
        // Images last: a volume or network never waits for one, but a name of an image may be another's parent.
        let (images, others): (Vec<_>, Vec<_>) = others
            .into_iter()
            .partition(|resource| matches!(resource, Resource::Image(_)));
        for kind in [containers, others, images] {
            let removals = kind.into_iter().map(|resource| async move {
                let removed = match &resource {
                    Resource::Container(name) => self.remove_container(name).await,
                    Resource::Network(name) => self.remove_network(name).await,
                    Resource::Volume(name) => self.remove_volume(name).await,
                    Resource::Image(name) => self.remove_image(name).await,
                };
                (resource, removed)
            });
            for (resource, removed) in futures_util::future::join_all(removals).await {
                match removed {
                    Ok(()) => swept.removed.push(resource),
                    Err(error) => swept.left.push((resource, error.cause)),
                }
            }
        }
    }

    pub(super) async fn labelled(&self, label: &str) -> Result<Vec<Labelled>, EngineError> {
        let filters = Some(HashMap::from([(
            "label".to_owned(),
            vec![label.to_owned()],
        )]));
        let listing = || "list what carries our labels".to_owned();
        let containers = self.docker.list_containers(Some(ListContainersOptions {
            all: true,
            filters: filters.clone(),
            ..ListContainersOptions::default()
        }));
        let networks = self.docker.list_networks(Some(ListNetworksOptions {
            filters: filters.clone(),
        }));
        let volumes = self.docker.list_volumes(Some(ListVolumesOptions {
            filters: filters.clone(),
        }));
        let images = self.docker.list_images(Some(ListImagesOptions {
            all: false,
            filters,
            ..ListImagesOptions::default()
        }));
        let (containers, networks, volumes, images) =
            tokio::join!(containers, networks, volumes, images);
        let mut found = Vec::new();
        for container in containers.doing(listing)? {
            let name = container
                .names
                .and_then(|names| names.into_iter().next())
                .map(|name| name.trim_start_matches('/').to_owned())
                .or(container.id)
                .unwrap_or_default();
            found.push((
                Resource::Container(name),
                container.labels.unwrap_or_default(),
            ));
        }
        for network in networks.doing(listing)? {
            found.push((
                Resource::Network(network.name.unwrap_or_default()),
                network.labels.unwrap_or_default(),
            ));
        }
        for volume in volumes.doing(listing)?.volumes.unwrap_or_default() {
            found.push((Resource::Volume(volume.name), volume.labels));
        }
        for image in images.doing(listing)? {
            let references: Vec<String> = image
                .repo_tags
                .into_iter()
                .filter(|tag| tag != "<none>:<none>")
                .collect();
            if references.is_empty() {
                found.push((Resource::Image(image.id), image.labels));
            } else {
                for reference in references {
                    found.push((Resource::Image(reference), image.labels.clone()));
                }
            }
        }
        Ok(found)
    }
}

/// The runs that are alive or kept, by the labels of their volumes.
pub fn live_runs(volumes: &[VolumeFacts], now: Timestamp) -> BTreeSet<String> {
    let mut runs: BTreeMap<&String, Vec<Labelled>> = BTreeMap::new();
    for volume in volumes {
        if let Some(run) = volume.labels.get(RUN) {
            let labelled = (Resource::Volume(volume.name.clone()), volume.labels.clone());
            runs.entry(run).or_default().push(labelled);
        }
    }
    runs.into_iter()
        .filter(|(_, volumes)| !run_is_dead(volumes, now))
        .map(|(run, _)| run.clone())
        .collect()
}

/// A kept run has outlived its process on purpose: the time until which it is kept alone decides, unless somebody is at
/// work in it.
pub(super) fn run_is_dead(resources: &[Labelled], now: Timestamp) -> bool {
    if busy(resources, now).is_some() {
        return false;
    }
    match kept_until(resources) {
        Some(until) => until < now,
        None => resources.iter().any(|(_, labels)| is_dead(labels, now)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::labels::{EXPIRES, KEPT};

    #[test]
    fn a_kept_run_lives_until_its_own_time() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().expect("a time");
        let expired = HashMap::from([(EXPIRES.to_owned(), "2026-01-01T00:00:00Z".to_owned())]);
        for (until, dead) in [
            ("2026-01-03T00:00:00Z", false),
            ("2026-01-01T00:00:00Z", true),
            ("nonsense", true),
        ] {
            let resources = vec![
                (Resource::Container("c".into()), expired.clone()),
                (
                    Resource::Volume("r-kept".into()),
                    HashMap::from([(KEPT.to_owned(), until.to_owned())]),
                ),
            ];
            assert_eq!(run_is_dead(&resources, now), dead, "{until}");
        }
    }
}
