//! The stream as JSON lines: one event a line.

use std::io::{self, Write};

use crate::event::Event;

/// Writes each event as a line and flushes it, so that a reader at the other end of a pipe sees it at once.
pub struct JsonLines {
    out: Box<dyn Write + Send>,
}

impl JsonLines {
    /// To a stream.
    pub fn new(out: Box<dyn Write + Send>) -> Self {
        Self { out }
    }

    /// To standard output.
    pub fn stdout() -> Self {
        Self::new(Box::new(io::stdout()))
    }

    pub(super) fn take(&mut self, event: &Event) -> io::Result<()> {
        self.out.write_all(&line(event)?)?;
        self.out.flush()
    }
}

/// An event as one line, with its end.
pub(super) fn line(event: &Event) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    Ok(line)
}
