//! What a folder is, by the names in it, and the judges of those formats that need only few words.

use super::error::BackupError;
use super::folder::{Folder, FolderJudged};
use super::format::{Format, Wanted};
use super::read::Judged;
use super::stream::Stream;
use super::{base, mariadb, pgfiles, redis, repository};

/// What a folder is; `None` for no backup. Where one is wanted of which parts are missing, it is taken for that: its
/// judge says what is missing.
pub(super) fn recognise(folder: &Folder, wanted: Wanted) -> Option<Format> {
    if wanted == Wanted::Any {
        return Some(Format::Any);
    }
    let seen = |format: &Format| kind(*format).is_some_and(|kind| (kind.shows)(folder));
    const ALL: [Format; 8] = [
        Format::PostgresDirectory,
        Format::PgBackRest,
        Format::Restic,
        Format::Borg,
        Format::RedisAof,
        Format::PostgresBaseFolder,
        Format::MariadbFolder,
        Format::PostgresBaseTar,
    ];
    wanted
        .formats()
        .iter()
        .find(|format| seen(format))
        .or_else(|| ALL.iter().find(|format| seen(format)))
        .copied()
}

type Shows = fn(&Folder) -> bool;
type Judge = fn(&Folder) -> Result<FolderJudged, BackupError>;

/// A format whose backups are folders.
pub(super) struct Kind {
    /// True where a folder has what only such a backup has.
    shows: Shows,
    /// Reads it.
    pub(super) judge: Judge,
}

/// The one place that knows which formats are folders; `None` for those that are files.
pub(super) const fn kind(format: Format) -> Option<Kind> {
    let (shows, judge): (Shows, Judge) = match format {
        Format::PostgresDirectory => (
            |folder| {
                let data = || folder.files.keys().any(|name| data_file(name));
                folder.has("toc.dat") || folder.has("blobs.toc") || data()
            },
            pgfiles::judge_folder,
        ),
        Format::PostgresBaseFolder => (
            |folder| {
                ["PG_VERSION", "global/pg_control", "backup_label"]
                    .iter()
                    .any(|name| folder.has(name))
            },
            base::judge_folder,
        ),
        Format::PostgresBaseTar => (
            |folder| {
                let tar =
                    |name: &String| name.starts_with("base.tar") || name.starts_with("pg_wal.tar");
                folder.files.keys().any(tar) || folder.has("backup_manifest")
            },
            base::judge_tars,
        ),
        Format::PgBackRest => (
            |folder| {
                const INFO: [&str; 4] = [
                    "archive.info",
                    "archive.info.copy",
                    "backup.info",
                    "backup.info.copy",
                ];
                let info = |name: &String| {
                    name.rsplit_once('/')
                        .is_some_and(|(_, last)| INFO.contains(&last))
                };
                folder.files.keys().any(info)
            },
            pgbackrest,
        ),
        Format::MariadbFolder => (
            |folder| folder.has("ibdata1") || mariadb::SAYS.iter().any(|name| folder.has(name)),
            mariadb,
        ),
        Format::RedisAof => (
            |folder| {
                let appended = |name: &String| name.contains(".aof");
                aof_folder(folder).is_some() || folder.files.keys().any(appended)
            },
            redis,
        ),
        Format::Restic => (
            |folder| {
                let folders = ["data", "index", "keys", "snapshots"];
                let there = folders
                    .iter()
                    .filter(|name| folder.folders.contains(**name));
                there.count() + usize::from(folder.has("config")) > 2 && !folder.has("README")
            },
            repository::restic,
        ),
        Format::Borg => (
            |folder| {
                let numbered = |name: &String| {
                    ["index.", "hints.", "integrity."].iter().any(|start| {
                        name.strip_prefix(start)
                            .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
                    })
                };
                folder.files.keys().any(numbered) || (folder.has("README") && folder.has("config"))
            },
            repository::borg,
        ),
        Format::PostgresCustom
        | Format::PostgresPlain
        | Format::PostgresTar
        | Format::PostgresCluster
        | Format::PostgresGlobals
        | Format::MariadbDump
        | Format::MariadbStream
        | Format::RedisRdb
        | Format::Sqlite
        | Format::Tar
        | Format::Zip
        | Format::Any => return None,
    };
    Some(Kind { shows, judge })
}

/// `3348.dat.gz`
fn data_file(name: &str) -> bool {
    name.split_once(".dat").is_some_and(|(number, _)| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// Reads a folder of `mariadb-backup`.
pub(super) fn mariadb(folder: &Folder) -> Result<FolderJudged, BackupError> {
    let text = |names: &[&str]| {
        let name = names.iter().find(|name| folder.has(name));
        name.map(|name| folder.text(name)).transpose()
    };
    let sizes = folder
        .files
        .iter()
        .map(|(name, size)| (name.as_str(), *size));
    let seen = mariadb::judge(&folder.path, sizes, text)?;
    let contents = folder.digest_all()?;
    let judged = Judged {
        dump: Some(seen.dump),
        ..Judged::new(Format::MariadbFolder, seen.complete)
    };
    Ok((judged, contents.sha256, None))
}

/// The path before the names in the append-only folder (empty or `appendonlydir/`), and the name of its manifest.
fn aof_folder(folder: &Folder) -> Option<(&'static str, String)> {
    ["", "appendonlydir/"].into_iter().find_map(|below| {
        folder
            .files
            .keys()
            .find(|name| {
                name.strip_prefix(below)
                    .is_some_and(|name| !name.contains('/') && name.ends_with(".manifest"))
            })
            .map(|name| (below, name.clone()))
    })
}

/// Reads Redis' append-only folder, or the folder that it stands in.
pub(super) fn redis(folder: &Folder) -> Result<FolderJudged, BackupError> {
    let Some((below, name)) = aof_folder(folder) else {
        return Err(folder.truncated("expected a file `*.aof.manifest` in it"));
    };
    let manifest = redis::manifest(&folder.text(&name)?).map_err(|seen| folder.damaged(seen))?;
    let base = manifest.base.map(|file| format!("{below}{file}"));
    let increments: Vec<String> = manifest
        .increments
        .iter()
        .map(|file| format!("{below}{file}"))
        .collect();
    if let Some(base) = &base {
        folder.need(base)?;
    }
    if let Some(missing) = increments.iter().find(|name| !folder.has(name)) {
        return Err(folder.truncated(format!("expected the file `{missing}` in it")));
    }
    let contents = folder.read(|name, path| {
        let mut stream = Stream::raw(path)?;
        let snapshot = stream.head.starts_with(b"REDIS");
        if base.as_deref() == Some(name) && snapshot {
            redis::judge_rdb(&mut stream)?;
        } else if base.as_deref() == Some(name) || increments.iter().any(|one| one == name) {
            redis::judge_aof(&mut stream)?;
        } else {
            stream.rest("inside it")?;
        }
        Ok((stream.meter, ()))
    })?;
    let complete = format!(
        "manifest: {} files, read to the ends of their commands; whether more followed cannot be seen",
        usize::from(base.is_some()) + increments.len()
    );
    Ok((
        Judged::new(Format::RedisAof, complete),
        contents.sha256,
        None,
    ))
}

/// Reads a pgBackRest repository; its own `verify` judges the rest.
pub(super) fn pgbackrest(folder: &Folder) -> Result<FolderJudged, BackupError> {
    let stanzas: std::collections::BTreeSet<&str> = folder
        .files
        .keys()
        .chain(&folder.folders)
        .filter_map(|name| {
            let rest = name
                .strip_prefix("backup/")
                .or_else(|| name.strip_prefix("archive/"))?;
            rest.split('/').next()
        })
        .collect();
    let (mut backups, mut encrypted) = (0, false);
    for stanza in &stanzas {
        folder.need_either(&format!("archive/{stanza}/archive.info"))?;
        let name = folder.need_either(&format!("backup/{stanza}/backup.info"))?;
        let info = folder.content(&name)?;
        if info.starts_with(b"Salted__") {
            encrypted = true;
            continue;
        }
        let info = String::from_utf8_lossy(&info);
        let current = info
            .split_once("[backup:current]\n")
            .map_or("", |(_, rest)| rest.split("\n[").next().unwrap_or_default());
        for label in current
            .lines()
            .filter_map(|line| line.split_once('=').map(|(label, _)| label))
        {
            folder.need_either(&format!("backup/{stanza}/{label}/backup.manifest"))?;
            backups += 1;
        }
        if !info.contains("backrest-checksum=") {
            return Err(folder.truncated(format!("`{name}` does not have its checksum")));
        }
    }
    if stanzas.is_empty() {
        return Err(folder.truncated("expected `archive/<stanza>` and `backup/<stanza>` in it"));
    }
    if backups == 0 && !encrypted {
        return Err(BackupError::empty(
            &folder.path,
            "a pgBackRest repository without backups",
        ));
    }
    let contents = folder.digest_all()?;
    let judged = if encrypted {
        Judged::unseen(
            Format::PgBackRest,
            "it is encrypted; info files are there, and the rest is judged by `pgbackrest verify`",
        )
    } else {
        Judged::new(
            Format::PgBackRest,
            format!(
                "info files: {backups} backups have their manifests; their files are judged by `pgbackrest verify`"
            ),
        )
    };
    Ok((judged, contents.sha256, None))
}

impl Folder {
    /// A file of pgBackRest, which writes each of its info files twice and reads either.
    fn need_either(&self, name: &str) -> Result<String, BackupError> {
        let copy = format!("{name}.copy");
        match (self.need(name), self.need(&copy)) {
            (Ok(_), _) => Ok(name.to_owned()),
            (Err(_), Ok(_)) => Ok(copy),
            (Err(error), Err(_)) => Err(error),
        }
    }
}
