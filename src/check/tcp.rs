//! Judges a TCP connection.

use std::time::Duration;

use super::findings::Findings;
use super::model::{Observation, TcpExpect};
use super::text::Text;

/// Only a connection that was made is seen here; one that was not is judged with everything unanswered.
pub(super) fn judge(
    expect: &TcpExpect,
    observation: &Observation,
    elapsed: Duration,
    findings: &mut Findings,
) {
    let Observation::Tcp { banner } = observation else {
        return findings.wrong_kind("tcp", observation);
    };
    if !expect.open {
        return findings.differs("connection", "none", "a connection was made");
    }
    if let Some(condition) = &expect.banner {
        findings.text("banner", condition, Text::whole(banner));
    }
    findings.within(expect.within, elapsed);
}
