//! Doors that must be closed: tried from inside, all at once.

use std::net::IpAddr;
use std::time::Duration;

use super::Moment;
use crate::agent::protocol::{Answer, Ask, Reach, Reached, Reply};
use crate::engine::EngineError;
use crate::event::{CaseStatus, Stage};
use crate::stage::run::{Run, not_passed, passed};
use crate::staging::Staging;

/// For one probe of the beacon, which answers an open door within a millisecond. A closed door answers nothing: with
/// the bridge's address taken away, packets for the gateway are asked for by ARP in vain.
const PATIENCE: Duration = Duration::from_millis(250);

/// On a machine that is so busy that the control took longer than [`SLOW`], an open door may answer late too: the
/// doors are tried once more with this.
pub(super) const BUSY_PATIENCE: Duration = Duration::from_secs(3);
pub(super) const SLOW: Duration = Duration::from_secs(1);

/// One thing that must be out of reach, and whether the control has to reach it for the silence to mean anything.
pub(super) struct Door {
    pub(super) name: String,
    pub(super) probe: Reach,
}

pub(super) type Asked = (Door, Reply);

/// Tries doors from inside, all at once.
pub(super) async fn ask_doors(
    staging: &Staging,
    doors: Vec<Door>,
) -> Result<Vec<Asked>, EngineError> {
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
pub(super) fn judge_doors(run: &Run, moment: Moment, asked: Vec<Asked>) -> Vec<String> {
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

pub(super) fn report(run: &Run, moment: Moment, mut case: crate::event::Case) {
    case.suite = moment.suite().to_owned();
    let stage = match moment {
        Moment::Before => Stage::Isolate,
        Moment::AfterDeploy => Stage::Verify,
    };
    run.case(stage, case);
}

pub(super) const fn door(name: String, probe: Reach) -> Door {
    Door { name, probe }
}

/// The same probe with time for a busy machine.
pub(super) fn patient(mut probe: Reach) -> Reach {
    match &mut probe {
        Reach::Tcp { timeout, .. }
        | Reach::Udp { timeout, .. }
        | Reach::Name { timeout, .. }
        | Reach::Host { timeout, .. } => *timeout = BUSY_PATIENCE,
    }
    probe
}

pub(super) const fn tcp(address: IpAddr, port: u16) -> Reach {
    Reach::Tcp {
        address,
        port,
        timeout: PATIENCE,
    }
}

pub(super) const fn udp(address: IpAddr, port: u16) -> Reach {
    Reach::Udp {
        address,
        port,
        timeout: PATIENCE,
    }
}
