//! Bases: the frozen results of restores, addressed by content.
//!
//! A base is one or more plain volumes and, made last, one small volume whose labels say that it is complete and
//! what is known of it: the *seal*. Volume labels cannot change, so there is no state in between: without its seal
//! there is no base. Until then the volumes name the run that fills them, and are swept when it is dead.
//!
//! Who uses a base says so first and looks then; who removes one says so first and then looks who uses it
//! ([`super::shelf`]). So at least one of two that meet sees the other.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::{join_all, try_join_all};
use jiff::Timestamp;

use super::claim::Claim;
use super::key::{
    AT, BaseKey, CLAIM, FACT, GOING, KEY, SEALED, SECONDS, STAMPS, STANDS_ON, USED, VOLUMES, label,
    promised,
};
use super::stamp::{Broken, difference, stamps};
use crate::agent::protocol::Stamp;
use crate::engine::{BASE_RUN, Engine, EngineError, Labels, Purpose, VolumeFacts, is_dead};

/// A complete base.
#[derive(Clone, Debug)]
pub struct Base {
    /// Its address.
    pub key: BaseKey,
    /// From the stack's volume to the engine's.
    pub volumes: BTreeMap<String, VolumeFacts>,
    /// What the restore learned, for the checks that depend on the time of day (`data_as_of`) and for the reader.
    pub facts: BTreeMap<String, String>,
    /// Seconds that the restore took.
    pub seconds: f64,
}

/// What is there under a key.
#[derive(Clone, Debug)]
pub(super) enum Found {
    /// A base that is as it was sealed.
    Intact(Base),
    /// Nothing, or something that another run or a sweep is at work on.
    Absent,
    /// A base that is not used, and why.
    Broken(Broken),
}

/// Finds and makes bases.
#[derive(Clone, Debug)]
pub struct BaseStore {
    pub(super) engine: Engine,
    pub(super) labels: Labels,
    pub(super) agent_image: String,
    /// What this run has looked at: it says that it stands on them, so nobody removes them, and looking once is enough.
    intact: Arc<Mutex<BTreeMap<BaseKey, Base>>>,
}

impl BaseStore {
    /// For one run, whose helpers are made of `agent_image`.
    pub fn new(engine: Engine, labels: Labels, agent_image: String) -> Self {
        Self {
            engine,
            labels,
            agent_image,
            intact: Arc::default(),
        }
    }

    /// The bases with these keys that are complete and untouched. From now on nobody removes them before this run ends,
    /// and asking again costs nothing. One helper container looks at all of them.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn intact(&self, keys: &[BaseKey]) -> Result<BTreeMap<BaseKey, Base>, EngineError> {
        let found = self.look(keys, false).await?;
        Ok(found
            .into_iter()
            .filter_map(|(key, found)| match found {
                Found::Intact(base) => Some((key, base)),
                Found::Absent | Found::Broken(_) => None,
            })
            .collect())
    }

    /// The volumes of these bases, by the stack's names, if all of them are sealed: not to be trusted before
    /// [`Self::intact`] says so, but good to prepare on beside it.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn promised(
        &self,
        keys: &[BaseKey],
    ) -> Result<Option<BTreeMap<String, VolumeFacts>>, EngineError> {
        try_join_all(keys.iter().map(|key| self.stand_on(key))).await?;
        let mut volumes = BTreeMap::new();
        for seal in try_join_all(keys.iter().map(|key| self.sealed(key))).await? {
            match seal {
                Some(seal) if seal.missing.is_none() => volumes.extend(seal.base.volumes),
                Some(_) | None => return Ok(None),
            }
        }
        Ok(Some(volumes))
    }

    /// What is there, as [`Self::intact`]; `claimed` says that this run alone may restore or unseal what is asked for.
    pub(super) async fn look(
        &self,
        keys: &[BaseKey],
        claimed: bool,
    ) -> Result<BTreeMap<BaseKey, Found>, EngineError> {
        let mut found = BTreeMap::new();
        let mut unknown = Vec::new();
        {
            let known = self.intact.lock().unwrap_or_else(PoisonError::into_inner);
            for key in keys {
                match known.get(key) {
                    Some(base) => {
                        found.insert(key.clone(), Found::Intact(base.clone()));
                    }
                    None => unknown.push(key),
                }
            }
        }
        if unknown.is_empty() {
            return Ok(found);
        }
        try_join_all(unknown.iter().map(|key| self.stand_on(key))).await?;
        let busy = self.busy(claimed).await?;
        let mut sealed = Vec::new();
        for (key, seal) in unknown
            .iter()
            .zip(try_join_all(unknown.iter().map(|key| self.sealed(key))).await?)
        {
            match seal {
                Some(seal) if !busy.contains(key) => sealed.push(seal),
                Some(_) | None => {
                    found.insert((*key).clone(), Found::Absent);
                }
            }
        }
        let (seen, used) = tokio::join!(
            self.stamps_of(&sealed),
            join_all(sealed.iter().map(|seal| self.record_use(&seal.base.key)))
        );
        // That the time of a use could not be written down must not keep a base from being used.
        drop(used);
        let mut known = self.intact.lock().unwrap_or_else(PoisonError::into_inner);
        for (seal, seen) in sealed.into_iter().zip(seen?) {
            let key = seal.base.key.clone();
            let broken = seal
                .missing
                .clone()
                .or_else(|| difference(&seal.stamps, &seen));
            found.insert(
                key.clone(),
                match broken {
                    Some(what) => Found::Broken(what),
                    None => {
                        known.insert(key, seal.base.clone());
                        Found::Intact(seal.base)
                    }
                },
            );
        }
        Ok(found)
    }

    /// Says that this run stands on a base, for as long as it has anything in the engine. The engine itself does not know:
    /// a container with an overlay volume does not count as a user of the volumes below.
    async fn stand_on(&self, key: &BaseKey) -> Result<(), EngineError> {
        let name = format!("rehearse-{}-stands-on-{key}", self.labels.run());
        self.engine
            .create_volume(&name, &self.labels, Purpose::Run, label(STANDS_ON, key))
            .await?;
        Ok(())
    }

    /// The keys that others are at work on: they restore it or remove it. For who holds a claim and has awaited the
    /// removals that were under way nobody is: a later remover sees that this run stands on the base.
    async fn busy(&self, claimed: bool) -> Result<Vec<BaseKey>, EngineError> {
        if claimed {
            return Ok(Vec::new());
        }
        let now = Timestamp::now();
        let (claims, going) = tokio::try_join!(
            self.engine.claims_with(CLAIM),
            self.engine.volumes_with(GOING)
        )?;
        let restoring = claims
            .iter()
            .filter(|claim| !is_dead(&claim.labels, now))
            .filter_map(|claim| BaseKey::from_label(&claim.labels, CLAIM));
        let going = going
            .iter()
            .filter(|going| !is_dead(&going.labels, now))
            .filter_map(|going| BaseKey::from_label(&going.labels, GOING));
        Ok(restoring.chain(going).collect())
    }

    /// What a seal promises, and what of it is there.
    async fn sealed(&self, key: &BaseKey) -> Result<Option<Sealed>, EngineError> {
        let Some(seal) = self.engine.volume(&key.seal()).await? else {
            return Ok(None);
        };
        let names = promised(&seal.labels);
        let there = try_join_all(names.iter().map(|(_, name)| self.engine.volume(name))).await?;
        let mut volumes = BTreeMap::new();
        let mut missing = None;
        for ((volume, name), facts) in names.into_iter().zip(there) {
            match facts {
                Some(facts) => {
                    volumes.insert(volume, facts);
                }
                None => {
                    missing = Some(Broken {
                        volume,
                        what: format!("the engine has no volume `{name}` any more"),
                    });
                }
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
        Ok(Some(Sealed {
            base: Base {
                key: key.clone(),
                volumes,
                facts,
                seconds: super::shelf::number(&seal.labels, SECONDS),
            },
            stamps: super::shelf::stamps_of(&seal.labels),
            missing,
        }))
    }

    /// In the order given, what the volumes of each look like now; nothing of those that are not complete.
    async fn stamps_of(
        &self,
        sealed: &[Sealed],
    ) -> Result<Vec<BTreeMap<String, Result<Stamp, String>>>, EngineError> {
        let whole = sealed.iter().filter(|seal| seal.missing.is_none());
        let volumes: Vec<&VolumeFacts> =
            whole.flat_map(|seal| seal.base.volumes.values()).collect();
        let Some(first) = volumes.first() else {
            return Ok(vec![BTreeMap::new(); sealed.len()]);
        };
        let name = format!("rehearse-{}-looks-at-{}", self.labels.run(), first.name);
        let mut seen = stamps(
            &self.engine,
            &self.labels,
            &self.agent_image,
            name,
            &volumes,
        )
        .await?
        .into_iter();
        Ok(sealed
            .iter()
            .map(|seal| match seal.missing {
                Some(_) => BTreeMap::new(),
                None => seal.base.volumes.keys().cloned().zip(&mut seen).collect(),
            })
            .collect())
    }

    /// Writes down that a base was used now. Labels cannot change, so each use is a small volume of its own, and
    /// removes the older ones. Two at once may both stay, or the older one goes: never the newest.
    async fn record_use(&self, key: &BaseKey) -> Result<(), EngineError> {
        let now = Timestamp::now();
        let mut more = label(USED, key);
        more.extend(label(AT, now));
        let name = key.named(&format!("used-{}", self.labels.run()));
        self.engine
            .create_volume(&name, &self.labels, Purpose::Base, more)
            .await?;
        let all = self.engine.volumes_with(&format!("{USED}={key}")).await?;
        let older = all
            .iter()
            .filter(|used| super::shelf::time(&used.labels, AT).is_none_or(|at| at < now));
        try_join_all(older.map(|used| self.engine.remove_volume(&used.name))).await?;
        Ok(())
    }

    /// The plain volume that a restore fills. Each run fills volumes of its own.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn open(&self, key: &BaseKey, volume: &str) -> Result<VolumeFacts, EngineError> {
        let (volume, run) = (super::distinct(volume), super::slug(self.labels.run()));
        let name = key.named(&format!("{volume}-{run}"));
        self.engine
            .create_volume(&name, &self.labels, Purpose::Base, label(KEY, key))
            .await
    }

    /// Forgets what was seen of a base: the next look looks again.
    pub(super) fn forget(&self, key: &BaseKey) {
        let mut known = self.intact.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(key);
    }

    /// Declares a base complete that was restored by the right of a claim. Nothing may write to its volumes from now on.
    /// It takes the place of one that did not serve.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn seal(
        &self,
        key: &BaseKey,
        volumes: BTreeMap<String, VolumeFacts>,
        facts: BTreeMap<String, String>,
        claim: &Claim,
    ) -> Result<Base, EngineError> {
        let seconds = claim.begun.elapsed().as_secs_f64();
        let all: Vec<&VolumeFacts> = volumes.values().collect();
        let name = format!("rehearse-{}-stamps-{key}", self.labels.run());
        let mut stamped = BTreeMap::new();
        let seen = stamps(&self.engine, &self.labels, &self.agent_image, name, &all).await?;
        for (volume, stamp) in volumes.keys().zip(seen) {
            let stamp = stamp.map_err(|cause| {
                EngineError::new(format!("look at what was restored into `{volume}`"), cause)
            })?;
            stamped.insert(volume.clone(), stamp);
        }
        let names: Vec<String> = volumes
            .iter()
            .map(|(volume, facts)| format!("{volume}={}", facts.name))
            .collect();
        let mut more = HashMap::from([
            (SEALED.to_owned(), key.to_string()),
            (VOLUMES.to_owned(), names.join(",")),
            (
                STAMPS.to_owned(),
                serde_json::to_string(&stamped).unwrap_or_default(),
            ),
            (AT.to_owned(), Timestamp::now().to_string()),
            (SECONDS.to_owned(), format!("{seconds:.3}")),
        ]);
        for (fact, value) in &facts {
            more.insert(format!("{FACT}{fact}"), value.clone());
        }
        if claim.replaces {
            self.discard(key).await?;
        }
        let seal = self
            .engine
            .create_volume(&key.seal(), &self.labels, Purpose::Base, more)
            .await?;
        let ours = promised(&seal.labels)
            .iter()
            .all(|(volume, name)| volumes.get(volume).is_some_and(|own| own.name == *name));
        if !ours {
            // Only where this run's claim was taken for a dead one's, because its expiry is over: the engine gave us the
            // seal of who restored in its place, and that base serves.
            self.remove_unsealed(&[self.labels.run().to_owned()], |labels| {
                self.is_mine(labels)
            })
            .await?;
            return self
                .intact(std::slice::from_ref(key))
                .await?
                .remove(key)
                .ok_or_else(|| {
                    EngineError::new(
                        format!("seal base {key}"),
                        "another run sealed it first and it is not intact",
                    )
                });
        }
        // That the time of a use could not be written down takes nothing from the base: then the seal's own time counts.
        let _ = self.record_use(key).await;
        let base = Base {
            key: key.clone(),
            volumes,
            facts,
            seconds,
        };
        let mut known = self.intact.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(key.clone(), base.clone());
        Ok(base)
    }

    /// Removes what this run has restored of one base and does not seal. Nothing may use it any more.
    ///
    /// # Errors
    /// When something still does.
    pub async fn give_up(&self, key: &BaseKey) -> Result<(), EngineError> {
        self.remove_unsealed(&[self.labels.run().to_owned()], |labels| {
            self.is_mine(labels) && BaseKey::from_label(labels, KEY).as_ref() == Some(key)
        })
        .await?;
        Ok(())
    }

    pub(super) fn is_mine(&self, labels: &HashMap<String, String>) -> bool {
        labels
            .get(BASE_RUN)
            .is_some_and(|made_by| made_by == self.labels.run())
    }

    /// Gives up this run's claims and removes what it restored and did not seal.
    ///
    /// # Errors
    /// When something still uses it.
    pub async fn abandon(&self) -> Result<(), EngineError> {
        for claim in self.engine.claims_with(CLAIM).await? {
            if self.is_mine(&claim.labels) {
                self.engine.remove_container(&claim.id).await?;
            }
        }
        self.remove_unsealed(&[self.labels.run().to_owned()], |labels| {
            self.is_mine(labels)
        })
        .await?;
        Ok(())
    }

    async fn remove_unsealed(
        &self,
        ours: &[String],
        mine: impl Fn(&HashMap<String, String>) -> bool,
    ) -> Result<usize, EngineError> {
        super::shelf::remove_unsealed(&self.engine, Timestamp::now(), ours, mine).await
    }
}

/// What a seal says.
struct Sealed {
    base: Base,
    stamps: BTreeMap<String, Stamp>,
    /// A volume that is gone.
    missing: Option<Broken>,
}
