//! The order in which a Compose file of a package changes the services: that in which the stack starts them.

use std::collections::BTreeSet;

use crate::plan::model::{Component, Service};
use crate::plan::order;

/// The components, each called like its service, with what the stack says that each waits for, in deploy order.
pub(crate) fn ordered(mut components: Vec<Component>, services: &[Service]) -> Vec<Component> {
    let names: Vec<String> = components.iter().map(|of| of.name.clone()).collect();
    for component in &mut components {
        let needed = needed(&component.name, services);
        component.after = names
            .iter()
            .filter(|name| needed.contains(name.as_str()))
            .cloned()
            .collect();
    }
    let edges: Vec<(&str, Vec<&str>)> = components
        .iter()
        .map(|of| {
            let after = of.after.iter().map(String::as_str).collect();
            (of.name.as_str(), after)
        })
        .collect();
    // A circle is the stack's, and reported there.
    match order::sort(&edges) {
        Ok(indices) => indices
            .into_iter()
            .filter_map(|index| components.get(index).cloned())
            .collect(),
        Err(_) => components,
    }
}

/// Everything that a service waits for, also through services that the package leaves alone.
fn needed<'a>(name: &str, services: &'a [Service]) -> BTreeSet<&'a str> {
    let mut all = BTreeSet::new();
    let mut open = vec![name];
    while let Some(next) = open.pop() {
        let on = services
            .iter()
            .filter(|service| service.name == next)
            .flat_map(|service| &service.depends_on);
        for dependency in on {
            if all.insert(dependency.service.as_str()) {
                open.push(&dependency.service);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::model::{Condition, Dependency};

    #[test]
    fn what_the_stack_starts_first_is_changed_first_also_over_services_in_between() {
        let services: Vec<Service> = [
            ("web", &["app"][..]),
            ("app", &["db"]),
            ("db", &[]),
            ("log", &[]),
        ]
        .into_iter()
        .map(|(name, on)| Service {
            depends_on: on
                .iter()
                .map(|service| Dependency {
                    service: (*service).to_owned(),
                    condition: Condition::Started,
                })
                .collect(),
            ..Service::named(name)
        })
        .collect();
        let component = |name: &str| Component {
            name: name.to_owned(),
            after: Vec::new(),
            steps: Vec::new(),
        };
        let sorted = ordered(["log", "web", "db"].map(component).to_vec(), &services);
        let shown: Vec<(&str, &[String])> = sorted
            .iter()
            .map(|of| (of.name.as_str(), of.after.as_slice()))
            .collect();
        assert_eq!(
            shown,
            [
                ("log", &[][..]),
                ("db", &[]),
                ("web", &["db".to_owned()][..])
            ]
        );
    }
}
