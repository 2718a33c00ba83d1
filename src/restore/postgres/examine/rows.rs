//! Exact row counts, and sequences beside the columns that they feed.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Breaches, Look, counted};
use crate::check::ladder::{Finding, Rung, Seen};
use crate::check::rows::judge;
use crate::check::source::{DatabaseFacts, Paired};
use crate::event::Owner;
use crate::plan::model::RowCount;
use crate::staging::Bad;

/// The exact number of rows of each table; `\gexec` runs each row of the query as a statement.
const COUNT: &str = r"
select format('select json_build_array(%L, count(*), %L) from %I.%I',
    n.nspname || '.' || c.relname, c.relpersistence, n.nspname, c.relname)
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and n.nspname not in ('pg_catalog', 'information_schema')
and n.nspname !~ '^pg_(toast|temp)'
order by n.nspname, c.relname
\gexec
";

/// Counts all rows, and judges the counts.
pub(super) async fn rows(look: &Look<'_>) -> Result<Seen, Bad> {
    let job = look.subject.job;
    let physical = job.restore.method.is_physical();
    let mut all: Vec<(&str, String, u64)> = Vec::new();
    let mut breaches = Breaches::new(look);
    for database in &look.databases {
        let counted: Vec<(String, u64, String)> =
            look.ask.rows(database, COUNT, Owner::Backup).await?;
        // A base backup leaves unlogged tables empty, as a crash does: that is no loss of this backup.
        let unlogged: Vec<&str> = counted
            .iter()
            .filter(|(_, _, persistence)| physical && persistence == "u")
            .map(|(table, _, _)| table.as_str())
            .collect();
        let seen: BTreeMap<String, u64> = counted
            .iter()
            .filter(|(table, _, _)| !unlogged.contains(&table.as_str()))
            .map(|(table, rows, _)| (table.clone(), *rows))
            .collect();
        if let Some(facts) = look.source_of(database) {
            let mut tables = facts.tables.clone();
            tables.retain(|table, _| !unlogged.contains(&table.as_str()));
            let finding = judge(&BTreeMap::new(), Some(&tables), &seen);
            if let Seen::Broken(reason) = finding.seen {
                breaches.add(database, reason);
            }
        }
        all.extend(
            seen.into_iter()
                .map(|(table, rows)| (database.as_str(), table, rows)),
        );
    }
    let all = named(&all, &job.restore.demands.rows);
    let paired = look.paired.as_ref();
    for database in paired.into_iter().flat_map(Paired::missing) {
        breaches.add(database, "the source's database is not there");
    }
    let Finding { seen, .. } = expected(&job.restore.demands.rows, job.source.is_some(), &all);
    let unclear = paired.and_then(Paired::unclear);
    let renamed = paired.and_then(Paired::renamed);
    match (breaches.found.is_empty(), seen) {
        (true, Seen::Broken(reason)) => Ok(Seen::Broken(reason)),
        (true, seen) => Ok(match (unclear, renamed, seen) {
            (Some((reason, help)), _, _) => Seen::Unknown(reason, Some(help)),
            (None, Some(renamed), Seen::Holds(Some(figure))) => {
                Seen::Holds(Some(format!("{figure}; {renamed}")))
            }
            (None, _, seen) => seen,
        }),
        (false, Seen::Broken(reason)) => {
            breaches.found.insert(0, reason);
            Ok(breaches.seen(""))
        }
        (false, _) => Ok(breaches.seen("")),
    }
}

/// The tables of several databases by one name each: with the database before it where two have the same, or where the
/// rehearsal names it so.
fn named(
    all: &[(&str, String, u64)],
    expected: &BTreeMap<String, RowCount>,
) -> BTreeMap<String, u64> {
    all.iter()
        .map(|(database, table, rows)| {
            let full = format!("{database}/{table}");
            let same = all.iter().filter(|(_, other, _)| other == table).count();
            let name = if same > 1 || expected.contains_key(&full) {
                full
            } else {
                table.clone()
            };
            (name, *rows)
        })
        .collect()
}

/// By the rehearsal's expectations; the source's were judged database by database.
fn expected(
    rows: &BTreeMap<String, RowCount>,
    source: bool,
    seen: &BTreeMap<String, u64>,
) -> Finding {
    let same = source.then_some(seen);
    if source && seen.is_empty() {
        return Finding::skipped(Rung::Rows, "there is no table");
    }
    judge(rows, same, seen)
}

/// Each sequence beside each column of numbers that it feeds, by its ownership or the column's default: what comes next
/// out of it, by how much it steps, and the largest (or, where it runs down, the smallest) value of the column.
const SEQUENCES: &str = r"
set search_path = pg_catalog;
with fed as (
    select d.objid as sequence, d.refobjid as relation, d.refobjsubid as attribute
    from pg_depend d join pg_class s on s.oid = d.objid and s.relkind = 'S'
    where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass
    and d.deptype in ('a', 'i') and d.refobjsubid > 0
    union
    select d.refobjid, a.adrelid, a.adnum
    from pg_depend d
    join pg_attrdef a on a.oid = d.objid
    join pg_class s on s.oid = d.refobjid and s.relkind = 'S'
    where d.classid = 'pg_attrdef'::regclass and d.refclassid = 'pg_class'::regclass
)
select format(
    'select json_build_object(%L, %L, %L, %L, %L, case when q.is_called then q.last_value::numeric + %s else q.last_value::numeric end, %L, %s, %L, (select %s(%I)::numeric from %s)) from %s q',
    'sequence', n.nspname || '.' || s.relname,
    'column', tn.nspname || '.' || t.relname || '.' || a.attname,
    'next', p.seqincrement, 'step', p.seqincrement,
    'limit', case when p.seqincrement > 0 then 'max' else 'min' end, a.attname, t.oid::regclass, s.oid::regclass)
from fed
join pg_class s on s.oid = fed.sequence
join pg_namespace n on n.oid = s.relnamespace
join pg_sequence p on p.seqrelid = s.oid
join pg_class t on t.oid = fed.relation and t.relkind in ('r', 'p')
join pg_namespace tn on tn.oid = t.relnamespace
join pg_attribute a on a.attrelid = t.oid and a.attnum = fed.attribute
where not p.seqcycle and a.atttypid in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype)
order by 1
\gexec
";

/// Every sequence's last value, as a source manifest has it.
const LAST: &str = "select json_build_array(schemaname || '.' || sequencename, last_value, increment_by) \
     from pg_catalog.pg_sequences;";

#[derive(Debug, Deserialize)]
struct Fed {
    sequence: String,
    column: String,
    next: serde_json::Number,
    step: serde_json::Number,
    limit: Option<serde_json::Number>,
}

impl Fed {
    /// How the next value stands to what is there: a sentence where it was given out already.
    fn breach(&self) -> Result<Option<String>, Bad> {
        let whole = |number: &serde_json::Number| {
            number.to_string().parse::<f64>().map_err(|_| {
                Bad::new(
                    Owner::Staging,
                    format!("`{number}` of sequence {} is no number", self.sequence),
                )
            })
        };
        let exact = |number: &serde_json::Number| number.to_string().parse::<i128>().ok();
        let Some(limit) = &self.limit else {
            return Ok(None);
        };
        let up = whole(&self.step)? > 0.0;
        let behind = match (exact(&self.next), exact(limit)) {
            (Some(next), Some(limit)) if up => next <= limit,
            (Some(next), Some(limit)) => next >= limit,
            // A column of type numeric may hold fractions.
            _ if up => whole(&self.next)? <= whole(limit)?,
            _ => whole(&self.next)? >= whole(limit)?,
        };
        Ok(behind.then(|| {
            format!(
                "the next value of {} is {}, and {} has {limit} already",
                self.sequence, self.next, self.column
            )
        }))
    }
}

/// Checks that no sequence gives out a value that its column has.
pub(super) async fn sequences(look: &Look<'_>) -> Result<Seen, Bad> {
    if !look.version.at_least(10) {
        return Ok(Seen::Skipped(format!(
            "the catalog of PostgreSQL {} does not describe sequences",
            look.version
        )));
    }
    let mut breaches = Breaches::new(look);
    let (mut looked, mut compared, mut same) = (0, 0, 0);
    for database in &look.databases {
        let empty = DatabaseFacts::default();
        let source = look.source_of(database).unwrap_or(&empty);
        let last: Vec<(String, Option<i64>, i64)> =
            look.ask.rows(database, LAST, Owner::Backup).await?;
        let last: BTreeMap<String, (Option<i64>, i64)> = last
            .into_iter()
            .map(|(name, last, step)| (name, (last, step)))
            .collect();
        for (name, then) in &source.sequences {
            compared += 1;
            let breach = match (last.get(name), then) {
                (None, _) => Some(format!("the source's sequence {name} is not there")),
                (Some((Some(now), step)), Some(then)) if (now - then) * step.signum() < 0 => {
                    Some(format!("{name} is at {now}, and the source was at {then}"))
                }
                (Some((None, _)), Some(then)) => Some(format!(
                    "{name} was never used, and the source was at {then}"
                )),
                (Some(_), _) => None,
            };
            if let Some(breach) = breach {
                breaches.add(database, breach);
            }
        }
        let fed: Vec<Fed> = look.ask.rows(database, SEQUENCES, Owner::Backup).await?;
        looked += fed.len();
        for fed in &fed {
            let Some(breach) = fed.breach()? else {
                continue;
            };
            // Where the source itself gives out values that are there, the backup has kept that faithfully.
            let now = last.get(&fed.sequence).map(|(last, _)| *last);
            if now.is_some() && source.sequences.get(&fed.sequence).copied() == now {
                same += 1;
            } else {
                breaches.add(database, breach);
            }
        }
    }
    if looked == 0 && compared == 0 {
        return Ok(Seen::Skipped("no sequence feeds a column".to_owned()));
    }
    let mut figure = counted(
        looked,
        "column fed by a sequence",
        "columns fed by sequences",
    );
    if compared > 0 {
        figure = format!("{figure}, {compared} last values not behind the source's");
    }
    if same > 0 {
        figure = format!("{figure}; {same} behind their columns at the source too");
    }
    Ok(breaches.seen(figure))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_two_databases_are_told_apart() {
        let all = [
            ("a", "public.t".to_owned(), 1),
            ("b", "public.t".to_owned(), 2),
            ("b", "public.u".to_owned(), 3),
            ("b", "public.v".to_owned(), 4),
        ];
        let expected = BTreeMap::from([("b/public.u".to_owned(), RowCount::Exactly(3))]);
        let named = named(&all, &expected);
        let names: Vec<&str> = named.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            ["a/public.t", "b/public.t", "b/public.u", "public.v"]
        );
    }

    #[test]
    fn a_sequence_is_behind_when_it_would_give_out_what_is_there() {
        for (next, step, limit, behind) in [
            ("413", "1", "412", false),
            ("412", "1", "412", true),
            ("1", "1", "412", true),
            ("1", "1", "null", false),
            ("20", "10", "15", false),
            ("-5", "-1", "-4", false),
            ("-4", "-1", "-4", true),
            ("9223372036854775808", "1", "9223372036854775807", false),
            ("10", "1", "9.5", false),
            ("10", "1", "10.5", true),
        ] {
            let text = format!(
                r#"{{"sequence":"public.s","column":"public.t.id","next":{next},"step":{step},"limit":{limit}}}"#
            );
            let fed: Fed = serde_json::from_str(&text).expect("JSON");
            let breach = fed.breach().expect("numbers");
            assert_eq!(breach.is_some(), behind, "{text}: {breach:?}");
        }
    }
}
