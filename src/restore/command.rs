//! Backups that only the rehearsal's own command knows to restore.

use std::collections::BTreeMap;

use super::{Deadline, Inbox, Job, Made, Server, Site, Told, Toolbox, server, timed, tool_image};
use crate::engine::{EngineError, VolumeAt, VolumeFacts};
use crate::event::Owner;
use crate::plan::model::Method;
use crate::staging::{Bad, Blueprint, Staging};

/// Where the backup lies for the command, as it is: neither decompressed nor unpacked.
const BACKUP: &str = "/backup";
/// Names the backup's own path below it.
const VARIABLE: &str = "REHEARSE_BACKUP";
/// Where the volume is mounted, which is also the working folder.
const MOUNT: &str = "/restore";

/// What shows that the command left something: every name, with its inode, its size and when it was last changed.
const STATE: &str = "ls -lAinRc --full-time /restore 2>/dev/null || ls -lAinRc /restore";

/// One backup as it is, for a command.
#[derive(Debug)]
pub struct Handed {
    inbox: Inbox,
    /// The backup's path in the container.
    path: String,
}

impl Handed {
    /// Copies the backup into a new volume.
    ///
    /// # Errors
    /// When the backup cannot be read any more, or the engine refuses.
    pub async fn over(staging: &Staging, job: Job<'_>) -> Result<Self, EngineError> {
        let source = &job.facts.path;
        let file = source.canonicalize().unwrap_or_else(|_| source.clone());
        let file = file.file_name().map_or_else(
            || "backup".to_owned(),
            |name| name.to_string_lossy().into_owned(),
        );
        Ok(Self {
            inbox: Inbox::as_it_is(staging, job, &file, BACKUP).await?,
            path: format!("{BACKUP}/{file}"),
        })
    }

    /// As it is mounted, read-only.
    pub fn mount(&self) -> VolumeAt {
        self.inbox.mount()
    }

    /// Runs the job's command in a container that has it.
    ///
    /// # Errors
    /// The backup is at fault where the command fails and nothing else was in its way.
    pub async fn run(&self, tool: &mut Toolbox<'_>, job: Job<'_>) -> Result<Told, Bad> {
        let Method::Command { run, .. } = &job.restore.method else {
            return Err(super::not_built(&[job]));
        };
        tool.environment
            .insert(VARIABLE.to_owned(), self.path.clone());
        tool.script("command", run, &[], Owner::Backup).await?;
        Ok(Told::default())
    }

    /// Removes it.
    ///
    /// # Errors
    /// When something still uses it.
    pub async fn remove(self, staging: &Staging) -> Result<(), EngineError> {
        self.inbox.remove(staging).await
    }
}

/// Runs the command in a container of its own, without a network, with the volume as its working folder.
///
/// # Errors
/// When the command fails, or left nothing in the volume.
pub async fn into_volume(site: Site<'_>, volume: &VolumeFacts, job: Job<'_>) -> Result<Told, Bad> {
    let Method::Command { run, .. } = &job.restore.method else {
        return Err(super::not_built(&[job]));
    };
    let staging = site.staging;
    let image = tool_image::of_job(&staging.ground, job).await?;
    let handed = Handed::over(staging, job).await?;
    let mounts = vec![
        handed.mount(),
        VolumeAt {
            volume: volume.name.clone(),
            target: MOUNT.into(),
            read_only: false,
        },
    ];
    let mut tool = Toolbox::open(
        staging,
        &crate::state::slug(&format!("command-{}", job.restore.name)),
        &image,
        mounts,
        format!("restore {}", job.restore.name),
        Deadline::of(site.limit, "limits.restore"),
    )
    .await?;
    let state = async |tool: &Toolbox<'_>| {
        let script = format!("{{ {STATE}; }} | cksum; ls -A {MOUNT} | wc -l");
        let seen = tool.script("ls", &script, &[], Owner::Stack).await?;
        Ok::<_, Bad>(seen.stdout)
    };
    let before = state(&tool).await?;
    let in_volume = format!("cd {MOUNT}\n{run}");
    tool.environment
        .insert(VARIABLE.to_owned(), handed.path.clone());
    tool.script("command", &in_volume, &[], Owner::Backup)
        .await?;
    let after = state(&tool).await?;
    if after == before || after.split_whitespace().last() == Some("0") {
        return Err(Bad::new(
            Owner::Backup,
            format!(
                "{}: the command ended without an error and left nothing in the volume",
                job.restore.name
            ),
        )
        .with_help("it runs with the volume as its working folder, /restore"));
    }
    tool.close().await?;
    handed.remove(staging).await?;
    Ok(Told::default())
}

/// Runs commands in the service, started alone on its empty volumes, and stops it cleanly.
///
/// # Errors
/// When the service does not start or stop.
pub async fn into_service(
    site: Site<'_>,
    blueprint: Blueprint,
    volumes: &BTreeMap<String, VolumeFacts>,
    jobs: &[Job<'_>],
) -> Result<Made, Bad> {
    let staging = site.staging;
    let mut made = Made::default();
    for job in jobs {
        let handed = Handed::over(staging, *job).await?;
        let more = vec![handed.mount()];
        let server = Server::start(
            staging,
            blueprint.clone(),
            volumes,
            more,
            None,
            Owner::Staging,
        )
        .await?;
        let mut tool = Toolbox::within(
            staging,
            &server.running.container,
            format!("restore {}", job.restore.name),
            Deadline::of(site.limit, "limits.restore"),
        );
        let ended = timed(handed.run(&mut tool, *job)).await;
        made.log = server.log(staging).await.ok();
        let failed = ended.result.is_err();
        made.ended.push(ended);
        if failed {
            return Ok(made);
        }
        server.stop_cleanly(staging).await?;
        handed.remove(staging).await?;
    }
    let last = jobs.last().zip(made.ended.last_mut());
    if let Some((job, ended)) = last
        && is_empty(site, &blueprint, volumes).await?
    {
        ended.result = Err(Bad::new(
            Owner::Backup,
            format!(
                "{}: the command ended without an error and the service's volumes are empty",
                job.restore.name
            ),
        ));
    }
    Ok(made)
}

/// True where nothing is in any of the service's volumes.
async fn is_empty(
    site: Site<'_>,
    blueprint: &Blueprint,
    volumes: &BTreeMap<String, VolumeFacts>,
) -> Result<bool, Bad> {
    let mounts = server::mounts(blueprint, volumes);
    let targets: Vec<String> = mounts.iter().map(|at| at.target.clone()).collect();
    let tool = Toolbox::open(
        site.staging,
        &format!("command-{}", blueprint.service.name),
        &blueprint.image,
        mounts,
        format!("restore {}", blueprint.service.name),
        Deadline::of(site.limit, "limits.restore"),
    )
    .await?;
    let script = r#"for folder in "$@"; do ls -A "$folder"; done"#;
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    let seen = tool.script("ls", script, &targets, Owner::Stack).await?;
    tool.close().await?;
    Ok(seen.stdout.trim().is_empty())
}
