//! `emulators:` of a rehearsal: what stands in for systems outside.

mod http;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::manifest::decode::{
    Fields, any_text, list, number, one_or_more, some, string, text, word,
};
use crate::manifest::environment::environment;
use crate::manifest::names;
use crate::manifest::place::{At, Place};
use crate::manifest::problem::Problems;
use crate::manifest::stack::build;
use crate::manifest::tree::Node;
use crate::plan::model::{Emulates, Image, ImageEmulator, SmtpEmulator, Unmatched};
pub(crate) use http::{method, path};

/// What one kind reads: its mapping, the folder of the rehearsal, and the entry it fills.
type Read = fn(&Arc<Node>, &Path, &mut EmulatorEntry, &mut Problems) -> Option<Emulates>;

/// The kinds of emulators.
const KINDS: [(&str, Read); 4] = [
    ("http", http::http),
    ("smtp", smtp),
    ("blackhole", blackhole),
    ("image", image),
];

/// An emulator as written.
#[derive(Clone, Debug)]
pub struct EmulatorEntry {
    /// Its name.
    pub name: At<String>,
    /// In lower case.
    pub hosts: Vec<At<String>>,
    /// What it does; without trust, which is resolved by the plan.
    pub does: Emulates,
    /// Services, or `bastion`, that are to trust it.
    pub trust: Vec<At<String>>,
    /// Files of the rehearsal that it answers with.
    pub files: Vec<PathBuf>,
}

pub(crate) fn decode(node: &Arc<Node>, dir: &Path, p: &mut Problems) -> Option<Vec<EmulatorEntry>> {
    let all: Vec<EmulatorEntry> = some(node, p, |node, p| emulator(node, dir, p))?;
    for (index, entry) in all.iter().enumerate() {
        let earlier = &all[..index];
        if let Some(other) = earlier.iter().find(|e| e.name.value == entry.name.value) {
            p.push(twice("emulator is called", &entry.name, &other.name.place));
        }
        for (at, host) in entry.hosts.iter().enumerate() {
            let before = earlier.iter().flat_map(|e| &e.hosts);
            let mut before = before.chain(entry.hosts.iter().take(at));
            if let Some(other) = before.find(|other| other.value == host.value) {
                p.push(twice("emulator has the host", host, &other.place));
            }
        }
    }
    Some(all)
}

fn twice(what: &str, at: &At<String>, first: &Place) -> crate::manifest::problem::Problem {
    at.place.problem(format!(
        "a second {what} `{}`; the first is in line {}",
        at.value,
        first.location().line
    ))
}

fn emulator(node: &Arc<Node>, dir: &Path, p: &mut Problems) -> Option<EmulatorEntry> {
    let mut f = Fields::of(node, "an emulator", p)?;
    let name = f.req("name", p, name);
    if let Some(name) = &name {
        f.call(format!("the emulator `{}`", name.value));
    }
    let place = name
        .as_ref()
        .map_or_else(|| f.place.clone(), |name| name.place.clone());
    f.place = place.clone();
    let hosts = f.req("hosts", p, |node, p| one_or_more(node, p, host));
    let given: Vec<_> = KINDS.iter().filter(|(key, _)| f.has(key)).collect();
    if given.len() != 1 {
        let keys = KINDS.map(|(key, _)| format!("`{key}`")).join(", ");
        let many = if given.is_empty() {
            "no"
        } else {
            "more than one"
        };
        p.push(
            place
                .problem(format!("the emulator has {many} kind"))
                .help(format!("give it one of {keys}")),
        );
    }
    let mut entry = EmulatorEntry {
        name: name
            .clone()
            .unwrap_or_else(|| At::new(String::new(), place)),
        hosts: hosts.clone().unwrap_or_default(),
        does: Emulates::Blackhole { ports: Vec::new() },
        trust: Vec::new(),
        files: Vec::new(),
    };
    let mut does = None;
    for (key, read) in KINDS {
        if let Some(read) = f.opt(key, p, |node, p| read(node, dir, &mut entry, p)) {
            does = Some(read);
        }
    }
    f.finish(p);
    name?;
    hosts?;
    entry.does = does?;
    Some(entry)
}

/// It becomes part of the names of a container, which have a limit.
fn name(node: &Arc<Node>, p: &mut Problems) -> Option<At<String>> {
    let name = names::title(node, p)?;
    if name.value.chars().count() <= 60 {
        return Some(name);
    }
    p.push(
        name.place
            .problem("the name of an emulator has at most 60 characters"),
    );
    None
}

/// A host name as the resolver is asked for it.
fn host(node: &Arc<Node>, p: &mut Problems) -> Option<At<String>> {
    let host = text(node, p)?.map(|host| host.to_ascii_lowercase());
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    let is_address = host.value.parse::<std::net::IpAddr>().is_ok();
    if !is_address && host.value.len() <= 253 && host.value.split('.').all(label) {
        return Some(host);
    }
    let problem = host
        .place
        .problem(format!("`{}` is not a host name", host.value));
    p.push(problem.help(if is_address {
        "an address cannot be emulated: staging has no route to it; name the host by which it is called"
    } else {
        "write it without scheme, port and path: `api.payments.example`"
    }));
    None
}

fn port(node: &Arc<Node>, p: &mut Problems) -> Option<u16> {
    let port = number::<u16>(node, p)?;
    if port > 0 {
        return Some(port);
    }
    p.push(node.place.problem("`0` is not a port"));
    None
}

/// Ports, of which none may be there twice.
fn ports(node: &Arc<Node>, p: &mut Problems) -> Option<Vec<u16>> {
    let ports = one_or_more(node, p, port)?;
    if let Some(port) = doubled(&ports) {
        p.push(node.head().problem(format!("port {port} is written twice")));
    }
    Some(ports)
}

fn doubled(ports: &[u16]) -> Option<u16> {
    let mut seen = std::collections::BTreeSet::new();
    ports.iter().copied().find(|port| !seen.insert(*port))
}

fn unmatched(f: &mut Fields<'_>, p: &mut Problems) -> Unmatched {
    let words = [("fail", Unmatched::Fail), ("allow", Unmatched::Allow)];
    f.opt("unmatched", p, |node, p| word(node, p, &words))
        .unwrap_or(Unmatched::Fail)
}

fn smtp(node: &Arc<Node>, _: &Path, _: &mut EmulatorEntry, p: &mut Problems) -> Option<Emulates> {
    let mut f = Fields::of(node, "`smtp` of an emulator", p)?;
    let ports = f.opt("ports", p, ports).unwrap_or_else(|| vec![25]);
    let accept = f.opt("accept", p, |node, p| one_or_more(node, p, address));
    let unmatched = unmatched(&mut f, p);
    f.finish(p);
    Some(Emulates::Smtp(SmtpEmulator {
        ports,
        accept: accept.unwrap_or_default(),
        unmatched,
    }))
}

/// An address of mail, in which `*` may stand for anything; in lower case, as no mailbox differs by case alone.
fn address(node: &Arc<Node>, p: &mut Problems) -> Option<String> {
    let address = text(node, p)?;
    let whole = address
        .value
        .split_once('@')
        .is_some_and(|(name, host)| !name.is_empty() && !host.is_empty() && !host.contains('@'));
    if whole && !address.value.contains(char::is_whitespace) {
        return Some(address.value.to_lowercase());
    }
    p.push(
        address
            .place
            .problem(format!("`{}` is not an address of mail", address.value))
            .help("write `name@host`; `*` stands for any characters: `\"*@staging.example\"`"),
    );
    None
}

fn blackhole(
    node: &Arc<Node>,
    _: &Path,
    _: &mut EmulatorEntry,
    p: &mut Problems,
) -> Option<Emulates> {
    let mut f = Fields::of(node, "`blackhole` of an emulator", p)?;
    let ports = f.req("ports", p, ports);
    f.finish(p);
    Some(Emulates::Blackhole { ports: ports? })
}

fn image(
    node: &Arc<Node>,
    dir: &Path,
    _: &mut EmulatorEntry,
    p: &mut Problems,
) -> Option<Emulates> {
    let mut f = Fields::of(node, "`image` of an emulator", p)?;
    let reference = f.opt("image", p, string);
    let build = f.opt("build", p, |node, p| build::decode(node, dir, p));
    let environment = f.opt("environment", p, environment);
    let command = f.opt("command", p, |node, p| {
        list(node, p, |item, p| any_text(item, p).map(|at| at.value))
    });
    if !f.has("image") && !f.has("build") {
        p.push(
            f.place
                .problem("the emulator has neither `image` nor `build`"),
        );
    }
    f.finish(p);
    Some(Emulates::Image(ImageEmulator {
        image: Image {
            // One that is only built is named after the rehearsal, by the plan.
            reference: reference.unwrap_or_default(),
            build,
        },
        environment: environment.unwrap_or_default(),
        command,
    }))
}
