//! One step of a `deploy.yaml`: a name and exactly one action.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::manifest::decode::{
    Fields, any_text, container_path, duration, entries, number, owner, string, text,
};
use crate::manifest::names;
use crate::manifest::package::{StepEntry, in_package};
use crate::manifest::place::{At, Place};
use crate::manifest::problem::Problems;
use crate::manifest::tree::{Kind, Node};
use crate::plan::model::{Action, ImageSource, Step};

/// A step that says nothing else is killed after this.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(300);

const ACTIONS: [&str; 5] = ["run", "copy", "image", "env", "restart"];

pub(crate) fn decode(node: &Arc<Node>, root: &Path, p: &mut Problems) -> Option<StepEntry> {
    let mut f = Fields::of(node, "a step", p)?;
    let place = f.place.clone();
    let name = f.req("name", p, names::title);
    if let Some(name) = &name {
        f.call(format!("the step `{}`", name.value));
    }
    let timeout = f.opt("timeout", p, duration).unwrap_or(TIMEOUT);
    let given: Vec<&str> = ACTIONS.into_iter().filter(|key| f.has(key)).collect();
    let mut expect_exit = 0;
    let (action, service) = match given.as_slice() {
        ["run"] => {
            let script = f.opt("run", p, string);
            let service = f.opt("service", p, text);
            let user = f.opt("user", p, string);
            expect_exit = f.opt("expect_exit", p, number).unwrap_or(0);
            let action = script.map(|script| Action::Run {
                script,
                service: service.as_ref().map(|s| s.value.clone()),
                user,
            });
            (action, service)
        }
        ["copy"] => {
            let from = f
                .opt("copy", p, text)
                .and_then(|from| in_package(&from, root, p));
            let to = f.req("to", p, container_path);
            let service = f.req("service", p, text);
            let owner = f.opt("owner", p, owner).unwrap_or((0, 0));
            let action = match (from, to, &service) {
                (Some(from), Some(to), Some(service)) => Some(Action::Copy {
                    service: service.value.clone(),
                    from,
                    to,
                    owner,
                }),
                _ => None,
            };
            (action, service)
        }
        ["image"] => {
            let source = f
                .opt("image", p, text)
                .and_then(|image| image_source(&image, root, p));
            let service = f.req("service", p, text);
            let action = source
                .zip(service.as_ref())
                .map(|(source, service)| Action::Image {
                    service: service.value.clone(),
                    source,
                });
            (action, service)
        }
        ["env"] => {
            let set = f.opt("env", p, changes);
            let service = f.req("service", p, text);
            let action = set.zip(service.as_ref()).map(|(set, service)| Action::Env {
                service: service.value.clone(),
                set,
            });
            (action, service)
        }
        ["restart"] => {
            let service = f.opt("restart", p, text);
            let action = service.as_ref().map(|service| Action::Restart {
                service: service.value.clone(),
            });
            (action, service)
        }
        given => {
            wrong_actions(&place, given, p);
            // Everything that any action knows is known, so that only the one mistake is reported.
            let mut quiet = Problems::new();
            for key in [
                "run",
                "copy",
                "image",
                "env",
                "restart",
                "service",
                "to",
                "user",
                "owner",
                "expect_exit",
            ] {
                f.node(key, &mut quiet);
            }
            (None, None)
        }
    };
    f.finish(p);
    Some(StepEntry {
        step: Step {
            name: name?.value,
            action: action?,
            timeout,
            expect_exit,
            location: place.location(),
        },
        service,
        place,
    })
}

fn wrong_actions(place: &Place, given: &[&str], p: &mut Problems) {
    let actions = ACTIONS.map(|a| format!("`{a}`")).join(", ");
    p.push(if given.is_empty() {
        place.problem(format!("the step does nothing: it has none of {actions}"))
    } else {
        let given: Vec<_> = given.iter().map(|a| format!("`{a}`")).collect();
        place
            .problem(format!(
                "the step does more than one thing: {}",
                given.join(" and ")
            ))
            .help("write one step for each, so that a failure names what failed")
    });
}

fn image_source(image: &At<String>, root: &Path, p: &mut Problems) -> Option<ImageSource> {
    let looks_like_reference = !root.join(&image.value).exists() && !image.value.contains("..");
    if looks_like_reference {
        p.push(
            image
                .place
                .problem(format!("the package has no `{}`", image.value))
                .help("a package carries its images: `docker save -o images/app.tar app:2.4`, or a folder with a Dockerfile"),
        );
        return None;
    }
    let path = in_package(image, root, p)?;
    let real = root.join(&path);
    if !real.is_dir() {
        return Some(ImageSource::Archive(path));
    }
    if !real.join("Dockerfile").is_file() {
        p.push(
            image
                .place
                .problem(format!("the folder `{}` has no `Dockerfile`", image.value)),
        );
        return None;
    }
    Some(ImageSource::Context(path))
}

/// Variables to set; `null` removes one.
fn changes(node: &Arc<Node>, p: &mut Problems) -> Option<BTreeMap<String, Option<String>>> {
    let mut changes = BTreeMap::new();
    for entry in entries(node, p)? {
        let value = match entry.value.kind {
            Kind::Null => None,
            Kind::Empty => {
                p.push(
                    entry
                        .key
                        .place
                        .problem(format!("`{}` is empty", entry.key.value))
                        .help("write `\"\"` for an empty value, or `null` to remove the variable"),
                );
                continue;
            }
            Kind::Scalar { .. } | Kind::List(_) | Kind::Map(_) => match any_text(&entry.value, p) {
                Some(value) => Some(value.value),
                None => continue,
            },
        };
        changes.insert(entry.key.value.clone(), value);
    }
    if changes.is_empty() && entries(node, p)?.is_empty() {
        p.push(node.place.problem("this step changes no variable"));
    }
    Some(changes)
}
