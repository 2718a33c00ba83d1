//! Finding the engine as Docker's own client does, and asking what it can do.

use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error as Bollard;
use bollard::{API_DEFAULT_VERSION, Docker};
use tokio::sync::Mutex;
use tokio_util::task::TaskTracker;

use super::error::{Doing, EngineError, chain};

/// The engine must answer its first question within this; later calls have the deadlines of their stages.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// For one call, in seconds. Calls that move a backup last as long as the backup; stages hold the deadlines.
const ONE_CALL: u64 = 24 * 60 * 60;

/// A connection to the engine, cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(super) docker: Docker,
    /// Requests that make something and are not answered yet.
    making: TaskTracker,
    /// Held while a container leaves its network.
    pub(super) leaving: Arc<Mutex<()>>,
}

/// What the engine said of itself.
#[derive(Clone, Debug)]
pub struct EngineFacts {
    /// `20.10.24+dfsg1`.
    pub version: String,
    /// The API version both sides speak: `1.41`.
    pub api: String,
    /// Its storage driver: `overlay2`.
    pub storage: String,
    /// `x86_64`.
    pub architecture: String,
    /// Cores.
    pub cpus: i64,
    /// Bytes.
    pub memory: i64,
}

impl EngineFacts {
    /// True from engine 28 on, which can leave the host without an address on a bridge by `gateway_mode_ipv4=isolated`.
    pub fn has_isolated_gateway_mode(&self) -> bool {
        self.version
            .split(['.', '-', '+'])
            .next()
            .and_then(|major| major.parse::<u32>().ok())
            .is_some_and(|major| major >= 28)
    }

    /// Bytes that a container may have which says no limit: it may still not take the engine's host down.
    pub fn most_memory(&self) -> Option<u64> {
        u64::try_from(self.memory)
            .ok()
            .filter(|all| *all > 0)
            .map(|all| all / 4 * 3)
    }
}

impl Engine {
    /// Connects to `host` (the value of `DOCKER_HOST`), or to the default socket, and agrees on an API version.
    ///
    /// # Errors
    /// One error that says where it looked and what to do, when no engine answers within ten seconds.
    pub async fn connect(host: Option<&str>) -> Result<Self, EngineError> {
        // Both crypto providers of rustls may be linked by dependencies; the first caller decides.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let shown = host.unwrap_or("unix:///var/run/docker.sock");
        let unreachable = |cause: String| {
            EngineError::new(format!("reach Docker's engine at {shown}"), cause).with_help(
                "start the engine (on Debian, as root: docker/start-engine.sh), or point DOCKER_HOST at one \
                 (unix:///path, tcp://host:port; with DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH for TLS)",
            )
        };
        let docker = match host {
            Some(host) => Docker::connect_with_host(host),
            None => Docker::connect_with_unix(shown, ONE_CALL, API_DEFAULT_VERSION),
        }
        .map_err(|error| unreachable(chain(&error)))?
        .with_timeout(Duration::from_secs(ONE_CALL));
        let docker = tokio::time::timeout(FIRST_ANSWER, docker.negotiate_version())
            .await
            .map_err(|_| unreachable(format!("no answer within {} s", FIRST_ANSWER.as_secs())))?
            .map_err(|error| unreachable(chain(&error)))?;
        Ok(Self {
            docker,
            making: TaskTracker::new(),
            leaving: Arc::new(Mutex::new(())),
        })
    }

    /// Carries out a request that makes something. Who waits for it may be dropped (Ctrl-C, a deadline), but the
    /// engine would go on: so the request is awaited by a task of its own, and [`Self::all_made`] knows of it.
    pub(super) async fn make<T: Send + 'static>(
        &self,
        request: impl Future<Output = Result<T, Bollard>> + Send + 'static,
        operation: impl Fn() -> String,
    ) -> Result<T, EngineError> {
        match self.making.spawn(request).await {
            Ok(made) => made.doing(operation),
            Err(panic) => Err(EngineError::new(operation(), panic.to_string())),
        }
    }

    /// Waits until no request that makes something is under way: what is listed after this is all there is.
    pub async fn all_made(&self) {
        self.making.close();
        self.making.wait().await;
    }

    /// What the engine says of itself.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn facts(&self) -> Result<EngineFacts, EngineError> {
        let info = self
            .docker
            .info()
            .await
            .doing(|| "ask the engine what it can do".into())?;
        Ok(EngineFacts {
            version: info.server_version.unwrap_or_default(),
            api: self.docker.client_version().to_string(),
            storage: info.driver.unwrap_or_default(),
            architecture: info.architecture.unwrap_or_default(),
            cpus: info.ncpu.unwrap_or(1),
            memory: info.mem_total.unwrap_or(0),
        })
    }
}
