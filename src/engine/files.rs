//! Files into and out of containers, which need not run for it.

use std::io::Write;
use std::path::PathBuf;

use bollard::body_try_stream;
use bollard::query_parameters::{
    ContainerArchiveInfoOptions, DownloadFromContainerOptions, UploadToContainerOptions,
};
use futures_util::StreamExt;

use super::error::{Doing, EngineError};
use super::{Engine, body};
use crate::package::{TarOptions, tar_folder};

/// A file or folder of this machine that goes into a container.
#[derive(Clone, Debug)]
pub struct HostPaths {
    /// A file, or a folder whose content goes below `target`.
    pub source: PathBuf,
    /// The absolute path in the container.
    pub target: String,
    /// Numeric owner and group there.
    pub owner: (u64, u64),
    /// Permission bits there, and whether empty folders go along.
    pub mode: Modes,
}

/// What becomes of permission bits and empty folders in a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Modes {
    /// All as it is on this machine.
    Kept,
    /// Only what a package's digest covers, see [`TarOptions::as_digested`].
    Normal,
    /// As [`Self::Normal`], but these bits for every file.
    NormalBut(u32),
    /// As [`Self::Kept`], but these bits for every file.
    Set(u32),
}

impl Engine {
    /// Writes a tar stream, made by `write`, below `path` of a container, which need not run. Owners and modes
    /// are those of the tar.
    ///
    /// # Errors
    /// The writer's own error first, then the engine's.
    pub async fn upload_tar<T, E>(
        &self,
        name: &str,
        path: &str,
        write: impl FnOnce(&mut (dyn Write + Send)) -> Result<T, E> + Send + 'static,
    ) -> Result<T, EngineError>
    where
        T: Send + 'static,
        E: std::fmt::Display + From<std::io::Error> + Send + 'static,
    {
        let operation = || format!("copy into `{path}` of container `{name}`");
        let options = UploadToContainerOptions {
            path: path.to_owned(),
            ..UploadToContainerOptions::default()
        };
        let (stream, writer) = body::written(write);
        let sent = self
            .docker
            .upload_to_container(name, Some(options), body_try_stream(stream))
            .await
            .doing(operation);
        match (writer.await, sent) {
            (Ok(Ok(value)), Ok(())) => Ok(value),
            // The engine's answer explains why the writer could not go on; without one, the writer's own words do.
            (_, Err(error)) if error.status.is_some() => Err(error),
            (Ok(Err(error)), _) => Err(EngineError::new(operation(), error.to_string())),
            (Err(panic), _) => Err(EngineError::new(operation(), panic.to_string())),
            (Ok(Ok(_)), Err(error)) => Err(error),
        }
    }

    /// Copies a file, or the content of a folder, into a container, which need not run. A folder's content goes into
    /// the target, which keeps its own mode and owner if it is there and is made if it is not; a file goes to the
    /// target, or into it where that is a folder.
    ///
    /// # Errors
    /// When the source cannot be read, or the engine refuses.
    pub async fn upload_paths(&self, name: &str, paths: HostPaths) -> Result<(), EngineError> {
        self.upload_paths_counted(name, paths, |_| ()).await
    }

    /// The same; `sent` hears of each number of bytes that went, with those that a tar needs besides the files.
    ///
    /// # Errors
    /// Like [`Self::upload_paths`].
    pub async fn upload_paths_counted(
        &self,
        name: &str,
        paths: HostPaths,
        sent: impl FnMut(usize) + Send + 'static,
    ) -> Result<(), EngineError> {
        let target_is_folder = self.is_folder(name, &paths.target).await?;
        let inside = paths.target.trim_matches('/').to_owned();
        let (path, prefix) = if paths.source.is_dir() {
            if target_is_folder {
                (paths.target.clone(), String::new())
            } else {
                ("/".to_owned(), inside)
            }
        } else if target_is_folder || paths.target.ends_with('/') {
            let file = paths
                .source
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default();
            ("/".to_owned(), format!("{inside}/{file}"))
        } else {
            ("/".to_owned(), inside)
        };
        let options = TarOptions {
            prefix,
            owner: Some(paths.owner),
            file_mode: match paths.mode {
                Modes::Set(mode) | Modes::NormalBut(mode) => Some(mode),
                Modes::Kept | Modes::Normal => None,
            },
            folder_mode: None,
            as_digested: match paths.mode {
                Modes::Normal | Modes::NormalBut(_) => true,
                Modes::Kept | Modes::Set(_) => false,
            },
        };
        let source = paths.source;
        self.upload_tar(name, &path, move |out| {
            tar_folder(&source, Counted { out, sent }, &options)
                .map(|_| ())
                .map_err(std::io::Error::other)
        })
        .await
    }

    /// True where a path in a container is a folder; false where it is something else or not there.
    async fn is_folder(&self, name: &str, path: &str) -> Result<bool, EngineError> {
        let options = ContainerArchiveInfoOptions {
            path: path.to_owned(),
        };
        let info = self
            .docker
            .get_container_archive_info(name, Some(options))
            .await
            .doing(|| format!("look at `{path}` of container `{name}`"));
        match info {
            // The engine is written in Go: the uppermost bit of its file modes says folder.
            Ok(info) => Ok(info.file_mode & 0x8000_0000 != 0),
            Err(error) if error.is_not_found() => Ok(false),
            // Such an answer has no words; what is in the way, a file where a folder should be, the copying itself says.
            Err(error) if error.status.is_some() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A file or folder of a container as a tar, at most `limit` bytes of it.
    ///
    /// # Errors
    /// With [`EngineError::is_not_found`] when the path does not exist; when it is larger than `limit`.
    pub async fn download(
        &self,
        name: &str,
        path: &str,
        limit: usize,
    ) -> Result<Vec<u8>, EngineError> {
        let operation = || format!("read `{path}` of container `{name}`");
        let options = DownloadFromContainerOptions {
            path: path.to_owned(),
        };
        let mut stream = self.docker.download_from_container(name, Some(options));
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(&chunk.doing(operation)?);
            if bytes.len() > limit {
                return Err(EngineError::too_large(operation(), limit));
            }
        }
        Ok(bytes)
    }

    /// Copies a folder of a container to `out` as a tar, without a limit.
    ///
    /// # Errors
    /// When the path does not exist, or `out` cannot be written.
    pub async fn download_to(
        &self,
        name: &str,
        path: &str,
        out: &mut (impl tokio::io::AsyncWrite + Unpin),
    ) -> Result<(), EngineError> {
        use tokio::io::AsyncWriteExt as _;
        let operation = || format!("read `{path}` of container `{name}`");
        let options = DownloadFromContainerOptions {
            path: path.to_owned(),
        };
        let mut stream = self.docker.download_from_container(name, Some(options));
        while let Some(chunk) = stream.next().await {
            out.write_all(&chunk.doing(operation)?)
                .await
                .map_err(|error| EngineError::new(operation(), error.to_string()))?;
        }
        out.flush()
            .await
            .map_err(|error| EngineError::new(operation(), error.to_string()))
    }
}

/// Tells how much is written through it.
struct Counted<'a, F> {
    out: &'a mut (dyn Write + Send),
    sent: F,
}

impl<F: FnMut(usize)> Write for Counted<'_, F> {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let written = self.out.write(buffer)?;
        (self.sent)(written);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}
