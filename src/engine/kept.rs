//! Kept stagings: marked, found, and worked in by one at a time.
//!
//! Labels cannot be changed once a thing is made, so every change of a kept staging's state is a small thing of its own: a
//! volume that says until when it is kept and whose deploy stands in it, one that says that a person was in it, and a
//! container, never started, whose name only one process can have.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bollard::query_parameters::CreateContainerOptions;
use jiff::{SignedDuration, Timestamp};

use super::error::EngineError;
use super::labels::{ASSISTED, BUSY, CREATED, EXPIRES, KEPT, REHEARSAL, RUN, TENANT, is_dead};
use super::spec::create_body;
use super::sweep::{Labelled, Resource, run_is_dead};
use super::{Attach, ContainerSpec, Engine, Labels, Purpose};

/// How a staging stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stands {
    /// Its run goes on.
    Running,
    /// It was left up until then.
    Kept(Timestamp),
    /// Its run has died, or its time is over: the next sweep removes it.
    Dead,
}

/// A staging in the engine, by its labels.
#[derive(Clone, Debug)]
pub struct StagingSeen {
    /// The run that made it, after which everything in it is labelled.
    pub staging: String,
    /// The rehearsal for which it was made.
    pub rehearsal: String,
    /// How it stands.
    pub stands: Stands,
    /// The run whose deploy stands in it.
    pub tenant: String,
    /// Who is at work in it: a run that tries again in it, or whoever opens a shell in this moment.
    pub busy: Option<String>,
    /// The runs in which a person had a shell.
    pub assisted: BTreeSet<String>,
}

/// Who is at work in a kept staging. A process that is known to be gone is not.
pub(super) fn busy(resources: &[Labelled], now: Timestamp) -> Option<String> {
    resources
        .iter()
        .filter(|(_, labels)| !is_dead(labels, now))
        .find_map(|(_, labels)| labels.get(BUSY).cloned())
}

/// Until when a staging is kept, where it is: the latest of its marks. One that cannot be read is over.
pub(super) fn kept_until(resources: &[Labelled]) -> Option<Timestamp> {
    resources
        .iter()
        .filter_map(|(_, labels)| labels.get(KEPT))
        .map(|until| until.parse().unwrap_or(Timestamp::UNIX_EPOCH))
        .max()
}

fn seen(staging: &str, resources: &[Labelled], now: Timestamp) -> StagingSeen {
    let of = |label: &str| {
        resources
            .iter()
            .filter_map(|(_, labels)| labels.get(label).cloned())
            .collect::<BTreeSet<String>>()
    };
    // Marks are made one after the other: the newest says who came last.
    let tenant = resources
        .iter()
        .filter(|(_, labels)| labels.contains_key(KEPT))
        .filter_map(|(_, labels)| {
            let made: Timestamp = labels.get(CREATED)?.parse().ok()?;
            Some((made, labels.get(TENANT).cloned()))
        })
        .max()
        .and_then(|(_, tenant)| tenant);
    StagingSeen {
        staging: staging.to_owned(),
        rehearsal: of(REHEARSAL).pop_first().unwrap_or_default(),
        stands: match (run_is_dead(resources, now), kept_until(resources)) {
            (true, _) => Stands::Dead,
            (false, Some(until)) => Stands::Kept(until),
            (false, None) => Stands::Running,
        },
        tenant: tenant.unwrap_or_else(|| staging.to_owned()),
        busy: busy(resources, now),
        assisted: of(ASSISTED),
    }
}

impl Engine {
    /// All stagings in the engine, whoever's they are.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn stagings(&self, now: Timestamp) -> Result<Vec<StagingSeen>, EngineError> {
        let mut runs: BTreeMap<String, Vec<Labelled>> = BTreeMap::new();
        for (resource, labels) in self.labelled(RUN).await? {
            let run = labels.get(RUN).cloned().unwrap_or_default();
            runs.entry(run).or_default().push((resource, labels));
        }
        Ok(runs
            .iter()
            .map(|(run, resources)| seen(run, resources, now))
            .collect())
    }

    /// One staging; `None` where nothing of it is there.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn staging(
        &self,
        staging: &str,
        now: Timestamp,
    ) -> Result<Option<StagingSeen>, EngineError> {
        let resources = self.labelled(&format!("{RUN}={staging}")).await?;
        // The right to work in it can be taken where there is nothing any more.
        let is_there = resources.iter().any(|(_, of)| !of.contains_key(BUSY));
        Ok(is_there.then(|| seen(staging, &resources, now)))
    }

    /// Marks a staging as kept: it outlives its process until `until`. `tenant` is the run whose deploy stands in it.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn keep_run(
        &self,
        labels: &Labels,
        tenant: &str,
        until: Timestamp,
    ) -> Result<(), EngineError> {
        let staging = labels.run();
        let name = if tenant == staging {
            format!("{staging}-kept")
        } else {
            format!("{staging}-kept-{tenant}")
        };
        let more = HashMap::from([
            (KEPT.to_owned(), until.to_string()),
            (TENANT.to_owned(), tenant.to_owned()),
        ]);
        self.create_volume(&name, labels, Purpose::Run, more)
            .await?;
        Ok(())
    }

    /// Marks a run, for as long as its staging is there, as one in which a person had a shell.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn mark_assisted(&self, labels: &Labels, run: &str) -> Result<(), EngineError> {
        let name = format!("{}-assisted-{run}", labels.run());
        let more = HashMap::from([(ASSISTED.to_owned(), run.to_owned())]);
        self.create_volume(&name, labels, Purpose::Run, more)
            .await?;
        Ok(())
    }

    /// Takes the right to work in a kept staging, which one process has at a time. What a dead one left is taken away.
    ///
    /// Returns who has it otherwise.
    ///
    /// # Errors
    /// When the engine refuses for another reason.
    pub async fn occupy(
        &self,
        labels: &Labels,
        image: &str,
        who: &str,
    ) -> Result<Result<(), String>, EngineError> {
        let name = busy_name(labels.run());
        loop {
            let mut spec = ContainerSpec::new(&name, image, Attach::None);
            // It is never started, but the engine wants to know what it would run.
            spec.command = Some(vec!["never".to_owned()]);
            let mut all = labels.of(Purpose::Run);
            all.insert(BUSY.to_owned(), who.to_owned());
            // Of an owner on another machine only this tells that it is gone.
            let until = Timestamp::now().checked_add(SignedDuration::from_hours(24));
            let until = until.unwrap_or(Timestamp::MAX);
            all.insert(EXPIRES.to_owned(), until.to_string());
            let body = create_body(&spec, all);
            let options = CreateContainerOptions {
                name: Some(name.clone()),
                ..CreateContainerOptions::default()
            };
            let docker = self.docker.clone();
            let made = self
                .make(
                    async move { docker.create_container(Some(options), body).await },
                    || format!("create container `{name}`"),
                )
                .await;
            match made {
                Ok(_) => return Ok(Ok(())),
                Err(error) if error.status == Some(409) => {}
                Err(error) => return Err(error),
            }
            match self.claimed(&name).await? {
                // By its id: under the same name there may be another's by now.
                Some(left) if is_dead(&left.labels, Timestamp::now()) => {
                    self.remove_container(&left.id).await?;
                }
                Some(other) => {
                    let who = other.labels.get(BUSY).cloned();
                    return Ok(Err(who.unwrap_or_else(|| "somebody".to_owned())));
                }
                None => {}
            }
        }
    }

    /// Gives that right back.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn vacate(&self, staging: &str) -> Result<(), EngineError> {
        self.remove_container(&busy_name(staging)).await
    }

    /// What a staging has besides what is named (as [`Resource`] prints it), its marks and the right of whoever is at
    /// work in it; in the order of removal.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn beyond(
        &self,
        staging: &str,
        except: &BTreeSet<String>,
    ) -> Result<Vec<Resource>, EngineError> {
        let marks: BTreeSet<Resource> = self
            .labelled(&format!("{RUN}={staging}"))
            .await?
            .into_iter()
            .filter(|(_, labels)| {
                [KEPT, ASSISTED, BUSY]
                    .iter()
                    .any(|label| labels.contains_key(*label))
            })
            .map(|(resource, _)| resource)
            .collect();
        let mut all = self.resources_of(staging).await?;
        all.retain(|resource| !marks.contains(resource) && !except.contains(&resource.to_string()));
        Ok(all)
    }
}

/// The container that is the right to work in a staging.
pub(super) fn busy_name(staging: &str) -> String {
    format!("rehearse-{staging}-busy")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::OwnerId;
    use crate::engine::labels::OWNER;

    fn labelled(labels: &[(&str, &str)]) -> Labelled {
        let labels = labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        (Resource::Volume("v".to_owned()), labels.collect())
    }

    #[test]
    fn the_newest_mark_says_whose_deploy_stands_there() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().expect("a time");
        let first = labelled(&[
            (KEPT, "2026-01-03T00:00:00Z"),
            (CREATED, "2026-01-01T00:00:00Z"),
            (TENANT, "a"),
            (REHEARSAL, "site"),
        ]);
        let second = labelled(&[
            (KEPT, "2026-01-02T12:00:00Z"),
            (CREATED, "2026-01-01T10:00:00Z"),
            (TENANT, "b"),
        ]);
        let assisted = labelled(&[(ASSISTED, "a")]);
        let seen = seen("a", &[second, assisted, first], now);
        assert_eq!(seen.tenant, "b");
        assert_eq!(seen.rehearsal, "site");
        assert!(seen.assisted.contains("a"));
        let until = "2026-01-03T00:00:00Z".parse().expect("a time");
        assert_eq!(seen.stands, Stands::Kept(until), "the later of both");
    }

    #[test]
    fn who_is_at_work_keeps_an_expired_staging_alive() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().expect("a time");
        let me = OwnerId::current().to_string();
        let over = labelled(&[(KEPT, "2026-01-01T00:00:00Z"), (CREATED, "nonsense")]);
        let work = |owner: &str| {
            labelled(&[
                (BUSY, "b"),
                (OWNER, owner),
                (EXPIRES, "2026-01-03T00:00:00Z"),
            ])
        };
        let dead = format!("{me}9");
        for (resources, stands, by) in [
            (vec![over.clone()], Stands::Dead, None),
            (vec![over.clone(), work(&dead)], Stands::Dead, None),
            (
                vec![over.clone(), work(&me)],
                Stands::Kept("2026-01-01T00:00:00Z".parse().expect("a time")),
                Some("b".to_owned()),
            ),
        ] {
            let seen = seen("a", &resources, now);
            assert_eq!((seen.stands, seen.busy), (stands, by));
            assert_eq!(seen.tenant, "a");
        }
    }
}
