//! What a container shall be like, and how that is said to the engine.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, EndpointSettings, HealthConfig, HostConfig, HostConfigLogConfig, Mount,
    MountType, MountVolumeOptions, NetworkingConfig,
};

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
    /// To none, not even to itself: helpers that only touch volumes. The engine makes no network for them, which is more
    /// than half of what their start would cost.
    None,
    /// To itself only: tools that may start a server.
    Loopback,
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
    /// Variables of the image that the container shall not have.
    pub unset: BTreeSet<String>,
    /// Networks.
    pub attach: Attach,
    /// Volumes.
    pub volumes: Vec<VolumeAt>,
    /// Empty volumes stay empty. The engine would fill one with what its image has at that place.
    pub keeps_volumes: bool,
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
    /// Hears what is said on its network beside the protocols: our own agent and emulators, never a service.
    pub hears_the_wire: bool,
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
            unset: BTreeSet::new(),
            attach,
            volumes: Vec::new(),
            keeps_volumes: false,
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
            hears_the_wire: false,
        }
    }
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

pub(super) fn create_body(
    spec: &ContainerSpec,
    labels: HashMap<String, String>,
) -> ContainerCreateBody {
    let (network_mode, endpoints, dns) = match &spec.attach {
        Attach::Network { name, aliases, dns } => {
            let endpoint = EndpointSettings {
                aliases: Some(aliases.clone()),
                ..EndpointSettings::default()
            };
            let endpoints = HashMap::from([(name.clone(), endpoint)]);
            (name.clone(), Some(endpoints), *dns)
        }
        Attach::None | Attach::Loopback => ("none".to_owned(), None, None),
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
            volume_options: spec.keeps_volumes.then(|| MountVolumeOptions {
                no_copy: Some(true),
                ..MountVolumeOptions::default()
            }),
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
        cap_drop: (!spec.hears_the_wire).then(|| vec!["NET_RAW".to_owned()]),
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
                // The engine's own way to say it: a name without a value.
                .chain(spec.unset.iter().cloned())
                .collect(),
        ),
        user: spec.user.clone(),
        working_dir: spec.working_dir.clone(),
        hostname: spec.hostname.clone(),
        healthcheck: spec.healthcheck.as_ref().map(health_config),
        stop_signal: spec.stop_signal.clone(),
        labels: Some(labels),
        network_disabled: matches!(spec.attach, Attach::None).then_some(true),
        host_config: Some(host_config),
        networking_config: endpoints.map(|endpoints| NetworkingConfig {
            endpoints_config: Some(endpoints),
        }),
        ..ContainerCreateBody::default()
    }
}
