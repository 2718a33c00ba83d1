//! The WAL that recovery needs, fetched from the archive before the server starts.

use std::path::Path;

use super::Wanted;
use super::backup_set::BackupSet;
use crate::engine::VolumeAt;
use crate::event::Owner;
use crate::restore::Toolbox;
use crate::restore::postgres::data_folder::Cluster;
use crate::restore::postgres::segment::{self, Needed};
use crate::restore::postgres::settings;
use crate::staging::{Bad, Staging};

/// Where the fetched WAL is mounted.
const WAL: &str = "/rehearse-wal";
/// Segments fetched by one command line.
const AT_ONCE: usize = 200;

const GET: &str = r#"
for segment; do
    pgbackrest --no-config archive-get "$segment" "/rehearse-wal/$segment" >/tmp/archive-get 2>&1 || {
        echo "error: cannot get $segment from the archive" >&2
        grep -v INFO /tmp/archive-get >&2 || :
        exit 1
    }
done
chmod -R a+rX /rehearse-wal
"#;

/// The WAL that recovery needs, in a volume of its own.
pub(in crate::restore::postgres) struct Wal {
    pub(super) volume: String,
    /// The first segment that the archive lacks while it has later ones.
    pub(super) gap: Option<String>,
    pub(super) last: Option<String>,
    pub(super) time: Option<String>,
}

impl Wal {
    /// For the server's recovery.
    pub(in crate::restore::postgres) fn from(&self) -> settings::From {
        settings::From {
            command: format!("test -f \"{WAL}/%f\" && cp \"{WAL}/%f\" \"%p\""),
            time: self.time.clone(),
        }
    }

    /// Adds what is known of the archive to the server's words about a target that it did not reach.
    pub(in crate::restore::postgres) fn explain(&self, bad: Bad) -> Bad {
        let Some(time) = self
            .time
            .as_ref()
            .filter(|_| bad.reason.contains("recovery target was reached"))
        else {
            return bad;
        };
        let why = match (&self.gap, &self.last) {
            (Some(gap), _) => format!("segment {gap} is missing in it"),
            (None, Some(last)) => format!("its last segment is {last}"),
            (None, None) => "it holds no segment".to_owned(),
        };
        Bad {
            reason: format!(
                "{}; the archive does not reach `time: {time}`: {why}",
                bad.reason
            ),
            ..bad
        }
    }

    /// Removes it.
    pub(in crate::restore::postgres) async fn remove(self, staging: &Staging) -> Result<(), Bad> {
        staging.ground.engine.remove_volume(&self.volume).await?;
        Ok(())
    }

    pub(super) fn mount(&self) -> VolumeAt {
        VolumeAt {
            volume: self.volume.clone(),
            target: WAL.to_owned(),
            read_only: false,
        }
    }
}

/// The segments from the backup's first to the archive's last.
pub(super) async fn needed(
    cluster: &Cluster<'_>,
    repository: &Path,
    wanted: &Wanted<'_>,
    backup: &BackupSet,
    restore: &str,
) -> Result<Needed, Bad> {
    let control = cluster.control().await?;
    let size = settings::control_value(&control, "Bytes per WAL segment")
        .and_then(|text| text.parse().ok())
        .unwrap_or(segment::DEFAULT_SIZE);
    let folder = repository
        .join("archive")
        .join(wanted.stanza)
        .join(&backup.archive);
    let names = segment::names_below(&folder).map_err(|error| {
        Bad::new(
            Owner::Engine,
            format!("{restore}: cannot list the archive of the repository: {error}"),
        )
    })?;
    let lacks = |gap: &str, help: &str| {
        Bad::new(
            Owner::Backup,
            format!("{restore}: the archive lacks WAL segment {gap}"),
        )
        .with_help(help)
    };
    let needed = segment::needed(&names, &backup.start, &backup.stop, size).ok_or_else(|| {
        lacks(
            &backup.start,
            "the WAL that was written during the backup is not in the archive",
        )
    })?;
    match &needed.gap {
        Some(gap) if needed.before_stop => Err(lacks(
            gap,
            "it was written during the backup, which cannot be recovered without it",
        )),
        // With a time before the gap the server may still get there; it says so if it does not.
        Some(gap) if wanted.time.is_none() => Err(lacks(
            gap,
            "later ones are there, and nothing in them can be brought back: look at archive_command, and make a new backup",
        )),
        _ => Ok(needed),
    }
}

pub(super) async fn fetch(tool: &Toolbox<'_>, needed: &Needed) -> Result<(), Bad> {
    let all: Vec<&str> = needed
        .histories
        .iter()
        .chain(&needed.segments)
        .map(String::as_str)
        .collect();
    for some in all.chunks(AT_ONCE) {
        tool.script("pgbackrest archive-get", GET, some, Owner::Backup)
            .await?;
    }
    Ok(())
}
