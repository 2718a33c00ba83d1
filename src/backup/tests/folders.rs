//! Repositories, and folders of any kind.

use std::os::unix::fs::symlink;

use super::*;

const RESTIC: &[u8] = include_bytes!("../testdata/restic.tar.xz");
const BORG: &[u8] = include_bytes!("../testdata/borg.tar.xz");

#[test]
fn a_restic_repository_is_held_against_its_names() {
    let place = Place::new();
    let path = place.unpack(RESTIC);
    let facts = super::super::inspect(&path, Wanted::Restic).unwrap();
    assert_eq!((facts.format, facts.files), (Format::Restic, 6));
    damage_folder(&path, Wanted::Restic, |name, what| match (name, what) {
        // It has no checksum but its own encryption's.
        ("config", "cut" | "halved" | "flipped") => false,
        // One of two packs: restic itself sees it.
        (name, "removed") => !name.starts_with("data/"),
        _ => true,
    });
    fs::remove_dir_all(path.join("keys")).unwrap();
    let error = super::super::inspect(&path, Wanted::Restic).unwrap_err();
    assert!(
        error.is_backup_fault() && error.to_string().contains("`keys`"),
        "{error}"
    );
}

#[test]
fn a_borg_repository_has_whole_segments() {
    let place = Place::new();
    let path = place.unpack(BORG);
    let facts = super::super::inspect(&path, Wanted::Borg).unwrap();
    assert_eq!(facts.format, Format::Borg);
    damage_folder(&path, Wanted::Borg, |name, what| match what {
        "removed" => name == "config" || name == "README",
        // Perhaps right after an entry.
        "halved" => false,
        _ => name.starts_with("data/"),
    });
}

#[test]
fn a_pgbackrest_repository_has_the_manifests_of_its_backups() {
    let place = Place::new();
    let path = place.0.path().join("folder");
    let put = |name: &str, data: &str| {
        let path = path.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, data).unwrap();
    };
    let info = "[backrest]\nbackrest-checksum=\"00\"\n\n[backup:current]\n20261121-120053F={\"backup-type\":\"full\"}\n\n[db]\ndb-id=1\n";
    put("archive/main/archive.info", info);
    put("backup/main/backup.info", info);
    put("backup/main/20261121-120053F/backup.manifest", "x");
    symlink("20261121-120053F", path.join("backup/main/latest")).unwrap();
    let facts = super::super::inspect(&path, Wanted::PgBackRest).unwrap();
    assert!(
        facts.complete.starts_with("info files: 1 backups"),
        "{}",
        facts.complete
    );
    assert!(facts.shown);
    damage_folder(&path, Wanted::PgBackRest, |_, what| {
        matches!(what, "removed" | "empty")
    });
    put("backup/main/backup.info", "Salted__xxxxxxxx");
    let facts = super::super::inspect(&path, Wanted::PgBackRest).unwrap();
    assert!(facts.complete.contains("encrypted"), "{}", facts.complete);
    assert!(!facts.shown);
}

#[test]
fn a_folder_of_any_kind_is_digested_as_it_is() {
    let place = Place::new();
    let path = place.0.path().join("folder");
    fs::create_dir_all(path.join("empty")).unwrap();
    let error = super::super::inspect(&path, Wanted::Any).unwrap_err();
    assert!(matches!(error, BackupError::Empty { .. }), "{error}");
    fs::write(path.join("a"), b"x").unwrap();
    symlink("a", path.join("b")).unwrap();
    let facts = super::super::inspect(&path, Wanted::Any).unwrap();
    assert_eq!((facts.files, facts.size, facts.format), (1, 1, Format::Any));
    let sum = crate::digest::sha256(b"x");
    let lines = format!(
        "a\x001\0{}\nb\0\0a\nempty/\0\0\n",
        sum.trim_start_matches("sha256:")
    );
    let expected = crate::digest::sha256(lines.as_bytes());
    assert_eq!(facts.sha256, expected.trim_start_matches("sha256:"));
    symlink("../../etc/passwd", path.join("c")).unwrap();
    let error = super::super::inspect(&path, Wanted::Any).unwrap_err();
    assert!(
        matches!(&error, BackupError::Refused { entry, .. } if entry == "c"),
        "{error}"
    );
    fs::remove_file(path.join("c")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(path.join("s")).unwrap();
    let error = super::super::inspect(&path, Wanted::Any).unwrap_err();
    assert!(
        matches!(&error, BackupError::Refused { entry, .. } if entry == "s"),
        "{error}"
    );
}

#[test]
fn a_folder_that_is_something_else_is_named() {
    let place = Place::new();
    let path = place.unpack(RESTIC);
    for (wanted, found) in [
        (Wanted::Archive, "a restic repository"),
        (Wanted::PostgresBase, "a restic repository"),
    ] {
        let error = super::super::inspect(&path, wanted).unwrap_err();
        assert!(
            error.is_backup_fault() && error.to_string().ends_with(found),
            "{error}"
        );
    }
}

#[test]
fn a_root_filesystem_may_have_devices_and_links_anywhere() {
    let place = Place::new();
    let members = [
        folder("./"),
        link("lib", "usr/lib"),
        link("etc", "../../../elsewhere"),
        raw(b"dev/null", b'3', "", ""),
        file("lib/x", "x"),
    ];
    let path = place.put(&testing::tar(&members));
    let facts = super::super::inspect(&path, Wanted::Rootfs).unwrap();
    assert_eq!((facts.format, facts.entries), (Format::Tar, 5));
    assert!(super::super::inspect(&path, Wanted::Archive).is_err());
    let data = testing::tar(&members);
    for at in 0..data.len() {
        assert!(
            super::super::inspect(&place.put(&data[..at]), Wanted::Rootfs).is_err(),
            "cut at {at}"
        );
    }
}
