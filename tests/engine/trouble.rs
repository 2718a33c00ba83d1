//! What is in the way of a restore and is not the backup: each is said by its own name, with what to do.

use rehearsal::event::{Owner, Stage};
use rehearsal::verdict::Outcome;

use crate::common::{Place, Ran};

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
