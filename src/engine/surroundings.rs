//! What the engine says that a container has around it: proof of what it was given, and of what it was not.

use super::Engine;
use super::error::{Doing, EngineError};

/// A container's surroundings as the engine tells them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The id of its image.
    pub image: String,
    /// Everything mounted into it but file systems in memory.
    pub mounts: Vec<MountSeen>,
    /// Its variables as `NAME=value`.
    pub environment: Vec<String>,
    /// The networks that it is attached to, by name.
    pub networks: Vec<String>,
    /// What it may do, or can see, beyond an ordinary container, in the engine's words: `privileged`, `cap_add SYS_ADMIN`.
    pub privileges: Vec<String>,
}

/// Something that is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountSeen {
    /// `volume` or `bind`.
    pub kind: String,
    /// The volume's name, or the path on the engine's host.
    pub source: String,
    /// Where it is in the container.
    pub target: String,
    /// True where it can be written to.
    pub writable: bool,
}

impl Engine {
    /// What a container, running or not, has around it.
    ///
    /// # Errors
    /// When it does not exist.
    pub async fn surroundings(&self, name: &str) -> Result<Surroundings, EngineError> {
        let seen = self
            .docker
            .inspect_container(name, None)
            .await
            .doing(|| format!("inspect container `{name}`"))?;
        let config = seen.config.unwrap_or_default();
        let host = seen.host_config.unwrap_or_default();
        let mounts = seen
            .mounts
            .unwrap_or_default()
            .into_iter()
            .map(|mount| MountSeen {
                kind: mount.typ.unwrap_or_default(),
                source: mount.name.or(mount.source).unwrap_or_default(),
                target: mount.destination.unwrap_or_default(),
                writable: mount.rw.unwrap_or(true),
            })
            .filter(|mount| mount.kind != "tmpfs")
            .collect();
        let mut privileges = Vec::new();
        let mut has = |what: &str, given: Option<String>| {
            privileges.extend(given.map(|given| format!("{what} {given}").trim().to_owned()));
        };
        has(
            "privileged",
            host.privileged.filter(|on| *on).map(|_| String::new()),
        );
        for capability in host.cap_add.unwrap_or_default() {
            has("cap_add", Some(capability));
        }
        for device in host.devices.unwrap_or_default() {
            has("device", device.path_on_host);
        }
        for host_name in host.extra_hosts.unwrap_or_default() {
            has("extra host", Some(host_name));
        }
        // A name space of its own is empty, `private` or `shareable`.
        let shared = |mode: Option<String>| {
            mode.filter(|mode| !["", "private", "shareable"].contains(&mode.as_str()))
        };
        has("pid", shared(host.pid_mode));
        has("ipc", shared(host.ipc_mode.map(|mode| mode.to_string())));
        has("uts", shared(host.uts_mode));
        has("userns", shared(host.userns_mode));
        has(
            "terminal",
            config.tty.filter(|on| *on).map(|_| String::new()),
        );
        has(
            "input",
            config.open_stdin.filter(|on| *on).map(|_| String::new()),
        );
        let networks = seen
            .network_settings
            .and_then(|settings| settings.networks)
            .unwrap_or_default();
        let mut networks: Vec<String> = networks.into_keys().collect();
        networks.sort();
        Ok(Surroundings {
            image: seen.image.unwrap_or_default(),
            mounts,
            environment: config.env.unwrap_or_default(),
            networks,
            privileges,
        })
    }
}
