//! Dumps, folders and streams of MariaDB 10.11.

use super::*;

const DUMP: &[u8] = include_bytes!("../testdata/mariadb.sql");
/// Made with `mbstream -c` of what `mariadb-backup` wrote, and of zeros instead of `ibdata1`.
const STREAM: &[u8] = include_bytes!("../testdata/stream.xb.xz");

#[test]
fn a_dump_says_where_it_comes_from() {
    let place = Place::new();
    for compression in COMPRESSIONS {
        let path = place.put(&compress(DUMP, compression));
        let facts = super::super::inspect(&path, Wanted::MariadbDump).unwrap();
        let dump = facts.dump.unwrap();
        assert_eq!(dump.database.as_deref(), Some("shop"));
        assert_eq!(
            dump.server_version.as_deref(),
            Some("10.11.19-MariaDB-0+deb12u1")
        );
        assert_eq!(
            dump.tool_version.as_deref(),
            Some("10.19  Distrib 10.11.19-MariaDB")
        );
        assert_eq!(
            dump.made_local,
            Some("2026-11-21T12:00:38".parse().unwrap())
        );
    }
    let end = "-- Dump completed".len()
        + DUMP
            .windows(17)
            .position(|part| part == b"-- Dump completed")
            .unwrap();
    damage(DUMP, Wanted::MariadbDump, |at| at >= end, |_| true);
}

#[test]
fn a_dump_without_its_last_line_cannot_be_told_from_a_cut_one() {
    let data = b"/*!40101 SET @OLD_CHARACTER_SET_CLIENT=@@CHARACTER_SET_CLIENT */;\nCREATE TABLE `a` (`i` int);\n";
    let place = Place::new();
    let error = super::super::inspect(&place.put(data), Wanted::MariadbDump).unwrap_err();
    assert!(
        error.is_backup_fault() && error.to_string().contains("--skip-comments"),
        "{error}"
    );
}

#[test]
fn a_stream_has_the_ends_of_all_its_files() {
    let data = unpacked(STREAM);
    let place = Place::new();
    let facts = super::super::inspect(&place.put(&data), Wanted::MariadbBackup).unwrap();
    assert!(
        facts
            .complete
            .starts_with("5 files with their ends and checksums, checkpoints: full backup"),
        "{}",
        facts.complete
    );
    let judge = |what: &str, data: &[u8]| {
        let error = super::super::inspect(&place.put(data), Wanted::MariadbBackup);
        let error = error.err().unwrap_or_else(|| panic!("{what} is accepted"));
        assert!(error.is_backup_fault(), "{what}: {error}");
    };
    // Around each chunk's header, where a cut could be taken for an end.
    let chunks: Vec<usize> = (0..data.len() - 8)
        .filter(|at| data[*at..].starts_with(b"XBSTCK01"))
        .collect();
    assert!(chunks.len() >= 10);
    for at in chunks
        .iter()
        .flat_map(|at| at.saturating_sub(3)..(at + 60).min(data.len()))
    {
        judge(&format!("cut at {at}"), &data[..at]);
        if data[at] != 1 {
            let mut bad = data.clone();
            bad[at] ^= 0x40;
            // A flag, and a kind that nobody knows, are no damage by themselves.
            let unseen = chunks.iter().any(|chunk| at == chunk + 8);
            assert!(
                unseen || super::super::inspect(&place.put(&bad), Wanted::MariadbBackup).is_err(),
                "flipped at {at}"
            );
        }
    }
    judge("something appended", &[data.as_slice(), b"x"].concat());
}

#[test]
fn a_folder_is_a_full_backup() {
    let place = Place::new();
    let path = place.0.path().join("folder");
    fs::create_dir_all(path.join("shop")).unwrap();
    let put = |name: &str, data: &[u8]| fs::write(path.join(name), data).unwrap();
    put(
        "xtrabackup_checkpoints",
        b"backup_type = full-backuped\nfrom_lsn = 0\nto_lsn = 44970\n",
    );
    put(
        "xtrabackup_info",
        b"tool_version = 10.11\nserver_version = 10.11.19-MariaDB\n",
    );
    put("ibdata1", &[7; 4096]);
    put("ib_logfile0", &[7; 512]);
    put("shop/goods.ibd", &[7; 4096]);
    let facts = super::super::inspect(&path, Wanted::MariadbBackup).unwrap();
    assert_eq!((facts.format, facts.files), (Format::MariadbFolder, 5));
    damage_folder(&path, Wanted::MariadbBackup, |name, what| {
        match (name, what) {
            (_, "flipped") => false,
            ("shop/goods.ibd", "removed" | "halved") => false,
            ("ib_logfile0", "empty") => false,
            _ => !matches!(
                (name, what),
                (
                    "ib_logfile0" | "xtrabackup_info" | "xtrabackup_checkpoints",
                    "cut" | "halved"
                )
            ),
        }
    });
    put(
        "xtrabackup_checkpoints",
        b"backup_type = incremental\nfrom_lsn = 1\n",
    );
    let error = super::super::inspect(&path, Wanted::MariadbBackup).unwrap_err();
    assert!(
        matches!(error, BackupError::Unsupported { .. }) && error.to_string().contains("--prepare"),
        "{error}"
    );
}
