//! Request bodies that a blocking writer fills while they are sent, so that nothing is held in memory whole.

use std::io::Write;

use bytes::Bytes;
use futures_util::{Stream, stream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Chunks on their way; with 256 KiB each, at most 2 MiB.
const IN_FLIGHT: usize = 8;
const CHUNK: usize = 256 * 1024;

/// A writer whose bytes become a body. An error of the writer breaks the body off, so that the engine never
/// takes half of it for the whole.
struct ChannelWriter {
    sender: mpsc::Sender<std::io::Result<Bytes>>,
    buffer: Vec<u8>,
}

impl ChannelWriter {
    fn send(&mut self) -> std::io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        self.sender
            .blocking_send(Ok(chunk.into()))
            .map_err(|_| std::io::Error::other("the engine stopped reading"))
    }
}

impl Write for ChannelWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.send()
    }
}

/// Runs `write` on a blocking thread and returns the stream it fills, and its own result.
pub(super) fn written<T, E>(
    write: impl FnOnce(&mut (dyn Write + Send)) -> Result<T, E> + Send + 'static,
) -> (
    impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    JoinHandle<Result<T, E>>,
)
where
    T: Send + 'static,
    E: std::fmt::Display + From<std::io::Error> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(IN_FLIGHT);
    let writer = tokio::task::spawn_blocking(move || {
        let mut channel = ChannelWriter {
            sender,
            buffer: Vec::with_capacity(CHUNK),
        };
        let result = write(&mut channel).and_then(|value| {
            channel.flush()?;
            Ok(value)
        });
        if let Err(error) = &result {
            let broken = std::io::Error::other(error.to_string());
            // Nobody listens any more when the engine hung up first; the writer's own result tells.
            let _ = channel.sender.blocking_send(Err(broken));
        }
        result
    });
    let chunks = stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|chunk| (chunk, receiver))
    });
    (chunks, writer)
}
