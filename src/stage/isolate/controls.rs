//! What has to be seen for the silence of the doors to mean anything.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Moment;
use super::doors::{BUSY_PATIENCE, SLOW, report};
use crate::agent::protocol::{Answer, Ask, Reach, Reached};
use crate::event::{CaseStatus, Owner, Stage};
use crate::stage::Bad;
use crate::stage::run::{Run, not_passed, passed};
use crate::staging::Staging;

/// For the agent's word that it heard a question. It comes by way of the engine's resolver and its log, both late on a
/// busy machine, and only where it never comes is all of this waited for.
const HEARING: Duration = Duration::from_secs(45);

/// Without a control that got through, silence proves nothing.
pub(super) fn judge_control(
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
pub(super) async fn judge_name(
    run: &Run,
    staging: &Staging,
    moment: Moment,
    name: &str,
) -> Option<String> {
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

/// Returns when every outside name that was asked for until now is an event: the agent writes down what it hears in order,
/// so a question of our own that arrives has all earlier ones before it.
///
/// # Errors
/// Why that cannot be said.
pub(in crate::stage) async fn heard_so_far(staging: &Staging) -> Result<(), String> {
    let name = format!("rehearse-{:08x}.example.com", fastrand::u32(..));
    // No need to wait for a question that nobody has asked yet: the first one is asked at once.
    let door = Reach::Name {
        name: name.clone(),
        timeout: BUSY_PATIENCE,
    };
    let ask = async {
        // Whether it was answered is not what this is about.
        let _ = staging.network.agent.ask(Ask::Reach(door)).await;
        hear(staging, &name).await
    };
    tokio::time::timeout(HEARING, ask)
        .await
        .unwrap_or_else(|_| {
            Err(format!(
                "the agent heard no question within {} s, so others may have gone unheard",
                HEARING.as_secs()
            ))
        })
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
pub(super) fn judge_ipv6(run: &Run, moment: Moment, addresses: &[IpAddr]) -> Option<String> {
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
