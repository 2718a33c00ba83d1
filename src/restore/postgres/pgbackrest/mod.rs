//! pgBackRest repositories: verified, restored, and the WAL that recovery needs fetched before it.
//!
//! The service's image has no `pgbackrest` as a rule, so the tool runs in an image that does, and the server takes its
//! WAL from a volume. Everything the tool needs to know is in its environment: a passphrase stands in no argument, file
//! or event. Its locks are on the machine where it runs, none in the repository, so nobody else's job can be in the way.

mod backup_set;
mod repository;
mod wal;

use std::collections::BTreeMap;

use super::base::RELINK;
use super::data_folder::Cluster;
use crate::engine::{Purpose, VolumeAt, VolumeFacts};
use crate::event::Owner;
use crate::plan::model::{Method, Secret};
use crate::restore::server::mounts;
use crate::restore::{Deadline, Inbox, Job, Site, Toolbox};
use crate::staging::{Bad, Blueprint};
pub(super) use wal::Wal;

/// The data folder's volume under a second path: pgBackRest puts no tablespace below the data folder's own.
const VOLUME: &str = "/rehearse-volume";

/// What the restore says of the tool.
struct Wanted<'a> {
    stanza: &'a str,
    time: Option<&'a str>,
    passphrase: Option<&'a Secret>,
    image: Option<&'a str>,
}

/// Fills the data folder from the repository, and a volume with the WAL after it.
pub(super) async fn fill<'a>(
    site: Site<'a>,
    blueprint: &Blueprint,
    volumes: &BTreeMap<String, VolumeFacts>,
    job: Job<'_>,
    deadline: Deadline,
) -> Result<(Cluster<'a>, Wal, Inbox), Bad> {
    let Method::PgBackRest {
        stanza,
        time,
        passphrase,
        image,
        user: _,
    } = &job.restore.method
    else {
        return Err(crate::restore::not_built(&[job]));
    };
    let wanted = Wanted {
        stanza,
        time: time.as_deref(),
        passphrase: passphrase.as_ref(),
        // The one that the base's address names, so that a tag that moves meanwhile changes nothing.
        image: job.image.or(image.as_deref()),
    };
    let restore = job.restore.name.as_str();
    let repository = job.facts.path.as_path();
    repository::has_stanza(repository, stanza, restore)?;
    let passphrase = repository::key(site, repository, &wanted, restore)?;
    let staging = site.staging;
    let service = &blueprint.service.name;
    let inbox = Inbox::fill(staging, service, &[job]).await?;
    let ground = &staging.ground;
    let volume = ground.names.of(&format!("wal-{service}"));
    ground
        .engine
        .create_volume(&volume, &ground.labels, Purpose::Run, Default::default())
        .await?;
    let mut wal = Wal {
        volume,
        gap: None,
        last: None,
        time: time.clone(),
    };
    let more = vec![inbox.mount(), wal.mount()];
    let mut cluster =
        Cluster::open(site, blueprint, volumes, more.clone(), restore, deadline).await?;
    let image = repository::tool_image_of(&cluster, blueprint, &wanted).await?;
    let mut at = mounts(blueprint, volumes);
    at.extend(more);
    at.push(VolumeAt {
        volume: cluster.volume.0.clone(),
        target: VOLUME.to_owned(),
        read_only: false,
    });
    let name = format!("pgbackrest-{service}");
    let mut tool = Toolbox::open(
        staging,
        &name,
        &image,
        at,
        format!("restore {restore}"),
        deadline,
    )
    .await?;
    tool.environment = repository::environment(stanza, &cluster.data, passphrase);
    if wanted.passphrase.is_some() && passphrase.is_none() {
        cluster
            .notes
            .push("the repository is not encrypted: no passphrase was used".to_owned());
    }
    if passphrase.is_some() {
        repository::opens(&tool, repository, &wanted, restore).await?;
    }
    repository::verify(&tool, restore).await?;
    let backup = backup_set::restore(&tool, &cluster, &wanted, restore).await?;
    cluster.notes.push(format!("backup set {}", backup.label));
    cluster.filled().await?;
    let elsewhere = format!("{VOLUME}{}", cluster.volume.1);
    cluster
        .tool
        .script(
            "tablespaces",
            RELINK,
            &[&cluster.data, &elsewhere],
            Owner::Backup,
        )
        .await?;
    let needed = wal::needed(&cluster, repository, &wanted, &backup, restore).await?;
    wal.gap.clone_from(&needed.gap);
    wal.last = needed.segments.last().cloned();
    wal::fetch(&tool, &needed).await?;
    cluster
        .notes
        .push(format!("{} WAL segments", needed.segments.len()));
    if let Some(gap) = &needed.gap {
        cluster
            .notes
            .push(format!("the archive lacks {gap}, after the time"));
    }
    tool.close().await?;
    Ok((cluster, wal, inbox))
}

/// A failure of the tool: the rehearsal's, the image's or the repository's.
fn judged(tool: &Toolbox<'_>, what: &str, outcome: &crate::engine::ExecOutcome) -> Bad {
    let bad = tool.failed(what, outcome, Owner::Backup);
    let all = format!("{}\n{}", outcome.stderr, outcome.stdout);
    let says = |words: &str| all.contains(words);
    if says("automatic backup set selection cannot be performed") || says("invalid target time") {
        return Bad {
            owner: Owner::Staging,
            ..bad
        }
        .with_help("write `time:` as YYYY-MM-DD HH:MM:SS+00");
    }
    if says("not compiled with") || says("expected format") || says("invalid command") {
        return Bad {
            owner: Owner::Staging,
            ..bad
        }
        .with_help("name an image with production's version of pgBackRest with `image:`");
    }
    if says("unable to find backup set with stop time less than") {
        return bad
            .with_help("no backup in the repository is older than the time that `time:` names");
    }
    bad
}
