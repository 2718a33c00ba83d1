//! What the events say of the paths that what-ifs tried.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::{Event, EventKind, Mode, Owner, PathOutcome, Stage};

/// How a path stands in a stream that may have been cut anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathEnd {
    /// It ended as it has to.
    Passed,
    /// It did not: the package is at fault.
    Failed,
    /// That could not be seen.
    Invalid,
    /// It began, and the stream ends before it does.
    Unfinished,
    /// It never began.
    NotTried,
}

impl PathEnd {
    /// As it is said to people.
    pub const fn says(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Invalid => "could not be judged",
            Self::Unfinished => "was not seen to end",
            Self::NotTried => "not tried",
        }
    }
}

/// One path.
#[derive(Clone, Debug, PartialEq)]
pub struct PathSeen {
    /// Its name.
    pub path: String,
    /// The what-if that it is part of.
    pub what_if: String,
    /// True where its outcome does not decide the verdict.
    pub advisory: bool,
    /// How it stands.
    pub end: PathEnd,
    /// Why it did not pass, or what was learnt.
    pub reason: Option<String>,
    /// Seconds it took.
    pub seconds: f64,
    /// What its branch had written, in bytes on disk.
    pub bytes: Option<u64>,
}

/// Every path that was planned, in the order of the plan.
pub fn paths_seen(events: &[Event]) -> Vec<PathSeen> {
    let mut seen: Vec<PathSeen> = Vec::new();
    for event in events {
        match &event.kind {
            EventKind::PathsPlanned { paths, .. } => {
                seen.extend(paths.iter().map(|planned| PathSeen {
                    path: planned.path.clone(),
                    what_if: planned.what_if.clone(),
                    advisory: planned.advisory,
                    end: PathEnd::NotTried,
                    reason: None,
                    seconds: 0.0,
                    bytes: None,
                }));
            }
            EventKind::PathStarted { path } => {
                let next = seen
                    .iter_mut()
                    .find(|seen| seen.path == *path && seen.end == PathEnd::NotTried);
                if let Some(seen) = next {
                    seen.end = PathEnd::Unfinished;
                }
            }
            EventKind::PathEnded {
                path,
                outcome,
                reason,
                seconds,
                bytes,
            } => {
                let open = seen
                    .iter_mut()
                    .find(|seen| seen.path == *path && seen.end == PathEnd::Unfinished);
                if let Some(seen) = open {
                    seen.end = match outcome {
                        PathOutcome::Passed => PathEnd::Passed,
                        PathOutcome::Failed => PathEnd::Failed,
                        PathOutcome::Invalid => PathEnd::Invalid,
                    };
                    seen.reason.clone_from(reason);
                    seen.seconds = *seconds;
                    seen.bytes = *bytes;
                }
            }
            _ => {}
        }
    }
    seen
}

/// The paths of a run, for the verdict.
pub(super) struct PathsSeen {
    /// `None` where no what-if was asked for.
    paths: Option<Vec<PathSeen>>,
}

impl PathsSeen {
    pub(super) fn of(events: &[Event]) -> Self {
        let asked = events
            .iter()
            .any(|event| matches!(event.kind, EventKind::PathsPlanned { .. }));
        Self {
            paths: asked.then(|| paths_seen(events)),
        }
    }

    /// True where this stage has to be seen to end ok because what-ifs were asked for.
    pub(super) fn is_wanted(&self, stage: Stage, mode: Mode) -> bool {
        stage == Stage::WhatIf && mode == Mode::Rehearse && self.paths.is_some()
    }

    /// What keeps the stage from being passed although it ended ok: who is at fault, and a sentence. What could not be
    /// judged comes before what failed.
    pub(super) fn wrong(&self) -> Option<(Owner, String)> {
        let required = || self.paths.iter().flatten().filter(|path| !path.advisory);
        let said = |path: &PathSeen| {
            let why = path.reason.as_deref().unwrap_or("nothing says why");
            format!("what-if: `{}` {}: {why}", path.path, path.end.says())
        };
        let unseen = required().find(|path| match path.end {
            PathEnd::Invalid | PathEnd::Unfinished | PathEnd::NotTried => true,
            PathEnd::Passed | PathEnd::Failed => false,
        });
        let failed = || required().find(|path| path.end == PathEnd::Failed);
        match unseen {
            Some(path) => Some((Owner::Engine, said(path))),
            None => failed().map(|path| (Owner::Package, said(path))),
        }
    }

    /// `5 what-if paths passed, 1 advisory one did not`; `None` where none was asked for.
    pub(super) fn passed(&self) -> Option<String> {
        let paths = self.paths.as_ref()?;
        let mut count: BTreeMap<bool, usize> = BTreeMap::new();
        for path in paths {
            *count.entry(path.end == PathEnd::Passed).or_default() += 1;
        }
        let number = |passed| count.get(&passed).copied().unwrap_or_default();
        let passed = match number(true) {
            0 => "no what-if path passed".to_owned(),
            1 => "1 what-if path passed".to_owned(),
            n => format!("{n} what-if paths passed"),
        };
        Some(match number(false) {
            _ if paths.is_empty() => "the what-ifs had nothing to try".to_owned(),
            0 => passed,
            1 => format!("{passed}, 1 advisory one did not"),
            n => format!("{passed}, {n} advisory ones did not"),
        })
    }
}
