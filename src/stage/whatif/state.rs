//! What a site looks like in the middle of a path: schema, data and files, read without changing them.
//!
//! A fingerprint of a snapshot may not cost what the data weighs; this reads the content of tables up to a size, on a branch
//! that is thrown away.

use std::collections::{BTreeMap, BTreeSet};

use super::compare::{self, ABSENT, Found, TOO_LARGE, TOO_MANY};
use super::walk::Walk;
use super::wrong::Wrong;
use super::{Shared, grants, mariadb};
use crate::engine::{Attach, Engine, EngineError};
use crate::event::Owner;
use crate::plan::model::Family;
use crate::stage::Bad;
use crate::stage::database::ask_all;
use crate::stage::run::{Run, out_of_order};
use crate::stage::schema::{self, Schemas};
use crate::stage::{config, fingerprint, snapshot};
use crate::staging::{Blueprint, Generation};

/// Bytes of one service's changed files that are read, and how many of them.
const FILE_BYTES: usize = 256 << 20;
const FILES: usize = 2_000;

/// Logs and caches are nothing that anybody rolls back; what is fleeting is left out with the rest.
const KEPT_BY_NOBODY: [&str; 3] = ["/var/log/", "/var/cache/", "/var/tmp/"];

/// For each table the number of its rows and a sum over digests of them, which knows no order. `\gexec` runs each row of the
/// query as a statement. MD5 is in every server and is no secret here. Then, as rows of no table, the server's databases.
const CONTENT: &str = r#"set -e
psql -X -A -t -q -w -v ON_ERROR_STOP=1 -v most="$3" -U "$1" -d "$2" <<'SQL'
select case when pg_catalog.pg_table_size(c.oid) <= :most
    then format('select %L, count(*) || '' '' || coalesce(sum((''x'' || substr(md5(rehearse_row::text), 1, 16))::bit(64)::bigint::numeric), 0) from only %I.%I rehearse_row',
        nspname || '.' || relname, nspname, relname)
    else format('select %L, %L', nspname || '.' || relname, 'large') end
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = relnamespace
where relkind = 'r' and nspname not in ('pg_catalog', 'information_schema') and nspname !~ '^pg_(toast|temp)'
order by nspname, relname
\gexec
select '|' || datname from pg_catalog.pg_database;
SQL
"#;

/// A site at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// By name: rows, contents and schemas of databases, volumes, images, variables. What was not looked at because of its
    /// size says so: see [`compare::is_unread`] and [`compare::OUTLINE`].
    pub parts: BTreeMap<String, String>,
    /// The objects of each database.
    pub schemas: Schemas,
    /// Who owns what and who may do what, and the comments, of each restored PostgreSQL database, as `pg_dump` writes it.
    pub grants: BTreeMap<String, BTreeSet<String>>,
    /// By service: the files that its container has of its own, by path.
    pub files: BTreeMap<String, BTreeMap<String, String>>,
    /// How its services are made.
    pub blueprints: Vec<Blueprint>,
}

/// The site before a deploy.
#[derive(Debug)]
pub(super) struct Reference {
    pub state: State,
    /// Parts that change although nothing is deployed.
    pub restless: BTreeSet<String>,
}

impl Reference {
    /// What is said of that which was not compared, `told` and what changes by itself; nothing where all was.
    pub(super) fn not_compared(&self, told: &[String]) -> String {
        let restless = self
            .restless
            .iter()
            .map(|name| format!("{name} (it changes by itself)"));
        let all: BTreeSet<String> = told.iter().cloned().chain(restless).collect();
        if all.is_empty() {
            return String::new();
        }
        let all: Vec<String> = all.into_iter().collect();
        format!("; not compared: {}", all.join(", "))
    }
}

/// The site before the deploy, from this path if no other has read it yet.
pub(super) async fn reference<'s>(walk: &Walk, shared: &'s Shared) -> Result<&'s Reference, Wrong> {
    // A rollback that left such data behind would not be seen, and so none is said to lead back.
    let restores = &walk.run.order.plan.restores;
    let redis = restores
        .iter()
        .find(|restore| restore.method.family() == Family::Redis);
    if let Some(redis) = redis {
        let why = format!(
            "what a Redis server holds cannot be compared yet, and {} restores one",
            redis.name
        );
        return Err(Wrong::Unseen(Bad::new(Owner::Staging, why).with_help(
            "ask for `rollback`, `rerun` and `interrupt` as advisory there",
        )));
    }
    let read = shared.reference.get_or_try_init(|| async {
        let state = look(&walk.run).await?;
        // What a health check writes is nobody's doing either, and it is run again whenever a service is waited for.
        let staging = walk.run.staging()?;
        for running in &walk.run.generation()?.services {
            if !running.blueprint.service.one_shot {
                staging.complaint(running).await?;
            }
        }
        let mut again = State::default();
        databases(&walk.run, &mut again).await?;
        // What the second look or the snapshot saw differently changed although nothing was done.
        let grants = state
            .grants
            .iter()
            .filter(|(database, all)| again.grants.get(*database) != Some(*all))
            .map(|(database, _)| format!("grants of {database}"));
        let restless = state
            .parts
            .iter()
            .filter(|(name, value)| {
                let second = again.parts.get(*name);
                let snapshot = walk
                    .run
                    .snapshot
                    .as_ref()
                    .and_then(|snapshot| snapshot.fingerprints.get(at_snapshot(name)));
                [second, snapshot]
                    .into_iter()
                    .flatten()
                    .any(|other| other != *value)
            })
            .map(|(name, _)| name.clone())
            .chain(grants)
            .collect();
        Ok::<_, Bad>(Reference { state, restless })
    });
    // Nothing is deployed yet, so nothing of this is the package's doing.
    read.await.map_err(Wrong::Unseen)
}

/// What the snapshot's fingerprints call a part.
fn at_snapshot(name: &str) -> &str {
    name.strip_prefix("files of ").unwrap_or(name)
}

/// The site after something was deployed: that it cannot be read any more is the package's doing.
pub(super) async fn read(walk: &Walk) -> Result<State, Wrong> {
    look(&walk.run).await.map_err(|bad| match bad.owner {
        // To read it took too long, which is nobody's fault.
        _ if bad.overrun => Wrong::Unseen(bad),
        Owner::Staging => Wrong::failed(bad.reason),
        Owner::Package
        | Owner::Backup
        | Owner::Stack
        | Owner::Testplan
        | Owner::Isolation
        | Owner::Engine => Wrong::from(bad),
    })
}

async fn look(run: &Run) -> Result<State, Bad> {
    let generation = run.generation()?;
    let engine = &run.ground()?.engine;
    let mut state = State {
        blueprints: generation
            .services
            .iter()
            .map(|running| running.blueprint.clone())
            .collect(),
        ..State::default()
    };
    databases(run, &mut state).await?;
    made(&mut state);
    // Nothing should write to files while they are read; a stop would make some services write. An engine that cannot
    // pause a container that is busy (runc gives up after a while) has its files read as they are.
    let mut paused = Vec::new();
    for running in writers(run, generation) {
        if engine.pause_container(running).await.is_ok() {
            paused.push(running);
        }
    }
    let seen = files(run, generation, &mut state).await;
    for container in paused {
        engine.unpause_container(container).await?;
    }
    seen?;
    Ok(state)
}

/// The containers that can write to volumes of which the files are compared.
fn writers<'a>(run: &Run, generation: &'a Generation) -> Vec<&'a str> {
    let writes = |blueprint: &Blueprint| {
        blueprint
            .service
            .volumes_with(&blueprint.facts)
            .iter()
            .any(|(volume, at)| {
                !at.read_only && !fingerprint::is_of_database(run, generation, volume)
            })
    };
    generation
        .services
        .iter()
        .filter(|running| writes(&running.blueprint))
        .map(|running| running.container.as_str())
        .collect()
}

/// Schema, rows and content of every restored database.
async fn databases(run: &Run, state: &mut State) -> Result<(), Bad> {
    let generation = run.generation()?;
    let limit = run.order.plan.limits.compare;
    let most = limit.to_string();
    let command = |user: &str, database: &str| {
        ["sh", "-c", CONTENT, "sh", user, database, &most]
            .map(str::to_owned)
            .to_vec()
    };
    state
        .parts
        .extend(fingerprint::of_databases(run, generation).await?);
    state.schemas = schema::read(run, generation).await?;
    for (name, lines) in ask_all(run, generation, "the content", command).await? {
        for line in lines.iter().filter(|line| !line.is_empty()) {
            let Some((table, content)) = line.rsplit_once('|') else {
                return Err(Bad::new(
                    Owner::Staging,
                    format!("cannot read the content of {name}: `{line}` is none"),
                ));
            };
            if table.is_empty() {
                let service = name.split_once('/').map_or(name.as_str(), |(of, _)| of);
                let part = format!("database {content} of {service}");
                state.parts.insert(part, "there".to_owned());
                continue;
            }
            let content = match content {
                "large" => compare::unread_beyond(limit),
                sum => sum.to_owned(),
            };
            let part = format!("content of {name} {table}");
            state.parts.insert(part, content);
        }
    }
    let dump = |user: &str, database: &str| {
        ["pg_dump", "-w", "-U", user, "-d", database, "--schema-only"]
            .map(str::to_owned)
            .to_vec()
    };
    for (name, lines) in ask_all(run, generation, "the grants", dump).await? {
        state.grants.insert(name, grants::of_dump(&lines));
    }
    state.parts.extend(mariadb::read(run).await?);
    Ok(())
}

/// The image, the command and the variables of each service. The image is the service's own, not the one that the snapshot
/// made of its container: that one is as good as it. A variable is what the container has, whoever says so.
fn made(state: &mut State) {
    let mut parts = BTreeMap::new();
    for blueprint in &state.blueprints {
        let service = &blueprint.service;
        let id = blueprint.facts.id.clone();
        parts.insert(format!("image of {}", service.name), id);
        let started_by = format!("{:?}", (&service.entrypoint, &service.command));
        let command = format!("command of {}", service.name);
        parts.insert(command, crate::digest::sha256(started_by));
        for (variable, value) in config::environment(blueprint) {
            let name = format!("variable {variable} of {}", service.name);
            parts.insert(name, crate::digest::sha256(value));
        }
    }
    state.parts.extend(parts);
}

/// Volumes of files, and what containers wrote to their own filesystems.
async fn files(run: &Run, generation: &Generation, state: &mut State) -> Result<(), Bad> {
    let staging = run.staging()?;
    let ground = &staging.ground;
    for (name, digest) in fingerprint::of_volumes(run, staging, generation).await? {
        // What a database has in its files is read from itself.
        let of_database = fingerprint::is_of_database(run, generation, &name);
        if !(of_database && digest.starts_with(compare::OUTLINE)) {
            state.parts.insert(format!("files of {name}"), digest);
        }
    }
    let containers: Vec<&str> = generation
        .services
        .iter()
        .map(|running| running.container.as_str())
        .collect();
    let helper = ground.names.of("changes");
    let changes = ground
        .engine
        .changed_paths(&containers, (&helper, &staging.agent_image), &ground.labels)
        .await?;
    for (running, changes) in generation.services.iter().zip(changes) {
        let service = &running.blueprint.service.name;
        // Files of the stack are as good as the image's own: a deploy may write over them.
        let mut bare = running.blueprint.clone();
        bare.service.files.clear();
        let mut paths: Vec<&str> =
            snapshot::lasting_changes(&changes, &bare, ground.plan.trusted_by(service))
                .into_iter()
                .map(|change| change.path.as_str())
                .filter(|path| !KEPT_BY_NOBODY.iter().any(|folder| path.starts_with(folder)))
                .collect();
        paths.sort_unstable();
        let beyond = paths.split_off(paths.len().min(FILES));
        let mut found = contents(&ground.engine, &running.container, &paths).await?;
        found.extend(
            beyond
                .into_iter()
                .map(|path| (path.to_owned(), TOO_MANY.to_owned())),
        );
        state.files.insert(service.clone(), found);
    }
    Ok(())
}

/// Digests of paths in a container; of one that is not there, or too large to be read, the word for that.
async fn contents(
    engine: &Engine,
    container: &str,
    paths: &[&str],
) -> Result<BTreeMap<String, String>, EngineError> {
    let mut found = BTreeMap::new();
    let mut left = FILE_BYTES;
    for path in paths {
        match engine.download(container, path, left).await {
            Ok(tar) => {
                left = left.saturating_sub(tar.len());
                found.insert((*path).to_owned(), digest_of(&tar));
            }
            Err(error) if error.is_not_found() => {
                found.insert((*path).to_owned(), ABSENT.to_owned());
            }
            Err(error) if error.is_too_large() => {
                found.insert((*path).to_owned(), TOO_LARGE.to_owned());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Names, kinds, owners, permissions and contents of what a tar holds, without its times.
fn digest_of(tar: &[u8]) -> String {
    use std::io::Read as _;
    let mut told: Vec<u8> = Vec::new();
    let mut archive = tar::Archive::new(tar);
    let Ok(entries) = archive.entries() else {
        return crate::digest::sha256(tar);
    };
    for entry in entries {
        let Ok(mut entry) = entry else {
            return crate::digest::sha256(tar);
        };
        let header = entry.header();
        let line = format!(
            "{} {:?} {:o} {} {} {:?}\n",
            String::from_utf8_lossy(&entry.path_bytes()),
            header.entry_type(),
            header.mode().unwrap_or_default(),
            header.uid().unwrap_or_default(),
            header.gid().unwrap_or_default(),
            entry.link_name_bytes().map(|name| name.into_owned()),
        );
        told.extend(line.into_bytes());
        let mut content = Vec::new();
        if entry.read_to_end(&mut content).is_err() {
            return crate::digest::sha256(tar);
        }
        told.extend(crate::digest::sha256(&content).into_bytes());
    }
    crate::digest::sha256(told)
}

/// Finds the files that are not the same in both states. A path that only one of them changed is in the other as its image,
/// or the stack, has it. What a service writes by itself is only told as not compared.
pub(super) async fn differing_files(
    walk: &Walk,
    reference: &Reference,
    before: &State,
    after: &State,
    found: &mut Found,
) -> Result<(), Wrong> {
    let snapshot = walk.run.snapshot.as_ref().ok_or_else(out_of_order)?;
    for blueprint in &before.blueprints {
        let service = blueprint.service.name.as_str();
        let image = format!("image of {service}");
        // Of another image every file may be another; it is named already, unless the package excuses it.
        if before.parts.get(&image) != after.parts.get(&image) {
            found.not_compared.push(format!(
                "the files of {service} outside of volumes (its image is another)"
            ));
            continue;
        }
        let made_of = |state: &State| {
            let mut blueprints = state.blueprints.iter();
            let found = blueprints.find(|of| of.service.name == service);
            found.map(|of| of.image.clone())
        };
        let had_written = snapshot
            .written
            .get(service)
            .is_some_and(|of| !of.is_empty());
        if had_written && made_of(before) != made_of(after) {
            found.not_compared.push(format!(
                "what {service} had written outside of volumes (its container is made from its image anew)"
            ));
        }
        let empty = BTreeMap::new();
        let mut was = before.files.get(service).unwrap_or(&empty).clone();
        let mut is = after.files.get(service).unwrap_or(&empty).clone();
        // What the service writes by itself is nobody's to take back.
        let own = |path: &String| {
            let by_stack = blueprint
                .service
                .files
                .iter()
                .any(|file| path.starts_with(&file.target));
            let written = snapshot.written.get(service);
            let alone = reference.state.files.get(service);
            !by_stack
                && (written.is_some_and(|paths| paths.contains(path))
                    || alone.is_some_and(|paths| paths.contains_key(path)))
        };
        let paths: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
        let differ: Vec<&String> = paths
            .into_iter()
            .filter(|path| {
                let (was, is) = (was.get(*path), is.get(*path));
                own(path) && (was != is || was.is_some_and(|side| compare::is_unread(side)))
            })
            .collect();
        if let [first, more @ ..] = differ.as_slice() {
            let others = match more.len() {
                0 => String::new(),
                1 => " and 1 more file".to_owned(),
                n => format!(" and {n} more files"),
            };
            found.not_compared.push(format!(
                "file {first}{others} of {service} (the service writes there itself)"
            ));
        }
        was.retain(|path, _| !own(path));
        is.retain(|path, _| !own(path));
        let missing: BTreeSet<String> = was
            .iter()
            .filter(|(path, _)| !is.contains_key(*path))
            .chain(is.iter().filter(|(path, _)| !was.contains_key(*path)))
            // It is not compared, whatever the image has there.
            .filter(|(_, digest)| digest.as_str() != TOO_MANY)
            .map(|(path, _)| path.clone())
            .collect();
        if !missing.is_empty() {
            let original = original(&walk.run, blueprint, &missing).await?;
            for (path, digest) in original {
                was.entry(path.clone()).or_insert_with(|| digest.clone());
                is.entry(path).or_insert(digest);
            }
        }
        compare::files(service, &was, &is, found);
    }
    Ok(())
}

/// These paths as a new container of a service has them.
async fn original(
    run: &Run,
    blueprint: &Blueprint,
    paths: &BTreeSet<String>,
) -> Result<BTreeMap<String, String>, Bad> {
    let staging = run.staging()?;
    let ground = &staging.ground;
    let container = ground
        .names
        .of(&format!("original-{}", blueprint.service.name));
    let network = (staging.network.name.as_str(), staging.network.resolver);
    let mut spec = ground.service_spec(blueprint, container.clone(), network, Vec::new());
    // It is never started, and so needs no network.
    spec.attach = Attach::None;
    ground
        .engine
        .create_container(&spec, &ground.labels)
        .await?;
    ground
        .upload_service_files(&blueprint.service, &container)
        .await?;
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let found = contents(&ground.engine, &container, &paths).await?;
    ground.engine.remove_container(&container).await?;
    Ok(found)
}
