//! Redis: a million keys and values of every type, as a snapshot and as append-only files; then the same, damaged.

use std::sync::OnceLock;

use rehearsal::event::{CaseStatus, Owner, Stage};
use rehearsal::verdict::Outcome;
use tempfile::TempDir;

use crate::common::{Place, Ran, forget_bases_of};
use crate::workshop::{image, line, made, out};

const IMAGE: &str = "rehearse-test/redis:7";

/// Keys in database 0 and 3. The last ones stand in the incremental file only.
const SOURCE: &str = r#"
cd /data
redis-server --dir /data --save '' --enable-debug-command yes --daemonize yes --logfile /tmp/log >/dev/null
until redis-cli PING | grep -q PONG; do sleep 0.05; done
redis-cli DEBUG POPULATE 1000000 invoice 24 >/dev/null
redis-cli EVAL "for i = 1, 500 do
  redis.call('HSET', 'hash:' .. i, 'name', 'customer ' .. i, 'total', i * 7)
  redis.call('RPUSH', 'list:' .. i, i, i + 1, string.rep('x', i))
  redis.call('SADD', 'set:' .. i, i, 'm' .. i)
  redis.call('ZADD', 'zset:' .. i, i, 'a', i / 3, 'b')
  redis.call('XADD', 'stream:' .. i, i .. '-1', 'field', i)
end" 0 >/dev/null
redis-cli SET session 1 EX 86400 >/dev/null
redis-cli -n 3 SET elsewhere 'in another database' >/dev/null
redis-cli DEBUG DIGEST > /out/rdb.digest
redis-cli SAVE >/dev/null
cp dump.rdb /out/dump.rdb
gzip -1 -k -c dump.rdb > /out/dump.rdb.gz
redis-cli CONFIG SET aof-timestamp-enabled yes >/dev/null
redis-cli CONFIG SET appendonly yes >/dev/null
while redis-cli INFO persistence | grep -Eq 'aof_rewrite_(in_progress|scheduled):1'; do sleep 0.05; done
for i in 1 2 3 4 5 6 7 8 9 10; do echo "SET late:$i value-$i"; done | redis-cli >/dev/null
redis-cli DEBUG DIGEST > /out/aof.digest
redis-cli CONFIG SET appendfsync always >/dev/null
redis-cli SET last 1 >/dev/null
redis-cli DEL last >/dev/null
cp -R appendonlydir /out/appendonlydir
redis-cli SHUTDOWN NOSAVE || true
mkdir /tmp/none && cd /tmp/none
redis-server --dir /tmp/none --save '' --rdbchecksum no --enable-debug-command yes --daemonize yes --logfile /tmp/log >/dev/null
until redis-cli PING | grep -q PONG; do sleep 0.05; done
redis-cli SAVE >/dev/null
cp dump.rdb /out/empty.rdb
redis-cli DEBUG POPULATE 1000 k 24 >/dev/null
redis-cli SAVE >/dev/null
cp dump.rdb /out/unsummed.rdb
chmod -R a+rX /out
"#;

fn source() -> &'static TempDir {
    static SOURCE_MADE: OnceLock<TempDir> = OnceLock::new();
    SOURCE_MADE.get_or_init(|| {
        image("redis", IMAGE);
        made("redis", IMAGE, &[], SOURCE)
    })
}

/// A place whose service is a Redis with these options.
fn place(test: &str, options: &str, restore: &str) -> Place {
    let made = source();
    let place = Place::new(test);
    place.write(
        "stack.yaml",
        format!(
            "services:\n  cache:\n    image: {IMAGE}\n    \
             command: [redis-server, --bind, 0.0.0.0, --protected-mode, \"no\", --enable-debug-command, \"yes\"{options}]\n    \
             environment: {{ REDISCLI_AUTH: in-staging }}\n    volumes: [\"cache:/data\"]\n    expose: [\"6379\"]\n    \
             healthcheck: {{ test: [CMD-SHELL, \"redis-cli PING | grep -Eq 'PONG|NOAUTH'\"], interval: 250ms, retries: 40, start_period: 60s }}\n\
             volumes: {{ cache: }}\n"
        ),
    );
    place.write(
        "rehearsal.yaml",
        format!(
            "rehearsal: {}\nstack: stack.yaml\ntestplan: testplan.yaml\nrestore:\n  - service: cache\n{restore}",
            place.name()
        ),
    );
    digest(&place, &line(made, "rdb.digest"));
    place
}

/// The test plan that wants exactly this data.
fn digest(place: &Place, digest: &str) {
    place.write(
        "testplan.yaml",
        format!(
            "testplan: keys\ntests:\n  - name: every key and value is as at the source\n    \
             exec: {{ service: cache, run: redis-cli DEBUG DIGEST }}\n    expect: {{ stdout: \"{digest}\" }}\n"
        ),
    );
}

fn backup(place: &Place, name: &str, content: impl AsRef<[u8]>) {
    place.write(name, content);
}

fn copied(place: &Place, name: &str) {
    let to = place.path(name);
    let from = out(source(), name);
    if from.is_dir() {
        let _ = std::fs::remove_dir_all(&to);
        std::fs::create_dir(&to).expect("a folder");
        for entry in std::fs::read_dir(from).expect("a folder") {
            let entry = entry.expect("an entry");
            std::fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
        }
    } else {
        std::fs::copy(from, to).expect("a copy");
    }
}

const PASSWORD: &str = ", --requirepass, in-staging";

#[test]
fn a_million_keys_of_a_snapshot_are_restored_and_examined() {
    let place = place(
        "redis-rdb",
        PASSWORD,
        "    redis: { rdb: dump.rdb.gz }\n    max_age: 26h\n    require: [version, readable, checksums, rows, writes]\n    \
         expect: { rows: { db0: \">= 1002500\", db3: 1, db4: 0 } }\n",
    );
    copied(&place, "dump.rdb.gz");
    let ran = place.backup_check();
    ran.expect(0, Outcome::Passed, None).expect_nothing_left();
    let figure = |name: &str| {
        let case = ran.case("restore", &format!("cache: {name}"));
        assert_eq!(case.status, CaseStatus::Passed, "{case:?}");
        case.message.clone().unwrap_or_default()
    };
    assert_eq!(
        figure("restores without errors"),
        "1002502 keys in 2 databases"
    );
    assert!(figure("every table can be read").starts_with("1002502 keys, "));
    assert_eq!(
        figure("the page checksums hold"),
        "the snapshot's CRC-64 holds"
    );
    assert!(figure("the row counts are exact").contains("1 of them expire"));
    figure("the data is fresh");
    forget_bases_of(ran.run());

    // And it can say no: too few keys, and data that is not what the test plan wants.
    let rehearsal = std::fs::read_to_string(place.path("rehearsal.yaml")).expect("it was written");
    place.write("rehearsal.yaml", rehearsal.replace("db3: 1", "db3: 2"));
    let wrong = place.backup_check();
    wrong.expect(1, Outcome::Failed, Some(Owner::Backup));
    assert!(
        wrong
            .reason(Stage::Restore)
            .contains("`db3` has 1 rows, expected 2")
    );
    forget_bases_of(wrong.run());
}

#[test]
fn a_snapshot_becomes_the_base_of_a_server_that_appends() {
    let place = place(
        "redis-appends",
        ", --appendonly, \"yes\"",
        "    redis: { rdb: dump.rdb }\n",
    );
    copied(&place, "dump.rdb");
    let ran = place.backup_check();
    ran.expect(0, Outcome::Passed, None).expect_nothing_left();
    forget_bases_of(ran.run());
}

#[test]
fn append_only_files_are_restored_with_what_was_appended_last() {
    let place = place(
        "redis-aof",
        ", --appendonly, \"yes\"",
        "    redis: { aof: appendonlydir }\n    max_age: 26h\n",
    );
    copied(&place, "appendonlydir");
    digest(&place, &line(source(), "aof.digest"));
    let ran = place.backup_check();
    ran.expect(0, Outcome::Passed, None).expect_nothing_left();
    let sums = ran.case("restore", "cache: the page checksums hold");
    assert_eq!(sums.status, CaseStatus::Skipped);

    // Damaged in ways that show before or while it is restored.
    let incr = "appendonlydir/appendonly.aof.1.incr.aof";
    let base = "appendonlydir/appendonly.aof.1.base.rdb";
    let manifest = "appendonlydir/appendonly.aof.manifest";
    let bytes = |name: &str| std::fs::read(out(source(), name)).expect("it was made");
    let whole = bytes(incr);
    let mut garbled = whole.clone();
    let at = whole
        .windows(4)
        .position(|part| part == b"\r\n$3")
        .expect("a command");
    garbled[at + 3] = b'9';
    let mut flipped = bytes(base);
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x10;
    let half = bytes(base)[..middle].to_vec();
    for (what, name, content) in [
        (
            "cut inside its last command",
            incr,
            Some(whole[..whole.len() - 5].to_vec()),
        ),
        ("a length that does not fit", incr, Some(garbled)),
        (
            "garbage behind",
            incr,
            Some([whole.as_slice(), b"garbage"].concat()),
        ),
        ("a flipped byte in the base", base, Some(flipped)),
        ("half a base", base, Some(half)),
        ("no base", base, None),
        ("no manifest", manifest, None),
        ("an empty manifest", manifest, Some(Vec::new())),
        ("a missing increment", incr, None),
    ] {
        copied(&place, "appendonlydir");
        match content {
            Some(content) => backup(&place, name, content),
            None => std::fs::remove_file(place.path(name)).expect("it is there"),
        }
        refused(&place, what);
    }
    forget_bases_of(ran.run());

    // A server that does not append would start without a key: the stack is at fault.
    copied(&place, "appendonlydir");
    let stack = std::fs::read_to_string(place.path("stack.yaml")).expect("it was written");
    place.write(
        "stack.yaml",
        stack.replace("--appendonly, \"yes\"", "--appendonly, \"no\""),
    );
    let ran = place.backup_check();
    ran.expect(2, Outcome::Invalid, Some(Owner::Stack));
    assert!(ran.reason(Stage::Restore).contains("appendonly no"));
}

#[track_caller]
fn refused(place: &Place, what: &str) -> Ran {
    let ran = place.backup_check();
    let verdict = ran.verdict();
    assert_eq!(
        (ran.code, verdict.owner),
        (Some(1), Some(Owner::Backup)),
        "{what}: {verdict:?}"
    );
    ran.expect_nothing_left();
    ran
}

#[test]
fn damaged_snapshots_are_the_backups_fault_and_what_is_not_is_not() {
    let place = place("redis-damaged", "", "    redis: { rdb: backup }\n");
    let whole = std::fs::read(out(source(), "dump.rdb")).expect("it was made");
    let middle = whole.len() / 2;
    let mut flipped = whole.clone();
    flipped[middle] ^= 1;
    let gz = std::fs::read(out(source(), "dump.rdb.gz")).expect("it was made");
    let unsummed = std::fs::read(out(source(), "unsummed.rdb")).expect("it was made");
    for (what, content) in [
        ("cut in the middle", whole[..middle].to_vec()),
        ("its last byte missing", whole[..whole.len() - 1].to_vec()),
        ("empty", Vec::new()),
        ("a flipped byte", flipped),
        ("garbage behind", [whole.as_slice(), b"garbage!"].concat()),
        ("half the compressed file", gz[..gz.len() / 2].to_vec()),
        ("something else", b"SQLite format 3\0".to_vec()),
        (
            "cut, without a checksum",
            [&unsummed[..unsummed.len() / 2], &[0xff], &[0; 8]].concat(),
        ),
        (
            "no key",
            std::fs::read(out(source(), "empty.rdb")).expect("it was made"),
        ),
    ] {
        backup(&place, "backup", content);
        let ran = refused(&place, what);
        assert!(ran.bases().is_empty(), "{what}: half a restore is no base");
    }

    // Without a checksum nothing vouches for the bytes, and it is said.
    backup(&place, "backup", &unsummed);
    place.write("testplan.yaml", "testplan: up\ntests:\n  - { name: up, exec: { service: cache, run: redis-cli PING }, expect: { stdout: PONG } }\n");
    let ran = place.backup_check();
    ran.expect(0, Outcome::Passed, None);
    let sums = ran.case("restore", "cache: the page checksums hold");
    assert_eq!(sums.status, CaseStatus::Skipped);
    assert!(
        sums.message
            .as_deref()
            .is_some_and(|said| said.contains("rdbchecksum no")),
        "{sums:?}"
    );
    forget_bases_of(ran.run());

    // A format of a newer Redis: no backup is judged by a server that cannot read it.
    let mut newer = unsummed.clone();
    newer[5..9].copy_from_slice(b"0099");
    backup(&place, "backup", newer);
    let ran = place.backup_check();
    ran.expect(2, Outcome::Invalid, Some(Owner::Stack));

    // The server that cannot be asked is not the backup's fault either.
    backup(&place, "backup", &unsummed);
    let stack = std::fs::read_to_string(place.path("stack.yaml")).expect("it was written");
    place.write(
        "stack.yaml",
        stack.replace(
            "[redis-server",
            "[sh, -c, 'exec redis-server \"$$@\" --requirepass \"$$(printf other)\"', sh",
        ),
    );
    let ran = place.backup_check();
    ran.expect(2, Outcome::Invalid, Some(Owner::Staging));
    assert!(ran.reason(Stage::Restore).contains("does not let us in"));
}
