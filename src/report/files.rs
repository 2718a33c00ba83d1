//! The run's folder: events as they come, logs a source, and the reports once there is a verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::event::{Event, EventKind};
use crate::report::record::{Record, RecordError, write_atomically};
use crate::report::{html, jsonl, junit};

/// The file of a run's folder that holds its events, one JSON object a line.
pub const EVENTS: &str = "events.jsonl";

/// `<report dir>/runs/<run id>/`: where everything about a run lies.
#[derive(Clone, Debug)]
pub struct RunFolder {
    dir: PathBuf,
    junit: Option<PathBuf>,
}

/// Why a report could not be written.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// A file or folder is not to be written.
    #[error("cannot write `{}`", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// The record.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// There is nothing to report on: the events do not begin with a run's start.
    #[error("cannot report on a run that never started")]
    NotStarted,
}

impl RunFolder {
    /// Makes the folder. `junit` is where a second copy of the JUnit file goes. Fails where the folder cannot be made
    /// or is there already: two runs never share one.
    pub fn create(
        report_dir: &Path,
        run: &str,
        junit: Option<PathBuf>,
    ) -> Result<Self, FilesError> {
        let runs = report_dir.join("runs");
        let dir = runs.join(run);
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| FilesError::Io { path, source }
        };
        fs::create_dir_all(&runs).map_err(at(&runs))?;
        fs::create_dir(&dir).map_err(at(&dir))?;
        let logs = dir.join("logs");
        fs::create_dir(&logs).map_err(at(&logs))?;
        Ok(Self { dir, junit })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// The sink that keeps the events and logs. Fails where `events.jsonl` cannot be made.
    pub fn sink(&self) -> Result<FolderSink, FilesError> {
        let path = self.dir.join(EVENTS);
        let made = OpenOptions::new().create_new(true).append(true).open(&path);
        let events = made.map_err(|source| FilesError::Io { path, source })?;
        Ok(FolderSink {
            events,
            logs: self.dir.join("logs"),
            names: LogNames::default(),
            open: BTreeMap::new(),
        })
    }

    /// Writes `junit.xml` (and its second copy), `report.html` and `record.json` from the events so far, each whole or
    /// not at all. Every one is tried, the record last; the first problem is returned.
    pub fn write_reports(&self, events: &[Event]) -> Result<(), FilesError> {
        let record = Record::of(events).ok_or(FilesError::NotStarted)?;
        let xml = junit::render(events);
        let page = html::render(events);
        let write = |path: PathBuf, content: &str| {
            write_atomically(&path, content.as_bytes())
                .map_err(|source| FilesError::Io { path, source })
        };
        let own = write(self.dir.join("junit.xml"), &xml);
        let copy = self.junit.as_ref().map_or(Ok(()), |path| {
            let folder = path
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty());
            folder
                .map_or(Ok(()), fs::create_dir_all)
                .map_err(|source| FilesError::Io {
                    path: path.clone(),
                    source,
                })
                .and_then(|()| write(path.clone(), &xml))
        });
        let page = write(self.dir.join("report.html"), &page);
        let record = record.write(&self.dir).map_err(FilesError::from);
        own.and(copy).and(page).and(record)
    }
}

/// The events of a run's folder, in order. A last line that a crash has cut is left out.
///
/// # Errors
/// When there are none to be read.
pub fn read_events(dir: &Path) -> io::Result<Vec<Event>> {
    let text = fs::read(dir.join(EVENTS))?;
    let lines = text.split(|byte| *byte == b'\n');
    Ok(lines
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect())
}

/// From everybody who wrote lines in a run (a step as `component/step`) to the file in `logs/` that has them.
pub fn log_files(events: &[Event]) -> BTreeMap<String, String> {
    let mut names = LogNames::default();
    for event in events {
        if let EventKind::OutputLine { source, .. } = &event.kind {
            names.of(source);
        }
    }
    names.by_source
}

/// Appends events and output lines as they come.
#[derive(Debug)]
pub struct FolderSink {
    events: File,
    logs: PathBuf,
    names: LogNames,
    open: BTreeMap<String, File>,
}

impl FolderSink {
    pub(super) fn take(&mut self, event: &Event) -> io::Result<()> {
        // One write a line, straight to the file: what a crash leaves is whole lines.
        self.events.write_all(&jsonl::line(event)?)?;
        let (source, line) = match &event.kind {
            EventKind::OutputLine { source, line, .. } => (source.clone(), line),
            EventKind::OnPath { path, happened } => match happened.as_ref() {
                EventKind::OutputLine { source, line, .. } => (on_path(path, source), line),
                _ => return Ok(()),
            },
            _ => return Ok(()),
        };
        let name = self.names.of(&source).to_owned();
        let file = match self.open.entry(name) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let path = self.logs.join(entry.key());
                entry.insert(OpenOptions::new().create(true).append(true).open(path)?)
            }
        };
        file.write_all(format!("{line}\n").as_bytes())
    }
}

/// What a source is called that spoke on a path of a what-if.
pub(in crate::report) fn on_path(path: &str, source: &str) -> String {
    format!("{path}: {source}")
}

/// The file of each source's log: readable, safe as a file name, and never shared by two sources. Names depend on the
/// order in which the sources first spoke, so any fold over the events finds the same.
#[derive(Debug, Default)]
pub(in crate::report) struct LogNames {
    by_source: BTreeMap<String, String>,
    taken: BTreeSet<String>,
}

impl LogNames {
    /// The file's name, inside `logs/`.
    pub(in crate::report) fn of(&mut self, source: &str) -> &str {
        if !self.by_source.contains_key(source) {
            let stem = stem(source);
            let mut name = format!("{stem}.log");
            // Compared in lower case: some file systems take `Web.log` and `web.log` for one.
            for n in 2.. {
                if self.taken.insert(name.to_lowercase()) {
                    break;
                }
                name = format!("{stem}~{n}.log");
            }
            self.by_source.insert(source.to_owned(), name);
        }
        &self.by_source[source]
    }
}

fn stem(source: &str) -> String {
    let kept: String = source
        .chars()
        .take(80)
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '.' => c,
            ' ' => '-',
            _ => '_',
        })
        .collect();
    match kept.trim_start_matches('.') {
        "" => "_".to_owned(),
        stem => stem.to_owned(),
    }
}
