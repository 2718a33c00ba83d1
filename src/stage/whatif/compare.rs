//! What is not the same in two states, by names that a person knows.

use std::collections::{BTreeMap, BTreeSet};

use super::grants;
use super::state::{Reference, State};
use crate::check::schema::{Fate, SchemaChange, diff, undeclared};
use crate::event::Mismatch;

/// One thing that is not the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub mismatch: Mismatch,
    /// What a package may write to say that its rollback leaves this.
    excused_by: Vec<String>,
}

/// What is left after a package's excuses.
pub(super) struct Excused {
    pub left: Vec<Mismatch>,
    /// Excuses that excuse nothing.
    pub idle: Vec<String>,
}

/// Takes out what the package says that its rollback leaves.
pub(super) fn excuse(found: Vec<Difference>, leaves: &[String]) -> Excused {
    let excuses = |leaf: &String, difference: &Difference| {
        let leaf = normal(leaf);
        difference
            .excused_by
            .iter()
            .any(|word| *word == leaf || (leaf.ends_with('/') && word.starts_with(&leaf)))
    };
    let idle = leaves
        .iter()
        .filter(|leaf| !found.iter().any(|difference| excuses(leaf, difference)))
        .cloned()
        .collect();
    let left = found
        .into_iter()
        .filter(|difference| !leaves.iter().any(|leaf| excuses(leaf, difference)))
        .map(|difference| difference.mismatch)
        .collect();
    Excused { left, idle }
}

/// One space between words, and no `public.` in front of a name.
fn normal(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").replacen(" public.", " ", 1)
}

/// `x is`, `x and others are`: the verb for a sentence that begins with the first of so many.
pub(super) fn verb(many: usize) -> &'static str {
    if many == 1 { "is" } else { "are" }
}

/// Every difference between two states, but for what does not keep still by itself. Files are told apart: see
/// [`files`].
pub(super) fn parts(reference: &Reference, before: &State, after: &State) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut changed_schemas: BTreeSet<&str> = BTreeSet::new();
    for (database, objects) in &before.schemas {
        let now = after.schemas.get(database).map_or(&[][..], Vec::as_slice);
        let changes = diff(objects, now);
        if !changes.is_empty() {
            changed_schemas.insert(database);
            found.extend(of_grants(reference, database, &changes, before, after));
        }
        found.extend(changes.iter().map(|change| of_schema(database, change)));
    }
    let names: BTreeSet<&String> = before.parts.keys().chain(after.parts.keys()).collect();
    for name in names {
        let (was, is) = (before.parts.get(name), after.parts.get(name));
        if was == is || reference.restless.contains(name) {
            continue;
        }
        let (kind, of) = name.split_once(" of ").unwrap_or((name, ""));
        match kind {
            // Its objects are named above, and so are its grants.
            "schema" if changed_schemas.contains(of) => continue,
            "rows" | "content" => {
                let (database, table) = of.split_once(' ').unwrap_or((of, ""));
                // A table that came or went is named above.
                let came_or_went = was.is_none() || is.is_none();
                if came_or_went && changed_schemas.contains(database) {
                    continue;
                }
                // Too many to be counted on one side at least: the content decides, where it is read.
                let uncounted =
                    |rows: Option<&String>| rows.is_some_and(|rows| rows.as_str() == "large");
                if kind == "rows" && !came_or_went && (uncounted(was) || uncounted(is)) {
                    continue;
                }
                // Not read on one side, which is told as not compared.
                let unread = unread(database, table);
                if kind == "content"
                    && came_or_went
                    && (before.not_compared.contains(&unread)
                        || after.not_compared.contains(&unread))
                {
                    continue;
                }
                let rows = name.replacen("content of", "rows of", 1);
                let (were, are) = (before.parts.get(&rows), after.parts.get(&rows));
                let counted = were != are && !uncounted(were) && !uncounted(are);
                if kind == "content" && counted {
                    continue;
                }
                found.push(of_table(name, kind, table, was, is));
            }
            _ => found.push(of_part(name, kind, of, was, is)),
        }
    }
    found
}

/// How it is said of a table that its rows were not read.
pub(super) fn unread(database: &str, table: &str) -> String {
    format!("the content of table {table} of {database} (more than 256 MiB)")
}

/// What is not the same of grants, owners, policies and comments in a database in which other objects changed too. Those of
/// an object that came or went are not told beside it.
fn of_grants(
    reference: &Reference,
    database: &str,
    changes: &[SchemaChange],
    before: &State,
    after: &State,
) -> Vec<Difference> {
    let none = BTreeSet::new();
    if reference
        .restless
        .contains(&format!("grants of {database}"))
    {
        return Vec::new();
    }
    let were = before.grants.get(database).unwrap_or(&none);
    let are = after.grants.get(database).unwrap_or(&none);
    were.symmetric_difference(are)
        .filter(|statement| !changes.iter().any(|change| grants::of(statement, change)))
        .map(|statement| {
            let (expected, seen) = if were.contains(statement) {
                ("there", "not there")
            } else {
                ("not there", "there")
            };
            Difference {
                mismatch: Mismatch {
                    what: format!("`{statement}` of {database}"),
                    expected: expected.to_owned(),
                    seen: seen.to_owned(),
                },
                excused_by: grants::excuses(statement),
            }
        })
        .collect()
}

fn of_schema(database: &str, change: &SchemaChange) -> Difference {
    let object = &change.object;
    let (expected, seen) = match change.fate {
        Fate::Added => ("not there", format!("there: {}", object.definition)),
        Fate::Changed => ("as before", format!("changed: {}", object.definition)),
        Fate::Dropped => ("there", "not there".to_owned()),
    };
    let mut excused_by = vec![normal(&object.label())];
    excused_by.extend(object.table.as_ref().map(|table| format!("table {table}")));
    let of_columns = object.columns.iter().map(|column| {
        let table = object.table.as_deref().unwrap_or_default();
        format!("column {table}.{column}")
    });
    // As for declared changes: a column stands for what is about it alone.
    let columns: Vec<String> = of_columns.collect();
    if undeclared(std::slice::from_ref(change), &columns).is_empty() && columns.len() == 1 {
        excused_by.extend(columns);
    }
    Difference {
        mismatch: Mismatch {
            what: format!("{} of {database}", object.label()),
            expected: expected.to_owned(),
            seen,
        },
        excused_by,
    }
}

fn of_table(
    name: &str,
    kind: &str,
    table: &str,
    was: Option<&String>,
    is: Option<&String>,
) -> Difference {
    let shown = |value: Option<&String>| value.map_or("not there", String::as_str).to_owned();
    let (expected, seen) = match (kind, was, is) {
        ("content", Some(_), Some(_)) => ("as before".to_owned(), "other rows".to_owned()),
        _ => (shown(was), shown(is)),
    };
    let word = if table.starts_with("sequence ") {
        normal(table)
    } else {
        normal(&format!("table {table}"))
    };
    Difference {
        mismatch: Mismatch {
            what: name.replacen("content of", "rows of", 1),
            expected,
            seen,
        },
        excused_by: vec![word],
    }
}

/// Digests say nothing to anybody, and values of variables may be secrets.
fn of_part(
    name: &str,
    kind: &str,
    of: &str,
    was: Option<&String>,
    is: Option<&String>,
) -> Difference {
    let (expected, seen) = match (was, is) {
        (None, _) => ("not there", "there"),
        (Some(_), None) => ("there", "not there"),
        (Some(_), Some(_)) => ("as before", "another"),
    };
    let word = match kind {
        table if table.starts_with("table ") => table.to_owned(),
        "files" => of.to_owned(),
        "image" => format!("image {of}"),
        _ => name.to_owned(),
    };
    Difference {
        mismatch: Mismatch {
            what: name.to_owned(),
            expected: expected.to_owned(),
            seen: seen.to_owned(),
        },
        excused_by: vec![word],
    }
}

/// The files of one service's container that are not the same. Both sides know every path that either of them changed.
pub(super) fn files(
    service: &str,
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> Vec<Difference> {
    let paths: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    paths
        .into_iter()
        .filter(|path| before.get(*path) != after.get(*path))
        .map(|path| {
            let there =
                |side: &BTreeMap<String, String>| side.get(path).is_some_and(|is| is != ABSENT);
            let (expected, seen) = match (there(before), there(after)) {
                (false, _) => ("not there", "there"),
                (true, false) => ("there", "not there"),
                (true, true) => ("as before", "another content, owner or mode"),
            };
            Difference {
                mismatch: Mismatch {
                    what: format!("file {path} of {service}"),
                    expected: expected.to_owned(),
                    seen: seen.to_owned(),
                },
                excused_by: vec![format!("file {path}"), format!("file {path} of {service}")],
            }
        })
        .collect()
}

/// In the place of a digest: there is no such path.
pub(super) const ABSENT: &str = "absent";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::schema::SchemaObject;

    fn state(parts: &[(&str, &str)], objects: &[(&str, &str)]) -> State {
        let object = |(kind, name): &(&str, &str)| SchemaObject {
            kind: (*kind).to_owned(),
            name: (*name).to_owned(),
            table: name.split('.').next().map(str::to_owned),
            columns: name
                .split('.')
                .nth(1)
                .map(str::to_owned)
                .into_iter()
                .collect(),
            definition: "x".to_owned(),
        };
        State {
            parts: parts
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            schemas: [("db/site".to_owned(), objects.iter().map(object).collect())].into(),
            ..State::default()
        }
    }

    fn named(before: &State, after: &State, restless: &[&str], leaves: &[&str]) -> Vec<String> {
        let reference = Reference {
            state: State::default(),
            restless: restless.iter().map(|name| (*name).to_owned()).collect(),
        };
        let leaves: Vec<String> = leaves.iter().map(|leaf| (*leaf).to_owned()).collect();
        let excused = excuse(parts(&reference, before, after), &leaves);
        let left = excused.left.into_iter().map(|left| left.what);
        left.chain(excused.idle.into_iter().map(|idle| format!("idle {idle}")))
            .collect()
    }

    #[test]
    fn differences_are_named_once_and_may_be_excused() {
        let before = state(
            &[
                ("schema of db/site", "1"),
                ("rows of db/site public.orders", "3"),
                ("content of db/site public.orders", "3 77"),
                ("rows of db/site sequence public.orders_id_seq", "3"),
                ("files of volume uploads", "a"),
                ("variable COLOUR of app", "a"),
                ("image of app", "a"),
            ],
            &[("table", "orders")],
        );
        assert_eq!(named(&before, &before, &[], &[]), Vec::<String>::new());
        let mut after = before.clone();
        for (name, value) in &mut after.parts {
            *value = format!("{name} is another");
        }
        // The rows say it already; and no object of the schema is another, but its dump is.
        let all = [
            "files of volume uploads",
            "image of app",
            "rows of db/site public.orders",
            "rows of db/site sequence public.orders_id_seq",
            "schema of db/site",
            "variable COLOUR of app",
        ];
        assert_eq!(named(&before, &after, &[], &[]), all);
        let leaves = [
            "table orders",
            "sequence public.orders_id_seq",
            "volume uploads",
            "variable COLOUR of app",
            "image app",
            "table nobody",
        ];
        assert_eq!(
            named(&before, &after, &["schema of db/site"], &leaves),
            ["idle table nobody"]
        );
    }

    #[test]
    fn as_many_rows_with_other_content_are_a_difference() {
        let with = |content| {
            state(
                &[
                    ("rows of db/site public.orders", "3"),
                    ("content of db/site public.orders", content),
                ],
                &[],
            )
        };
        assert_eq!(
            named(&with("3 1"), &with("3 2"), &[], &[]),
            ["rows of db/site public.orders"]
        );
    }

    #[test]
    fn a_grant_that_stays_is_seen_beside_what_is_excused() {
        let with = |grants: &[&str], objects: &[(&str, &str)]| {
            let mut state = state(&[("schema of db/site", &grants.concat())], objects);
            let grants = grants.iter().map(|grant| (*grant).to_owned()).collect();
            state.grants.insert("db/site".to_owned(), grants);
            state
        };
        let before = with(&["ALTER TABLE public.orders OWNER TO site;"], &[]);
        let after = with(
            &[
                "ALTER TABLE public.audit OWNER TO site;",
                "ALTER TABLE public.orders OWNER TO site;",
                "GRANT ALL ON TABLE public.orders TO PUBLIC;",
            ],
            &[("table", "audit")],
        );
        assert_eq!(
            named(&before, &after, &[], &["table audit"]),
            ["`GRANT ALL ON TABLE public.orders TO PUBLIC;` of db/site"]
        );
        let none: [&str; 0] = [];
        let leaves = ["table audit", "table orders"];
        assert_eq!(named(&before, &after, &[], &leaves), none);
        assert_eq!(
            named(&before, &after, &["grants of db/site"], &["table audit"]),
            none
        );
    }

    #[test]
    fn a_table_that_becomes_large_is_compared_by_what_can_be_read() {
        let rows = "rows of db/site public.orders";
        let content = "content of db/site public.orders";
        let counted = state(&[(rows, "3"), (content, "3 1")], &[]);
        let read = |sum| state(&[(rows, "large"), (content, sum)], &[]);
        let none: [&str; 0] = [];
        assert_eq!(named(&counted, &read("3 1"), &[], &[]), none);
        assert_eq!(named(&counted, &read("9 2"), &[], &[]), [rows]);
        let mut unread = state(&[(rows, "large")], &[]);
        assert_eq!(named(&counted, &unread, &[], &[]), [rows]);
        let told = super::unread("db/site", "public.orders");
        unread.not_compared.insert(told);
        assert_eq!(named(&counted, &unread, &[], &[]), none);
        assert_eq!(named(&unread, &counted, &[], &[]), none);
    }

    #[test]
    fn an_object_that_came_is_named_without_its_rows() {
        let before = state(&[("schema of db/site", "1")], &[]);
        let after = state(
            &[
                ("schema of db/site", "2"),
                ("rows of db/site public.notes", "1"),
                ("content of db/site public.notes", "1 5"),
            ],
            &[("table", "notes"), ("column", "notes.text")],
        );
        assert_eq!(
            named(&before, &after, &[], &[]),
            ["column notes.text of db/site", "table notes of db/site"]
        );
        let none: [&str; 0] = [];
        assert_eq!(named(&before, &after, &[], &["table notes"]), none);
        assert_eq!(
            named(&before, &after, &[], &["column notes.text"]),
            ["table notes of db/site"]
        );
    }

    #[test]
    fn files_are_compared_by_what_they_hold() {
        let side = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs
                .iter()
                .map(|(path, digest)| ((*path).to_owned(), (*digest).to_owned()))
                .collect()
        };
        let before = side(&[("/a", "1"), ("/b", "1"), ("/c", ABSENT), ("/d", "1")]);
        let after = side(&[("/a", "1"), ("/b", "2"), ("/c", "1"), ("/d", ABSENT)]);
        let found = files("web", &before, &after);
        let seen: Vec<String> = found
            .iter()
            .map(|difference| {
                let mismatch = &difference.mismatch;
                format!("{}: {} {}", mismatch.what, mismatch.expected, mismatch.seen)
            })
            .collect();
        assert_eq!(
            seen,
            [
                "file /b of web: as before another content, owner or mode",
                "file /c of web: not there there",
                "file /d of web: there not there",
            ]
        );
        let excused = excuse(found, &["file /b".to_owned(), "file /".to_owned()]);
        assert_eq!((excused.left.len(), excused.idle.len()), (0, 0));
    }
}
