//! Where something is written, and what is written there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::manifest::problem::{Problem, printable};
use crate::plan::model::Location;

/// A file as it was read.
#[derive(Debug)]
pub(crate) struct Source {
    /// The path as the user would name it.
    pub(crate) path: PathBuf,
    /// All of it.
    pub(crate) text: String,
}

/// A stretch of a file. Cheap to clone, and it can always quote itself.
#[derive(Clone)]
pub struct Place {
    source: Arc<Source>,
    line: usize,
    column: usize,
    start: usize,
    end: usize,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.location())
    }
}

impl Place {
    /// `line` and `column` count from 1; `start` and `end` are byte offsets, brought back into the text where
    /// a parser points past it.
    pub(crate) fn new(
        source: &Arc<Source>,
        line: usize,
        column: usize,
        start: usize,
        end: usize,
    ) -> Self {
        let text = &source.text;
        let start = floor(text, start);
        let end = floor(text, end).max(start);
        Self {
            source: Arc::clone(source),
            line: line.max(1),
            column: column.max(1),
            start,
            end,
        }
    }

    /// The bytes from `start` to `end`, with line and column counted from the text.
    pub(crate) fn of_range(source: &Arc<Source>, start: usize, end: usize) -> Self {
        let start = floor(&source.text, start);
        let before = source.text.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        let line = before.matches('\n').count() + 1;
        let column = before
            .get(line_start..)
            .map_or(0, |text| text.chars().count())
            + 1;
        Self::new(source, line, column, start, end)
    }

    /// The first character of a file: for what is wrong with all of it.
    pub(crate) fn top(source: &Arc<Source>) -> Self {
        Self::new(source, 1, 1, 0, 0)
    }

    /// A file that could not be read has a name and no text.
    pub(crate) fn unread(path: &Path) -> Self {
        let source = Arc::new(Source {
            path: path.to_path_buf(),
            text: String::new(),
        });
        Self::top(&source)
    }

    /// The position, as printed.
    pub fn location(&self) -> Location {
        Location {
            path: self.source.path.clone(),
            line: self.line,
            column: self.column,
        }
    }

    /// A problem that quotes this place.
    pub(crate) fn problem(&self, message: impl Into<String>) -> Problem {
        let line_start = self
            .source
            .text
            .get(..self.start)
            .and_then(|before| before.rfind('\n'))
            .map_or(0, |i| i + 1);
        let rest = self.source.text.get(line_start..).unwrap_or_default();
        let source_line = rest.lines().next().unwrap_or_default().to_owned();
        let text = self
            .source
            .text
            .get(self.start..self.end)
            .and_then(|text| text.lines().next())
            .unwrap_or_default()
            .trim_end()
            .to_owned();
        Problem {
            location: self.location(),
            text: printable(&text),
            message: printable(&message.into()),
            help: None,
            source_line: printable(&source_line),
        }
    }
}

fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// A value and where it is written.
#[derive(Clone, Debug)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Where it is written.
    pub place: Place,
}

impl<T> At<T> {
    pub(crate) fn new(value: T, place: Place) -> Self {
        Self { value, place }
    }

    pub(crate) fn map<U>(self, f: impl FnOnce(T) -> U) -> At<U> {
        At {
            value: f(self.value),
            place: self.place,
        }
    }
}
