//! Tests of what an emulator received.

use std::sync::Arc;

use super::expect::texts;
use crate::check::model::{
    Count, EmulatorExpect, EmulatorProbe, Expect, Probe, Since, Wanted, When,
};
use crate::manifest::decode::{Fields, number, string, text, word};
use crate::manifest::emulators::{method, path};
use crate::manifest::place::At;
use crate::manifest::problem::Problems;
use crate::manifest::tree::{Kind, Node};

/// When such a test runs unless it says otherwise: what a deploy asked for is known after it.
pub(super) const WHEN: [When; 1] = [When::Verify];

/// The emulator's name with its place, and the two halves of the test.
type Asked = (At<String>, Probe, Expect);

pub(super) fn decode(node: &Arc<Node>, when: &[When], p: &mut Problems) -> Option<Asked> {
    let mut f = Fields::of(node, "`emulator`", p)?;
    let name = f.req("name", p, text);
    let since_place = f.key_place("since").cloned();
    let words = [("deploy", Since::Deploy), ("start", Since::Start)];
    let since = f.opt("since", p, |node, p| word(node, p, &words));
    let received = f.req("received", p, received);
    f.finish(p);
    if let (Some(Since::Deploy), Some(place)) = (since, since_place)
        && when.contains(&When::Baseline)
    {
        p.push(
            place
                .problem(
                    "`since: deploy` in a test that runs at baseline, before there is a deploy",
                )
                .help("take `baseline` out of its `when`, or write `since: start`"),
        );
    }
    let (wanted, count) = received?;
    let name = name?;
    let probe = Probe::Emulator(EmulatorProbe {
        name: name.value.clone(),
        since,
    });
    let expect = Expect::Emulator(EmulatorExpect {
        received: wanted,
        count,
    });
    Some((name, probe, expect))
}

fn received(node: &Arc<Node>, p: &mut Problems) -> Option<(Wanted, Count)> {
    let mut f = Fields::of(node, "`received`", p)?;
    let conditions =
        |key, f: &mut Fields<'_>, p: &mut Problems| f.opt(key, p, texts).unwrap_or_default();
    let wanted = Wanted {
        method: f.opt("method", p, method),
        path: f.opt("path", p, path),
        by: f.opt("by", p, string),
        from: conditions("from", &mut f, p),
        to: conditions("to", &mut f, p),
        subject: conditions("subject", &mut f, p),
        body: conditions("body", &mut f, p),
    };
    let written = f.has("count");
    let counted = f.opt("count", p, count);
    let place = f.place.clone();
    let nothing = !f.has_keys();
    f.finish(p);
    let unbounded = counted.is_some_and(|count| count.min == 0 && count.max.is_none());
    if nothing || unbounded {
        p.push(place.problem("the test expects nothing").help(
            "say what must have been received, and how often: `{ path: /charge, count: 1 }`",
        ));
        return None;
    }
    // Once at least, where nothing else is said.
    let count = match (counted, written) {
        (Some(count), _) => count,
        (None, true) => return None,
        (None, false) => Count { min: 1, max: None },
    };
    Some((wanted, count))
}

/// A number, or `{ min: 1, max: 3 }`.
fn count(node: &Arc<Node>, p: &mut Problems) -> Option<Count> {
    let Kind::Map(_) = node.kind else {
        let exactly = number::<u64>(node, p)?;
        return Some(Count {
            min: exactly,
            max: Some(exactly),
        });
    };
    let mut f = Fields::of(node, "`count`", p)?;
    let min = f.opt("min", p, number::<u64>);
    let max = f.opt("max", p, number::<u64>);
    let place = f.place.clone();
    f.finish(p);
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        p.push(place.problem(format!("at least {min} and at most {max} cannot both be")));
        return None;
    }
    Some(Count {
        min: min.unwrap_or(0),
        max,
    })
}
