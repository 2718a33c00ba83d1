//! `availability`: what is asked again and again while the package is deployed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{expect, probe};
use crate::check::availability::Target;
use crate::check::model::{HttpBody, Probe};
use crate::manifest::decode::{Fields, duration, one_or_more, some};
use crate::manifest::names;
use crate::manifest::place::{At, Place};
use crate::manifest::problem::Problems;
use crate::manifest::tree::Node;
use crate::plan::model::Availability;

/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(2);
/// From one question to the next.
const EVERY: Duration = Duration::from_millis(100);
/// Less is a load test, more sees no restart.
const PACE: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(50)..=Duration::from_secs(10);

/// A target as written.
#[derive(Clone, Debug)]
pub struct TargetEntry {
    /// What is asked.
    pub target: Target,
    /// The host that it names.
    pub host: At<String>,
    /// Where it is written.
    pub place: Place,
}

impl TargetEntry {
    /// As the plan has it.
    pub(crate) fn resolved(&self) -> Availability {
        Availability {
            target: self.target.clone(),
            location: self.place.location(),
        }
    }
}

pub(super) fn decode(node: &Arc<Node>, p: &mut Problems) -> Option<Vec<TargetEntry>> {
    let targets = some(node, p, target)?;
    for (index, entry) in targets.iter().enumerate() {
        let name = &entry.target.name;
        if targets
            .iter()
            .take(index)
            .any(|earlier| earlier.target.name == *name)
        {
            p.push(
                entry
                    .place
                    .problem(format!("a second target is called `{name}`"))
                    .help("results are found by the target's name, so it must be the only one"),
            );
        }
    }
    Some(targets)
}

fn target(node: &Arc<Node>, p: &mut Problems) -> Option<TargetEntry> {
    let mut f = Fields::of(node, "a target of `availability`", p)?;
    let name = f.req("name", p, names::title);
    if let Some(name) = &name {
        f.call(format!("the target `{}`", name.value));
    }
    let place = name
        .as_ref()
        .map_or_else(|| f.place.clone(), |name| name.place.clone());
    f.place = place.clone();
    let kinds = (f.has("http"), f.has("tcp"));
    let http = f.opt("http", p, http);
    let tcp = f.opt("tcp", p, tcp);
    let expect_place = f.key_place("expect").cloned();
    let statuses = f.opt("expect", p, statuses).unwrap_or_default();
    let within_place = f.key_place("within").cloned();
    let within = f.opt("within", p, duration);
    let every = f.opt("every", p, pace).unwrap_or(EVERY);
    f.finish(p);
    match kinds {
        (true, true) | (false, false) => p.push(
            place
                .problem("a target has one of `http` and `tcp`")
                .help("write `http: { url: http://web/ }` or `tcp: web:80`"),
        ),
        (true, false) | (false, true) => {}
    }
    if let (Some(place), (false, true)) = (expect_place, kinds) {
        p.push(place.problem("a `tcp` target expects nothing but a connection"));
    }
    let probed = http.or(tcp)?;
    if let (Some(place), Some(_)) = (within_place, probed.within) {
        p.push(place.problem("`within` is written twice, here and in `http`"));
    }
    let mut probe = probed.probe;
    let patience = within.or(probed.within).unwrap_or(WITHIN);
    match &mut probe {
        Probe::Http(http) => http.timeout = patience,
        Probe::Tcp(tcp) => tcp.timeout = patience,
        Probe::Sql(_) | Probe::Exec(_) | Probe::File(_) | Probe::Emulator(_) => {}
    }
    Some(TargetEntry {
        target: Target {
            name: name?.value,
            probe,
            statuses,
            every,
        },
        host: probed.host?,
        place,
    })
}

/// `timeout` is what `within` is here.
fn no_timeout(node: &Node, p: &mut Problems) -> Option<()> {
    let Some(timeout) = node.get("timeout") else {
        return Some(());
    };
    p.push(
        timeout
            .head()
            .problem("`timeout` means nothing in `availability`")
            .help("`within` is how long an answer may take; one that comes later is none"),
    );
    None
}

fn http(node: &Arc<Node>, p: &mut Problems) -> Option<probe::Probed> {
    no_timeout(node, p)?;
    for key in ["file", "form", "json", "body"] {
        if let Some(value) = node.get(key) {
            p.push(
                value
                    .head()
                    .problem(format!("`{key}` means nothing in `availability`"))
                    .help("a target is asked all the time, so it is only looked at"),
            );
            return None;
        }
    }
    // It sends no file, so no folder matters.
    let probed = probe::decode("http", node, Path::new(""), p)?;
    if let Probe::Http(http) = &probed.probe
        && (!matches!(http.method.as_str(), "GET" | "HEAD") || http.body != HttpBody::None)
    {
        p.push(
            node.head()
                .problem(format!("a target cannot be asked with {}", http.method))
                .help("it is asked all the time, so it may change nothing: `url` or `head`"),
        );
        return None;
    }
    Some(probed)
}

fn tcp(node: &Arc<Node>, p: &mut Problems) -> Option<probe::Probed> {
    no_timeout(node, p)?;
    for key in ["send", "read"] {
        if let Some(value) = node.get(key) {
            p.push(
                value
                    .head()
                    .problem(format!("`{key}` means nothing in `availability`"))
                    .help("a `tcp` target is there when it accepts a connection"),
            );
            return None;
        }
    }
    probe::decode("tcp", node, Path::new(""), p)
}

fn statuses(node: &Arc<Node>, p: &mut Problems) -> Option<Vec<u16>> {
    let mut f = Fields::of(node, "`expect` of a target", p)?;
    let statuses = f.req("status", p, |node, p| one_or_more(node, p, expect::status));
    f.finish(p);
    statuses
}

fn pace(node: &Arc<Node>, p: &mut Problems) -> Option<Duration> {
    let every = duration(node, p)?;
    if PACE.contains(&every) {
        return Some(every);
    }
    p.push(
        node.head()
            .problem("`every` is from `50ms` to `10s`")
            .help("less would be a load test, and more would not see a restart"),
    );
    None
}
