//! The orders in which a package's components could be deployed, and which of them tell most.

use std::collections::{BTreeSet, HashMap};

use crate::plan::model::{Package, Why};

/// The components in deploy order, and what each says that it comes after.
pub(super) struct Graph<'a> {
    names: Vec<&'a str>,
    /// As declared, by index.
    pub(super) after: Vec<BTreeSet<usize>>,
    /// With everything that follows from it.
    ancestors: Vec<BTreeSet<usize>>,
}

impl<'a> Graph<'a> {
    pub(super) fn of(package: &'a Package) -> Self {
        let names: Vec<&str> = package.components.iter().map(|c| c.name.as_str()).collect();
        // What is deployed already (`--deployed`) is not among them and is no question of order.
        let after: Vec<BTreeSet<usize>> = package
            .components
            .iter()
            .map(|component| {
                let index = |name: &String| names.iter().position(|other| other == name);
                component.after.iter().filter_map(index).collect()
            })
            .collect();
        // They are in deploy order, so everything a component comes after is known before it.
        let mut ancestors: Vec<BTreeSet<usize>> = Vec::new();
        for direct in &after {
            let mut all = direct.clone();
            for one in direct {
                all.extend(ancestors[*one].iter().copied());
            }
            ancestors.push(all);
        }
        Self {
            names,
            after,
            ancestors,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.names.len()
    }

    pub(super) fn names(&self, order: &[usize]) -> Vec<String> {
        order
            .iter()
            .map(|index| self.names[*index].to_owned())
            .collect()
    }

    /// The deploy order, changed no more than it takes to have `late` before `early`, with what `late` needs.
    fn hastened(&self, late: usize, early: usize) -> Vec<usize> {
        let moved = |index: usize| {
            index >= early
                && (index == late || (index < late && self.ancestors[late].contains(&index)))
                && index != early
        };
        let before = 0..early;
        let first = (early..self.len()).filter(|index| moved(*index));
        let then = (early..self.len()).filter(|index| !moved(*index));
        before.chain(first).chain(then).collect()
    }

    /// The pairs that come the other way round than in the deploy, as (now earlier, now later).
    fn swapped(&self, order: &[usize]) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        for (place, later) in order.iter().enumerate() {
            for earlier in &order[..place] {
                if earlier > later {
                    pairs.push((
                        self.names[*earlier].to_owned(),
                        self.names[*later].to_owned(),
                    ));
                }
            }
        }
        pairs
    }

    /// How many orders the declared dependencies allow; `None` where they are too many to count.
    fn allowed(&self) -> Option<u64> {
        /// Sets of components that can be deployed at some moment: 16 components that nothing orders.
        const MOST_SETS: usize = 1 << 16;
        if self.len() > 64 {
            return None;
        }
        // Ways to come to each set of deployed components, one component at a time.
        let mut ways: HashMap<u64, u64> = HashMap::from([(0, 1)]);
        for _ in 0..self.len() {
            let mut next: HashMap<u64, u64> = HashMap::new();
            for (deployed, count) in ways {
                for one in self.ready(deployed) {
                    let sum = next.entry(deployed | (1 << one)).or_default();
                    *sum = sum.checked_add(count)?;
                }
                if next.len() > MOST_SETS {
                    return None;
                }
            }
            ways = next;
        }
        ways.into_values().next()
    }

    /// What can be deployed next, in deploy order. At most 64 components are asked about.
    fn ready(&self, deployed: u64) -> impl Iterator<Item = usize> {
        (0..self.len()).filter(move |one| {
            deployed & (1 << one) == 0
                && self.after[*one]
                    .iter()
                    .all(|needed| deployed & (1 << needed) != 0)
        })
    }

    /// An allowed order: at each place one of those that can be next.
    fn sample(&self, rng: &mut fastrand::Rng) -> Vec<usize> {
        let mut order: Vec<usize> = Vec::new();
        while order.len() < self.len() {
            let ready: Vec<usize> = (0..self.len())
                .filter(|one| {
                    !order.contains(one) && self.after[*one].iter().all(|a| order.contains(a))
                })
                .collect();
            // A plan has no circle, so something can always be next.
            let Some(one) = rng.choice(&ready) else { break };
            order.push(*one);
        }
        order
    }

    /// Every allowed order, in the order of the file, until `most` are found.
    fn enumerate(&self, most: usize) -> Vec<Vec<usize>> {
        let mut found = Vec::new();
        let mut open: Vec<Vec<usize>> = vec![Vec::new()];
        while let Some(order) = open.pop() {
            if found.len() == most {
                break;
            }
            if order.len() == self.len() {
                found.push(order);
                continue;
            }
            let deployed = order.iter().fold(0, |set, one| set | (1_u64 << one));
            let mut next: Vec<Vec<usize>> = self
                .ready(deployed)
                .map(|one| {
                    let mut longer = order.clone();
                    longer.push(one);
                    longer
                })
                .collect();
            next.reverse();
            open.append(&mut next);
        }
        found
    }
}

pub(super) struct Orders {
    pub(super) tried: Vec<(Vec<usize>, Why)>,
    pub(super) left_out: u64,
}

/// First those that tell most: for each pair that nothing orders, one in which it comes the other way round and as little
/// else as possible; for each declared dependency one that breaks it alone. Then all others that are allowed, or a
/// sample of them.
pub(super) fn orders(graph: &Graph<'_>, most: usize, seed: u64) -> Orders {
    /// So many are listed rather than sampled.
    const LISTED: u64 = 5_000;
    let deploy: Vec<usize> = (0..graph.len()).collect();
    let mut seen: BTreeSet<Vec<usize>> = BTreeSet::from([deploy]);
    let mut allowed: Vec<Vec<usize>> = Vec::new();
    for late in 0..graph.len() {
        for early in (0..late).rev() {
            if !graph.ancestors[late].contains(&early) {
                let order = graph.hastened(late, early);
                if seen.insert(order.clone()) {
                    allowed.push(order);
                }
            }
        }
    }
    let forbidden: Vec<(Vec<usize>, Why)> = forbidden(graph);
    let room = most.saturating_sub(allowed.len() + forbidden.len());
    let total = graph.allowed();
    match total {
        Some(total) if total <= LISTED => {
            let listed = graph.enumerate(usize::MAX);
            let mut rest: Vec<Vec<usize>> = listed
                .into_iter()
                .filter(|order| !seen.contains(order))
                .collect();
            if rest.len() > room {
                fastrand::Rng::with_seed(seed).shuffle(&mut rest);
                rest.truncate(room);
            }
            allowed.extend(rest);
        }
        Some(_) | None => {
            let mut rng = fastrand::Rng::with_seed(seed);
            // There are thousands, so a new one is found nearly every time.
            for _ in 0..room.saturating_mul(20) {
                if allowed.len() + forbidden.len() >= most {
                    break;
                }
                let order = graph.sample(&mut rng);
                if seen.insert(order.clone()) {
                    allowed.push(order);
                }
            }
        }
    }
    let edges = forbidden.len();
    let tried: Vec<(Vec<usize>, Why)> = allowed
        .into_iter()
        .map(|order| {
            let swapped = graph.swapped(&order);
            (order, Why::Allowed { swapped })
        })
        .collect();
    // Where not even the telling ones have room, both kinds get some.
    let tried = spread(tried, forbidden, most);
    let of_allowed = tried
        .iter()
        .filter(|(_, why)| matches!(why, Why::Allowed { .. }))
        .count() as u64;
    let of_forbidden = tried.len() as u64 - of_allowed;
    let left_out = match total {
        // The deploy itself is one of them.
        Some(total) => (total - 1 - of_allowed).saturating_add(edges as u64 - of_forbidden),
        None => u64::MAX,
    };
    Orders { tried, left_out }
}

/// At most so many of both, one of each in turn while there are both; the first kind first.
fn spread<T>(first: Vec<T>, second: Vec<T>, most: usize) -> Vec<T> {
    let (mut kept_first, mut kept_second) = (first.len(), second.len());
    while kept_first + kept_second > most {
        if kept_first >= kept_second {
            kept_first -= 1;
        } else {
            kept_second -= 1;
        }
    }
    let second = second.into_iter().take(kept_second);
    first.into_iter().take(kept_first).chain(second).collect()
}

/// For each declared dependency an order that breaks it and no other. One that follows from others cannot be broken alone.
fn forbidden(graph: &Graph<'_>) -> Vec<(Vec<usize>, Why)> {
    let mut orders = Vec::new();
    for (component, after) in graph.after.iter().enumerate() {
        for needed in after {
            let implied = after
                .iter()
                .any(|other| graph.ancestors[*other].contains(needed));
            if implied {
                continue;
            }
            orders.push((
                graph.hastened(component, *needed),
                Why::Forbidden {
                    component: graph.names[component].to_owned(),
                    after: graph.names[*needed].to_owned(),
                },
            ));
        }
    }
    orders
}
