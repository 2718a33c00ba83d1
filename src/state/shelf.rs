//! All bases of an engine: what there is, who uses it, and what may go.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::{SignedDuration, Timestamp};

use super::key::{
    AT, BaseKey, CLAIM, GOING, KEY, SEALED, SECONDS, STAMPS, STANDS_ON, USED, VOLUMES, label,
    promised,
};
use crate::agent::protocol::Stamp;
use crate::engine::{
    BASE_RUN, Engine, EngineError, Labels, Purpose, REHEARSAL, RUN, VolumeFacts, is_dead, live_runs,
};

/// A base as a list shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Shelved {
    /// Its address.
    pub key: BaseKey,
    /// The rehearsal that restored it.
    pub rehearsal: String,
    /// The run that restored it.
    pub made_by: String,
    /// From the stack's volume to the engine's.
    pub volumes: BTreeMap<String, String>,
    /// False where a volume is gone: then it is not used, and the next run restores anew.
    pub complete: bool,
    /// Bytes on disk, when it was sealed.
    pub bytes: u64,
    /// Files, when it was sealed.
    pub files: u64,
    /// Seconds that the restore took.
    pub seconds: f64,
    /// When it was sealed.
    pub made: Timestamp,
    /// When a run last took it, or made it.
    pub used: Timestamp,
    /// The runs, alive or kept, that stand on it.
    pub in_use_by: Vec<String>,
}

/// What became of a base that was to be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// It is gone.
    Gone,
    /// Runs, alive or kept, stand on it.
    InUse(Vec<String>),
    /// It is no base any more; volumes that the engine does not let go are left to the sweep, with its words.
    Partly(String),
}

/// Bases from which to remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beyond {
    /// All.
    Everything,
    /// Those least recently used, until the rest takes up at most so many bytes on disk.
    Bytes(u64),
    /// Those not used for so long.
    Age(SignedDuration),
}

/// All bases of an engine, least recently used first.
///
/// # Errors
/// When the engine does not answer.
pub async fn list(engine: &Engine, now: Timestamp) -> Result<Vec<Shelved>, EngineError> {
    let (all, users) = tokio::try_join!(engine.volumes_of_bases(), users(engine, now))?;
    let mut bases: Vec<Shelved> = all
        .iter()
        .filter_map(|seal| {
            let key = BaseKey::from_label(&seal.labels, SEALED)?;
            let text = |label: &str| seal.labels.get(label).cloned().unwrap_or_default();
            let stamps = stamps_of(&seal.labels);
            let volumes: BTreeMap<String, String> = promised(&seal.labels).into_iter().collect();
            let made = time(&seal.labels, AT).unwrap_or(Timestamp::UNIX_EPOCH);
            let used = all
                .iter()
                .filter(|used| used.labels.get(USED).is_some_and(|of| of == key.as_str()))
                .filter_map(|used| time(&used.labels, AT))
                .fold(made, Ord::max);
            Some(Shelved {
                rehearsal: text(REHEARSAL),
                made_by: text(BASE_RUN),
                complete: volumes
                    .values()
                    .all(|name| all.iter().any(|volume| volume.name == *name)),
                volumes,
                bytes: stamps.values().map(|stamp| stamp.disk).sum(),
                files: stamps.values().map(|stamp| stamp.files).sum(),
                seconds: number(&seal.labels, SECONDS),
                made,
                used,
                in_use_by: users.get(&key).cloned().unwrap_or_default(),
                key,
            })
        })
        .collect();
    bases.sort_by(|a, b| (a.used, &a.key).cmp(&(b.used, &b.key)));
    Ok(bases)
}

/// Which of these bases (least recently used first) are to go. One that is in use never is; it counts all the same.
pub fn beyond(bases: &[Shelved], limit: Beyond, now: Timestamp) -> Vec<&Shelved> {
    let mut left: u64 = bases.iter().map(|base| base.bytes).sum();
    bases
        .iter()
        .filter(|base| {
            let goes = base.in_use_by.is_empty()
                && match limit {
                    Beyond::Everything => true,
                    Beyond::Bytes(bytes) => left > bytes,
                    Beyond::Age(age) => now.duration_since(base.used) > age,
                };
            if goes {
                left -= base.bytes;
            }
            goes
        })
        .collect()
}

/// Removes a base unless a run, alive or kept, stands on it.
///
/// Its intent is written down before it looks who stands on the base; a run writes down that it stands on a base before
/// it looks whether somebody removes it. So at least one of two that meet sees the other: this refuses, or the run waits
/// and then restores anew.
///
/// # Errors
/// When the engine does not answer.
pub async fn remove(engine: &Engine, key: &BaseKey) -> Result<Removed, EngineError> {
    let now = Timestamp::now();
    // A removal takes a few requests: one that is an hour old died on another machine.
    let until = now
        .checked_add(SignedDuration::from_hours(1))
        .unwrap_or(Timestamp::MAX);
    let labels = Labels::new("sweep", "sweep", now, until);
    let going = key.named(&format!(
        "going-{}-{}",
        std::process::id(),
        now.as_nanosecond()
    ));
    engine
        .create_volume(&going, &labels, Purpose::Base, label(GOING, key))
        .await?;
    let unsealed = unseal(engine, key, now).await;
    // Only the seal's removal had to be announced: volumes without a seal are nobody's base.
    engine.remove_volume(&going).await?;
    let volumes = match unsealed? {
        Ok(volumes) => volumes,
        Err(runs) => return Ok(Removed::InUse(runs)),
    };
    for used in engine.volumes_with(&format!("{USED}={key}")).await? {
        engine.remove_volume(&used.name).await?;
    }
    let mut left = None;
    for volume in volumes {
        if let Err(error) = engine.remove_volume(&volume).await {
            left = Some(error.cause);
        }
    }
    Ok(left.map_or(Removed::Gone, Removed::Partly))
}

async fn unseal(
    engine: &Engine,
    key: &BaseKey,
    now: Timestamp,
) -> Result<Result<Vec<String>, Vec<String>>, EngineError> {
    if let Some(runs) = users(engine, now).await?.remove(key) {
        return Ok(Err(runs));
    }
    let volumes = volumes_of(engine, key).await?;
    engine.remove_volume(&key.seal()).await?;
    Ok(Ok(volumes))
}

/// The engine's volumes that a seal names; none where there is no seal.
pub(super) async fn volumes_of(engine: &Engine, key: &BaseKey) -> Result<Vec<String>, EngineError> {
    let seal = engine.volume(&key.seal()).await?;
    let names = seal.map(|seal| promised(&seal.labels)).unwrap_or_default();
    Ok(names.into_iter().map(|(_, name)| name).collect())
}

/// The runs, alive or kept, that stand on bases.
pub(super) async fn users(
    engine: &Engine,
    now: Timestamp,
) -> Result<BTreeMap<BaseKey, Vec<String>>, EngineError> {
    let of_runs = engine.volumes_with(RUN).await?;
    let alive = live_runs(&of_runs, now);
    let mut users: BTreeMap<BaseKey, BTreeSet<String>> = BTreeMap::new();
    for volume in &of_runs {
        let key = BaseKey::from_label(&volume.labels, STANDS_ON);
        let run = volume.labels.get(RUN).filter(|run| alive.contains(*run));
        if let (Some(key), Some(run)) = (key, run) {
            users.entry(key).or_default().insert(run.clone());
        }
    }
    Ok(users
        .into_iter()
        .map(|(key, runs)| (key, runs.into_iter().collect()))
        .collect())
}

/// Removes what dead runs left of bases: claims, volumes that were never sealed or are not any more, and uses of bases
/// that are gone. Returns how many things that were.
///
/// # Errors
/// When something still uses it.
pub async fn sweep(engine: &Engine, now: Timestamp) -> Result<usize, EngineError> {
    let mut removed = 0;
    for claim in engine.claims_with(CLAIM).await? {
        if is_dead(&claim.labels, now) {
            engine.remove_container(&claim.id).await?;
            removed += 1;
        }
    }
    let all = engine.volumes_of_bases().await?;
    for volume in &all {
        let going = volume.labels.contains_key(GOING) && is_dead(&volume.labels, now);
        // What was listed at one moment is judged by itself: a use is only written down for a base that is sealed.
        let unused = BaseKey::from_label(&volume.labels, USED).is_some_and(|key| {
            is_dead(&volume.labels, now) && !all.iter().any(|seal| seal.name == key.seal())
        });
        // A seal as the first version made it says neither its key nor what it sealed looked like: nobody uses it.
        let outdated = volume.labels.contains_key(VOLUMES)
            && !volume.labels.contains_key(SEALED)
            && is_dead(&volume.labels, now);
        if going || unused || outdated {
            engine.remove_volume(&volume.name).await?;
            removed += 1;
        }
    }
    Ok(removed + remove_unsealed(engine, now, &[], |labels| is_dead(labels, now)).await?)
}

/// Removes the unsealed volumes that are `mine`, and on whose base no run stands but `ours`.
pub(super) async fn remove_unsealed(
    engine: &Engine,
    now: Timestamp,
    ours: &[String],
    mine: impl Fn(&HashMap<String, String>) -> bool,
) -> Result<usize, EngineError> {
    let all = engine.volumes_of_bases().await?;
    let sealed: BTreeSet<String> = all
        .iter()
        .filter(|volume| volume.labels.contains_key(VOLUMES))
        .flat_map(|seal| promised(&seal.labels))
        .map(|(_, name)| name)
        .collect();
    let unsealed: Vec<&VolumeFacts> = all
        .iter()
        .filter(|volume| volume.labels.contains_key(KEY))
        .filter(|volume| !sealed.contains(&volume.name) && mine(&volume.labels))
        .collect();
    if unsealed.is_empty() {
        return Ok(0);
    }
    let users = users(engine, now).await?;
    let mut removed = 0;
    for volume in unsealed {
        let stands = BaseKey::from_label(&volume.labels, KEY)
            .and_then(|key| users.get(&key))
            .is_some_and(|runs| runs.iter().any(|run| !ours.contains(run)));
        if !stands {
            engine.remove_volume(&volume.name).await?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// What each volume looked like when it was sealed; nothing where the seal does not say it.
pub(super) fn stamps_of(labels: &HashMap<String, String>) -> BTreeMap<String, Stamp> {
    labels
        .get(STAMPS)
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

pub(super) fn time(labels: &HashMap<String, String>, label: &str) -> Option<Timestamp> {
    labels.get(label)?.parse().ok()
}

pub(super) fn number(labels: &HashMap<String, String>, label: &str) -> f64 {
    labels
        .get(label)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(name: &str, bytes: u64, used: i64, in_use: bool) -> Shelved {
        let at = |seconds| Timestamp::from_second(seconds).expect("a time");
        Shelved {
            key: BaseKey::of(&[name]),
            rehearsal: name.to_owned(),
            made_by: String::new(),
            volumes: BTreeMap::new(),
            complete: true,
            bytes,
            files: 0,
            seconds: 0.0,
            made: at(0),
            used: at(used),
            in_use_by: in_use.then(|| "run".to_owned()).into_iter().collect(),
        }
    }

    #[test]
    fn the_least_recently_used_go_first_and_what_is_in_use_never() {
        let bases = [
            base("in use", 40, 1, true),
            base("old", 30, 2, false),
            base("middle", 20, 3, false),
            base("new", 10, 4, false),
        ];
        let now = Timestamp::from_second(100).expect("a time");
        let seconds = SignedDuration::from_secs;
        for (limit, gone) in [
            (Beyond::Bytes(100), vec![]),
            (Beyond::Bytes(99), vec!["old"]),
            (Beyond::Bytes(70), vec!["old"]),
            (Beyond::Bytes(69), vec!["old", "middle"]),
            (Beyond::Bytes(1), vec!["old", "middle", "new"]),
            (Beyond::Everything, vec!["old", "middle", "new"]),
            (Beyond::Age(seconds(97)), vec!["old"]),
            (Beyond::Age(seconds(98)), vec![]),
            (Beyond::Age(seconds(0)), vec!["old", "middle", "new"]),
        ] {
            let going: Vec<&str> = beyond(&bases, limit, now)
                .into_iter()
                .map(|base| base.rehearsal.as_str())
                .collect();
            assert_eq!(going, gone, "{limit:?}");
        }
    }
}
