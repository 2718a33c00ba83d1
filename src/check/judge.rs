//! The one entry to judging: who judges what, and what an answer that never came means.

use std::time::Duration;

use super::findings::Findings;
use super::model::{Expect, Observation, Test, Unseen};
use super::{emulator, exec, file, http, sql, tcp, vacuous};
use crate::event::Mismatch;

/// What came of one test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Every expectation was seen to be true.
    Passed,
    /// At least one expectation was seen to be false.
    Failed {
        /// One line.
        message: String,
        /// Every expectation that was false, in the order in which a test plan writes them.
        mismatches: Vec<Mismatch>,
    },
    /// No expectation was seen to be false, but at least one could not be determined.
    Error {
        /// One line.
        message: String,
    },
}

/// Judges what was seen. `elapsed` is what the agent measured; `baseline` is what the baseline stage saw for the
/// test of this name.
///
/// An expectation that is false for certain makes the test *failed*, whatever else could not be determined: the
/// message then names both. While the baseline itself is being judged the caller passes the observation just made
/// as the `baseline`; without one, `same_as: baseline` is an *error*, never passed.
pub fn judge(
    test: &Test,
    seen: &Result<Observation, Unseen>,
    elapsed: Duration,
    baseline: Option<&Observation>,
) -> Judgement {
    if vacuous(&test.expect) {
        return Judgement::Error {
            message: "the test asserts nothing, so it cannot pass".to_owned(),
        };
    }
    let observation = match seen {
        Ok(observation) => observation,
        Err(Unseen::Undetermined(reason)) => {
            return Judgement::Error {
                message: super::show::line(reason),
            };
        }
        Err(Unseen::Unanswered(reason)) => return unanswered(&test.expect, reason),
    };
    let mut findings = Findings::default();
    match &test.expect {
        Expect::Http(expect) => http::judge(expect, observation, elapsed, baseline, &mut findings),
        Expect::Tcp(expect) => tcp::judge(expect, observation, elapsed, &mut findings),
        Expect::Sql(expect) => sql::judge(expect, observation, elapsed, baseline, &mut findings),
        Expect::Exec(expect) => exec::judge(expect, observation, elapsed, baseline, &mut findings),
        Expect::File(expect) => file::judge(expect, observation, baseline, &mut findings),
        Expect::Emulator(expect) => emulator::judge(expect, observation, &mut findings),
    }
    findings.into_judgement()
}

/// Nothing was seen, so whatever was expected of it is false; only a port that must be closed wants just that.
fn unanswered(expect: &Expect, reason: &str) -> Judgement {
    let expected = match expect {
        Expect::Tcp(tcp) if !tcp.open => return Judgement::Passed,
        Expect::Tcp(_) => "a connection",
        Expect::Http(_) => "an HTTP answer",
        Expect::Sql(_) => "a result",
        Expect::Exec(_) => "a command that ends",
        Expect::File(_) => "a look at the file",
        Expect::Emulator(_) => "an emulator's record",
    };
    let seen = super::show::line(reason);
    Judgement::Failed {
        message: format!("no answer: {seen}"),
        mismatches: vec![Mismatch {
            what: "answer".to_owned(),
            expected: expected.to_owned(),
            seen,
        }],
    }
}

/// The kind of an observation, for the message about one that does not fit its test.
pub(super) fn kind(observation: &Observation) -> &'static str {
    match observation {
        Observation::Http { .. } => "http",
        Observation::Tcp { .. } => "tcp",
        Observation::Sql { .. } => "sql",
        Observation::Exec { .. } => "exec",
        Observation::File(_) => "file",
        Observation::Emulator(_) => "emulator",
    }
}
