//! What holds for all formats. Each format's own samples and damages are in its file.

mod archives;
mod base;
mod folders;
mod mariadb;
mod postgres;
mod redis;
mod sqlite;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::*;
use crate::archive::testing::{self, Raw, compress, executable, file, folder, hard, link, raw};

const COMPRESSIONS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Zstd,
    Compression::Bzip2,
    Compression::Xz,
];
/// Made with `pg_dump -Fc` of PostgreSQL 15: three tables, one of them empty, and a large object.
const CUSTOM: &[u8] = include_bytes!("testdata/shop.dump");
/// The same database in plain SQL.
const PLAIN: &[u8] = include_bytes!("testdata/shop.sql");
/// From `pg_dump -Fd` of it.
const DIRECTORY: &[u8] = include_bytes!("testdata/toc.dat");

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// The name deliberately says nothing about the content.
    fn put(&self, data: &[u8]) -> PathBuf {
        let path = self.0.path().join("backup");
        fs::write(&path, data).unwrap();
        path
    }
}

/// What a sample's content is wanted for, where a test does not care.
fn inspect(path: &Path) -> Result<BackupFacts, BackupError> {
    match super::inspect(path, Wanted::Archive) {
        Err(BackupError::WrongFormat { .. }) => super::inspect(path, Wanted::PostgresDump),
        result => result,
    }
}

/// The content of a sample that is kept as xz.
fn unpacked(xz: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    crate::archive::source::decoder(std::io::Cursor::new(xz.to_vec()), Compression::Xz)
        .unwrap()
        .read_to_end(&mut data)
        .unwrap();
    data
}

impl Place {
    /// A folder that is kept as a tar with xz around it.
    fn unpack(&self, tar: &[u8]) -> PathBuf {
        let path = self.0.path().join("folder");
        fs::create_dir(&path).unwrap();
        let data = unpacked(tar);
        ::tar::Archive::new(data.as_slice()).unpack(&path).unwrap();
        path
    }
}

/// Cuts `data` at every byte, flips bits of every byte, and appends something: no such backup may be accepted, and
/// each must be the backup's fault. `cut` and `flipped` tell where the format cannot show it.
fn damage(
    data: &[u8],
    wanted: Wanted,
    cut: impl Fn(usize) -> bool,
    flipped: impl Fn(usize) -> bool,
) {
    let place = Place::new();
    super::inspect(&place.put(data), wanted).unwrap();
    let judge = |what: &str, data: &[u8]| match super::inspect(&place.put(data), wanted) {
        Ok(facts) => panic!("{what} is accepted: {facts:?}"),
        Err(error) => assert!(error.is_backup_fault(), "{what}: {error}"),
    };
    for at in (0..data.len()).filter(|at| !cut(*at)) {
        judge(&format!("cut at {at}"), &data[..at]);
    }
    for at in (0..data.len()).filter(|at| !flipped(*at)) {
        let mut bad = data.to_vec();
        bad[at] ^= 0x11;
        // A flipped head may be of another kind that nobody reads.
        if let Ok(facts) = super::inspect(&place.put(&bad), wanted) {
            panic!("flipped at {at} is accepted: {facts:?}");
        }
    }
    judge("something appended", &[data, b"garbage\0\0\xff"].concat());
}

/// Removes, empties and cuts each file of a folder, and flips a byte of it; `shows` tells of a file and such a damage
/// (`removed`, `empty`, `cut`, `halved`, `flipped`) whether it must be seen.
fn damage_folder(folder: &Path, wanted: Wanted, shows: impl Fn(&str, &str) -> bool) {
    let whole = super::inspect(folder, wanted).unwrap();
    assert!(whole.folder && whole.files > 0);
    let mut names = Vec::new();
    list(folder, "", &mut names);
    assert_eq!(names.len() as u64, whole.files);
    for name in names {
        let path = folder.join(&name);
        let data = fs::read(&path).unwrap();
        let mut damages = vec![("removed", None)];
        if !data.is_empty() {
            let mut flipped = data.clone();
            flipped[data.len() / 2] ^= 0x10;
            damages.extend([
                ("empty", Some(Vec::new())),
                ("cut", Some(data[..data.len() - 1].to_vec())),
                ("halved", Some(data[..data.len() / 2].to_vec())),
                ("flipped", Some(flipped)),
            ]);
        }
        for (what, bad) in damages {
            match bad {
                None => fs::remove_file(&path).unwrap(),
                Some(bad) => fs::write(&path, bad).unwrap(),
            }
            match super::inspect(folder, wanted) {
                Ok(facts) => {
                    assert!(
                        !shows(&name, what),
                        "{name} {what} is accepted: {}",
                        facts.complete
                    );
                    assert_ne!(facts.sha256, whole.sha256, "{name} {what}");
                }
                Err(error) => {
                    assert!(error.is_backup_fault(), "{name} {what}: {error}");
                }
            }
            fs::write(&path, &data).unwrap();
        }
    }
    assert_eq!(super::inspect(folder, wanted).unwrap(), whole);
}

fn list(folder: &Path, below: &str, names: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{below}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            list(&entry.path(), &format!("{name}/"), names);
        } else if entry.file_type().unwrap().is_file() {
            names.push(name);
        }
    }
}

fn uploads() -> Vec<Raw> {
    vec![
        Raw {
            owner: (33, 33),
            mode: 0o2775,
            ..folder("./")
        },
        Raw {
            owner: (33, 33),
            mode: 0o6755,
            ..file("./a.txt", "hello")
        },
        Raw {
            mtime: 1_800_000_000,
            ..executable("./bin/x", "#!/bin/sh\n")
        },
        link("./home", "a.txt"),
        hard("./b.txt", "./a.txt"),
        Raw {
            mtime: 2_000_000_000,
            ..folder("./later")
        },
        raw(b"./caf\xe9", b'0', "", "latin"),
    ]
}

#[test]
fn good_backups_are_known_for_what_they_are() {
    let place = Place::new();
    let tar = testing::tar(&uploads());
    let table = [
        (CUSTOM, Format::PostgresCustom),
        (PLAIN, Format::PostgresPlain),
        (&tar, Format::Tar),
    ];
    for (data, format) in table {
        for compression in COMPRESSIONS {
            let compressed = compress(data, compression);
            let path = place.put(&compressed);
            let facts = inspect(&path).unwrap();
            assert_eq!((facts.format, facts.compression), (format, compression));
            assert_eq!(
                (facts.size, facts.decompressed),
                (compressed.len() as u64, data.len() as u64)
            );
            assert_eq!(facts.sha256, crate::archive::source::digest(&path).unwrap());
            let mut whole = Vec::new();
            open_decompressed(&path, facts.compression)
                .unwrap()
                .read_to_end(&mut whole)
                .unwrap();
            assert_eq!(whole, data);
        }
    }
    let facts = inspect(&place.put(&tar)).unwrap();
    // The newest file counts; the folder `later` does not.
    assert_eq!(
        (facts.entries, facts.newest),
        (7, Some("2027-01-15T08:00:00Z".parse().unwrap()))
    );
    let facts = inspect(&place.put(&testing::zip(&[file("a", "x")]))).unwrap();
    assert_eq!(
        (facts.format, facts.compression, facts.entries),
        (Format::Zip, Compression::None, 1)
    );
    // Several gzip members, as parallel compressors write them.
    let (first, second) = tar.split_at(700);
    let members = [
        compress(first, Compression::Gzip),
        compress(second, Compression::Gzip),
    ]
    .concat();
    assert_eq!(
        inspect(&place.put(&members)).unwrap().decompressed,
        tar.len() as u64
    );
}

#[test]
fn a_dump_says_where_it_comes_from() {
    let place = Place::new();
    let custom = inspect(&place.put(CUSTOM)).unwrap().dump.unwrap();
    assert_eq!(custom.database.as_deref(), Some("shop"));
    assert_eq!(custom.tables, Some(3));
    assert_eq!(
        custom.made_local.map(|time| (time.year(), time.month())),
        Some((2026, 11))
    );
    let plain = inspect(&place.put(PLAIN)).unwrap().dump.unwrap();
    for dump in [custom, plain] {
        assert_eq!(
            dump.server_version.as_deref(),
            Some("15.18 (Debian 15.18-0+deb12u1)")
        );
        assert_eq!(
            dump.tool_version.as_deref(),
            Some("15.18 (Debian 15.18-0+deb12u1)")
        );
    }
}

/// Only a plain dump, and only without its last line ends, is still whole.
fn harmless(name: &str, at: usize) -> bool {
    name == "plain none" && at >= PLAIN.trim_ascii_end().len()
}

#[test]
fn no_truncated_backup_is_accepted() {
    let place = Place::new();
    let tar = testing::tar(&uploads());
    let mut backups = vec![("zip".to_owned(), testing::zip(&uploads()[..5]))];
    for (name, data) in [("custom", CUSTOM), ("plain", PLAIN), ("tar", &tar)] {
        for compression in COMPRESSIONS {
            backups.push((
                format!("{name} {}", compression.name()),
                compress(data, compression),
            ));
        }
    }
    for (name, data) in &backups {
        let mut truncated = 0;
        // Their decoders take long to set up.
        let slow = name.ends_with("bzip2") || name.ends_with("xz");
        let wanted = if name.starts_with("tar") || name == "zip" {
            Wanted::Archive
        } else {
            Wanted::PostgresDump
        };
        let points: Vec<usize> = (0..data.len())
            .step_by(if slow { 13 } else { 1 })
            .chain(data.len() - 13..data.len())
            .filter(|at| !harmless(name, *at))
            .collect();
        for at in &points {
            let error = super::inspect(&place.put(&data[..*at]), wanted)
                .expect_err(&format!("{name} cut at {at} is accepted"));
            // A few bytes of a head are no known format, but a bad backup all the same.
            assert!(error.is_backup_fault(), "{name} cut at {at}: {error}");
            truncated += usize::from(matches!(error, BackupError::Truncated { .. }));
        }
        assert!(
            truncated * 10 > points.len() * 7,
            "{name}: {truncated} of {}",
            points.len()
        );
        inspect(&place.put(data)).unwrap();
    }
}

#[test]
fn no_flipped_bit_in_a_compressed_backup_is_accepted() {
    let place = Place::new();
    let tar = testing::tar(&uploads());
    for compression in [Compression::Gzip, Compression::Zstd] {
        let data = compress(&tar, compression);
        for at in 0..data.len() {
            let mut flipped = data.clone();
            flipped[at] ^= 0x04;
            let path = place.put(&flipped);
            if let Ok(facts) = inspect(&path) {
                // The time and the system in gzip's header have no meaning.
                let mut whole = Vec::new();
                open_decompressed(&path, facts.compression)
                    .unwrap()
                    .read_to_end(&mut whole)
                    .unwrap();
                assert_eq!(whole, tar, "{} flipped at {at}", compression.name());
            }
        }
    }
    // Each byte of a tar's headers is under a checksum.
    for at in (0..tar.len()).filter(|at| at / 512 == 1) {
        let mut flipped = tar.clone();
        flipped[at] ^= 0x04;
        assert!(
            inspect(&place.put(&flipped)).is_err(),
            "tar flipped at {at}"
        );
    }
}

#[test]
fn what_cannot_be_restored_is_named() {
    let place = Place::new();
    let cluster = b"--\n-- PostgreSQL database cluster dump\n--\n\nSET x = 1;\n";
    let more = [PLAIN, b"\nselect 1;\n"].concat();
    let unlocked = String::from_utf8_lossy(PLAIN).replace("\\unrestrict ", "\\unrestrict x");
    let table: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("empty gzip", compress(b"", Compression::Gzip)),
        ("empty zstd", compress(b"", Compression::Zstd)),
        ("empty tar", testing::tar(&[])),
        ("empty zip", testing::raw_zip(&[])),
        ("zeros", vec![0; 4096]),
        ("bzip2", b"BZh91AY&SY".to_vec()),
        ("xz", b"\xfd7zXZ\0\0\x04".to_vec()),
        ("cluster", cluster.to_vec()),
        ("cluster gzip", compress(cluster, Compression::Gzip)),
        ("directory dump", DIRECTORY.to_vec()),
        ("mysql", b"-- MySQL dump 10.13  Distrib 8.0\n".to_vec()),
        (
            "mariadb",
            b"/*M!999999\\- enable the sandbox mode */ \n-- MariaDB dump\n".to_vec(),
        ),
        ("redis", b"REDIS0011\xfa\tredis-ver".to_vec()),
        (
            "sqlite zstd",
            compress(b"SQLite format 3\0\x10\0", Compression::Zstd),
        ),
        ("html", b"<!DOCTYPE html><html>502 Bad Gateway".to_vec()),
        (
            "error message",
            b"pg_dump: error: connection to server failed\n".to_vec(),
        ),
        ("powershell", b"\xff\xfe-\0-\0".to_vec()),
        ("pgp", b"-----BEGIN PGP MESSAGE-----\n".to_vec()),
        ("text", b"create table t (i int);\n".to_vec()),
        ("noise", vec![0x9b, 0x01, 0xfe, 0x00, 0x13, 0x37]),
        (
            "gzip in gzip",
            compress(&compress(PLAIN, Compression::Gzip), Compression::Gzip),
        ),
        (
            "after gzip",
            [compress(PLAIN, Compression::Gzip), b"garbage".to_vec()].concat(),
        ),
        ("more sql", more),
        ("restricted", unlocked.into_bytes()),
        (
            "two tars",
            [testing::tar(&uploads()), testing::tar(&uploads())].concat(),
        ),
        ("sparse", testing::tar(&[raw("s", b'S', "", "")])),
    ];
    let mut seen = String::new();
    for (name, data) in table {
        let error = inspect(&place.put(&data)).unwrap_err();
        let owner = if error.is_backup_fault() {
            "backup"
        } else {
            "not the backup"
        };
        let text = error
            .to_string()
            .replace(&place.0.path().display().to_string(), "PLACE");
        seen.push_str(&format!(
            "{name} [{owner}]\n  {text}\n  help: {}\n",
            error.help()
        ));
    }
    insta::assert_snapshot!(seen);
}

#[test]
fn what_this_machine_cannot_read_is_not_the_backups_fault() {
    let place = Place::new();
    let path = place.put(PLAIN);
    let error = inspect(Path::new("/dev/null")).unwrap_err();
    assert!(matches!(error, BackupError::Unreadable { .. }), "{error}");
    assert!(!error.is_backup_fault());
    // But a backup that nobody made is the worst one of all.
    let error = inspect(&place.0.path().join("absent")).unwrap_err();
    assert!(matches!(error, BackupError::Unreadable { .. }), "{error}");
    assert!(error.is_backup_fault());
    // A disk that fails in the middle looks like a truncated stream to a decoder.
    let meter = crate::archive::source::Meter::default();
    meter.note_fault(&std::io::Error::other("disk on fire"));
    let eof = std::io::ErrorKind::UnexpectedEof.into();
    let error = crate::archive::ArchiveError::from_reading(eof, &meter, "here");
    assert!(!BackupError::from_archive(&path, error).is_backup_fault());
}

#[test]
fn a_restore_refuses_the_other_kind() {
    let place = Place::new();
    let dump = inspect(&place.put(CUSTOM)).unwrap();
    dump.require(Wanted::PostgresDump).unwrap();
    let error = dump.require(Wanted::Archive).unwrap_err().to_string();
    assert!(
        error.contains(
            "expected a tar (plain, gz, zst, bz2, xz) or zip archive, found a PostgreSQL custom-format dump"
        ),
        "{error}"
    );
    let tar = inspect(&place.put(&testing::tar(&uploads()))).unwrap();
    tar.require(Wanted::Archive).unwrap();
    assert!(
        tar.require(Wanted::PostgresDump)
            .unwrap_err()
            .is_backup_fault()
    );
    assert!(archive::check(&place.put(CUSTOM), &dump).is_err());
}
