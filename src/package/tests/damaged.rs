//! What is cut, flipped or without end.

use super::*;

#[test]
fn no_truncated_archive_is_accepted() {
    let place = Place::new();
    let tar = testing::tar(&sample());
    let mut archives: Vec<(&str, Vec<u8>)> = COMPRESSIONS
        .iter()
        .map(|compression| (compression.name(), compress(&tar, *compression)))
        .collect();
    archives.push(("zip", testing::zip(&sample())));
    for (name, data) in archives {
        // Every point of the small ones; of the plain tar the block ends and their neighbours, and some between.
        let points =
            (0..data.len()).filter(|at| data.len() < 2000 || matches!(at % 512, 0 | 1 | 200 | 511));
        for at in points {
            let error = opened(&place.put("package", &data[..at])).unwrap_err();
            assert!(error.is_package_fault(), "{name} cut at {at}: {error}");
            assert!(error.to_string().contains("/package`"), "{error}");
            if at > 512 && name == "none" {
                assert!(
                    matches!(error, OpenError::Truncated { .. }),
                    "{name} cut at {at}: {error}"
                );
            }
        }
        assert!(opened(&place.put("package", &data)).is_ok(), "{name}");
    }
}

#[test]
fn no_flipped_bit_changes_content_unseen() {
    let place = Place::new();
    let original = opened(&place.folder("folder", &sample())).unwrap();
    let tar = testing::tar(&sample());
    let archives = [
        ("gzip", compress(&tar, Compression::Gzip)),
        ("zstd", compress(&tar, Compression::Zstd)),
        ("zip", testing::zip(&sample())),
    ];
    for (name, data) in archives {
        let mut refused = 0;
        for at in 0..data.len() {
            let mut flipped = data.clone();
            flipped[at] ^= 0x10;
            match opened(&place.put("package", &flipped)) {
                Err(_) => refused += 1,
                // A time, a tool's name, a comment; in a zip also modes, which then show in the digest.
                Ok(package) => {
                    for file in &package.listing {
                        let same = original
                            .listing
                            .iter()
                            .any(|other| other.sha256 == file.sha256 && other.path == file.path);
                        assert!(
                            same || package.digest != original.digest,
                            "{name} flipped at {at}: {file:?}"
                        );
                    }
                    assert!(
                        name == "zip" || package.digest == original.digest,
                        "{name} flipped at {at}"
                    );
                }
            }
        }
        assert!(
            refused * 2 > data.len(),
            "{name}: only {refused} of {} were noticed",
            data.len()
        );
    }
}

#[test]
fn limits_hold_before_anything_is_written() {
    // That nothing is written of an archive is asserted by `refused`; of a folder nothing ever is.
    let place = Place::new();
    let limits = |bytes, entries, ratio| OpenLimits {
        bytes,
        entries,
        ratio,
    };
    let members = [file("a", "12345"), file("b", "12345"), file("c", "12345")];
    let tar = place.put("tar", &testing::tar(&members));
    let zip = place.put("zip", &testing::zip(&members));
    let dir = place.folder("folder", &members);
    for path in [&tar, &zip, &dir] {
        assert!(
            open(path, &limits(15, 3, 100)).is_ok(),
            "{}",
            path.display()
        );
        for (limit, word) in [
            (limits(14, 3, 100), "bytes"),
            (limits(15, 2, 100), "entries"),
        ] {
            let mut errors = vec![open(path, &limit).unwrap_err()];
            if *path != dir {
                errors.push(refused(path, &limit));
            }
            for error in errors {
                assert!(
                    matches!(&error, OpenError::TooBig { what, .. } if what.contains(word)),
                    "{error}"
                );
            }
        }
    }
    // Folders that only a path names count too.
    let deep = place.put(
        "deep",
        &testing::tar(&[file("a/b/c/d", "x"), file("e", "")]),
    );
    assert!(open(&deep, &limits(15, 5, 100)).is_ok());
    assert!(matches!(
        refused(&deep, &limits(15, 4, 100)),
        OpenError::TooBig { .. }
    ));
    // What comes before the bomb is not written either.
    let zeros = [file("good", "x"), file("zeros", &"\0".repeat(100 << 20))];
    let bomb = testing::tar(&zeros);
    for data in [
        compress(&bomb, Compression::Gzip),
        compress(&bomb, Compression::Zstd),
        testing::zip(&zeros),
    ] {
        let error = refused(&place.put("bomb", &data), &OpenLimits::default());
        assert!(
            matches!(&error, OpenError::TooBig { what, .. } if what.contains("times its size")),
            "{error}"
        );
    }
    // A header that announces a name of 8 GB.
    let mut header = testing::tar(&[raw("././@LongLink", b'L', "", "x"), file("a", "b")]);
    let mut lie = tar::Header::new_gnu();
    lie.as_mut_bytes().copy_from_slice(&header[..512]);
    lie.set_size(8 << 30);
    lie.set_cksum();
    header[..512].copy_from_slice(lie.as_bytes());
    let error = refused(&place.put("lie", &header), &OpenLimits::default());
    assert!(
        error
            .to_string()
            .contains("claims 8589934592 bytes for a name"),
        "{error}"
    );
}
