//! What a package leaves open, and what the rehearsal gives for it.

use std::collections::BTreeMap;

use crate::manifest::load::Loaded;
use crate::manifest::package::PackageManifest;
use crate::manifest::problem::Problems;
use crate::manifest::suggest;
use crate::plan::model::Secret;

/// Values of parameters, and where secrets come from, by name.
pub(crate) type Settings = (BTreeMap<String, String>, BTreeMap<String, Secret>);

/// Everything that a package leaves open, given. What is not given, not asked for or does not fit is a problem.
pub(crate) fn settings(loaded: &Loaded, package: &PackageManifest, p: &mut Problems) -> Settings {
    (parameters(loaded, package, p), secrets(loaded, package, p))
}

fn parameters(
    loaded: &Loaded,
    package: &PackageManifest,
    p: &mut Problems,
) -> BTreeMap<String, String> {
    let given = &loaded.rehearsal.parameters;
    let declared = || package.parameters.iter().map(|of| of.name.value.as_str());
    for (name, _) in given {
        if !declared().any(|known| known == name.value) {
            let message = format!(
                "the package `{}` has no parameter `{}`",
                package.name, name.value
            );
            let known: Vec<&str> = declared().collect();
            let problem = name.place.problem(message);
            p.push(problem.maybe_help(suggest::help(&name.value, known, "its parameters")));
        }
    }
    let mut values = BTreeMap::new();
    for parameter in &package.parameters {
        let name = &parameter.name.value;
        let value = match given.iter().find(|(known, _)| known.value == *name) {
            Some((_, value)) => {
                let fits = parameter
                    .pattern
                    .as_ref()
                    .is_none_or(|pattern| pattern.is_match(&value.value));
                if !fits {
                    let message = format!("`{}` is no value for `{name}`", value.value);
                    let wanted = parameter
                        .pattern
                        .as_ref()
                        .map_or("", |pattern| pattern.as_str());
                    p.push(
                        value
                            .place
                            .problem(message)
                            .help(format!("the package wants it to match {wanted}")),
                    );
                }
                &value.value
            }
            None => match &parameter.default {
                Some(default) => default,
                None => {
                    let about = parameter.about.as_ref().map(|about| format!(" ({about})"));
                    let message = format!(
                        "the parameter `{name}`{} has no value",
                        about.unwrap_or_default()
                    );
                    p.push(parameter.name.place.problem(message).help(format!(
                        "give it one in the rehearsal (`parameters: {{ {name}: .. }}`) or with `--set {name}=..`"
                    )));
                    continue;
                }
            },
        };
        values.insert(name.clone(), value.clone());
    }
    values
}

fn secrets(
    loaded: &Loaded,
    package: &PackageManifest,
    p: &mut Problems,
) -> BTreeMap<String, Secret> {
    let given = &loaded.rehearsal.secrets;
    let named = || package.secrets.iter().map(|name| name.value.as_str());
    for (name, _) in given {
        if !named().any(|known| known == name.value) {
            let message = format!(
                "the package `{}` names no secret `{}`",
                package.name, name.value
            );
            let known: Vec<&str> = named().collect();
            let problem = name.place.problem(message);
            p.push(problem.maybe_help(suggest::help(&name.value, known, "its secrets")));
        }
    }
    let mut sources = BTreeMap::new();
    for name in &package.secrets {
        match given.iter().find(|(known, _)| known.value == name.value) {
            Some((_, source)) => {
                sources.insert(name.value.clone(), source.clone());
            }
            None => {
                let name_it = &name.value;
                p.push(
                    name.place
                        .problem(format!("nobody says where the secret `{name_it}` comes from"))
                        .help(format!(
                            "add `secrets: {{ {name_it}: {{ env: {name_it} }} }}` to the rehearsal, or `{{ file: PATH }}`"
                        )),
                );
            }
        }
    }
    sources
}
