//! The image with the tools that no service's image brings: restic, Borg, pgBackRest, `sqlite3`, `redis-check-rdb`.

use std::collections::BTreeMap;

use tokio::sync::Mutex;

use super::Job;
use crate::engine::{Attach, BuildNetwork, BuildSpec, ContainerSpec, ImageFacts};
use crate::event::{EventKind, Output, Owner};
use crate::plan::model::{Build, Method, Restore};
use crate::staging::{Bad, Ground};

const REFERENCE: &str = "rehearse-tools:bookworm";
/// What it is built on: as published, or as the project makes it where there is no registry.
const BASES: [&str; 2] = ["debian:bookworm-slim", "rehearse-base:bookworm"];
const DOCKERFILE: &str = include_str!("../../docker/tools/Dockerfile");

/// Restores run side by side; one build is enough for all of them.
static BUILDING: Mutex<()> = Mutex::const_new(());

/// The id of the image whose tools a restore needs besides those of its service: `None` where it needs none.
///
/// # Errors
/// When that image is not to be had.
pub async fn of(
    ground: &Ground,
    restore: &Restore,
    service: Option<&ImageFacts>,
) -> Result<Option<String>, Bad> {
    let named = restore.method.image();
    let own = match &restore.method {
        Method::Restic(_) | Method::Borg(_) | Method::Sqlite { .. } => true,
        Method::Command { .. } => service.is_none(),
        Method::PgBackRest { .. } if named.is_some() => true,
        Method::PgBackRest { .. } => lacks(ground, service, "command -v pgbackrest").await,
        Method::RedisRdb | Method::RedisAof => {
            let both = "command -v redis-check-rdb && command -v redis-check-aof";
            lacks(ground, service, both).await
        }
        Method::PostgresDump { .. }
        | Method::PostgresGlobals { .. }
        | Method::PostgresBaseBackup { .. }
        | Method::MariadbDump { .. }
        | Method::MariadbBackup { .. }
        | Method::Archive
        | Method::Rootfs => false,
    };
    if !own {
        return Ok(None);
    }
    ensure(ground, named).await.map(Some)
}

/// True where the image of a service does not bring tools. One that has no shell to ask is left to its restore, which
/// says what it needs.
async fn lacks(ground: &Ground, service: Option<&ImageFacts>, look: &str) -> bool {
    let Some(image) = service else { return true };
    let name = ground.names.of("looks-for-tools");
    let mut spec = ContainerSpec::new(name, &image.id, Attach::None);
    let look = format!("{{ {look}; }} >/dev/null || echo lacks");
    spec.entrypoint = Some(vec!["/bin/sh".to_owned(), "-c".to_owned(), look]);
    spec.command = Some(Vec::new());
    spec.user = Some("0:0".to_owned());
    let said = ground.engine.run_once(&spec, &ground.labels).await;
    said.is_ok_and(|said| said.trim() == "lacks")
}

/// The image of a job: the one that its base's address names, so that a tag that moves meanwhile changes nothing.
///
/// # Errors
/// Like [`ensure`].
pub(super) async fn of_job(ground: &Ground, job: Job<'_>) -> Result<String, Bad> {
    match job.image {
        Some(id) => Ok(id.to_owned()),
        None => ensure(ground, job.restore.method.image()).await,
    }
}

/// The image that a restore names, if it is to be had; else our own, which is built when it is not there.
///
/// # Errors
/// When the named image is not to be had, or ours cannot be built.
pub async fn ensure(ground: &Ground, named: Option<&str>) -> Result<String, Bad> {
    let say = |line: String| {
        ground.recorder.emit(EventKind::OutputLine {
            stage: ground.current_stage(),
            source: format!("image {}", named.unwrap_or(REFERENCE)),
            output: Output::Stdout,
            line,
        });
    };
    let _only_one = BUILDING.lock().await;
    if let Some(named) = named {
        let image = crate::plan::model::Image {
            reference: named.to_owned(),
            build: None,
        };
        let (facts, _) = ground
            .engine
            .ensure_image(&image, say)
            .await
            .map_err(|error| {
                let mut bad = Bad::from(&error);
                bad.owner = Owner::Stack;
                bad.with_help("load the image into the engine first, or leave `image:` out")
            })?;
        return Ok(facts.id);
    }
    let base = base(ground).await?;
    let folder = tempfile::tempdir().map_err(|error| cannot(&error))?;
    std::fs::write(folder.path().join("Dockerfile"), DOCKERFILE).map_err(|error| cannot(&error))?;
    let build = Build {
        context: folder.path().to_owned(),
        dockerfile: "Dockerfile".to_owned(),
        args: BTreeMap::from([("BASE".to_owned(), base)]),
        target: None,
    };
    let spec = BuildSpec::of(&build, REFERENCE, BuildNetwork::Default)?;
    if let Some(facts) = ground.engine.image(REFERENCE).await?
        && facts.built_from.as_ref() == Some(&spec.digest)
    {
        return Ok(facts.id);
    }
    ground.note(format!(
        "build {REFERENCE}, the image with the tools that restore (only the first time)"
    ));
    ground.engine.build_image(&spec, say).await?;
    match ground.engine.image(REFERENCE).await? {
        Some(facts) => Ok(facts.id),
        None => Err(Bad::new(
            Owner::Engine,
            format!("{REFERENCE} is not there although it was just built"),
        )),
    }
}

/// A base image that is there or can be pulled.
async fn base(ground: &Ground) -> Result<String, Bad> {
    for base in BASES {
        if ground.engine.image(base).await?.is_some() {
            return Ok(base.to_owned());
        }
    }
    let published = BASES[0];
    match ground.engine.pull(published, |_| {}).await {
        Ok(()) => Ok(published.to_owned()),
        Err(error) => Err(Bad::new(
            Owner::Engine,
            format!("the image with the restoring tools cannot be built: {published} is not to be had: {error}"),
        )
        .with_help(
            "name an image that has the tool with `image:`, or make rehearse-base:bookworm (docker/base-image.sh of the project)",
        )),
    }
}

fn cannot(error: &std::io::Error) -> Bad {
    Bad::new(
        Owner::Engine,
        format!("cannot write a build context to the temporary folder: {error}"),
    )
}
