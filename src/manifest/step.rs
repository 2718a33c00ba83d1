//! One step of a `deploy.yaml`: a name and exactly one action.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::manifest::decode::{
    Fields, any_text, container_path, duration, entries, mode, number, owner, some, string, text,
};
use crate::manifest::names;
use crate::manifest::package::{Among, StepEntry, Use, in_package};
use crate::manifest::paths;
use crate::manifest::place::{At, Place};
use crate::manifest::problem::{Problem, Problems};
use crate::manifest::testplan::{self, Probed};
use crate::manifest::tree::{Kind, Node};
use crate::plan::model::{Action, ImageSource, Setting, Step, Template};
use crate::template;

/// A step that says nothing else is killed after this.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(300);

/// The `target` that is no service: where the admin would sit.
const BASTION: &str = "bastion";

/// More tries than this hide what is wrong.
const RETRIES: u8 = 10;

const ACTIONS: [&str; 7] = ["run", "copy", "image", "env", "files", "restart", "wait"];

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
    let mut retries = 0;
    let mut uses = Vec::new();
    let mut waits_for = None;
    let (action, service) = match given.as_slice() {
        ["run"] => {
            let script = f.opt("run", p, string);
            let service = target(&mut f, p);
            let user = f.opt("user", p, string);
            expect_exit = f.opt("expect_exit", p, number).unwrap_or(0);
            retries = f.opt("retries", p, tries).unwrap_or(0);
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
                .and_then(|from| copied(&from, root, p));
            let to = f.req("to", p, container_path);
            let service = changed(&mut f, p);
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
            let service = changed(&mut f, p);
            let action = source
                .zip(service.as_ref())
                .map(|(source, service)| Action::Image {
                    service: service.value.clone(),
                    source,
                });
            (action, service)
        }
        ["env"] => {
            let set = f.opt("env", p, |node, p| changes(node, &mut uses, p));
            let service = changed(&mut f, p);
            let action = set.zip(service.as_ref()).map(|(set, service)| Action::Env {
                service: service.value.clone(),
                set,
            });
            (action, service)
        }
        ["files"] => {
            let files = f.opt("files", p, |node, p| {
                some(node, p, |node, p| file(node, root, &mut uses, p))
            });
            let service = changed(&mut f, p);
            let action = files
                .zip(service.as_ref())
                .map(|(files, service)| Action::Files {
                    service: service.value.clone(),
                    files,
                });
            (action, service)
        }
        ["wait"] => {
            waits_for = f.opt("wait", p, wait);
            let service = waits_for.as_ref().and_then(|probed| probed.service.clone());
            let action = waits_for.as_ref().map(|probed| Action::Wait {
                probe: probed.probe.clone(),
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
            let others = [
                "service",
                "target",
                "to",
                "user",
                "owner",
                "expect_exit",
                "retries",
            ];
            for key in ACTIONS.into_iter().chain(others) {
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
            retries,
            location: place.location(),
        },
        service,
        host: waits_for.as_ref().and_then(|probed| probed.host.clone()),
        default_user: waits_for.is_some_and(|probed| probed.default_user),
        uses,
        place,
    })
}

/// The service that a step changes: `service: NAME`, or `target: NAME`, which is another spelling of it.
fn changed(f: &mut Fields<'_>, p: &mut Problems) -> Option<At<String>> {
    if !f.has("service") && !f.has("target") {
        // Missed by its usual name, and known by both.
        f.raw("target");
        return f.req("service", p, text);
    }
    match spelled(f, p) {
        (None, Some(target)) if target.value == BASTION => {
            p.push(
                target
                    .place
                    .problem("only a `run` step can have the bastion as its target")
                    .help("name the service that this step changes"),
            );
            None
        }
        (service, target) => service.or(target),
    }
}

/// Where a step runs: `service: NAME`, or `target:` with the name of a service or `bastion`.
fn target(f: &mut Fields<'_>, p: &mut Problems) -> Option<At<String>> {
    let (service, target) = spelled(f, p);
    runs_in(service, target)
}

/// The service in which a script runs, of what was given; `None` for the bastion.
pub(crate) fn runs_in(
    service: Option<At<String>>,
    target: Option<At<String>>,
) -> Option<At<String>> {
    service.or(target.filter(|target| target.value != BASTION))
}

/// `service` and `target`, of which a step has one at most.
fn spelled(f: &mut Fields<'_>, p: &mut Problems) -> (Option<At<String>>, Option<At<String>>) {
    let service = f.opt("service", p, text);
    let target = f.opt("target", p, text);
    if let (Some(_), Some(target)) = (&service, &target) {
        p.push(both(&target.place));
        return (None, None);
    }
    (service, target)
}

/// What is wrong with a step that says its place twice.
pub(crate) fn both(place: &Place) -> Problem {
    place
        .problem("the step has both `service` and `target`")
        .help("they mean the same; keep one")
}

fn tries(node: &Arc<Node>, p: &mut Problems) -> Option<u8> {
    let tries = number::<u8>(node, p)?;
    if tries <= RETRIES {
        return Some(tries);
    }
    p.push(
        node.place
            .problem(format!("`{tries}` retries are more than {RETRIES}"))
            .help("what fails that often is not in order; `wait:` waits for something to come up"),
    );
    None
}

/// `{ http: URL }`, `{ tcp: HOST:PORT }` or `{ sql: { service, database, query } }`, as a test plan writes them.
fn wait(node: &Arc<Node>, p: &mut Problems) -> Option<Probed> {
    const KINDS: [&str; 3] = ["http", "tcp", "sql"];
    let mut f = Fields::of(node, "`wait`", p)?;
    let given: Vec<&str> = KINDS.into_iter().filter(|kind| f.has(kind)).collect();
    let mut probed = None;
    for kind in KINDS {
        if let Some(node) = f.node(kind, p) {
            probed = testplan::awaited(kind, node, p);
        }
    }
    if given.len() != 1 {
        let place = f.place.clone();
        p.push(place.problem("`wait` needs one of `http`, `tcp` and `sql`"));
        probed = None;
    }
    f.finish(p);
    probed
}

/// A file of the package, or a folder that holds one.
fn copied(from: &At<String>, root: &Path, p: &mut Problems) -> Option<PathBuf> {
    let path = in_package(from, root, p)?;
    if paths::holds_files(&root.join(&path)) {
        return Some(path);
    }
    p.push(
        from.place
            .problem(format!("the folder `{}` has no file in it", from.value))
            .help(paths::EMPTY_HELP),
    );
    None
}

/// A template, and where what is made of it goes.
fn file(node: &Arc<Node>, root: &Path, uses: &mut Vec<Use>, p: &mut Problems) -> Option<Template> {
    let mut f = Fields::of(node, "a file", p)?;
    let written = f.req("template", p, text);
    let to = f.req("to", p, |node, p| {
        let to = container_path(node, p)?;
        let is_file = !to.ends_with('/') && to.split('/').all(|part| part != "..");
        if !is_file {
            p.push(
                node.place
                    .problem(format!("`{to}` is not the path of a file"))
                    .help("write the whole path of what is made, without `..`"),
            );
        }
        is_file.then_some(to)
    });
    let mode = f.opt("mode", p, mode).unwrap_or(0o644);
    let owner = f.opt("owner", p, owner).unwrap_or((0, 0));
    f.finish(p);
    let written = written?;
    let template = in_package(&written, root, p)?;
    let named = std::fs::read_to_string(root.join(&template))
        .map_err(|error| format!("cannot be read as text: {error}"))
        .and_then(|source| template::names(&source));
    match named {
        Ok(names) => uses.extend(names.into_iter().map(|name| Use {
            name: At::new(name, written.place.clone()),
            among: Among::Either,
        })),
        Err(why) => {
            let message = format!("the template `{}` {why}", written.value);
            p.push(written.place.problem(message));
            return None;
        }
    }
    Some(Template {
        template,
        to: to?,
        mode,
        owner,
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
    if !root.join(&path).is_dir() {
        return Some(ImageSource::Archive(path));
    }
    built_from(image, root, path, p)
}

/// The folder `path` of the package, written as `image`, as something to build from.
pub(crate) fn built_from(
    image: &At<String>,
    root: &Path,
    path: PathBuf,
    p: &mut Problems,
) -> Option<ImageSource> {
    let real = root.join(&path);
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

/// Variables to set; `null` removes one, `{ parameter: NAME }` and `{ secret: NAME }` stand for a value.
fn changes(
    node: &Arc<Node>,
    uses: &mut Vec<Use>,
    p: &mut Problems,
) -> Option<BTreeMap<String, Option<Setting>>> {
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
            Kind::Map(_) => match setting(&entry.value, uses, p) {
                Some(setting) => Some(setting),
                None => continue,
            },
            Kind::Scalar { .. } | Kind::List(_) => match any_text(&entry.value, p) {
                Some(value) => Some(Setting::Text(value.value)),
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

fn setting(node: &Arc<Node>, uses: &mut Vec<Use>, p: &mut Problems) -> Option<Setting> {
    let mut f = Fields::of(node, "a value", p)?;
    let parameter = f.opt("parameter", p, text);
    let secret = f.opt("secret", p, text);
    let place = f.place.clone();
    f.finish(p);
    match (parameter, secret) {
        (Some(name), None) => {
            let setting = Setting::Parameter(name.value.clone());
            uses.push(Use {
                name,
                among: Among::Parameters,
            });
            Some(setting)
        }
        (None, Some(name)) => {
            let setting = Setting::Secret(name.value.clone());
            uses.push(Use {
                name,
                among: Among::Secrets,
            });
            Some(setting)
        }
        (Some(_), Some(_)) | (None, None) => {
            p.push(place.problem("a value is a text, `{ parameter: NAME }` or `{ secret: NAME }`"));
            None
        }
    }
}

#[cfg(test)]
mod tests;
