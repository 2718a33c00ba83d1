//! `rehearse check FILE…`: what is this file, and is it in order?

use std::path::{Path, PathBuf};

use crate::manifest::load::{self, read};
use crate::manifest::package::{PackageManifest, load_package};
use crate::manifest::problem::Problems;
use crate::manifest::stack;
use crate::manifest::testplan;
use crate::manifest::tree::Node;
use crate::plan::model::{Package, Plan, Shape, WhatIf};
use crate::plan::{self, PackageFacts};

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A rehearsal; everything it names is checked with it.
    Rehearsal,
    /// A stack.
    Stack,
    /// A test plan.
    Testplan,
    /// A package's folder or manifest.
    Package,
}

impl Kind {
    /// The glossary's word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rehearsal => "rehearsal",
            Self::Stack => "stack",
            Self::Testplan => "test plan",
            Self::Package => "package",
        }
    }

    pub(crate) fn with_article(self) -> String {
        format!("a {}", self.name())
    }
}

/// A file that is in order.
#[derive(Clone, Debug)]
pub struct Checked {
    /// What it is.
    pub kind: Kind,
    /// As given.
    pub path: PathBuf,
    /// The name that it gives itself.
    pub name: String,
    /// What was found in it, for people: `3 services`, `12 tests`.
    pub found: Vec<String>,
    /// What could not be looked at here and is no mistake of the files: a backup that is elsewhere, a packed package.
    pub notes: Vec<String>,
    /// What a rehearsal would do; only of a rehearsal.
    pub plan: Option<Plan>,
}

/// Reads a package that is opened already, and says what is wrong.
///
/// # Errors
/// Everything that is wrong.
pub fn check_package(root: &Path, shown_as: &Path) -> Result<Checked, Problems> {
    package(root, shown_as)
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// Reads one file with everything it names and says what is wrong, without an engine.
///
/// # Errors
/// Everything that is wrong.
pub fn check(path: &Path) -> Result<Checked, Problems> {
    // Of a single `compose.yaml` nobody knows that it is a package's; a stack is more likely.
    let shapes = [Shape::Manifest, Shape::Runbook, Shape::Script];
    if path.is_dir() {
        return package(path, path);
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if shapes.iter().any(|shape| shape.file() == name) {
        return package(&super::paths::folder_of(path), path);
    }
    let source = read(path, path)?;
    let mut p = Problems::new();
    let Some(root) = load::tree(&source, &mut p) else {
        return p.or(None);
    };
    match kind_of(&root) {
        Some(Kind::Rehearsal) => rehearsal(path),
        Some(Kind::Package) => package(&super::paths::folder_of(path), path),
        Some(Kind::Stack) => {
            let stack = stack::decode(path, &root, &mut p);
            if let Some(stack) = &stack {
                plan::start_order(stack, &mut p);
            }
            p.or(stack).map(|stack| Checked {
                kind: Kind::Stack,
                path: path.to_path_buf(),
                name: stack.name,
                found: vec![count(stack.services.len(), "service"), count(stack.volumes.len(), "volume")],
                notes: Vec::new(),
                plan: None,
            })
        }
        Some(Kind::Testplan) => {
            let testplan = testplan::decode(path, &root, &mut p);
            p.or(testplan).map(|testplan| Checked {
                kind: Kind::Testplan,
                path: path.to_path_buf(),
                name: testplan.name,
                found: vec![count(testplan.tests.len(), "test")],
                notes: vec!["its services and hosts are checked with a rehearsal that names it".to_owned()],
                plan: None,
            })
        }
        None => Err(root
            .head()
            .problem("this is no file of a rehearsal")
            .help("a rehearsal begins with `rehearsal:`, a test plan with `testplan:`, a package's `deploy.yaml` with `package:`; a stack has `services:`")
            .into()),
    }
}

/// What a file is, by its keys.
pub(crate) fn kind_of(root: &Node) -> Option<Kind> {
    [
        ("rehearsal", Kind::Rehearsal),
        ("testplan", Kind::Testplan),
        ("services", Kind::Stack),
        ("package", Kind::Package),
        ("components", Kind::Package),
        ("tests", Kind::Testplan),
    ]
    .into_iter()
    .find(|(key, _)| root.get(key).is_some())
    .map(|(_, kind)| kind)
}

fn package(folder: &Path, path: &Path) -> Result<Checked, Problems> {
    let package = load_package(folder, folder)?;
    let steps = package.components.iter().map(|c| c.steps.len()).sum();
    Ok(Checked {
        kind: Kind::Package,
        path: path.to_path_buf(),
        name: package.name,
        found: vec![
            package.shape.file().to_owned(),
            count(package.components.len(), "component"),
            count(steps, "step"),
        ],
        notes: vec!["its services are checked with a rehearsal that names it".to_owned()],
        plan: None,
    })
}

fn rehearsal(path: &Path) -> Result<Checked, Problems> {
    let mut p = Problems::new();
    let Some(loaded) = load::load_parts(path, &mut p) else {
        return p.or(None);
    };
    let mut notes = Vec::new();
    let package = named_package(&loaded, &mut notes, &mut p);
    let package = package
        .as_ref()
        .map(|(manifest, facts)| (manifest, facts.clone()));
    let plan = match plan::resolve(&loaded, package) {
        Ok(plan) => Some(plan),
        Err(problems) => {
            p.extend(problems);
            None
        }
    };
    if let Some(Plan {
        package: Some(package),
        ..
    }) = &plan
    {
        own_rollback(&loaded, package, &mut p);
    }
    for restore in &loaded.rehearsal.restores {
        let source = &restore.source.value;
        if !source.is_file() {
            notes.push(format!("the backup `{}` is not here", source.display()));
        }
    }
    let plan = p.or(plan)?;
    let mut found = vec![
        count(plan.stack.services.len(), "service"),
        count(plan.restores.len(), "restore"),
    ];
    found.extend(
        plan.package
            .as_ref()
            .map(|p| count(p.components.len(), "component")),
    );
    if !plan.emulators.is_empty() {
        found.push(count(plan.emulators.len(), "emulator"));
    }
    found.extend(plan.testplan.as_ref().map(|t| count(t.tests.len(), "test")));
    Ok(Checked {
        kind: Kind::Rehearsal,
        path: path.to_path_buf(),
        name: plan.rehearsal.clone(),
        found,
        notes,
        plan: Some(plan),
    })
}

/// A way back that is to be tried has to be there. A run says it of the path, since the package may be another one then.
fn own_rollback(loaded: &load::Loaded, package: &Package, p: &mut Problems) {
    let asked = &loaded.rehearsal.what_if;
    let rollback = asked
        .iter()
        .find(|asked| asked.value.what_if == WhatIf::Rollback);
    if let (Some(asked), true) = (rollback, package.rollback.is_empty()) {
        p.push(
            asked
                .place
                .problem(format!("the package `{}` has no rollback", package.name))
                .help("add `rollback:` to its deploy.yaml, or take this what-if out"),
        );
    }
}

/// The package that a rehearsal names, if it is a folder. A packed one is opened by a run.
fn named_package(
    loaded: &load::Loaded,
    notes: &mut Vec<String>,
    p: &mut Problems,
) -> Option<(PackageManifest, PackageFacts)> {
    let at = loaded.rehearsal.package.as_ref()?;
    let path = &at.value;
    if path.is_dir() {
        let facts = PackageFacts {
            source: path.clone(),
            root: path.clone(),
            digest: String::new(),
            files: 0,
            bytes: 0,
        };
        return match load_package(path, path) {
            Ok(manifest) => Some((manifest, facts)),
            Err(problems) => {
                p.extend(problems);
                None
            }
        };
    }
    if path.is_file() {
        notes.push(format!(
            "the package `{}` is packed: a run opens and checks it",
            path.display()
        ));
        return None;
    }
    let problem = at
        .place
        .problem(format!("there is no package `{}`", path.display()));
    p.push(problem.help("make it, or remove the key and use `--package`"));
    None
}

fn count(n: usize, what: &str) -> String {
    match n {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}
