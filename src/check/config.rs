//! Which settings of the services a deploy changed, beside what its package declares. Of a setting only the name and a
//! digest are known here: values may be secrets.

use std::collections::{BTreeMap, BTreeSet};

/// From `service.VARIABLE` or `service:/path` to what tells one value from another.
pub type Settings = BTreeMap<String, String>;

/// A setting that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// `app.FEATURE_PAPERS`, `web:/etc/nginx/nginx.conf`.
    pub key: String,
    /// `set`, `changed` or `removed`.
    pub how: &'static str,
}

/// What changed, by name.
pub fn diff(before: &Settings, after: &Settings) -> Vec<Change> {
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    keys.into_iter()
        .filter_map(|key| {
            let how = match (before.get(key), after.get(key)) {
                (None, Some(_)) => "set",
                (Some(_), None) => "removed",
                (Some(before), Some(after)) if before != after => "changed",
                (Some(_), Some(_)) | (None, None) => return None,
            };
            Some(Change {
                key: key.clone(),
                how,
            })
        })
        .collect()
}

/// The changes that are not declared.
pub fn undeclared<'a>(changes: &'a [Change], declared: &[String]) -> Vec<&'a Change> {
    let known = |change: &&Change| !declared.contains(&change.key);
    changes.iter().filter(known).collect()
}

/// What is declared and did not change.
pub fn idle<'a>(changes: &[Change], declared: &'a [String]) -> Vec<&'a str> {
    let idle = |key: &&String| !changes.iter().any(|change| change.key == **key);
    declared.iter().filter(idle).map(String::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_is_declared_and_every_declaration_changed() {
        let settings = |pairs: &[(&str, &str)]| -> Settings {
            let owned = pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            owned.collect()
        };
        let before = settings(&[
            ("app.A", "1"),
            ("app.B", "1"),
            ("web:/c", "x"),
            ("app.D", "1"),
        ]);
        let after = settings(&[
            ("app.A", "2"),
            ("web:/c", "x"),
            ("app.D", "1"),
            ("app.E", ""),
        ]);
        let changes = diff(&before, &after);
        let told: Vec<(&str, &str)> = changes.iter().map(|c| (c.key.as_str(), c.how)).collect();
        assert_eq!(
            told,
            [("app.A", "changed"), ("app.B", "removed"), ("app.E", "set")]
        );
        let declared = ["app.A", "app.D", "app.E"].map(str::to_owned);
        let hidden: Vec<&str> = undeclared(&changes, &declared)
            .iter()
            .map(|c| c.key.as_str())
            .collect();
        assert_eq!(hidden, ["app.B"]);
        assert_eq!(idle(&changes, &declared), ["app.D"]);
    }
}
