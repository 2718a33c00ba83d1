//! Damaged copies of a backup, for the negative control: a check that does not see them has shown nothing.

use std::fs;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use super::sqlite::journals;
use super::{BackupFacts, Compression, Format};

/// A way to damage a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// It ends after three fifths: a full disk, a broken transfer.
    Truncated,
    /// Nothing is in it: a redirect whose command failed.
    Empty,
    /// One of its files is not there.
    MissingPart,
    /// One bit differs.
    FlippedByte,
}

impl Damage {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Truncated,
        Self::Empty,
        Self::MissingPart,
        Self::FlippedByte,
    ];

    /// The copy, in words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Truncated => "a truncated copy",
            Self::Empty => "an empty copy",
            Self::MissingPart => "a copy without one of its files",
            Self::FlippedByte => "a copy with one flipped bit",
        }
    }
}

/// What came of damaging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damaged {
    /// The copy, and what was done to it: `site.dump cut after 1200 of 2000 bytes`.
    Made(PathBuf, String),
    /// Why this damage cannot be done to this backup, or could not be seen in it by anybody.
    Impossible(String),
}

/// Makes a damaged copy below `into`, an empty folder. `recorded` says that the backup's digest is recorded somewhere,
/// so that every difference can be seen.
///
/// # Errors
/// When the backup cannot be read or the copy not written.
pub fn damage(
    facts: &BackupFacts,
    damage: Damage,
    into: &Path,
    recorded: bool,
) -> io::Result<Damaged> {
    let name = facts
        .path
        .file_name()
        .map_or_else(|| PathBuf::from("backup"), PathBuf::from);
    let copy = into.join(name);
    let is_folder = facts.path.is_dir();
    let victim = if is_folder {
        match victim(facts, damage)? {
            Some(victim) => victim,
            None => return Ok(Damaged::Impossible("it holds no file".to_owned())),
        }
    } else {
        PathBuf::new()
    };
    let (from, to) = if is_folder {
        (facts.path.join(&victim), copy.join(&victim))
    } else {
        (facts.path.clone(), copy.clone())
    };
    // They belong to the database: without them the copy would lack more than is said.
    let beside = if facts.format == Format::Sqlite && !is_folder {
        journals(&facts.path)
    } else {
        Vec::new()
    };
    match damage {
        Damage::MissingPart if !is_folder => {
            let why = if beside.is_empty() {
                "it is one file, and has no other"
            } else {
                "nothing tells that a database had a journal beside it"
            };
            return Ok(Damaged::Impossible(why.to_owned()));
        }
        Damage::FlippedByte if !recorded && !shows_flips(facts, &from)? => {
            return Ok(Damaged::Impossible(format!(
                "a {} has nothing that shows it; record its digest with `checksum:` or `manifest:`",
                facts.format.name()
            )));
        }
        _ => {}
    }
    if is_folder {
        copy_folder(&facts.path, &copy, &victim)?;
    }
    for journal in beside {
        if let Some(name) = journal.file_name() {
            fs::copy(&journal, into.join(name))?;
        }
    }
    let shown = from
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let done = match damage {
        Damage::MissingPart => format!("without {}", victim.display()),
        Damage::Empty => {
            fs::File::create_new(&to)?;
            format!("{shown} of 0 bytes")
        }
        Damage::Truncated => {
            let size = from.metadata()?.len();
            let kept = size * 3 / 5;
            let mut out = fs::File::create_new(&to)?;
            io::copy(&mut fs::File::open(&from)?.take(kept), &mut out)?;
            format!("{shown} cut after {kept} of {size} bytes")
        }
        Damage::FlippedByte => {
            fs::copy(&from, &to)?;
            make_writable(&to)?;
            match flip(&to)? {
                Some(at) => format!("a bit of byte {at} of {shown} flipped"),
                None => return Ok(Damaged::Impossible("it holds only zeros".to_owned())),
            }
        }
    };
    Ok(Damaged::Made(copy, done))
}

/// The file of a folder that is damaged: the largest, because that is where the data is. What is left out of a base
/// backup is a WAL segment, without which it cannot become consistent.
fn victim(facts: &BackupFacts, damage: Damage) -> io::Result<Option<PathBuf>> {
    let mut files = Vec::new();
    walk(&facts.path, Path::new(""), &mut |path, meta| {
        if meta.is_file() {
            files.push((meta.len(), path.to_owned()));
        }
        Ok(())
    })?;
    let is_base = matches!(
        facts.format,
        Format::PostgresBaseFolder | Format::PostgresBaseTar
    );
    if is_base && damage == Damage::MissingPart {
        let wal = |path: &Path| {
            path.to_string_lossy().starts_with("pg_wal.tar")
                || path.parent() == Some(Path::new("pg_wal"))
                    && path.file_name().is_some_and(|name| name.len() == 24)
        };
        if let Some((_, path)) = files.iter().find(|(_, path)| wal(path)) {
            return Ok(Some(path.clone()));
        }
    }
    files.sort_by(|(a, x), (b, y)| b.cmp(a).then_with(|| x.cmp(y)));
    Ok(files.into_iter().next().map(|(_, path)| path))
}

type See<'a> = dyn FnMut(&Path, &fs::Metadata) -> io::Result<()> + 'a;

/// Everything in a folder, by paths relative to it, folders before what is in them.
fn walk(root: &Path, below: &Path, see: &mut See<'_>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        let meta = fs::symlink_metadata(entry.path())?;
        see(&path, &meta)?;
        if meta.is_dir() {
            walk(root, &path, see)?;
        }
    }
    Ok(())
}

/// A copy of a folder without one of its files. The others are linked where they can be: nobody writes to them.
fn copy_folder(from: &Path, to: &Path, without: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    walk(from, Path::new(""), &mut |path, meta| {
        let (source, target) = (from.join(path), to.join(path));
        if meta.is_dir() {
            fs::create_dir(&target)
        } else if meta.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&source)?, &target)
        } else if path == without || fs::hard_link(&source, &target).is_ok() {
            Ok(())
        } else {
            fs::copy(&source, &target).map(|_| ())
        }
    })
}

fn make_writable(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}

/// Flips a bit of the first byte after three quarters that is not zero: what is zero may be unused space, in which no
/// checksum would see it. Tables of contents stand at the beginning.
fn flip(path: &Path) -> io::Result<Option<u64>> {
    let mut file = fs::OpenOptions::new().read(true).write(true).open(path)?;
    let size = file.metadata()?.len();
    let start = size * 3 / 4;
    let mut buffer = vec![0; 64 * 1024];
    for from in [start, 0] {
        let mut at = file.seek(SeekFrom::Start(from))?;
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            if let Some(index) = buffer[..read].iter().position(|byte| *byte != 0) {
                let at = at + index as u64;
                file.seek(SeekFrom::Start(at))?;
                file.write_all(&[buffer[index] ^ 1])?;
                return Ok(Some(at));
            }
            at += read as u64;
        }
    }
    Ok(None)
}

/// Whether a flipped bit in this file of a backup must be seen by its format, its compression or its server.
fn shows_flips(facts: &BackupFacts, file: &Path) -> io::Result<bool> {
    let head = |count: usize| -> io::Result<Vec<u8>> {
        let mut head = Vec::new();
        fs::File::open(file)?
            .take(count as u64)
            .read_to_end(&mut head)?;
        Ok(head)
    };
    let by_compression = match facts.compression {
        Compression::None => false,
        // The frame's header says whether it carries a checksum (RFC 8878, 3.1.1.1.1).
        Compression::Zstd => head(5)?
            .get(4)
            .is_some_and(|descriptor| descriptor & 4 != 0),
        _ => true,
    };
    if by_compression {
        return Ok(true);
    }
    let is_gzip = || head(2).map(|head| head == [0x1f, 0x8b]);
    Ok(match facts.format {
        // Its data is compressed by zlib, which ends with a checksum, unless somebody asked for none.
        Format::PostgresCustom => facts.dump.as_ref().is_some_and(|dump| dump.checksummed),
        Format::PostgresDirectory => is_gzip()?,
        Format::PostgresBaseFolder | Format::PostgresBaseTar => {
            facts.path.join("backup_manifest").is_file() || is_gzip()?
        }
        // Without a checksum its last 8 bytes are zero.
        Format::RedisRdb => {
            let mut file = fs::File::open(file)?;
            let mut last = [0; 8];
            file.seek(SeekFrom::End(-8))?;
            file.read_exact(&mut last)?;
            last != [0; 8]
        }
        Format::PgBackRest
        | Format::Restic
        | Format::Borg
        | Format::MariadbStream
        | Format::MariadbFolder
        | Format::Zip => true,
        Format::PostgresPlain
        | Format::PostgresTar
        | Format::PostgresCluster
        | Format::PostgresGlobals
        | Format::MariadbDump
        | Format::RedisAof
        | Format::Sqlite
        | Format::Tar
        | Format::Any => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(path: &Path, format: Format) -> BackupFacts {
        BackupFacts {
            path: path.to_owned(),
            sha256: String::new(),
            size: 0,
            folder: path.is_dir(),
            files: 0,
            complete: String::new(),
            shown: true,
            compression: Compression::None,
            format,
            decompressed: 0,
            entries: 0,
            newest: None,
            dump: None,
        }
    }

    #[test]
    fn a_file_is_damaged_as_said() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a.sql");
        let content: Vec<u8> = (0..1000).map(|n| (n % 251) as u8).collect();
        fs::write(&path, &content).unwrap();
        let facts = facts(&path, Format::PostgresPlain);
        for (kind, recorded) in [
            (Damage::Truncated, false),
            (Damage::Empty, false),
            (Damage::FlippedByte, true),
        ] {
            let into = tempfile::tempdir().unwrap();
            let made = damage(&facts, kind, into.path(), recorded).unwrap();
            let Damaged::Made(copy, _) = made else {
                panic!("{kind:?}: {made:?}")
            };
            let damaged = fs::read(copy).unwrap();
            match kind {
                Damage::Truncated => assert_eq!(damaged, content[..600]),
                Damage::Empty => assert!(damaged.is_empty()),
                Damage::MissingPart | Damage::FlippedByte => {
                    let differ = damaged.iter().zip(&content).filter(|(a, b)| a != b).count();
                    assert_eq!((damaged.len(), differ), (1000, 1));
                }
            }
        }
        assert_eq!(fs::read(&path).unwrap(), content, "the backup itself stays");
        let into = tempfile::tempdir().unwrap();
        for kind in [Damage::FlippedByte, Damage::MissingPart] {
            let made = damage(&facts, kind, into.path(), false).unwrap();
            assert!(matches!(made, Damaged::Impossible(_)), "{made:?}");
        }
    }

    #[test]
    fn a_databases_journals_come_along_whole() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("app.db");
        fs::write(&path, [7; 1000]).unwrap();
        fs::write(place.path().join("app.db-wal"), [9; 500]).unwrap();
        let facts = facts(&path, Format::Sqlite);
        for (kind, size) in [
            (Damage::Truncated, 600),
            (Damage::Empty, 0),
            (Damage::FlippedByte, 1000),
        ] {
            let into = tempfile::tempdir().unwrap();
            let made = damage(&facts, kind, into.path(), true).unwrap();
            let Damaged::Made(copy, _) = made else {
                panic!("{kind:?}: {made:?}")
            };
            assert_eq!(copy.metadata().unwrap().len(), size);
            assert_eq!(fs::read(into.path().join("app.db-wal")).unwrap(), [9; 500]);
        }
        let into = tempfile::tempdir().unwrap();
        let made = damage(&facts, Damage::MissingPart, into.path(), true).unwrap();
        assert!(
            matches!(&made, Damaged::Impossible(why) if why.contains("journal")),
            "{made:?}"
        );
    }

    #[test]
    fn of_a_folder_one_file_is_damaged_and_the_others_stay() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("base");
        fs::create_dir_all(folder.join("pg_wal")).unwrap();
        fs::write(folder.join("large"), [7; 5000]).unwrap();
        fs::write(folder.join("backup_manifest"), "{}").unwrap();
        let segment = "pg_wal/000000010000000000000002";
        fs::write(folder.join(segment), [1; 100]).unwrap();
        let facts = facts(&folder, Format::PostgresBaseFolder);
        for (kind, file, size) in [
            (Damage::Truncated, "large", Some(3000)),
            (Damage::Empty, "large", Some(0)),
            (Damage::FlippedByte, "large", Some(5000)),
            (Damage::MissingPart, segment, None),
        ] {
            let into = tempfile::tempdir().unwrap();
            let made = damage(&facts, kind, into.path(), false).unwrap();
            let Damaged::Made(copy, said) = made else {
                panic!("{kind:?}: {made:?}")
            };
            let found = copy.join(file).metadata().ok().map(|meta| meta.len());
            assert_eq!(found, size, "{said}");
            assert!(copy.join("backup_manifest").is_file());
            assert_eq!(fs::read(folder.join("large")).unwrap(), [7; 5000]);
        }
    }
}
