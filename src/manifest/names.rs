//! What may be called how.

use std::sync::Arc;

use crate::manifest::decode::text;
use crate::manifest::place::At;
use crate::manifest::problem::Problems;
use crate::manifest::tree::Node;

/// The name of a rehearsal: it becomes part of labels, folders and image references.
pub(crate) fn lower(node: &Arc<Node>, p: &mut Problems) -> Option<At<String>> {
    let name = text(node, p)?;
    let fits = name.value.len() <= 60
        && name
            .value
            .starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name
            .value
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.'));
    if fits {
        return Some(name);
    }
    p.push(
        name.place
            .problem(format!("`{}` cannot be a name here", name.value))
            .help("use up to 60 of a-z, 0-9, `-`, `_` and `.`, beginning with a letter or digit"),
    );
    None
}

/// True for what Compose allows as the name of a service, a volume, a secret.
pub(crate) fn is_compose_name(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// A name for people, on one line: of a test, a step, a component.
pub(crate) fn title(node: &Arc<Node>, p: &mut Problems) -> Option<At<String>> {
    let name = text(node, p)?;
    let name = name.map(|name| name.trim().to_owned());
    if name.value.contains(char::is_control) || name.value.chars().count() > 200 {
        p.push(
            name.place
                .problem("a name is one line of at most 200 characters"),
        );
        return None;
    }
    Some(name)
}

/// Whatever is not a letter, digit, `-`, `_` or `.` is left out; for the default name of a stack.
pub(crate) fn lowered(text: &str) -> String {
    let name: String = text
        .to_lowercase()
        .chars()
        .filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.'))
        .collect();
    let name = name.trim_matches(['-', '_', '.']);
    if name.is_empty() {
        "stack".to_owned()
    } else {
        name.to_owned()
    }
}
