//! A part of a package.

use crate::manifest::suggest;
use crate::plan::model::Package;

/// Keeps the components that are named. What they need is among them, or was deployed before.
///
/// # Errors
/// A name that the package does not have, or a component that is needed and neither named nor deployed; with what to do.
pub fn only(
    package: &mut Package,
    only: &[String],
    deployed: &[String],
) -> Result<(), (String, Option<String>)> {
    let names: Vec<&str> = package
        .components
        .iter()
        .map(|of| of.name.as_str())
        .collect();
    for name in only.iter().chain(deployed) {
        if !names.contains(&name.as_str()) {
            return Err((
                format!("the package `{}` has no component `{name}`", package.name),
                suggest::help(name, names, "its components"),
            ));
        }
    }
    for component in package
        .components
        .iter()
        .filter(|of| only.contains(&of.name))
    {
        let lacking = component
            .after
            .iter()
            .find(|needed| !only.contains(needed) && !deployed.contains(needed));
        if let Some(needed) = lacking {
            return Err((
                format!(
                    "`{}` comes after `{needed}`, which is neither deployed with it nor there already",
                    component.name
                ),
                Some(format!(
                    "add it (`--only {},{needed}`), or say `--deployed {needed}` if the backup comes from a site that has it",
                    only.join(",")
                )),
            ));
        }
    }
    let (kept, left): (Vec<_>, Vec<_>) = package
        .components
        .drain(..)
        .partition(|component| only.contains(&component.name));
    package.components = kept;
    package.left_out = left.into_iter().map(|component| component.name).collect();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::model::Component;

    fn package() -> Package {
        let component = |name: &str, after: &[&str]| Component {
            name: name.to_owned(),
            after: after.iter().map(|name| (*name).to_owned()).collect(),
            steps: Vec::new(),
        };
        Package::of(vec![
            component("backend", &[]),
            component("content", &["backend"]),
            component("mail", &[]),
        ])
    }

    fn kept(only_these: &[&str], deployed: &[&str]) -> Result<Vec<String>, String> {
        let owned = |names: &[&str]| -> Vec<String> {
            names.iter().map(|name| (*name).to_owned()).collect()
        };
        let mut package = package();
        only(&mut package, &owned(only_these), &owned(deployed)).map_err(|(why, _)| why)?;
        assert_eq!(package.components.len() + package.left_out.len(), 3);
        Ok(package.components.into_iter().map(|of| of.name).collect())
    }

    #[test]
    fn a_part_is_what_is_named_in_the_packages_order_and_stands_by_itself() {
        assert_eq!(
            kept(&["content", "backend"], &[]).unwrap(),
            ["backend", "content"]
        );
        assert_eq!(kept(&["mail"], &[]).unwrap(), ["mail"]);
        assert_eq!(kept(&["content"], &["backend"]).unwrap(), ["content"]);
        let lacking = kept(&["content"], &[]).unwrap_err();
        assert!(lacking.contains("comes after `backend`"), "{lacking}");
        let unknown = kept(&["contents"], &[]).unwrap_err();
        assert!(unknown.contains("no component `contents`"), "{unknown}");
    }
}
