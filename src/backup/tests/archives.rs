//! Archives for volumes: what is refused, what is kept.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use super::super::{Format, archive};
use super::*;
use crate::archive::testing::{self, Raw, compress, executable, file, folder, link, pax, raw};

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
        folder: false,
        files: 0,
        complete: String::new(),
        shown: true,
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
