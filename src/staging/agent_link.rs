//! The line to the agent: one exec for the whole run, many questions at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::agent::protocol::{Ask, Reply, Request};
use crate::engine::{Engine, EngineError, ExecSpec};
use crate::event::Output;
use crate::state::agent;

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Reply>>>>;

/// Asks the agent of one staging.
#[derive(Debug)]
pub struct AgentLink {
    requests: mpsc::Sender<Request>,
    waiting: Waiting,
    next: std::sync::atomic::AtomicU64,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for AgentLink {
    fn drop(&mut self) {
        // The tasks hold nothing that outlives the agent's container, which teardown removes.
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl AgentLink {
    /// Starts a worker in the agent's container.
    ///
    /// # Errors
    /// When the container does not run.
    pub async fn open(engine: &Engine, container: &str) -> Result<Self, EngineError> {
        let spec = ExecSpec {
            command: agent(&["work"]),
            ..ExecSpec::default()
        };
        let mut exec = engine.exec_interactive(container, &spec).await?;
        let waiting: Waiting = Arc::default();
        let (requests, mut outgoing) = mpsc::channel::<Request>(64);
        let writer = tokio::spawn(async move {
            while let Some(request) = outgoing.recv().await {
                let Ok(mut line) = serde_json::to_vec(&request) else {
                    continue;
                };
                line.push(b'\n');
                if exec.input.write_all(&line).await.is_err() || exec.input.flush().await.is_err() {
                    break;
                }
            }
        });
        let answers = Arc::clone(&waiting);
        let reader = tokio::spawn(async move {
            let mut pending = Vec::new();
            while let Some(Ok(chunk)) = exec.output.next().await {
                match chunk.output {
                    Output::Stdout => pending.extend_from_slice(&chunk.bytes),
                    Output::Stderr => {
                        tracing::warn!("agent: {}", String::from_utf8_lossy(&chunk.bytes).trim());
                    }
                }
                while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = pending.drain(..=end).collect();
                    if let Ok(reply) = serde_json::from_slice::<Reply>(&line) {
                        let asked = answers
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .remove(&reply.id);
                        if let Some(asked) = asked {
                            // Whoever asked may have given up at a deadline.
                            let _ = asked.send(reply);
                        }
                    }
                }
            }
            // No answer will come any more: everybody who waits learns it now.
            answers
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clear();
        });
        Ok(Self {
            requests,
            waiting,
            next: std::sync::atomic::AtomicU64::new(1),
            tasks: [writer, reader],
        })
    }

    /// Asks and waits for the answer; the deadline is the question's own.
    ///
    /// # Errors
    /// When the agent is gone.
    pub async fn ask(&self, ask: Ask) -> Result<Reply, EngineError> {
        let gone = || EngineError::new("ask the agent", "its worker ended");
        let id = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        if self.tasks[1].is_finished() {
            return Err(gone());
        }
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, answer);
        self.requests
            .send(Request { id, ask })
            .await
            .map_err(|_| gone())?;
        answered.await.map_err(|_| gone())
    }
}
