//! What is watched while the package is deployed: whether the site is there, which tables are locked, which settings
//! change. It begins before the first step and ends after the last one.

use std::time::Duration;

use jiff::Timestamp;

use super::Bad;
use super::availability::Watch;
use super::config::Before;
use super::locks::Locks;
use super::run::Run;
use crate::event::{Event, EventKind};
use crate::plan::model::{Action, Package, Step};

/// For the end of a watch that nobody waits for.
const ABANDONED: Duration = Duration::from_secs(3);

/// What goes on beside a deploy. Dropped before its end it shows nothing.
pub(crate) struct During {
    began: u64,
    watch: Option<Watch>,
    locks: Locks,
    config: Before,
}

impl During {
    /// Begins to watch. The first step waits for it.
    ///
    /// # Errors
    /// A target of `availability` is not there before the deploy, so nothing could be said of it; or the engine failed.
    pub(super) async fn begin(run: &Run, package: &Package) -> Result<Self, Bad> {
        let began = run.recorder.events().last().map_or(0, |event| event.seq);
        Ok(Self {
            began,
            config: Before::read(run, package).await?,
            locks: Locks::begin(run).await,
            watch: Watch::begin(run, package).await?,
        })
    }

    /// Leaves alone the service that a step is about to stop: a session of ours must not hold its end up.
    pub(super) async fn pause(&self, step: &Step) {
        if let Some(service) = stopped(step) {
            self.locks.pause(service).await;
        }
    }

    /// Goes on after such a step.
    pub(super) async fn resume(&self, step: &Step) {
        if let Some(service) = stopped(step) {
            self.locks.resume(service).await;
        }
    }

    /// Ends watching for nothing: the deploy was broken off.
    pub(super) async fn abandon(self, run: &Run) {
        if let Some(watch) = self.watch {
            // What it saw is not asked for, only that it ends; it would end by itself, later.
            let _ = tokio::time::timeout(ABANDONED, watch.end(run)).await;
        }
    }

    /// Ends watching and reports what was seen. `whole` is false where a step failed.
    ///
    /// # Errors
    /// The agent or the engine failed.
    pub(super) async fn end(self, run: &Run, package: &Package, whole: bool) -> Result<(), Bad> {
        // The last round of questions comes after the last step, and only then do the others end.
        let seen = match self.watch {
            Some(watch) => Some(watch.end(run).await?),
            None => None,
        };
        let locks = self.locks.end().await;
        let events = run.recorder.events();
        let steps = Steps::of(&events, self.began);
        if let Some(seen) = seen {
            seen.report(run, package, &steps);
        }
        locks.report(run, package, &steps);
        self.config.judge(run, package, whole).await
    }
}

/// The service that a step stops, and starts again.
fn stopped(step: &Step) -> Option<&str> {
    match &step.action {
        Action::Image { service, .. }
        | Action::Env { service, .. }
        | Action::Restart { service } => Some(service),
        Action::Override(changes) => Some(&changes.service),
        Action::Run { .. } | Action::Copy { .. } | Action::Files { .. } | Action::Wait { .. } => {
            None
        }
    }
}

/// When each step of a deploy ran.
pub(super) struct Steps(Vec<Ran>);

struct Ran {
    component: String,
    name: String,
    from: Timestamp,
    to: Option<Timestamp>,
}

impl Steps {
    /// Of the events after one of this number.
    pub(super) fn of(events: &[Event], after: u64) -> Self {
        let mut steps: Vec<Ran> = Vec::new();
        for event in events.iter().filter(|event| event.seq > after) {
            if let EventKind::StepStarted {
                component, step, ..
            } = &event.kind
            {
                steps.push(Ran {
                    component: component.clone(),
                    name: format!("{component} / {step}"),
                    from: event.at,
                    to: None,
                });
            } else if let EventKind::StepFinished {
                component, step, ..
            } = &event.kind
            {
                let name = format!("{component} / {step}");
                let open = steps
                    .iter_mut()
                    .rev()
                    .find(|step| step.name == name && step.to.is_none());
                if let Some(step) = open {
                    step.to = Some(event.at);
                }
            }
        }
        Self(steps)
    }

    fn within(&self, from: Timestamp, to: Timestamp) -> impl Iterator<Item = &Ran> {
        self.0
            .iter()
            .filter(move |step| step.from < to && step.to.is_none_or(|end| end > from))
    }

    /// The steps that ran in a time.
    pub(super) fn names(&self, from: Timestamp, to: Timestamp) -> Vec<String> {
        self.within(from, to)
            .map(|step| step.name.clone())
            .collect()
    }

    /// The component of the first of them; of a time between two steps that of the one before.
    pub(super) fn component(&self, from: Timestamp, to: Timestamp) -> Option<String> {
        let before = || self.0.iter().rev().find(|step| step.from < from);
        let step = self.within(from, to).next().or_else(before)?;
        Some(step.component.clone())
    }

    /// ``during `backend / roll the app` ``, or where between the steps a time lay.
    pub(super) fn say(&self, from: Timestamp, to: Timestamp) -> String {
        let names: Vec<String> = self
            .within(from, to)
            .map(|step| format!("`{}`", step.name))
            .collect();
        if !names.is_empty() {
            return format!("during {}", names.join(", "));
        }
        match self.0.iter().rev().find(|step| step.from < from) {
            Some(step) => format!("after `{}`", step.name),
            None => "before the first step".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_belongs_to_the_steps_that_ran_in_it() {
        let second = |n: i64| Timestamp::from_second(n).unwrap();
        let started = |step: &str| EventKind::StepStarted {
            component: "app".to_owned(),
            step: step.to_owned(),
            target: "bastion".to_owned(),
        };
        let finished = |step: &str| EventKind::StepFinished {
            component: "app".to_owned(),
            step: step.to_owned(),
            exit_code: Some(0),
            seconds: 1.0,
        };
        let events: Vec<Event> = [
            (5, started("of another deploy")),
            (10, started("one")),
            (20, finished("one")),
            (30, started("two")),
            (40, finished("two")),
            (40, started("three")),
        ]
        .into_iter()
        .enumerate()
        .map(|(n, (at, kind))| Event {
            seq: n as u64 + 1,
            at: second(at),
            kind,
        })
        .collect();
        let steps = Steps::of(&events, 1);
        for (from, to, said) in [
            (1, 9, "before the first step"),
            (9, 11, "during `app / one`"),
            (12, 35, "during `app / one`, `app / two`"),
            (21, 29, "after `app / one`"),
            (50, 60, "during `app / three`"),
        ] {
            assert_eq!(steps.say(second(from), second(to)), said);
        }
        assert_eq!(steps.names(second(21), second(29)), Vec::<String>::new());
        assert_eq!(
            steps.component(second(21), second(29)).as_deref(),
            Some("app")
        );
    }
}
