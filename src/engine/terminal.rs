//! A command in a container that a person talks to: with a terminal, or with their own standard input and outputs.

use std::pin::Pin;

use bollard::exec::{CreateExecOptions, ResizeExecOptions, StartExecOptions, StartExecResults};
use futures_util::{Stream, StreamExt};
use tokio::io::AsyncWrite;

use super::Engine;
use super::error::{Doing, EngineError};
use super::exec::{LogChunk, split};

/// What a person wants to run.
#[derive(Clone, Debug)]
pub struct TerminalSpec {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Added to the container's environment, as `KEY=value`.
    pub environment: Vec<String>,
    /// The working folder; default the container's.
    pub working_dir: Option<String>,
    /// Through a terminal, on which both outputs are one.
    pub tty: bool,
}

/// A command that a person talks to.
pub struct Session {
    engine: Engine,
    id: String,
    operation: String,
    /// Its standard input.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
    /// What it writes, in chunks.
    pub output: Pin<Box<dyn Stream<Item = Result<LogChunk, EngineError>> + Send>>,
}

impl Engine {
    /// Starts a command and attaches to all of it.
    ///
    /// # Errors
    /// When the container does not run, or has no such command.
    pub async fn session(
        &self,
        container: &str,
        spec: &TerminalSpec,
    ) -> Result<Session, EngineError> {
        let operation = format!(
            "run `{}` in container `{container}`",
            spec.command.join(" ")
        );
        let options = CreateExecOptions {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(spec.tty),
            env: Some(spec.environment.clone()),
            cmd: Some(spec.command.clone()),
            working_dir: spec.working_dir.clone(),
            ..CreateExecOptions::default()
        };
        let made = self.docker.create_exec(container, options).await;
        let id = made.doing(|| operation.clone())?.id;
        let options = StartExecOptions {
            tty: spec.tty,
            ..StartExecOptions::default()
        };
        let started = self.docker.start_exec(&id, Some(options)).await;
        let StartExecResults::Attached { output, input } = started.doing(|| operation.clone())?
        else {
            return Err(EngineError::new(operation, "the engine detached it"));
        };
        let reading = operation.clone();
        Ok(Session {
            engine: self.clone(),
            id,
            operation,
            input,
            output: output
                .map(move |chunk| chunk.doing(|| reading.clone()).map(split))
                .boxed(),
        })
    }
}

impl Session {
    /// Tells the command's terminal how large the person's is.
    ///
    /// # Errors
    /// When the command has ended.
    pub async fn resize(&self, rows: u16, columns: u16) -> Result<(), EngineError> {
        let options = ResizeExecOptions {
            height: rows,
            width: columns,
        };
        let resized = self.engine.docker.resize_exec(&self.id, options).await;
        resized.doing(|| format!("resize the terminal: {}", self.operation))
    }

    /// How it ended, once its output has.
    ///
    /// # Errors
    /// When the engine does not know.
    pub async fn exit_code(&self) -> Result<i64, EngineError> {
        let ended = self.engine.docker.inspect_exec(&self.id).await;
        let ended = ended.doing(|| self.operation.clone())?;
        ended.exit_code.ok_or_else(|| {
            EngineError::new(
                self.operation.clone(),
                "its output ended and the engine knows no exit code",
            )
        })
    }
}
