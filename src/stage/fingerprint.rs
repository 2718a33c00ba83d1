//! What a snapshot looks like, so that a rollback can be compared with it instead of believed.
//!
//! A restored database is described by its schema, the exact number of rows of each table that is not large, and its
//! sequences; a volume of files by a digest over names, owners, permissions and contents. The data volume of a database,
//! and a volume of many bytes, by an outline: names, owners, permissions, sizes and times, taken while nothing writes.
//!
//! No fingerprint may cost what the data weighs. To read a table is to copy it: PostgreSQL opens its files for writing,
//! and that is when overlay copies a file up from a frozen layer.

use std::collections::BTreeMap;

use super::Bad;
use super::database::ask_all;
use super::run::Run;
use crate::agent::protocol::Fingerprint;
use crate::engine::{Attach, ContainerSpec, VolumeAt};
use crate::event::Owner;
use crate::plan::model::{Family, Restore};
use crate::staging::{Generation, Staging};
use crate::state::{Branch, agent};

/// The schema as `pg_dump` writes it, without the token that it makes up anew each time (PostgreSQL 15.14 and later),
/// then the exact row count of each table up to a size (`pg_relation_size` asks the file system and opens nothing; a
/// partitioned table is its partitions), and the last value of each sequence. `\gexec` runs each row of the query as a
/// statement.
const DESCRIBE: &str = r#"set -e
pg_dump -w -U "$1" -d "$2" --schema-only | grep -v -e '^\\restrict ' -e '^\\unrestrict ' -e '^-- Dumped '
psql -X -A -t -q -w -v ON_ERROR_STOP=1 -v most="$3" -U "$1" -d "$2" <<'SQL'
select case when pg_catalog.pg_relation_size(c.oid) <= :most
    then format('select %L, count(*) from %I.%I', nspname || '.' || relname, nspname, relname)
    else format('select %L, %L', nspname || '.' || relname, 'large') end
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = relnamespace
where relkind = 'r' and nspname not in ('pg_catalog', 'information_schema') and nspname !~ '^pg_(toast|temp)'
order by nspname, relname
\gexec
select 'sequence ' || schemaname || '.' || sequencename, coalesce(last_value::text, 'unused')
from pg_catalog.pg_sequences
order by schemaname, sequencename;
SQL
"#;

/// Begins the name of a volume's part.
const VOLUME: &str = "volume ";

/// Rows of a larger table are not counted: 64 MiB, which is read in a moment.
const COUNTED: u64 = 64 << 20;

/// Of a volume with more bytes the files are not read: 1 GiB, a few seconds.
const READ: u64 = 1 << 30;

/// The volumes of a generation, each with how many bytes of its files may be read: none of a restored database's.
fn volumes<'a>(run: &Run, generation: &'a Generation) -> Vec<(&'a str, &'a Branch, u64)> {
    let of_databases = of_database_services(run, generation);
    let archives: Vec<&str> = run
        .order
        .plan
        .restores
        .iter()
        .filter_map(Restore::volume)
        .collect();
    generation
        .branches
        .iter()
        .map(|(name, branch)| {
            let files = archives.contains(&name.as_str()) || !of_databases.contains(name);
            (name.as_str(), branch, if files { READ } else { 0 })
        })
        .collect()
}

/// True for `volume x` where that is the data volume of a restored database.
pub(super) fn is_of_database(run: &Run, generation: &Generation, volume: &str) -> bool {
    let volume = volume.strip_prefix(VOLUME).unwrap_or(volume);
    of_database_services(run, generation)
        .iter()
        .any(|name| name == volume)
}

fn of_database_services(run: &Run, generation: &Generation) -> Vec<String> {
    let databases: Vec<&str> = database_services(run);
    generation
        .services
        .iter()
        .filter(|running| databases.contains(&running.blueprint.service.name.as_str()))
        .flat_map(|running| {
            running
                .blueprint
                .service
                .volumes_with(&running.blueprint.facts)
        })
        .map(|(name, _)| name)
        .collect()
}

fn database_services(run: &Run) -> Vec<&str> {
    run.order
        .plan
        .restores
        .iter()
        .filter(|restore| matches!(restore.method.family(), Family::Postgres | Family::Mariadb))
        .filter_map(Restore::service)
        .collect()
}

/// Digests the volumes of a generation, at a moment when nothing writes to them.
pub(super) async fn of_volumes(
    run: &Run,
    staging: &Staging,
    generation: &Generation,
) -> Result<BTreeMap<String, String>, Bad> {
    let volumes = volumes(run, generation);
    if volumes.is_empty() {
        return Ok(BTreeMap::new());
    }
    let ground = &staging.ground;
    let name = ground.names.of(&format!("fingerprint-{}", generation.name));
    let mut spec = ContainerSpec::new(name, &staging.agent_image, Attach::None);
    let mut command = agent(&["fingerprint"]);
    for (index, (_, branch, most)) in volumes.iter().enumerate() {
        let target = format!("/v/{index}");
        command.extend([most.to_string(), target.clone()]);
        spec.volumes.push(VolumeAt {
            volume: branch.volume.clone(),
            target,
            read_only: true,
        });
    }
    spec.command = Some(command);
    let output = ground.engine.run_once(&spec, &ground.labels).await?;
    let mut parts = BTreeMap::new();
    for ((volume, ..), line) in volumes.iter().zip(output.lines()) {
        let result: Result<Fingerprint, String> =
            serde_json::from_str(line).map_err(|error| unreadable(volume, &error.to_string()))?;
        let fingerprint = result.map_err(|error| unreadable(volume, &error))?;
        parts.insert(format!("{VOLUME}{volume}"), fingerprint.digest);
    }
    if parts.len() != volumes.len() {
        return Err(unreadable(
            "all volumes",
            "the helper answered for fewer volumes",
        ));
    }
    Ok(parts)
}

/// True for a part that [`of_volumes`] tells.
pub(super) fn is_of_files(part: &str) -> bool {
    part.starts_with(VOLUME)
}

fn unreadable(whose: &str, error: &str) -> Bad {
    Bad::new(
        Owner::Engine,
        format!("cannot take the fingerprint of {whose}: {error}"),
    )
}

/// Describes the restored databases of a generation that runs.
pub(super) async fn of_databases(
    run: &Run,
    generation: &Generation,
) -> Result<BTreeMap<String, String>, Bad> {
    let most = COUNTED.to_string();
    let command = |user: &str, database: &str| {
        ["sh", "-c", DESCRIBE, "sh", user, database, &most]
            .map(str::to_owned)
            .to_vec()
    };
    let mut parts = BTreeMap::new();
    for (name, lines) in ask_all(run, generation, "schema and row counts", command).await? {
        let counts = lines
            .iter()
            .rposition(|line| line.starts_with("--") || line.ends_with(';'))
            .map_or(0, |last_of_schema| last_of_schema + 1);
        let (schema, rows) = lines.split_at(counts);
        parts.insert(
            format!("schema of {name}"),
            crate::digest::sha256(schema.join("\n")),
        );
        let rows: Vec<&String> = rows.iter().filter(|line| !line.is_empty()).collect();
        // A cluster may have a database without a table.
        if rows.is_empty() && schema.iter().any(|line| line.starts_with("CREATE TABLE ")) {
            return Err(unreadable(&name, "no table was counted"));
        }
        for row in rows {
            let Some((table, count)) = row.rsplit_once('|') else {
                return Err(unreadable(&name, &format!("`{row}` is not a row count")));
            };
            parts.insert(format!("rows of {name} {table}"), count.to_owned());
        }
    }
    Ok(parts)
}
