//! Proves from inside that nothing outside can be reached, each probe with a positive control.
//!
//! The beacon is a listener on the engine host's own interfaces, for the time of this stage. From an ordinary bridge
//! network it can be reached (the control); from staging it must not be. Without the control a silence proves
//! nothing. Hosts that are `forbidden:` are production's: the control never contacts them, and staging tries them
//! only after everything else was found closed.

mod controls;
mod doors;
mod outside;

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use super::Bad;
use super::run::{Run, not_passed};
use crate::agent::protocol::{Answer, Ask, Reach};
use crate::engine::EngineError;
use crate::event::{CaseStatus, Owner, Stage};
use crate::staging::Staging;
pub(super) use controls::heard_so_far;
use controls::{judge_control, judge_ipv6, judge_name};
use doors::{Door, SLOW, ask_doors, door, judge_doors, patient, report, tcp, udp};
pub(crate) use outside::{Outside, beacons};

/// For one probe of a host that may be far away.
const FAR_PATIENCE: Duration = Duration::from_millis(500);

/// Where clouds answer with credentials.
const METADATA: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));

/// The ports that are tried on a host that must not be reached.
const FORBIDDEN_PORTS: [u16; 6] = [22, 80, 443, 3306, 5432, 6379];

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
        .with_help("nothing was deployed into it; the isolate suite lists every door")),
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
