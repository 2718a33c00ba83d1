//! Whether what is deployed is what was handed over: the files on this machine, and those that the steps had.

use super::Bad;
use super::run::Run;
use crate::engine::{Attach, ContainerSpec, VolumeAt};
use crate::event::Owner;
use crate::plan::model::Package;
use crate::state::agent;

/// Where the package's volume is looked at.
const FOLDER: &str = "/v";

/// The digest that the verdict is bound to is that of the files that were deployed.
///
/// # Errors
/// The package's files on this machine are not what was opened.
pub(super) async fn unchanged(run: &mut Run, when: &str) -> Result<(), Bad> {
    let Some(opened) = run.order.opened.take() else {
        return Ok(());
    };
    let (opened, verified) = tokio::task::spawn_blocking(move || {
        let verified = opened.verify_unchanged();
        (opened, verified)
    })
    .await
    .map_err(|panic| {
        Bad::new(
            Owner::Engine,
            format!("digesting the package broke off: {panic}"),
        )
    })?;
    run.order.opened = Some(opened);
    verified.map_err(|error| {
        Bad::new(
            Owner::Engine,
            format!("the package's files on this machine changed {when} the deploy: {error}"),
        )
        .with_help("nobody may write to a package while it is rehearsed; run again")
    })
}

/// The steps had the package's files at `/package`, and have them still: the volume's digest is the package's. Where no step
/// ran in a bastion there is none.
///
/// # Errors
/// It is another one.
pub(super) async fn as_used(run: &Run, package: &Package) -> Result<(), Bad> {
    let staging = run.staging()?;
    let ground = &staging.ground;
    let volume = ground.package_volume();
    if ground.engine.volume(&volume).await?.is_none() {
        return Ok(());
    }
    let name = ground.names.of("package-digest");
    let mut spec = ContainerSpec::new(name, &staging.agent_image, Attach::None);
    let mut command = agent(&["digest"]);
    command.push(FOLDER.to_owned());
    spec.command = Some(command);
    spec.volumes = vec![VolumeAt {
        volume,
        target: FOLDER.to_owned(),
        read_only: true,
    }];
    let said = ground.engine.run_once(&spec, &ground.labels).await?;
    let seen: Result<String, String> = serde_json::from_str(said.trim())
        .map_err(|error| Bad::new(Owner::Engine, format!("cannot read a digest: {error}")))?;
    let why = match seen {
        Ok(digest) if digest == package.digest => return Ok(()),
        Ok(digest) => format!("its digest is {digest} and not {}", package.digest),
        Err(error) => error,
    };
    Err(Bad::new(
        Owner::Engine,
        format!("what the steps had at /package is not the package that was handed over: {why}"),
    )
    .with_help("somebody wrote to the package's volume while it was rehearsed; run again"))
}
