//! Whether the site was there during the deploy: the agent asks, and what it saw is held against what was promised.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::Bad;
use super::during::Steps;
use super::run::{Run, not_passed, passed};
use crate::agent::protocol::{self, Answer, Ask};
use crate::check::availability::{Tally, Window};
use crate::event::{Availability, Case, CaseStatus, EventKind, Mismatch, Outage, Owner, Stage};
use crate::plan::model::{self, Package};

/// The suite's name.
const SUITE: &str = "availability";

/// What the services may take to answer after the snapshot, at most: they are healthy already.
const PATIENCE: Duration = Duration::from_secs(30);

/// For how long a target that is away after the last step is asked on, at most.
const LINGER: Duration = Duration::from_secs(60);

/// What may be lost between the limit of the deploy and the end of the watch.
const SLACK: Duration = Duration::from_secs(60);

/// A watch that the agent keeps.
pub(super) struct Watch {
    id: u64,
    began: Timestamp,
    targets: Vec<model::Availability>,
}

/// What it saw.
pub(super) struct Seen {
    began: Timestamp,
    targets: Vec<(model::Availability, Tally)>,
}

fn strange(answer: &Answer) -> Bad {
    Bad::new(
        Owner::Engine,
        format!("the agent was asked to watch and answered {answer:?}"),
    )
}

impl Watch {
    /// Lets the agent begin, and waits until every target has answered once; nothing where there are none.
    pub(super) async fn begin(run: &Run, package: &Package) -> Result<Option<Self>, Bad> {
        let plan = &run.order.plan;
        let limits = limits(run, package).into_iter();
        let allowed = limits.map(|(limit, _)| limit).max().unwrap_or_default();
        let linger = allowed.min(LINGER);
        let targets = plan
            .testplan
            .iter()
            .flat_map(|plan| plan.availability.clone())
            .collect::<Vec<_>>();
        if targets.is_empty() {
            return Ok(None);
        }
        let ask = Ask::Watch(protocol::Watch {
            targets: targets.iter().map(|of| of.target.clone()).collect(),
            patience: PATIENCE.min(plan.limits.start),
            linger,
            allowed,
            most: plan.limits.deploy + linger + SLACK,
        });
        let (sent, asked) = (Timestamp::now(), Instant::now());
        let reply = run.staging()?.network.agent.ask(ask).await?;
        // What was not spent inside was spent on the way, there and back.
        let way = asked.elapsed().saturating_sub(reply.elapsed) / 2;
        let Answer::Watching(first) = &reply.answer else {
            return Err(strange(&reply.answer));
        };
        for (of, first) in targets.iter().zip(first) {
            if let Err(why) = first {
                return Err(Bad::new(
                    Owner::Staging,
                    format!(
                        "`{}` was not available before the deploy: {why}",
                        of.target.name
                    ),
                )
                .with_help(format!(
                    "what is not there before the deploy cannot be missed during it; the target is at {}",
                    of.location
                )));
            }
        }
        Ok(Some(Self {
            id: reply.id,
            began: later(sent, way),
            targets,
        }))
    }

    /// Ends it after one more round, or when nothing is away any more and no limit can be kept.
    pub(super) async fn end(self, run: &Run) -> Result<Seen, Bad> {
        let reply = run
            .staging()?
            .network
            .agent
            .ask(Ask::Watched(self.id))
            .await?;
        match reply.answer {
            Answer::Watched(tallies) if tallies.len() == self.targets.len() => Ok(Seen {
                began: self.began,
                targets: self.targets.into_iter().zip(tallies).collect(),
            }),
            other => Err(strange(&other)),
        }
    }
}

/// What was promised of the downtime, and by whom.
fn limits(run: &Run, package: &Package) -> Vec<(Duration, &'static str)> {
    [
        (run.order.plan.limits.downtime, "limits.downtime"),
        (package.declares.max_downtime, "declares.max_downtime"),
    ]
    .into_iter()
    .filter_map(|(limit, name)| Some((limit?, name)))
    .collect()
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::ZERO);
    at.checked_add(by).unwrap_or(at)
}

impl Seen {
    /// Emits each outage, what each target's come to, and a case for each.
    pub(super) fn report(&self, run: &Run, package: &Package, steps: &Steps) {
        let limits = limits(run, package);
        for (of, tally) in &self.targets {
            for window in &tally.windows {
                let (from, last) = self.surely(window);
                run.recorder.emit(EventKind::Unavailable(Outage {
                    target: of.target.name.clone(),
                    from,
                    to: (!window.open).then(|| later(self.began, window.to)),
                    seconds: lasted(window),
                    probes: window.probes,
                    reason: window.reason.clone(),
                    steps: steps.names(from, last),
                }));
            }
            run.recorder.emit(EventKind::Availability(Availability {
                target: of.target.name.clone(),
                probes: tally.probes,
                failed: tally.failed,
                outages: tally.count,
                downtime_seconds: tally.downtime.as_secs_f64(),
                longest_seconds: tally.longest.as_ref().map_or(0.0, lasted),
                slowest_seconds: tally.slowest.as_secs_f64(),
            }));
            let longest = tally.longest.as_ref().map(|window| {
                let (from, last) = self.surely(window);
                (
                    lasted(window),
                    steps.say(from, last),
                    steps.component(from, last),
                )
            });
            let mut case = judge(&of.target.name, tally, &limits, longest);
            case.location = Some(of.location.to_string());
            run.case(Stage::Deploy, case);
        }
    }

    /// The part of a window in which it was surely not there. What comes behind may belong to the next step already.
    fn surely(&self, window: &Window) -> (Timestamp, Timestamp) {
        (
            later(self.began, window.from),
            later(self.began, window.last),
        )
    }
}

fn lasted(window: &Window) -> f64 {
    window.to.saturating_sub(window.from).as_secs_f64()
}

/// The case of one target; `longest` is how long its longest outage lasted, when it was, and whose step that was.
fn judge(
    name: &str,
    tally: &Tally,
    limits: &[(Duration, &str)],
    longest: Option<(f64, String, Option<String>)>,
) -> Case {
    let seconds = tally.downtime.as_secs_f64();
    let figure = match &longest {
        None => format!("always there: {} probes", tally.probes),
        Some((longest, during, _)) => {
            let mut said = match tally.count {
                1 => format!("down {seconds:.1} s {during}"),
                n => format!(
                    "down {seconds:.1} s in {n} windows, the longest {longest:.1} s {during}"
                ),
            };
            if tally.still_down {
                said += "; still down when the deploy had ended";
            }
            if let Some(first) = tally.windows.first() {
                said += &format!(": {}", first.reason);
            }
            said
        }
    };
    let over: Vec<Mismatch> = limits
        .iter()
        .filter(|(limit, _)| tally.downtime > *limit || tally.still_down)
        .map(|(limit, whose)| Mismatch {
            what: "downtime".to_owned(),
            expected: format!("at most {} s ({whose})", limit.as_secs_f64()),
            seen: figure.clone(),
        })
        .collect();
    let case = if !over.is_empty() {
        Case {
            mismatches: over,
            component: longest.and_then(|(_, _, component)| component),
            ..not_passed(Stage::Deploy, name, CaseStatus::Failed, seconds, figure)
        }
    } else if let Some((times, why)) = &tally.unknown {
        let said = format!(
            "{times} of {} probes could not be made: {why}",
            tally.probes
        );
        not_passed(Stage::Deploy, name, CaseStatus::Error, seconds, said)
    } else if tally.still_down {
        not_passed(Stage::Deploy, name, CaseStatus::Warned, seconds, figure)
    } else {
        passed(Stage::Deploy, name, seconds, Some(figure))
    };
    Case {
        suite: SUITE.to_owned(),
        ..case
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::availability::Answered;

    fn case(answers: &str, limits: &[(u64, &'static str)]) -> Case {
        let mut tally = Tally::default();
        for (n, answer) in (0..).zip(answers.chars()) {
            let answered = match answer {
                '.' => Answered::Up,
                'x' => Answered::Down("HTTP status 502".to_owned()),
                _ => Answered::Unknown("no file left".to_owned()),
            };
            tally.add(
                Duration::from_millis(100 * n),
                Duration::from_millis(1),
                answered,
            );
        }
        tally.end();
        let limits: Vec<(Duration, &str)> = limits
            .iter()
            .map(|(ms, name)| (Duration::from_millis(*ms), *name))
            .collect();
        let longest = tally.longest.as_ref().map(|window| {
            (
                lasted(window),
                "during `app / roll`".to_owned(),
                Some("app".to_owned()),
            )
        });
        judge("front page", &tally, &limits, longest)
    }

    #[test]
    fn the_sum_of_the_outages_is_held_against_every_limit() {
        use CaseStatus::{Error, Failed, Passed, Warned};
        const OURS: &str = "limits.downtime";
        const THEIRS: &str = "declares.max_downtime";
        for (answers, limits, status, over) in [
            ("....", &[(0, OURS)][..], Passed, 0),
            (".x..", &[(0, OURS)], Failed, 1),
            (".xx.x.", &[(300, OURS)], Passed, 0),
            (".xx.x.", &[(299, OURS)], Failed, 1),
            (".xx.x.", &[(200, OURS), (100, THEIRS)], Failed, 2),
            (".xx.x.", &[(400, OURS), (100, THEIRS)], Failed, 1),
            (".xx.x.", &[], Passed, 0),
            // Nobody knows how long it stays away.
            ("...x", &[(60_000, OURS)], Failed, 1),
            ("...x", &[], Warned, 0),
            ("..?.", &[(300, OURS)], Error, 0),
            (".x?.", &[(0, OURS)], Failed, 1),
        ] {
            let case = case(answers, limits);
            assert_eq!(
                (case.status, case.mismatches.len()),
                (status, over),
                "{answers} {limits:?}"
            );
            assert_eq!(case.suite, "availability");
        }
    }

    #[test]
    fn the_figure_says_how_long_how_often_and_when() {
        for (answers, said) in [
            ("....", "always there: 4 probes"),
            (".xx.", "down 0.2 s during `app / roll`: HTTP status 502"),
            (
                ".xxx.x.",
                "down 0.4 s in 2 windows, the longest 0.3 s during `app / roll`: HTTP status 502",
            ),
        ] {
            assert_eq!(case(answers, &[]).message.as_deref(), Some(said));
        }
        let failed = case("..xx", &[(1_000, "limits.downtime")]);
        assert_eq!(
            failed.mismatches[0].expected,
            "at most 1 s (limits.downtime)"
        );
        assert!(
            failed.mismatches[0]
                .seen
                .contains("still down when the deploy had ended")
        );
        assert_eq!(failed.component.as_deref(), Some("app"));
    }
}
