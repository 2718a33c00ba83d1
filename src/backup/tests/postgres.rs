//! Dumps of PostgreSQL; made with version 15 of its tools.

use super::*;

const CLUSTER: &[u8] = include_bytes!("../testdata/cluster.sql");
const GLOBALS: &[u8] = include_bytes!("../testdata/globals.sql");
const TAR: &[u8] = include_bytes!("../testdata/shop.tar.xz");
/// Three tables, one of them empty, and a large object.
const FOLDER: &[u8] = include_bytes!("../testdata/directory.tar.xz");
/// The same with `--compress=0`.
const FOLDER_PLAIN: &[u8] = include_bytes!("../testdata/directory-plain.tar.xz");
/// The same with `--inserts` too.
const FOLDER_INSERTS: &[u8] = include_bytes!("../testdata/directory-inserts.tar.xz");

#[test]
fn a_cluster_and_its_globals_are_told_apart() {
    let place = Place::new();
    for compression in COMPRESSIONS {
        let path = place.put(&compress(CLUSTER, compression));
        let facts = super::super::inspect(&path, Wanted::PostgresDump).unwrap();
        assert_eq!(facts.format, Format::PostgresCluster);
        assert!(super::super::inspect(&path, Wanted::PostgresGlobals).is_err());
        let path = place.put(&compress(GLOBALS, compression));
        let facts = super::super::inspect(&path, Wanted::PostgresGlobals).unwrap();
        assert_eq!(facts.format, Format::PostgresGlobals);
        assert_eq!(facts.complete, "trailer seen");
        let error = super::super::inspect(&path, Wanted::PostgresDump).unwrap_err();
        assert!(
            error.to_string().ends_with("found a PostgreSQL globals"),
            "{error}"
        );
    }
}

#[test]
fn a_cut_cluster_dump_is_not_accepted() {
    for (data, wanted) in [
        (CLUSTER, Wanted::PostgresDump),
        (GLOBALS, Wanted::PostgresGlobals),
    ] {
        let whole = data.trim_ascii_end().len() - "\n--".len();
        // Plain SQL has no checksum.
        damage(data, wanted, |at| at >= whole, |_| true);
    }
}

#[test]
fn a_folder_needs_all_that_its_contents_promise() {
    for (sample, compressed) in [
        (FOLDER, true),
        (FOLDER_PLAIN, false),
        (FOLDER_INSERTS, false),
    ] {
        let place = Place::new();
        let path = place.unpack(sample);
        let facts = super::super::inspect(&path, Wanted::PostgresDump).unwrap();
        assert_eq!((facts.format, facts.files), (Format::PostgresDirectory, 6));
        assert!(
            facts
                .complete
                .starts_with("table of contents: 4 of 4 data files"),
            "{}",
            facts.complete
        );
        let dump = facts.dump.unwrap();
        assert_eq!(
            (dump.database.as_deref(), dump.tables),
            (Some("shop"), Some(3))
        );
        assert_eq!(facts.sha256, super::super::digest(&path).unwrap());
        damage_folder(&path, Wanted::PostgresDump, |name, what| {
            let data = !name.ends_with(".toc") && name != "toc.dat";
            match what {
                "removed" => true,
                "empty" => compressed || !name.starts_with("blob_"),
                "cut" | "halved" | "flipped" if data => compressed,
                "cut" | "halved" => name == "toc.dat",
                _ => false,
            }
        });
    }
}

#[test]
fn a_tables_data_ends_as_it_should() {
    let place = Place::new();
    let path = place.unpack(FOLDER_PLAIN);
    let file = path.join("3348.dat");
    let data = fs::read(&file).unwrap();
    let end = data.windows(3).position(|part| part == b"\\.\n").unwrap() + 3;
    for at in 0..data.len() {
        fs::write(&file, &data[..at]).unwrap();
        let result = super::super::inspect(&path, Wanted::PostgresDump);
        assert_eq!(result.is_ok(), at >= end, "cut at {at}: {result:?}");
    }
}

#[test]
fn a_tar_dump_is_held_against_its_contents() {
    let data = unpacked(TAR);
    let place = Place::new();
    let facts = super::super::inspect(&place.put(&data), Wanted::PostgresDump).unwrap();
    assert_eq!(facts.format, Format::PostgresTar);
    // For a volume it is a tar like any other.
    let facts = super::super::inspect(&place.put(&data), Wanted::Archive).unwrap();
    assert_eq!(facts.format, Format::Tar);
    damage(&data, Wanted::PostgresDump, |_| false, |at| at >= 512);
    // Each member but PostgreSQL's own script is needed.
    let mut members = Vec::new();
    for entry in ::tar::Archive::new(data.as_slice()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        members.push((name, content));
    }
    for left in 1..members.len() {
        let kept: Vec<Raw> = members
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != left)
            .map(|(_, (name, content))| raw(name.as_bytes(), b'0', "", content))
            .collect();
        let result = super::super::inspect(&place.put(&testing::tar(&kept)), Wanted::PostgresDump);
        let needed = members[left].0 != "restore.sql";
        assert_eq!(
            result.is_err(),
            needed,
            "without {}: {result:?}",
            members[left].0
        );
    }
}
