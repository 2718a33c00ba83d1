//! Which paths a package's what-ifs try. Nothing here knows how a path is walked.

mod orders;

use std::collections::BTreeSet;

use orders::{Graph, orders};

use super::model::{Asked, Course, DeployPath, Moment, Package, WhatIf, Why};

/// The paths of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// In the order of [`WhatIf::ALL`].
    pub paths: Vec<DeployPath>,
    /// Orders of the components that there are and that are not tried, because they are more than asked for;
    /// `u64::MAX` where there are too many to count.
    pub orders_left_out: u64,
    /// What orders were sampled with.
    pub seed: u64,
}

/// The paths that the what-ifs of a rehearsal try with this package, at most `most_orders` of them for `order`.
/// The same seed samples the same orders.
pub fn paths(package: &Package, asked: &[Asked], most_orders: usize, seed: u64) -> Paths {
    let graph = Graph::of(package);
    let mut orders_left_out = 0;
    let mut all = Vec::new();
    for what_if in WhatIf::ALL {
        let Some(asked) = asked.iter().find(|asked| asked.what_if == what_if) else {
            continue;
        };
        let courses = match what_if {
            WhatIf::Rollback => vec![Course::Rollback],
            WhatIf::Rerun => vec![Course::Rerun],
            WhatIf::Interrupt => interruptions(package),
            WhatIf::Order => {
                let orders = orders(&graph, most_orders, seed);
                orders_left_out = orders.left_out;
                ordered(&graph, orders.tried)
            }
            WhatIf::Subset => subsets(&graph),
            WhatIf::Again => (2..=asked.times)
                .map(|number| Course::Again { number })
                .collect(),
        };
        all.extend(courses.into_iter().map(|course| DeployPath {
            name: name(&course, asked.times),
            what_if,
            advisory: asked.advisory || only_informs(&course),
            course,
        }));
    }
    Paths {
        paths: all,
        orders_left_out,
        seed,
    }
}

fn name(course: &Course, times: u32) -> String {
    match course {
        Course::Rollback => "rollback".to_owned(),
        Course::Rerun => "rerun".to_owned(),
        Course::Interrupted {
            component,
            step,
            moment,
        } => {
            let when = match moment {
                Moment::Before => "before",
                Moment::During => "during",
                Moment::After => "after",
            };
            format!("killed {when} {component} / {step}")
        }
        Course::Ordered { components, .. } => format!("order {}", components.join(", ")),
        Course::Subset { components, .. } => format!("only {}", components.join(", ")),
        Course::Again { number } => format!("again {number} of {times}"),
    }
}

/// What the package says cannot work is tried to learn whether that is so.
const fn only_informs(course: &Course) -> bool {
    match course {
        Course::Ordered { why, .. } => matches!(why, Why::Forbidden { .. }),
        Course::Subset { missing, .. } => !missing.is_empty(),
        Course::Rollback | Course::Rerun | Course::Interrupted { .. } | Course::Again { .. } => {
            false
        }
    }
}

/// Before the first step, and during and after each: after a step is before the next one.
fn interruptions(package: &Package) -> Vec<Course> {
    let steps = package
        .components
        .iter()
        .flat_map(|component| component.steps.iter().map(move |step| (component, step)));
    let mut courses = Vec::new();
    for (index, (component, step)) in steps.enumerate() {
        let first: &[Moment] = if index == 0 { &[Moment::Before] } else { &[] };
        let moments = first.iter().chain(&[Moment::During, Moment::After]);
        courses.extend(moments.map(|moment| Course::Interrupted {
            component: component.name.clone(),
            step: step.name.clone(),
            moment: *moment,
        }));
    }
    courses
}

fn ordered(graph: &Graph<'_>, orders: Vec<(Vec<usize>, Why)>) -> Vec<Course> {
    let course = |(order, why): (Vec<usize>, Why)| Course::Ordered {
        components: graph.names(&order),
        why,
    };
    orders.into_iter().map(course).collect()
}

/// Each component alone, and each beginning of the deploy, without the whole.
fn subsets(graph: &Graph<'_>) -> Vec<Course> {
    if graph.len() < 2 {
        return Vec::new();
    }
    let alone = (0..graph.len()).map(|one| vec![one]);
    let prefixes = (2..graph.len()).map(|length| (0..length).collect());
    let course = |chosen: Vec<usize>| {
        let needed: BTreeSet<usize> = chosen
            .iter()
            .flat_map(|one| graph.after[*one].iter().copied())
            .filter(|needed| !chosen.contains(needed))
            .collect();
        Course::Subset {
            components: graph.names(&chosen),
            missing: graph.names(&Vec::from_iter(needed)),
        }
    };
    alone.chain(prefixes).map(course).collect()
}

#[cfg(test)]
mod tests;
