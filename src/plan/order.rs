//! What comes after what.

use std::collections::{BTreeSet, HashMap};

/// The indices of `nodes` so that each comes after everything it names; among those that are free, the one
/// listed first. Names that are not in the list are ignored (they are reported elsewhere).
///
/// # Errors
/// A cycle, as the names along it with the first one repeated at its end.
pub(crate) fn sort<'a>(nodes: &[(&'a str, Vec<&'a str>)]) -> Result<Vec<usize>, Vec<String>> {
    let mut index: HashMap<&str, usize> = HashMap::new();
    for (at, (name, _)) in nodes.iter().enumerate() {
        index.entry(name).or_insert(at);
    }
    let after: Vec<Vec<usize>> = nodes
        .iter()
        .map(|(_, names)| {
            names
                .iter()
                .filter_map(|name| index.get(name).copied())
                .collect()
        })
        .collect();
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    let mut waits: Vec<usize> = after.iter().map(Vec::len).collect();
    for (node, needs) in after.iter().enumerate() {
        for need in needs {
            before[*need].push(node);
        }
    }
    let mut free: BTreeSet<usize> = (0..nodes.len()).filter(|node| waits[*node] == 0).collect();
    let mut done: Vec<usize> = Vec::with_capacity(nodes.len());
    while let Some(node) = free.pop_first() {
        done.push(node);
        for next in &before[node] {
            waits[*next] -= 1;
            if waits[*next] == 0 {
                free.insert(*next);
            }
        }
    }
    if done.len() < nodes.len() {
        return Err(cycle(nodes, &after, &done));
    }
    Ok(done)
}

/// Every node left over waits for another one left over, so walking must come back to where it has been.
fn cycle(nodes: &[(&str, Vec<&str>)], after: &[Vec<usize>], done: &[usize]) -> Vec<String> {
    let Some(start) = (0..nodes.len()).find(|i| !done.contains(i)) else {
        return Vec::new();
    };
    let mut path = vec![start];
    loop {
        let here = path.last().copied().unwrap_or(start);
        let next = after
            .get(here)
            .and_then(|needs| needs.iter().find(|need| !done.contains(need)))
            .copied()
            .unwrap_or(start);
        if let Some(at) = path.iter().position(|i| *i == next) {
            let mut names: Vec<String> = path
                .iter()
                .skip(at)
                .filter_map(|i| nodes.get(*i))
                .map(|(name, _)| (*name).to_owned())
                .collect();
            names.extend(names.first().cloned());
            return names;
        }
        path.push(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_cycles() {
        let sorted = |nodes: &[(&'static str, &[&'static str])]| {
            let nodes: Vec<_> = nodes.iter().map(|(n, a)| (*n, a.to_vec())).collect();
            sort(&nodes).map(|order| {
                order
                    .into_iter()
                    .map(|i| nodes[i].0.to_owned())
                    .collect::<Vec<_>>()
                    .join(" ")
            })
        };
        assert_eq!(sorted(&[("b", &[]), ("a", &[])]), Ok("b a".to_owned()));
        assert_eq!(
            sorted(&[
                ("web", &["app", "db"]),
                ("app", &["db"]),
                ("log", &[]),
                ("db", &[])
            ]),
            Ok("log db app web".to_owned())
        );
        assert_eq!(sorted(&[("a", &["nobody"])]), Ok("a".to_owned()));
        let cycle = sorted(&[("x", &["a"]), ("a", &["b"]), ("b", &["c"]), ("c", &["a"])]);
        assert_eq!(cycle, Err(["a", "b", "c", "a"].map(str::to_owned).to_vec()));
    }
}
