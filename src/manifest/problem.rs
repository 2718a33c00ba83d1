//! What is wrong with the files, all of it at once, each with the line that is wrong.

use std::fmt;

use crate::plan::model::Location;

/// One thing that is wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub location: Location,
    /// The offending text; empty where something is missing.
    pub text: String,
    /// What is wrong, lowercase, without a full stop.
    pub message: String,
    /// What to do about it, where that is known.
    pub help: Option<String>,
    /// The whole line, for quoting; empty where the file could not be read.
    pub source_line: String,
}

impl Problem {
    /// The same problem with a remedy.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(printable(&help.into()));
        self
    }

    /// The same problem with a remedy, where there is one.
    pub(crate) fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help.map(|help| printable(&help)).or(self.help);
        self
    }
}

/// Files come from strangers, and problems quote them on a terminal: no control character gets through. One
/// character stays one character, so that columns stay true.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' => c,
            '\n' => ' ',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: error: {}", self.location, self.message)?;
        if !self.source_line.trim().is_empty() {
            // A tab is as wide as one column here, so that the caret stands under the text.
            let line = self.source_line.trim_end().replace('\t', " ");
            let before = self.location.column.saturating_sub(1);
            let room = line.chars().count().saturating_sub(before);
            let carets = self.text.chars().count().clamp(1, room.max(1));
            write!(
                f,
                "\n  | {line}\n  | {}{}",
                " ".repeat(before),
                "^".repeat(carets)
            )?;
        }
        if let Some(help) = &self.help {
            write!(f, "\nhelp: {help}")?;
        }
        Ok(())
    }
}

/// Everything that is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Nothing wrong so far.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds one; the same problem found twice is said once.
    pub fn push(&mut self, problem: Problem) {
        if !self.0.contains(&problem) {
            self.0.push(problem);
        }
    }

    /// Adds all of `other`.
    pub fn extend(&mut self, other: Self) {
        for problem in other.0 {
            self.push(problem);
        }
    }

    /// True where nothing is wrong.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `value`, if nothing is wrong; else the problems in reading order: file by file in the order in which
    /// the files were met, line by line.
    ///
    /// # Errors
    /// The problems.
    pub(crate) fn or<T>(mut self, value: Option<T>) -> Result<T, Self> {
        match value {
            Some(value) if self.is_empty() => Ok(value),
            _ => {
                self.sort();
                Err(self)
            }
        }
    }

    fn sort(&mut self) {
        let mut files: Vec<std::path::PathBuf> = Vec::new();
        for problem in &self.0 {
            if !files.contains(&problem.location.path) {
                files.push(problem.location.path.clone());
            }
        }
        self.0.sort_by_key(|problem| {
            let at = &problem.location;
            (
                files.iter().position(|file| *file == at.path),
                at.line,
                at.column,
            )
        });
    }

    fn count(&self) -> String {
        match self.0.len() {
            1 => "1 problem".to_owned(),
            n => format!("{n} problems"),
        }
    }

    /// The same text as [`fmt::Display`], drawn for a terminal with colours.
    pub fn render(&self) -> String {
        let mut out = self
            .0
            .iter()
            .map(super::render::problem)
            .collect::<Vec<_>>()
            .join("\n\n");
        out.push_str(&format!("\n\n{}\n", self.count()));
        out
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.0 {
            write!(f, "{problem}\n\n")?;
        }
        f.write_str(&self.count())
    }
}

impl std::error::Error for Problems {}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}
