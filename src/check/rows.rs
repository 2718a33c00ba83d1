//! Whether exact row counts are what they have to be.

use std::collections::BTreeMap;

use super::ladder::{Finding, Rung};
use crate::plan::model::RowCount;

/// Judges exact row counts by the rehearsal's expectations and the source's manifest. A name without a schema stands
/// for the one table of that name.
pub fn judge(
    expected: &BTreeMap<String, RowCount>,
    source: Option<&BTreeMap<String, u64>>,
    seen: &BTreeMap<String, u64>,
) -> Finding {
    if expected.is_empty() && source.is_none() {
        return Finding::skipped(
            Rung::Rows,
            "neither `expect:` nor a `manifest:` of the source says how many rows there have to be",
        );
    }
    let mut wrong = Vec::new();
    for (table, count) in expected {
        let found: Vec<u64> = seen
            .iter()
            .filter(|(name, _)| *name == table || name.rsplit('.').next() == Some(table.as_str()))
            .map(|(_, rows)| *rows)
            .collect();
        match (found.as_slice(), count) {
            ([], _) => wrong.push(format!("there is no table `{table}`")),
            ([rows], RowCount::Exactly(count)) if rows != count => {
                wrong.push(format!("`{table}` has {rows} rows, expected {count}"));
            }
            ([rows], RowCount::AtLeast(count)) if rows < count => {
                wrong.push(format!(
                    "`{table}` has {rows} rows, expected at least {count}"
                ));
            }
            ([_], _) => {}
            (several, _) => wrong.push(format!(
                "`{table}` is the name of {} tables: name its schema",
                several.len()
            )),
        }
    }
    for (table, rows) in source.into_iter().flatten() {
        match seen.get(table) {
            None => wrong.push(format!("the source's table `{table}` is not there")),
            Some(found) if found != rows => {
                wrong.push(format!("`{table}` has {found} rows, the source had {rows}"));
            }
            Some(_) => {}
        }
    }
    if let Some(source) = source {
        for table in seen.keys().filter(|table| !source.contains_key(*table)) {
            wrong.push(format!("the source had no table `{table}`"));
        }
    }
    if wrong.is_empty() {
        let rows: u64 = seen.values().sum();
        return Finding::holds(Rung::Rows, format!("{} tables, {rows} rows", seen.len()));
    }
    Finding::broken(Rung::Rows, wrong.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::ladder::Seen;

    fn counts(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
        pairs
            .iter()
            .map(|(name, rows)| ((*name).to_owned(), *rows))
            .collect()
    }

    #[test]
    fn each_way_to_be_wrong_is_named() {
        let seen = counts(&[("public.invoice", 412), ("public.line", 9), ("old.line", 1)]);
        let expect = |table: &str, count| BTreeMap::from([(table.to_owned(), count)]);
        for (expected, source, word) in [
            (expect("invoice", RowCount::Exactly(412)), None, None),
            (expect("invoice", RowCount::AtLeast(412)), None, None),
            (expect("public.line", RowCount::Exactly(9)), None, None),
            (
                expect("invoice", RowCount::Exactly(413)),
                None,
                Some("expected 413"),
            ),
            (
                expect("invoice", RowCount::AtLeast(413)),
                None,
                Some("at least 413"),
            ),
            (expect("line", RowCount::Exactly(9)), None, Some("2 tables")),
            (
                expect("lines", RowCount::Exactly(9)),
                None,
                Some("no table"),
            ),
            (BTreeMap::new(), Some(seen.clone()), None),
            (
                BTreeMap::new(),
                Some(counts(&[("public.invoice", 412)])),
                Some("had no table"),
            ),
            (
                BTreeMap::new(),
                Some(counts(&[
                    ("public.invoice", 412),
                    ("public.line", 9),
                    ("old.line", 2),
                ])),
                Some("the source had 2"),
            ),
            (
                BTreeMap::new(),
                Some(counts(&[
                    ("public.invoice", 412),
                    ("public.line", 9),
                    ("old.line", 1),
                    ("x", 1),
                ])),
                Some("is not there"),
            ),
        ] {
            let finding = judge(&expected, source.as_ref(), &seen);
            match (word, &finding.seen) {
                (None, Seen::Holds(_)) => {}
                (Some(word), Seen::Broken(reason)) => assert!(reason.contains(word), "{reason}"),
                _ => panic!("{expected:?} {source:?}: {finding:?}"),
            }
        }
    }

    #[test]
    fn nothing_expected_is_nothing_shown() {
        let finding = judge(&BTreeMap::new(), None, &counts(&[("t", 1)]));
        assert!(matches!(finding.seen, Seen::Skipped(_)));
    }
}
