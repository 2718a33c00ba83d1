//! Whether files that are each in order also fit together.

use std::collections::BTreeSet;

use crate::check::model::{Expect, Probe, Severity, Test, When};
use crate::manifest::load::Loaded;
use crate::manifest::package::{PackageManifest, StepEntry};
use crate::manifest::place::At;
use crate::manifest::problem::Problems;
use crate::manifest::restore::{RestoreEntry, RestoreInto};
use crate::manifest::stack::Stack;
use crate::manifest::suggest;
use crate::manifest::testplan::TestEntry;
use crate::plan::emulators;
use crate::plan::model::{Action, Method, Override};
use crate::plan::promises::promises;
use crate::plan::resolve::start_order;

/// Everything that does not fit together.
pub(crate) fn cross_check(loaded: &Loaded, package: Option<&PackageManifest>) -> Problems {
    let mut p = Problems::new();
    let Some(stack) = &loaded.stack else {
        return p;
    };
    restores(loaded, stack, &mut p);
    forbidden(loaded, stack, &mut p);
    emulators::cross_check(loaded, stack, &mut p);
    start_order(stack, &mut p);
    for test in loaded.testplan.iter().flat_map(|t| &t.tests) {
        known_test(loaded, test, stack, &mut p);
    }
    for target in loaded.testplan.iter().flat_map(|t| &t.availability) {
        known_host(loaded, &target.host, stack, &mut p);
    }
    promises(loaded, package, stack, &mut p);
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
        match restore.into {
            RestoreInto::Service => {
                service(&restore.name, stack, p);
                company(restore, &restores[..index], p);
                program(restore, stack, p);
                looked_at(restore, loaded, stack, p);
            }
            RestoreInto::Volume => volume(&restore.name, stack, p),
        }
        if let Some(named) = &restore.files_volume {
            volume(named, stack, p);
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

fn volume(name: &At<String>, stack: &Stack, p: &mut Problems) {
    if !stack.volumes.contains(&name.value) {
        p.push(
            name.place
                .problem(format!("the stack has no volume `{}`", name.value))
                .maybe_help(suggest::help(
                    &name.value,
                    stack.volumes.iter().map(String::as_str),
                    "its volumes",
                )),
        );
    }
}

/// A root filesystem brings files, and no word of what is to be run; a command for a service has its image.
fn program(restore: &RestoreEntry, stack: &Stack, p: &mut Problems) {
    if let Method::Command { image: Some(_), .. } = &restore.method {
        p.push(
            restore
                .place
                .problem("a command for a service runs in the service: `image` goes with a volume")
                .help("leave `image` out, or restore into the service's volume"),
        );
    }
    if !matches!(restore.method, Method::Rootfs) {
        return;
    }
    let services = stack.services.iter().map(|entry| &entry.service);
    let silent = services
        .filter(|service| service.name == restore.name.value)
        .any(|service| service.command.is_none() && service.entrypoint.is_none());
    if silent {
        p.push(
            restore
                .name
                .place
                .problem(format!(
                    "service `{}` gets a root filesystem and says no `command`",
                    restore.name.value
                ))
                .help("say in the stack what runs, in the foreground and without an init: `command: [nginx, -g, daemon off;]`"),
        );
    }
}

/// What a command restored into a service nobody else looks at: the service makes its own data at its first start, so
/// volumes in which something is show nothing. A test at baseline has to.
fn looked_at(restore: &RestoreEntry, loaded: &Loaded, stack: &Stack, p: &mut Problems) {
    // What is wrong with the test plan itself is said already.
    let unread = loaded.testplan.is_none() && loaded.rehearsal.testplan.is_some();
    if unread || !matches!(restore.method, Method::Command { .. }) {
        return;
    }
    let name = &restore.name.value;
    let showing = showing(name, stack);
    let looks = |entry: &TestEntry| {
        let service = entry.service.as_ref().map(|service| service.value.as_str());
        let host = || {
            entry
                .host
                .as_ref()
                .and_then(|host| stack.behind(&host.value))
        };
        // A warning lets the backup pass.
        asks(&entry.test)
            && entry.test.severity == Severity::Fail
            && entry.test.when.contains(&When::Baseline)
            && service
                .or_else(host)
                .is_some_and(|asked| showing.contains(asked))
    };
    let mut tests = loaded.testplan.iter().flat_map(|plan| &plan.tests);
    if !tests.any(looks) {
        p.push(
            restore
                .place
                .problem(format!(
                    "nothing would look at what the command restored into `{name}`"
                ))
                .help(format!(
                    "add a test to the test plan that runs at `baseline`, without `severity: warn`, and asks `{name}` or a service \
                     that depends on it for the restored data"
                )),
        );
    }
}

/// True where a test can see data; that a port is open says nothing of it.
fn asks(test: &Test) -> bool {
    match (&test.probe, &test.expect) {
        (Probe::Tcp(probe), Expect::Tcp(expect)) => probe.send.is_some() && expect.banner.is_some(),
        (Probe::Tcp(_), _) => false,
        (Probe::Http(_) | Probe::Sql(_) | Probe::Exec(_) | Probe::File(_), _) => true,
        // What was asked of an emulator is nothing that was restored.
        (Probe::Emulator(_), _) => false,
    }
}

/// The services in which the data of one can show: itself, and all that depend on it.
fn showing<'a>(name: &'a str, stack: &'a Stack) -> BTreeSet<&'a str> {
    let mut showing = BTreeSet::from([name]);
    loop {
        let more: Vec<&str> = stack
            .services
            .iter()
            .filter(|entry| {
                let mut on = entry.depends_on.iter();
                on.any(|(on, _)| showing.contains(on.value.as_str()))
            })
            .map(|entry| entry.service.name.as_str())
            .filter(|name| !showing.contains(name))
            .collect();
        if more.is_empty() {
            return showing;
        }
        showing.extend(more);
    }
}

/// Restores that cannot be made into one service together.
fn company(restore: &RestoreEntry, earlier: &[RestoreEntry], p: &mut Problems) {
    let others = earlier.iter().filter(|other| {
        other.into == RestoreInto::Service && other.name.value == restore.name.value
    });
    for other in others {
        let line = other.place.location().line;
        let alone = |entry: &RestoreEntry| {
            entry.method.is_physical() || matches!(entry.method, Method::Rootfs)
        };
        if alone(restore) || alone(other) {
            p.push(
                restore
                    .place
                    .problem(format!(
                        "a whole server is restored into `{}` beside another restore (line {line})",
                        restore.name.value
                    ))
                    .help("a base backup, a repository or a root filesystem is all that its service gets"),
            );
        } else if restore.method.family() != other.method.family() {
            p.push(restore.place.problem(format!(
                "service `{}` cannot be restored as two kinds of data (see line {line})",
                restore.name.value
            )));
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

fn known_host(loaded: &Loaded, host: &At<String>, stack: &Stack, p: &mut Problems) {
    let mut hosts = stack.hosts();
    hosts.extend(emulators::hosts(loaded));
    let known = hosts
        .iter()
        .any(|known| known.eq_ignore_ascii_case(&host.value));
    if !known {
        p.push(
            host.place
                .problem(format!("`{}` is no name in staging", host.value))
                .maybe_help(suggest::help(&host.value, hosts, "names in staging")),
        );
    }
}

fn known_test(loaded: &Loaded, test: &TestEntry, stack: &Stack, p: &mut Problems) {
    if let Some(name) = &test.service {
        service(name, stack, p);
    }
    if let Some(host) = &test.host {
        known_host(loaded, host, stack, p);
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
        if let Some(host) = &step.host {
            known_host(loaded, host, stack, p);
        }
        if let Action::Override(changes) = &step.step.action {
            writable(changes, step, stack, p);
        }
        match (&step.service, &step.step.action) {
            (Some(name), _) => service(name, stack, p),
            (None, Action::Run { .. }) => first_on_bastion = first_on_bastion.or(Some(step)),
            (
                None,
                Action::Copy { .. }
                | Action::Image { .. }
                | Action::Env { .. }
                | Action::Files { .. }
                | Action::Override(_)
                | Action::Restart { .. }
                | Action::Wait { .. },
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

/// Files are copied in before a service starts, which no engine does where it cannot be written to.
fn writable(changes: &Override, step: &StepEntry, stack: &Stack, p: &mut Problems) {
    let read_only = stack
        .services
        .iter()
        .any(|entry| entry.service.name == changes.service && entry.service.read_only);
    if let Some(file) = changes.files.first().filter(|_| read_only) {
        p.push(
            step.place
                .problem(format!(
                    "`{}` is brought for the service `{}`, which is `read_only` in the stack",
                    file.target, changes.service
                ))
                .help("bring it in an image: the engine copies nothing into a read-only container"),
        );
    }
}
