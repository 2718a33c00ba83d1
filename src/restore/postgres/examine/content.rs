//! Reading everything, checking every index, and writing.

use super::{Look, counted};
use crate::check::ladder::Seen;
use crate::event::Owner;
use crate::restore::Trouble;
use crate::staging::Bad;

/// Reads every row of every table, as `pg_dump` does.
pub(super) async fn readable(look: &Look<'_>) -> Result<Seen, Bad> {
    let tool = look.ask.tool;
    for database in &look.databases {
        let command = [
            "pg_dump",
            "-w",
            "-U",
            look.ask.user,
            "-f",
            "/dev/null",
            "-d",
            database,
        ];
        let outcome = tool.run(&command).await?;
        if outcome.exit_code != 0 {
            let bad = tool.failed("pg_dump", &outcome, Owner::Backup);
            // It tells in a second line what the server said.
            let server = outcome
                .stderr
                .lines()
                .find_map(|line| line.split_once("rror message from server: "));
            return Err(match server {
                Some((_, said)) => Bad {
                    reason: format!("{} ({said})", bad.reason),
                    ..bad
                },
                None => bad,
            });
        }
    }
    Ok(Seen::Holds(Some(format!(
        "{} read from end to end",
        counted(look.databases.len(), "database", "databases")
    ))))
}

/// Where the functions of `amcheck` are put on the branch.
const SCHEMA: &str = "rehearse_amcheck";

/// `pg_amcheck` ends with this when it found something.
const CORRUPT: i64 = 2;

/// Checks that tables and B-tree indexes are in order and agree.
pub(super) async fn indexes(look: &Look<'_>) -> Result<Seen, Bad> {
    const AVAILABLE: &str =
        "select count(*) from pg_catalog.pg_available_extensions where name = 'amcheck'";
    const INDEXES: &str = "select json_build_array(count(*) filter (where i.indisvalid), count(*) filter (where not i.indisvalid)) \
         from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid \
         join pg_catalog.pg_am a on a.oid = c.relam \
         join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
         where a.amname = 'btree' and c.relkind = 'i' \
         and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')";
    let (mut valid, mut invalid) = (0, 0);
    for database in &look.databases {
        let available: Vec<u64> = look.ask.rows(database, AVAILABLE, Owner::Staging).await?;
        if available.iter().sum::<u64>() == 0 {
            return Ok(Seen::Skipped(
                "the extension amcheck is not in the service's image".to_owned(),
            ));
        }
        let counts: Vec<(usize, usize)> = look.ask.rows(database, INDEXES, Owner::Staging).await?;
        for (good, bad) in counts {
            valid += good;
            invalid += bad;
        }
    }
    let mut broken = Vec::new();
    for database in &look.databases {
        broken.extend(of_database(look, database).await?);
    }
    if let Some(first) = broken.first() {
        let more = match broken.len() {
            1 => String::new(),
            n => format!(" (and {} more)", n - 1),
        };
        return Ok(Seen::Broken(format!("{first}{more}")));
    }
    let mut figure = counted(valid, "B-tree index", "B-tree indexes");
    if invalid > 0 {
        figure = format!("{figure}; {invalid} not valid, as at the source");
    }
    Ok(Seen::Holds(Some(figure)))
}

/// What is wrong with the tables and indexes of one database.
async fn of_database(look: &Look<'_>, database: &str) -> Result<Vec<String>, Bad> {
    let (tool, user) = (look.ask.tool, look.ask.user);
    let make = format!("create schema if not exists {SCHEMA}");
    let command = look.ask.command(database, &make);
    tool.must(&command, Owner::Staging).await?;
    if !look.version.at_least(14) {
        return by_sql(look, database).await;
    }
    let install = format!("--install-missing={SCHEMA}");
    // The one tool that does not lift this limit of newer versions itself.
    let (name, mut options) = crate::restore::postgres::ask::options(None);
    if look.version.at_least(17) {
        options.push_str(" -c transaction_timeout=0");
    }
    let options = format!("{name}={options}");
    let command = [
        "env",
        &options,
        "pg_amcheck",
        "-w",
        "-U",
        user,
        "--heapallindexed",
        "--parent-check",
        &install,
        "-d",
        database,
    ];
    let outcome = tool.run(&command).await?;
    match outcome.exit_code {
        0 => Ok(Vec::new()),
        CORRUPT => Ok(corrupt(&outcome.stdout)),
        // An older image has the extension without the program.
        _ if Trouble::of(&outcome) == Some(Trouble::NoTool) => by_sql(look, database).await,
        // It could not be run: that says nothing of the indexes.
        _ => Err(tool.failed("pg_amcheck", &outcome, Owner::Staging)),
    }
}

/// What `pg_amcheck` found: each finding is a line with the relation, and lines below it that say what is wrong.
fn corrupt(stdout: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in stdout.lines().filter(|line| !line.trim().is_empty()) {
        match found.last_mut() {
            Some(last) if line.starts_with(' ') => {
                if !last.contains(": ERROR") {
                    *last = format!("{} {}", last.trim_end(), line.trim());
                }
            }
            _ => found.push(line.trim().to_owned()),
        }
    }
    if found.is_empty() {
        found.push("pg_amcheck found corruption and did not say where".to_owned());
    }
    found
}

/// Each B-tree index by the extension's own function, for servers from before `pg_amcheck`.
async fn by_sql(look: &Look<'_>, database: &str) -> Result<Vec<String>, Bad> {
    let arguments = if look.version.at_least(11) {
        "c.oid, true"
    } else {
        "c.oid"
    };
    let make = format!("create extension if not exists amcheck schema {SCHEMA};");
    look.ask
        .rows::<serde_json::Value>(database, &make, Owner::Staging)
        .await?;
    const WHERE: &str = "select to_json(n.nspname::text) from pg_catalog.pg_extension e \
         join pg_catalog.pg_namespace n on n.oid = e.extnamespace where e.extname = 'amcheck'";
    let schema: Vec<String> = look.ask.rows(database, WHERE, Owner::Staging).await?;
    let schema = schema
        .first()
        .map_or(SCHEMA, String::as_str)
        .replace('"', "\"\"");
    let check = format!(
        "select count(*) from (select \"{schema}\".bt_index_parent_check({arguments}) \
         from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid \
         join pg_catalog.pg_am a on a.oid = c.relam where a.amname = 'btree' and c.relkind = 'i' \
         and i.indisready and i.indisvalid and c.relpersistence <> 't' offset 0) checked;"
    );
    // It runs functions of index expressions, which may count on the database's path.
    let checked = look
        .ask
        .rows_in_its_path::<u64>(database, &check, Owner::Backup);
    match checked.await {
        Ok(_) => Ok(Vec::new()),
        Err(bad) if bad.owner == Owner::Backup => Ok(vec![bad.reason]),
        Err(bad) => Err(bad),
    }
}

/// Makes a table, writes, reads back, forces everything to disk and drops it again.
const WRITE: &str = r"
begin;
create schema rehearse_writes;
create table rehearse_writes.probe (id integer primary key, word text not null);
insert into rehearse_writes.probe select i, 'before' from generate_series(1, 100) i;
update rehearse_writes.probe set word = 'after' where id % 2 = 0;
commit;
checkpoint;
select json_build_array(count(*), count(*) filter (where word = 'after')) from rehearse_writes.probe;
drop schema rehearse_writes cascade;
";

/// Writes to each database.
pub(super) async fn writes(look: &Look<'_>) -> Result<Seen, Bad> {
    for database in &look.databases {
        let read: Vec<(u64, u64)> = look.ask.rows(database, WRITE, Owner::Backup).await?;
        if read != [(100, 50)] {
            return Ok(Seen::Broken(format!(
                "{database}: 100 rows were written and 50 of them changed, and {read:?} were read back"
            )));
        }
    }
    Ok(Seen::Holds(Some(
        "a table was made, filled, changed, read back and dropped".to_owned(),
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pg_amcheck_found_is_quoted() {
        let said = "btree index \"site.public.goods_pkey\":\n    ERROR:  item order invariant violated for index \"goods_pkey\"\n    DETAIL:  Lower index tid=(1,2)\nheap table \"site.public.goods\", block 3, offset 1:\n    xmin 4 precedes relation freeze threshold 0:100\n";
        assert_eq!(
            corrupt(said),
            [
                "btree index \"site.public.goods_pkey\": ERROR:  item order invariant violated for index \"goods_pkey\"",
                "heap table \"site.public.goods\", block 3, offset 1: xmin 4 precedes relation freeze threshold 0:100"
            ]
        );
        assert_eq!(corrupt("").len(), 1, "an exit code of 2 is never passed");
    }
}
