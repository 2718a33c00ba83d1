//! Base backups: a data folder, or the tars of one, into the service's volume.

use std::collections::BTreeMap;

use super::data_folder::{Cluster, TABLESPACES};
use crate::backup::Format;
use crate::engine::{HostPaths, Modes, VolumeFacts};
use crate::event::Owner;
use crate::restore::{Deadline, Inbox, Job, Site};
use crate::staging::{Bad, Blueprint};

const MANIFEST: &str = "backup_manifest";

/// Unpacks by the image's own programs: `$1` is one tar of a data folder, or the folder with `base.tar`; `$2` the data
/// folder, `$3` where tablespaces go.
const UNPACK: &str = r#"
bad=$(mktemp -u)
unpack() {
    mkdir -p "$2"
    case $(head -c 4 "$1" | od -An -tx1 | tr -d ' \n') in
        1f8b*) how=gzip ;;
        28b52ffd) how=zstd ;;
        04224d18) how=lz4 ;;
        425a68*) how=bzip2 ;;
        fd377a58) how=xz ;;
        *) tar -xf "$1" -C "$2"; return ;;
    esac
    command -v $how >/dev/null || { echo "$how: not found" >&2; exit 127; }
    { $how -dc <"$1" || : >"$bad"; } | tar -xf - -C "$2"
    if [ -e "$bad" ]; then exit 1; fi
}
if [ ! -d "$1" ]; then
    unpack "$1" "$2"
    # A tar of a data folder may hold it below its own path.
    if [ ! -e "$2/global/pg_control" ]; then
        control=$(find "$2" -path '*/global/pg_control' | head -n 1)
        if [ -n "$control" ]; then
            inner=$(dirname "$(dirname "$control")")
            mv "$inner"/* "$2"/
        fi
    fi
    exit 0
fi
unpack "$(ls "$1"/base.tar* | head -n 1)" "$2"
for one in "$1"/*.tar*; do
    name=$(basename "$one")
    name=${name%%.tar*}
    case $name in
        base) ;;
        pg_wal) unpack "$one" "$2/pg_wal" ;;
        *[!0-9]*) echo "error: $one belongs to no base backup" >&2; exit 1 ;;
        *) unpack "$one" "$3/$name"; mkdir -p "$2/pg_tblspc"; ln -sfn "$3/$name" "$2/pg_tblspc/$name" ;;
    esac
done
if [ -e "$1/backup_manifest" ]; then cp "$1/backup_manifest" "$2/"; fi
"#;

/// Each link of `$1/pg_tblspc` has to lead to a folder; `$2` at a target's beginning becomes `$1`.
pub(super) const RELINK: &str = r#"
for link in "$1"/pg_tblspc/*; do
    [ -L "$link" ] || continue
    target=$(readlink "$link")
    case $target in
        "$2"/*) target=$1${target#"$2"}; ln -sfn "$target" "$link" ;;
    esac
    [ -d "$link/" ] || { echo "error: the tablespace $(basename "$link") at $target is not part of the backup" >&2; exit 1; }
done
"#;

/// Fills the data folder, and holds it against its manifest.
pub(super) async fn fill<'a>(
    site: Site<'a>,
    blueprint: &Blueprint,
    volumes: &BTreeMap<String, VolumeFacts>,
    job: Job<'_>,
    deadline: Deadline,
) -> Result<(Cluster<'a>, Option<Inbox>), Bad> {
    let staging = site.staging;
    let restore = &job.restore.name;
    let service = &blueprint.service.name;
    let inbox = match job.facts.format {
        Format::PostgresBaseFolder => None,
        _ => Some(Inbox::fill(staging, service, &[job]).await?),
    };
    let more = inbox.iter().map(Inbox::mount).collect();
    let mut cluster = Cluster::open(site, blueprint, volumes, more, restore, deadline).await?;
    let (tool, data) = (&cluster.tool, cluster.data.clone());
    let tablespaces = format!("{data}/{TABLESPACES}");
    if inbox.is_some() {
        let from = Inbox::path(0);
        tool.script("tar", UNPACK, &[&from, &data, &tablespaces], Owner::Backup)
            .await?;
    } else {
        // Straight into the volume: a second copy would take the time and the room of the first.
        let paths = HostPaths {
            source: job.facts.path.clone(),
            target: data.clone(),
            owner: (0, 0),
            mode: Modes::Set(0o600),
        };
        staging
            .ground
            .engine
            .upload_paths(&tool.container, paths)
            .await?;
    }
    cluster.filled().await?;
    cluster
        .tool
        .script("tablespaces", RELINK, &[&data, &data], Owner::Backup)
        .await?;
    verify(&mut cluster).await?;
    map_tablespaces(&mut cluster).await?;
    labelled(&cluster).await?;
    Ok((cluster, inbox))
}

/// Files, sizes, checksums and WAL against the manifest that `pg_basebackup` wrote.
async fn verify(cluster: &mut Cluster<'_>) -> Result<(), Bad> {
    let manifest = format!("{}/{MANIFEST}", cluster.data);
    if cluster
        .as_server(&["test", "-e", &manifest])
        .await?
        .exit_code
        != 0
    {
        cluster
            .notes
            .push("no backup_manifest: a damaged file may not be seen".to_owned());
        return Ok(());
    }
    // It ends at the first error: that one is named, and a folder of another backup would give a million.
    let command = [
        "pg_verifybackup",
        "--exit-on-error",
        "--ignore",
        TABLESPACES,
        &cluster.data,
    ];
    let outcome = cluster.as_server(&command).await?;
    if outcome.exit_code != 0 {
        return Err(cluster
            .tool
            .failed("pg_verifybackup", &outcome, Owner::Backup)
            .with_help(
                "the backup is not what pg_basebackup wrote: look at how it was copied and kept",
            ));
    }
    cluster
        .notes
        .push("pg_verifybackup: its manifest and its WAL hold".to_owned());
    // From here on it would be wrong: the settings change.
    cluster
        .tool
        .must(&["rm", "-f", &manifest], Owner::Engine)
        .await?;
    Ok(())
}

/// The server makes its links from `tablespace_map`, which names folders of production's machine.
async fn map_tablespaces(cluster: &mut Cluster<'_>) -> Result<(), Bad> {
    let Some(map) = cluster.read("tablespace_map").await? else {
        return Ok(());
    };
    let mut mapped = String::new();
    let mut count = 0;
    for line in map.lines().filter(|line| !line.is_empty()) {
        let oid = line.split(' ').next().unwrap_or_default();
        let folder = format!("{}/{TABLESPACES}/{oid}", cluster.data);
        if cluster.as_server(&["test", "-d", &folder]).await?.exit_code != 0 {
            return Err(Bad::new(
                Owner::Backup,
                format!(
                    "{}: the tablespace {line} is not part of the backup",
                    cluster.restore
                ),
            )
            .with_help(format!("`{oid}.tar` belongs beside base.tar")));
        }
        mapped.push_str(&format!("{oid} {folder}\n"));
        count += 1;
    }
    cluster.write("tablespace_map", mapped).await?;
    cluster
        .notes
        .push(format!("tablespaces moved into the data folder: {count}"));
    Ok(())
}

/// Without its label, a copy of a running server's folder starts from the wrong checkpoint and may be silently corrupt
/// (PostgreSQL's documentation, "Recovering Using a Continuous Archive Backup"). A folder that was copied after a clean
/// stop needs none.
async fn labelled(cluster: &Cluster<'_>) -> Result<(), Bad> {
    if cluster.read("backup_label").await?.is_some() {
        return Ok(());
    }
    let control = cluster.control().await?;
    let state =
        super::settings::control_value(&control, "Database cluster state").unwrap_or_default();
    if state.starts_with("shut down") {
        return Ok(());
    }
    Err(Bad::new(
        Owner::Backup,
        format!(
            "{}: backup_label is missing, and the server was running when its folder was copied (`{state}`)",
            cluster.restore
        ),
    )
    .with_help("a server would start on it and might be corrupt without a word: back up with pg_basebackup, and keep every file of it"))
}
