//! Judges a result set.

use std::time::Duration;

use super::findings::Findings;
use super::model::{Observation, SqlExpect};
use super::show;

type Row = Vec<Option<String>>;

/// Rows, their number, time, baseline.
pub(super) fn judge(
    expect: &SqlExpect,
    observation: &Observation,
    elapsed: Duration,
    baseline: Option<&Observation>,
    findings: &mut Findings,
) {
    let Observation::Sql { columns, rows } = observation else {
        return findings.wrong_kind("sql", observation);
    };
    if let Some(wanted) = &expect.rows {
        compare("", wanted, rows, findings);
    }
    if let Some(wanted) = expect.row_count
        && wanted != rows.len() as u64
    {
        findings.differs("row count", wanted.to_string(), rows.len().to_string());
    }
    findings.within(expect.within, elapsed);
    if expect.same_as_baseline {
        match baseline {
            None => findings.no_baseline(),
            Some(Observation::Sql {
                columns: then,
                rows: before,
            }) => {
                if then != columns {
                    findings.differs(
                        "columns",
                        format!("as in the baseline: {}", names(then)),
                        names(columns),
                    );
                }
                compare("as in the baseline: ", before, rows, findings);
            }
            Some(other) => findings.wrong_kind("sql", other),
        }
    }
}

/// One mismatch for the whole table: the first row that differs, and both lengths where those differ.
fn compare(prefix: &str, wanted: &[Row], seen: &[Row], findings: &mut Findings) {
    if wanted == seen {
        return;
    }
    let at = wanted
        .iter()
        .zip(seen)
        .position(|(wanted, seen)| wanted != seen)
        .unwrap_or_else(|| wanted.len().min(seen.len()));
    let mut hint = "";
    if wanted.len() == seen.len() {
        let (mut a, mut b): (Vec<_>, Vec<_>) = (wanted.iter().collect(), seen.iter().collect());
        a.sort();
        b.sort();
        if a == b {
            hint = " (the same rows in another order: give the query an `order by`)";
        }
    }
    findings.differs(
        "rows",
        format!("{prefix}{}", describe(wanted, at)),
        format!("{}{hint}", describe(seen, at)),
    );
}

fn describe(rows: &[Row], at: usize) -> String {
    let Some(row) = rows.get(at) else {
        return match rows.len() {
            0 => "no rows".to_owned(),
            1 => "1 row".to_owned(),
            many => format!("{many} rows"),
        };
    };
    let values: Vec<String> = row.iter().map(value).collect();
    let mut line: String = values.join(" | ").chars().take(200).collect();
    if line.len() < values.join(" | ").len() {
        line.push('…');
    }
    match rows.len() {
        1 => line,
        many => format!("{many} rows, row {}: {line}", at + 1),
    }
}

/// NULL is not the text `NULL`, and an empty text is not nothing.
fn value(value: &Option<String>) -> String {
    match value.as_deref() {
        None => "NULL".to_owned(),
        Some(text) if text.is_empty() || text.eq_ignore_ascii_case("null") => format!("\"{text}\""),
        Some(text) => show::visible(text),
    }
}

fn names(columns: &[String]) -> String {
    show::line(&columns.join(", "))
}
