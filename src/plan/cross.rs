//! Whether files that are each in order also fit together.

use crate::manifest::load::Loaded;
use crate::manifest::package::{PackageManifest, StepEntry};
use crate::manifest::place::At;
use crate::manifest::problem::Problems;
use crate::manifest::rehearsal::Into;
use crate::manifest::stack::Stack;
use crate::manifest::suggest;
use crate::manifest::testplan::TestEntry;
use crate::plan::model::Action;
use crate::plan::resolve::start_order;

/// Everything that does not fit together.
pub(crate) fn cross_check(loaded: &Loaded, package: Option<&PackageManifest>) -> Problems {
    let mut p = Problems::new();
    let Some(stack) = &loaded.stack else {
        return p;
    };
    restores(loaded, stack, &mut p);
    forbidden(loaded, stack, &mut p);
    start_order(stack, &mut p);
    for test in loaded.testplan.iter().flat_map(|t| &t.tests) {
        known_test(test, stack, &mut p);
    }
    if let Some(package) = package {
        steps(loaded, package, stack, &mut p);
    }
    p
}

fn service(name: &At<String>, stack: &Stack, p: &mut Problems) {
    let names = || stack.services.iter().map(|s| s.service.name.as_str());
    if !names().any(|known| known == name.value) {
        p.push(
            name.place
                .problem(format!("the stack has no service `{}`", name.value))
                .maybe_help(suggest::help(
                    &name.value,
                    names().collect::<Vec<_>>(),
                    "its services",
                )),
        );
    }
}

fn restores(loaded: &Loaded, stack: &Stack, p: &mut Problems) {
    let restores = &loaded.rehearsal.restores;
    for (index, restore) in restores.iter().enumerate() {
        match &restore.into {
            Into::Postgres { service: name, .. } => service(name, stack, p),
            Into::Volume(volume) => {
                if !stack.volumes.contains(&volume.value) {
                    p.push(
                        volume
                            .place
                            .problem(format!("the stack has no volume `{}`", volume.value))
                            .maybe_help(suggest::help(
                                &volume.value,
                                stack.volumes.iter().map(String::as_str),
                                "its volumes",
                            )),
                    );
                }
            }
        }
        let name = restore.name();
        let earlier = restores
            .iter()
            .take(index)
            .find(|earlier| earlier.name() == name);
        if let Some(earlier) = earlier {
            p.push(
                restore
                    .place
                    .problem(format!(
                        "a second restore into `{name}`; the first is in line {}",
                        earlier.place.location().line
                    ))
                    .help("one backup would be written over the other; keep one"),
            );
        }
    }
}

/// A name that staging answers itself cannot be out of reach.
fn forbidden(loaded: &Loaded, stack: &Stack, p: &mut Problems) {
    for host in &loaded.rehearsal.forbidden {
        if stack.hosts().contains(&host.value.as_str()) {
            p.push(
                host.place
                    .problem(format!(
                        "`{}` is forbidden, and it is a name of staging itself",
                        host.value
                    ))
                    .help("forbid what must stay out of reach: production's hosts and addresses"),
            );
        }
    }
}

fn known_test(test: &TestEntry, stack: &Stack, p: &mut Problems) {
    if let Some(name) = &test.service {
        service(name, stack, p);
    }
    if let Some(host) = &test.host {
        let hosts = stack.hosts();
        if !hosts
            .iter()
            .any(|known| known.eq_ignore_ascii_case(&host.value))
        {
            p.push(
                host.place
                    .problem(format!("`{}` is no name in staging", host.value))
                    .maybe_help(suggest::help(&host.value, hosts, "names in staging")),
            );
        }
    }
}

fn steps(loaded: &Loaded, package: &PackageManifest, stack: &Stack, p: &mut Problems) {
    let all = package
        .components
        .iter()
        .flat_map(|c| &c.steps)
        .chain(&package.rollback);
    let mut first_on_bastion: Option<&StepEntry> = None;
    for step in all {
        match (&step.service, &step.step.action) {
            (Some(name), _) => service(name, stack, p),
            (None, Action::Run { .. }) => first_on_bastion = first_on_bastion.or(Some(step)),
            (
                None,
                Action::Copy { .. }
                | Action::Image { .. }
                | Action::Env { .. }
                | Action::Restart { .. },
            ) => {}
        }
    }
    if let (Some(step), None) = (first_on_bastion, &loaded.rehearsal.bastion) {
        p.push(
            step.place
                .problem(format!(
                    "the step `{}` runs in the bastion, and `{}` has none",
                    step.step.name,
                    loaded.rehearsal.file.display()
                ))
                .help("add `bastion: { image: .. }` with the tools of the admin's machine to the rehearsal, or name a `service` in the step"),
        );
    }
}
