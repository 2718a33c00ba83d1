//! Streams that are whole, and streams in which something is missing.

use super::*;

pub(super) fn rows() -> Vec<Row> {
    use Outcome::{Invalid as I, Passed as P};
    let deployed = || upto(Rehearse, &UP_TO_DEPLOY);
    vec![
        ("all well", stream::passing(), P, None, 0),
        (
            "all well, no tests",
            with(deployed(), |s| {
                s.ok(&[Verify]);
            }),
            P,
            None,
            0,
        ),
        (
            "a backup check, all well",
            stream::backup_check(),
            P,
            None,
            0,
        ),
        (
            "nothing",
            Stream { events: Vec::new() },
            I,
            Some(Owner::Engine),
            2,
        ),
        (
            "only the start",
            Stream::new(Rehearse),
            I,
            Some(Owner::Engine),
            2,
        ),
        (
            "the start is missing",
            with(stream::passing(), |s| {
                s.events.remove(0);
            }),
            I,
            Some(Owner::Engine),
            2,
        ),
        (
            "cut in verify",
            with(deployed(), |s| {
                s.begin(Verify);
            }),
            I,
            Some(Owner::Engine),
            2,
        ),
        (
            "cut in verify after a failed test",
            with(deployed(), |s| {
                s.begin(Verify).case(Verify, "t", Failed);
            }),
            I,
            Some(Owner::Engine),
            2,
        ),
        (
            "verify skipped",
            with(deployed(), |s| {
                s.push(EventKind::StageSkipped {
                    stage: Verify,
                    reason: "no time".to_owned(),
                });
            }),
            I,
            Some(Owner::Engine),
            2,
        ),
        (
            "an event in the middle is missing",
            with(stream::passing(), |s| {
                let at = s
                    .events
                    .iter()
                    .position(|e| matches!(e.kind, EventKind::CaseFinished { .. }))
                    .unwrap();
                s.events.remove(at);
            }),
            I,
            Some(Owner::Engine),
            2,
        ),
    ]
}
