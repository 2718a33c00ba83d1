//! Bases: the frozen results of restores, addressed by content.
//!
//! A base is one or more plain volumes and, made last, one small volume whose labels say that it is complete and
//! what is known of it. Volume labels cannot change, so there is no state in between: without that last volume
//! there is no base. Until then the volumes name the run that fills them, and are swept when it is dead.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use crate::engine::{BASE_RUN, Engine, EngineError, Labels, Purpose, VolumeFacts, is_dead};

/// The content address of a base.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BaseKey(String);

impl BaseKey {
    /// From everything that decides what a restore produces: backup digests, restore specification, image ids,
    /// and the version of our own procedure.
    pub fn of(parts: &[&str]) -> Self {
        // Lengths keep ("ab", "c") and ("a", "bc") apart.
        let mut text = format!("rehearse base {PROCEDURE}\n");
        for part in parts {
            text.push_str(&format!("{}:{part}\n", part.len()));
        }
        let digest = crate::digest::sha256(text);
        Self(digest.trim_start_matches("sha256:")[..24].to_owned())
    }

    /// As shown and as part of names.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Changes whenever the same backup would be restored to something else than before.
const PROCEDURE: u32 = 1;

const KEY: &str = "rehearse.base";
const VOLUMES: &str = "rehearse.base.volumes";
const FACT: &str = "rehearse.base.fact.";

/// A complete base.
#[derive(Clone, Debug)]
pub struct Base {
    /// Its address.
    pub key: BaseKey,
    /// From the stack's volume to the engine's.
    pub volumes: BTreeMap<String, VolumeFacts>,
    /// What the restore learned, for the checks that depend on the time of day (`data_as_of`) and for the reader.
    pub facts: BTreeMap<String, String>,
}

/// Finds and makes bases.
#[derive(Clone, Debug)]
pub struct BaseStore {
    engine: Engine,
    labels: Labels,
}

impl BaseStore {
    /// For one run.
    pub const fn new(engine: Engine, labels: Labels) -> Self {
        Self { engine, labels }
    }

    /// A complete base with this key; `None` where there is none, or one of its volumes is gone.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn find(&self, key: &BaseKey) -> Result<Option<Base>, EngineError> {
        let Some(seal) = self.engine.volume(&seal_name(key)).await? else {
            return Ok(None);
        };
        let mut volumes = BTreeMap::new();
        for (volume, name) in promised(&seal.labels) {
            match self.engine.volume(&name).await? {
                Some(facts) => {
                    volumes.insert(volume, facts);
                }
                None => return Ok(None),
            }
        }
        let facts = seal
            .labels
            .iter()
            .filter_map(|(label, value)| {
                let fact = label.strip_prefix(FACT)?;
                Some((fact.to_owned(), value.clone()))
            })
            .collect();
        Ok(Some(Base {
            key: key.clone(),
            volumes,
            facts,
        }))
    }

    /// The plain volume that a restore fills. Two runs that restore the same base fill volumes of their own.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn open(&self, key: &BaseKey, volume: &str) -> Result<VolumeFacts, EngineError> {
        let name = volume_name(key, volume, self.labels.run());
        let more = HashMap::from([(KEY.to_owned(), key.as_str().to_owned())]);
        self.engine
            .create_volume(&name, &self.labels, Purpose::Base, more)
            .await
    }

    /// Declares a base complete. Nothing may write to its volumes from now on.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn seal(
        &self,
        key: &BaseKey,
        volumes: BTreeMap<String, VolumeFacts>,
        facts: BTreeMap<String, String>,
    ) -> Result<Base, EngineError> {
        let names: Vec<String> = volumes
            .iter()
            .map(|(volume, facts)| format!("{volume}={}", facts.name))
            .collect();
        let mut more = HashMap::from([(VOLUMES.to_owned(), names.join(","))]);
        for (fact, value) in &facts {
            more.insert(format!("{FACT}{fact}"), value.clone());
        }
        // A broken base, one of whose volumes is gone, must not keep its place.
        if self.find(key).await?.is_none() {
            self.engine.remove_volume(&seal_name(key)).await?;
        }
        let seal = self
            .engine
            .create_volume(&seal_name(key), &self.labels, Purpose::Base, more)
            .await?;
        let ours = promised(&seal.labels)
            .iter()
            .all(|(volume, name)| volumes.get(volume).is_some_and(|own| own.name == *name));
        if ours {
            return Ok(Base {
                key: key.clone(),
                volumes,
                facts,
            });
        }
        // Another run sealed the same base in the meantime: the engine gave us its seal, and its base serves.
        self.abandon().await?;
        self.find(key).await?.ok_or_else(|| {
            EngineError::new(
                format!("seal base {}", key.as_str()),
                "another run sealed it first and its volumes are gone",
            )
        })
    }

    /// Removes what this run restored and did not seal.
    ///
    /// # Errors
    /// When something still uses it.
    pub async fn abandon(&self) -> Result<(), EngineError> {
        let run = self.labels.run();
        self.remove_unsealed(|labels| labels.get(BASE_RUN).is_some_and(|made_by| made_by == run))
            .await?;
        Ok(())
    }

    /// Removes what dead runs restored and did not seal, and returns how many volumes that were.
    ///
    /// # Errors
    /// When something still uses it.
    pub async fn sweep(engine: &Engine, now: Timestamp) -> Result<usize, EngineError> {
        let labels = Labels::new("sweep", "sweep", now, now);
        let store = Self::new(engine.clone(), labels);
        store.remove_unsealed(|labels| is_dead(labels, now)).await
    }

    async fn remove_unsealed(
        &self,
        mine: impl Fn(&HashMap<String, String>) -> bool,
    ) -> Result<usize, EngineError> {
        let all = self.engine.volumes_with(KEY).await?;
        let sealed: Vec<String> = self
            .engine
            .volumes_with(VOLUMES)
            .await?
            .iter()
            .flat_map(|seal| promised(&seal.labels))
            .map(|(_, name)| name)
            .collect();
        let mut removed = 0;
        for volume in all {
            if !sealed.contains(&volume.name) && mine(&volume.labels) {
                self.engine.remove_volume(&volume.name).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// From the stack's volume to the engine's, as a seal's label says it.
fn promised(labels: &HashMap<String, String>) -> Vec<(String, String)> {
    labels
        .get(VOLUMES)
        .into_iter()
        .flat_map(|list| list.split(','))
        .filter_map(|pair| {
            let (volume, name) = pair.rsplit_once('=')?;
            Some((volume.to_owned(), name.to_owned()))
        })
        .collect()
}

fn seal_name(key: &BaseKey) -> String {
    format!("rehearse-base-{}-sealed", key.as_str())
}

fn volume_name(key: &BaseKey, volume: &str, run: &str) -> String {
    format!(
        "rehearse-base-{}-{}-{}",
        key.as_str(),
        super::branch::slug(volume),
        super::branch::slug(run)
    )
}

#[cfg(test)]
mod tests {
    use super::BaseKey;

    #[test]
    fn a_key_depends_on_every_part_and_on_where_parts_end() {
        let key = BaseKey::of(&["ab", "c"]);
        assert_eq!(key, BaseKey::of(&["ab", "c"]));
        for other in [&["a", "bc"][..], &["ab"], &["ab", "c", ""], &["c", "ab"]] {
            assert_ne!(key, BaseKey::of(other), "{other:?}");
        }
    }
}
