//! What a package leaves open: parameters, which differ from place to place, and secrets, which it names only.

use std::sync::Arc;

use regex::Regex;

use crate::manifest::decode::{Fields, any_text, entries, some, string, text};
use crate::manifest::place::At;
use crate::manifest::problem::Problems;
use crate::manifest::tree::{Kind, Node};

/// A parameter as a package declares it.
#[derive(Clone, Debug)]
pub struct ParameterEntry {
    /// Its name, which is also the variable's.
    pub name: At<String>,
    /// What its value must be, from end to end.
    pub pattern: Option<Regex>,
    /// Its value where nobody gives one.
    pub default: Option<String>,
    /// What it is, for whoever has to give it.
    pub about: Option<String>,
}

/// Variables that decide what runs: a parameter of this name would change every step.
const RESERVED: [&str; 8] = [
    "BASH_ENV", "ENV", "HOME", "HOSTNAME", "IFS", "PATH", "PWD", "SHELL",
];

/// `parameters:` of a package.
pub(crate) fn parameters(node: &Arc<Node>, p: &mut Problems) -> Option<Vec<ParameterEntry>> {
    let mut parameters = Vec::new();
    for entry in entries(node, p)? {
        let name = At::new(entry.key.value.clone(), entry.key.place.clone());
        if !is_variable(&name, p) {
            continue;
        }
        match &entry.value.kind {
            // `NAME:` alone has to be given.
            Kind::Empty | Kind::Null => parameters.push(ParameterEntry {
                name,
                pattern: None,
                default: None,
                about: None,
            }),
            Kind::Scalar { .. } | Kind::List(_) | Kind::Map(_) => {
                parameters.extend(parameter(name, &entry.value, p));
            }
        }
    }
    Some(parameters)
}

fn parameter(name: At<String>, node: &Arc<Node>, p: &mut Problems) -> Option<ParameterEntry> {
    let mut f = Fields::of(node, format!("the parameter `{}`", name.value), p)?;
    let pattern = f.opt("pattern", p, pattern);
    let default = f.opt("default", p, any_text);
    let about = f.opt("about", p, string);
    f.finish(p);
    if let (Some(pattern), Some(default)) = (&pattern, &default)
        && !pattern.is_match(&default.value)
    {
        let problem = default.place.problem(format!(
            "the default of `{}` does not fit its own pattern",
            name.value
        ));
        p.push(problem);
    }
    Some(ParameterEntry {
        name,
        pattern,
        default: default.map(|default| default.value),
        about,
    })
}

/// A regular expression that has to match all of a value.
fn pattern(node: &Arc<Node>, p: &mut Problems) -> Option<Regex> {
    let written = text(node, p)?;
    match Regex::new(&format!("^(?:{})$", written.value)) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            let said = error.to_string();
            let last = said.lines().last().unwrap_or_default().to_owned();
            p.push(written.place.problem(format!(
                "`{}` is no regular expression: {last}",
                written.value
            )));
            None
        }
    }
}

/// `secrets:` of a package: names, and nothing else.
pub(crate) fn secret_names(node: &Arc<Node>, p: &mut Problems) -> Option<Vec<At<String>>> {
    if let Kind::Map(_) = node.kind {
        p.push(
            node.head()
                .problem("a package names its secrets and holds none")
                .help("write a list of names: `secrets: [API_TOKEN]`; the rehearsal says where each comes from"),
        );
        return None;
    }
    let names = some(node, p, |node, p| {
        text(node, p).filter(|name| is_variable(name, p))
    })?;
    for (index, name) in names.iter().enumerate() {
        if names
            .iter()
            .take(index)
            .any(|other| other.value == name.value)
        {
            p.push(
                name.place
                    .problem(format!("the secret `{}` is named twice", name.value)),
            );
        }
    }
    Some(names)
}

/// True for what can be the name of a variable and does not change what runs.
pub(crate) fn is_variable(name: &At<String>, p: &mut Problems) -> bool {
    let text = name.value.as_str();
    let fits = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && text.len() <= 64;
    if !fits {
        p.push(
            name.place
                .problem(format!("`{text}` cannot be the name of a variable"))
                .help("steps see it in their environment: use letters, digits and `_`, and begin with a letter"),
        );
        return false;
    }
    if RESERVED.contains(&text) || text.starts_with("LD_") {
        p.push(
            name.place
                .problem(format!(
                    "`{text}` decides what a step runs; it cannot be given from outside"
                ))
                .help("choose another name"),
        );
        return false;
    }
    true
}

/// `parameters:` of a rehearsal: names and values.
pub(crate) fn values(node: &Arc<Node>, p: &mut Problems) -> Option<Vec<(At<String>, At<String>)>> {
    let mut values = Vec::new();
    for entry in entries(node, p)? {
        let name = At::new(entry.key.value.clone(), entry.key.place.clone());
        if let Some(value) = any_text(&entry.value, p) {
            values.push((name, value));
        }
    }
    Some(values)
}
