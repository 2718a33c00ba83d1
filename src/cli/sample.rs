//! What the sample needs before it can be rehearsed: a base image and a fresh backup.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use jiff::{SignedDuration, Timestamp};

use super::say;
use crate::engine::{Attach, ContainerSpec, Engine, EngineError, HostPaths, Labels, Purpose};
use crate::staging::Names;

/// What the sample's images are built from.
const BASE: &str = "rehearse-base:bookworm";
/// What serves as base where a registry answers.
const PUBLISHED: &str = "debian:bookworm-slim";

/// The sample's rehearsal wants data of the last 26 hours; a backup younger than this leaves time for the runs.
const FRESH: Duration = Duration::from_secs(20 * 60 * 60);

/// Makes what is missing, and says what it does: the first time takes minutes.
pub(super) fn prepare(dir: &Path) -> Result<(), EngineError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| EngineError::new("start", error.to_string()))?;
    let prepared = runtime.block_on(async {
        let host = std::env::var("DOCKER_HOST")
            .ok()
            .filter(|host| !host.is_empty());
        let engine = Engine::connect(host.as_deref()).await?;
        base_image(&engine, dir).await?;
        backup(&engine, dir).await
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    prepared
}

async fn base_image(engine: &Engine, dir: &Path) -> Result<(), EngineError> {
    if engine.image(BASE).await?.is_some() {
        return Ok(());
    }
    say::line(format!(
        "The base image {BASE} is not there: pull {PUBLISHED}"
    ));
    match engine.pull(PUBLISHED, |_| {}).await {
        Ok(()) => return engine.tag(PUBLISHED, BASE).await,
        Err(error) => say::line(format!(
            "  not pulled ({}); make it from Debian's packages instead",
            error.cause
        )),
    }
    let folder = tempfile::tempdir()
        .map_err(|error| EngineError::new("make a temporary folder", error.to_string()))?;
    let tar = folder.path().join("base.tar");
    script(&dir.join("docker/base-image.sh"), &tar)?;
    engine
        .import_rootfs(BASE, Vec::new(), move |out| {
            let mut file = std::fs::File::open(&tar)?;
            std::io::copy(&mut file, out)?;
            Ok(())
        })
        .await
}

/// Runs a script of the project and shows what it says.
fn script(path: &Path, argument: &Path) -> Result<(), EngineError> {
    let operation = || format!("run {}", path.display());
    let failed = |error: std::io::Error| EngineError::new(operation(), error.to_string());
    let mut child = Command::new("sh")
        .arg(path)
        .arg(argument)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(out) = child.stdout.take() {
        for text in BufReader::new(out).lines().map_while(Result::ok) {
            say::line(format!("  {text}"));
        }
    }
    let status = child.wait().map_err(failed)?;
    if status.success() {
        return Ok(());
    }
    Err(EngineError::new(operation(), status.to_string())
        .with_help("its last lines say why; it needs root on Debian"))
}

/// A backup of the sample's database and uploads, made by the real tools in a container of the sample's own image.
async fn backup(engine: &Engine, dir: &Path) -> Result<(), EngineError> {
    let backups = dir.join("backups");
    let files = ["site.dump", "uploads.tar.zst"].map(|name| backups.join(name));
    let fresh = files.iter().all(|file| {
        file.metadata()
            .and_then(|metadata| metadata.modified())
            .ok()
            .and_then(|made| SystemTime::now().duration_since(made).ok())
            .is_some_and(|age| age < FRESH)
    });
    if fresh {
        return Ok(());
    }
    say::line(
        "Make a backup of the sample's database and uploads (the first time its image is built)",
    );
    let stack = crate::manifest::load(&dir.join("rehearsals/site.yaml"))
        .ok()
        .and_then(|loaded| crate::plan::resolve(&loaded, None).ok())
        .map(|plan| plan.stack);
    let Some(image) = stack
        .into_iter()
        .flat_map(|stack| stack.services)
        .find(|service| service.name == "db")
        .map(|service| service.image)
    else {
        return Err(EngineError::new(
            "read the sample",
            "rehearsals/site.yaml has no service `db`",
        )
        .with_help("`rehearse check rehearsals/site.yaml` says what is wrong"));
    };
    let (facts, _) = engine
        .ensure_image(&image, |line| say::line(format!("  {line}")))
        .await?;

    let now = Timestamp::now();
    let names = Names::new("sample", now);
    let expires = now
        .checked_add(SignedDuration::from_hours(1))
        .unwrap_or(Timestamp::MAX);
    let labels = Labels::new(names.run(), "sample", now, expires);
    let made = make_backup(engine, &labels, &names, &facts.id, dir, &backups).await;
    let removed = engine.remove_run(names.run()).await;
    made?;
    removed?;
    Ok(())
}

async fn make_backup(
    engine: &Engine,
    labels: &Labels,
    names: &Names,
    image: &str,
    dir: &Path,
    backups: &Path,
) -> Result<(), EngineError> {
    let container = names.of("backup");
    let mut spec = ContainerSpec::new(&container, image, Attach::Loopback);
    spec.entrypoint = Some(vec!["/bin/sh".into(), "/seed/make-backup.sh".into()]);
    spec.command = Some(vec!["/backup".into()]);
    // Where the image declares a volume the engine would make an anonymous one: this way it carries our labels.
    let volume = names.of("backup-data");
    engine
        .create_volume(&volume, labels, Purpose::Run, Default::default())
        .await?;
    spec.volumes = vec![crate::engine::VolumeAt {
        volume,
        target: "/var/lib/postgresql/data".into(),
        read_only: false,
    }];
    engine.create_container(&spec, labels).await?;
    let seed = HostPaths {
        source: dir.join("docker/site/backup"),
        target: "/seed".into(),
        owner: (0, 0),
        mode: crate::engine::Modes::Kept,
    };
    engine.upload_paths(&container, seed).await?;
    engine.start_container(&container).await?;
    let code = engine.wait_container(&container).await?;
    if code != 0 {
        let said = engine.container_log(&container, Some(5)).await?;
        return Err(EngineError::new(
            "make the sample's backup",
            format!("exit code {code}: {}", said.trim().replace('\n', " | ")),
        ));
    }
    let unwritable = |error: std::io::Error| {
        EngineError::new(
            format!("write the backup to `{}`", backups.display()),
            error.to_string(),
        )
    };
    let folder = tempfile::tempdir().map_err(unwritable)?;
    let tar = folder.path().join("backup.tar");
    let mut file = tokio::fs::File::create(&tar).await.map_err(unwritable)?;
    engine
        .download_to(&container, "/backup/.", &mut file)
        .await?;
    drop(file);
    std::fs::create_dir_all(backups).map_err(unwritable)?;
    let mut archive = tar::Archive::new(std::fs::File::open(&tar).map_err(unwritable)?);
    archive.set_preserve_ownerships(false);
    archive.set_preserve_mtime(false);
    archive.unpack(backups).map_err(unwritable)
}
