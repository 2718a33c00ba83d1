//! The content address of a base, and the names and labels of what belongs to one.

use std::collections::HashMap;

/// The content address of a base.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BaseKey(String);

impl BaseKey {
    /// From everything that decides what a restore produces: backup digests, restore specification, image ids,
    /// and the version of our own procedure.
    pub fn of(parts: &[&str]) -> Self {
        // Lengths keep ("ab", "c") and ("a", "bc") apart.
        let mut text = format!("rehearse base {PROCEDURE}\n");
        for part in parts {
            text.push_str(&format!("{}:{part}\n", part.len()));
        }
        let digest = crate::digest::sha256(text);
        Self(digest.trim_start_matches("sha256:")[..24].to_owned())
    }

    /// As shown and as part of names.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As a label says it.
    pub(super) fn from_label(labels: &HashMap<String, String>, label: &str) -> Option<Self> {
        labels.get(label).cloned().map(Self)
    }

    /// The last volume of a base to be made: without it there is no base.
    pub(super) fn seal(&self) -> String {
        self.named("sealed")
    }

    /// The container whose name is the right to restore this base.
    pub(super) fn claim(&self) -> String {
        self.named("claim")
    }

    /// Anything else that belongs to it.
    pub(super) fn named(&self, what: &str) -> String {
        format!("rehearse-base-{}-{what}", self.0)
    }
}

impl std::fmt::Display for BaseKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Changes whenever the same backup would be restored to something else than before.
const PROCEDURE: u32 = 1;

/// On each plain volume of a base: its key.
pub(super) const KEY: &str = "rehearse.base";
/// On a seal: its key.
pub(super) const SEALED: &str = "rehearse.base.sealed";
/// On a seal: `stack volume=engine's volume`, with commas.
pub(super) const VOLUMES: &str = "rehearse.base.volumes";
/// On a seal: what each volume looked like, as JSON.
pub(super) const STAMPS: &str = "rehearse.base.stamps";
/// On a seal and on a use: when it was made.
pub(super) const AT: &str = "rehearse.base.at";
/// On a seal: how long the restore took.
pub(super) const SECONDS: &str = "rehearse.base.seconds";
/// On a seal, with the fact's name behind.
pub(super) const FACT: &str = "rehearse.base.fact.";
/// On a small volume of a run: the key of a base on which it stands, or may soon.
pub(super) const STANDS_ON: &str = "rehearse.base.stands-on";
/// On a small volume that outlives the run: the key of a base that it has used, and [`AT`] when.
pub(super) const USED: &str = "rehearse.base.used";
/// On the container that is a claim: its key.
pub(super) const CLAIM: &str = "rehearse.base.claim";
/// On a small volume that is there while a base is being removed: its key.
pub(super) const GOING: &str = "rehearse.base.going";

/// From the stack's volume to the engine's, as a seal's label says it.
pub(super) fn promised(labels: &HashMap<String, String>) -> Vec<(String, String)> {
    labels
        .get(VOLUMES)
        .into_iter()
        .flat_map(|list| list.split(','))
        .filter_map(|pair| {
            let (volume, name) = pair.rsplit_once('=')?;
            Some((volume.to_owned(), name.to_owned()))
        })
        .collect()
}

/// A label and its value.
pub(super) fn label(name: &str, value: impl ToString) -> HashMap<String, String> {
    HashMap::from([(name.to_owned(), value.to_string())])
}

#[cfg(test)]
mod tests {
    use super::BaseKey;

    #[test]
    fn a_key_depends_on_every_part_and_on_where_parts_end() {
        let key = BaseKey::of(&["ab", "c"]);
        assert_eq!(key, BaseKey::of(&["ab", "c"]));
        for other in [&["a", "bc"][..], &["ab"], &["ab", "c", ""], &["c", "ab"]] {
            assert_ne!(key, BaseKey::of(other), "{other:?}");
        }
    }
}
