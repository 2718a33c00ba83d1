//! What commands say besides the reports.

use std::io::Write as _;
use std::process::ExitCode;

use anstream::{AutoStream, ColorChoice, stderr, stdout};

use super::USAGE;
use crate::manifest::Problems;

/// One line on standard output. A reader that closed the pipe has seen enough.
pub(super) fn line(text: impl AsRef<str>) {
    let _ = writeln!(stdout(), "{}", text.as_ref());
}

/// An error and its remedy on standard error.
pub(super) fn error(text: impl AsRef<str>, help: Option<&str>) {
    let mut out = stderr();
    let _ = writeln!(out, "\x1b[1;31merror\x1b[0m: {}", text.as_ref());
    if let Some(help) = help {
        let _ = writeln!(out, "\x1b[1;36mhelp\x1b[0m: {help}");
    }
}

/// A warning on standard error.
pub(super) fn warning(text: impl AsRef<str>) {
    let _ = writeln!(stderr(), "\x1b[1;33mwarning\x1b[0m: {}", text.as_ref());
}

/// Everything that is wrong in files, and the exit code for it.
pub(super) fn problems(problems: &Problems) -> ExitCode {
    let colour = AutoStream::choice(&std::io::stderr()) != ColorChoice::Never;
    let text = if colour {
        problems.render()
    } else {
        problems.to_string()
    };
    let _ = writeln!(stderr(), "{}", text.trim_end());
    ExitCode::from(USAGE)
}
