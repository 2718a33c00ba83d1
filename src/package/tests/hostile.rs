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
