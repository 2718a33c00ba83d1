//! What earlier readings of backups showed: a backup that nobody touched since need not be read again.
//!
//! Reading a backup of 10 GB takes longer than everything else that a second rehearsal does before its deploy. A file is
//! taken for unchanged as `git` does it, by its inode, size, modification and change times; a change time cannot be set
//! by a program. What a disk does to a file by itself is not seen so: a backup check always reads.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{BackupFacts, Wanted};

/// Changes whenever reading the same backup would show something else than before.
const READING: u32 = 2;

/// Within this of its last change a file is not remembered: a second change could leave the same times (the problem
/// that git calls racy).
const SETTLED: Duration = Duration::from_secs(2);

/// The readings that are remembered, in a file.
#[derive(Clone, Debug)]
pub struct Remembered {
    file: PathBuf,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Content {
    reading: u32,
    backups: BTreeMap<String, Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    wanted: String,
    stamp: String,
    read: Timestamp,
    facts: BackupFacts,
}

impl Remembered {
    /// Remembers in this file, which need not exist.
    pub fn at(file: PathBuf) -> Self {
        Self { file }
    }

    /// What a backup was when it was last read, and when that was; `None` if it changed since, or nothing is known of it.
    pub fn get(&self, backup: &Path, wanted: Wanted) -> Option<(BackupFacts, Timestamp)> {
        let content = self.load();
        let entry = content.backups.get(&key(backup)?)?;
        let known = entry.wanted == format!("{wanted:?}") && stamp(backup).ok()? == entry.stamp;
        // The path as it is named now: the same backup may have been named from another folder.
        known.then(|| {
            let facts = BackupFacts {
                path: backup.to_owned(),
                ..entry.facts.clone()
            };
            (facts, entry.read)
        })
    }

    /// Remembers what a reading showed. `before` is the stamp from before it; where the backup changed meanwhile, or a
    /// moment ago, nothing is remembered.
    ///
    /// # Errors
    /// When the file cannot be written: the next run reads the backup again.
    pub fn put(
        &self,
        facts: &BackupFacts,
        wanted: Wanted,
        before: &str,
        now: Timestamp,
    ) -> io::Result<()> {
        if stamp(&facts.path)? != before || !is_settled(&facts.path)? {
            return Ok(());
        }
        let Some(key) = key(&facts.path) else {
            return Ok(());
        };
        let mut content = self.load();
        content.reading = READING;
        content.backups.retain(|path, _| Path::new(path).exists());
        content.backups.insert(
            key,
            Entry {
                wanted: format!("{wanted:?}"),
                stamp: before.to_owned(),
                read: now,
                facts: facts.clone(),
            },
        );
        let folder = self.file.parent().unwrap_or(Path::new("."));
        let mut out = tempfile::NamedTempFile::new_in(folder)?;
        out.write_all(&serde_json::to_vec_pretty(&content).map_err(io::Error::other)?)?;
        out.persist(&self.file).map_err(|error| error.error)?;
        Ok(())
    }

    /// A file that cannot be read or understood remembers nothing.
    fn load(&self) -> Content {
        fs::read(&self.file)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Content>(&bytes).ok())
            .filter(|content| content.reading == READING)
            .unwrap_or_default()
    }
}

fn key(backup: &Path) -> Option<String> {
    Some(backup.canonicalize().ok()?.to_str()?.to_owned())
}

/// Inode, size and times of a file, or of everything in a folder.
///
/// # Errors
/// When something cannot be looked at.
pub fn stamp(path: &Path) -> io::Result<String> {
    let mut lines = String::new();
    each(path, &mut |path, meta| {
        use std::fmt::Write as _;
        // Writing to a string does not fail.
        let _ = writeln!(
            lines,
            "{}\0{} {} {} {} {} {} {}",
            path.display(),
            meta.dev(),
            meta.ino(),
            meta.mode(),
            meta.size(),
            meta.mtime(),
            meta.ctime(),
            meta.mtime_nsec() ^ meta.ctime_nsec().rotate_left(32),
        );
    })?;
    Ok(crate::digest::sha256(lines))
}

fn is_settled(path: &Path) -> io::Result<bool> {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let mut settled = true;
    each(path, &mut |_, meta| {
        let changed = Duration::from_secs(u64::try_from(meta.ctime()).unwrap_or(0));
        settled &= changed + SETTLED < now;
    })?;
    Ok(settled)
}

/// A file and what stands beside it under its name, or everything in a folder, in a fixed order.
fn each(path: &Path, see: &mut dyn FnMut(&Path, &fs::Metadata)) -> io::Result<()> {
    let meta = fs::metadata(path)?;
    see(Path::new(""), &meta);
    if meta.is_dir() {
        return below(path, Path::new(""), see);
    }
    // An SQLite database has its journals beside it.
    for journal in ["-wal", "-shm", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(journal);
        if let Ok(meta) = fs::metadata(&name) {
            see(Path::new(journal), &meta);
        }
    }
    Ok(())
}

fn below(root: &Path, folder: &Path, see: &mut dyn FnMut(&Path, &fs::Metadata)) -> io::Result<()> {
    let mut entries = fs::read_dir(root.join(folder))?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = folder.join(entry.file_name());
        let meta = fs::symlink_metadata(entry.path())?;
        see(&path, &meta);
        if meta.is_dir() {
            below(root, &path, see)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::inspect;

    /// Long before now, so that a file counts as settled: the change time is the kernel's, so the test waits for it.
    fn settle(path: &Path) {
        while !is_settled(path).unwrap() {
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    #[test]
    fn a_backup_is_read_again_when_it_was_touched() {
        let place = tempfile::tempdir().unwrap();
        let backup = place.path().join("a.sql");
        let memory = Remembered::at(place.path().join("backups.json"));
        fs::write(&backup, include_bytes!("testdata/shop.sql")).unwrap();
        assert!(memory.get(&backup, Wanted::PostgresDump).is_none());
        let before = stamp(&backup).unwrap();
        let facts = inspect(&backup, Wanted::PostgresDump).unwrap();
        let now = Timestamp::now();
        memory
            .put(&facts, Wanted::PostgresDump, &before, now)
            .unwrap();
        assert!(
            memory.get(&backup, Wanted::PostgresDump).is_none(),
            "it changed a moment ago"
        );
        settle(&backup);
        memory
            .put(&facts, Wanted::PostgresDump, &before, now)
            .unwrap();
        let (known, read) = memory.get(&backup, Wanted::PostgresDump).unwrap();
        assert_eq!((&known, read), (&facts, now));
        assert!(memory.get(&backup, Wanted::Archive).is_none());
        // The same bytes and the same modification time: the change time tells.
        let times = fs::File::open(&backup).unwrap().metadata().unwrap();
        fs::write(&backup, include_bytes!("testdata/shop.sql")).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&backup).unwrap();
        file.set_modified(times.modified().unwrap()).unwrap();
        assert!(memory.get(&backup, Wanted::PostgresDump).is_none());
        // What somebody else wrote into the memory is no reading.
        fs::write(place.path().join("backups.json"), "{").unwrap();
        assert!(memory.get(&backup, Wanted::PostgresDump).is_none());
    }

    #[test]
    fn a_folder_is_stamped_with_everything_in_it() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("dump");
        fs::create_dir_all(folder.join("a")).unwrap();
        fs::write(folder.join("a/b"), "x").unwrap();
        let mut stamps = vec![stamp(&folder).unwrap()];
        fs::write(folder.join("a/b"), "xy").unwrap();
        stamps.push(stamp(&folder).unwrap());
        fs::write(folder.join("c"), "").unwrap();
        stamps.push(stamp(&folder).unwrap());
        fs::remove_file(folder.join("a/b")).unwrap();
        stamps.push(stamp(&folder).unwrap());
        let count = stamps.len();
        stamps.sort();
        stamps.dedup();
        assert_eq!(stamps.len(), count);
    }
}
