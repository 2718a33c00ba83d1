//! What is not the same in two states, by names that a person knows.

use std::collections::{BTreeMap, BTreeSet};

use super::grants;
use super::state::{Reference, State};
use crate::check::schema::{Fate, SchemaChange, diff, undeclared};
use crate::event::Mismatch;
use crate::report::text::bytes;

/// One thing that is not the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub mismatch: Mismatch,
    /// What a package may write to say that its rollback leaves this.
    excused_by: Vec<String>,
}

/// One thing that was not looked at because of its size, so that nobody knows whether it is the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unread {
    /// For people, with the reason.
    pub what: String,
    /// What a package may write to say that its rollback leaves this.
    pub excused_by: Vec<String>,
    /// With a higher `limits.compare` it would be read.
    pub by_limit: bool,
}

/// What two states show.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub differences: Vec<Difference>,
    pub unread: Vec<Unread>,
    /// What else was not compared, for people: nothing that a deploy or a rollback has to answer for.
    pub not_compared: Vec<String>,
}

/// What is left after a package's excuses.
pub(super) struct Excused {
    pub left: Vec<Mismatch>,
    /// Where nothing is left, this keeps a path from being judged.
    pub unread: Vec<Unread>,
    /// Excuses that excuse nothing.
    pub idle: Vec<String>,
    /// What was not compared and need not be, for people.
    pub not_compared: Vec<String>,
}

/// Takes out what the package says that its rollback leaves.
pub(super) fn excuse(found: Found, leaves: &[String]) -> Excused {
    let excuses = |leaf: &String, words: &[String]| {
        let leaf = normal(leaf);
        words
            .iter()
            .any(|word| *word == leaf || (leaf.ends_with('/') && word.starts_with(&leaf)))
    };
    let excused = |words: &[String]| leaves.iter().any(|leaf| excuses(leaf, words));
    let differences = found.differences.iter().map(|of| &of.excused_by);
    let unread = found.unread.iter().map(|of| &of.excused_by);
    let all: Vec<&Vec<String>> = differences.chain(unread).collect();
    let idle = leaves
        .iter()
        .filter(|leaf| !all.iter().any(|words| excuses(leaf, words)))
        .cloned()
        .collect();
    let left = found
        .differences
        .into_iter()
        .filter(|of| !excused(&of.excused_by))
        .map(|of| of.mismatch)
        .collect();
    let (left_there, unread): (Vec<Unread>, Vec<Unread>) = found
        .unread
        .into_iter()
        .partition(|of| excused(&of.excused_by));
    let mut not_compared = found.not_compared;
    if !left_there.is_empty() {
        let names: Vec<String> = left_there.into_iter().map(|of| of.what).collect();
        not_compared.push(listed(&names));
    }
    Excused {
        left,
        unread,
        idle,
        not_compared,
    }
}

/// The first of these names, and how many more there are.
pub(super) fn listed(names: &[String]) -> String {
    const SHOWN: usize = 10;
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
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

/// Every difference between two states, and what was not read, but for what does not keep still by itself. Files are told
/// apart: see [`files`].
pub(super) fn parts(reference: &Reference, before: &State, after: &State) -> Found {
    let mut found = Found::default();
    let mut changed_schemas: BTreeSet<&str> = BTreeSet::new();
    let replaced = came_or_gone(before, after);
    for (database, objects) in &before.schemas {
        if replaced.contains(database) {
            continue;
        }
        let now = after.schemas.get(database).map_or(&[][..], Vec::as_slice);
        let changes = diff(objects, now);
        if !changes.is_empty() {
            changed_schemas.insert(database);
            let grants = of_grants(reference, database, &changes, before, after);
            found.differences.extend(grants);
        }
        found
            .differences
            .extend(changes.iter().map(|change| of_schema(database, change)));
    }
    let names: BTreeSet<&String> = before.parts.keys().chain(after.parts.keys()).collect();
    for name in names {
        let (was, is) = (before.parts.get(name), after.parts.get(name));
        if reference.restless.contains(name) || is_within(name, &replaced) {
            continue;
        }
        if let (Some(was), Some(is)) = (was, is)
            && let Some(unread) = of_unread(name, was, is)
        {
            found.unread.push(unread);
            continue;
        }
        if was == is {
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
                let rows = name.replacen("content of", "rows of", 1);
                let (were, are) = (before.parts.get(&rows), after.parts.get(&rows));
                let counted = were != are && !uncounted(were) && !uncounted(are);
                if kind == "content" && counted {
                    continue;
                }
                found.differences.push(of_table(name, kind, table, was, is));
            }
            _ if is_brought_by_an_image(kind, of, before, after) => continue,
            _ => found.differences.push(of_part(name, kind, of, was, is)),
        }
    }
    found
}

/// The databases that only one of the states has, as `service/database`: what they hold is not told beside them.
fn came_or_gone(before: &State, after: &State) -> BTreeSet<String> {
    let one_sided =
        |name: &&String| !(before.parts.contains_key(*name) && after.parts.contains_key(*name));
    let names = before.parts.keys().chain(after.parts.keys());
    let databases = names.filter(one_sided).filter_map(|name| {
        let (database, service) = name.strip_prefix("database ")?.rsplit_once(" of ")?;
        Some(format!("{service}/{database}"))
    });
    databases.collect()
}

/// True for a part of one of these databases.
fn is_within(name: &str, databases: &BTreeSet<String>) -> bool {
    let Some((kind, of)) = name.split_once(" of ") else {
        return false;
    };
    let whole = match kind.strip_prefix("table ") {
        // A table of MariaDB.
        Some(table) => format!("{of}/{table}"),
        None if matches!(kind, "schema" | "rows" | "content") => of.replacen(' ', "/", 1),
        None => return false,
    };
    // PostgreSQL has `service/database` and then the table, MariaDB `service` and then `database.table`.
    databases.iter().any(|database| {
        let rest = whole.strip_prefix(database.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '.']))
    })
}

/// True for a variable of which only the service's image says something, where that is another: it is told itself.
fn is_brought_by_an_image(kind: &str, service: &str, before: &State, after: &State) -> bool {
    let Some(variable) = kind.strip_prefix("variable ") else {
        return false;
    };
    let image = format!("image of {service}");
    let is_set = |state: &State| {
        let mut blueprints = state.blueprints.iter();
        blueprints.any(|of| {
            let named = of.service.environment.contains_key(variable);
            of.service.name == service && (named || of.unset.contains(variable))
        })
    };
    before.parts.get(&image) != after.parts.get(&image) && !is_set(before) && !is_set(after)
}

/// Of a part that is there in both states, what leaves open whether it is the same: rows that were not read in one of them,
/// and files of which an outline differs, since times may differ where contents do not.
fn of_unread(name: &str, was: &str, is: &str) -> Option<Unread> {
    let (kind, of) = name.split_once(" of ")?;
    match kind {
        "content" => {
            let why = [was, is]
                .into_iter()
                .find_map(|side| side.strip_prefix(UNREAD))?;
            let (database, table) = of.split_once(' ').unwrap_or((of, ""));
            Some(Unread {
                what: format!("the content of table {table} of {database} {why}"),
                excused_by: vec![normal(&format!("table {table}"))],
                by_limit: true,
            })
        }
        "files" if was != is && (was.starts_with(OUTLINE) || is.starts_with(OUTLINE)) => {
            Some(Unread {
                what: format!(
                    "the files of {of} (more than 1 GiB, and their names, sizes or times differ)"
                ),
                excused_by: vec![of.to_owned()],
                by_limit: false,
            })
        }
        _ => None,
    }
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

/// Finds the files of one service's container that are not the same, and those that were not read. Both sides know every
/// path that either of them changed, but for what is [`TOO_MANY`] on the other.
pub(super) fn files(
    service: &str,
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
    found: &mut Found,
) {
    let paths: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for path in paths {
        let (was, is) = (before.get(path), after.get(path));
        let what = format!("file {path} of {service}");
        let excused_by = vec![format!("file {path}"), what.clone()];
        if let Some(why) = unread_file(was, is) {
            found.unread.push(Unread {
                what: format!("{what} {why}"),
                excused_by,
                by_limit: false,
            });
            continue;
        }
        if was == is {
            continue;
        }
        let there = |side: Option<&String>| side.is_some_and(|digest| digest != ABSENT);
        let (expected, seen) = match (there(was), there(is)) {
            (false, _) => ("not there", "there"),
            (true, false) => ("there", "not there"),
            (true, true) => ("as before", "another content, owner or mode"),
        };
        found.differences.push(Difference {
            mismatch: Mismatch {
                what,
                expected: expected.to_owned(),
                seen: seen.to_owned(),
            },
            excused_by,
        });
    }
}

/// Why a file is not compared, where it is not. One that is there in one state only differs, however large it is.
fn unread_file<'a>(was: Option<&'a String>, is: Option<&'a String>) -> Option<&'a str> {
    let sides = [was, is].map(|side| side.map_or(ABSENT, String::as_str));
    if sides.contains(&TOO_MANY) {
        return TOO_MANY.strip_prefix(UNREAD);
    }
    if sides.contains(&ABSENT) {
        return None;
    }
    sides.into_iter().find_map(|side| side.strip_prefix(UNREAD))
}

/// In the place of a digest: there is no such path.
pub(super) const ABSENT: &str = "absent";

/// Begins what stands in the place of a digest where something was not read because of its size; the reason follows.
const UNREAD: &str = "unread ";

/// In the place of a digest: the file is there, and is larger than what is read.
pub(super) const TOO_LARGE: &str = "unread (too large)";

/// In the place of a digest: so many files were changed that nobody looked whether this one is there.
pub(super) const TOO_MANY: &str = "unread (one of too many)";

/// Begins the digest of a volume of which the files were not read: names, owners, permissions, sizes and times.
pub(super) const OUTLINE: &str = "outline ";

/// In the place of a digest: the rows of a table with more bytes than `limits.compare`.
pub(super) fn unread_beyond(limit: u64) -> String {
    format!("{UNREAD}(more than {})", bytes(limit))
}

/// True where a digest's place says that something was not read.
pub(super) fn is_unread(digest: &str) -> bool {
    digest.starts_with(UNREAD)
}

#[cfg(test)]
mod tests;
