//! A step that waits until something answers inside the network.

use std::time::{Duration, Instant};

use super::Outcome;
use crate::agent::protocol::{Answer, Ask};
use crate::check::model::{Observation, Probe, Unseen};
use crate::event::Owner;
use crate::plan::model::Step;
use crate::stage::Bad;
use crate::stage::run::Run;

/// Between two questions. What is waited for tells nobody when it is there.
const EVERY: Duration = Duration::from_millis(250);

/// Asks until there is an answer or the step's time is over.
pub(super) async fn answered(run: &Run, step: &Step, probe: &Probe) -> Result<Outcome, Bad> {
    let agent = &run.staging()?.network.agent;
    let begun = Instant::now();
    loop {
        let reply = agent.ask(Ask::Probe(probe.clone())).await?;
        let seen = match reply.answer {
            Answer::Seen(seen) => verdict(seen)?,
            other => Err(format!("the agent answered {other:?}")),
        };
        let Err(last) = seen else {
            return Ok(Outcome::ok());
        };
        if begun.elapsed() + EVERY > step.timeout {
            return Ok(Outcome::failed(format!(
                "no answer within its timeout of {} s; at last: {last}",
                step.timeout.as_secs()
            )));
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Whether this is the answer that was waited for; else what it was.
fn verdict(seen: Result<Observation, Unseen>) -> Result<Result<(), String>, Bad> {
    match seen {
        Ok(Observation::Http { status, .. }) if status >= 400 => {
            Ok(Err(format!("HTTP status {status}")))
        }
        Ok(_) => Ok(Ok(())),
        Err(Unseen::Unanswered(why)) => Ok(Err(why)),
        Err(Unseen::Undetermined(why)) => Err(Bad::new(
            Owner::Engine,
            format!("cannot ask whether it is there: {why}"),
        )),
    }
}
