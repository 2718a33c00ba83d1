//! The image with the tools that no service's image brings: restic, Borg, pgBackRest, `sqlite3`, `redis-check-rdb`.

use std::collections::BTreeMap;

use tokio::sync::Mutex;

use crate::engine::{BuildNetwork, BuildSpec};
use crate::event::{EventKind, Output, Owner};
use crate::plan::model::Build;
use crate::staging::{Bad, Ground};

const REFERENCE: &str = "rehearse-tools:bookworm";
/// What it is built on: as published, or as the project makes it where there is no registry.
const BASES: [&str; 2] = ["debian:bookworm-slim", "rehearse-base:bookworm"];
const DOCKERFILE: &str = include_str!("../../docker/tools/Dockerfile");

/// Restores run side by side; one build is enough for all of them.
static BUILDING: Mutex<()> = Mutex::const_new(());

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
