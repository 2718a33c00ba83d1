use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::*;
use crate::archive::testing::{
    self, Raw, compress, executable, file, folder, hard, link, pax, raw,
};

const COMPRESSIONS: [Compression; 3] = [Compression::None, Compression::Gzip, Compression::Zstd];
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
        let points: Vec<usize> = (0..data.len()).filter(|at| !harmless(name, *at)).collect();
        for at in &points {
            let error = inspect(&place.put(&data[..*at]))
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
    for path in [place.0.path().to_owned(), PathBuf::from("/dev/null")] {
        let error = inspect(&path).unwrap_err();
        assert!(matches!(error, BackupError::Unreadable { .. }), "{error}");
        assert!(!error.is_backup_fault());
    }
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
            "expected a tar, tar.gz, tar.zst or zip archive, found a PostgreSQL custom-format dump"
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

#[test]
fn hostile_archives_are_refused_by_name_in_every_form() {
    let place = Place::new();
    let mut evil = Vec::new();
    for (name, members, entry, reason) in testing::hostile_tars() {
        for compression in COMPRESSIONS {
            evil.push((
                name,
                compress(&testing::tar(&members), compression),
                Format::Tar,
                compression,
                entry,
                reason,
            ));
        }
    }
    for (name, data, entry, reason) in testing::hostile_zips() {
        evil.push((name, data, Format::Zip, Compression::None, entry, reason));
    }
    evil.retain(|(name, ..)| !testing::ABSOLUTE_LINKS.contains(name));
    for (name, data, format, compression, entry, reason) in evil {
        let path = place.put(&data);
        let facts = forged(&path, format, compression);
        let mut out = Vec::new();
        for result in [
            inspect(&path).map(|_| ()),
            archive::check(&path, &facts).map(|_| ()),
            archive::safe_tar(&path, &facts, "", &mut out).map(|_| ()),
        ] {
            let error = result.expect_err(name);
            let BackupError::Refused {
                entry: seen,
                reason: why,
                ..
            } = &error
            else {
                panic!("{name}: {error}")
            };
            assert_eq!(seen, entry, "{name}");
            assert!(why.contains(reason), "{name}: {why}");
            assert!(error.is_backup_fault());
        }
        assert!(
            !out.ends_with(&[0; 1024]),
            "{name}: what was written looks like a whole tar"
        );
    }
}

#[test]
fn an_absolute_link_is_kept_and_nothing_is_written_through_it() {
    let place = Place::new();
    let good = [folder("./"), link("./current", "/srv/releases/7")];
    let zipped = [link("current", "/srv/releases/7")];
    for data in [testing::tar(&good), testing::zip(&zipped)] {
        let path = place.put(&data);
        let facts = inspect(&path).unwrap();
        archive::check(&path, &facts).unwrap();
        let mut clean = Vec::new();
        archive::safe_tar(&path, &facts, "", &mut clean).unwrap();
        let link = &listing(&clean)[b"current".as_slice()];
        assert!(link.ends_with(" -> /srv/releases/7"), "{link}");
    }
    let through = [link("l", "/etc"), file("l/passwd", "x")];
    let zipped: &[(&[u8], u32, &[u8])] =
        &[(b"l", 0o120_777, b"/etc"), (b"l/passwd", 0o100_644, b"x")];
    for data in [testing::tar(&through), testing::raw_zip(zipped)] {
        let error = inspect(&place.put(&data)).unwrap_err();
        assert!(
            matches!(&error, BackupError::Refused { entry, reason, .. } if entry == "l/passwd" && reason.contains("link")),
            "{error}"
        );
    }
}

fn forged(path: &Path, format: Format, compression: Compression) -> BackupFacts {
    BackupFacts {
        path: path.to_owned(),
        sha256: crate::archive::source::digest(path).unwrap(),
        size: 0,
        compression,
        format,
        decompressed: 0,
        entries: 0,
        newest: None,
        dump: None,
    }
}

#[test]
fn a_safe_tar_keeps_everything_that_matters() {
    let place = Place::new();
    let long = format!("deep/{}/{}", "x".repeat(120), "y".repeat(90));
    let mut members = uploads();
    members.extend([
        pax(
            b'x',
            &[
                ("mtime", b"1500000000.25"),
                ("SCHILY.xattr.user.note", b"a\n=\0b"),
                ("uid", b"3000000"),
            ],
        ),
        file("attributed", "z"),
        pax(b'x', &[("path", long.as_bytes())]),
        file("short", "long"),
        raw("././@LongLink", b'L', "", format!("{long}z\0")),
        Raw {
            mode: 0o4755,
            ..executable("cut", "longer")
        },
    ]);
    let path = place.put(&compress(&testing::tar(&members), Compression::Zstd));
    let facts = inspect(&path).unwrap();
    assert_eq!(archive::check(&path, &facts).unwrap().entries, 10);
    let mut clean = Vec::new();
    let written = archive::safe_tar(&path, &facts, "", &mut clean).unwrap();
    assert_eq!((written.entries, written.newest), (10, facts.newest));

    let seen = listing(&clean);
    let expected: &[(&[u8], &str)] = &[
        (b"./", "5 33:33 2775 1700000000"),
        (b"a.txt", "0 33:33 6755 1700000000 [hello]"),
        (b"bin/x", "0 0:0 755 1800000000 [#!/bin/sh\n]"),
        (b"home", "2 0:0 644 1700000000 -> a.txt"),
        // As the file it links to, whatever its own header says.
        (b"b.txt", "1 33:33 6755 1700000000 -> a.txt"),
        (b"later/", "5 0:0 755 2000000000"),
        (b"caf\xe9", "0 0:0 644 1700000000 [latin]"),
        (
            b"attributed",
            "0 3000000:0 644 1500000000 [z] mtime=1500000000.250000000 SCHILY.xattr.user.note=a\n=\0b",
        ),
        (long.as_bytes(), "0 0:0 644 1700000000 [long]"),
        (
            &[long.as_bytes(), b"z"].concat(),
            "0 0:0 4755 1700000000 [longer]",
        ),
    ];
    for (name, what) in expected {
        assert_eq!(
            seen.get(*name).map(String::as_str),
            Some(*what),
            "{}",
            String::from_utf8_lossy(name)
        );
    }
    assert_eq!(seen.len(), expected.len());
    // In a folder the root is an entry like every other; links are to where their files now are.
    let mut below = Vec::new();
    archive::safe_tar(&path, &facts, "v", &mut below).unwrap();
    let below = listing(&below);
    for (name, what) in expected {
        let name = match *name {
            b"./" => b"v/".to_vec(),
            name => [b"v/", name].concat(),
        };
        let what = match name.as_slice() {
            b"v/b.txt" => what.replace("a.txt", "v/a.txt"),
            _ => (*what).to_owned(),
        };
        assert_eq!(below.get(&name), Some(&what));
    }
    assert_eq!(below.len(), expected.len());
    // What comes out goes in again, unchanged.
    let path = place.put(&clean);
    let mut again = Vec::new();
    archive::safe_tar(&path, &inspect(&path).unwrap(), "", &mut again).unwrap();
    assert_eq!(clean, again);
}

/// Every entry as an independent reader sees it.
fn listing(tar: &[u8]) -> BTreeMap<Vec<u8>, String> {
    let mut archive = ::tar::Archive::new(tar);
    let mut seen = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path_bytes().into_owned();
        let header = entry.header();
        let kind = char::from(header.entry_type().as_byte());
        let mut text = format!(
            "{kind} {}:{} {:o} {}",
            header.uid().unwrap(),
            header.gid().unwrap(),
            header.mode().unwrap(),
            header.mtime().unwrap()
        );
        if let Some(target) = entry.link_name_bytes() {
            text.push_str(&format!(" -> {}", String::from_utf8_lossy(&target)));
        }
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        if kind == '0' {
            text.push_str(&format!(" [{content}]"));
        }
        if let Some(pax) = raw_pax(tar, entry.raw_header_position()) {
            text.push_str(&pax);
        }
        seen.insert(path, text);
    }
    seen
}

/// The PAX records right before a header, but for paths. The tar crate cannot read values with line ends.
fn raw_pax(tar: &[u8], header: u64) -> Option<String> {
    let header = usize::try_from(header).unwrap();
    let extension = header
        .checked_sub(1024)
        .filter(|at| tar[at + 156] == b'x')?;
    let size = ::tar::Header::from_byte_slice(&tar[extension..extension + 512])
        .entry_size()
        .unwrap();
    let mut rest = &tar[extension + 512..][..usize::try_from(size).unwrap()];
    let mut text = String::new();
    while let Some(space) = rest.iter().position(|byte| *byte == b' ') {
        let length: usize = std::str::from_utf8(&rest[..space])
            .unwrap()
            .parse()
            .unwrap();
        let record = std::str::from_utf8(&rest[space + 1..length - 1]).unwrap();
        if !record.starts_with("path=") {
            text.push_str(&format!(" {record}"));
        }
        rest = &rest[length..];
    }
    Some(text)
}

#[test]
fn a_zip_keeps_modes_links_and_times() {
    let place = Place::new();
    let path = place.put(&testing::zip(&[
        folder("d"),
        executable("d/x", "run"),
        link("l", "d/x"),
    ]));
    let facts = inspect(&path).unwrap();
    let mut clean = Vec::new();
    archive::safe_tar(&path, &facts, "", &mut clean).unwrap();
    let kinds: Vec<String> = listing(&clean)
        .into_iter()
        .map(|(name, what)| format!("{} {}", String::from_utf8(name).unwrap(), what))
        .collect();
    let without_time: Vec<String> = kinds
        .iter()
        .map(|line| {
            line.split(' ')
                .enumerate()
                .filter(|(at, _)| *at != 4)
                .map(|(_, word)| word)
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    assert_eq!(
        without_time,
        ["d/ 5 0:0 755", "d/x 0 0:0 755 [run]", "l 2 0:0 644 -> d/x"]
    );
    // No Unix modes at all, as from a zip made elsewhere.
    let path = place.put(&testing::raw_zip(&[(b"f", 0, b"x")]));
    let mut clean = Vec::new();
    let written = archive::safe_tar(&path, &inspect(&path).unwrap(), "", &mut clean).unwrap();
    // The fixed DOS time of the hand-made zip.
    assert_eq!(
        written.newest,
        Some("2024-01-01T00:00:00Z".parse().unwrap())
    );
}

#[test]
fn a_backup_that_changes_meanwhile_is_nobodys_truth() {
    let place = Place::new();
    let path = place.put(&testing::tar(&uploads()));
    let facts = inspect(&path).unwrap();
    place.put(&testing::tar(&[file("other", "x")]));
    let mut out = Vec::new();
    let error = archive::safe_tar(&path, &facts, "", &mut out).unwrap_err();
    assert!(
        matches!(error, BackupError::Changed { .. }) && !error.is_backup_fault(),
        "{error}"
    );
    assert!(!out.ends_with(&[0; 1024]));
    place.put(&testing::tar(&uploads())[..1000]);
    assert!(matches!(
        archive::check(&path, &facts),
        Err(BackupError::Changed { .. })
    ));
}
