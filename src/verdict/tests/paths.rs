//! What-ifs that were asked for: what is not shown of them is never passed.

use super::*;
use crate::event::{PathOutcome, PathPlanned};

fn planned(paths: &[(&str, bool)]) -> EventKind {
    EventKind::PathsPlanned {
        paths: paths
            .iter()
            .map(|(path, advisory)| PathPlanned {
                path: (*path).to_owned(),
                what_if: "again".to_owned(),
                advisory: *advisory,
            })
            .collect(),
        orders_left_out: 0,
        seed: 7,
    }
}

/// A run that passes, and these what-ifs in it.
fn verified(paths: &[(&str, bool)]) -> Stream {
    let mut s = Stream::new(Rehearse);
    s.push(planned(paths));
    s.ok(&UP_TO_DEPLOY).ok(&[Verify]);
    s
}

fn walked(s: &mut Stream, path: &str, outcome: PathOutcome) {
    s.push(EventKind::PathStarted {
        path: path.to_owned(),
    });
    // What fails there is no part of the deploy that is judged.
    let mut inside = Stream::new(Rehearse);
    inside.case(Verify, "the front page answers", Failed).bad(
        Deploy,
        Owner::Package,
        "exit code 3",
    );
    for event in inside.events {
        s.push(EventKind::OnPath {
            path: path.to_owned(),
            happened: Box::new(event.kind),
        });
    }
    s.push(EventKind::PathEnded {
        path: path.to_owned(),
        outcome,
        reason: Some("what was seen".to_owned()),
        seconds: 2.0,
        bytes: None,
    });
}

fn judged(s: &Stream) -> (Outcome, Option<Owner>, Option<Stage>) {
    let verdict = Verdict::of(&s.events);
    (verdict.outcome, verdict.owner, verdict.stage)
}

const PASSED: (Outcome, Option<Owner>, Option<Stage>) = (Outcome::Passed, None, None);
const FAILED: (Outcome, Option<Owner>, Option<Stage>) =
    (Outcome::Failed, Some(Owner::Package), Some(WhatIf));
const INVALID: (Outcome, Option<Owner>, Option<Stage>) =
    (Outcome::Invalid, Some(Owner::Engine), Some(WhatIf));

#[test]
fn paths_decide_as_they_ended_and_advisory_ones_do_not() {
    use PathOutcome as P;
    for (first, second, expected) in [
        (P::Passed, P::Passed, PASSED),
        (P::Failed, P::Passed, FAILED),
        (P::Invalid, P::Passed, INVALID),
        // The second is advisory.
        (P::Passed, P::Failed, PASSED),
        (P::Passed, P::Invalid, PASSED),
        (P::Failed, P::Invalid, FAILED),
    ] {
        let s = with(verified(&[("a", false), ("b", true)]), |s| {
            s.begin(WhatIf);
            walked(s, "a", first);
            walked(s, "b", second);
            s.end(WhatIf, StageOutcome::Ok);
        });
        assert_eq!(judged(&s), expected, "{first:?} {second:?}");
    }
    // Where both could not be seen and failed, nothing is held against the package.
    let s = with(verified(&[("a", false), ("b", false)]), |s| {
        s.begin(WhatIf);
        walked(s, "a", P::Failed);
        walked(s, "b", P::Invalid);
        s.end(WhatIf, StageOutcome::Ok);
    });
    assert_eq!(judged(&s), INVALID);
}

#[test]
fn the_stages_own_word_and_its_cases_decide_too() {
    let with_end = |owner| {
        with(verified(&[("a", false)]), |s| {
            s.begin(WhatIf);
            walked(s, "a", PathOutcome::Passed);
            s.end_bad(WhatIf, owner, "x");
        })
    };
    assert_eq!(judged(&with_end(Owner::Package)), FAILED);
    assert_eq!(judged(&with_end(Owner::Engine)), INVALID);
    for (status, expected) in [
        (Failed, FAILED),
        (Error, INVALID),
        (Warned, PASSED),
        (Skipped, PASSED),
    ] {
        let s = with(verified(&[("a", false)]), |s| {
            s.begin(WhatIf);
            walked(s, "a", PathOutcome::Passed);
            s.case(WhatIf, "a", status).end(WhatIf, StageOutcome::Ok);
        });
        assert_eq!(judged(&s), expected, "{status:?}");
    }
}

#[test]
fn what_was_planned_and_is_not_shown_is_not_passed() {
    // The stage is missing, was skipped, or did not end.
    assert_eq!(judged(&verified(&[("a", false)])), INVALID);
    assert_eq!(judged(&verified(&[])), INVALID);
    let skipped = with(verified(&[("a", true)]), |s| {
        s.push(EventKind::StageSkipped {
            stage: WhatIf,
            reason: "why not".to_owned(),
        });
    });
    assert_eq!(judged(&skipped), INVALID);
    // The stage says that it ended ok, and a path is missing, began twice, or has another name.
    let one = with(verified(&[("a", false), ("b", false)]), |s| {
        s.begin(WhatIf);
        walked(s, "a", PathOutcome::Passed);
        walked(s, "a", PathOutcome::Passed);
        walked(s, "c", PathOutcome::Passed);
        s.end(WhatIf, StageOutcome::Ok);
    });
    assert_eq!(judged(&one), INVALID);
    let whole = with(verified(&[("a", false)]), |s| {
        s.begin(WhatIf);
        walked(s, "a", PathOutcome::Passed);
        s.end(WhatIf, StageOutcome::Ok);
    });
    assert_eq!(judged(&whole), PASSED);
    for lost in 0..whole.events.len() - 1 {
        let mut events = whole.events.clone();
        let kind = events.remove(lost).kind;
        let got = Verdict::of(&events).outcome;
        assert_ne!(got, Outcome::Passed, "without {kind:?}");
    }
    for cut in 0..whole.events.len() {
        let got = Verdict::of(&whole.events[..cut]).outcome;
        assert_ne!(got, Outcome::Passed, "cut after {cut}");
    }
}

#[test]
fn a_failed_deploy_is_judged_before_what_ifs_are_missed() {
    let s = with(upto(Rehearse, &UP_TO_DEPLOY[..6]), |s| {
        s.push(planned(&[("a", false)]))
            .bad(Deploy, Owner::Package, "exit code 3")
            .ok(&[Verify])
            .push(EventKind::StageSkipped {
                stage: WhatIf,
                reason: "the deploy failed".to_owned(),
            });
    });
    assert_eq!(
        judged(&s),
        (Outcome::Failed, Some(Owner::Package), Some(Deploy))
    );
    assert_eq!(Verdict::of_the_deploy(&s.events).stage, Some(Deploy));
    // The deploy alone is judged without them.
    let verified = verified(&[("a", false)]);
    let alone = Verdict::of_the_deploy(&verified.events);
    assert_eq!(alone.outcome, Outcome::Passed);
}

#[test]
fn events_of_a_path_survive_json() {
    let s = with(verified(&[("a", false)]), |s| {
        walked(s, "a", PathOutcome::Failed);
    });
    for event in &s.events {
        let text = serde_json::to_string(event).unwrap();
        let read: Event = serde_json::from_str(&text).unwrap();
        assert_eq!(&read, event, "{text}");
    }
}
