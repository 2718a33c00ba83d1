//! Foreign keys, looked at row by row, and the rehearsal's invariants.
//!
//! A foreign key that the catalog calls valid was checked when it was made; rows that came in while triggers were off,
//! or that a broken disk changed, were not.

use serde::Deserialize;

use super::{Breaches, Look, counted};
use crate::check::ladder::Seen;
use crate::event::Owner;
use crate::plan::model::Invariant;
use crate::restore::postgres::cluster::asked;
use crate::staging::Bad;

/// For each foreign key that is valid, how many rows refer to one that is not there. Operators are the key's own; a key
/// with several columns, of which one is null, refers to nothing (`MATCH SIMPLE`) or is a breach (`MATCH FULL`). Keys of
/// partitions are part of the partitioned table's. What newer versions have besides is read through `to_jsonb`.
const KEYS: &str = r"
set search_path = pg_catalog;
with keys as (
    select c.oid, c.conname, c.conrelid, c.confrelid, c.confmatchtype, c.conkey, c.confkey, c.conpfeqop,
        n.nspname || '.' || t.relname as name,
        case when t.relkind = 'p' then '' else 'only ' end as only_from,
        case when r.relkind = 'p' then '' else 'only ' end as only_to,
        coalesce((to_jsonb(c)->>'conparentid')::bigint, 0) as parent,
        c.convalidated and coalesce((to_jsonb(c)->>'conenforced')::boolean, true)
            and not coalesce((to_jsonb(c)->>'conperiod')::boolean, false) as checked
    from pg_constraint c
    join pg_class t on t.oid = c.conrelid
    join pg_class r on r.oid = c.confrelid
    join pg_namespace n on n.oid = t.relnamespace
    where c.contype = 'f'
), pairs as (
    select k.oid,
        string_agg(format('p.%I operator(%I.%s) f.%I', pa.attname, opn.nspname, op.oprname, fa.attname), ' and ' order by u.place) as equal,
        string_agg(format('f.%I is not null', fa.attname),
            case when k.confmatchtype = 'f' then ' or ' else ' and ' end order by u.place) as refers
    from keys k
    cross join lateral unnest(k.conkey, k.confkey, k.conpfeqop) with ordinality as u(f, p, op, place)
    join pg_attribute fa on fa.attrelid = k.conrelid and fa.attnum = u.f
    join pg_attribute pa on pa.attrelid = k.confrelid and pa.attnum = u.p
    join pg_operator op on op.oid = u.op
    join pg_namespace opn on opn.oid = op.oprnamespace
    group by k.oid, k.confmatchtype
)
select case when k.checked then format(
    'select json_build_object(''key'', %L, ''checked'', true, ''orphans'', count(*)) from %s%s f where (%s) and not exists (select from %s%s p where %s)',
    k.conname || ' of ' || k.name, k.only_from, k.conrelid::regclass, pairs.refers,
    k.only_to, k.confrelid::regclass, pairs.equal)
else format('select json_build_object(''key'', %L, ''checked'', false, ''orphans'', 0)', k.conname || ' of ' || k.name) end
from keys k join pairs on pairs.oid = k.oid
where k.parent = 0
order by k.name, k.conname
\gexec
";

#[derive(Debug, Deserialize)]
struct Key {
    key: String,
    checked: bool,
    orphans: u64,
}

/// Looks for each row of each foreign key, and asks each invariant.
pub(super) async fn constraints(look: &Look<'_>) -> Result<Seen, Bad> {
    let restore = look.subject.job.restore;
    let invariants = &restore.demands.invariants;
    let mut breaches = Breaches::new(look);
    let (mut checked, mut unchecked) = (0, Vec::new());
    for database in &look.databases {
        let keys: Vec<Key> = look.ask.rows(database, KEYS, Owner::Backup).await?;
        for key in keys {
            if !key.checked {
                unchecked.push(key.key);
                continue;
            }
            checked += 1;
            if key.orphans > 0 {
                let rows = counted(
                    usize::try_from(key.orphans).unwrap_or(usize::MAX),
                    "row refers to one that is not there",
                    "rows refer to ones that are not there",
                );
                breaches.add(database, format!("{}: {rows}", key.key));
            }
        }
    }
    if !invariants.is_empty() {
        let database = asked(restore, &look.databases)?;
        for invariant in invariants {
            if let Some(breach) = breach(look, database, invariant).await? {
                breaches.add(database, breach);
            }
        }
    }
    if checked == 0 && invariants.is_empty() {
        let mut reason =
            "there is no valid foreign key, and the rehearsal says no `invariants:`".to_owned();
        if !unchecked.is_empty() {
            reason = format!("{reason}; not valid: {}", unchecked.join(", "));
        }
        return Ok(Seen::Skipped(reason));
    }
    let mut figure = format!(
        "{}, {}",
        counted(checked, "foreign key", "foreign keys"),
        counted(invariants.len(), "invariant", "invariants")
    );
    if !unchecked.is_empty() {
        figure = format!(
            "{figure}; not valid, as at the source: {}",
            unchecked.join(", ")
        );
    }
    Ok(breaches.seen(figure))
}

/// What an invariant's query found, where it found anything.
async fn breach(
    look: &Look<'_>,
    database: &str,
    invariant: &Invariant,
) -> Result<Option<String>, Bad> {
    let query = invariant.query.trim().trim_end_matches(';');
    let query = format!(
        "select json_build_array(count(*) over (), breach::text) from (\n{query}\n) as breach limit 3;"
    );
    let rows: Vec<(u64, Option<String>)> = look
        .ask
        .rows_in_its_path(database, &query, Owner::Staging)
        .await
        .map_err(|bad| {
            let reason = format!(
                "the invariant `{}` cannot be asked: {}",
                invariant.name, bad.reason
            );
            Bad { reason, ..bad }
                .with_help("it has to be one select, each row of which is a breach")
        })?;
    let Some((all, _)) = rows.first() else {
        return Ok(None);
    };
    let first: Vec<String> = rows
        .iter()
        .map(|(_, row)| row.as_deref().unwrap_or("()").chars().take(200).collect())
        .collect();
    Ok(Some(format!(
        "`{}` gives {}: {}",
        invariant.name,
        counted(usize::try_from(*all).unwrap_or(usize::MAX), "row", "rows"),
        first.join(", ")
    )))
}
