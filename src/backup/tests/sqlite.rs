//! SQLite databases.

use super::*;

const DATABASE: &[u8] = include_bytes!("../testdata/sqlite.db.xz");

#[test]
fn a_database_has_all_its_pages() {
    let data = unpacked(DATABASE);
    let place = Place::new();
    let facts = super::super::inspect(&place.put(&data), Wanted::Sqlite).unwrap();
    assert_eq!(facts.complete, "header: all 2 pages of 4096 bytes");
    // Only the header is judged here: the magic, page size and what is fixed in it.
    let fixed = |at: usize| at < 20 || (21..24).contains(&at) || (30..32).contains(&at);
    damage(
        &data,
        Wanted::Sqlite,
        |_| false,
        |at| !fixed(at) || at == 18 || at == 19,
    );
}

#[test]
fn what_lies_beside_a_database_belongs_to_it() {
    let data = unpacked(DATABASE);
    let place = Place::new();
    let path = place.put(&data);
    let alone = super::super::inspect(&path, Wanted::Sqlite).unwrap();
    fs::write(place.0.path().join("backup-wal"), b"frames").unwrap();
    let with = super::super::inspect(&path, Wanted::Sqlite).unwrap();
    assert_ne!(alone.sha256, with.sha256);
    assert_eq!((with.size, with.folder), (alone.size + 6, false));
    assert!(with.complete.ends_with("; with -wal"), "{}", with.complete);
    fs::write(place.0.path().join("backup-wal"), b"framez").unwrap();
    let other = super::super::inspect(&path, Wanted::Sqlite).unwrap();
    assert_ne!(other.sha256, with.sha256);
}
