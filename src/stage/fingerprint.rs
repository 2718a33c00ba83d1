//! What a snapshot looks like, so that a rollback can be compared with it instead of believed.
//!
//! A restored database is described by its schema and the exact number of rows of each table; a volume of files by
//! a digest over names, owners, permissions and contents. A database's own data volume is not digested: a running
//! server writes to it.

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
/// then the exact row count of each table and the last value of each sequence. `\gexec` runs each row of the query as a statement.
const DESCRIBE: &str = r#"set -e
pg_dump -w -U "$1" -d "$2" --schema-only | grep -v -e '^\\restrict ' -e '^\\unrestrict ' -e '^-- Dumped '
psql -X -A -t -q -w -v ON_ERROR_STOP=1 -U "$1" -d "$2" <<'SQL'
select format('select %L, count(*) from %I.%I', schemaname || '.' || tablename, schemaname, tablename)
from pg_catalog.pg_tables
where schemaname not in ('pg_catalog', 'information_schema')
order by schemaname, tablename
\gexec
select 'sequence ' || schemaname || '.' || sequencename, coalesce(last_value::text, 'unused')
from pg_catalog.pg_sequences
order by schemaname, sequencename;
SQL
"#;

/// The volumes of files: all but those of services with a restored database.
fn file_volumes<'a>(run: &Run, generation: &'a Generation) -> Vec<(&'a str, &'a Branch)> {
    let databases: Vec<&str> = database_services(run);
    let of_databases: Vec<String> = generation
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
        .collect();
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
        .filter(|(name, _)| archives.contains(&name.as_str()) || !of_databases.contains(name))
        .map(|(name, branch)| (name.as_str(), branch))
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

/// Digests the volumes of files of a generation, at a moment when nothing writes to them.
pub(super) async fn of_files(
    run: &Run,
    staging: &Staging,
    generation: &Generation,
) -> Result<BTreeMap<String, String>, Bad> {
    let volumes = file_volumes(run, generation);
    if volumes.is_empty() {
        return Ok(BTreeMap::new());
    }
    let ground = &staging.ground;
    let name = ground.names.of(&format!("{}-fingerprint", generation.name));
    let mut spec = ContainerSpec::new(name, &staging.agent_image, Attach::None);
    let mut command = agent(&["fingerprint"]);
    for (index, (_, branch)) in volumes.iter().enumerate() {
        let target = format!("/v/{index}");
        command.push(target.clone());
        spec.volumes.push(VolumeAt {
            volume: branch.volume.clone(),
            target,
            read_only: true,
        });
    }
    spec.command = Some(command);
    let output = ground.engine.run_once(&spec, &ground.labels).await?;
    let mut parts = BTreeMap::new();
    for ((volume, _), line) in volumes.iter().zip(output.lines()) {
        let result: Result<Fingerprint, String> =
            serde_json::from_str(line).map_err(|error| unreadable(volume, &error.to_string()))?;
        let fingerprint = result.map_err(|error| unreadable(volume, &error))?;
        parts.insert(format!("volume {volume}"), fingerprint.digest);
    }
    if parts.len() != volumes.len() {
        return Err(unreadable(
            "all volumes",
            "the helper answered for fewer volumes",
        ));
    }
    Ok(parts)
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
    let command = |user: &str, database: &str| {
        ["sh", "-c", DESCRIBE, "sh", user, database]
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
