//! Proves from inside that nothing outside can be reached, each probe with a positive control.
//!
//! The beacon is a listener on the engine host's own interfaces, for the time of this stage. From an ordinary bridge
//! network it can be reached (the control); from staging it must not be. Without the control a silence proves
//! nothing. Hosts that are `forbidden:` are production's: the control never contacts them, and staging tries them
//! only after everything else was found closed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use super::Bad;
use super::run::{Run, not_passed, passed};
use crate::agent::protocol::{Answer, Ask, Reach, Reached};
use crate::engine::{Attach, ContainerSpec, EngineError, HostNetwork};
use crate::event::{CaseStatus, Owner, Stage};
use crate::staging::Staging;
use crate::state::agent;

/// For one probe. Staging has no route out, so a closed door answers at once; only an open one with a silent host
/// behind it takes this long.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where clouds answer with credentials.
const METADATA: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));

/// The first address of the documentation range: no host has it, so only the *way* there is judged (RFC 3849).
const IPV6_OUTSIDE: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

/// A documentation address: nothing answers there, and no packet may leave for it (RFC 5737).
const IPV4_OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));

/// The ports that are tried on a host that must not be reached.
const FORBIDDEN_PORTS: [u16; 6] = [22, 80, 443, 3306, 5432, 6379];

/// The beacon's ports; high enough to be free, random so that two runs do not meet.
struct Beacon {
    container: String,
    tcp: u16,
    udp: u16,
}

/// When the proof is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
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

/// Runs the proof.
pub(super) async fn run(run: &Run, moment: Moment) -> Result<(), Bad> {
    let staging = run.staging()?;
    let beacon = open(staging, moment).await?;
    let result = prove(run, staging, &beacon, moment).await;
    staging
        .ground
        .engine
        .remove_container(&beacon.container)
        .await?;
    result
}

async fn open(staging: &Staging, moment: Moment) -> Result<Beacon, Bad> {
    let ground = &staging.ground;
    let container = ground.names.of(&format!("{}-beacon", moment.suite()));
    let (tcp, udp) = (fastrand::u16(20_000..32_000), fastrand::u16(20_000..32_000));
    let mut spec =
        ContainerSpec::new(&container, &staging.agent_image, Attach::Host(HostNetwork));
    spec.command = Some(agent(&[
        "beacon",
        "--tcp",
        &tcp.to_string(),
        "--udp",
        &udp.to_string(),
    ]));
    ground.engine.create_container(&spec, &ground.labels).await?;
    ground.engine.start_container(&container).await?;
    // Its first line says that it listens.
    let mut lines = Box::pin(ground.engine.follow_stdout(&container));
    let first = tokio::time::timeout(
        Duration::from_secs(10),
        futures_util::StreamExt::next(&mut lines),
    )
    .await;
    match first {
        Ok(Some(Ok(_))) => Ok(Beacon {
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
                format!("the beacon of the isolation proof did not start: {}", said.trim()),
            ))
        }
    }
}

/// One thing that must be out of reach, and whether the control has to reach it for the silence to mean anything.
struct Door {
    name: String,
    probe: Reach,
}

async fn prove(run: &Run, staging: &Staging, beacon: &Beacon, moment: Moment) -> Result<(), Bad> {
    let engine = &staging.ground.engine;
    let own = engine.network(&staging.network.name).await?;
    let bridge = engine.network("bridge").await?;
    let inside = inside_facts(staging).await?;

    // The control: the same probes from an ordinary bridge, to the host behind its gateway.
    let control_at: Vec<IpAddr> = bridge.gateways.iter().copied().filter(IpAddr::is_ipv4).collect();
    let started = Instant::now();
    let mut control_probes = Vec::new();
    for address in &control_at {
        control_probes.push(tcp(*address, beacon.tcp));
        control_probes.push(udp(*address, beacon.udp));
    }
    let control = control(staging, &control_probes, moment).await?;
    let reached = !control.is_empty()
        && control
            .iter()
            .all(|answer| matches!(answer, Reached::Yes(_)));
    let case = if reached {
        passed(
            Stage::Isolate,
            "control: an ordinary network reaches the beacon",
            started.elapsed().as_secs_f64(),
            None,
        )
    } else {
        not_passed(
            Stage::Isolate,
            "control: an ordinary network reaches the beacon",
            CaseStatus::Error,
            started.elapsed().as_secs_f64(),
            format!("the beacon was not reached from the engine's own bridge, so silence would prove nothing: {control:?}"),
        )
    };
    report(run, moment, case);
    if !reached {
        return Err(Bad::new(
            Owner::Isolation,
            "the isolation of staging cannot be proved: the positive control did not reach its beacon",
        )
        .with_help("a firewall on the engine's host may drop traffic from its own bridge; the isolate suite has the answers"));
    }

    // From inside: every address at which the host could answer, then everything further away.
    let mut doors = Vec::new();
    for address in &control_at {
        doors.push(door(format!("raw address {address}, TCP"), tcp(*address, beacon.tcp)));
        doors.push(door(format!("raw address {address}, UDP"), udp(*address, beacon.udp)));
    }
    let mut gateways = own.gateways;
    gateways.extend(inside.gateways);
    gateways.sort();
    gateways.dedup();
    for address in gateways {
        doors.push(door(format!("gateway {address}, TCP"), tcp(address, beacon.tcp)));
        doors.push(door(format!("gateway {address}, UDP"), udp(address, beacon.udp)));
        doors.push(door(format!("gateway {address}, UDP/53"), udp(address, 53)));
    }
    doors.push(door("raw address outside (198.51.100.1), TCP".into(), tcp(IPV4_OUTSIDE, 443)));
    doors.push(door("raw address outside (198.51.100.1), UDP/53".into(), udp(IPV4_OUTSIDE, 53)));
    doors.push(door("metadata address 169.254.169.254".into(), tcp(METADATA, 80)));
    doors.push(door("IPv6 outside (2001:db8::1)".into(), tcp(IPV6_OUTSIDE, 443)));
    doors.push(door(
        "a name outside".into(),
        Reach::Name {
            name: "rehearse-outside.example.com".into(),
            timeout: PATIENCE,
        },
    ));
    let mut holes = try_doors(run, staging, doors, moment).await?;
    if inside.default_route {
        holes.push("staging has a default route".to_owned());
        report(
            run,
            moment,
            not_passed(
                Stage::Isolate,
                "no default route",
                CaseStatus::Failed,
                0.0,
                "the agent's routing table has a default route",
            ),
        );
    } else {
        report(run, moment, passed(Stage::Isolate, "no default route", 0.0, None));
    }

    // Production's own hosts come last, and only where the doors before were closed.
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
                    timeout: PATIENCE,
                },
            )
        })
        .collect();
    if holes.is_empty() {
        holes = try_doors(run, staging, forbidden, moment).await?;
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

/// The same probes from an ordinary bridge.
async fn control(
    staging: &Staging,
    probes: &[Reach],
    moment: Moment,
) -> Result<Vec<Reached>, Bad> {
    let ground = &staging.ground;
    let name = ground.names.of(&format!("{}-control", moment.suite()));
    let mut spec = ContainerSpec::new(name, &staging.agent_image, Attach::Bridge);
    let mut command = agent(&["reach"]);
    for probe in probes {
        let json = serde_json::to_string(probe)
            .map_err(|error| Bad::new(Owner::Engine, format!("cannot write a probe: {error}")))?;
        command.push(json);
    }
    spec.command = Some(command);
    let output = ground.engine.run_once(&spec, &ground.labels).await?;
    Ok(output
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect())
}

/// Tries doors from inside, all at once, and returns those that were open.
async fn try_doors(
    run: &Run,
    staging: &Staging,
    doors: Vec<Door>,
    moment: Moment,
) -> Result<Vec<String>, Bad> {
    let asked = doors.into_iter().map(|door| async move {
        let reply = staging
            .network
            .agent
            .ask(Ask::Reach(door.probe.clone()))
            .await;
        (door, reply)
    });
    let mut holes = Vec::new();
    for (door, reply) in futures_util::future::join_all(asked).await {
        let reply = reply?;
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
    Ok(holes)
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
