//! Where backups are made by their real tools: one container that is thrown away.

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use rehearsal::engine::{Attach, ContainerSpec, Engine, EngineError, HostPaths, Labels, Modes};
use rehearsal::plan::model::{Build, Image};
use rehearsal::staging::Names;
use tempfile::TempDir;

use crate::common::{BASE, checkout, engine, prepare};

/// An image below `tests/engine/images/`, made if it is not there.
pub(crate) fn image(folder: &str, reference: &str) {
    prepare();
    let image = Image {
        reference: reference.to_owned(),
        build: Some(Build {
            context: checkout().join("tests/engine/images").join(folder),
            dockerfile: "Dockerfile".to_owned(),
            args: [("BASE".to_owned(), BASE.to_owned())].into(),
            target: None,
        }),
    };
    engine(async |engine| engine.ensure_image(&image, |_| {}).await)
        .unwrap_or_else(|error| panic!("{error}"));
}

/// Runs a script in a container of `image`, with files and folders of this machine as `/seed/<name>`, and brings
/// back what it left below `/out`.
pub(crate) fn made(name: &str, image: &str, seeds: &[&Path], script: &str) -> TempDir {
    let now = Timestamp::now();
    let names = Names::new(&format!("t-{name}-{}", std::process::id()), now);
    let labels = Labels::new(names.run(), name, now, now + SignedDuration::from_hours(1));
    let out = tempfile::tempdir().expect("a temporary folder");
    let done = engine(async |engine| {
        let done = work(&engine, &names, &labels, image, seeds, script, out.path()).await;
        engine.remove_run(names.run()).await?;
        done
    });
    done.unwrap_or_else(|error| panic!("the backups of `{name}` cannot be made: {error}"));
    out
}

async fn work(
    engine: &Engine,
    names: &Names,
    labels: &Labels,
    image: &str,
    seeds: &[&Path],
    script: &str,
    out: &Path,
) -> Result<(), EngineError> {
    let container = names.of("workshop");
    let mut spec = ContainerSpec::new(&container, image, Attach::Loopback);
    spec.entrypoint = Some(vec!["sh".into(), "-ec".into()]);
    spec.command = Some(vec![format!("mkdir -p /out\n{script}")]);
    spec.user = Some("0:0".into());
    engine.create_container(&spec, labels).await?;
    for seed in seeds {
        let name = seed.file_name().expect("a name").to_string_lossy();
        let paths = HostPaths {
            source: seed.to_path_buf(),
            target: format!("/seed/{name}"),
            owner: (0, 0),
            mode: Modes::Kept,
        };
        engine.upload_paths(&container, paths).await?;
    }
    engine.start_container(&container).await?;
    let code = engine.wait_container(&container).await?;
    if code != 0 {
        let said = engine.container_log(&container, Some(10)).await?;
        return Err(EngineError::new(
            "run the script",
            format!("exit code {code}: {said}"),
        ));
    }
    let tar = out.join("out.tar");
    let mut file = tokio::fs::File::create(&tar).await.expect("a file");
    engine.download_to(&container, "/out", &mut file).await?;
    let file = std::fs::File::open(&tar).expect("it was written");
    tar::Archive::new(file)
        .unpack(out)
        .map_err(|error| EngineError::new("unpack what was made", error.to_string()))?;
    std::fs::remove_file(tar).expect("it is ours");
    Ok(())
}

/// What a script left below `/out`.
pub(crate) fn out(made: &TempDir, name: &str) -> PathBuf {
    made.path().join("out").join(name)
}

/// One line that it left there.
pub(crate) fn line(made: &TempDir, name: &str) -> String {
    let text = std::fs::read_to_string(out(made, name)).expect("a text");
    text.trim().to_owned()
}

/// The product's own image with the tools that no service's image brings, made as the product makes it.
pub(crate) fn tools() -> String {
    prepare();
    let context = tempfile::tempdir().expect("a temporary folder");
    std::fs::copy(
        checkout().join("docker/tools/Dockerfile"),
        context.path().join("Dockerfile"),
    )
    .expect("a copy");
    let image = Image {
        reference: "rehearse-tools:bookworm".to_owned(),
        build: Some(Build {
            context: context.path().to_owned(),
            dockerfile: "Dockerfile".to_owned(),
            args: [("BASE".to_owned(), BASE.to_owned())].into(),
            target: None,
        }),
    };
    let made = engine(async |engine| engine.ensure_image(&image, |_| {}).await);
    made.map(|_| image.reference)
        .unwrap_or_else(|error| panic!("{error}"))
}
