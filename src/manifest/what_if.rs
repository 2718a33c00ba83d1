//! `what_if`: which other ways of the deploy are tried.

use std::sync::Arc;

use crate::manifest::decode::{Fields, boolean, number, some, word};
use crate::manifest::place::{At, Place};
use crate::manifest::problem::Problems;
use crate::manifest::tree::{Kind, Node};
use crate::plan::model::{Asked, WhatIf};

/// `[rollback, { path: again, times: 5, advisory: true }]`
pub(crate) fn decode(node: &Arc<Node>, p: &mut Problems) -> Option<Vec<At<Asked>>> {
    let asked = some(node, p, one)?;
    for (index, this) in asked.iter().enumerate() {
        let twice = asked
            .iter()
            .take(index)
            .any(|earlier| earlier.value.what_if == this.value.what_if);
        if twice {
            p.push(
                this.place
                    .problem(format!("a second what-if `{}`", this.value.what_if.name()))
                    .help("each is asked for once; `again` says with `times` how often"),
            );
        }
    }
    Some(asked)
}

fn one(node: &Arc<Node>, p: &mut Problems) -> Option<At<Asked>> {
    let Kind::Map(_) = &node.kind else {
        let what_if = name(node, p)?;
        return Some(asked(what_if, node.head().clone()));
    };
    let mut f = Fields::of(node, "a what-if", p)?;
    let what_if = f.req("path", p, name);
    let advisory = f.opt("advisory", p, boolean);
    let place = f.key_place("times").cloned();
    let times = f.opt("times", p, number::<u32>);
    f.finish(p);
    let mut asked = asked(what_if?, node.head().clone());
    asked.value.advisory = advisory.unwrap_or(false);
    if let (Some(times), Some(place)) = (times, place) {
        if asked.value.what_if != WhatIf::Again {
            p.push(
                place
                    .problem("`times` goes with `again` alone")
                    .help("remove it"),
            );
        } else if !(2..=50).contains(&times) {
            p.push(
                place
                    .problem(format!("`times: {times}` is not between 2 and 50"))
                    .help("the first of them is the deploy that is judged"),
            );
        } else {
            asked.value.times = times;
        }
    }
    Some(asked)
}

fn asked(what_if: WhatIf, place: Place) -> At<Asked> {
    At::new(Asked::of(what_if), place)
}

fn name(node: &Arc<Node>, p: &mut Problems) -> Option<WhatIf> {
    let words = WhatIf::ALL.map(|what_if| (what_if.name(), what_if));
    word(node, p, &words)
}
