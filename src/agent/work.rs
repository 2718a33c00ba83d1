//! The worker: requests in, replies out, each as soon as it is there.

use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::sync::{Semaphore, mpsc};

use super::probe::{self, Prober};
use super::protocol::{Answer, Ask, Reply, Request};
use super::watch::Watches;
use super::{network, reach};

/// Bytes of one request. A file in a form takes about four bytes a byte.
const LINE_LIMIT: usize = 64 << 20;
/// What all requests under way may take, in MiB.
const BUDGET: u32 = 256;

/// What requests are worked on with.
struct Means {
    prober: Arc<Prober>,
    watches: Watches,
}

/// Works until the input ends, then finishes what is under way.
///
/// # Errors
/// Nobody reads the replies any more, or the input broke.
pub(super) async fn work(
    input: impl AsyncRead + Unpin,
    output: impl AsyncWrite + Unpin + Send + 'static,
) -> Result<(), String> {
    let means = Arc::new(Means {
        prober: Arc::new(Prober::new()?),
        watches: Watches::default(),
    });
    let (sender, receiver) = mpsc::channel(16);
    let writer = tokio::spawn(write(receiver, output));
    let read = read(input, means, sender.clone()).await;
    // The writer ends when the last task has dropped its sender.
    drop(sender);
    let written = writer
        .await
        .unwrap_or_else(|error| Err(format!("the agent's own mistake: {error}")));
    written.and(read)
}

async fn read(
    input: impl AsyncRead + Unpin,
    means: Arc<Means>,
    sender: mpsc::Sender<Reply>,
) -> Result<(), String> {
    let budget = Arc::new(Semaphore::new(BUDGET as usize));
    let mut input = BufReader::new(input);
    loop {
        let line = tokio::select! {
            line = next_line(&mut input, LINE_LIMIT) => line.map_err(|error| format!("cannot read requests: {error}"))?,
            // Nobody hears us: the writer will say why.
            () = sender.closed() => return Ok(()),
        };
        let Some(line) = line else {
            return Ok(());
        };
        // The line itself and what is made of it, and an answer with its copy.
        let share = (2 + 2 * (line.bytes.len() >> 20) as u32).min(BUDGET);
        let Ok(share) = budget.clone().acquire_many_owned(share).await else {
            return Ok(());
        };
        let (means, sender) = (means.clone(), sender.clone());
        tokio::spawn(async move {
            let reply = reply(line, means).await;
            // Nobody hears us: the writer will say why.
            let _ = sender.send(reply).await;
            drop(share);
        });
    }
}

async fn write(
    mut receiver: mpsc::Receiver<Reply>,
    mut output: impl AsyncWrite + Unpin,
) -> Result<(), String> {
    while let Some(reply) = receiver.recv().await {
        let mut line = serde_json::to_vec(&reply).map_err(|error| error.to_string())?;
        line.push(b'\n');
        let written = async {
            output.write_all(&line).await?;
            output.flush().await
        };
        written
            .await
            .map_err(|error: std::io::Error| format!("cannot write replies: {error}"))?;
    }
    Ok(())
}

/// One line of input, without its end.
struct Line {
    bytes: Vec<u8>,
    /// It was longer than allowed, and nothing of it was kept.
    too_long: bool,
}

/// The next line that is not empty, or nothing at the end of the input.
async fn next_line(
    input: &mut (impl AsyncBufRead + Unpin),
    limit: usize,
) -> std::io::Result<Option<Line>> {
    let mut line = Line {
        bytes: Vec::new(),
        too_long: false,
    };
    loop {
        let chunk = input.fill_buf().await?;
        if chunk.is_empty() {
            let something = line.too_long || !line.bytes.trim_ascii().is_empty();
            return Ok(something.then_some(line));
        }
        let (text, used, ended) = match chunk.iter().position(|byte| *byte == b'\n') {
            Some(at) => (&chunk[..at], at + 1, true),
            None => (chunk, chunk.len(), false),
        };
        if !line.too_long && line.bytes.len() + text.len() <= limit {
            line.bytes.extend_from_slice(text);
        } else {
            line.too_long = true;
            line.bytes = Vec::new();
        }
        input.consume(used);
        if ended && (line.too_long || !line.bytes.trim_ascii().is_empty()) {
            return Ok(Some(line));
        }
        if ended {
            line.bytes.clear();
        }
    }
}

async fn reply(line: Line, means: Arc<Means>) -> Reply {
    let started = Instant::now();
    let refused = |id: u64, reason: String| Reply {
        id,
        answer: Answer::Refused(reason),
        elapsed: started.elapsed(),
    };
    if line.too_long {
        let reason = format!("the request is longer than {LINE_LIMIT} bytes");
        return refused(0, reason);
    }
    let Request { id, ask } = match serde_json::from_slice(&line.bytes) {
        Ok(request) => request,
        Err(error) => {
            let id = serde_json::from_slice::<Value>(&line.bytes)
                .ok()
                .and_then(|value| value.get("id")?.as_u64());
            return refused(id.unwrap_or(0), format!("cannot read the request: {error}"));
        }
    };
    drop(line);
    // In a task of its own, so that a mistake of ours is an answer and not a run that waits for ever.
    match tokio::spawn(answer(id, ask, means)).await {
        Ok((answer, elapsed)) => Reply {
            id,
            answer,
            elapsed: elapsed.unwrap_or_else(|| started.elapsed()),
        },
        Err(error) => refused(id, format!("the agent's own mistake: {error}")),
    }
}

/// The answer, and its time where that is not all of it.
async fn answer(id: u64, ask: Ask, means: Arc<Means>) -> (Answer, Option<std::time::Duration>) {
    match ask {
        Ask::Probe(probe) => {
            let (seen, elapsed) = means.prober.probe(probe).await;
            (Answer::Seen(seen), Some(elapsed))
        }
        Ask::AwaitTcp {
            host,
            port,
            patience,
        } => (
            Answer::Connected(probe::tcp::await_tcp(&host, port, patience).await),
            None,
        ),
        Ask::Reach(what) => (Answer::Reached(reach::reach(&what).await), None),
        Ask::Network => (Answer::Network(network::facts()), None),
        Ask::Watch(watch) => {
            let (first, elapsed) = means.watches.begin(id, watch, &means.prober).await;
            (Answer::Watching(first), Some(elapsed))
        }
        Ask::Watched(id) => match means.watches.end(id).await {
            Some(tallies) => (Answer::Watched(tallies), None),
            None => (Answer::Refused(format!("nothing is watched as {id}")), None),
        },
    }
}

#[cfg(test)]
mod tests;
