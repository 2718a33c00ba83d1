//! Containers: made, started, stopped, removed, filled and read.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use bollard::body_try_stream;
use bollard::container::LogOutput;
use bollard::models::{
    ContainerCreateBody, EndpointSettings, HealthConfig, HostConfig, HostConfigLogConfig, Mount,
    MountType, NetworkingConfig,
};
use bollard::query_parameters::{
    ContainerArchiveInfoOptions, CreateContainerOptions, DownloadFromContainerOptions,
    KillContainerOptions, LogsOptions, RemoveContainerOptions, StopContainerOptions,
    UploadToContainerOptions, WaitContainerOptions,
};
use futures_util::{StreamExt, TryStreamExt};

use super::body;
use super::error::{Doing, EngineError};
use super::{Engine, Labels, Purpose};
use crate::package::{TarOptions, tar_folder};
use crate::plan::model::Healthcheck;

/// How a container is attached to networks.
#[derive(Clone, Debug)]
pub enum Attach {
    /// To one network, under these names.
    Network {
        /// The network's name.
        name: String,
        /// DNS names on it.
        aliases: Vec<String>,
        /// The resolver that the engine's own resolver asks.
        dns: Option<IpAddr>,
    },
    /// To none: helpers that only touch volumes.
    None,
    /// To the engine's ordinary bridge: the positive control of the isolate stage.
    Bridge,
    /// To the engine host's own interfaces: the beacon of the isolate stage, never a service.
    Host(HostNetwork),
}

/// Proof that a caller asked for the host's network on purpose.
#[derive(Clone, Copy, Debug)]
pub struct HostNetwork;

/// A volume in a container.
#[derive(Clone, Debug)]
pub struct VolumeAt {
    /// The engine's name of the volume.
    pub volume: String,
    /// The absolute path.
    pub target: String,
    /// Mounted read-only.
    pub read_only: bool,
}

/// A container to be made.
#[derive(Clone, Debug)]
pub struct ContainerSpec {
    /// The engine's name for it.
    pub name: String,
    /// An image reference or id that is present.
    pub image: String,
    /// Replaces the image's command.
    pub command: Option<Vec<String>>,
    /// Replaces the image's entrypoint.
    pub entrypoint: Option<Vec<String>>,
    /// `KEY` to value.
    pub environment: BTreeMap<String, String>,
    /// Networks.
    pub attach: Attach,
    /// Volumes.
    pub volumes: Vec<VolumeAt>,
    /// Folders of the engine's own host, read-only, with their targets: for helpers that look at what the engine keeps.
    pub engine_folders: Vec<(String, String)>,
    /// In-memory filesystems, path to options.
    pub tmpfs: BTreeMap<String, String>,
    /// `user` or `uid:gid`.
    pub user: Option<String>,
    /// The working folder.
    pub working_dir: Option<String>,
    /// The host name.
    pub hostname: Option<String>,
    /// Replaces the image's health check.
    pub healthcheck: Option<Healthcheck>,
    /// Bytes; none means no limit.
    pub memory: Option<u64>,
    /// Cores; none means no limit.
    pub cpus: Option<f64>,
    /// Bytes of `/dev/shm`.
    pub shm_size: Option<u64>,
    /// An init process as PID 1.
    pub init: bool,
    /// A read-only root filesystem.
    pub read_only: bool,
    /// The signal that asks it to stop.
    pub stop_signal: Option<String>,
}

impl ContainerSpec {
    /// A container of `image` with nothing else said.
    pub fn new(name: impl Into<String>, image: impl Into<String>, attach: Attach) -> Self {
        Self {
            name: name.into(),
            image: image.into(),
            command: None,
            entrypoint: None,
            environment: BTreeMap::new(),
            attach,
            volumes: Vec::new(),
            engine_folders: Vec::new(),
            tmpfs: BTreeMap::new(),
            user: None,
            working_dir: None,
            hostname: None,
            healthcheck: None,
            memory: None,
            cpus: None,
            shm_size: None,
            init: false,
            read_only: false,
            stop_signal: None,
        }
    }
}

/// What a container is doing.
#[derive(Clone, Debug)]
pub struct ContainerState {
    /// It runs.
    pub running: bool,
    /// Its health, where it has a check: `starting`, `healthy`, `unhealthy`.
    pub health: Option<String>,
    /// What the last health check wrote.
    pub last_check: Option<String>,
    /// Its exit code, once it has ended.
    pub exit_code: Option<i64>,
    /// It was killed for its memory.
    pub out_of_memory: bool,
    /// Its address on the first network that gave it one.
    pub address: Option<IpAddr>,
    /// The gateway of that network.
    pub gateway: Option<IpAddr>,
    /// Where the engine's host keeps what the container wrote to its own filesystem, for storage drivers that keep it
    /// apart.
    pub layer: Option<String>,
    /// When it was started, as the engine writes it.
    pub started_at: String,
}

/// A file to put into a container.
#[derive(Clone, Debug)]
pub struct FileUpload {
    /// The path below the folder that is uploaded to.
    pub path: String,
    /// The content.
    pub content: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u64,
    /// Numeric group.
    pub gid: u64,
}

/// A file or folder of this machine that goes into a container.
#[derive(Clone, Debug)]
pub struct HostPaths {
    /// A file, or a folder whose content goes below `target`.
    pub source: PathBuf,
    /// The absolute path in the container.
    pub target: String,
    /// Numeric owner and group there.
    pub owner: (u64, u64),
    /// Permission bits, where they shall differ from the source's.
    pub mode: Option<u32>,
}

/// Processes and threads of one container together: a fork bomb ends here, not at the host's limit.
const PIDS_LIMIT: i64 = 4096;

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

fn health_config(check: &Healthcheck) -> HealthConfig {
    HealthConfig {
        test: Some(check.test.clone()),
        interval: check.interval.map(nanos),
        timeout: check.timeout.map(nanos),
        retries: check.retries.map(i64::from),
        start_period: check.start_period.map(nanos),
        start_interval: None,
    }
}

fn create_body(spec: &ContainerSpec, labels: HashMap<String, String>) -> ContainerCreateBody {
    let (network_mode, endpoints, dns) = match &spec.attach {
        Attach::Network { name, aliases, dns } => {
            let endpoint = EndpointSettings {
                aliases: Some(aliases.clone()),
                ..EndpointSettings::default()
            };
            let endpoints = HashMap::from([(name.clone(), endpoint)]);
            (name.clone(), Some(endpoints), *dns)
        }
        Attach::None => ("none".to_owned(), None, None),
        Attach::Bridge => ("bridge".to_owned(), None, None),
        Attach::Host(HostNetwork) => ("host".to_owned(), None, None),
    };
    let mounts = spec
        .volumes
        .iter()
        .map(|at| Mount {
            typ: Some(MountType::VOLUME),
            source: Some(at.volume.clone()),
            target: Some(at.target.clone()),
            read_only: Some(at.read_only),
            ..Mount::default()
        })
        .chain(spec.engine_folders.iter().map(|(source, target)| Mount {
            typ: Some(MountType::BIND),
            source: Some(source.clone()),
            target: Some(target.clone()),
            read_only: Some(true),
            ..Mount::default()
        }))
        .collect();
    let host_config = HostConfig {
        network_mode: Some(network_mode),
        dns: dns.map(|address| vec![address.to_string()]),
        mounts: Some(mounts),
        tmpfs: Some(spec.tmpfs.clone().into_iter().collect()),
        memory: spec.memory.and_then(|bytes| i64::try_from(bytes).ok()),
        #[expect(
            clippy::cast_possible_truncation,
            reason = "cores times 1e9 fits for any machine"
        )]
        nano_cpus: spec.cpus.map(|cores| (cores * 1e9) as i64),
        shm_size: spec.shm_size.and_then(|bytes| i64::try_from(bytes).ok()),
        pids_limit: Some(PIDS_LIMIT),
        init: spec.init.then_some(true),
        readonly_rootfs: spec.read_only.then_some(true),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        // Net-raw can forge addresses on the bridge; no ordinary service needs it.
        cap_drop: Some(vec!["NET_RAW".to_owned()]),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(HashMap::from([
                ("max-size".to_owned(), "50m".to_owned()),
                ("max-file".to_owned(), "2".to_owned()),
            ])),
        }),
        ..HostConfig::default()
    };
    ContainerCreateBody {
        image: Some(spec.image.clone()),
        cmd: spec.command.clone(),
        entrypoint: spec.entrypoint.clone(),
        env: Some(
            spec.environment
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect(),
        ),
        user: spec.user.clone(),
        working_dir: spec.working_dir.clone(),
        hostname: spec.hostname.clone(),
        healthcheck: spec.healthcheck.as_ref().map(health_config),
        stop_signal: spec.stop_signal.clone(),
        labels: Some(labels),
        host_config: Some(host_config),
        networking_config: endpoints.map(|endpoints| NetworkingConfig {
            endpoints_config: Some(endpoints),
        }),
        ..ContainerCreateBody::default()
    }
}

impl Engine {
    /// Makes a container without starting it.
    ///
    /// # Errors
    /// When the engine refuses, for instance because the image is gone.
    pub async fn create_container(
        &self,
        spec: &ContainerSpec,
        labels: &Labels,
    ) -> Result<(), EngineError> {
        let options = CreateContainerOptions {
            name: Some(spec.name.clone()),
            ..CreateContainerOptions::default()
        };
        let docker = self.docker.clone();
        let body = create_body(spec, labels.of(Purpose::Run));
        self.make(
            async move { docker.create_container(Some(options), body).await },
            || format!("create container `{}` from `{}`", spec.name, spec.image),
        )
        .await?;
        Ok(())
    }

    /// Starts a container; starting one that runs is not an error.
    ///
    /// # Errors
    /// When its command does not exist, a volume cannot be mounted, and so on.
    pub async fn start_container(&self, name: &str) -> Result<(), EngineError> {
        self.docker
            .start_container(name, None)
            .await
            .doing(|| format!("start container `{name}`"))
    }

    /// Asks a container to stop by its own signal and kills it after `grace`. One that is gone or has ended is fine.
    ///
    /// # Errors
    /// When the engine cannot stop it.
    pub async fn stop_container(&self, name: &str, grace: Duration) -> Result<(), EngineError> {
        let options = StopContainerOptions {
            t: Some(i32::try_from(grace.as_secs()).unwrap_or(i32::MAX)),
            ..StopContainerOptions::default()
        };
        absent_is_fine(
            self.docker
                .stop_container(name, Some(options))
                .await
                .doing(|| format!("stop container `{name}`")),
        )
    }

    /// Kills a container and everything in it at once. One that is gone or has ended is fine.
    ///
    /// # Errors
    /// When the engine cannot kill it.
    pub async fn kill_container(&self, name: &str) -> Result<(), EngineError> {
        let options = KillContainerOptions {
            signal: "SIGKILL".to_owned(),
        };
        absent_is_fine(
            self.docker
                .kill_container(name, Some(options))
                .await
                .doing(|| format!("kill container `{name}`")),
        )
    }

    /// Removes a container, running or not, with the anonymous volumes that it alone used. One that is gone is fine.
    ///
    /// # Errors
    /// When the engine cannot remove it.
    pub async fn remove_container(&self, name: &str) -> Result<(), EngineError> {
        let options = RemoveContainerOptions {
            force: true,
            v: true,
            ..RemoveContainerOptions::default()
        };
        absent_is_fine(
            self.docker
                .remove_container(name, Some(options))
                .await
                .doing(|| format!("remove container `{name}`")),
        )
    }

    /// What a container is doing.
    ///
    /// # Errors
    /// When it does not exist.
    pub async fn container_state(&self, name: &str) -> Result<ContainerState, EngineError> {
        let seen = self
            .docker
            .inspect_container(name, None)
            .await
            .doing(|| format!("inspect container `{name}`"))?;
        let layer = seen
            .graph_driver
            .and_then(|driver| driver.data.get("UpperDir").cloned());
        let state = seen.state.unwrap_or_default();
        let running = state.running.unwrap_or(false);
        let (health, last_check) = match state.health {
            Some(health) => (
                health.status.map(|status| status.to_string()),
                health
                    .log
                    .and_then(|log| log.into_iter().next_back())
                    .and_then(|check| check.output),
            ),
            None => (None, None),
        };
        let (address, gateway) = seen
            .network_settings
            .and_then(|settings| settings.networks)
            .into_iter()
            .flatten()
            .find_map(|(_, endpoint)| {
                let address: IpAddr = endpoint.ip_address?.parse().ok()?;
                let gateway = endpoint.gateway.and_then(|text| text.parse().ok());
                Some((address, gateway))
            })
            .unzip();
        let gateway = gateway.flatten();
        Ok(ContainerState {
            running,
            health: health.filter(|status| !status.is_empty() && status != "none"),
            last_check,
            exit_code: if running { None } else { state.exit_code },
            out_of_memory: state.oom_killed.unwrap_or(false),
            address,
            gateway,
            layer,
            started_at: state.started_at.unwrap_or_default(),
        })
    }

    /// Waits until a container has ended and returns its exit code.
    ///
    /// # Errors
    /// When it does not exist, or the engine hangs up.
    pub async fn wait_container(&self, name: &str) -> Result<i64, EngineError> {
        let options = WaitContainerOptions {
            condition: "not-running".to_owned(),
        };
        let mut waiting = self.docker.wait_container(name, Some(options));
        match waiting.next().await {
            Some(Ok(end)) => Ok(end.status_code),
            // bollard reports an exit code other than 0 as an error of its own.
            Some(Err(bollard::errors::Error::DockerContainerWaitError { code, .. })) => Ok(code),
            Some(Err(error)) => Err(error).doing(|| format!("wait for container `{name}`")),
            None => Err(EngineError::new(
                format!("wait for container `{name}`"),
                "the engine hung up",
            )),
        }
    }

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

    /// Writes a few small files below `path` of a container.
    ///
    /// # Errors
    /// When the path does not exist in the container.
    pub async fn upload_files(
        &self,
        name: &str,
        path: &str,
        files: Vec<FileUpload>,
    ) -> Result<(), EngineError> {
        self.upload_tar(name, path, move |out| -> std::io::Result<()> {
            let mut tar = tar::Builder::new(out);
            for file in files {
                let mut header = tar::Header::new_gnu();
                header.set_size(file.content.len() as u64);
                header.set_mode(file.mode);
                header.set_uid(file.uid);
                header.set_gid(file.gid);
                header.set_mtime(0);
                tar.append_data(&mut header, &file.path, file.content.as_slice())?;
            }
            tar.finish()
        })
        .await
    }

    /// Copies a file, or the content of a folder, into a container, which need not run. A folder's content goes into
    /// the target, which keeps its own mode and owner if it is there and is made if it is not; a file goes to the
    /// target, or into it where that is a folder.
    ///
    /// # Errors
    /// When the source cannot be read, or the engine refuses.
    pub async fn upload_paths(&self, name: &str, paths: HostPaths) -> Result<(), EngineError> {
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
            file_mode: paths.mode,
            folder_mode: None,
        };
        let source = paths.source;
        self.upload_tar(name, &path, move |out| {
            tar_folder(&source, out, &options)
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
                return Err(EngineError::new(
                    operation(),
                    format!("it is larger than {limit} bytes"),
                ));
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

fn absent_is_fine(result: Result<(), EngineError>) -> Result<(), EngineError> {
    match result {
        // 304: it has ended already. 409 on kill: it is not running.
        Err(error) if matches!(error.status, Some(304 | 404)) => Ok(()),
        Err(error)
            if error.status == Some(409)
                && (error.cause.contains("is not running")
                    || error.cause.contains("already in progress")) =>
        {
            Ok(())
        }
        other => other,
    }
}
