//! What stands outside while the proof is made.

use std::net::IpAddr;
use std::time::Duration;

use super::{DNS, Moment};
use crate::agent::protocol::{Reach, Reached};
use crate::engine::{Attach, ContainerSpec, EngineError, ExecSpec, HostNetwork};
use crate::event::Owner;
use crate::stage::Bad;
use crate::staging::{Ground, Names, Staging};
use crate::state::agent;

/// What stands outside while the proof is made: the beacon, and a place on an ordinary bridge to see it from.
pub(crate) struct Outside {
    pub(super) moment: Moment,
    pub(super) beacon: Beacon,
    pub(super) control: Control,
}

impl Outside {
    /// Starts both; the control of an earlier proof in this place is taken where it is still at work.
    ///
    /// # Errors
    /// When the engine refuses, or has no ordinary bridge.
    pub(in crate::stage) async fn open(
        ground: &Ground,
        agent_image: &str,
        moment: Moment,
    ) -> Result<Self, Bad> {
        let (beacon, control) = tokio::join!(
            Beacon::open(ground, agent_image, moment),
            Control::open(ground, agent_image)
        );
        Ok(Self {
            moment,
            beacon: beacon?,
            control: control?,
        })
    }

    /// Ends the beacon, which has the host's own ports; the control idles on until the last proof is made.
    pub(super) async fn close(&self, ground: &Ground) -> Result<(), EngineError> {
        let control = async {
            match self.moment {
                Moment::Before => Ok(()),
                Moment::AfterDeploy => {
                    ground
                        .engine
                        .remove_container(&self.control.container)
                        .await
                }
            }
        };
        let beacon = ground.engine.remove_container(&self.beacon.container);
        let (first, second) = tokio::join!(beacon, control);
        first.and(second)
    }
}

/// What the beacons of a run are called: a proof that is broken off leaves one, with ports of the engine's host.
pub(crate) fn beacons(names: &Names) -> [String; 2] {
    [Moment::Before, Moment::AfterDeploy].map(|moment| beacon(names, moment))
}

fn beacon(names: &Names, moment: Moment) -> String {
    names.of(&format!("{}-beacon", moment.suite()))
}

/// The beacon's ports: high enough to be free, random so that two runs do not meet; and the port of DNS, where the
/// host has nothing there already.
pub(super) struct Beacon {
    container: String,
    pub(super) tcp: u16,
    pub(super) udp: u16,
}

impl Beacon {
    async fn open(ground: &Ground, agent_image: &str, moment: Moment) -> Result<Self, Bad> {
        let container = beacon(&ground.names, moment);
        let (tcp, udp) = (fastrand::u16(20_000..32_000), fastrand::u16(20_000..32_000));
        let mut spec = ContainerSpec::new(&container, agent_image, Attach::Host(HostNetwork));
        spec.command = Some(agent(&[
            "beacon",
            "--tcp",
            &tcp.to_string(),
            "--udp",
            &udp.to_string(),
            "--udp",
            &DNS.to_string(),
        ]));
        ground
            .engine
            .create_container(&spec, &ground.labels)
            .await?;
        ground.engine.start_container(&container).await?;
        // Its first line says that it listens.
        let mut lines = Box::pin(ground.engine.follow_stdout(&container));
        let first = tokio::time::timeout(
            Duration::from_secs(10),
            futures_util::StreamExt::next(&mut lines),
        )
        .await;
        match first {
            Ok(Some(Ok(_))) => Ok(Self {
                container,
                tcp,
                udp,
            }),
            Ok(Some(Err(error))) => Err(error.into()),
            Ok(None) | Err(_) => {
                let said = ground.engine.container_log(&container, Some(5)).await?;
                ground.engine.remove_container(&container).await?;
                Err(Bad::new(
                    Owner::Engine,
                    format!(
                        "the beacon of the isolation proof did not start: {}",
                        said.trim()
                    ),
                ))
            }
        }
    }
}

/// A place on an ordinary bridge.
pub(super) struct Control {
    container: String,
    /// The host's address as seen from there.
    pub(super) host: IpAddr,
}

impl Control {
    async fn open(ground: &Ground, agent_image: &str) -> Result<Self, Bad> {
        let container = ground.names.of("control");
        let engine = &ground.engine;
        let at_work = match engine.container_state(&container).await {
            Ok(state) if state.running => Some(state),
            Ok(_) => {
                engine.remove_container(&container).await?;
                None
            }
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        };
        let state = match at_work {
            Some(state) => state,
            None => {
                let mut spec = ContainerSpec::new(&container, agent_image, Attach::Bridge);
                spec.command = Some(agent(&["idle"]));
                engine.create_container(&spec, &ground.labels).await?;
                engine.start_container(&container).await?;
                engine.container_state(&container).await?
            }
        };
        let host = state.gateway.ok_or_else(|| {
            Bad::new(
                Owner::Isolation,
                "the isolation of staging cannot be proved: the engine's own bridge has no gateway to test against",
            )
            .with_help("the engine runs without its default bridge (`bridge: none`?); the proof needs it")
        })?;
        Ok(Self { container, host })
    }

    /// Tries the same probes as from inside.
    pub(super) async fn reach(
        &self,
        staging: &Staging,
        probes: &[Reach],
    ) -> Result<Vec<Reached>, Bad> {
        let mut command = agent(&["reach"]);
        for probe in probes {
            let json = serde_json::to_string(probe).map_err(|error| {
                Bad::new(Owner::Engine, format!("cannot write a probe: {error}"))
            })?;
            command.push(json);
        }
        let spec = ExecSpec {
            command,
            ..ExecSpec::default()
        };
        let outcome = staging
            .ground
            .engine
            .exec(&self.container, &spec, |_| {})
            .await?;
        let answers: Vec<Reached> = outcome
            .stdout
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        if answers.len() == probes.len() {
            return Ok(answers);
        }
        Err(Bad::new(
            Owner::Engine,
            format!(
                "the control of the isolation proof broke off: {}",
                outcome.last_words()
            ),
        ))
    }
}
