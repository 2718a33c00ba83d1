//! An emulator of HTTP: its routes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{EmulatorEntry, ports, unmatched};
use crate::manifest::decode::{
    Fields, any_text, boolean, duration_or_zero, entries, list, number, one_or_more, text,
};
use crate::manifest::paths;
use crate::manifest::problem::Problems;
use crate::manifest::tree::{Kind, Node};
use crate::plan::model::{Emulates, HttpEmulator, Route, RouteBody};
use crate::template;

/// Longer delays than this look like an emulator that hangs, and there is one for that.
const LONGEST_DELAY: Duration = Duration::from_secs(600);

pub(super) fn http(
    node: &Arc<Node>,
    dir: &Path,
    entry: &mut EmulatorEntry,
    p: &mut Problems,
) -> Option<Emulates> {
    let mut f = Fields::of(node, "`http` of an emulator", p)?;
    // An emulator of HTTPS alone has none without.
    let given = f.opt("ports", p, |node, p| {
        let none = matches!(&node.kind, Kind::List(items) if items.is_empty());
        if none {
            Some(Vec::new())
        } else {
            ports(node, p)
        }
    });
    let tls = f
        .opt("tls", p, |node, p| {
            if matches!(node.kind, Kind::List(_)) {
                return ports(node, p);
            }
            boolean(node, p).map(|on| if on { vec![443] } else { Vec::new() })
        })
        .unwrap_or_default();
    let trust_place = f.key_place("trust").cloned();
    entry.trust = f
        .opt("trust", p, |node, p| one_or_more(node, p, text))
        .unwrap_or_default();
    let routes = f.opt("routes", p, |node, p| {
        list(node, p, |node, p| route(node, dir, entry, p))
    });
    let unmatched = unmatched(&mut f, p);
    let ports = given.unwrap_or_else(|| vec![80]);
    if ports.is_empty() && tls.is_empty() {
        p.push(f.place.problem("the emulator listens on no port"));
    }
    if let Some(port) = ports.iter().find(|port| tls.contains(port)) {
        p.push(
            f.place
                .problem(format!("port {port} cannot be with TLS and without")),
        );
    }
    if let Some(place) = trust_place
        && tls.is_empty()
    {
        p.push(
            place
                .problem("`trust` without `tls`: there is no certificate to be trusted")
                .help("add `tls: true`, or remove `trust`"),
        );
    }
    f.finish(p);
    Some(Emulates::Http(HttpEmulator {
        ports,
        tls,
        trust: entry.trust.iter().map(|at| at.value.clone()).collect(),
        routes: routes.unwrap_or_default(),
        unmatched,
    }))
}

fn route(
    node: &Arc<Node>,
    dir: &Path,
    entry: &mut EmulatorEntry,
    p: &mut Problems,
) -> Option<Route> {
    let mut f = Fields::of(node, "a route", p)?;
    let path = f.req("path", p, path);
    let method = f.opt("method", p, method);
    let status = f.opt("status", p, |node, p| {
        let status = number::<u16>(node, p)?;
        if (200..=599).contains(&status) {
            return Some(status);
        }
        p.push(
            node.place
                .problem(format!("`{status}` is not the status of an answer")),
        );
        None
    });
    let headers = f.opt("headers", p, headers).unwrap_or_default();
    let both = f.has("body") && f.has("file");
    let body = f.opt("body", p, body);
    let file = f.opt("file", p, |node, p| {
        let written = text(node, p)?;
        let path = paths::join(dir, &written.value);
        if !path.is_file() {
            p.push(
                written
                    .place
                    .problem(format!("there is no file `{}`", path.display()))
                    .help("paths start from the folder of the rehearsal"),
            );
        }
        Some(path)
    });
    let delay = f.opt("delay", p, duration_or_zero).unwrap_or_default();
    if both {
        p.push(
            f.place
                .problem("the route has both `body` and `file`")
                .help("keep one"),
        );
    }
    if delay > LONGEST_DELAY {
        p.push(
            f.place
                .problem("a delay is at most 10 minutes")
                .help("what never answers is `blackhole`"),
        );
    }
    f.finish(p);
    entry.files.extend(file.clone());
    Some(Route {
        path: path?,
        method,
        status: status.unwrap_or(200),
        headers,
        body: match (body, file) {
            (Some(template), _) => RouteBody::Template(template),
            (None, Some(file)) => RouteBody::File(file),
            (None, None) => RouteBody::Empty,
        },
        delay,
    })
}

/// A path, in which `*` may stand for anything.
pub(crate) fn path(node: &Arc<Node>, p: &mut Problems) -> Option<String> {
    let path = text(node, p)?;
    if path.value.starts_with(['/', '*']) && !path.value.contains(['?', '#', ' ']) {
        return Some(path.value);
    }
    p.push(
        path.place
            .problem(format!("`{}` is not a path", path.value))
            .help("a path begins with `/` and has no query; `*` stands for any characters: `/files/*`"),
    );
    None
}

/// A method, in upper case.
pub(crate) fn method(node: &Arc<Node>, p: &mut Problems) -> Option<String> {
    let method = text(node, p)?;
    if method.value.chars().all(|c| c.is_ascii_alphabetic()) {
        return Some(method.value.to_ascii_uppercase());
    }
    p.push(
        method
            .place
            .problem(format!("`{}` is not a method of HTTP", method.value)),
    );
    None
}

fn headers(node: &Arc<Node>, p: &mut Problems) -> Option<Vec<(String, String)>> {
    let mut headers = Vec::new();
    for entry in entries(node, p)? {
        let name = entry.key.value.to_ascii_lowercase();
        let sound = |text: &str| text.chars().all(|c| (' '..='~').contains(&c));
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(token) {
            p.push(
                entry
                    .key
                    .place
                    .problem(format!("`{name}` is not the name of a header")),
            );
            continue;
        }
        if ["content-length", "transfer-encoding", "connection"].contains(&name.as_str()) {
            p.push(
                entry
                    .key
                    .place
                    .problem(format!("`{name}` is set by the emulator itself")),
            );
            continue;
        }
        for value in one_or_more(&entry.value, p, any_text).unwrap_or_default() {
            if sound(&value.value) {
                headers.push((name.clone(), value.value));
            } else {
                p.push(
                    value
                        .place
                        .problem("the value of a header is printable ASCII on one line"),
                );
            }
        }
    }
    Some(headers)
}

/// A template that sees nothing but the request.
fn body(node: &Arc<Node>, p: &mut Problems) -> Option<String> {
    let body = any_text(node, p)?;
    match template::names(&body.value) {
        Err(error) => {
            p.push(body.place.problem(format!("this template {error}")));
            None
        }
        Ok(names) => match names.iter().find(|name| *name != "request") {
            None => Some(body.value),
            Some(name) => {
                p.push(
                    body.place
                        .problem(format!("the template names `{name}`"))
                        .help("it sees `request` alone: `request.method`, `.path`, `.query`, `.headers`, `.body`, `.json`"),
                );
                None
            }
        },
    }
}
