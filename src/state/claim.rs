//! One run restores a base, the others wait for it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::base::{Base, BaseStore, Found};
use super::key::{BaseKey, CLAIM, GOING, label};
use super::stamp::Broken;
use super::{agent, shelf};
use crate::engine::{Attach, BASE_RUN, Claimed, ContainerSpec, EngineError, is_dead};

/// How often is asked whether the run that is waited for is still alive. The engine tells when a claim is released, so
/// that is waited for; but a process that was killed tells nobody, and whether it lives can only be asked. It costs no
/// request: process ids are looked up on this machine.
const STILL_ALIVE: Duration = Duration::from_secs(2);

/// What [`BaseStore::obtain`] comes to.
#[derive(Debug)]
pub enum Obtain {
    /// The base is there and intact: no restore.
    Ready(Base),
    /// This run restores it, and must seal it or release the claim.
    Restore(Claim),
}

/// What the reader should know while a base is obtained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Another run is restoring the same.
    Waits {
        /// Its id.
        run: String,
    },
    /// The run that was waited for has failed to restore, or is dead: this run restores.
    TakesOver {
        /// Its id.
        run: String,
    },
    /// There is a base, but it is not what its restore left.
    Broken {
        /// Which.
        key: BaseKey,
        /// What differs.
        broken: Broken,
        /// Runs that stand on it: its volumes stay until they are over.
        in_use_by: Vec<String>,
    },
    /// There is a base that does not serve this run.
    Refused {
        /// Which.
        key: BaseKey,
        /// Why, as the end of a sentence.
        why: String,
    },
}

impl std::fmt::Display for News {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Waits { run } => write!(f, "waits for run {run}, which is restoring the same"),
            Self::TakesOver { run } => write!(
                f,
                "run {run} has ended without having restored the same: now this run does"
            ),
            Self::Broken {
                key,
                broken,
                in_use_by,
            } => {
                write!(
                    f,
                    "base {key} is not used, and restored anew: its volume `{}` is not what the restore left ({})",
                    broken.volume, broken.what
                )?;
                if in_use_by.is_empty() {
                    return Ok(());
                }
                write!(
                    f,
                    "; it stays until {} is over, which stands on it",
                    in_use_by.join(", ")
                )
            }
            Self::Refused { key, why } => {
                write!(f, "base {key} is not used, and restored anew: {why}")
            }
        }
    }
}

/// The right to restore a base, which one run at a time has. It ends with [`Self::release`]; with
/// [`BaseStore::abandon`] where a stage was broken off; and with its process.
#[derive(Debug)]
pub struct Claim {
    id: String,
    /// When it was given: the restore's beginning.
    pub(super) begun: Instant,
    /// There is a base that does not serve this run. It stays until a new one is sealed in its place: others it may serve.
    pub(super) replaces: bool,
}

impl Claim {
    /// Lets the others go on: after the base was sealed, or could not be restored.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn release(self, bases: &BaseStore) -> Result<(), EngineError> {
        bases.engine.remove_container(&self.id).await
    }
}

impl BaseStore {
    /// The base with this key, or the right to restore it. Where another run has that right this waits, as long as the
    /// caller does: until the base is there, or the right is this run's. `refused` says why a base does not serve this
    /// run, if it does not; `told` hears what the reader should know.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn obtain(
        &self,
        key: &BaseKey,
        refused: impl Fn(&Base) -> Option<String>,
        mut told: impl FnMut(News),
    ) -> Result<Obtain, EngineError> {
        let mut waited_for = BTreeSet::new();
        let mut last = None;
        loop {
            self.await_removal(key).await?;
            if let Some(Found::Intact(base)) = self
                .look(std::slice::from_ref(key), false)
                .await?
                .remove(key)
            {
                if refused(&base).is_none() {
                    return Ok(Obtain::Ready(base));
                }
                // Another run may put a new one in its place.
                self.forget(key);
            }
            let mut spec = ContainerSpec::new(key.claim(), &self.agent_image, Attach::None);
            spec.command = Some(agent(&["idle"]));
            let claimed = self
                .engine
                .claim(&spec, &self.labels, label(CLAIM, key))
                .await?;
            let Some(id) = claimed else {
                // It may be gone already: then the next round has better luck.
                if let Some(other) = self.engine.claimed(&spec.name).await? {
                    let run = other.labels.get(BASE_RUN).cloned().unwrap_or_default();
                    if waited_for.insert(run.clone()) {
                        told(News::Waits { run: run.clone() });
                    }
                    last = Some(run);
                    self.await_release(&other).await?;
                }
                continue;
            };
            let mut claim = Claim {
                id,
                begun: Instant::now(),
                replaces: false,
            };
            // A removal that began before this run stood on the base may still remove the seal, also a new one.
            self.await_removal(key).await?;
            // Somebody may have sealed it between the look and the claim; from now on nobody does.
            match self
                .look(std::slice::from_ref(key), true)
                .await?
                .remove(key)
            {
                Some(Found::Intact(base)) => match refused(&base) {
                    None => {
                        claim.release(self).await?;
                        return Ok(Obtain::Ready(base));
                    }
                    Some(why) => {
                        claim.replaces = true;
                        self.forget(key);
                        told(News::Refused {
                            key: key.clone(),
                            why,
                        });
                    }
                },
                Some(Found::Broken(broken)) => {
                    let in_use_by = self.discard(key).await?;
                    told(News::Broken {
                        key: key.clone(),
                        broken,
                        in_use_by,
                    });
                }
                Some(Found::Absent) | None => {}
            }
            if let Some(run) = last {
                told(News::TakesOver { run });
            }
            return Ok(Obtain::Restore(claim));
        }
    }

    /// Waits until a claim is released, or its owner is dead: then the claim is removed. That is done by its id, so of
    /// several that wait each may do it, and none can remove the claim of the one that came next.
    async fn await_release(&self, claim: &Claimed) -> Result<(), EngineError> {
        let gone = self.engine.container_gone(&claim.id);
        tokio::pin!(gone);
        let mut ask = tokio::time::interval(STILL_ALIVE);
        loop {
            tokio::select! {
                gone = &mut gone => return gone,
                _ = ask.tick() => if is_dead(&claim.labels, Timestamp::now()) {
                    return self.engine.remove_container(&claim.id).await;
                }
            }
        }
    }

    /// Waits while somebody removes this base. It takes a few requests, unless that process died in between.
    async fn await_removal(&self, key: &BaseKey) -> Result<(), EngineError> {
        for going in self.engine.volumes_with(&format!("{GOING}={key}")).await? {
            let gone = self.engine.volume_gone(&going.name);
            tokio::pin!(gone);
            let mut ask = tokio::time::interval(STILL_ALIVE);
            loop {
                tokio::select! {
                    gone = &mut gone => { gone?; break; }
                    _ = ask.tick() => if is_dead(&going.labels, Timestamp::now()) {
                        self.engine.remove_volume(&going.name).await?;
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Unseals a base that is not what it should be, and removes its volumes unless another run stands on them: then they
    /// are left to the sweep, and the runs are returned. The caller holds the claim.
    pub(super) async fn discard(&self, key: &BaseKey) -> Result<Vec<String>, EngineError> {
        let volumes = shelf::volumes_of(&self.engine, key).await?;
        self.engine.remove_volume(&key.seal()).await?;
        let mut users = shelf::users(&self.engine, Timestamp::now()).await?;
        let mut others = users.remove(key).unwrap_or_default();
        others.retain(|run| run != self.labels.run());
        if others.is_empty() {
            for volume in volumes {
                // A container that somebody else made may hold it; without its seal it is no base in any case.
                let _ = self.engine.remove_volume(&volume).await;
            }
        }
        Ok(others)
    }
}
