//! Events in, bytes out.
//!
//! The conductor gives what happened to the [`Recorder`]; it numbers it, keeps it and hands it to the sinks. Nothing
//! here knows an engine or a stage's inside, and nothing here can end a run.

mod availability;
mod backups;
pub mod files;
pub mod history;
pub mod html;
pub mod jsonl;
pub mod junit;
mod lines;
pub mod metrics;
mod paint;
mod paths;
pub mod plain;
pub mod record;
mod steps;
mod summary;
pub mod terminal;
pub(crate) mod text;

#[cfg(test)]
mod tests;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::event::{Event, EventKind, Stage};
use crate::mask::Mask;

/// The verdict block of a run, as its terminal showed it; for standard output.
pub fn summary_of(events: &[Event]) -> String {
    summary::block(events, paint::Paint::for_stream(&io::stdout()))
}

/// Where events go.
pub enum Sink {
    /// A person at a terminal.
    Terminal(terminal::Terminal),
    /// A person reading a log.
    Plain(plain::Plain),
    /// A program.
    JsonLines(jsonl::JsonLines),
    /// The run's folder.
    Folder(files::FolderSink),
}

impl Sink {
    /// For a person: live where standard error is a terminal, plain lines on standard output otherwise.
    pub fn human() -> Self {
        if io::IsTerminal::is_terminal(&io::stderr()) {
            Self::Terminal(terminal::Terminal::new())
        } else {
            Self::Plain(plain::Plain::stdout())
        }
    }

    /// Takes the last of these events.
    fn take(&mut self, events: &[Event]) -> io::Result<()> {
        let Some(event) = events.last() else {
            return Ok(());
        };
        match self {
            Self::Terminal(terminal) => terminal.take(events),
            Self::Plain(plain) => plain.take(events),
            Self::JsonLines(lines) => lines.take(event),
            Self::Folder(folder) => folder.take(event),
        }
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Terminal(_) => "the terminal",
            Self::Plain(_) => "the output",
            Self::JsonLines(_) => "the JSON lines",
            Self::Folder(_) => "the run's folder",
        }
    }
}

/// Numbers, stamps, keeps and hands on what happened. Shared by everything that runs.
pub struct Recorder {
    inner: Mutex<Inner>,
    mask: Mask,
    /// The run's recorder and the path's name, where this one is a path's.
    onward: Option<(Arc<Self>, String)>,
}

struct Inner {
    events: Vec<Event>,
    sinks: Vec<Sink>,
    lost: Vec<String>,
    /// Events that could not be shown without a secret.
    hidden: u64,
    over: bool,
}

impl Recorder {
    /// A recorder whose first event will be number 1.
    pub fn new(sinks: Vec<Sink>) -> Self {
        Self {
            inner: Mutex::new(Inner {
                events: Vec::new(),
                sinks,
                lost: Vec::new(),
                hidden: 0,
                over: false,
            }),
            mask: Mask::default(),
            onward: None,
        }
    }

    /// A recorder for a path of a what-if. What it is told is forwarded to the run's as [`EventKind::OnPath`]; its own
    /// events are those of the path alone, so that whatever reads them takes the path for a run. They begin with the
    /// names that the site had asked for before the deploy: those are no path's doing.
    pub fn on_path(run: &Arc<Self>, path: &str) -> Self {
        let mut before = run.events();
        before.retain(
            |event| matches!(event.kind, EventKind::OutsideName { stage, .. } if stage < Stage::Deploy),
        );
        for (seq, event) in (1..).zip(&mut before) {
            event.seq = seq;
        }
        Self {
            inner: Mutex::new(Inner {
                events: before,
                sinks: Vec::new(),
                lost: Vec::new(),
                hidden: 0,
                over: false,
            }),
            mask: run.mask.clone(),
            onward: Some((Arc::clone(run), path.to_owned())),
        }
    }

    /// Shows none of these secrets, in no event and so in nothing that is made of events.
    pub fn masking(self, mask: Mask) -> Self {
        Self { mask, ..self }
    }

    /// What happened, without secrets; `None` where a secret is a word that the event itself is made of.
    fn masked(&self, kind: EventKind) -> Option<EventKind> {
        if self.mask.is_empty() {
            return Some(kind);
        }
        // Every text of every kind of event, also of those that are still to be thought of.
        serde_json::to_value(&kind)
            .map(|document| self.mask.document(document))
            .and_then(serde_json::from_value)
            .ok()
    }

    /// Records what happened. A sink that cannot write is dropped and the run goes on: whoever closed the pipe has
    /// seen enough, and anything else is told by [`Recorder::lost`]. After [`EventKind::RunFinished`], which is the
    /// one terminal event, nothing is taken any more.
    pub fn emit(&self, kind: EventKind) {
        if let Some((run, path)) = &self.onward {
            run.emit(EventKind::OnPath {
                path: path.clone(),
                happened: Box::new(kind.clone()),
            });
        }
        let over = matches!(kind, EventKind::RunFinished { .. });
        let masked = self.masked(kind);
        let mut inner = self.lock();
        if inner.over {
            return;
        }
        let Some(kind) = masked else {
            // Its number stays empty, and a stream with a gap is not judged: what was lost may have been a failure.
            inner.hidden += 1;
            inner.over = over;
            return;
        };
        inner.over = over;
        let seq = inner.events.len() as u64 + inner.hidden + 1;
        inner.events.push(Event {
            seq,
            at: Timestamp::now(),
            kind,
        });
        let Inner {
            events,
            sinks,
            lost,
            ..
        } = &mut *inner;
        sinks.retain_mut(|sink| match sink.take(events) {
            Ok(()) => true,
            Err(error) => {
                if error.kind() != io::ErrorKind::BrokenPipe {
                    lost.push(format!(
                        "cannot write to {} since event {seq}: {error}",
                        sink.name()
                    ));
                }
                false
            }
        });
    }

    /// Everything so far.
    pub fn events(&self) -> Vec<Event> {
        self.lock().events.clone()
    }

    /// What could not be written, one sentence a sink. A pipe that its reader closed is not counted.
    pub fn lost(&self) -> Vec<String> {
        self.lock().lost.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere while the lock was held leaves whole events; reporting them matters more than the panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
