//! One JSON document a line: the only way in which the agent speaks.

use std::io::Write as _;

use serde::Serialize;

/// Prints a value as one line on standard output.
///
/// # Errors
/// Nobody reads it any more.
pub(super) fn print(value: &impl Serialize) -> Result<(), String> {
    let mut line = serde_json::to_vec(value).map_err(|error| error.to_string())?;
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line)
        .and_then(|()| out.flush())
        .map_err(|error| format!("cannot write to standard output: {error}"))
}

/// Prints one line on standard error.
pub(super) fn complain(reason: &str) {
    // There is nobody to tell when this cannot be written.
    let _ = writeln!(std::io::stderr().lock(), "{reason}");
}
