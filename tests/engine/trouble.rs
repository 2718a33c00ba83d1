//! What is in the way of a restore and is not the backup: each is said by its own name, with what to do.

use rehearsal::event::{CaseStatus, Owner, Stage};
use rehearsal::verdict::Outcome;

use crate::common::{Place, Ran};
use crate::workshop::{image, made, out};

/// A dump in plain SQL that looks small and makes much.
fn dump(statements: &str) -> String {
    format!(
        "--\n-- PostgreSQL database dump\n--\n\n{statements}\n\n--\n-- PostgreSQL database dump complete\n--\n\n"
    )
}

fn place(test: &str, service: &str, statements: &str) -> Place {
    let place = Place::new(test);
    place.write(
        "stack.yaml",
        format!(
            "services:\n  db:\n    image: rehearse-site/db:15\n    volumes: [\"data:/var/lib/postgresql/data\"]\n    \
             expose: [\"5432\"]\n{service}volumes: {{ data: }}\n"
        ),
    );
    place.write("big.sql", dump(statements));
    place.write(
        "rehearsal.yaml",
        format!(
            "rehearsal: {}\nstack: stack.yaml\nrestore: [{{ service: db, postgres: {{ dump: big.sql, database: big }} }}]\n",
            place.name()
        ),
    );
    place
}

#[track_caller]
fn expect_invalid(ran: &Ran, owner: Owner, words: &[&str]) {
    ran.expect(2, Outcome::Invalid, Some(owner));
    let reason = ran.reason(Stage::Restore).to_lowercase();
    for word in words {
        assert!(reason.contains(word), "{word}: {reason}");
    }
    let help = ran.verdict().help.clone().unwrap_or_default();
    assert!(!help.is_empty(), "it says no remedy: {reason}");
    ran.expect_nothing_left();
}

const MANY: &str = "create table t as select n, md5(n::text) as word, repeat('x', 900) as pad from generate_series(1, 300000) n;";

#[test]
fn a_full_disk_is_not_the_backups_fault() {
    // Where the write-ahead log lies there is no room for what the restore writes.
    let place = place(
        "no-space",
        "    environment: { POSTGRES_PASSWORD: x, POSTGRES_INITDB_ARGS: --waldir=/wal/own }\n    \
         tmpfs: [\"/wal:size=96m,mode=1777\"]\n",
        MANY,
    );
    expect_invalid(&place.backup_check(), Owner::Engine, &["no space"]);
}

#[test]
fn too_little_memory_is_not_the_backups_fault() {
    let place = place(
        "no-memory",
        "    environment: { POSTGRES_PASSWORD: x }\n    mem_limit: 96m\n    shm_size: 64m\n",
        "set work_mem = '1GB';\nset max_parallel_workers_per_gather = 0;\n\
         create table t as select n, repeat('x', 500) as pad from generate_series(1, 900000) n order by pad, n desc;",
    );
    expect_invalid(&place.backup_check(), Owner::Engine, &["memory"]);
}

/// The server says nothing of what befell it, so that no log can tell: the kernel's own count has to.
const SILENT: &str = "    environment: { POSTGRES_PASSWORD: x }\n    command: [postgres, -c, log_min_messages=panic, -c, work_mem=1GB]\n    \
     mem_limit: 96m\n    shm_size: 64m\n";

#[test]
fn too_little_memory_is_seen_where_no_log_tells_of_it() {
    let place = place(
        "silent-memory",
        SILENT,
        "set max_parallel_workers_per_gather = 0;\n\
         create table t as select n, repeat('x', 500) as pad from generate_series(1, 900000) n order by pad, n desc;",
    );
    expect_invalid(
        &place.backup_check(),
        Owner::Engine,
        &["memory", "server closed the connection"],
    );
}

#[test]
fn too_little_memory_while_it_is_examined_is_not_the_backups_fault() {
    let place = place("examine-memory", SILENT, "create table t as select 1 as n;");
    place.write(
        "rehearsal.yaml",
        format!(
            "rehearsal: {}\nstack: stack.yaml\nrestore:\n  - service: db\n    postgres: {{ dump: big.sql, database: big }}\n    \
             expect: {{ rows: {{ t: 2 }} }}\n    invariants:\n      - name: nothing is wrong\n        query: \"select a from (select repeat('x', 500) || n as a \
             from generate_series(1, 900000) n order by 1 desc offset 0) s where a = 'none'\"\n",
            place.name()
        ),
    );
    let ran = place.backup_check();
    expect_invalid(&ran, Owner::Staging, &["ran out of memory"]);
    // What was seen before stays what it was.
    let rows = ran.case("restore", "db/big: the row counts are exact");
    assert_eq!(rows.status, CaseStatus::Failed, "{rows:?}");
    let broken = ran.case("restore", "db/big: foreign keys and invariants hold");
    assert_eq!(broken.status, CaseStatus::Error, "{broken:?}");
}

#[test]
fn an_examination_that_is_over_its_time_is_no_want_of_memory() {
    let place = place(
        "examine-late",
        "    environment: { POSTGRES_PASSWORD: x }\n",
        "create table t as select 1 as n;",
    );
    place.write(
        "rehearsal.yaml",
        format!(
            "rehearsal: {}\nstack: stack.yaml\nlimits: {{ examine: 10s }}\nrestore:\n  - service: db\n    \
             postgres: {{ dump: big.sql, database: big }}\n    expect: {{ rows: {{ t: 2 }} }}\n    invariants:\n      \
             - name: it takes long\n        query: \"select a from (select pg_sleep(600)::text as a) s where a = 'none'\"\n",
            place.name()
        ),
    );
    let ran = place.backup_check();
    expect_invalid(&ran, Owner::Staging, &["limits.examine"]);
    for (rung, status) in [
        ("the row counts are exact", CaseStatus::Failed),
        ("foreign keys and invariants hold", CaseStatus::Error),
        ("the page checksums hold", CaseStatus::Skipped),
    ] {
        let case = ran.case("restore", &format!("db/big: {rung}"));
        assert_eq!(case.status, status, "{case:?}");
        let said = case.message.clone().unwrap_or_default();
        assert!(!said.contains("memory"), "{rung}: {said}");
    }
}

const REDIS: &str = "rehearse-test/redis:7";

/// Many keys; and few that are each larger than the memory that its server may have: it outgrows that in one piece, before
/// it has read anything else that the kernel could take back instead.
const MANY_KEYS: &str = "100000 key 1000";
const LARGE_KEYS: &str = "2 key 100000000";

/// A Redis with these options, and a snapshot of these keys that it has to load.
fn redis(test: &str, keys: &str, options: &str, service: &str, limits: &str) -> Place {
    let place = Place::new(test);
    image("redis", REDIS);
    let source = made(
        test,
        REDIS,
        &[],
        &format!(
            "redis-server --dir /out --save '' --enable-debug-command yes --daemonize yes --logfile /tmp/log\n\
             until redis-cli PING | grep -q PONG; do sleep 0.05; done\n\
             redis-cli DEBUG POPULATE {keys}\nredis-cli SAVE\nchmod a+r /out/dump.rdb\n"
        ),
    );
    std::fs::copy(out(&source, "dump.rdb"), place.path("dump.rdb")).expect("a copy");
    place.write(
        "stack.yaml",
        format!(
            "services:\n  cache:\n    image: {REDIS}\n    \
             command: [redis-server, --bind, 0.0.0.0, --protected-mode, \"no\"{options}]\n    \
             volumes: [\"cache:/data\"]\n    expose: [\"6379\"]\n{service}volumes: {{ cache: }}\n"
        ),
    );
    place.write(
        "rehearsal.yaml",
        format!(
            "rehearsal: {}\nstack: stack.yaml\nrestore: [{{ service: cache, redis: {{ rdb: dump.rdb }} }}]\n{limits}",
            place.name()
        ),
    );
    place
}

#[test]
fn a_server_whose_main_process_is_killed_for_its_memory_is_not_the_backups_fault() {
    let place = redis("redis-memory", LARGE_KEYS, "", "    mem_limit: 48m\n", "");
    expect_invalid(&place.backup_check(), Owner::Engine, &["memory"]);
}

/// Redis answers its health check when it has loaded everything, here after hours.
#[test]
fn a_snapshot_that_is_still_being_loaded_is_not_a_bad_one() {
    let slow = ", --key-load-delay, \"100000\"";
    let check = |retries: u32| {
        format!(
            "    healthcheck: {{ test: [CMD-SHELL, \"timeout 1 redis-cli PING | grep -q PONG\"], interval: 1s, retries: {retries} }}\n"
        )
    };
    let place = redis(
        "redis-late",
        MANY_KEYS,
        slow,
        &check(100),
        "limits: { start: 10s }\n",
    );
    expect_invalid(&place.backup_check(), Owner::Staging, &["limits.start"]);
    drop(place);
    let place = redis(
        "redis-sick",
        MANY_KEYS,
        slow,
        &check(2),
        "limits: { start: 60s }\n",
    );
    expect_invalid(
        &place.backup_check(),
        Owner::Staging,
        &["health check failed"],
    );
}
