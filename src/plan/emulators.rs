//! Emulators: whether they fit staging, and what becomes of them in the plan.

use crate::check::model::{EmulatorProbe, Expect, Probe};
use crate::manifest::emulators::EmulatorEntry;
use crate::manifest::load::Loaded;
use crate::manifest::names;
use crate::manifest::place::At;
use crate::manifest::problem::Problems;
use crate::manifest::stack::Stack;
use crate::manifest::suggest;
use crate::manifest::testplan::TestEntry;
use crate::plan::model::{Emulates, Emulator};

/// Names on every staging network that are no service's.
const OURS: [&str; 2] = ["bastion", "rehearse-agent"];

/// The emulators of a rehearsal.
pub(super) fn resolved(loaded: &Loaded) -> Vec<Emulator> {
    let entries = loaded.rehearsal.emulators.iter();
    entries
        .map(|entry| Emulator {
            name: entry.name.value.clone(),
            hosts: entry.hosts.iter().map(|host| host.value.clone()).collect(),
            does: does(loaded, entry),
            location: entry.name.place.location(),
        })
        .collect()
}

fn does(loaded: &Loaded, entry: &EmulatorEntry) -> Emulates {
    let mut does = entry.does.clone();
    if let Emulates::Image(of) = &mut does
        && of.image.reference.is_empty()
    {
        let (rehearsal, name) = (
            &loaded.rehearsal.name,
            names::lowered(&entry.name.value.replace(' ', "-")),
        );
        of.image.reference = format!("rehearse-{rehearsal}-emulator-{name}");
    }
    does
}

/// Every host name that leads to an emulator.
pub(super) fn hosts(loaded: &Loaded) -> impl Iterator<Item = &str> {
    let emulators = loaded.rehearsal.emulators.iter();
    emulators
        .flat_map(|entry| &entry.hosts)
        .map(|host| host.value.as_str())
}

/// What does not fit.
pub(super) fn cross_check(loaded: &Loaded, stack: &Stack, p: &mut Problems) {
    for entry in &loaded.rehearsal.emulators {
        for host in &entry.hosts {
            own_name(host, stack, p);
            forbidden(host, loaded, p);
        }
        for name in &entry.trust {
            trusting(name, loaded, stack, p);
        }
    }
    for test in loaded.testplan.iter().flat_map(|plan| &plan.tests) {
        if let (Probe::Emulator(probe), Some(named)) = (&test.test.probe, &test.emulator) {
            asked(probe, named, test, &loaded.rehearsal.emulators, p);
        }
    }
}

/// Two that answer to one name would be asked in turn.
fn own_name(host: &At<String>, stack: &Stack, p: &mut Problems) {
    let whose = match stack.behind(&host.value) {
        Some(service) => format!("the service `{service}` answers to it"),
        None if OURS.contains(&host.value.as_str()) => {
            "it is the name of a part of staging itself".to_owned()
        }
        None => return,
    };
    p.push(
        host.place
            .problem(format!("`{}` cannot be emulated: {whose}", host.value))
            .help("an emulator has the names of systems outside; a service of the stack stands for itself"),
    );
}

fn forbidden(host: &At<String>, loaded: &Loaded, p: &mut Problems) {
    let all = &loaded.rehearsal.forbidden;
    if let Some(other) = all
        .iter()
        .find(|f| f.value.eq_ignore_ascii_case(&host.value))
    {
        p.push(
            host.place
                .problem(format!(
                    "`{}` cannot be emulated: it is forbidden in line {}",
                    host.value,
                    other.place.location().line
                ))
                .help("a forbidden host must be out of reach, an emulated one is there; keep one of the two"),
        );
    }
}

fn trusting(name: &At<String>, loaded: &Loaded, stack: &Stack, p: &mut Problems) {
    if name.value == "bastion" {
        if loaded.rehearsal.bastion.is_none() {
            p.push(
                name.place
                    .problem("the rehearsal has no bastion that could trust"),
            );
        }
        return;
    }
    let service = stack
        .services
        .iter()
        .map(|entry| &entry.service)
        .find(|service| service.name == name.value);
    match service {
        Some(service) if service.read_only => p.push(
            name.place
                .problem(format!(
                    "nothing can be put into the trust of `{}`: its container is read-only",
                    name.value
                ))
                .help("drop `read_only` in staging's stack"),
        ),
        Some(_) => {}
        None => {
            let mut names: Vec<&str> = stack
                .services
                .iter()
                .map(|entry| entry.service.name.as_str())
                .collect();
            names.push("bastion");
            p.push(
                name.place
                    .problem(format!("the stack has no service `{}`", name.value))
                    .maybe_help(suggest::help(&name.value, names, "what can trust")),
            );
        }
    }
}

/// A test of an emulator asks for what that kind of emulator records.
fn asked(
    probe: &EmulatorProbe,
    named: &At<String>,
    test: &TestEntry,
    emulators: &[EmulatorEntry],
    p: &mut Problems,
) {
    let Some(entry) = emulators.iter().find(|e| e.name.value == probe.name) else {
        let names: Vec<&str> = emulators.iter().map(|e| e.name.value.as_str()).collect();
        let problem = named
            .place
            .problem(format!("the rehearsal has no emulator `{}`", named.value));
        p.push(problem.maybe_help(suggest::help(&named.value, names, "its emulators")));
        return;
    };
    let Expect::Emulator(expect) = &test.test.expect else {
        return;
    };
    let wanted = &expect.received;
    let of_http = wanted.method.is_some() || wanted.path.is_some();
    let of_mail = !wanted.from.is_empty() || !wanted.to.is_empty() || !wanted.subject.is_empty();
    let wrong = match &entry.does {
        Emulates::Http(_) if of_mail => {
            "it answers HTTP, and requests have no `from`, `to` and `subject`"
        }
        Emulates::Smtp(_) if of_http => "it takes mail, which has no `method` and no `path`",
        Emulates::Blackhole { .. } if of_http || of_mail || !wanted.body.is_empty() => {
            "it is a blackhole, which reads nothing"
        }
        Emulates::Image(_) => "it is an image, and what that is asked is not recorded",
        Emulates::Http(_) | Emulates::Smtp(_) | Emulates::Blackhole { .. } => return,
    };
    p.push(
        named
            .place
            .problem(format!("`{}` cannot be asked that: {wrong}", named.value)),
    );
}
