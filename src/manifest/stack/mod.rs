//! The stack: a Compose file, read strictly.

pub(crate) mod build;
mod mounts;
mod overlay;
mod ports;
mod refuse;
mod service;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) use self::overlay::decode as overrides;
use crate::manifest::decode::{Fields, entries, text, word};
use crate::manifest::interpolate::{self, Vars};
use crate::manifest::names;
use crate::manifest::paths;
use crate::manifest::place::{At, Place};
use crate::manifest::problem::Problems;
use crate::manifest::suggest;
use crate::manifest::tree::{self, Kind, Node};
use crate::plan::model::{Condition, Service};

/// A stack as written.
#[derive(Clone, Debug)]
pub struct Stack {
    /// The file as given.
    pub file: PathBuf,
    /// Its folder.
    pub dir: PathBuf,
    /// `name:`, else the folder's name.
    pub name: String,
    /// In listing order.
    pub services: Vec<ServiceEntry>,
    /// The named volumes.
    pub volumes: Vec<String>,
    /// Environment files that were read.
    pub env_files: Vec<PathBuf>,
}

/// One service as written.
#[derive(Clone, Debug)]
pub struct ServiceEntry {
    /// Where its name is written.
    pub place: Place,
    /// All but `one_shot`, which depends on the others.
    pub service: Service,
    /// What it waits for, with positions.
    pub depends_on: Vec<(At<String>, Condition)>,
    /// The content of the mounted file that `POSTGRES_PASSWORD_FILE` names, without the newlines at its end.
    pub password_file: Option<String>,
}

impl Stack {
    /// Every name that the isolated network's resolver answers.
    pub fn hosts(&self) -> Vec<&str> {
        self.named().map(|(host, _)| host).collect()
    }

    /// The service that answers to a name.
    pub fn behind(&self, host: &str) -> Option<&str> {
        self.named()
            .find(|(name, _)| name.eq_ignore_ascii_case(host))
            .map(|(_, service)| service)
    }

    /// Every name with its service.
    fn named(&self) -> impl Iterator<Item = (&str, &str)> {
        self.services.iter().flat_map(|entry| {
            let service = &entry.service;
            std::iter::once(&service.name)
                .chain(&service.aliases)
                .chain(&service.hostname)
                .map(|host| (host.as_str(), service.name.as_str()))
        })
    }
}

/// What the top level declares, for the services.
pub(super) struct Declared<'a> {
    pub(super) dir: &'a Path,
    home: mounts::Home,
    pub(super) stack: String,
    pub(super) volumes: Vec<String>,
    pub(super) networks: Vec<String>,
    pub(super) secrets: BTreeMap<String, PathBuf>,
    pub(super) configs: BTreeMap<String, PathBuf>,
    pub(super) vars: &'a Vars,
}

pub(crate) fn decode(file: &Path, root: &Arc<Node>, p: &mut Problems) -> Option<Stack> {
    let dir = paths::folder_of(file);
    let mut env_files = Vec::new();
    let (root, vars) = interpolated(root, &dir, &dir, &mut env_files, p);
    let mut f = Fields::of(&root, "the stack", p)?;
    f.node("version", p);
    let name = f.opt("name", p, names::lower).map_or_else(
        || {
            let folder = dir.canonicalize().unwrap_or_else(|_| dir.clone());
            names::lowered(&folder.file_name().unwrap_or_default().to_string_lossy())
        },
        |at| at.value,
    );
    // `volumes:` with nothing below is what an emptied list looks like; Compose takes it and so does this.
    let volumes: Vec<String> = f
        .opt("volumes", p, entries)
        .unwrap_or_default()
        .iter()
        .map(|entry| mounts::declared_volume(entry, p))
        .collect();
    let networks = f
        .opt("networks", p, entries)
        .unwrap_or_default()
        .iter()
        .map(|entry| declared_network(entry, p))
        .collect();
    let secrets = f.opt("secrets", p, |node, p| {
        declared_files(node, "secret", &dir, mounts::STACK, p)
    });
    let configs = f.opt("configs", p, |node, p| {
        declared_files(node, "config", &dir, mounts::STACK, p)
    });
    let declared = Declared {
        dir: &dir,
        home: mounts::STACK,
        stack: name.clone(),
        volumes,
        networks,
        secrets: secrets.unwrap_or_default(),
        configs: configs.unwrap_or_default(),
        vars: &vars,
    };
    let services = f.req("services", p, entries).unwrap_or_default();
    let mut read = Vec::new();
    for entry in services {
        read.push(service::decode(entry, &declared, &mut env_files, p));
    }
    if f.has("services") && services.is_empty() {
        p.push(f.place.problem("the stack has no services"));
    }
    refuse::top(&mut f, p);
    extensions(&mut f);
    f.finish(p);
    known_dependencies(&read, p);
    let volumes = declared.volumes;
    Some(Stack {
        file: file.to_path_buf(),
        dir,
        name,
        services: read,
        volumes,
        env_files,
    })
}

/// The tree with its variables filled in from the `.env` beside the file, and those variables.
fn interpolated(
    root: &Arc<Node>,
    dir: &Path,
    shown_as: &Path,
    env_files: &mut Vec<PathBuf>,
    p: &mut Problems,
) -> (Arc<Node>, Vars) {
    let dotenv = dir.join(".env");
    let mut vars = Vars::new();
    if dotenv.is_file() {
        let shown = shown_as.join(".env");
        match interpolate::read_env(&dotenv, &shown, &Vars::new(), p) {
            Ok(read) => vars = read,
            Err(error) => p.push(
                Place::unread(&shown)
                    .problem(format!("cannot read `{}`: {error}", shown.display())),
            ),
        }
        env_files.push(dotenv);
    }
    let root = tree::map_scalars(root, &mut |text, place| {
        if !text.contains('$') {
            return None;
        }
        match interpolate::expand(text, &vars) {
            Ok(expanded) => Some(expanded),
            Err(fault) => {
                p.push(fault.at(place));
                // Something stands in for the value, so that it is not reported as empty too.
                None
            }
        }
    });
    (root, vars)
}

/// `x-` keys are the place for what only YAML anchors need.
fn extensions(f: &mut Fields<'_>) {
    f.forget(|key| key.starts_with("x-"));
}

fn known_dependencies(services: &[ServiceEntry], p: &mut Problems) {
    let names: Vec<&str> = services.iter().map(|s| s.service.name.as_str()).collect();
    for service in services {
        for (dependency, _) in &service.depends_on {
            let name = dependency.value.as_str();
            if name == service.service.name {
                p.push(
                    dependency
                        .place
                        .problem(format!("`{name}` waits for itself")),
                );
            } else if !names.contains(&name) {
                p.push(
                    dependency
                        .place
                        .problem(format!("there is no service `{name}`"))
                        .maybe_help(suggest::help(name, names.iter().copied(), "services")),
                );
            }
        }
    }
}

/// Networks are folded into the one isolated network, so there is little that they could say.
fn declared_network(entry: &tree::Entry, p: &mut Problems) -> String {
    let name = &entry.key.value;
    if let Kind::Map(_) = entry.value.kind
        && let Some(mut f) = Fields::of(&entry.value, format!("the network `{name}`"), p)
    {
        for (key, help) in [
            (
                "external",
                "remove it: staging reaches no network but its own",
            ),
            (
                "driver_opts",
                "remove it: staging's one network has the options of the isolation",
            ),
            (
                "ipam",
                "remove it: addresses are the engine's to give; use names",
            ),
            (
                "attachable",
                "remove it: nothing else is attached to staging's network",
            ),
            (
                "enable_ipv6",
                "remove it: staging's network has no IPv6, so that there is one way less out",
            ),
        ] {
            if let Some(place) = f.key_place(key) {
                p.push(
                    place
                        .problem(format!(
                            "`{key}` of a network would break the isolation of staging"
                        ))
                        .help(help),
                );
                f.node(key, &mut Problems::new());
            }
        }
        f.opt("driver", p, |node, p| {
            word(node, p, &[("bridge", ()), ("default", ())])
        });
        f.node("internal", p);
        f.node("labels", p);
        f.node("name", p);
        f.finish(p);
    } else if let Kind::Scalar { .. } | Kind::List(_) = entry.value.kind {
        p.push(
            entry
                .value
                .place
                .problem(format!("the network `{name}` must be a mapping or empty")),
        );
    }
    name.clone()
}

/// The top-level `secrets` or `configs`: files only.
fn declared_files(
    node: &Arc<Node>,
    what: &str,
    dir: &Path,
    home: mounts::Home,
    p: &mut Problems,
) -> Option<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    for entry in entries(node, p)? {
        let name = &entry.key.value;
        let Some(mut f) = Fields::of(&entry.value, format!("the {what} `{name}`"), p) else {
            continue;
        };
        let mut other = false;
        for (key, help) in [
            (
                "environment",
                "write it into a file: the caller's environment is never used",
            ),
            (
                "external",
                "write it into a file: staging takes nothing from the engine's store",
            ),
            ("content", "write it into a file beside this one"),
        ] {
            if let Some(place) = f.key_place(key) {
                other = true;
                p.push(
                    place
                        .problem(format!("`{key}` of a {what} is not supported"))
                        .help(help),
                );
                f.node(key, &mut Problems::new());
            }
        }
        let file = if other {
            f.opt("file", p, text)
        } else {
            f.req("file", p, text)
        };
        f.finish(p);
        // A name with a wrong file still counts as declared: one mistake, one problem.
        let path = file
            .and_then(|file| mounts::in_home(&file, "is", dir, home, p))
            .unwrap_or_default();
        files.insert(name.clone(), path);
    }
    Some(files)
}
