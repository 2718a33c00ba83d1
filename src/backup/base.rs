//! PostgreSQL's base backups: a data folder, a folder of tars, or one tar with a data folder in it.

use std::collections::BTreeMap;
use std::path::Path;

use super::error::BackupError;
use super::folder::{Folder, FolderJudged, MAX_TEXT};
use super::format::{DumpFacts, Format, Wanted};
use super::manifest::{Manifest, Wal};
use super::pgdump::Fault;
use super::read::Judged;
use super::stream::Stream;
use crate::archive::{self, ArchiveError, Bounds, Kind, names};

const MANIFEST: &str = "backup_manifest";
const LABEL: &str = "backup_label";
const VERSION: &str = "PG_VERSION";
const CONTROL: &str = "global/pg_control";
const TABLESPACES: &str = "tablespace_map";
/// `pg_control` has always had this size.
const CONTROL_SIZE: u64 = 8192;

/// What a base backup holds, in whatever form: paths as in a data folder.
#[derive(Default)]
struct Data {
    files: BTreeMap<String, u64>,
    /// The content of the files that say something of the others.
    texts: BTreeMap<String, Vec<u8>>,
}

/// True for a file whose content says something of the others.
fn says(name: &str) -> bool {
    let last = name.rsplit('/').next().unwrap_or_default();
    [MANIFEST, LABEL, VERSION, TABLESPACES].contains(&last)
}

/// Reads a data folder.
pub(super) fn judge_folder(folder: &Folder) -> Result<FolderJudged, BackupError> {
    let mut data = Data {
        files: folder.files.clone(),
        texts: BTreeMap::new(),
    };
    for name in [MANIFEST, LABEL, VERSION, TABLESPACES] {
        if folder.files.get(name).is_some_and(|size| *size > 0) {
            data.texts.insert(name.to_owned(), folder.content(name)?);
        }
    }
    let judged = data.judge(&folder.path, Format::PostgresBaseFolder)?;
    let contents = folder.digest_all()?;
    Ok((judged, contents.sha256, None))
}

/// Reads a folder of `base.tar`, `pg_wal.tar`, one tar for each tablespace, and the manifest.
pub(super) fn judge_tars(folder: &Folder) -> Result<FolderJudged, BackupError> {
    let tars: BTreeMap<String, String> = folder
        .files
        .keys()
        .filter_map(|name| Some((tar_of(name)?, name.clone())))
        .collect();
    if !tars.contains_key("") {
        return Err(folder.truncated("expected the file `base.tar` in it"));
    }
    let contents = folder.read(|name, path| {
        let Some(below) = tar_of(name) else {
            let mut stream = Stream::raw(path)?;
            stream.rest("inside it")?;
            let unpacked = stream.count;
            return Ok((stream.meter, (Data::default(), unpacked)));
        };
        let mut stream = Stream::open(path)?;
        let data = members(&mut stream, &below)?;
        let unpacked = stream.count;
        Ok((stream.meter, (data, unpacked)))
    })?;
    let mut data = Data::default();
    let mut unpacked = 0;
    for (part, bytes) in contents.files.into_values() {
        data.files.extend(part.files);
        data.texts.extend(part.texts);
        unpacked += bytes;
    }
    if folder.has(MANIFEST) {
        data.texts
            .insert(MANIFEST.to_owned(), folder.content(MANIFEST)?);
    }
    let map = data.text(TABLESPACES).unwrap_or_default();
    for oid in map.lines().filter_map(|line| line.split(' ').next()) {
        if !tars.contains_key(&format!("pg_tblspc/{oid}/")) {
            return Err(folder.truncated(format!("expected the tablespace `{oid}.tar` in it")));
        }
    }
    let judged = data.judge(&folder.path, Format::PostgresBaseTar)?;
    Ok((judged, contents.sha256, Some(unpacked)))
}

/// Where the members of a tar belong in a data folder: empty for `base.tar.gz`. `None` for another file.
fn tar_of(name: &str) -> Option<String> {
    let (stem, suffix) = name.split_once(".tar")?;
    if !(suffix.is_empty() || suffix.starts_with('.')) {
        return None;
    }
    match stem {
        "base" => Some(String::new()),
        "pg_wal" => Some("pg_wal/".to_owned()),
        oid if !oid.is_empty() && oid.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(format!("pg_tblspc/{oid}/"))
        }
        _ => None,
    }
}

/// Reads one tar with a data folder in it, at its top or in some folder.
pub(super) fn judge_tar(stream: &mut Stream) -> Result<Judged, BackupError> {
    let data = members(stream, "")?;
    let top = data
        .files
        .keys()
        .filter_map(|name| {
            let top = [CONTROL, LABEL, VERSION]
                .iter()
                .find_map(|last| name.strip_suffix(last))?;
            (top.is_empty() || top.ends_with('/')).then_some(top)
        })
        .min_by_key(|top| top.len());
    let Some(top) = top else {
        return Err(BackupError::wrong(
            &stream.path,
            Wanted::PostgresBase,
            "a tar archive without a PostgreSQL data folder",
        ));
    };
    let below = |name: &String| name.strip_prefix(top).map(str::to_owned);
    let entries = data.files.len() as u64;
    let data = Data {
        files: data
            .files
            .iter()
            .filter_map(|(name, size)| Some((below(name)?, *size)))
            .collect(),
        texts: data
            .texts
            .iter()
            .filter_map(|(name, text)| Some((below(name)?, text.clone())))
            .collect(),
    };
    Ok(Judged {
        entries,
        ..data.judge(&stream.path, Format::PostgresBaseTar)?
    })
}

/// Reads a tar to its end.
fn members(stream: &mut Stream, below: &str) -> Result<Data, BackupError> {
    let (path, meter) = (stream.path.clone(), stream.meter.clone());
    let mut data = Data::default();
    archive::walk_tar(stream, &meter, &Bounds::ROOTFS, &mut |entry, content| {
        let name = format!("{below}{}", names::shown(&entry.path));
        let size = match &entry.kind {
            Kind::File => entry.size,
            Kind::Hardlink(target) => {
                let target = format!("{below}{}", names::shown(target));
                data.files.get(&target).copied().unwrap_or(0)
            }
            Kind::Directory | Kind::Symlink(_) => return Ok(()),
        };
        if says(&name) {
            if size > MAX_TEXT {
                return Err(ArchiveError::Damaged(format!(
                    "its file `{name}` has {size} bytes"
                )));
            }
            let mut text = Vec::new();
            content.copy_to(&mut text)?;
            data.texts.insert(name.clone(), text);
        }
        data.files.insert(name, size);
        Ok(())
    })
    .map_err(|error| BackupError::from_archive(&path, error))?;
    Ok(data)
}

impl Data {
    fn text(&self, name: &str) -> Option<String> {
        let text = self.texts.get(name)?;
        Some(String::from_utf8_lossy(text).into_owned())
    }

    fn judge(&self, path: &Path, format: Format) -> Result<Judged, BackupError> {
        let missing =
            |name: &str| BackupError::truncated(path, format!("expected the file `{name}` in it"));
        let version = self.text(VERSION).ok_or_else(|| missing(VERSION))?;
        match self.files.get(CONTROL) {
            None => return Err(missing(CONTROL)),
            Some(&CONTROL_SIZE) => {}
            Some(size) => {
                return Err(BackupError::truncated(
                    path,
                    format!("its file `{CONTROL}` has {size} bytes, expected {CONTROL_SIZE}"),
                ));
            }
        }
        let label = self.text(LABEL);
        let incremental = label
            .as_deref()
            .is_some_and(|label| label.contains("\nINCREMENTAL FROM LSN:"));
        if incremental {
            return Err(BackupError::unsupported(
                path,
                "it is an incremental base backup; combine it with those before it with `pg_combinebackup`, and name the result",
            ));
        }
        let fault = |fault| match fault {
            Fault::Truncated(seen) => BackupError::truncated(path, seen),
            Fault::Damaged(seen) => BackupError::damaged(path, seen),
            Fault::Unsupported(seen) => BackupError::unsupported(path, seen),
            Fault::Io(source, _) => BackupError::unreadable(path, source),
        };
        let complete = match (self.texts.get(MANIFEST), &label) {
            (Some(manifest), _) => Manifest::parse(manifest)
                .and_then(|manifest| manifest.judge(&self.files))
                .map_err(fault)?,
            (None, _) if self.files.contains_key(MANIFEST) => {
                return Err(BackupError::truncated(
                    path,
                    format!("its file `{MANIFEST}` is empty"),
                ));
            }
            (None, Some(label)) => self.judge_by_label(label).map_err(fault)?,
            (None, None) => {
                return Err(BackupError::wrong(
                    path,
                    Wanted::PostgresBase,
                    "a data folder that was copied: it has neither `backup_manifest` nor `backup_label`, so nothing tells whether all of it is of one time",
                ));
            }
        };
        Ok(Judged {
            dump: Some(DumpFacts {
                server_version: Some(version.trim().to_owned()),
                ..DumpFacts::default()
            }),
            ..Judged::new(format, complete)
        })
    }

    /// Without a manifest only the WAL's beginning is known.
    fn judge_by_label(&self, label: &str) -> Result<String, Fault> {
        let segment = label
            .lines()
            .find_map(|line| line.strip_prefix("START WAL LOCATION: "))
            .and_then(|line| line.split_once("(file "))
            .and_then(|(_, name)| name.strip_suffix(')'))
            .filter(|name| name.len() == 24 && name.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .ok_or_else(|| {
                Fault::Damaged("its `backup_label` does not say where its WAL begins".to_owned())
            })?;
        let wal = Wal::of(&self.files)?;
        if !wal.has_segment(segment) {
            return Err(Fault::Truncated(format!(
                "its WAL segment `{segment}` is missing"
            )));
        }
        if let Some(gap) = wal.gap(segment) {
            return Err(Fault::Truncated(format!(
                "its WAL segment `{gap}` is missing"
            )));
        }
        Ok(format!(
            "backup_label: WAL from segment {segment} on without gaps; without `backup_manifest` neither its end nor missing files can be seen"
        ))
    }
}
