//! What containers wrote.

use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptions;
use futures_util::{StreamExt, TryStreamExt};

use super::Engine;
use super::error::{Doing, EngineError};
use super::exec::{LogChunk, split};

impl Engine {
    /// The last `lines` lines that a container wrote, or all of them, both outputs in order.
    ///
    /// # Errors
    /// When it does not exist.
    pub async fn container_log(
        &self,
        name: &str,
        lines: Option<usize>,
    ) -> Result<String, EngineError> {
        let (text, _) = self.container_output(name, lines, true).await?;
        Ok(text)
    }

    /// What a container wrote to its standard output, alone.
    ///
    /// # Errors
    /// When it does not exist.
    pub async fn container_stdout(&self, name: &str) -> Result<String, EngineError> {
        let (text, _) = self.container_output(name, None, false).await?;
        Ok(text)
    }

    async fn container_output(
        &self,
        name: &str,
        lines: Option<usize>,
        stderr: bool,
    ) -> Result<(String, usize), EngineError> {
        let options = LogsOptions {
            stdout: true,
            stderr,
            tail: lines.map_or_else(|| "all".to_owned(), |lines| lines.to_string()),
            ..LogsOptions::default()
        };
        let mut log = self.docker.logs(name, Some(options));
        let mut bytes = Vec::new();
        while let Some(chunk) = log.next().await {
            let chunk: LogOutput = chunk.doing(|| format!("read the log of `{name}`"))?;
            bytes.extend_from_slice(&chunk.into_bytes());
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let size = bytes.len();
        Ok((text, size))
    }

    /// What a container wrote to both outputs, as it came; with `follow` also what it goes on to write, until it ends.
    pub fn container_chunks(
        &self,
        name: &str,
        follow: bool,
    ) -> impl futures_util::Stream<Item = Result<LogChunk, EngineError>> + Send + use<> {
        let options = LogsOptions {
            follow,
            stdout: true,
            stderr: true,
            tail: "all".to_owned(),
            ..LogsOptions::default()
        };
        let operation = format!("read the log of `{name}`");
        let docker = self.docker.clone();
        docker
            .logs(name, Some(options))
            .map(move |chunk| chunk.doing(|| operation.clone()).map(split))
            .boxed()
    }

    /// Follows what a container writes to its standard output, from its start, line by line.
    pub fn follow_stdout(
        &self,
        name: &str,
    ) -> impl futures_util::Stream<Item = Result<String, EngineError>> + Send + use<> {
        let options = LogsOptions {
            follow: true,
            stdout: true,
            tail: "all".to_owned(),
            ..LogsOptions::default()
        };
        let name = name.to_owned();
        let docker = self.docker.clone();
        let chunks = docker
            .logs(&name, Some(options))
            .map(move |chunk| {
                chunk
                    .doing(|| format!("follow the log of `{name}`"))
                    .map_err(std::io::Error::other)
                    .map(LogOutput::into_bytes)
            })
            .boxed();
        let lines = tokio_util::io::StreamReader::new(chunks);
        let lines = tokio_util::codec::FramedRead::new(
            lines,
            tokio_util::codec::LinesCodec::new_with_max_length(64 * 1024),
        );
        lines.map_err(|error| EngineError::new("follow a log", error.to_string()))
    }
}
