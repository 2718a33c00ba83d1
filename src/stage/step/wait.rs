//! A step that waits until something answers inside the network.

use std::time::{Duration, Instant};

use super::{LATE, Outcome};
use crate::agent::protocol::{Answer, Ask};
use crate::check::model::{Observation, Probe, Unseen};
use crate::plan::model::Step;
use crate::stage::Bad;
use crate::stage::run::Run;

/// Between two questions. What is waited for tells nobody when it is there.
const EVERY: Duration = Duration::from_millis(250);

/// Asks until there is an answer or the step's time is over. An answer that comes later is none.
pub(super) async fn answered(run: &Run, step: &Step, probe: &Probe) -> Result<Outcome, Bad> {
    let agent = &run.staging()?.network.agent;
    let begun = Instant::now();
    let mut last = "it was never asked".to_owned();
    loop {
        let left = step.timeout.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Ok(Outcome::failed(format!(
                "it {LATE} of {} s; at last: {last}",
                step.timeout.as_secs()
            )));
        }
        let ask = Ask::Probe(within(probe.clone(), left));
        match tokio::time::timeout(left, agent.ask(ask)).await {
            Ok(reply) => match seen(reply?.answer) {
                Ok(()) => return Ok(Outcome::ok()),
                Err(why) => last = why,
            },
            Err(_) => continue,
        }
        tokio::time::sleep(EVERY.min(left)).await;
    }
}

/// The same question with no more time than is left.
fn within(mut probe: Probe, left: Duration) -> Probe {
    let timeout = match &mut probe {
        Probe::Http(http) => &mut http.timeout,
        Probe::Tcp(tcp) => &mut tcp.timeout,
        Probe::Sql(sql) => &mut sql.timeout,
        Probe::Exec(exec) => &mut exec.timeout,
        Probe::File(_) | Probe::Emulator(_) => return probe,
    };
    *timeout = left.min(*timeout);
    probe
}

/// Whether this is the answer that was waited for; else what it was. What cannot be asked (two statements at once, a
/// header that HTTP forbids) is the package's mistake.
fn seen(answer: Answer) -> Result<(), String> {
    match answer {
        Answer::Seen(Ok(Observation::Http { status, .. })) if status >= 400 => {
            Err(format!("HTTP status {status}"))
        }
        Answer::Seen(Ok(_)) => Ok(()),
        Answer::Seen(Err(Unseen::Unanswered(why) | Unseen::Undetermined(why))) => Err(why),
        other => Err(format!("the agent answered {other:?}")),
    }
}
