//! A person and a command in a container: keys in, letters out.

use std::io::{IsTerminal as _, Read as _};
use std::process::ExitCode;

use futures_util::StreamExt as _;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::io::AsyncWriteExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::engine::{Engine, EngineError, Session, TerminalSpec};
use crate::event::Output;

/// The terminal as it was, given back when this goes.
struct Raw(Termios);

impl Raw {
    /// Hands every key through: Ctrl-C is for the command.
    fn set() -> std::io::Result<Self> {
        let stdin = std::io::stdin();
        let before = tcgetattr(&stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        // What was typed ahead is for the command.
        tcsetattr(&stdin, OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Whoever took the terminal away in between has no use for it.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Drain, &self.0);
    }
}

/// Starts the command and carries both ways until it has ended. Its exit code is ours.
pub(super) async fn talk(
    engine: &Engine,
    container: &str,
    spec: &TerminalSpec,
) -> Result<ExitCode, EngineError> {
    let mut session = engine.session(container, spec).await?;
    let raw = match spec.tty {
        true => Raw::set().ok(),
        false => None,
    };
    let carried = carry(&mut session, spec.tty).await;
    drop(raw);
    carried?;
    let code = session.exit_code().await?;
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

async fn carry(session: &mut Session, tty: bool) -> Result<(), EngineError> {
    let broken =
        |error: std::io::Error| EngineError::new("talk to the container", error.to_string());
    let mut keys = keys();
    let mut resized = signal(SignalKind::window_change()).map_err(broken)?;
    if tty {
        resize(session).await;
    }
    let mut open = true;
    loop {
        tokio::select! {
            chunk = session.output.next() => {
                let Some(chunk) = chunk else { return Ok(()) };
                let chunk = chunk?;
                let written = match chunk.output {
                    Output::Stdout => write(std::io::stdout(), &chunk.bytes),
                    Output::Stderr => write(std::io::stderr(), &chunk.bytes),
                };
                // A reader that closed the pipe has seen enough.
                if written.is_err() {
                    return Ok(());
                }
            }
            typed = keys.recv(), if open => match typed {
                Some(bytes) => {
                    // A command that has ended takes nothing more; its output tells so.
                    open = session.input.write_all(&bytes).await.is_ok()
                        && session.input.flush().await.is_ok();
                }
                None => {
                    open = false;
                    let _ = session.input.shutdown().await;
                }
            },
            _ = resized.recv(), if tty => resize(session).await,
        }
    }
}

fn write(mut to: impl std::io::Write, bytes: &[u8]) -> std::io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}

/// A command that has ended in this moment has no size any more.
async fn resize(session: &Session) {
    let out = std::io::stdout();
    let size = if out.is_terminal() {
        tcgetwinsize(&out)
    } else {
        tcgetwinsize(std::io::stdin())
    };
    if let Ok(size) = size {
        let _ = session.resize(size.ws_row, size.ws_col).await;
    }
}

/// What is typed. A thread of its own reads it: nobody can call off a read of a terminal, and the process ends without
/// waiting for it.
fn keys() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut buffer = [0; 4096];
        while let Ok(read) = stdin.read(&mut buffer) {
            if read == 0 || sender.blocking_send(buffer[..read].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}
