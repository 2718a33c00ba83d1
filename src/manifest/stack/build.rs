//! `build:` of a service or of the bastion.

use std::path::Path;
use std::sync::Arc;

use crate::manifest::decode::{Fields, string, text};
use crate::manifest::environment::environment;
use crate::manifest::paths;
use crate::manifest::place::At;
use crate::manifest::problem::Problems;
use crate::manifest::tree::{Kind, Node};
use crate::plan::model::Build;

/// Keys that would let a build out of the isolation, or that builders of old engines do not know.
const REFUSED: &[(&str, &str)] = &[
    (
        "network",
        "images are built on the engine's default network; remove the key",
    ),
    (
        "privileged",
        "a privileged build owns the host; remove the key",
    ),
    (
        "entitlements",
        "a build with entitlements owns the host; remove the key",
    ),
    (
        "ssh",
        "a build gets no keys of the caller; copy what it needs into its context",
    ),
    (
        "secrets",
        "a build gets no secrets of the caller; copy what it needs into its context",
    ),
    (
        "extra_hosts",
        "remove the key; name the hosts in the Dockerfile's own commands",
    ),
    (
        "additional_contexts",
        "use one context; copy the other one into it",
    ),
    (
        "dockerfile_inline",
        "write a Dockerfile into the context and name it as `dockerfile`",
    ),
    (
        "cache_from",
        "remove the key; the engine's own cache is used",
    ),
    ("cache_to", "remove the key; the engine's own cache is used"),
    (
        "platforms",
        "remove the key; images are built for the engine's platform",
    ),
];

/// The context folder, or a mapping with it; relative to `dir`.
pub(crate) fn decode(node: &Arc<Node>, dir: &Path, p: &mut Problems) -> Option<Build> {
    if let Kind::Scalar { .. } = node.kind {
        let context = text(node, p)?;
        return checked(
            context,
            None,
            Build {
                context: dir.to_path_buf(),
                dockerfile: "Dockerfile".to_owned(),
                args: Default::default(),
                target: None,
            },
            dir,
            p,
        );
    }
    let mut f = Fields::of(node, "`build`", p)?;
    let context = f.req("context", p, text);
    let dockerfile = f.opt("dockerfile", p, text);
    let args = f.opt("args", p, environment);
    let target = f.opt("target", p, string);
    for (key, help) in REFUSED {
        if let Some(place) = f.key_place(key) {
            p.push(
                place
                    .problem(format!("`build.{key}` is not supported"))
                    .help(*help),
            );
            f.node(key, &mut Problems::new());
        }
    }
    f.finish(p);
    let build = Build {
        context: dir.to_path_buf(),
        dockerfile: dockerfile
            .as_ref()
            .map_or_else(|| "Dockerfile".to_owned(), |d| d.value.clone()),
        args: args.unwrap_or_default(),
        target,
    };
    checked(context?, dockerfile, build, dir, p)
}

fn checked(
    context: At<String>,
    dockerfile: Option<At<String>>,
    mut build: Build,
    dir: &Path,
    p: &mut Problems,
) -> Option<Build> {
    let written = &context.value;
    if written.contains("://") || written.starts_with("git@") || written.starts_with("github.com/")
    {
        p.push(
            context
                .place
                .problem(format!("the build context `{written}` is not a folder"))
                .help("check it out beside the file and name the folder: what is rehearsed must be on this machine"),
        );
        return None;
    }
    build.context = paths::join(dir, written);
    if !build.context.is_dir() {
        p.push(
            context
                .place
                .problem(format!("there is no folder `{}`", build.context.display())),
        );
        return Some(build);
    }
    let file = build.context.join(&build.dockerfile);
    let place = dockerfile.map_or(context.place, |d| d.place);
    match paths::inside(&build.context, &file) {
        Ok(()) if file.is_file() => {}
        Ok(()) | Err(paths::Stray::Missing) => {
            p.push(place.problem(format!("there is no file `{}`", file.display())));
        }
        Err(paths::Stray::Outside(real) | paths::Stray::Link(real)) => p.push(
            place
                .problem(format!(
                    "the Dockerfile `{}` is outside its context",
                    real.display()
                ))
                .help("the context is all that the engine gets to see; move the file into it"),
        ),
    }
    Some(build)
}
