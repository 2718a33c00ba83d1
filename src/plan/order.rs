//! What comes after what.

/// The indices of `nodes` so that each comes after everything it names; among those that are free, the one
/// listed first. Names that are not in the list are ignored (they are reported elsewhere).
///
/// # Errors
/// A cycle, as the names along it with the first one repeated at its end.
pub(crate) fn sort<'a>(nodes: &[(&'a str, Vec<&'a str>)]) -> Result<Vec<usize>, Vec<String>> {
    let index = |name: &str| nodes.iter().position(|(n, _)| *n == name);
    let after: Vec<Vec<usize>> = nodes
        .iter()
        .map(|(_, names)| names.iter().filter_map(|name| index(name)).collect())
        .collect();
    let mut done: Vec<usize> = Vec::with_capacity(nodes.len());
    while done.len() < nodes.len() {
        let free = (0..nodes.len()).find(|i| {
            !done.contains(i)
                && after
                    .get(*i)
                    .is_some_and(|needs| needs.iter().all(|need| done.contains(need)))
        });
        match free {
            Some(i) => done.push(i),
            None => return Err(cycle(nodes, &after, &done)),
        }
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
