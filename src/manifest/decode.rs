//! From the tree to values: small readers that add what is wrong to a list and go on.

use std::sync::Arc;
use std::time::Duration;

use crate::manifest::place::{At, Place};
use crate::manifest::problem::Problems;
use crate::manifest::suggest;
use crate::manifest::tree::{Entry, Kind, Node};
use crate::manifest::units;

/// A mapping whose keys are asked for one by one; every key asked for is a known key, and
/// [`Fields::finish`] reports the others.
pub(crate) struct Fields<'n> {
    entries: &'n [Entry],
    known: Vec<&'static str>,
    free: Option<fn(&str) -> bool>,
    /// Where a missing key is missed.
    pub(crate) place: Place,
    what: String,
}

impl<'n> Fields<'n> {
    /// `what` names the thing in messages: ``a restore``, ``the test `x` ``.
    pub(crate) fn of(node: &'n Node, what: impl Into<String>, p: &mut Problems) -> Option<Self> {
        let what = what.into();
        match &node.kind {
            Kind::Map(entries) => Some(Self {
                entries,
                known: Vec::new(),
                free: None,
                place: node.head().clone(),
                what,
            }),
            Kind::Empty | Kind::Null => {
                p.push(node.head().problem(format!("{what} is empty")));
                None
            }
            Kind::Scalar { .. } | Kind::List(_) => {
                let is = node.what();
                p.push(
                    node.head()
                        .problem(format!("{what} must be a mapping, this is {is}")),
                );
                None
            }
        }
    }

    /// Renames the thing once its name is known.
    pub(crate) fn call(&mut self, what: impl Into<String>) {
        self.what = what.into();
    }

    fn entry(&mut self, key: &'static str) -> Option<&'n Entry> {
        self.known.push(key);
        self.entries.iter().find(|entry| entry.key.value == key)
    }

    /// True where the key is written, even with a value that is wrong.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key.value == key)
    }

    /// True where anything is written.
    pub(crate) fn has_keys(&self) -> bool {
        !self.entries.is_empty()
    }

    /// The value of a key as it is, even if it is null.
    pub(crate) fn raw(&mut self, key: &'static str) -> Option<&'n Arc<Node>> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// Where the key is written.
    pub(crate) fn key_place(&self, key: &str) -> Option<&Place> {
        self.entries
            .iter()
            .find(|entry| entry.key.value == key)
            .map(|entry| &entry.key.place)
    }

    /// The value of a key, whatever it is; an empty one is a problem.
    pub(crate) fn node(&mut self, key: &'static str, p: &mut Problems) -> Option<&'n Arc<Node>> {
        let entry = self.entry(key)?;
        match entry.value.kind {
            Kind::Empty | Kind::Null => {
                p.push(
                    entry
                        .key
                        .place
                        .problem(format!("`{key}` is empty"))
                        .help("give it a value or remove it"),
                );
                None
            }
            Kind::Scalar { .. } | Kind::List(_) | Kind::Map(_) => Some(&entry.value),
        }
    }

    /// An optional key.
    pub(crate) fn opt<T>(
        &mut self,
        key: &'static str,
        p: &mut Problems,
        read: impl FnOnce(&'n Arc<Node>, &mut Problems) -> Option<T>,
    ) -> Option<T> {
        let node = self.node(key, p)?;
        read(node, p)
    }

    /// A required key.
    pub(crate) fn req<T>(
        &mut self,
        key: &'static str,
        p: &mut Problems,
        read: impl FnOnce(&'n Arc<Node>, &mut Problems) -> Option<T>,
    ) -> Option<T> {
        if !self.has(key) {
            self.known.push(key);
            p.push(self.place.problem(format!("{} has no `{key}`", self.what)));
            return None;
        }
        self.opt(key, p, read)
    }

    /// Keys with free names that are no problem in [`Fields::finish`].
    pub(crate) fn forget(&mut self, free: fn(&str) -> bool) {
        self.free = Some(free);
    }

    /// Every key that was not asked for is a problem.
    pub(crate) fn finish(self, p: &mut Problems) {
        let rest = self.entries.iter().filter(|entry| {
            let key = entry.key.value.as_str();
            !self.known.contains(&key) && !self.free.is_some_and(|free| free(key))
        });
        let mut known = self.known.clone();
        known.sort_unstable();
        known.dedup();
        for entry in rest {
            let word = &entry.key.value;
            p.push(
                entry
                    .key
                    .place
                    .problem(format!("unknown key `{word}` in {}", self.what))
                    .maybe_help(suggest::help(word, known.iter().copied(), "known keys")),
            );
        }
    }
}

fn wrong<T>(node: &Node, wanted: &str, p: &mut Problems) -> Option<T> {
    let message = match &node.kind {
        Kind::Scalar { text, .. } => format!("`{text}` is not {wanted}"),
        Kind::Empty | Kind::Null | Kind::List(_) | Kind::Map(_) => {
            format!("this must be {wanted}, not {}", node.what())
        }
    };
    p.push(node.head().problem(message));
    None
}

/// Text as written; numbers and booleans count as text.
pub(crate) fn text(node: &Arc<Node>, p: &mut Problems) -> Option<At<String>> {
    match &node.kind {
        Kind::Scalar { text, .. } => {
            if text.trim().is_empty() {
                p.push(node.place.problem("this text is empty"));
                return None;
            }
            Some(At::new(text.clone(), node.place.clone()))
        }
        Kind::Empty | Kind::Null | Kind::List(_) | Kind::Map(_) => wrong(node, "text", p),
    }
}

/// Text that may be empty, where emptiness means something.
pub(crate) fn any_text(node: &Arc<Node>, p: &mut Problems) -> Option<At<String>> {
    match &node.kind {
        Kind::Scalar { text, .. } => Some(At::new(text.clone(), node.place.clone())),
        Kind::Empty | Kind::Null | Kind::List(_) | Kind::Map(_) => wrong(node, "text", p),
    }
}

/// Text without its place.
pub(crate) fn string(node: &Arc<Node>, p: &mut Problems) -> Option<String> {
    text(node, p).map(|at| at.value)
}

fn parsed<T>(
    node: &Arc<Node>,
    wanted: &str,
    p: &mut Problems,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Option<T> {
    match &node.kind {
        Kind::Scalar { text, .. } => match parse(text.trim()) {
            Some(value) => Some(value),
            None => wrong(node, wanted, p),
        },
        Kind::Empty | Kind::Null | Kind::List(_) | Kind::Map(_) => wrong(node, wanted, p),
    }
}

pub(crate) fn boolean(node: &Arc<Node>, p: &mut Problems) -> Option<bool> {
    parsed(node, "`true` or `false`", p, |text| match text {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    })
}

/// A whole number that fits `T`.
pub(crate) fn number<T: std::str::FromStr>(node: &Arc<Node>, p: &mut Problems) -> Option<T> {
    parsed(node, "a whole number in range", p, |text| text.parse().ok())
}

/// A number of cores.
pub(crate) fn cores(node: &Arc<Node>, p: &mut Problems) -> Option<f64> {
    parsed(
        node,
        "a number of cores above 0, such as `0.5`",
        p,
        |text| {
            text.parse()
                .ok()
                .filter(|n: &f64| n.is_finite() && *n > 0.0)
        },
    )
}

/// A duration above zero.
pub(crate) fn duration(node: &Arc<Node>, p: &mut Problems) -> Option<Duration> {
    let wanted = "a duration such as `500ms`, `5s`, `10m`, `26h`, `7d` or `1m30s`";
    let value = parsed(node, wanted, p, units::duration)?;
    if value.is_zero() {
        return wrong(node, "a duration above zero", p);
    }
    Some(value)
}

/// A duration that may be zero, as Compose has them.
pub(crate) fn duration_or_zero(node: &Arc<Node>, p: &mut Problems) -> Option<Duration> {
    parsed(
        node,
        "a duration such as `30s` or `1m30s`",
        p,
        units::duration,
    )
}

/// An amount of memory, in bytes.
pub(crate) fn bytes(node: &Arc<Node>, p: &mut Problems) -> Option<u64> {
    parsed(node, "a size such as `512m` or `1g`", p, units::bytes)
}

/// Permission bits in octal.
pub(crate) fn mode(node: &Arc<Node>, p: &mut Problems) -> Option<u32> {
    parsed(
        node,
        "permission bits in octal such as `0644`",
        p,
        units::mode,
    )
}

/// `uid:gid`, both numbers.
pub(crate) fn owner(node: &Arc<Node>, p: &mut Problems) -> Option<(u64, u64)> {
    parsed(node, "a numeric owner such as `1000:1000`", p, units::owner)
}

/// An absolute path in a container.
pub(crate) fn container_path(node: &Arc<Node>, p: &mut Problems) -> Option<String> {
    let path = text(node, p)?;
    if path.value.starts_with('/') {
        return Some(path.value);
    }
    wrong(node, "an absolute path in the container", p)
}

/// A word of a fixed list.
pub(crate) fn word<T: Copy>(
    node: &Arc<Node>,
    p: &mut Problems,
    words: &[(&'static str, T)],
) -> Option<T> {
    let written = text(node, p)?;
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == written.value) {
        return Some(*value);
    }
    let all = || words.iter().map(|(word, _)| *word);
    p.push(
        written
            .place
            .problem(format!(
                "`{}` is none of {}",
                written.value,
                all()
                    .map(|w| format!("`{w}`"))
                    .collect::<Vec<_>>()
                    .join(", ")
            ))
            .maybe_help(
                suggest::nearest(&written.value, all())
                    .map(|near| format!("did you mean `{near}`?")),
            ),
    );
    None
}

/// A list; items that are wrong are left out.
pub(crate) fn list<T>(
    node: &Arc<Node>,
    p: &mut Problems,
    mut read: impl FnMut(&Arc<Node>, &mut Problems) -> Option<T>,
) -> Option<Vec<T>> {
    match &node.kind {
        Kind::List(items) => Some(items.iter().filter_map(|item| read(item, p)).collect()),
        Kind::Empty | Kind::Null | Kind::Scalar { .. } | Kind::Map(_) => wrong(node, "a list", p),
    }
}

/// A list with something in it.
pub(crate) fn some<T>(
    node: &Arc<Node>,
    p: &mut Problems,
    read: impl FnMut(&Arc<Node>, &mut Problems) -> Option<T>,
) -> Option<Vec<T>> {
    if matches!(&node.kind, Kind::List(items) if items.is_empty()) {
        p.push(node.place.problem("this list is empty"));
        return None;
    }
    list(node, p, read)
}

/// One or a list of them.
pub(crate) fn one_or_more<T>(
    node: &Arc<Node>,
    p: &mut Problems,
    mut read: impl FnMut(&Arc<Node>, &mut Problems) -> Option<T>,
) -> Option<Vec<T>> {
    match &node.kind {
        Kind::List(_) => some(node, p, read),
        Kind::Empty | Kind::Null | Kind::Scalar { .. } | Kind::Map(_) => {
            read(node, p).map(|value| vec![value])
        }
    }
}

/// The entries of a mapping with free keys.
pub(crate) fn entries<'n>(node: &'n Arc<Node>, p: &mut Problems) -> Option<&'n [Entry]> {
    match &node.kind {
        Kind::Map(entries) => Some(entries),
        Kind::Empty | Kind::Null | Kind::Scalar { .. } | Kind::List(_) => {
            wrong(node, "a mapping", p)
        }
    }
}

/// A JSON value by YAML's core rules: quoted text stays text.
pub(crate) fn json(node: &Arc<Node>) -> serde_json::Value {
    use serde_json::Value;
    match &node.kind {
        Kind::Empty | Kind::Null => Value::Null,
        Kind::Scalar { text, plain: false } => Value::String(text.clone()),
        Kind::Scalar { text, plain: true } => match text.as_str() {
            "true" | "True" | "TRUE" => Value::Bool(true),
            "false" | "False" | "FALSE" => Value::Bool(false),
            // Only what JSON itself calls a number: `0644` and `1_000` are text.
            other => match serde_json::from_str::<serde_json::Number>(other) {
                Ok(number) => Value::Number(number),
                Err(_) => Value::String(text.clone()),
            },
        },
        Kind::List(items) => Value::Array(items.iter().map(json).collect()),
        Kind::Map(entries) => Value::Object(
            entries
                .iter()
                .map(|entry| (entry.key.value.clone(), json(&entry.value)))
                .collect(),
        ),
    }
}

/// A flag that may only be what it is by default; anything else would be ignored.
pub(crate) fn only(
    f: &mut Fields<'_>,
    key: &'static str,
    value: bool,
    why: &str,
    p: &mut Problems,
) {
    let place = f.key_place(key).cloned();
    if let (Some(given), Some(place)) = (f.opt(key, p, boolean), place)
        && given != value
    {
        p.push(
            place
                .problem(format!("`{key}: {given}` is not supported"))
                .help(why),
        );
    }
}
