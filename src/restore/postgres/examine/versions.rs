//! Versions: of the server, and of the collations by which it sorted its indexes.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Look;
use crate::check::ladder::Seen;
use crate::event::Owner;
use crate::restore::postgres::dump::SERVER_VERSION;
use crate::restore::postgres::version::major;
use crate::staging::Bad;

/// Compares the server's major version with that of the server that was backed up.
pub(super) fn version(look: &Look<'_>) -> Seen {
    let job = look.subject.job;
    let here = look.version;
    let dumped = job
        .facts
        .dump
        .as_ref()
        .and_then(|dump| dump.server_version.as_deref())
        .or_else(|| look.subject.told.get(SERVER_VERSION).map(String::as_str));
    let source = job.source.map(|source| source.server_version.as_str());
    let known: Vec<&str> = dumped.into_iter().chain(source).collect();
    for text in &known {
        let Some(from) = major(text) else {
            return Seen::Unknown(format!("`{text}` is no version of PostgreSQL"), None);
        };
        if from != here {
            return Seen::Unknown(
                format!(
                    "the backup is of PostgreSQL {from}, and the service runs PostgreSQL {here}"
                ),
                Some(format!(
                    "use PostgreSQL {from} in the stack, as production does: what works on {here} was not shown for {from}"
                )),
            );
        }
    }
    if !known.is_empty() {
        return Seen::Holds(Some(format!("PostgreSQL {here}, as at the source")));
    }
    if job.restore.method.is_physical() {
        return Seen::Holds(Some(format!(
            "PostgreSQL {here}: a server starts on the data folder of its own major version only"
        )));
    }
    Seen::Skipped("the backup does not say which version it is of".to_owned())
}

/// Each collation that sorts something here: provider and name, the version recorded when it was made, the version of
/// the library now. The default of the database has a version since PostgreSQL 15.
const COLLATIONS: &str = r#"
set search_path = pg_catalog;
with used as (
    select unnest(i.indcollation::oid[]) as oid
    from pg_index i join pg_class c on c.oid = i.indrelid
    where c.relnamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace, 'pg_toast'::regnamespace)
    union
    select a.attcollation
    from pg_attribute a join pg_class c on c.oid = a.attrelid
    where a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'p', 'm')
    and c.relnamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace, 'pg_toast'::regnamespace)
)
select json_build_object(
    'provider', c.collprovider::text,
    'name', case when n.nspname = 'pg_catalog' then c.collname else n.nspname || '.' || c.collname end,
    'recorded', c.collversion, 'actual', pg_collation_actual_version(c.oid))
from pg_collation c join pg_namespace n on n.oid = c.collnamespace
where c.oid in (select oid from used) and c.collprovider in ('i', 'c', 'b');
"#;

const DEFAULT: &str = r#"
select json_build_object(
    'provider', d.datlocprovider::text,
    'name', coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale', d.datcollate),
    'recorded', d.datcollversion, 'actual', pg_database_collation_actual_version(d.oid))
from pg_database d where d.datname = current_database();
"#;

#[derive(Debug, Deserialize)]
struct Collation {
    provider: String,
    name: String,
    recorded: Option<String>,
    actual: Option<String>,
}

impl Collation {
    /// As a source manifest names it.
    fn key(&self) -> String {
        let provider = match self.provider.as_str() {
            "i" => "icu",
            "b" => "builtin",
            _ => "libc",
        };
        format!("{provider} {}", self.name)
    }
}

/// Compares the versions of collations: those recorded in the database, and those at the source.
pub(super) async fn collation(look: &Look<'_>) -> Result<Seen, Bad> {
    let job = look.subject.job;
    let physical = job.restore.method.is_physical();
    if !physical && job.source.is_none() {
        return Ok(Seen::Skipped(
            "a dump carries no collation version, and there is no `manifest:` of the source"
                .to_owned(),
        ));
    }
    if !look.version.at_least(10) {
        return Ok(Seen::Skipped(format!(
            "PostgreSQL {} knows no versions of collations",
            look.version
        )));
    }
    let with_default = look.version.at_least(15);
    let query = format!("{COLLATIONS}{}", if with_default { DEFAULT } else { "" });
    let (mut compared, mut differ) = (0, Vec::new());
    for database in &look.databases {
        let here: Vec<Collation> = look.ask.rows(database, &query, Owner::Staging).await?;
        let empty = BTreeMap::new();
        let source = look
            .source_of(database)
            .map_or(&empty, |facts| &facts.collations);
        for collation in &here {
            let Some(actual) = &collation.actual else {
                continue;
            };
            let key = collation.key();
            let recorded = collation.recorded.as_ref().filter(|_| physical);
            for earlier in recorded.into_iter().chain(source.get(&key)) {
                compared += 1;
                if earlier != actual {
                    differ.push(format!("{key} is {actual} here and was {earlier}"));
                }
            }
        }
    }
    differ.dedup();
    if !differ.is_empty() {
        return Ok(Seen::Unknown(
            format!("the collations sort otherwise than at the source: {}", differ.join("; ")),
            Some(
                "use an image with production's C library and ICU: text sorts otherwise here, and restored indexes may \
                 miss rows that are there"
                    .to_owned(),
            ),
        ));
    }
    if compared == 0 {
        let reason = if with_default {
            "no collation in use has a version on both sides"
        } else {
            "the default collation has a version only since PostgreSQL 15, and no other collation is in use"
        };
        return Ok(Seen::Skipped(reason.to_owned()));
    }
    Ok(Seen::Holds(Some(format!(
        "{} as at the source",
        super::counted(compared, "collation version", "collation versions")
    ))))
}
