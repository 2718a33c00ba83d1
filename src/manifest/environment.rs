//! Variables of services, builds and the bastion.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::manifest::decode::{any_text, entries, list, text};
use crate::manifest::place::Place;
use crate::manifest::problem::Problems;
use crate::manifest::tree::{Kind, Node};

/// A mapping of variables, or a list of `NAME=value`. A name without a value would come from the caller's
/// environment in Compose; here it is a problem.
pub(crate) fn environment(node: &Arc<Node>, p: &mut Problems) -> Option<BTreeMap<String, String>> {
    let no_value = |place: &Place, name: &str, p: &mut Problems| {
        p.push(
            place
                .problem(format!("the variable `{name}` has no value"))
                .help(format!(
                    "give it one (`{name}: \"\"` for an empty one); the caller's environment is never used"
                )),
        );
    };
    let mut variables = BTreeMap::new();
    if let Kind::List(_) = node.kind {
        list(node, p, |item, p| {
            let item = text(item, p)?;
            match item.value.split_once('=') {
                Some((name, value)) if !name.is_empty() => {
                    if variables
                        .insert(name.to_owned(), value.to_owned())
                        .is_some()
                    {
                        p.push(
                            item.place
                                .problem(format!("the variable `{name}` is set twice")),
                        );
                    }
                }
                _ => no_value(&item.place, &item.value, p),
            }
            Some(())
        });
        return Some(variables);
    }
    for entry in entries(node, p)? {
        match &entry.value.kind {
            Kind::Empty | Kind::Null => no_value(&entry.key.place, &entry.key.value, p),
            Kind::Scalar { .. } | Kind::List(_) | Kind::Map(_) => {
                if let Some(value) = any_text(&entry.value, p) {
                    variables.insert(entry.key.value.clone(), value.value);
                }
            }
        }
    }
    Some(variables)
}
