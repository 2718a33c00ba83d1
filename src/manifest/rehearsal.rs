//! The rehearsal's own file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::manifest::decode::{
    Fields, bytes, duration, duration_or_zero, entries, some, string, text,
};
use crate::manifest::emulators::{self, EmulatorEntry};
use crate::manifest::environment::environment;
use crate::manifest::names;
use crate::manifest::parameter;
use crate::manifest::paths;
use crate::manifest::place::{At, Place};
use crate::manifest::problem::Problems;
use crate::manifest::restore::{self, RestoreEntry};
use crate::manifest::stack::build;
use crate::manifest::tree::Node;
use crate::manifest::what_if;
use crate::plan::model::{Asked, Build, Limits, Secret};

/// A rehearsal as written. Where a part was wrong it is missing, and the problems say why.
#[derive(Clone, Debug)]
pub struct Rehearsal {
    /// The file as given.
    pub file: PathBuf,
    /// Its name.
    pub name: String,
    /// The stack's file.
    pub stack: Option<At<PathBuf>>,
    /// In listing order.
    pub restores: Vec<RestoreEntry>,
    /// The package to use unless another is named on the command line.
    pub package: Option<At<PathBuf>>,
    /// The test plan's file.
    pub testplan: Option<At<PathBuf>>,
    /// Defaults filled in.
    pub limits: Limits,
    /// Where the limit of the downtime is written, if it is.
    pub downtime: Option<Place>,
    /// Hosts and addresses.
    pub forbidden: Vec<At<String>>,
    /// The bastion.
    pub bastion: Option<BastionEntry>,
    /// What stands in for systems outside.
    pub emulators: Vec<EmulatorEntry>,
    /// Values for what the package leaves open.
    pub parameters: Vec<(At<String>, At<String>)>,
    /// Where the package's secrets come from.
    pub secrets: Vec<(At<String>, Secret)>,
    /// Which other ways of the deploy are tried.
    pub what_if: Vec<At<Asked>>,
}

impl Rehearsal {
    /// Gives a parameter of the package a value from the command line, which counts more than the file's.
    pub fn set(&mut self, name: &str, value: &str) {
        let said = |text: &str| At::new(text.to_owned(), Place::unread(Path::new("--set")));
        self.parameters.retain(|(known, _)| known.value != name);
        self.parameters.push((said(name), said(value)));
    }
}

/// The bastion as written.
#[derive(Clone, Debug)]
pub struct BastionEntry {
    /// The image's reference, where one is given.
    pub image: Option<String>,
    /// How to build it.
    pub build: Option<Build>,
    /// The environment of steps.
    pub environment: BTreeMap<String, String>,
}

pub(crate) fn decode(file: &Path, root: &Arc<Node>, p: &mut Problems) -> Option<Rehearsal> {
    let dir = paths::folder_of(file);
    let path = |node: &Arc<Node>, p: &mut Problems| {
        text(node, p).map(|at| at.map(|written| paths::join(&dir, &written)))
    };
    let mut f = Fields::of(root, "the rehearsal", p)?;
    let name = f.req("rehearsal", p, names::lower);
    let stack = f.req("stack", p, path);
    let restores = f.opt("restore", p, |node, p| {
        some(node, p, |node, p| restore::decode(node, &dir, p))
    });
    let package = f.opt("package", p, path);
    let testplan = f.opt("testplan", p, path);
    let downtime = root
        .get("limits")
        .and_then(|limits| limits.get("downtime"))
        .map(|limit| limit.head().clone());
    let limits = f.opt("limits", p, limits).unwrap_or_default();
    let forbidden = f.opt("forbidden", p, |node, p| some(node, p, host));
    let bastion = f.opt("bastion", p, |node, p| bastion(node, &dir, p));
    let emulators = f.opt("emulators", p, |node, p| emulators::decode(node, &dir, p));
    let parameters = f.opt("parameters", p, parameter::values);
    let secrets = f.opt("secrets", p, |node, p| secrets(node, &dir, p));
    let what_if = f.opt("what_if", p, what_if::decode);
    f.finish(p);
    Some(Rehearsal {
        file: file.to_path_buf(),
        name: name.map(|at| at.value).unwrap_or_default(),
        stack,
        restores: restores.unwrap_or_default(),
        package,
        testplan,
        limits,
        downtime,
        forbidden: forbidden.unwrap_or_default(),
        bastion,
        emulators: emulators.unwrap_or_default(),
        parameters: parameters.unwrap_or_default(),
        secrets: secrets.unwrap_or_default(),
        what_if: what_if.unwrap_or_default(),
    })
}

/// `secrets: { API_TOKEN: { env: API_TOKEN } }`
fn secrets(node: &Arc<Node>, dir: &Path, p: &mut Problems) -> Option<Vec<(At<String>, Secret)>> {
    let mut secrets = Vec::new();
    for entry in entries(node, p)? {
        let name = At::new(entry.key.value.clone(), entry.key.place.clone());
        if let Some(secret) = restore::secret(&entry.value, dir, p) {
            secrets.push((name, secret));
        }
    }
    Some(secrets)
}

fn limits(node: &Arc<Node>, p: &mut Problems) -> Option<Limits> {
    let mut f = Fields::of(node, "`limits`", p)?;
    let mut limits = Limits::default();
    for (key, limit) in [
        ("provision", &mut limits.provision),
        ("restore", &mut limits.restore),
        ("examine", &mut limits.examine),
        ("start", &mut limits.start),
        ("deploy", &mut limits.deploy),
        ("rollback", &mut limits.rollback),
    ] {
        if let Some(given) = f.opt(key, p, duration) {
            *limit = given;
        }
    }
    if let Some(jobs) = f.opt("restore_jobs", p, restore::jobs) {
        limits.restore_jobs = usize::from(jobs);
    }
    limits.downtime = f.opt("downtime", p, duration_or_zero);
    if let Some(most) = f.opt("compare", p, bytes) {
        limits.compare = most;
    }
    f.finish(p);
    Some(limits)
}

/// A host name or an address, without scheme and port.
fn host(node: &Arc<Node>, p: &mut Problems) -> Option<At<String>> {
    let host = text(node, p)?;
    let is_address = host.value.parse::<std::net::IpAddr>().is_ok();
    let is_name = host
        .value
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    if is_address || is_name {
        return Some(host);
    }
    p.push(
        host.place
            .problem(format!(
                "`{}` is neither a host name nor an address",
                host.value
            ))
            .help("write it without scheme, port and path: `db.prod.example.com` or `192.0.2.10`"),
    );
    None
}

fn bastion(node: &Arc<Node>, dir: &Path, p: &mut Problems) -> Option<BastionEntry> {
    let mut f = Fields::of(node, "`bastion`", p)?;
    let image = f.opt("image", p, string);
    let build = f.opt("build", p, |node, p| build::decode(node, dir, p));
    let environment = f.opt("environment", p, environment);
    if !f.has("image") && !f.has("build") {
        p.push(
            f.place
                .problem("the bastion has neither `image` nor `build`")
                .help("name an image that has the tools of the admin's machine: a shell, `psql`, `curl`"),
        );
    }
    f.finish(p);
    Some(BastionEntry {
        image,
        build,
        environment: environment.unwrap_or_default(),
    })
}
