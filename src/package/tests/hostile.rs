//! What would write outside its folder, or is something else than it says.

use super::*;

#[test]
fn hostile_tars_are_refused_by_name_and_nothing_is_written_outside() {
    let place = Place::new();
    for (name, members, entry, reason) in testing::hostile_tars() {
        for compression in COMPRESSIONS {
            // A good entry first: what was unpacked before the refusal must go too.
            let mut all = vec![file("good", "x")];
            all.extend(members.clone());
            let path = place.put("package", &compress(&testing::tar(&all), compression));
            let error = opened(&path).unwrap_err();
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
fn hostile_zips_are_refused_by_name_and_nothing_is_written_outside() {
    let place = Place::new();
    for (name, data, entry, reason) in testing::hostile_zips() {
        let error = opened(&place.put("package", &data)).unwrap_err();
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
