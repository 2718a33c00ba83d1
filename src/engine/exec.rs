//! Commands in running containers.

use std::collections::BTreeMap;
use std::pin::Pin;

use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use futures_util::{Stream, StreamExt};
use tokio::io::AsyncWrite;

use super::Engine;
use super::error::{Doing, EngineError};
use crate::event::Output;

/// A command to run. It gets no input and no terminal.
#[derive(Clone, Debug, Default)]
pub struct ExecSpec {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Added to the container's environment.
    pub environment: BTreeMap<String, String>,
    /// `user` or `uid:gid`; default the container's.
    pub user: Option<String>,
    /// Default the container's.
    pub working_dir: Option<String>,
    /// Bytes to keep of each output; default [`KEPT`].
    pub keep: Option<usize>,
}

/// A line of output.
#[derive(Clone, Debug)]
pub struct ExecLine {
    /// Which output.
    pub output: Output,
    /// Without its end.
    pub line: String,
    /// What a carriage return took back before it: a terminal does not show it any more, and who keeps all that was
    /// written has it.
    pub overwritten: String,
}

/// How a command ended.
#[derive(Clone, Debug)]
pub struct ExecOutcome {
    /// Its exit code.
    pub exit_code: i64,
    /// Standard output, at most [`KEPT`] bytes: its end.
    pub stdout: String,
    /// Standard error, likewise.
    pub stderr: String,
}

impl ExecOutcome {
    /// The last lines of standard error, or of standard output where that is empty, in one line.
    pub fn last_words(&self) -> String {
        let text = if self.stderr.trim().is_empty() {
            &self.stdout
        } else {
            &self.stderr
        };
        let lines: Vec<&str> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        let from = lines.len().saturating_sub(3);
        lines[from..].join(" | ")
    }
}

/// Bytes kept of each output, unless more are asked for.
pub const KEPT: usize = 1024 * 1024;

/// A command whose input and output stay with the caller.
pub struct Interactive {
    /// Its standard input.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
    /// Its output in chunks.
    pub output: Pin<Box<dyn Stream<Item = Result<LogChunk, EngineError>> + Send>>,
}

/// A chunk of output.
#[derive(Clone, Debug)]
pub struct LogChunk {
    /// Which output.
    pub output: Output,
    /// As it came.
    pub bytes: bytes::Bytes,
}

/// Cuts chunks into lines, and keeps the end of all of them.
struct LineCutter {
    pending: Vec<u8>,
    kept: Vec<u8>,
    most: usize,
}

impl LineCutter {
    const fn keeping(most: usize) -> Self {
        Self {
            pending: Vec::new(),
            kept: Vec::new(),
            most,
        }
    }

    fn push(&mut self, bytes: &[u8], mut line: impl FnMut(Written)) {
        self.kept.extend_from_slice(bytes);
        if self.kept.len() > 2 * self.most {
            self.kept.drain(..self.kept.len() - self.most);
        }
        self.pending.extend_from_slice(bytes);
        while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
            let whole: Vec<u8> = self.pending.drain(..=end).collect();
            line(readable(&whole));
        }
        // A line without an end must not grow for ever.
        if self.pending.len() > 64 * 1024 {
            let whole = std::mem::take(&mut self.pending);
            line(readable(&whole));
        }
    }

    fn finish(mut self, mut line: impl FnMut(Written)) -> String {
        if !self.pending.is_empty() {
            let whole = std::mem::take(&mut self.pending);
            line(readable(&whole));
        }
        let from = self.kept.len().saturating_sub(self.most);
        String::from_utf8_lossy(&self.kept[from..]).into_owned()
    }
}

/// A line as it is read, and what it was before.
struct Written {
    line: String,
    overwritten: String,
}

/// A line without its end and without control characters: what a program writes must not move a terminal's
/// cursor or break a report.
fn readable(bytes: &[u8]) -> Written {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_end_matches(['\n', '\r']);
    // A progress bar redraws itself after a carriage return: its last state is the line.
    let (before, line) = text.rsplit_once('\r').unwrap_or(("", text));
    let before: Vec<String> = before.split('\r').map(plain).collect();
    Written {
        line: plain(line),
        overwritten: before.join("\n"),
    }
}

fn plain(text: &str) -> String {
    let plain = anstream::adapter::strip_str(text).to_string();
    plain
        .chars()
        .filter(|c| !c.is_control() || *c == '\t')
        .collect()
}

impl Engine {
    /// Runs a command to its end; each line goes to `line` as it comes.
    ///
    /// # Errors
    /// When it could not be started, or the engine hung up before its exit code was known.
    pub async fn exec(
        &self,
        container: &str,
        spec: &ExecSpec,
        mut line: impl FnMut(ExecLine) + Send,
    ) -> Result<ExecOutcome, EngineError> {
        let operation = || {
            format!(
                "run `{}` in container `{container}`",
                spec.command.join(" ")
            )
        };
        let id = self.create_exec(container, spec, false).await?;
        let started = self
            .docker
            .start_exec(&id, None::<StartExecOptions>)
            .await
            .doing(operation)?;
        let StartExecResults::Attached { mut output, .. } = started else {
            return Err(EngineError::new(operation(), "the engine detached it"));
        };
        let keep = spec.keep.unwrap_or(KEPT);
        let (mut out, mut err) = (LineCutter::keeping(keep), LineCutter::keeping(keep));
        let mut emit = |output: Output, written: Written| {
            line(ExecLine {
                output,
                line: written.line,
                overwritten: written.overwritten,
            });
        };
        while let Some(chunk) = output.next().await {
            let chunk = split(chunk.doing(operation)?);
            match chunk.output {
                Output::Stdout => out.push(&chunk.bytes, |text| emit(Output::Stdout, text)),
                Output::Stderr => err.push(&chunk.bytes, |text| emit(Output::Stderr, text)),
            }
        }
        let stdout = out.finish(|text| emit(Output::Stdout, text));
        let stderr = err.finish(|text| emit(Output::Stderr, text));
        let ended = self.docker.inspect_exec(&id).await.doing(operation)?;
        let has_terminal = ended.process_config.and_then(|config| config.tty);
        if ended.open_stdin == Some(true) || has_terminal == Some(true) {
            return Err(EngineError::new(
                operation(),
                "the engine gave it an input or a terminal, and nobody asked for one",
            ));
        }
        match ended.exit_code {
            Some(exit_code) => Ok(ExecOutcome {
                exit_code,
                stdout,
                stderr,
            }),
            None => Err(EngineError::new(
                operation(),
                "its output ended and the engine knows no exit code",
            )),
        }
    }

    /// Starts a command whose input stays open.
    ///
    /// # Errors
    /// When it could not be started.
    pub async fn exec_interactive(
        &self,
        container: &str,
        spec: &ExecSpec,
    ) -> Result<Interactive, EngineError> {
        let operation = || {
            format!(
                "run `{}` in container `{container}`",
                spec.command.join(" ")
            )
        };
        let id = self.create_exec(container, spec, true).await?;
        let options = StartExecOptions {
            output_capacity: Some(256 * 1024),
            ..StartExecOptions::default()
        };
        let started = self
            .docker
            .start_exec(&id, Some(options))
            .await
            .doing(operation)?;
        let StartExecResults::Attached { output, input } = started else {
            return Err(EngineError::new(operation(), "the engine detached it"));
        };
        let output = output
            .map(|chunk| chunk.doing(|| "read the agent's answers".into()).map(split))
            .boxed();
        Ok(Interactive { input, output })
    }

    async fn create_exec(
        &self,
        container: &str,
        spec: &ExecSpec,
        stdin: bool,
    ) -> Result<String, EngineError> {
        let options = CreateExecOptions {
            attach_stdin: Some(stdin),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(false),
            env: Some(
                spec.environment
                    .iter()
                    .map(|(key, value)| format!("{key}={value}"))
                    .collect(),
            ),
            cmd: Some(spec.command.clone()),
            user: spec.user.clone(),
            working_dir: spec.working_dir.clone(),
            ..CreateExecOptions::default()
        };
        let made = self
            .docker
            .create_exec(container, options)
            .await
            .doing(|| {
                format!(
                    "run `{}` in container `{container}`",
                    spec.command.join(" ")
                )
            })?;
        Ok(made.id)
    }
}

pub(super) fn split(chunk: LogOutput) -> LogChunk {
    match chunk {
        LogOutput::StdErr { message } => LogChunk {
            output: Output::Stderr,
            bytes: message,
        },
        LogOutput::StdOut { message }
        | LogOutput::StdIn { message }
        | LogOutput::Console { message } => LogChunk {
            output: Output::Stdout,
            bytes: message,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_become_lines_wherever_they_are_cut() {
        let mut lines = Vec::new();
        let mut cutter = LineCutter::keeping(KEPT);
        for chunk in ["one\ntw", "o\r\n10%\r50%\r100%\n\x1b[31mre", "d\x1b[0m\x07"] {
            cutter.push(chunk.as_bytes(), |written| lines.push(written));
        }
        let kept = cutter.finish(|written| lines.push(written));
        let shown: Vec<&str> = lines.iter().map(|of| of.line.as_str()).collect();
        assert_eq!(shown, ["one", "two", "100%", "red"]);
        let gone: Vec<&str> = lines.iter().map(|of| of.overwritten.as_str()).collect();
        assert_eq!(gone, ["", "", "10%\n50%", ""]);
        assert!(kept.starts_with("one\ntwo"));
    }

    #[test]
    fn what_a_carriage_return_takes_back_is_not_lost() {
        for (bytes, line, overwritten) in [
            ("secret\rdone\n", "done", "secret"),
            ("\x1b[1mse\x1b[0mcret\r\x1b[Kdone", "done", "secret"),
            ("se\rcret\r\n", "cret", "se"),
            ("\rdone\r\r\n", "done", ""),
            ("\n", "", ""),
        ] {
            let written = readable(bytes.as_bytes());
            let seen = (written.line.as_str(), written.overwritten.as_str());
            assert_eq!(seen, (line, overwritten), "{bytes:?}");
        }
    }

    #[test]
    fn only_the_end_of_a_flood_is_kept() {
        let mut cutter = LineCutter::keeping(KEPT);
        let chunk = vec![b'x'; 100_000];
        for _ in 0..50 {
            cutter.push(&chunk, |_| {});
        }
        cutter.push(b"\nlast", |_| {});
        let kept = cutter.finish(|_| {});
        assert_eq!(kept.len(), KEPT);
        assert!(kept.ends_with("last"));
    }
}
