//! SQLite: the database file with its journals into a volume, checked there by the real `sqlite3`.

mod db;
mod examine;
mod wal;

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use db::Db;
pub use examine::examine;

use super::{Deadline, Job, Site, Told, Toolbox, tool_image};
use crate::backup::open_decompressed;
use crate::engine::{VolumeAt, VolumeFacts};
use crate::event::Owner;
use crate::plan::model::Method;
use crate::staging::Bad;

/// Where the volume is mounted in the containers of tools.
const MOUNT: &str = "/restore";

/// Makes the folders above the file that are not there yet. A volume in which nothing is yet becomes the file's
/// owner's, who has to make journals beside it.
const FOLDERS: &str = r#"
owner=$1 to=$2
cd /restore
[ -n "$(ls -A .)" ] || chown "$owner" .
rest=$(dirname "$to")
path=.
while [ -n "$rest" ] && [ "$rest" != . ]; do
  part=${rest%%/*}
  path=$path/$part
  if [ "$part" = "$rest" ]; then rest=; else rest=${rest#*/}; fi
  if [ ! -d "$path" ]; then mkdir "$path"; chown "$owner" "$path"; chmod 0755 "$path"; fi
done
rm -f "./$to" "./$to-wal" "./$to-shm" "./$to-journal"
"#;

/// Copies a database into a volume, lets SQLite recover it, and checks it.
///
/// # Errors
/// When the backup is bad, or it could not be restored for another reason.
pub async fn restore(site: Site<'_>, volume: &VolumeFacts, job: Job<'_>) -> Result<Told, Bad> {
    let Method::Sqlite { to } = &job.restore.method else {
        return Err(super::not_built(&[job]));
    };
    let staging = site.staging;
    let files = Files::of(
        &job.facts.path,
        job.facts.compression == crate::backup::Compression::None,
    )
    .map_err(|error| unreadable(&job.facts.path, &error))?;
    let commits = match &files.wal {
        Some(wal) => judge_wal(job, wal).await?,
        None => None,
    };
    let image = tool_image::of_job(&staging.ground, job).await?;
    let mounts = vec![VolumeAt {
        volume: volume.name.clone(),
        target: MOUNT.to_owned(),
        read_only: false,
    }];
    let tool = Toolbox::open(
        staging,
        &crate::state::slug(&format!("sqlite-{}", job.restore.name)),
        &image,
        mounts,
        format!("restore {}", job.restore.name),
        Deadline::of(site.limit, "limits.restore"),
    )
    .await?;
    let owner = format!("{}:{}", files.uid, files.gid);
    tool.script("mkdir", FOLDERS, &[&owner, to], Owner::Staging)
        .await?;
    upload(&tool, job, to, &files).await?;
    let db = Db::of(&tool, to);
    let told = check(&db, job, &files, commits).await?;
    tool.close().await?;
    Ok(told)
}

async fn check(
    db: &Db<'_>,
    job: Job<'_>,
    files: &Files,
    commits: Option<u64>,
) -> Result<Told, Bad> {
    // The first to open it recovers it: what the journals hold becomes part of the file. Its journal mode stays.
    let mode = db
        .text("pragma journal_mode; pragma wal_checkpoint(truncate);")
        .await?;
    let mode = mode.lines().next().unwrap_or_default().to_owned();
    let tables = db.tables().await?;
    if tables.is_empty() {
        return Err(Bad::new(
            Owner::Backup,
            format!("{}: the database holds no table", job.restore.name),
        )
        .with_help(
            "look at what was copied: an application makes an empty file where it finds none",
        ));
    }
    let mut figure = match db.integrity().await? {
        db::Integrity::Holds => format!("{} tables, integrity_check: ok", tables.len()),
        db::Integrity::CannotTell(why) => format!("{} tables; {why}", tables.len()),
        db::Integrity::Broken(said) => {
            return Err(Bad::new(
                Owner::Backup,
                format!("{}: integrity_check: {said}", job.restore.name),
            ));
        }
    };
    match commits {
        Some(commits) => {
            figure.push_str(&format!(", {commits} transactions in its write-ahead log"))
        }
        None if mode == "wal" && files.wal.is_none() => figure.push_str(
            ", in WAL mode without a -wal beside it: if there was one, what it held is missing",
        ),
        None => {}
    }
    let mut told = Told {
        figure: Some(figure),
        ..Told::default()
    };
    if let Some(query) = &job.restore.demands.data_as_of {
        told.as_of = Some(db.as_of(&job.restore.name, query).await?);
    }
    Ok(told)
}

/// The files of a database, and whose they are.
struct Files {
    uid: u64,
    gid: u64,
    mode: u32,
    /// Its write-ahead log. The index beside it (`-shm`) holds no data and is made anew.
    wal: Option<PathBuf>,
    /// Its rollback journal, which undoes what was under way.
    journal: Option<PathBuf>,
}

impl Files {
    fn of(path: &Path, with_journals: bool) -> std::io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        let beside = |suffix: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            Some(PathBuf::from(name)).filter(|path| with_journals && path.is_file())
        };
        Ok(Self {
            uid: u64::from(metadata.uid()),
            gid: u64::from(metadata.gid()),
            // The owner has to be able to write: a backup is often kept read-only.
            mode: metadata.mode() & 0o777 | 0o200,
            wal: beside("-wal"),
            journal: beside("-journal"),
        })
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Bad {
    Bad::new(
        Owner::Engine,
        format!("cannot read `{}`: {error}", path.display()),
    )
}

async fn judge_wal(job: Job<'_>, wal: &Path) -> Result<Option<u64>, Bad> {
    let path = wal.to_owned();
    let judged = tokio::task::spawn_blocking(move || {
        wal::judge(std::io::BufReader::new(std::fs::File::open(path)?))
    })
    .await
    .map_err(|panic| Bad::new(Owner::Engine, format!("reading a log broke off: {panic}")))?;
    match judged.map_err(|error| unreadable(wal, &error))? {
        Ok(log) => Ok(Some(log.commits)),
        Err(seen) => Err(Bad::new(
            Owner::Backup,
            format!(
                "{}: the write-ahead log `{}` is damaged: {seen}",
                job.restore.name,
                wal.display()
            ),
        )),
    }
}

async fn upload(tool: &Toolbox<'_>, job: Job<'_>, to: &str, files: &Files) -> Result<(), Bad> {
    let facts = job.facts.clone();
    let (to, mode, uid, gid) = (to.to_owned(), files.mode, files.uid, files.gid);
    let (wal, journal) = (files.wal.clone(), files.journal.clone());
    let engine = &tool.staging.ground.engine;
    engine
        .upload_tar(&tool.container, MOUNT, move |out| -> std::io::Result<()> {
            let mut tar = tar::Builder::new(out);
            let mut add = |name: &str, size: u64, content: &mut dyn std::io::Read| {
                let mut header = tar::Header::new_gnu();
                header.set_size(size);
                header.set_mode(mode);
                header.set_uid(uid);
                header.set_gid(gid);
                header.set_mtime(0);
                // A file that has grown since it was judged is not what was judged.
                tar.append_data(&mut header, name, content.take(size))
            };
            let mut content = open_decompressed(&facts.path, facts.compression)?;
            add(&to, facts.decompressed, &mut content)?;
            for (path, suffix) in [(wal, "-wal"), (journal, "-journal")] {
                let Some(path) = path else { continue };
                let mut file = std::fs::File::open(path)?;
                let size = file.metadata()?.len();
                add(&format!("{to}{suffix}"), size, &mut file)?;
            }
            tar.finish()
        })
        .await?;
    Ok(())
}
