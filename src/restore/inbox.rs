//! A volume with the backups, for the tools that restore them.

use super::Job;
use crate::backup::open_decompressed;
use crate::engine::{Attach, ContainerSpec, EngineError, HostPaths, Modes, Purpose, VolumeAt};
use crate::event::{EventKind, Stage};
use crate::staging::Staging;

/// Where it is mounted in the containers of tools.
pub(super) const INBOX: &str = "/rehearse-backup";

/// A volume with backups: named by their index, each file without its compression ([`Inbox::fill`]), or one as it is
/// ([`Inbox::as_it_is`]).
#[derive(Debug)]
pub struct Inbox {
    volume: String,
    /// Where it is mounted.
    at: &'static str,
}

impl Inbox {
    /// Copies the backups into a new volume. `name` becomes part of its name.
    ///
    /// # Errors
    /// When a backup cannot be read any more, or the engine refuses.
    pub async fn fill(
        staging: &Staging,
        name: &str,
        jobs: &[Job<'_>],
    ) -> Result<Self, EngineError> {
        let inbox = Self::open(staging, name).await?;
        inbox.put(staging, jobs).await?;
        Ok(inbox)
    }

    /// A new volume into which backups can be [`put`](Self::put) while something that mounts it starts.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn open(staging: &Staging, name: &str) -> Result<Self, EngineError> {
        Self::empty(staging, &format!("inbox-{name}"), INBOX).await
    }

    /// Copies the backups into it.
    ///
    /// # Errors
    /// Like [`Self::fill`].
    pub async fn put(&self, staging: &Staging, jobs: &[Job<'_>]) -> Result<(), EngineError> {
        self.filled(staging, async |filler| {
            for (index, job) in jobs.iter().enumerate() {
                copy(staging, filler, index, *job).await?;
            }
            Ok(())
        })
        .await
    }

    /// Copies one backup as it is, under the name `file`, into a new volume that is mounted at `at`.
    ///
    /// # Errors
    /// Like [`Self::fill`].
    pub(super) async fn as_it_is(
        staging: &Staging,
        job: Job<'_>,
        file: &str,
        at: &'static str,
    ) -> Result<Self, EngineError> {
        let inbox = Self::empty(staging, &format!("backup-{}", job.restore.name), at).await?;
        let copied = inbox.filled(staging, async |filler| {
            copy_as_it_is(staging, filler, file, job).await
        });
        copied.await?;
        Ok(inbox)
    }

    async fn empty(staging: &Staging, name: &str, at: &'static str) -> Result<Self, EngineError> {
        let ground = &staging.ground;
        let volume = ground.names.of(name);
        ground
            .engine
            .create_volume(&volume, &ground.labels, Purpose::Run, Default::default())
            .await?;
        Ok(Self { volume, at })
    }

    /// Lets `copy` fill it by a container's name, in which it is `/v`.
    async fn filled(
        &self,
        staging: &Staging,
        copy: impl AsyncFnOnce(&str) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let ground = &staging.ground;
        let engine = &ground.engine;
        let filler = format!("{}-filler", self.volume);
        let mut spec = ContainerSpec::new(&filler, &staging.agent_image, Attach::None);
        // Never started: the engine fills the volumes of a container that exists.
        spec.command = Some(crate::state::agent(&["idle"]));
        spec.volumes = vec![VolumeAt {
            volume: self.volume.clone(),
            target: "/v".into(),
            read_only: false,
        }];
        engine.create_container(&spec, &ground.labels).await?;
        copy(&filler).await?;
        engine.remove_container(&filler).await
    }

    /// Where the backup with an index lies in a container that has the inbox.
    pub fn path(index: usize) -> String {
        format!("{INBOX}/{index}")
    }

    /// As it is mounted, read-only.
    pub fn mount(&self) -> VolumeAt {
        VolumeAt {
            volume: self.volume.clone(),
            target: self.at.into(),
            read_only: true,
        }
    }

    /// As it is mounted where a tool has to write into its copy: a lock beside a repository's data.
    pub fn mount_writable(&self) -> VolumeAt {
        VolumeAt {
            read_only: false,
            ..self.mount()
        }
    }

    /// Removes it.
    ///
    /// # Errors
    /// When something still uses it.
    pub async fn remove(self, staging: &Staging) -> Result<(), EngineError> {
        staging.ground.engine.remove_volume(&self.volume).await
    }
}

async fn copy(
    staging: &Staging,
    filler: &str,
    index: usize,
    job: Job<'_>,
) -> Result<(), EngineError> {
    if job.facts.path.is_dir() {
        return copy_as_it_is(staging, filler, &index.to_string(), job).await;
    }
    let engine = &staging.ground.engine;
    let facts = job.facts.clone();
    let progress = Counted::new(staging, job, facts.decompressed);
    engine
        .upload_tar(filler, "/v", move |out| -> std::io::Result<()> {
            let content = open_decompressed(&facts.path, facts.compression)?;
            let mut header = tar::Header::new_gnu();
            header.set_size(facts.decompressed);
            header.set_mode(0o644);
            header.set_mtime(0);
            let mut tar = tar::Builder::new(out);
            let content = Counting { content, progress };
            tar.append_data(&mut header, index.to_string(), content)?;
            tar.finish()
        })
        .await
}

/// A file or folder as it is, under a name in the inbox.
async fn copy_as_it_is(
    staging: &Staging,
    filler: &str,
    name: &str,
    job: Job<'_>,
) -> Result<(), EngineError> {
    let mut progress = Counted::new(staging, job, job.facts.size);
    let paths = HostPaths {
        source: job.facts.path.clone(),
        target: format!("/v/{name}"),
        owner: (0, 0),
        // Whoever reads it there has to be able to.
        mode: Modes::Set(0o644),
    };
    let engine = &staging.ground.engine;
    engine
        .upload_paths_counted(filler, paths, move |bytes| progress.add(bytes))
        .await
}

/// How far a copy has come.
struct Counted {
    recorder: std::sync::Arc<crate::report::Recorder>,
    what: String,
    total: u64,
    done: u64,
    told: u64,
}

impl Counted {
    fn new(staging: &Staging, job: Job<'_>, total: u64) -> Self {
        Self {
            recorder: std::sync::Arc::clone(&staging.ground.recorder),
            what: format!("copy {} into staging", job.restore.name),
            total,
            done: 0,
            told: 0,
        }
    }

    fn add(&mut self, bytes: usize) {
        /// Bytes between two words about it.
        const STEP: u64 = 32 << 20;
        self.done += bytes as u64;
        if self.done - self.told >= STEP {
            self.told = self.done;
            self.recorder.emit(EventKind::Progress {
                stage: Stage::Restore,
                what: self.what.clone(),
                // The headers of a tar are bytes too.
                done: self.done.min(self.total),
                total: Some(self.total),
                unit: "bytes".to_owned(),
            });
        }
    }
}

/// Counts what is read through it.
struct Counting<R> {
    content: R,
    progress: Counted,
}

impl<R: std::io::Read> std::io::Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.content.read(buffer)?;
        self.progress.add(read);
        Ok(read)
    }
}
