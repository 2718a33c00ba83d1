//! What a backup of `mariadb-backup` or `xtrabackup` says of itself, be it a folder or a stream.

use std::path::Path;

use super::error::BackupError;
use super::format::DumpFacts;

/// What the tool writes when all else is there, newer names first.
const CHECKPOINTS: &[&str] = &["mariadb_backup_checkpoints", "xtrabackup_checkpoints"];
const INFO: &[&str] = &["mariadb_backup_info", "xtrabackup_info"];
const REDO: [&str; 2] = ["ib_logfile0", "xtrabackup_logfile"];
/// The small files that are read for what they say.
pub(super) const SAYS: [&str; 4] = [CHECKPOINTS[0], CHECKPOINTS[1], INFO[0], INFO[1]];
/// None of them is longer.
pub(super) const MAX_TEXT: usize = 1024 * 1024;

pub(super) struct Seen {
    pub(super) dump: DumpFacts,
    pub(super) complete: String,
}

/// Judges the names and sizes of a backup's files, and what the small ones say, which `text` finds by any of their
/// names.
pub(super) fn judge<'a>(
    path: &Path,
    files: impl Iterator<Item = (&'a str, u64)>,
    text: impl Fn(&[&str]) -> Result<Option<String>, BackupError>,
) -> Result<Seen, BackupError> {
    let files: std::collections::BTreeMap<&str, u64> = files.collect();
    let missing =
        |name: &str| BackupError::truncated(path, format!("expected the file `{name}` in it"));
    let checkpoints = text(CHECKPOINTS)?.ok_or_else(|| missing(CHECKPOINTS[1]))?;
    let value = |text: &str, key: &str| {
        text.lines().find_map(|line| {
            let (name, value) = line.split_once('=')?;
            (name.trim() == key).then(|| value.trim().to_owned())
        })
    };
    let kind = value(&checkpoints, "backup_type")
        .ok_or_else(|| BackupError::damaged(path, "its checkpoints do not give `backup_type`"))?;
    match kind.as_str() {
        // `log-applied` is what `mariadb-backup --prepare` makes of a full backup.
        "full-backuped" | "full-prepared" | "log-applied" => {}
        "incremental" => {
            return Err(BackupError::unsupported(
                path,
                "it is an incremental backup; apply it to its full backup with `mariadb-backup --prepare --incremental-dir`, and name that one",
            ));
        }
        other => {
            return Err(BackupError::unsupported(
                path,
                format!("it is a backup of the type `{other}`; make a full one"),
            ));
        }
    }
    let info = text(INFO)?.ok_or_else(|| missing(INFO[1]))?;
    let system = |name: &&str| name.starts_with("ibdata1");
    if !files.keys().any(system) {
        return Err(missing("ibdata1"));
    }
    if kind == "full-backuped"
        && !files
            .keys()
            .any(|name| REDO.iter().any(|redo| name.starts_with(redo)))
    {
        return Err(missing(REDO[0]));
    }
    // Pages have 4 KiB and more, those of compressed tables 1 KiB and more.
    for (name, size) in &files {
        let page = match *name {
            "ibdata1" => 4096,
            name if name.ends_with(".ibd") => 1024,
            _ => continue,
        };
        if *size == 0 || !size.is_multiple_of(page) {
            return Err(BackupError::truncated(
                path,
                format!("file `{name}` of {size} bytes does not end with a whole page"),
            ));
        }
    }
    let upto = value(&checkpoints, "to_lsn").unwrap_or_default();
    Ok(Seen {
        dump: DumpFacts {
            server_version: value(&info, "server_version"),
            tool_version: value(&info, "tool_version"),
            made_local: value(&info, "end_time").and_then(|time| time.parse().ok()),
            ..DumpFacts::default()
        },
        complete: format!(
            "checkpoints: full backup up to LSN {upto}; a missing table cannot be seen"
        ),
    })
}
