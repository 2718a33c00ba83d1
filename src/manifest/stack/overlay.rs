//! A Compose file as a package: what it changes of the services that the stack has.
//!
//! It is read by the stack's own rules, so it can say nothing that would break the isolation. What a release changes of
//! a service is taken: image, variables, command, files. All else is the stack's to say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::service::words;
use super::{Declared, declared_files, extensions, interpolated, mounts, refuse};
use crate::manifest::decode::{Fields, entries, one_or_more, text};
use crate::manifest::environment::environment;
use crate::manifest::interpolate::{self, Vars};
use crate::manifest::names;
use crate::manifest::package::{ComponentEntry, PackageManifest, StepEntry, in_package};
use crate::manifest::place::{At, Place, Source};
use crate::manifest::problem::Problems;
use crate::manifest::runbook;
use crate::manifest::step::{TIMEOUT, built_from};
use crate::manifest::suggest;
use crate::manifest::tree::{Entry, Kind, Node};
use crate::package::image_archive;
use crate::plan::model::{Action, FileMount, ImageSource, Override, Shape, Step};

/// Where a package carries its images.
const IMAGES: &str = "images";

/// Reads the `compose.yaml` of a package; `name` is what it is called where the file gives no `name`.
pub(crate) fn decode(
    root_node: &Arc<Node>,
    source: &Arc<Source>,
    root: &Path,
    name: &str,
    p: &mut Problems,
) -> Option<PackageManifest> {
    let mut env_files = Vec::new();
    let (tree, vars) = interpolated(
        root_node,
        root,
        &crate::manifest::paths::folder_of(&source.path),
        &mut env_files,
        p,
    );
    let mut f = Fields::of(&tree, "the Compose file", p)?;
    f.node("version", p);
    let called = f.opt("name", p, names::lower).map(|at| at.value);
    let mut files = |key: &'static str, what: &str, p: &mut Problems| {
        f.opt(key, p, |node, p| {
            declared_files(node, what, root, mounts::PACKAGE, p)
        })
        .unwrap_or_default()
    };
    let declared = Declared {
        dir: root,
        home: mounts::PACKAGE,
        stack: String::new(),
        volumes: Vec::new(),
        networks: Vec::new(),
        secrets: files("secrets", "secret", p),
        configs: files("configs", "config", p),
        vars: &vars,
    };
    let services = f.req("services", p, entries).unwrap_or_default();
    if f.has("services") && services.is_empty() {
        p.push(f.place.problem("the package changes no service"));
    }
    let mut images = Images::new(root);
    let components = services
        .iter()
        .filter_map(|entry| component(entry, &declared, &mut images, p))
        .collect();
    refuse::package_top(&mut f, p);
    extensions(&mut f);
    f.finish(p);
    Some(PackageManifest {
        components,
        ..runbook::manifest(
            Shape::Compose,
            &called.unwrap_or_else(|| name.to_owned()),
            Vec::new(),
            root,
            source,
        )
    })
}

/// One service: a component with one step.
fn component(
    entry: &Entry,
    declared: &Declared<'_>,
    images: &mut Images<'_>,
    p: &mut Problems,
) -> Option<ComponentEntry> {
    let name = &entry.key;
    let mut f = Fields::of(&entry.value, format!("the service `{}`", name.value), p)?;
    f.place = name.place.clone();
    let place = f.place.clone();
    let reference = f.opt("image", p, text);
    let context = f.opt("build", p, |node, p| build(node, declared.dir, p));
    let image = if f.has("build") {
        // As in Compose, the name beside a build is what the built image would be called.
        context.flatten()
    } else {
        reference.and_then(|reference| images.holding(&reference, p))
    };
    let changes = Override {
        service: name.value.clone(),
        image: image.clone(),
        command: f.opt("command", p, words),
        entrypoint: f.opt("entrypoint", p, words),
        environment: variables(&mut f, declared, p),
        files: files(&mut f, declared, p),
    };
    let says_something = [
        "image",
        "build",
        "command",
        "entrypoint",
        "environment",
        "env_file",
    ]
    .into_iter()
    .chain(["volumes", "secrets", "configs"])
    .any(|key| f.has(key));
    if !says_something {
        p.push(place.problem(format!(
            "nothing of the service `{}` is changed",
            name.value
        )));
    }
    // Accepted without effect, as in a stack.
    f.node("labels", p);
    f.node("restart", p);
    refuse::package_service(&mut f, p);
    f.forget(|key| key.starts_with("x-"));
    f.finish(p);
    let step = Step {
        name: "recreate".to_owned(),
        action: Action::Override(changes),
        timeout: TIMEOUT,
        expect_exit: 0,
        retries: 0,
        location: place.location(),
    };
    Some(ComponentEntry {
        name: name.clone(),
        // The stack knows what comes first, and it is not here yet.
        after: Vec::new(),
        steps: vec![StepEntry {
            step,
            service: Some(name.clone()),
            host: None,
            uses: Vec::new(),
            default_user: false,
            place,
        }],
    })
}

/// `build: FOLDER` or `build: { context: FOLDER }`; what else a build may say, a build without a network cannot need.
fn build(node: &Arc<Node>, root: &Path, p: &mut Problems) -> Option<Option<ImageSource>> {
    let written = if let Kind::Map(_) = node.kind {
        let mut f = Fields::of(node, "`build`", p)?;
        let context = f.req("context", p, text);
        f.finish(p);
        context?
    } else {
        text(node, p)?
    };
    let folder = in_package(&written, root, p)?;
    Some(built_from(&written, root, folder, p))
}

fn variables(
    f: &mut Fields<'_>,
    declared: &Declared<'_>,
    p: &mut Problems,
) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let files = f.opt("env_file", p, |node, p| one_or_more(node, p, text));
    for file in files.unwrap_or_default() {
        let Some(below) = in_package(&file, declared.dir, p) else {
            continue;
        };
        let path = declared.dir.join(below);
        let mut known: Vars = declared.vars.clone();
        known.extend(all.clone());
        match interpolate::read_env(&path, &path, &known, p) {
            Ok(read) => all.extend(read),
            Err(error) => p.push(
                file.place
                    .problem(format!("cannot read `{}`: {error}", file.value)),
            ),
        }
    }
    let own = f.opt("environment", p, environment);
    all.extend(own.unwrap_or_default());
    all
}

/// The files that it mounts, with their paths in the package.
fn files(f: &mut Fields<'_>, declared: &Declared<'_>, p: &mut Problems) -> Vec<FileMount> {
    let mut all = mounts::Mounts::default();
    f.opt("volumes", p, |node, p| {
        mounts::decode(node, declared, &mut all, p);
        Some(())
    });
    for (key, sources, default) in [
        ("secrets", &declared.secrets, "/run/secrets/"),
        ("configs", &declared.configs, "/"),
    ] {
        f.opt(key, p, |node, p| {
            mounts::shared_files(node, key, sources, default, &mut all, p);
            Some(())
        });
    }
    for (target, _) in all.tmpfs {
        p.push(f.place.problem(format!(
            "the file system in memory at `{target}` is the stack's to say"
        )));
    }
    let root = crate::manifest::paths::shorten(declared.dir);
    all.files
        .into_iter()
        .map(|mut file| {
            if let Ok(below) = file.source.strip_prefix(&root) {
                file.source = below.to_owned();
            }
            file
        })
        .collect()
}

/// The image archives of a package, read once and only where a service names an image.
struct Images<'a> {
    root: &'a Path,
    read: Option<Vec<(PathBuf, Vec<String>)>>,
}

impl<'a> Images<'a> {
    const fn new(root: &'a Path) -> Self {
        Self { root, read: None }
    }

    /// The archive that holds an image of this name.
    fn holding(&mut self, reference: &At<String>, p: &mut Problems) -> Option<ImageSource> {
        if self.read.is_none() {
            self.read = Some(archives(self.root, &reference.place, p));
        }
        let wanted = whole_name(&reference.value);
        let archives = self.read.iter().flatten();
        let found = archives
            .clone()
            .find(|(_, tags)| tags.iter().any(|tag| whole_name(tag) == wanted));
        if let Some((path, _)) = found {
            return Some(ImageSource::Archive(path.clone()));
        }
        let tags: Vec<&str> = archives
            .flat_map(|(_, tags)| tags)
            .map(String::as_str)
            .collect();
        let help = suggest::help(&reference.value, tags, "images of the package").unwrap_or_else(|| {
            format!(
                "a package carries its images: `docker save -o {IMAGES}/app.tar {}`; without `image` a service keeps the one that it has",
                reference.value
            )
        });
        p.push(
            reference
                .place
                .problem(format!(
                    "no archive in the package's `{IMAGES}/` holds the image `{}`",
                    reference.value
                ))
                .help(help),
        );
        None
    }
}

/// Every archive below `images/` with the tags in it, by name.
fn archives(root: &Path, place: &Place, p: &mut Problems) -> Vec<(PathBuf, Vec<String>)> {
    let mut found = Vec::new();
    let folder = root.join(IMAGES);
    let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| {
            [".tar", ".tar.gz", ".tgz", ".tar.zst"]
                .iter()
                .any(|end| name.ends_with(end))
        })
        .collect();
    names.sort();
    for name in names {
        let below = Path::new(IMAGES).join(&name);
        match image_archive::inspect(&root.join(&below)) {
            Ok(facts) => found.push((below, facts.tags)),
            Err(error) => p.push(place.problem(error.to_string()).help(error.help())),
        }
    }
    found
}

/// With the registry, folder and tag that Docker adds to a short name, so that `app` is `docker.io/library/app:latest`.
fn whole_name(reference: &str) -> String {
    let tagged = match reference.rsplit_once('/').unwrap_or(("", reference)).1 {
        last if last.contains(':') || last.contains('@') => reference.to_owned(),
        _ => format!("{reference}:latest"),
    };
    let (first, rest) = tagged.split_once('/').unwrap_or(("", &tagged));
    match first {
        "" => format!("docker.io/library/{rest}"),
        first if first.contains(['.', ':']) || first == "localhost" => tagged,
        _ => format!("docker.io/{tagged}"),
    }
}

#[cfg(test)]
mod tests {
    use super::whole_name;

    #[test]
    fn names_of_images_are_compared_as_docker_completes_them() {
        for (written, whole) in [
            ("app", "docker.io/library/app:latest"),
            ("app:2.4", "docker.io/library/app:2.4"),
            ("shop/app:2.4", "docker.io/shop/app:2.4"),
            ("registry:5000/app", "registry:5000/app:latest"),
            ("r.example/shop/app:2.4", "r.example/shop/app:2.4"),
            ("docker.io/library/app:2.4", "docker.io/library/app:2.4"),
        ] {
            assert_eq!(whole_name(written), whole, "{written}");
        }
    }
}
