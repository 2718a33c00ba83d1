//! Events in, bytes out.
//!
//! The conductor gives what happened to the [`Recorder`]; it numbers it, keeps it and hands it to the sinks. Nothing
//! here knows an engine or a stage's inside, and nothing here can end a run.

mod backups;
pub mod files;
pub mod history;
pub mod html;
pub mod jsonl;
pub mod junit;
mod lines;
pub mod metrics;
mod paint;
pub mod plain;
pub mod record;
mod steps;
mod summary;
pub mod terminal;
pub(crate) mod text;

#[cfg(test)]
mod tests;

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::event::{Event, EventKind};

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
}

struct Inner {
    events: Vec<Event>,
    sinks: Vec<Sink>,
    lost: Vec<String>,
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
                over: false,
            }),
        }
    }

    /// Records what happened. A sink that cannot write is dropped and the run goes on: whoever closed the pipe has
    /// seen enough, and anything else is told by [`Recorder::lost`]. After [`EventKind::RunFinished`], which is the
    /// one terminal event, nothing is taken any more.
    pub fn emit(&self, kind: EventKind) {
        let mut inner = self.lock();
        if inner.over {
            return;
        }
        inner.over = matches!(kind, EventKind::RunFinished { .. });
        let seq = inner.events.len() as u64 + 1;
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
