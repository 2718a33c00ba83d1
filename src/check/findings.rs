//! What is collected while one test is judged: everything false and everything unknown, so that all of it is said at once.

use std::time::Duration;

use super::judge::{Judgement, kind};
use super::model::{Observation, TextMatch};
use super::show;
use super::text::{Held, Text, hold};
use crate::event::Mismatch;

/// False expectations and those that could not be determined.
#[derive(Default)]
pub(super) struct Findings {
    mismatches: Vec<Mismatch>,
    unknown: Vec<String>,
}

impl Findings {
    /// An expectation was false.
    pub(super) fn differs(
        &mut self,
        what: impl Into<String>,
        expected: impl Into<String>,
        seen: impl Into<String>,
    ) {
        self.mismatches.push(Mismatch {
            what: what.into(),
            expected: expected.into(),
            seen: seen.into(),
        });
    }

    /// An expectation could not be determined.
    pub(super) fn unknown(&mut self, reason: impl Into<String>) {
        self.unknown.push(reason.into());
    }

    /// The observation is not of the test's kind: our own mistake.
    pub(super) fn wrong_kind(&mut self, expected: &str, seen: &Observation) {
        self.unknown(format!(
            "an answer for `{}` came to a test of kind `{expected}`",
            kind(seen)
        ));
    }

    /// `same_as: baseline` has nothing to compare with.
    pub(super) fn no_baseline(&mut self) {
        self.unknown("the baseline saw nothing for this test, so nothing can be the same as it");
    }

    /// A time limit.
    pub(super) fn within(&mut self, limit: Option<Duration>, elapsed: Duration) {
        if let Some(limit) = limit
            && elapsed > limit
        {
            self.differs("time", format!("within {limit:?}"), show::duration(elapsed));
        }
    }

    /// A condition on a text.
    pub(super) fn text(&mut self, what: &str, condition: &TextMatch, text: Text<'_>) {
        match hold(condition, text) {
            Held::True => {}
            Held::False { expected, seen } => self.differs(what, expected, seen),
            Held::Unknown(reason) => self.unknown(format!("{what}: {reason}")),
        }
    }

    /// Two texts that must be equal, of which either may have been cut.
    pub(super) fn same_text(&mut self, what: &str, baseline: Text<'_>, now: Text<'_>) {
        if baseline.text == now.text && baseline.cut != now.cut {
            let length = |text: Text<'_>| match text.cut {
                true => format!("more than {} bytes", text.text.len()),
                false => format!("{} bytes", text.text.len()),
            };
            let expected = format!("as in the baseline: {}", length(baseline));
            self.differs(what, expected, length(now));
        } else if baseline.text != now.text {
            let (expected, seen) = show::difference(baseline.text, now.text);
            self.differs(what, format!("as in the baseline: {expected}"), seen);
        } else if now.cut {
            self.unknown(format!(
                "{what}: equal to the baseline as far as it was read, but it is longer"
            ));
        }
    }

    /// Failed comes first: what is false stays false whatever the unknown would have been.
    pub(super) fn into_judgement(self) -> Judgement {
        let unknown = self.unknown.join("; ");
        let Some(first) = self.mismatches.first() else {
            return match self.unknown.is_empty() {
                true => Judgement::Passed,
                false => Judgement::Error { message: unknown },
            };
        };
        let mut message = format!(
            "{}: expected {}, seen {}",
            first.what, first.expected, first.seen
        );
        if self.mismatches.len() > 1 {
            message.push_str(&format!(" (and {} more)", self.mismatches.len() - 1));
        }
        if !unknown.is_empty() {
            message.push_str(&format!("; not determined: {unknown}"));
        }
        Judgement::Failed {
            message,
            mismatches: self.mismatches,
        }
    }
}
