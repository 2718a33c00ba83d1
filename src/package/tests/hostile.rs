//! What would write outside its folder, or is something else than it says.

use super::*;

#[test]
fn hostile_tars_are_refused_by_name_and_nothing_is_written() {
    let place = Place::new();
    for (name, members, entry, reason) in testing::hostile_tars() {
        for compression in COMPRESSIONS {
            // A good entry first: it must not be written either.
            let mut all = vec![file("good", "x")];
            all.extend(members.clone());
            let path = place.put("package", &compress(&testing::tar(&all), compression));
            assert!(opened(&path).is_err(), "{name}");
            let error = refused(&path, &OpenLimits::default());
            let OpenError::Refused {
                entry: seen,
                reason: why,
                ..
            } = &error
            else {
                panic!("{name}: {error}")
            };
            assert_eq!(seen, entry, "{name}");
            assert!(why.contains(reason), "{name}: {why}");
            assert!(error.is_package_fault());
        }
    }
    nothing_outside();
}

#[test]
fn hostile_zips_are_refused_by_name_and_nothing_is_written() {
    let place = Place::new();
    for (name, data, entry, reason) in testing::hostile_zips() {
        let path = place.put("package", &data);
        assert!(opened(&path).is_err(), "{name}");
        let error = refused(&path, &OpenLimits::default());
        let OpenError::Refused {
            entry: seen,
            reason: why,
            ..
        } = &error
        else {
            panic!("{name}: {error}")
        };
        assert_eq!(seen, entry, "{name}");
        assert!(why.contains(reason), "{name}: {why}");
    }
    let latin = testing::tar(&[raw(b"caf\xe9", b'0', "", "x")]);
    let error = opened(&place.put("package", &latin))
        .unwrap_err()
        .to_string();
    assert!(error.contains("not UTF-8"), "{error}");
    nothing_outside();
}

#[test]
fn an_archive_whose_last_entry_is_bad_leaves_its_folder_empty() {
    let place = Place::new();
    let good = [
        file("deploy.sh", "true\n"),
        folder("content"),
        link("run", "./deploy.sh"),
    ];
    let with = |last: Raw| {
        let mut all = good.to_vec();
        all.push(last);
        testing::tar(&all)
    };
    let evil = with(file("../rehearsal-evil", "x"));
    let mut archives: Vec<(String, Vec<u8>)> = COMPRESSIONS
        .iter()
        .map(|compression| {
            let data = compress(&evil, *compression);
            (format!("tar {}", compression.name()), data)
        })
        .collect();
    let script: (&[u8], u32, &[u8]) = (b"deploy.sh", 0o100_755, b"true\n");
    archives.extend([
        ("device".to_owned(), with(raw("null", b'3', "", ""))),
        ("twice".to_owned(), with(file("deploy.sh", "false\n"))),
        ("latin".to_owned(), with(raw(b"caf\xe9", b'0', "", "x"))),
        (
            "cut".to_owned(),
            with(file("data", &"x".repeat(2000)))[..3000].to_vec(),
        ),
        (
            "zip".to_owned(),
            testing::raw_zip(&[script, (b"../rehearsal-evil", 0o100_644, b"x")]),
        ),
        (
            "zip link".to_owned(),
            testing::raw_zip(&[script, (b"passwd", 0o120_777, b"/etc/passwd")]),
        ),
    ]);
    for (name, data) in archives {
        let path = place.put("package", &data);
        let error = refused(&path, &OpenLimits::default());
        assert!(error.is_package_fault(), "{name}: {error}");
    }
    nothing_outside();
}

#[test]
fn an_archive_that_is_another_one_when_it_is_unpacked_is_not_opened() {
    let place = Place::new();
    let sound = testing::tar(&[file("deploy.sh", "true\n")]);
    let limits = OpenLimits::default();
    for (name, other) in [
        ("sound", testing::tar(&[file("deploy.sh", "evil\n")])),
        (
            "evil",
            testing::tar(&[file("deploy.sh", "true\n"), file("../rehearsal-evil", "x")]),
        ),
        ("cut", sound[..700].to_vec()),
    ] {
        let path = place.put("package", &sound);
        let judged = unpack::Judged::of(&path, &limits).unwrap();
        place.put("package", &other);
        let root = tempfile::tempdir().unwrap();
        let error = judged.unpack(root.path()).unwrap_err();
        assert!(
            matches!(error, OpenError::ChangedMeanwhile { .. }),
            "{name}: {error}"
        );
        assert!(!error.is_package_fault(), "{name}");
    }
    nothing_outside();
    let path = place.put("package", &sound);
    let root = tempfile::tempdir().unwrap();
    let judged = unpack::Judged::of(&path, &limits).unwrap();
    judged.unpack(root.path()).unwrap();
    let written = fs::read_to_string(root.path().join("deploy.sh")).unwrap();
    assert_eq!(written, "true\n");
}

#[test]
fn a_zip_in_which_others_would_find_more_is_refused() {
    let place = Place::new();
    let script = |name: &'static [u8], text: &'static str| (name, 0o100_644, text.as_bytes());
    let one = [script(b"deploy.sh", "true\n")];
    let two = [one[0], script(b"deploy.yaml", "package: evil\n")];
    let (small, large) = (testing::raw_zip(&one), testing::raw_zip(&two));
    let end = |zip: &[u8]| zip.len() - 22;
    // Its end counts one file, and its directory has two.
    let mut fewer = large.clone();
    fewer[end(&large) + 8..end(&large) + 12].copy_from_slice(&[1, 0, 1, 0]);
    // The same, and the size of the directory fits what is counted.
    let start = u32::from_le_bytes(large[large.len() - 6..large.len() - 2].try_into().unwrap());
    let mut shorter = fewer.clone();
    let directory = u32::try_from(46 + one[0].0.len()).unwrap();
    shorter[end(&large) + 12..end(&large) + 16].copy_from_slice(&directory.to_le_bytes());
    // A second local entry that no directory names.
    let entry = 30 + one[0].0.len() + one[0].2.len();
    let mut hidden = small[..entry].to_vec();
    hidden.extend_from_slice(&small);
    let at = u32::try_from(2 * entry).unwrap();
    let last = hidden.len() - 6;
    hidden[last..last + 4].copy_from_slice(&at.to_le_bytes());
    let name = hidden.len() - 22 - one[0].0.len() - 4;
    hidden[name..name + 4].copy_from_slice(&u32::try_from(entry).unwrap().to_le_bytes());
    // Another archive in the comment of this one.
    let mut comment = small.clone();
    let length = u16::try_from(large.len()).unwrap();
    let last = comment.len() - 2;
    comment[last..].copy_from_slice(&length.to_le_bytes());
    comment.extend_from_slice(&large);
    assert!(start > 0);
    assert!(opened(&place.put("sound", &small)).is_ok());
    assert!(opened(&place.put("sound", &large)).is_ok());
    for (name, zip) in [
        ("fewer", fewer),
        ("shorter", shorter),
        ("hidden", hidden),
        ("comment", comment),
        ("before", [&b"#!/bin/sh\n"[..], &small].concat()),
        ("after", [&small[..], b"more"].concat()),
    ] {
        let error = opened(&place.put(name, &zip)).unwrap_err();
        assert!(error.is_package_fault(), "{name}: {error}");
    }
}

#[test]
fn hostile_folders_are_refused_by_name() {
    let place = Place::new();
    let table: &[(&str, Vec<Raw>, &str, &str)] = &[
        (
            "absolute link",
            vec![file("a", ""), link("l", "/etc/passwd")],
            "l",
            "leaves",
        ),
        (
            "leaving link",
            vec![file("a", ""), link("d/l", "../../x")],
            "d/l",
            "leaves",
        ),
        // Inside the folder that was given, but outside the package in it.
        (
            "leaving the wrapper",
            vec![file("w/a", ""), link("w/l", "../x")],
            "l",
            "leaves",
        ),
    ];
    for (name, members, entry, reason) in table {
        let error = opened(&place.folder(name, members)).unwrap_err();
        let OpenError::Refused {
            entry: seen,
            reason: why,
            ..
        } = &error
        else {
            panic!("{name}: {error}")
        };
        assert_eq!(seen, entry, "{name}");
        assert!(why.contains(reason), "{name}: {why}");
    }
    let fifo = place.folder("fifo", &[file("a", "")]);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        fifo.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let error = opened(&fifo).unwrap_err().to_string();
    assert!(
        error.contains("entry `pipe` is a device, a FIFO or a socket"),
        "{error}"
    );
}
