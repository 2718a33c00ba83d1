//! The emulators of one staging network, and what they received.

mod config;
mod live;
mod told;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use futures_util::future::{join_all, try_join_all};

use super::Ground;
use crate::check::model::{EmulatorProbe, Received, Since, Unseen};
use crate::engine::EngineError;
use crate::event::{Exchange, Stage};
use live::Live;

/// All emulators of a network.
#[derive(Debug, Default)]
pub struct Emulators {
    all: Vec<Live>,
    moments: Mutex<Moments>,
}

/// How many requests each emulator had received at which moment, in the order of the emulators.
#[derive(Debug, Default)]
struct Moments {
    entered: BTreeMap<Stage, Vec<usize>>,
    latest: Option<Stage>,
    judged: Vec<usize>,
}

impl Emulators {
    /// Makes the plan's emulators on a network and waits until they listen.
    ///
    /// # Errors
    /// When the engine refuses, or one does not start.
    pub async fn open(
        ground: &Ground,
        network: &str,
        resolver: IpAddr,
        agent_image: &str,
    ) -> Result<Self, EngineError> {
        let emulators = ground.plan.emulators.iter();
        let opened = emulators
            .map(|emulator| Live::open(ground, emulator, (network, resolver), agent_image));
        let all = try_join_all(opened).await?;
        let judged = vec![0; all.len()];
        Ok(Self {
            all,
            moments: Mutex::new(Moments {
                judged,
                ..Moments::default()
            }),
        })
    }

    /// Returns when everything that was answered until now is known here.
    ///
    /// # Errors
    /// Why that cannot be said.
    pub async fn heard_so_far(&self, ground: &Ground) -> Result<(), String> {
        let heard = join_all(self.all.iter().map(|live| live.heard_so_far(ground))).await;
        heard.into_iter().collect()
    }

    /// A stage begins: what comes from now on belongs to it.
    ///
    /// # Errors
    /// When it cannot be said what came before.
    pub async fn enter(&self, ground: &Ground, stage: Stage) -> Result<(), String> {
        self.heard_so_far(ground).await?;
        let counts = self.all.iter().map(Live::count).collect();
        let mut moments = self.moments();
        moments.entered.insert(stage, counts);
        moments.latest = Some(stage);
        Ok(())
    }

    /// What an emulator received since the moment that a test means.
    ///
    /// # Errors
    /// When that cannot be said.
    pub async fn received(
        &self,
        ground: &Ground,
        probe: &EmulatorProbe,
    ) -> Result<Vec<Received>, Unseen> {
        let undetermined = |why: String| Unseen::Undetermined(why);
        let at = self.all.iter().position(|live| live.name == probe.name);
        let Some((at, live)) = at.and_then(|at| Some((at, self.all.get(at)?))) else {
            return Err(undetermined(format!(
                "there is no emulator `{}`",
                probe.name
            )));
        };
        live.heard_so_far(ground).await.map_err(undetermined)?;
        let from = {
            let moments = self.moments();
            let since = |stage: Stage| {
                moments
                    .entered
                    .get(&stage)
                    .and_then(|counts| counts.get(at))
                    .copied()
            };
            let begun = |stage: Option<Stage>| stage.and_then(since).unwrap_or(0);
            match (probe.since, moments.latest) {
                (Some(Since::Start), _) => 0,
                (Some(Since::Deploy), _) | (None, Some(Stage::Deploy | Stage::Verify)) => {
                    since(Stage::Deploy).ok_or_else(|| {
                        undetermined(
                            "there was no deploy since which requests could count".to_owned(),
                        )
                    })?
                }
                (None, latest) => begun(latest),
            }
        };
        let all = live.since(ground, from);
        Ok(all
            .into_iter()
            .filter(|one| one.kind != Exchange::Tls && !one.is_unserved())
            .collect())
    }

    /// What each emulator received that was not judged yet, which it is from now on.
    pub fn to_be_judged(&self, ground: &Ground) -> Vec<(String, Vec<Received>)> {
        let mut moments = self.moments();
        let mut all = Vec::new();
        for (live, judged) in self.all.iter().zip(&mut moments.judged) {
            if live.heard.is_none() {
                continue;
            }
            let new = live.since(ground, *judged);
            *judged += new.len();
            all.push((live.name.clone(), new));
        }
        all
    }

    fn moments(&self) -> std::sync::MutexGuard<'_, Moments> {
        self.moments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
