//! What a package says about itself: `deploy.yaml`, a runbook or a bare script.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::event::Part;
use crate::manifest::declares::{self, DeclaresEntry};
use crate::manifest::decode::{Fields, some, string, text};
use crate::manifest::load::{self, read};
use crate::manifest::names;
use crate::manifest::parameter::{self, ParameterEntry};
use crate::manifest::paths::{self, Stray};
use crate::manifest::place::{At, Place};
use crate::manifest::problem::Problems;
use crate::manifest::runbook;
use crate::manifest::stack;
use crate::manifest::step;
use crate::manifest::suggest;
use crate::manifest::tree::Node;
use crate::plan::model::{Shape, Step};
use crate::plan::order;

/// A package as written.
#[derive(Clone, Debug)]
pub struct PackageManifest {
    /// Its name.
    pub name: String,
    /// Its version, where it says one.
    pub version: Option<String>,
    /// How it says what to do.
    pub shape: Shape,
    /// What it leaves open.
    pub parameters: Vec<ParameterEntry>,
    /// Names of what it must not bring along.
    pub secrets: Vec<At<String>>,
    /// In deploy order.
    pub components: Vec<ComponentEntry>,
    /// Its own way back.
    pub rollback: Vec<StepEntry>,
    /// What its document asks a person to do.
    pub manual: Vec<At<String>>,
    /// What its document says between its steps.
    pub document: Vec<Part>,
    /// Schema objects that it says it changes.
    pub declares_schema: Vec<String>,
    /// What else it declares.
    pub declares: DeclaresEntry,
    /// What it says that its own way back leaves behind.
    pub rollback_leaves: Vec<String>,
}

/// A component as written.
#[derive(Clone, Debug)]
pub struct ComponentEntry {
    /// Its name.
    pub name: At<String>,
    /// What it comes after.
    pub after: Vec<At<String>>,
    /// Its steps.
    pub steps: Vec<StepEntry>,
}

/// A step as written.
#[derive(Clone, Debug)]
pub struct StepEntry {
    /// The step.
    pub step: Step,
    /// The service that it names, if any.
    pub service: Option<At<String>>,
    /// The host that it waits for, if any.
    pub host: Option<At<String>>,
    /// Parameters and secrets that it uses by name.
    pub uses: Vec<Use>,
    /// True where the role of a query is the service's own.
    pub default_user: bool,
    /// Where it is written.
    pub place: Place,
}

/// The use of a name that the package has to declare.
#[derive(Clone, Debug)]
pub struct Use {
    /// The name.
    pub name: At<String>,
    /// Among what it has to be declared; in a template it may be either.
    pub among: Among,
}

/// Among what a name has to be declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Among {
    /// `parameters`
    Parameters,
    /// `secrets`
    Secrets,
    /// Both.
    Either,
}

/// Reads what the package in the folder `root` says. `shown_as` is how the user named it: positions are printed below it,
/// and it names a package that does not name itself.
///
/// # Errors
/// Everything that is wrong in the package.
pub fn load_package(root: &Path, shown_as: &Path) -> Result<PackageManifest, Problems> {
    let mut p = Problems::new();
    let Some(shape) = Shape::ALL
        .into_iter()
        .find(|shape| root.join(shape.file()).exists())
    else {
        return Err(no_shape(root, shown_as).into());
    };
    if let Err(Stray::Outside(_)) = paths::inside(root, &root.join(shape.file())) {
        let problem = Place::unread(&shown_as.join(shape.file()));
        return Err(problem
            .problem(format!("`{}` is a link out of the package", shape.file()))
            .into());
    }
    let source = read(&root.join(shape.file()), &shown_as.join(shape.file()))?;
    let manifest = match shape {
        Shape::Manifest => load::tree(&source, &mut p).and_then(|tree| decode(&tree, root, &mut p)),
        Shape::Runbook => Some(runbook::decode(&source, root, &stem(shown_as), &mut p)),
        Shape::Script => Some(runbook::script(&source, root, &stem(shown_as))),
        Shape::Compose => load::tree(&source, &mut p)
            .and_then(|tree| stack::overrides(&tree, &source, root, &stem(shown_as), &mut p)),
    };
    p.or(manifest)
}

fn no_shape(root: &Path, shown_as: &Path) -> crate::manifest::problem::Problem {
    let near = std::fs::read_dir(root).ok().and_then(|entries| {
        entries.flatten().find_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            suggest::nearest(&name, Shape::ALL.map(Shape::file))
                .map(|wanted| format!("is `{name}` meant to be `{wanted}`?"))
        })
    });
    Place::unread(shown_as)
        .problem("the package does not say what to do: it has no `deploy.yaml`, no `DEPLOY.md`, no `deploy.sh` and no `compose.yaml`")
        .help(near.unwrap_or_else(|| "one of them must lie at its top".to_owned()))
}

/// `site-2.4` for `packages/site-2.4.tar.gz`.
fn stem(shown_as: &Path) -> String {
    let name = shown_as.file_name().map_or_else(
        || "package".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    );
    [".tar.gz", ".tar.zst", ".tgz", ".tar", ".zip"]
        .iter()
        .find_map(|end| name.strip_suffix(end))
        .map_or(name.clone(), str::to_owned)
}

fn decode(root_node: &Arc<Node>, root: &Path, p: &mut Problems) -> Option<PackageManifest> {
    let mut f = Fields::of(root_node, "the package", p)?;
    let name = f.req("package", p, names::lower);
    let version = f.opt("version", p, string);
    let parameters = f.opt("parameters", p, parameter::parameters);
    let secrets = f.opt("secrets", p, parameter::secret_names);
    let components = f.req("components", p, |node, p| {
        some(node, p, |node, p| component(node, root, p))
    });
    let rollback = f.opt("rollback", p, |node, p| {
        let mut f = Fields::of(node, "`rollback`", p)?;
        let steps = f.req("steps", p, |node, p| steps(node, root, p));
        let leaves = f.opt("leaves", p, |node, p| some(node, p, leaves));
        f.finish(p);
        Some((steps.unwrap_or_default(), leaves.unwrap_or_default()))
    });
    let (rollback, rollback_leaves) = rollback.unwrap_or_default();
    let declares = f.opt("declares", p, declares::decode);
    f.finish(p);
    let components = ordered(components.unwrap_or_default(), p);
    let (declares_schema, declares) = declares.unwrap_or_default();
    if let (Some(most), true) = (&declares.max_rollback, rollback.is_empty()) {
        p.push(
            most.place
                .problem("`max_rollback` of a package that has no `rollback`")
                .help("add `rollback:` with its steps, or remove it"),
        );
    }
    let manifest = PackageManifest {
        name: name?.value,
        version,
        shape: Shape::Manifest,
        parameters: parameters.unwrap_or_default(),
        secrets: secrets.unwrap_or_default(),
        components,
        rollback,
        manual: Vec::new(),
        document: Vec::new(),
        declares_schema,
        declares,
        rollback_leaves,
    };
    declared(&manifest, p);
    Some(manifest)
}

/// A kind and a name: `table notes`, `file /etc/app.conf`.
fn leaves(node: &Arc<Node>, p: &mut Problems) -> Option<String> {
    const KINDS: [&str; 8] = [
        "table", "column", "sequence", "database", "file", "volume", "image", "variable",
    ];
    let written = text(node, p)?;
    let kind = written.value.split_whitespace().next().unwrap_or_default();
    if KINDS.contains(&kind) && written.value.split_whitespace().nth(1).is_some() {
        return Some(written.value);
    }
    p.push(
        written
            .place
            .problem(format!("`{}` names nothing that a rollback could leave", written.value))
            .help("write its kind and its name: `table notes`, `column orders.note`, `sequence notes_id_seq`, `database reports of db`, `file /etc/app.conf`, `volume uploads`, `image app`, `variable FEATURE of app`"),
    );
    None
}

/// Whatever steps use by name is declared, once.
fn declared(manifest: &PackageManifest, p: &mut Problems) {
    let parameters: Vec<&str> = manifest
        .parameters
        .iter()
        .map(|of| of.name.value.as_str())
        .collect();
    let secrets: Vec<&str> = manifest
        .secrets
        .iter()
        .map(|name| name.value.as_str())
        .collect();
    for secret in &manifest.secrets {
        if parameters.contains(&secret.value.as_str()) {
            let message = format!("`{}` is a parameter and a secret", secret.value);
            p.push(
                secret
                    .place
                    .problem(message)
                    .help("keep it among the secrets"),
            );
        }
    }
    let steps = manifest
        .components
        .iter()
        .flat_map(|component| &component.steps);
    for used in steps.chain(&manifest.rollback).flat_map(|step| &step.uses) {
        let (known, what) = match used.among {
            Among::Parameters => (parameters.clone(), "parameter"),
            Among::Secrets => (secrets.clone(), "secret"),
            Among::Either => (
                [parameters.clone(), secrets.clone()].concat(),
                "parameter or secret",
            ),
        };
        let name = used.name.value.as_str();
        if !known.contains(&name) {
            p.push(
                used.name
                    .place
                    .problem(format!("the package declares no {what} `{name}`"))
                    .maybe_help(suggest::help(name, known, "declared")),
            );
        }
    }
}

fn component(node: &Arc<Node>, root: &Path, p: &mut Problems) -> Option<ComponentEntry> {
    let mut f = Fields::of(node, "a component", p)?;
    let name = f.req("name", p, names::title);
    if let Some(name) = &name {
        f.call(format!("the component `{}`", name.value));
    }
    let after = f.opt("after", p, |node, p| some(node, p, text));
    let steps = f.req("steps", p, |node, p| steps(node, root, p));
    f.finish(p);
    Some(ComponentEntry {
        name: name?,
        after: after.unwrap_or_default(),
        steps: steps.unwrap_or_default(),
    })
}

fn steps(node: &Arc<Node>, root: &Path, p: &mut Problems) -> Option<Vec<StepEntry>> {
    let steps = some(node, p, |node, p| step::decode(node, root, p))?;
    for (index, step) in steps.iter().enumerate() {
        if steps
            .iter()
            .take(index)
            .any(|s| s.step.name == step.step.name)
        {
            p.push(
                step.place
                    .problem(format!("a second step is called `{}`", step.step.name))
                    .help("results are found by the step's name, so it must be the only one"),
            );
        }
    }
    Some(steps)
}

fn ordered(components: Vec<ComponentEntry>, p: &mut Problems) -> Vec<ComponentEntry> {
    let names: Vec<&str> = components.iter().map(|c| c.name.value.as_str()).collect();
    for (index, component) in components.iter().enumerate() {
        let name = component.name.value.as_str();
        if names.iter().take(index).any(|earlier| *earlier == name) {
            p.push(
                component
                    .name
                    .place
                    .problem(format!("a second component is called `{name}`")),
            );
        }
        for after in &component.after {
            if !names.contains(&after.value.as_str()) {
                p.push(
                    after
                        .place
                        .problem(format!("there is no component `{}`", after.value))
                        .maybe_help(suggest::help(
                            &after.value,
                            names.iter().copied(),
                            "components",
                        )),
                );
            }
        }
    }
    let edges: Vec<(&str, Vec<&str>)> = components
        .iter()
        .map(|c| {
            (
                c.name.value.as_str(),
                c.after.iter().map(|a| a.value.as_str()).collect(),
            )
        })
        .collect();
    match order::sort(&edges) {
        Ok(indices) => indices
            .into_iter()
            .filter_map(|index| components.get(index).cloned())
            .collect(),
        Err(cycle) => {
            let at = cycle
                .first()
                .and_then(|name| components.iter().find(|c| c.name.value == *name));
            if let Some(component) = at {
                let next = component
                    .after
                    .iter()
                    .find(|a| cycle.get(1) == Some(&a.value));
                let place = next.map_or(&component.name.place, |a| &a.place);
                p.push(
                    place
                        .problem(format!(
                            "components wait for each other: {}",
                            cycle.join(" -> ")
                        ))
                        .help("remove one `after` of the circle"),
                );
            }
            components
        }
    }
}

/// Files of a package that its manifest names, for messages.
pub(crate) fn in_package(written: &At<String>, root: &Path, p: &mut Problems) -> Option<PathBuf> {
    let path = PathBuf::from(&written.value);
    let stray = |message: String, p: &mut Problems| {
        p.push(
            written
                .place
                .problem(message)
                .help("a package brings along everything it needs, and steps see nothing else"),
        );
    };
    if path.is_absolute() {
        stray(
            format!("`{}` is not a path inside the package", written.value),
            p,
        );
        return None;
    }
    match paths::inside(root, &root.join(&path)) {
        Ok(()) => Some(paths::shorten(&path)),
        Err(Stray::Missing) => {
            stray(format!("the package has no `{}`", written.value), p);
            None
        }
        Err(Stray::Outside(_)) => {
            stray(format!("`{}` leaves the package", written.value), p);
            None
        }
        Err(Stray::Link(link)) => {
            let name = link
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            stray(
                format!(
                    "`{}` leaves the package through the link `{name}` in it",
                    written.value
                ),
                p,
            );
            None
        }
    }
}
