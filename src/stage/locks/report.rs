//! What is told of the locks that were seen.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Looks, Seen};
use crate::event::{Case, CaseStatus, Mismatch, Stage};
use crate::plan::model::Package;
use crate::stage::during::Steps;
use crate::stage::run::{Run, not_passed, passed};

/// The suite's name.
const SUITE: &str = "locks";

/// What is not seen for longer than this is said.
const BLIND: Duration = Duration::from_secs(1);

/// Between two looks nothing is promised to be seen; where a limit is declared, no more than this may lie between them.
const UNSEEN: Duration = Duration::from_millis(300);

/// A moment of the server's clock, by ours.
fn moment(at: f64, ahead: f64) -> Timestamp {
    let since = SignedDuration::try_from_secs_f64(at + ahead).unwrap_or(SignedDuration::ZERO);
    Timestamp::from_duration(since).unwrap_or(Timestamp::UNIX_EPOCH)
}

impl Seen {
    /// A case for each database; where none could be looked at and a limit is declared, one that says so.
    pub(in crate::stage) fn report(&self, run: &Run, package: &Package, steps: &Steps) {
        let limit = package.declares.max_lock;
        if let Some(why) = &self.unread {
            run.case(
                Stage::Deploy,
                blind("every database".to_owned(), why, limit),
            );
        }
        for (name, looks) in &self.looks {
            let name = format!("{name}: how long a table was locked");
            let case = match looks {
                None => blind(name, "the session did not end", limit),
                Some(looks) if looks.ledger.samples == 0 => {
                    let why = looks.why.as_deref().unwrap_or("there was no answer");
                    blind(name, why, limit)
                }
                Some(looks) => judge(name, looks, limit, steps),
            };
            run.case(Stage::Deploy, case);
        }
        if limit.is_some() && self.looks.is_empty() && self.unread.is_none() {
            let why = "no PostgreSQL database was restored";
            run.case(
                Stage::Deploy,
                blind("every database".to_owned(), why, limit),
            );
        }
    }
}

/// What could not be looked at is no reason to worry where nobody promised anything.
fn blind(name: String, why: &str, limit: Option<Duration>) -> Case {
    let (status, more) = match limit {
        Some(_) => (CaseStatus::Error, ", and the package declares max_lock"),
        None => (CaseStatus::Warned, ""),
    };
    let why = format!("locks could not be looked at{more}: {why}");
    Case {
        suite: SUITE.to_owned(),
        ..not_passed(Stage::Deploy, name, status, 0.0, why)
    }
}

fn judge(name: String, looks: &Looks, limit: Option<Duration>, steps: &Steps) -> Case {
    let longest = looks.ledger.longest();
    let lasted = longest
        .as_ref()
        .map_or(0.0, |lock| lock.lasted().as_secs_f64());
    let when = longest.as_ref().map(|lock| {
        let ahead = looks.ahead.unwrap_or_default();
        (moment(lock.from, ahead), moment(lock.last, ahead))
    });
    let mut figure = match (&longest, when) {
        (Some(lock), Some((from, to))) => format!(
            "the longest lock: {lasted:.1} s on {}, {}, {}",
            lock.table,
            lock.mode.name(),
            steps.say(from, to)
        ),
        _ => "no table was seen locked".to_owned(),
    };
    if looks.blind > BLIND {
        figure += &format!(" (nothing was seen for {:.1} s)", looks.blind.as_secs_f64());
    }
    let case = match limit {
        Some(limit) if lasted > limit.as_secs_f64() => Case {
            mismatches: vec![Mismatch {
                what: "longest lock".to_owned(),
                expected: format!("at most {} s (declares.max_lock)", limit.as_secs_f64()),
                seen: figure.clone(),
            }],
            component: when.and_then(|(from, to)| steps.component(from, to)),
            ..not_passed(Stage::Deploy, name, CaseStatus::Failed, lasted, figure)
        },
        // A lock that is too long could have been held and given up meanwhile.
        Some(limit) if looks.blind > limit.max(UNSEEN) => {
            let said = looks.why.as_deref().unwrap_or("the server did not answer");
            let why = format!("{figure}, and a longer lock may have gone unseen: {said}");
            not_passed(Stage::Deploy, name, CaseStatus::Error, lasted, why)
        }
        Some(_) | None => passed(Stage::Deploy, name, lasted, Some(figure)),
    };
    Case {
        suite: SUITE.to_owned(),
        ..case
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::locks::Mode;

    fn looks(locked: usize, blind: u64) -> Looks {
        let mut looks = Looks {
            blind: Duration::from_millis(blind),
            ahead: Some(0.25),
            ..Looks::default()
        };
        for n in 0..20 {
            let held = match n < locked {
                true => vec![("orders".to_owned(), Mode::AccessExclusive)],
                false => Vec::new(),
            };
            looks.ledger.add(1_700_000_000.0 + n as f64 / 8.0, held);
        }
        looks
    }

    #[test]
    fn a_lock_is_held_against_what_the_package_declares_and_blindness_is_no_pass() {
        use CaseStatus::{Error, Failed, Passed};
        let steps = Steps::of(&[], 0);
        for (locked, blind, limit, status) in [
            (0, 100, None, Passed),
            (8, 100, None, Passed),
            (8, 9_000, None, Passed),
            (8, 100, Some(1_000), Passed),
            (9, 100, Some(1_000), Failed),
            (0, 2_000, Some(1_000), Error),
            (0, 900, Some(200), Error),
            (0, 2_000, Some(3_000), Passed),
            (9, 2_000, Some(1_000), Failed),
            // Between two looks nothing is promised to be seen.
            (0, 150, Some(0), Passed),
        ] {
            let limit = limit.map(Duration::from_millis);
            let case = judge("db".to_owned(), &looks(locked, blind), limit, &steps);
            assert_eq!(case.status, status, "{locked} {blind} {limit:?}: {case:?}");
        }
        let case = judge("db".to_owned(), &looks(8, 100), None, &steps);
        assert_eq!(
            case.message.as_deref(),
            Some("the longest lock: 1.0 s on orders, AccessExclusive, before the first step")
        );
        assert_eq!(
            super::blind("db".to_owned(), "x", None).status,
            CaseStatus::Warned
        );
        let limit = Some(Duration::ZERO);
        assert_eq!(super::blind("db".to_owned(), "x", limit).status, Error);
    }
}
