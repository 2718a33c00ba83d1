use super::*;
use crate::plan::model::{Action, Component, Location, Step};

fn component(name: &str, after: &[&str], steps: &[&str]) -> Component {
    Component {
        name: name.to_owned(),
        after: after.iter().map(|name| (*name).to_owned()).collect(),
        steps: steps
            .iter()
            .map(|step| Step {
                name: (*step).to_owned(),
                action: Action::Restart {
                    service: "web".to_owned(),
                },
                timeout: std::time::Duration::from_secs(1),
                expect_exit: 0,
                retries: 0,
                location: Location {
                    path: "deploy.yaml".into(),
                    line: 1,
                    column: 1,
                },
            })
            .collect(),
    }
}

fn asked(what_if: WhatIf) -> Asked {
    Asked {
        what_if,
        advisory: false,
        times: 3,
    }
}

fn site(after: &[(&str, &[&str])]) -> Package {
    Package::of(
        after
            .iter()
            .map(|(name, after)| component(name, after, &["go"]))
            .collect(),
    )
}

/// One line a path: its name, whether it only informs, and what is to be learnt.
fn shown(package: &Package, what_if: WhatIf, most: usize) -> Vec<String> {
    paths(package, &[asked(what_if)], most, 7)
        .paths
        .into_iter()
        .map(|path| {
            let mut line = path.name;
            match path.course {
                Course::Ordered {
                    why: Why::Allowed { swapped },
                    ..
                } => {
                    let pairs: Vec<String> = swapped
                        .iter()
                        .map(|(first, then)| format!("{first}<{then}"))
                        .collect();
                    line += &format!(" [{}]", pairs.join(" "));
                }
                Course::Ordered {
                    why: Why::Forbidden { component, after },
                    ..
                } => line += &format!(" [is {component} after {after} real]"),
                Course::Subset { missing, .. } if !missing.is_empty() => {
                    line += &format!(" [lacks {}]", missing.join(" "));
                }
                Course::Subset { .. }
                | Course::Rollback
                | Course::Rerun
                | Course::Interrupted { .. }
                | Course::Again { .. } => {}
            }
            if path.advisory {
                line += " (advisory)";
            }
            line
        })
        .collect()
}

#[test]
fn what_ifs_come_in_one_order_and_as_often_as_asked() {
    let package = site(&[("a", &[]), ("b", &[])]);
    let wanted = [
        asked(WhatIf::Again),
        Asked {
            advisory: true,
            ..asked(WhatIf::Rerun)
        },
        asked(WhatIf::Rollback),
    ];
    let names: Vec<(String, bool)> = paths(&package, &wanted, 9, 7)
        .paths
        .into_iter()
        .map(|path| (path.name, path.advisory))
        .collect();
    let expected = [
        ("rollback", false),
        ("rerun", true),
        ("again 2 of 3", false),
        ("again 3 of 3", false),
    ];
    assert_eq!(
        names,
        expected.map(|(name, advisory)| (name.to_owned(), advisory))
    );
}

#[test]
fn a_deploy_is_killed_at_every_moment_once() {
    let package = Package::of(vec![
        component("backend", &[], &["migrate", "roll"]),
        component("content", &["backend"], &["push"]),
    ]);
    assert_eq!(
        shown(&package, WhatIf::Interrupt, 0),
        [
            "killed before backend / migrate",
            "killed during backend / migrate",
            "killed after backend / migrate",
            "killed during backend / roll",
            "killed after backend / roll",
            "killed during content / push",
            "killed after content / push",
        ]
    );
}

#[test]
fn orders_show_each_pair_and_each_dependency_first() {
    let one = site(&[("a", &[])]);
    assert_eq!(shown(&one, WhatIf::Order, 12), Vec::<String>::new());

    // Nothing is declared, so the other way round has to pass as well.
    let free = site(&[("a", &[]), ("b", &[])]);
    assert_eq!(shown(&free, WhatIf::Order, 12), ["order b, a [b<a]"]);

    let chain = site(&[("a", &[]), ("b", &["a"]), ("c", &["a", "b"])]);
    // `c` after `a` follows from the others and cannot be broken alone.
    assert_eq!(
        shown(&chain, WhatIf::Order, 12),
        [
            "order b, a, c [is b after a real] (advisory)",
            "order a, c, b [is c after b real] (advisory)",
        ]
    );

    let fork = site(&[("a", &[]), ("b", &["a"]), ("c", &["a"]), ("d", &[])]);
    let all = shown(&fork, WhatIf::Order, 100);
    assert_eq!(
        all[..4],
        [
            "order a, c, b, d [c<b]",
            "order a, b, d, c [d<c]",
            "order a, d, b, c [d<b d<c]",
            "order d, a, b, c [d<a d<b d<c]",
        ]
    );
    // Four places for `d`, two orders of `b` and `c`, without the deploy itself; and two dependencies.
    assert_eq!(all.len(), 4 * 2 - 1 + 2);
}

#[test]
fn a_bound_leaves_the_telling_orders_and_says_how_many_it_left_out() {
    let fork = site(&[("a", &[]), ("b", &["a"]), ("c", &["a"]), ("d", &[])]);
    let wanted = [asked(WhatIf::Order)];
    for most in 0..=9 {
        let chosen = paths(&fork, &wanted, most, 7);
        assert_eq!(chosen.paths.len(), most, "{most}");
        assert_eq!(chosen.orders_left_out, 9 - most as u64, "{most}");
    }
    // Both kinds, where there is not room for all that tell something.
    let few = shown(&fork, WhatIf::Order, 2);
    assert!(few[0].contains("[c<b]"), "{few:?}");
    assert!(few[1].contains("real"), "{few:?}");
    assert_eq!(paths(&fork, &wanted, 8, 7), paths(&fork, &wanted, 8, 7));
}

#[test]
fn many_components_are_sampled_by_the_seed() {
    let names: Vec<String> = (0..30).map(|n| format!("c{n}")).collect();
    let package = Package::of(
        names
            .iter()
            .map(|name| component(name, &[], &["go"]))
            .collect(),
    );
    let wanted = [asked(WhatIf::Order)];
    // 30 components that nothing orders: 435 pairs, and more orders than can be counted.
    let chosen = paths(&package, &wanted, 440, 7);
    assert_eq!(chosen.paths.len(), 440);
    assert_eq!(chosen.orders_left_out, u64::MAX);
    let names: BTreeSet<&str> = chosen.paths.iter().map(|path| path.name.as_str()).collect();
    assert_eq!(names.len(), 440);
    assert_eq!(chosen, paths(&package, &wanted, 440, 7));
    assert_ne!(chosen.paths, paths(&package, &wanted, 440, 8).paths);
}

#[test]
fn an_allowed_order_is_allowed_and_a_forbidden_one_breaks_one_dependency() {
    let package = site(&[
        ("a", &[]),
        ("b", &["a"]),
        ("c", &[]),
        ("d", &["b", "c"]),
        ("e", &["a"]),
        ("f", &["d", "a"]),
    ]);
    let chosen = paths(&package, &[asked(WhatIf::Order)], 1_000, 7);
    assert_eq!(chosen.orders_left_out, 0);
    for path in &chosen.paths {
        let Course::Ordered { components, why } = &path.course else {
            panic!("{path:?}");
        };
        let at = |name: &str| components.iter().position(|one| one == name).unwrap();
        assert_eq!(components.len(), 6, "{path:?}");
        let broken: Vec<(&str, &str)> = package
            .components
            .iter()
            .flat_map(|component| {
                let of = component.name.as_str();
                component
                    .after
                    .iter()
                    .map(move |after| (of, after.as_str()))
            })
            .filter(|(component, after)| at(component) < at(after))
            .collect();
        match why {
            Why::Allowed { swapped } => {
                assert_eq!(broken, [], "{path:?}");
                assert!(!swapped.is_empty(), "{path:?}");
            }
            // `f` after `a` follows from `d`, so it is not among these.
            Why::Forbidden { component, after } => {
                assert_eq!(broken, [(component.as_str(), after.as_str())], "{path:?}");
            }
        }
    }
}

#[test]
fn a_part_is_each_component_alone_and_each_beginning() {
    let package = site(&[("a", &[]), ("b", &["a"]), ("c", &[])]);
    assert_eq!(
        shown(&package, WhatIf::Subset, 0),
        [
            "only a",
            "only b [lacks a] (advisory)",
            "only c",
            "only a, b",
        ]
    );
    assert_eq!(
        shown(&site(&[("a", &[])]), WhatIf::Subset, 0),
        Vec::<String>::new()
    );
}
