//! Base backups of PostgreSQL, with little in them and a true manifest.

use sha2::{Digest as _, Sha256};

use super::*;
use crate::archive::source::hex;

const SEGMENT: usize = 1 << 20;
const LABEL: &str =
    "START WAL LOCATION: 0/D00028 (file 00000001000000000000000D)\nSTART TIMELINE: 1\n";

/// The files of a data folder whose WAL goes over two segments.
fn data() -> Vec<(String, Vec<u8>)> {
    let file = |name: &str, data: &[u8]| (name.to_owned(), data.to_vec());
    vec![
        file("PG_VERSION", b"15\n"),
        file("backup_label", LABEL.as_bytes()),
        file("base/1/112", &[1; 8192]),
        file("base/1/113", b""),
        file("global/pg_control", &[2; 8192]),
        file("postgresql.auto.conf", b"# none\n"),
        file("pg_wal/00000001000000000000000D", &[3; SEGMENT]),
        file("pg_wal/00000001000000000000000E", &[4; SEGMENT]),
    ]
}

fn manifest(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let listed: Vec<String> = files
        .iter()
        .filter(|(name, _)| !name.starts_with("pg_wal/"))
        .map(|(name, data)| format!("{{ \"Path\": \"{name}\", \"Size\": {}, \"Last-Modified\": \"2026-11-21 12:00:30 GMT\" }}", data.len()))
        .collect();
    let mut text = format!(
        "{{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [\n{}\n],\n\"WAL-Ranges\": [\n{{ \"Timeline\": 1, \"Start-LSN\": \"0/D00028\", \"End-LSN\": \"0/E00100\" }}\n],\n",
        listed.join(",\n")
    );
    let sum = hex(&Sha256::digest(text.as_bytes()));
    text.push_str(&format!("\"Manifest-Checksum\": \"{sum}\"}}\n"));
    text.into_bytes()
}

fn write(place: &Place, files: &[(String, Vec<u8>)]) -> PathBuf {
    let path = place.0.path().join("folder");
    for (name, data) in files {
        let path = path.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, data).unwrap();
    }
    path
}

fn tarred(files: &[(String, Vec<u8>)], below: &str) -> Vec<u8> {
    let members: Vec<Raw> = files
        .iter()
        .map(|(name, data)| raw(format!("{below}{name}").as_bytes(), b'0', "", data))
        .collect();
    testing::tar(&members)
}

#[test]
fn a_folder_is_held_against_its_manifest_and_its_wal() {
    let place = Place::new();
    let mut files = data();
    files.push(("backup_manifest".to_owned(), manifest(&files)));
    let path = write(&place, &files);
    let facts = super::super::inspect(&path, Wanted::PostgresBase).unwrap();
    assert_eq!(facts.format, Format::PostgresBaseFolder);
    assert_eq!(
        facts.complete,
        "backup_manifest: 5 files, WAL 0/D00028-0/E00100"
    );
    assert_eq!(facts.dump.unwrap().server_version.as_deref(), Some("15"));
    damage_folder(&path, Wanted::PostgresBase, |name, what| match what {
        // `pg_verifybackup` sees it.
        "flipped" => name == "backup_manifest",
        // Then there is still the label.
        "removed" if name == "backup_manifest" => false,
        _ => name != "postgresql.auto.conf",
    });
    // Every byte of a manifest is under its checksum, but for the line end.
    let whole = manifest(&data());
    for at in 0..whole.len() - 1 {
        fs::write(path.join("backup_manifest"), &whole[..at]).unwrap();
        assert!(
            super::super::inspect(&path, Wanted::PostgresBase).is_err(),
            "cut at {at}"
        );
        let mut bad = whole.clone();
        bad[at] ^= 0x10;
        fs::write(path.join("backup_manifest"), &bad).unwrap();
        let seen = super::super::inspect(&path, Wanted::PostgresBase);
        let hex_case = bad[at].eq_ignore_ascii_case(&whole[at]);
        assert!(hex_case || seen.is_err(), "flipped at {at}");
    }
    fs::write(path.join("backup_manifest"), &whole).unwrap();
    fs::remove_file(path.join("pg_wal/00000001000000000000000E")).unwrap();
    let error = super::super::inspect(&path, Wanted::PostgresBase)
        .unwrap_err()
        .to_string();
    assert!(
        error.ends_with("its WAL segment `00000001000000000000000E` is missing"),
        "{error}"
    );
}

#[test]
fn without_a_manifest_the_label_must_be_there() {
    let place = Place::new();
    let mut files = data();
    files.push((
        "pg_wal/000000010000000000000010".to_owned(),
        vec![5; SEGMENT],
    ));
    let path = write(&place, &files);
    let gap = super::super::inspect(&path, Wanted::PostgresBase)
        .unwrap_err()
        .to_string();
    assert!(
        gap.ends_with("`00000001000000000000000F` is missing"),
        "{gap}"
    );
    fs::remove_file(path.join("pg_wal/000000010000000000000010")).unwrap();
    let facts = super::super::inspect(&path, Wanted::PostgresBase).unwrap();
    assert!(
        facts
            .complete
            .contains("neither its end nor missing files can be seen"),
        "{}",
        facts.complete
    );
    fs::remove_file(path.join("backup_label")).unwrap();
    let error = super::super::inspect(&path, Wanted::PostgresBase).unwrap_err();
    assert!(
        error.is_backup_fault() && error.to_string().contains("a data folder that was copied"),
        "{error}"
    );
}

#[test]
fn a_folder_of_tars_is_one_backup() {
    let place = Place::new();
    let all = data();
    let (wal, mut rest): (Vec<_>, Vec<_>) = all
        .iter()
        .cloned()
        .partition(|(name, _)| name.starts_with("pg_wal/"));
    rest.push(("tablespace_map".to_owned(), b"16385 /srv/fast\n".to_vec()));
    let space = vec![("PG_15/1/2".to_owned(), b"rows".to_vec())];
    let mut listed = rest.clone();
    listed.push(("pg_tblspc/16385/PG_15/1/2".to_owned(), b"rows".to_vec()));
    let wal: Vec<_> = wal
        .into_iter()
        .map(|(name, data)| (name.replace("pg_wal/", ""), data))
        .collect();
    let files = vec![
        (
            "base.tar.gz".to_owned(),
            compress(&tarred(&rest, ""), Compression::Gzip),
        ),
        ("pg_wal.tar".to_owned(), tarred(&wal, "")),
        (
            "16385.tar.zst".to_owned(),
            compress(&tarred(&space, "./"), Compression::Zstd),
        ),
        ("backup_manifest".to_owned(), manifest(&listed)),
    ];
    let path = write(&place, &files);
    let facts = super::super::inspect(&path, Wanted::PostgresBase).unwrap();
    assert_eq!((facts.format, facts.files), (Format::PostgresBaseTar, 4));
    assert_eq!(
        facts.complete,
        "backup_manifest: 7 files, WAL 0/D00028-0/E00100"
    );
    damage_folder(&path, Wanted::PostgresBase, |name, what| {
        match (name, what) {
            // Without a manifest there is still the label.
            ("backup_manifest", "removed") => false,
            // In the middle of a segment.
            ("pg_wal.tar", "flipped") => false,
            _ => true,
        }
    });
}

#[test]
fn one_tar_may_hold_a_data_folder() {
    let place = Place::new();
    let mut files = data();
    files.push(("backup_manifest".to_owned(), manifest(&files)));
    for below in ["", "var/lib/data/"] {
        let path = place.put(&compress(&tarred(&files, below), Compression::Xz));
        let facts = super::super::inspect(&path, Wanted::PostgresBase).unwrap();
        assert_eq!(facts.format, Format::PostgresBaseTar);
    }
    for left in 0..files.len() - 1 {
        let mut kept = files.clone();
        let (name, _) = kept.remove(left);
        let result = super::super::inspect(&place.put(&tarred(&kept, "")), Wanted::PostgresBase);
        assert_eq!(
            result.is_err(),
            name != "postgresql.auto.conf",
            "without {name}"
        );
    }
    let path = place.put(&testing::tar(&uploads()));
    let error = super::super::inspect(&path, Wanted::PostgresBase).unwrap_err();
    assert!(matches!(error, BackupError::WrongFormat { .. }), "{error}");
}
