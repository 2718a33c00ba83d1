//! What a deploy did to a database's schema, and whether the package said so.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::event::Mismatch;

/// One object of a schema. Names outside the schema `public` carry their schema.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaObject {
    /// `table`, `column`, `index`, `constraint`, `sequence`, `view`, `materialized view`, `trigger`, `function`,
    /// `type`, `extension`.
    pub kind: String,
    /// `orders`, `orders.paper_id`, `total(numeric)`.
    pub name: String,
    /// The table that it belongs to.
    pub table: Option<String>,
    /// The columns of that table that it is about.
    #[serde(default)]
    pub columns: Vec<String>,
    /// Everything else that makes it what it is, as the server writes it.
    pub definition: String,
}

impl SchemaObject {
    /// As a package declares it.
    pub fn label(&self) -> String {
        format!("{} {}", self.kind, self.name)
    }
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was not there before.
    Added,
    /// It is another than before.
    Changed,
    /// It is gone.
    Dropped,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaChange {
    /// What became of it.
    pub fate: Fate,
    /// As it is now, or was before it was dropped.
    pub object: SchemaObject,
}

impl SchemaChange {
    /// For the report of a change that nobody wrote down.
    pub fn undeclared(&self) -> Mismatch {
        let fate = match self.fate {
            Fate::Added => "added",
            Fate::Changed => "changed",
            Fate::Dropped => "dropped",
        };
        Mismatch {
            what: self.object.label(),
            expected: "declared in declares.schema, or unchanged".to_owned(),
            seen: format!("{fate}: {}", self.object.definition),
        }
    }
}

/// Every object that came, went or changed.
pub fn diff(before: &[SchemaObject], after: &[SchemaObject]) -> Vec<SchemaChange> {
    let index = |objects: &[SchemaObject]| -> BTreeMap<String, SchemaObject> {
        objects
            .iter()
            .map(|object| (object.label(), object.clone()))
            .collect()
    };
    let (before, after) = (index(before), index(after));
    let labels: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    labels
        .into_iter()
        .filter_map(|label| {
            let (fate, object) = match (before.get(label), after.get(label)) {
                (None, Some(new)) => (Fate::Added, new),
                (Some(old), None) => (Fate::Dropped, old),
                (Some(old), Some(new)) if old != new => (Fate::Changed, new),
                (Some(_), Some(_)) | (None, None) => return None,
            };
            Some(SchemaChange {
                fate,
                object: object.clone(),
            })
        })
        .collect()
}

/// The changes that a package does not declare. A declared table stands for everything that belongs to it; a
/// declared column for the constraints and indexes that are about declared columns alone.
pub fn undeclared<'a>(changes: &'a [SchemaChange], declares: &[String]) -> Vec<&'a SchemaChange> {
    let declared: BTreeSet<String> = declares.iter().map(|text| normal(text)).collect();
    changes
        .iter()
        .filter(|change| {
            let object = &change.object;
            let of_table = object
                .table
                .as_ref()
                .is_some_and(|table| declared.contains(&format!("table {table}")));
            let of_columns = !object.columns.is_empty()
                && object.columns.iter().all(|column| {
                    let table = object.table.as_deref().unwrap_or_default();
                    declared.contains(&format!("column {table}.{column}"))
                });
            !(of_table || of_columns || declared.contains(&object.label()))
        })
        .collect()
}

/// What a package declares and no change bears out.
pub fn idle(changes: &[SchemaChange], declares: &[String]) -> Vec<String> {
    declares
        .iter()
        .filter(|text| {
            let declared = normal(text);
            !changes.iter().any(|change| {
                change.object.label() == declared
                    || change
                        .object
                        .table
                        .as_ref()
                        .is_some_and(|table| declared == format!("table {table}"))
            })
        })
        .cloned()
        .collect()
}

/// One space between words, and no `public.` in front of the name.
fn normal(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").replacen(" public.", " ", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(kind: &str, name: &str, table: Option<&str>, columns: &[&str]) -> SchemaObject {
        SchemaObject {
            kind: kind.to_owned(),
            name: name.to_owned(),
            table: table.map(str::to_owned),
            columns: columns.iter().map(|c| (*c).to_owned()).collect(),
            definition: "d".to_owned(),
        }
    }

    fn sample() -> (Vec<SchemaObject>, Vec<SchemaObject>) {
        let before = vec![
            object("table", "orders", Some("orders"), &[]),
            object("column", "orders.id", Some("orders"), &["id"]),
            object("view", "totals", None, &[]),
        ];
        let mut after = vec![
            object("table", "orders", Some("orders"), &[]),
            object("column", "orders.id", Some("orders"), &["id"]),
            object("column", "orders.paper_id", Some("orders"), &["paper_id"]),
            object("constraint", "orders.fk", Some("orders"), &["paper_id"]),
            object("table", "papers", Some("papers"), &[]),
            object("column", "papers.id", Some("papers"), &["id"]),
        ];
        after[1].definition = "bigint".to_owned();
        (before, after)
    }

    #[test]
    fn what_nobody_wrote_down_is_found() {
        let (before, after) = sample();
        let changes = diff(&before, &after);
        for (declares, expected) in [
            (
                vec![],
                vec![
                    "column orders.id",
                    "column orders.paper_id",
                    "column papers.id",
                    "constraint orders.fk",
                    "table papers",
                    "view totals",
                ],
            ),
            (
                vec!["table  public.papers", "column orders.paper_id"],
                vec!["column orders.id", "view totals"],
            ),
            (vec!["table papers", "table orders", "view totals"], vec![]),
        ] {
            let declares: Vec<String> = declares.into_iter().map(str::to_owned).collect();
            let found: Vec<String> = undeclared(&changes, &declares)
                .into_iter()
                .map(|change| change.object.label())
                .collect();
            assert_eq!(found, expected, "{declares:?}");
        }
    }

    #[test]
    fn the_same_schema_has_no_changes_and_a_declaration_of_nothing_is_idle() {
        let (before, after) = sample();
        assert_eq!(diff(&before, &before), []);
        let declares = vec!["table papers".to_owned(), "index gone".to_owned()];
        assert_eq!(idle(&diff(&before, &after), &declares), ["index gone"]);
    }

    #[test]
    fn a_drop_is_told_as_one() {
        let (before, after) = sample();
        let changes = diff(&before, &after);
        let view = changes
            .iter()
            .find(|change| change.object.name == "totals")
            .expect("the view is gone");
        assert_eq!(view.fate, Fate::Dropped);
        assert_eq!(view.undeclared().seen, "dropped: d");
    }
}
