//! Snapshots and append-only files of Redis 7.

use super::*;

const SNAPSHOT: &[u8] = include_bytes!("../testdata/dump.rdb");
const FOLDER: &[u8] = include_bytes!("../testdata/redis.tar.xz");

#[test]
fn a_snapshot_vouches_for_each_of_its_bytes() {
    let place = Place::new();
    for compression in COMPRESSIONS {
        let path = place.put(&compress(SNAPSHOT, compression));
        let facts = super::super::inspect(&path, Wanted::RedisRdb).unwrap();
        assert_eq!(facts.complete, "end mark seen, checksum holds");
        let version = facts.dump.unwrap().server_version;
        assert_eq!(version.as_deref(), Some("7.0.15"));
    }
    damage(SNAPSHOT, Wanted::RedisRdb, |_| false, |_| false);
}

#[test]
fn a_snapshot_without_a_checksum_is_said_to_have_none() {
    let mut data = SNAPSHOT.to_vec();
    let at = data.len() - 8;
    data[at..].fill(0);
    let place = Place::new();
    let facts = super::super::inspect(&place.put(&data), Wanted::RedisRdb).unwrap();
    assert_eq!(facts.complete, "end mark seen; made without a checksum");
}

#[test]
fn an_append_only_file_is_read_command_by_command() {
    let commands = b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n#TS:1700000000\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$2\r\n\r\n\r\n";
    let ends = [23, 39, commands.len()];
    damage(
        commands,
        Wanted::RedisAof,
        |at| ends.contains(&at),
        |_| true,
    );
    // As versions 4 to 6 write it: a snapshot, then commands.
    let both = [SNAPSHOT, commands].concat();
    let start = SNAPSHOT.len();
    let ends = [start, start + 23, start + 39];
    damage(
        &both,
        Wanted::RedisAof,
        |at| ends.contains(&at),
        |at| at >= start,
    );
}

#[test]
fn an_append_only_folder_has_what_its_manifest_names() {
    let place = Place::new();
    let path = place.unpack(FOLDER);
    for path in [path.clone(), path.join("appendonlydir")] {
        let facts = super::super::inspect(&path, Wanted::RedisAof).unwrap();
        assert_eq!(facts.format, Format::RedisAof);
        damage_folder(&path, Wanted::RedisAof, |name, what| {
            let increment = name.ends_with("incr.aof");
            match what {
                // Of a file that may be empty nobody can tell, nor that values changed.
                "empty" | "flipped" if increment => false,
                _ if name.ends_with("dump.rdb") => false,
                "cut" | "halved" | "flipped" if name.ends_with(".manifest") => false,
                _ => true,
            }
        });
    }
}
