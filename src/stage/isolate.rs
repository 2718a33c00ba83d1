//! Proves from inside that nothing outside can be reached, each probe with a positive control.
//!
//! The beacon is a listener on the engine host's own interfaces, for the time of this stage. From an ordinary bridge
//! network it can be reached (the control); from staging it must not be. Without the control a silence proves
//! nothing. Hosts that are `forbidden:` are production's: the control never contacts them, and staging tries them
//! only after everything else was found closed.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use super::Bad;
use super::run::{Run, not_passed, passed};
use crate::agent::protocol::{Answer, Ask, Reach, Reached};
use crate::engine::{Attach, ContainerSpec, EngineError, ExecSpec, HostNetwork};
use crate::event::{CaseStatus, Owner, Stage};
use crate::staging::{Ground, Staging};
use crate::state::agent;

/// For one probe of the beacon, which answers an open door within a millisecond. A closed door answers nothing: with
/// the bridge's address taken away, packets for the gateway are asked for by ARP in vain.
const PATIENCE: Duration = Duration::from_millis(250);

/// On a machine that is so busy that the control took longer than [`SLOW`], an open door may answer late too: the
/// doors are tried once more with this.
const BUSY_PATIENCE: Duration = Duration::from_secs(3);
const SLOW: Duration = Duration::from_secs(1);

/// For one probe of a host that may be far away.
const FAR_PATIENCE: Duration = Duration::from_millis(500);

/// For the agent's word that it heard a question. It comes by way of the engine's resolver and its log, both late on a
/// busy machine, and only where it never comes is all of this waited for.
const HEARING: Duration = Duration::from_secs(45);

/// Where clouds answer with credentials.
const METADATA: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));

/// The ports that are tried on a host that must not be reached.
const FORBIDDEN_PORTS: [u16; 6] = [22, 80, 443, 3306, 5432, 6379];

/// The beacon's ports: high enough to be free, random so that two runs do not meet; and the port of DNS, where the
/// host has nothing there already.
struct Beacon {
    container: String,
    tcp: u16,
    udp: u16,
}

const NAME_DOOR: &str = "a name outside";

/// The port of DNS.
const DNS: u16 = 53;

/// When the proof is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Before anything was restored.
    Before,
    /// After the deploy, which may have changed something.
    AfterDeploy,
}

impl Moment {
    const fn suite(self) -> &'static str {
        match self {
            Self::Before => "isolate",
            Self::AfterDeploy => "isolate-after-deploy",
        }
    }
}

/// What stands outside while the proof is made: the beacon, and a place on an ordinary bridge to see it from.
pub(crate) struct Outside {
    moment: Moment,
    beacon: Beacon,
    control: Control,
}

impl Outside {
    /// Starts both.
    ///
    /// # Errors
    /// When the engine refuses, or has no ordinary bridge.
    pub(super) async fn open(
        ground: &Ground,
        agent_image: &str,
        moment: Moment,
    ) -> Result<Self, Bad> {
        let (beacon, control) = tokio::join!(
            Beacon::open(ground, agent_image, moment),
            Control::open(ground, agent_image, moment)
        );
        Ok(Self {
            moment,
            beacon: beacon?,
            control: control?,
        })
    }

    async fn close(&self, ground: &Ground) -> Result<(), EngineError> {
        let (first, second) = tokio::join!(
            ground.engine.remove_container(&self.beacon.container),
            ground.engine.remove_container(&self.control.container)
        );
        first.and(second)
    }
}

/// Makes the proof.
pub(super) async fn run(run: &Run, outside: &Outside) -> Result<(), Bad> {
    let staging = run.staging()?;
    let near = prove_near(run, staging, outside).await;
    // Production's own hosts come last, and only where the doors before were closed; the beacon can go meanwhile.
    let (closed, far) = tokio::join!(
        outside.close(&staging.ground),
        prove_far(run, staging, outside.moment, near)
    );
    far?;
    closed?;
    Ok(())
}

impl Beacon {
    async fn open(ground: &Ground, agent_image: &str, moment: Moment) -> Result<Self, Bad> {
        let container = ground.names.of(&format!("{}-beacon", moment.suite()));
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
struct Control {
    container: String,
    /// The host's address as seen from there.
    host: IpAddr,
}

impl Control {
    async fn open(ground: &Ground, agent_image: &str, moment: Moment) -> Result<Self, Bad> {
        let container = ground.names.of(&format!("{}-control", moment.suite()));
        let mut spec = ContainerSpec::new(&container, agent_image, Attach::Bridge);
        spec.command = Some(agent(&["idle"]));
        ground
            .engine
            .create_container(&spec, &ground.labels)
            .await?;
        ground.engine.start_container(&container).await?;
        let state = ground.engine.container_state(&container).await?;
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
    async fn reach(&self, staging: &Staging, probes: &[Reach]) -> Result<Vec<Reached>, Bad> {
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

/// One thing that must be out of reach, and whether the control has to reach it for the silence to mean anything.
struct Door {
    name: String,
    probe: Reach,
}

/// Tries every door behind which the beacon or the engine's host could answer, and returns the open ones.
async fn prove_near(run: &Run, staging: &Staging, outside: &Outside) -> Result<Vec<String>, Bad> {
    let Outside {
        moment,
        beacon,
        control,
    } = outside;
    let moment = *moment;
    let engine = &staging.ground.engine;
    let own = engine.network(&staging.network.name).await?;
    let inside = inside_facts(staging).await?;

    // The control: the same probes from an ordinary bridge, to the host behind its gateway. It runs beside the
    // probes from inside and is judged first.
    let probes = |address: IpAddr| {
        [
            ("TCP", tcp(address, beacon.tcp)),
            ("UDP", udp(address, beacon.udp)),
            ("UDP/53", udp(address, DNS)),
        ]
    };
    let control_probes: Vec<Reach> = probes(control.host)
        .into_iter()
        .map(|(_, probe)| patient(probe))
        .collect();
    let mut doors: Vec<Door> = probes(control.host)
        .into_iter()
        .map(|(kind, probe)| door(format!("raw address {}, {kind}", control.host), probe))
        .collect();
    let mut gateways = own.gateways;
    gateways.extend(inside.gateways.iter().filter(|address| address.is_ipv4()));
    gateways.sort();
    gateways.dedup();
    for address in gateways {
        doors.extend(
            probes(address)
                .into_iter()
                .map(|(kind, probe)| door(format!("gateway {address}, {kind}"), probe)),
        );
    }
    doors.push(door(
        "metadata address 169.254.169.254".into(),
        tcp(METADATA, 80),
    ));
    // A name that nobody has asked for before. The agent must have heard the question: a refusal from elsewhere
    // would mean that questions leave staging.
    let outside_name = format!("rehearse-{:08x}.example.com", fastrand::u32(..));
    doors.push(door(
        NAME_DOOR.into(),
        Reach::Name {
            name: outside_name.clone(),
            timeout: FAR_PATIENCE,
        },
    ));
    let started = Instant::now();
    let controlled = async {
        let answers = control.reach(staging, &control_probes).await;
        (answers, started.elapsed())
    };
    let again: Vec<Door> = doors
        .iter()
        .map(|tried| door(tried.name.clone(), patient(tried.probe.clone())))
        .collect();
    let ((controlled, took), answers) = tokio::join!(controlled, ask_doors(staging, doors));
    judge_control(run, moment, &controlled?, took)?;
    let answers = if took > SLOW {
        ask_doors(staging, again).await?
    } else {
        answers?
    };
    let mut holes = judge_doors(run, moment, answers);
    holes.extend(judge_name(run, staging, moment, &outside_name).await);
    holes.extend(judge_ipv6(run, moment, &inside.addresses));

    Ok(holes)
}

/// Tries production's own hosts, unless staging is known to be open: then nothing may be sent to them.
async fn prove_far(
    run: &Run,
    staging: &Staging,
    moment: Moment,
    near: Result<Vec<String>, Bad>,
) -> Result<(), Bad> {
    let mut holes = near?;
    let forbidden: Vec<Door> = staging
        .ground
        .plan
        .forbidden
        .iter()
        .map(|host| {
            door(
                format!("forbidden {host}"),
                Reach::Host {
                    host: host.clone(),
                    ports: FORBIDDEN_PORTS.to_vec(),
                    timeout: FAR_PATIENCE,
                },
            )
        })
        .collect();
    if holes.is_empty() {
        holes = judge_doors(run, moment, ask_doors(staging, forbidden).await?);
    } else {
        for door in forbidden {
            report(
                run,
                moment,
                not_passed(
                    Stage::Isolate,
                    door.name,
                    CaseStatus::Skipped,
                    0.0,
                    "not tried: staging is not isolated, and this host is production's",
                ),
            );
        }
    }
    match holes.first() {
        None => Ok(()),
        Some(first) => Err(Bad::new(
            Owner::Isolation,
            format!("staging is not isolated: {first}{}", more(holes.len())),
        )
        .with_help("nothing was restored or deployed into it; the isolate suite lists every door")),
    }
}

fn more(holes: usize) -> String {
    if holes > 1 {
        format!(" (and {} more)", holes - 1)
    } else {
        String::new()
    }
}

async fn inside_facts(
    staging: &Staging,
) -> Result<crate::agent::protocol::NetworkFacts, EngineError> {
    match staging.network.agent.ask(Ask::Network).await?.answer {
        Answer::Network(facts) => Ok(facts),
        other => Err(EngineError::new(
            "ask the agent for its network",
            format!("unexpected answer {other:?}"),
        )),
    }
}

/// Without a control that got through, silence proves nothing.
fn judge_control(
    run: &Run,
    moment: Moment,
    control: &[Reached],
    took: Duration,
) -> Result<(), Bad> {
    const NAME: &str = "control: an ordinary network reaches the beacon";
    let seconds = took.as_secs_f64();
    let reached = !control.is_empty()
        && control
            .iter()
            .all(|answer| matches!(answer, Reached::Yes(_)));
    if reached {
        report(run, moment, passed(Stage::Isolate, NAME, seconds, None));
        return Ok(());
    }
    let message = format!(
        "the beacon was not reached from the engine's own bridge, so silence would prove nothing: {control:?}"
    );
    report(
        run,
        moment,
        not_passed(Stage::Isolate, NAME, CaseStatus::Error, seconds, message),
    );
    Err(Bad::new(
        Owner::Isolation,
        "the isolation of staging cannot be proved: the positive control did not reach its beacon",
    )
    .with_help(
        "a firewall on the engine's host may drop traffic from its own bridge; the isolate suite has the answers",
    ))
}

/// The question for an outside name must have reached the agent, which refused it.
async fn judge_name(run: &Run, staging: &Staging, moment: Moment, name: &str) -> Option<String> {
    const NAME: &str = "control: the agent hears questions for outside names";
    let begun = Instant::now();
    let heard = tokio::time::timeout(HEARING, hear(staging, name)).await;
    let seconds = begun.elapsed().as_secs_f64();
    let message = match heard {
        Ok(Ok(())) => {
            report(run, moment, passed(Stage::Isolate, NAME, seconds, None));
            return None;
        }
        Ok(Err(hole)) => hole,
        Err(_) => format!(
            "no question for an outside name reached the agent within {} s: somebody else answers them, or nobody",
            HEARING.as_secs()
        ),
    };
    report(
        run,
        moment,
        not_passed(Stage::Isolate, NAME, CaseStatus::Failed, seconds, &message),
    );
    Some(message)
}

/// Waits until the agent has heard a question that was asked, and asks it again: the resolver of a busy engine answers
/// late, or after the asker has given up. One question that arrives shows where questions go. The caller holds the deadline.
async fn hear(staging: &Staging, name: &str) -> Result<(), String> {
    let ground = &staging.ground;
    let door = Reach::Name {
        name: name.to_owned(),
        timeout: BUSY_PATIENCE,
    };
    while tokio::time::timeout(SLOW, ground.heard(name))
        .await
        .is_err()
    {
        let asked = staging.network.agent.ask(Ask::Reach(door.clone())).await;
        if let Ok(reply) = asked
            && let Answer::Reached(Reached::Yes(what)) = reply.answer
        {
            return Err(format!(
                "a question for an outside name was answered: {what}"
            ));
        }
    }
    Ok(())
}

/// No address but the link's own, so nothing outside the link can be reached or can answer.
fn judge_ipv6(run: &Run, moment: Moment, addresses: &[IpAddr]) -> Option<String> {
    const NAME: &str = "no IPv6 beyond the link";
    let global = addresses.iter().find(|address| match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => !address.is_unicast_link_local() && !address.is_loopback(),
    });
    match global {
        None => {
            report(run, moment, passed(Stage::Isolate, NAME, 0.0, None));
            None
        }
        Some(address) => {
            let message = format!("staging has the IPv6 address {address}");
            report(
                run,
                moment,
                not_passed(Stage::Isolate, NAME, CaseStatus::Failed, 0.0, &message),
            );
            Some(message)
        }
    }
}

type Asked = (Door, crate::agent::protocol::Reply);

/// Tries doors from inside, all at once.
async fn ask_doors(staging: &Staging, doors: Vec<Door>) -> Result<Vec<Asked>, EngineError> {
    let asked = doors.into_iter().map(|door| async move {
        let ask = Ask::Reach(door.probe.clone());
        let reply = staging.network.agent.ask(ask).await?;
        Ok((door, reply))
    });
    futures_util::future::join_all(asked)
        .await
        .into_iter()
        .collect()
}

/// Reports each door and returns those that were open, or could not be tried.
fn judge_doors(run: &Run, moment: Moment, asked: Vec<Asked>) -> Vec<String> {
    let mut holes = Vec::new();
    for (door, reply) in asked {
        let seconds = reply.elapsed.as_secs_f64();
        let case = match reply.answer {
            Answer::Reached(Reached::No(why)) => {
                passed(Stage::Isolate, door.name, seconds, Some(why))
            }
            Answer::Reached(Reached::Yes(what)) => {
                holes.push(format!("{} was reached: {what}", door.name));
                not_passed(
                    Stage::Isolate,
                    door.name,
                    CaseStatus::Failed,
                    seconds,
                    format!("reached: {what}"),
                )
            }
            Answer::Reached(Reached::Inconclusive(why)) => {
                holes.push(format!("{} could not be tried: {why}", door.name));
                not_passed(Stage::Isolate, door.name, CaseStatus::Error, seconds, why)
            }
            other => {
                holes.push(format!("{} could not be tried", door.name));
                not_passed(
                    Stage::Isolate,
                    door.name,
                    CaseStatus::Error,
                    seconds,
                    format!("unexpected answer {other:?}"),
                )
            }
        };
        report(run, moment, case);
    }
    holes
}

fn report(run: &Run, moment: Moment, mut case: crate::event::Case) {
    case.suite = moment.suite().to_owned();
    let stage = match moment {
        Moment::Before => Stage::Isolate,
        Moment::AfterDeploy => Stage::Verify,
    };
    run.case(stage, case);
}

const fn door(name: String, probe: Reach) -> Door {
    Door { name, probe }
}

/// The same probe with time for a busy machine.
fn patient(mut probe: Reach) -> Reach {
    match &mut probe {
        Reach::Tcp { timeout, .. }
        | Reach::Udp { timeout, .. }
        | Reach::Name { timeout, .. }
        | Reach::Host { timeout, .. } => *timeout = BUSY_PATIENCE,
    }
    probe
}

const fn tcp(address: IpAddr, port: u16) -> Reach {
    Reach::Tcp {
        address,
        port,
        timeout: PATIENCE,
    }
}

const fn udp(address: IpAddr, port: u16) -> Reach {
    Reach::Udp {
        address,
        port,
        timeout: PATIENCE,
    }
}
