//! What `rehearse manifest` takes at the source of a backup, beside it: the truth that the restore is compared with.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The only version of this form that is written and read.
pub const VERSION: u32 = 1;

/// What was true at the source when the backup was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceManifest {
    /// The version of this form.
    pub source_manifest: u32,
    /// When it was taken, by the clock of the machine that took it.
    pub taken: Timestamp,
    /// `postgres`, `mariadb`, `redis` or `sqlite`.
    pub family: String,
    /// The server's version in its own words: `15.14`.
    pub server_version: String,
    /// The backup that it belongs to, where it was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupDigest>,
    /// From a database's name to what was in it.
    pub databases: BTreeMap<String, DatabaseFacts>,
}

/// Which backup a source manifest belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupDigest {
    /// As `BackupFacts::sha256`: hex without a prefix.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
}

/// What was in one database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseFacts {
    /// From a table's name (`public.invoice`; without a schema where there are none) to its exact number of rows.
    pub tables: BTreeMap<String, u64>,
    /// From a sequence's name to its last value; `null` where it was never used.
    #[serde(default)]
    pub sequences: BTreeMap<String, Option<i64>>,
    /// From a collation's provider and name to its version: `libc en_US.utf8` to `2.36`.
    #[serde(default)]
    pub collations: BTreeMap<String, String>,
}

/// The source's databases beside the restored ones.
#[derive(Debug, Default)]
pub struct Paired<'m> {
    /// From a restored database to its name and facts at the source.
    pairs: BTreeMap<String, (&'m str, &'m DatabaseFacts)>,
    /// Restored ones that hold tables, and that the manifest does not know.
    unknown: Vec<String>,
    /// Those of the manifest that hold tables, and that were not restored.
    missing: Vec<&'m str>,
    known: Vec<&'m str>,
}

impl SourceManifest {
    /// Pairs what was restored (with whether it holds tables) with the source by name. Where both have a single
    /// database, these two belong together, whatever each is called: a backup may be restored under another name.
    /// `whole` is a restore of a whole server, from which no database may be missing.
    pub fn beside(&self, restored: &BTreeMap<String, bool>, whole: bool) -> Paired<'_> {
        let mut paired = Paired {
            known: self.databases.keys().map(String::as_str).collect(),
            ..Paired::default()
        };
        for (name, holds) in restored {
            match self.databases.get_key_value(name) {
                Some((source, facts)) => {
                    paired.pairs.insert(name.clone(), (source, facts));
                }
                // An empty one beside the others was made by the service's image.
                None if *holds || !whole => paired.unknown.push(name.clone()),
                None => {}
            }
        }
        paired.missing = self
            .databases
            .iter()
            .filter(|(name, facts)| !facts.tables.is_empty() && !restored.contains_key(*name))
            .map(|(name, _)| name.as_str())
            .collect();
        let only = match (self.databases.len(), paired.missing.as_slice()) {
            (1, _) => self.databases.iter().next(),
            (_, [one]) if paired.pairs.is_empty() => self.databases.get_key_value(*one),
            _ => None,
        };
        let held = restored.values().filter(|holds| **holds).count();
        if let ([renamed], Some((name, facts))) = (paired.unknown.as_slice(), only)
            && held <= 1
            && !paired.pairs.values().any(|(source, _)| source == name)
        {
            paired.pairs.insert(renamed.clone(), (name, facts));
            paired.unknown.clear();
            paired.missing.clear();
        }
        if !whole {
            paired.missing.clear();
        }
        paired
    }
}

impl<'m> Paired<'m> {
    /// What was in a restored database at the source.
    pub fn of(&self, restored: &str) -> Option<&'m DatabaseFacts> {
        self.pairs.get(restored).map(|(_, facts)| *facts)
    }

    /// The source's databases that were not restored, which is the backup's loss: unless one of them may be there under
    /// another name.
    pub fn missing(&self) -> &[&'m str] {
        if self.unknown.is_empty() {
            &self.missing
        } else {
            &[]
        }
    }

    /// Which database was compared with one of another name.
    pub fn renamed(&self) -> Option<String> {
        let (here, (there, _)) = self
            .pairs
            .iter()
            .find(|(here, (there, _))| here.as_str() != *there)?;
        Some(format!(
            "`{here}` compared with `{there}`, the only database of the source's manifest"
        ))
    }

    /// Why the restored databases cannot be compared with the source's, and what to do.
    pub fn unclear(&self) -> Option<(String, String)> {
        if self.unknown.is_empty() {
            return None;
        }
        let list = |names: &mut dyn Iterator<Item = &str>| {
            let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
            if names.is_empty() {
                "none".to_owned()
            } else {
                names.join(", ")
            }
        };
        Some((
            format!(
                "the source's manifest does not know the database {}: it was taken of {}",
                list(&mut self.unknown.iter().map(String::as_str)),
                list(&mut self.known.iter().copied())
            ),
            "take the manifest of the databases that the backup holds (`rehearse manifest .. --database NAME`), and restore \
             them under their names at the source"
                .to_owned(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(databases: &[&str]) -> SourceManifest {
        let facts = DatabaseFacts {
            tables: BTreeMap::from([("public.t".to_owned(), 1)]),
            ..DatabaseFacts::default()
        };
        SourceManifest {
            source_manifest: VERSION,
            taken: Timestamp::UNIX_EPOCH,
            family: "postgres".to_owned(),
            server_version: "15.14".to_owned(),
            backup: None,
            databases: databases
                .iter()
                .map(|name| ((*name).to_owned(), facts.clone()))
                .collect(),
        }
    }

    #[test]
    fn only_what_can_be_told_is_compared_with_the_source() {
        for (source, restored, whole, compared, renamed, unclear, missing) in [
            (
                vec!["site"],
                vec![("site", true)],
                false,
                1,
                false,
                false,
                0,
            ),
            (vec!["site"], vec![("copy", true)], false, 1, true, false, 0),
            (
                vec!["site"],
                vec![("copy", false)],
                false,
                1,
                true,
                false,
                0,
            ),
            (vec!["site"], vec![("copy", true)], true, 1, true, false, 0),
            (
                vec!["a", "b"],
                vec![("copy", true)],
                false,
                0,
                false,
                true,
                0,
            ),
            (vec!["a", "b"], vec![("a", true)], false, 1, false, false, 0),
            (vec!["a", "b"], vec![("a", true)], true, 1, false, false, 1),
            (
                vec!["a", "b"],
                vec![("a", true), ("c", true)],
                true,
                1,
                false,
                true,
                0,
            ),
            (
                vec!["a"],
                vec![("a", true), ("made", false)],
                true,
                1,
                false,
                false,
                0,
            ),
            (
                vec!["a"],
                vec![("a", true), ("more", true)],
                true,
                1,
                false,
                true,
                0,
            ),
            (
                vec!["a"],
                vec![("b", true), ("c", true)],
                true,
                0,
                false,
                true,
                0,
            ),
            (vec![], vec![("a", true)], true, 0, false, true, 0),
        ] {
            let of = manifest(&source);
            let here: BTreeMap<String, bool> = restored
                .iter()
                .map(|(name, holds)| ((*name).to_owned(), *holds))
                .collect();
            let paired = of.beside(&here, whole);
            assert_eq!(
                (
                    here.keys().filter(|name| paired.of(name).is_some()).count(),
                    paired.renamed().is_some(),
                    paired.unclear().is_some(),
                    paired.missing().len(),
                ),
                (compared, renamed, unclear, missing),
                "{source:?} {restored:?} {whole}"
            );
        }
    }
}
