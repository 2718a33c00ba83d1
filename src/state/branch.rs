//! Freezing and branching volumes.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::engine::{
    Attach, ContainerSpec, Engine, EngineError, Labels, Purpose, VolumeAt, VolumeFacts,
};

/// How branches are made on this engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Branching {
    /// Overlay volumes: nothing is copied until it is written.
    Overlay,
    /// Plain volumes, copied with reflinks where the filesystem can.
    Copy,
}

impl Branching {
    /// The name used in the record.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::Copy => "copy",
        }
    }
}

/// A folder on the engine's host that is never written again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Lower {
    /// The volume it lies in.
    volume: String,
    /// Below the volume's root: empty, or `/upper`.
    below: Cow<'static, str>,
    /// On the engine's host.
    path: String,
}

/// The content of a volume at one point, never written again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    /// Uppermost first. With [`Branching::Copy`] always one.
    lowers: Vec<Lower>,
}

impl Frozen {
    /// A plain volume that nobody writes to any more.
    pub fn of(volume: &VolumeFacts) -> Self {
        Self {
            lowers: vec![Lower {
                volume: volume.name.clone(),
                below: Cow::Borrowed(""),
                path: volume.mountpoint.clone(),
            }],
        }
    }

    /// The volumes that its layers lie in.
    pub fn volumes(&self) -> impl Iterator<Item = &str> {
        self.lowers.iter().map(|lower| lower.volume.as_str())
    }

    /// How many layers lie on each other.
    pub fn depth(&self) -> usize {
        self.lowers.len()
    }
}

/// A writable clone of something frozen.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Branch {
    /// The volume that services mount.
    pub volume: String,
    from: Frozen,
    /// What this branch alone has written, once it is frozen.
    own: Lower,
}

impl Branch {
    /// The content of this branch from now on. The caller has stopped everything that writes to it.
    pub fn freeze(&self, branching: Branching) -> Frozen {
        match branching {
            Branching::Overlay => {
                let mut lowers = vec![self.own.clone()];
                lowers.extend(self.from.lowers.iter().cloned());
                Frozen { lowers }
            }
            Branching::Copy => Frozen {
                lowers: vec![self.own.clone()],
            },
        }
    }

    /// The volumes that exist for this branch alone.
    pub fn volumes(&self) -> Vec<String> {
        let mut volumes = vec![self.volume.clone()];
        if self.own.volume != self.volume {
            volumes.push(self.own.volume.clone());
        }
        volumes
    }
}

/// Makes branches for one run.
#[derive(Clone, Debug)]
pub struct StateStore {
    engine: Engine,
    labels: Labels,
    /// What stands in the names of what it makes.
    named: String,
    agent_image: String,
    /// How branches are made here.
    pub branching: Branching,
}

impl StateStore {
    /// For an engine on which it is known how branches can be made.
    pub fn new(engine: Engine, labels: Labels, agent_image: String, branching: Branching) -> Self {
        Self {
            engine,
            named: labels.run().to_owned(),
            labels,
            agent_image,
            branching,
        }
    }

    /// Finds out by trying how branches can be made on this engine, unless the caller wants one way. `empty` is any
    /// plain volume.
    ///
    /// # Errors
    /// When not even plain volumes work.
    pub async fn probe(
        engine: Engine,
        labels: Labels,
        agent_image: String,
        empty: &VolumeFacts,
        wanted: Option<Branching>,
    ) -> Result<Self, EngineError> {
        let likely = wanted.unwrap_or(Branching::Overlay);
        let mut store = Self::new(engine, labels, agent_image, likely);
        if wanted.is_some() {
            return Ok(store);
        }
        let tried = store.try_overlay(empty).await;
        if tried.is_err() {
            store.branching = Branching::Copy;
        }
        Ok(store)
    }

    /// The same, for one part of the run.
    pub fn part(&self, labels: Labels) -> Self {
        Self {
            labels,
            ..self.clone()
        }
    }

    /// The same, naming what it makes after a run: in a staging that was taken over, what an earlier run has made may still
    /// be there.
    #[must_use]
    pub fn named(self, run: &str) -> Self {
        Self {
            named: run.to_owned(),
            ..self
        }
    }

    async fn try_overlay(&self, empty: &VolumeFacts) -> Result<(), EngineError> {
        let from = BTreeMap::from([("probe".to_owned(), Frozen::of(empty))]);
        let branches = self.branch(&from, "probe").await?;
        let mut result = Ok(());
        for branch in branches.values() {
            let name = format!("rehearse-{}-probe", self.labels.run());
            let mut spec = ContainerSpec::new(name, &self.agent_image, Attach::None);
            spec.command = Some(agent(&["size", "/v"]));
            spec.volumes = vec![VolumeAt {
                volume: branch.volume.clone(),
                target: "/v".into(),
                read_only: false,
            }];
            result = self.engine.run_once(&spec, &self.labels).await.map(|_| ());
            self.discard(branch).await?;
        }
        result
    }

    /// One branch of each frozen volume, named after `generation`.
    ///
    /// # Errors
    /// When a volume or the helper that prepares it cannot be made.
    pub async fn branch(
        &self,
        from: &BTreeMap<String, Frozen>,
        generation: &str,
    ) -> Result<BTreeMap<String, Branch>, EngineError> {
        if from.is_empty() {
            return Ok(BTreeMap::new());
        }
        let own = futures_util::future::try_join_all(from.keys().map(|volume| {
            let name = self.name(volume, generation, "own");
            async move {
                self.engine
                    .create_volume(&name, &self.labels, Purpose::Run, Default::default())
                    .await
            }
        }))
        .await?;
        self.prepare(from, &own, generation).await?;
        let mut branches = BTreeMap::new();
        for ((volume, frozen), own) in from.iter().zip(own) {
            let branch = match self.branching {
                Branching::Overlay => {
                    let lowers: Vec<String> = frozen
                        .lowers
                        .iter()
                        .map(|lower| lower.path.clone())
                        .collect();
                    let name = self.name(volume, generation, "branch");
                    self.engine
                        .create_overlay_volume(&name, &self.labels, &lowers, &own.mountpoint)
                        .await?;
                    Branch {
                        volume: name,
                        from: frozen.clone(),
                        own: Lower {
                            volume: own.name,
                            below: Cow::Borrowed("/upper"),
                            path: format!("{}/upper", own.mountpoint),
                        },
                    }
                }
                Branching::Copy => Branch {
                    volume: own.name.clone(),
                    from: frozen.clone(),
                    own: Lower {
                        volume: own.name,
                        below: Cow::Borrowed(""),
                        path: own.mountpoint,
                    },
                },
            };
            branches.insert(volume.clone(), branch);
        }
        Ok(branches)
    }

    /// Readies the branches' own volumes in one helper container: the folders that overlay wants, with the owner
    /// and permissions of what they cover; or a copy.
    async fn prepare(
        &self,
        from: &BTreeMap<String, Frozen>,
        own: &[VolumeFacts],
        generation: &str,
    ) -> Result<(), EngineError> {
        let verb = match self.branching {
            Branching::Overlay => "layer",
            Branching::Copy => "copy",
        };
        let mut command = agent(&[verb]);
        let mut volumes = Vec::new();
        for (index, (frozen, own)) in from.values().zip(own).enumerate() {
            let Some(uppermost) = frozen.lowers.first() else {
                continue;
            };
            let (lower, layer) = (format!("/from/{index}"), format!("/to/{index}"));
            command.push(format!("{lower}{}", uppermost.below));
            command.push(layer.clone());
            volumes.push(VolumeAt {
                volume: uppermost.volume.clone(),
                target: lower,
                read_only: true,
            });
            volumes.push(VolumeAt {
                volume: own.name.clone(),
                target: layer,
                read_only: false,
            });
        }
        let name = format!("rehearse-{}-layers-{generation}", self.named);
        let mut spec = ContainerSpec::new(name, &self.agent_image, Attach::None);
        spec.command = Some(command);
        spec.volumes = volumes;
        self.engine.run_once(&spec, &self.labels).await?;
        Ok(())
    }

    /// Removes a branch and everything that was written to it. Nothing may use it any more.
    ///
    /// # Errors
    /// When something still does.
    pub async fn discard(&self, branch: &Branch) -> Result<(), EngineError> {
        for volume in branch.volumes() {
            self.engine.remove_volume(&volume).await?;
        }
        Ok(())
    }

    fn name(&self, volume: &str, generation: &str, part: &str) -> String {
        format!(
            "rehearse-{}-{generation}-{}-{part}",
            self.named,
            distinct(volume)
        )
    }
}

/// The agent's command line; the binary is the only file in its image.
pub(crate) fn agent(arguments: &[&str]) -> Vec<String> {
    ["/rehearse", "agent"]
        .iter()
        .chain(arguments)
        .map(|argument| (*argument).to_owned())
        .collect()
}

/// What the engine accepts in a name, and overlay accepts in a path.
pub(crate) fn slug(text: &str) -> String {
    let mut slug: String = text
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    while slug.contains("--") {
        slug = slug.replace("--", "-");
    }
    slug.trim_matches('-').to_lowercase()
}

/// Like [`slug`], and different for different texts: Compose tells `a.b` from `a-b`.
pub(crate) fn distinct(text: &str) -> String {
    let slug = slug(text);
    if slug == text {
        return slug;
    }
    let digest = crate::digest::sha256(text);
    let digest = digest.trim_start_matches("sha256:");
    format!("{slug}-{}", digest.get(..6).unwrap_or(digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(name: &str) -> Frozen {
        Frozen::of(&VolumeFacts {
            name: name.to_owned(),
            mountpoint: format!("/v/{name}"),
            labels: Default::default(),
        })
    }

    fn branch_of(from: &Frozen, own: &str) -> Branch {
        Branch {
            volume: format!("{own}-branch"),
            from: from.clone(),
            own: Lower {
                volume: own.to_owned(),
                below: Cow::Borrowed("/upper"),
                path: format!("/v/{own}/upper"),
            },
        }
    }

    #[test]
    fn a_freeze_stacks_what_was_written_on_what_it_was_written_over() {
        let base = plain("base");
        let first = branch_of(&base, "one").freeze(Branching::Overlay);
        let second = branch_of(&first, "two").freeze(Branching::Overlay);
        let paths: Vec<&str> = second.lowers.iter().map(|l| l.path.as_str()).collect();
        assert_eq!(paths, ["/v/two/upper", "/v/one/upper", "/v/base"]);
        assert_eq!(base.depth(), 1, "what is frozen does not change");
    }

    #[test]
    fn a_copy_stands_alone() {
        let frozen = branch_of(&plain("base"), "one").freeze(Branching::Copy);
        assert_eq!(frozen.depth(), 1);
        assert_eq!(frozen.lowers[0].volume, "one");
    }

    #[test]
    fn names_hold_nothing_that_a_mount_option_would_read() {
        assert_eq!(slug("db:/var/lib/Data,x"), "db-var-lib-data-x");
        assert_eq!(distinct("a-b"), "a-b");
        let others = ["a.b", "a_b", "A-b", "a-b", "a--b"].map(distinct);
        for (index, one) in others.iter().enumerate() {
            assert!(one.starts_with("a-b"), "{one}");
            assert!(!others[..index].contains(one), "{others:?}");
        }
    }
}
