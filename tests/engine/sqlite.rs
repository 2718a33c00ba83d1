//! SQLite: a million rows with a part of them in the write-ahead log alone; then the same, damaged.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use rehearsal::event::{CaseStatus, Owner};
use rehearsal::verdict::Outcome;
use tempfile::TempDir;

use crate::common::{IDLE, Place, checkout, forget_bases_of};
use crate::workshop::{line, made, out, tools};

/// What is summed up is every value of every row, in the order of the keys.
const SUM: &str = "select count(*) || ' ' || sum(id) || ' ' || sum(amount * id) || ' ' || sum(length(note)) || ' ' || \
    hex(max(note)) || ' ' || sum(unicode(substr(note, 1 + id % 20))) || ' ' || sum(customer * id % 977) from invoice";

/// The last thousand rows stand in the log only: a reader keeps SQLite from moving them into the file.
fn script() -> String {
    format!(
        r#"
cd /tmp
sqlite3 site.sqlite "pragma journal_mode=wal;
create table customer (id integer primary key autoincrement, name text not null);
create table invoice (id integer primary key autoincrement, customer integer not null references customer, amount integer, note text, placed text);
create index invoice_customer on invoice (customer, amount);
create virtual table note using fts5(body);
insert into customer (name) with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000) select 'customer ' || i from n;
insert into invoice (customer, amount, note, placed) with recursive n(i) as (select 1 union all select i + 1 from n where i < 999000)
  select 1 + i % 1000, i * 7 % 10007, 'note of invoice number ' || i || ' ' || hex(i * 7919), datetime('2026-01-01', '+' || i || ' seconds') from n;
insert into note values ('searched for');" > /dev/null
mkdir /out/live
sqlite3 site.sqlite "pragma wal_autocheckpoint=0;" \
  "insert into invoice (customer, amount, note, placed) with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000) select i, i, 'late note number ' || i || ' and more of it', strftime('%Y-%m-%d %H:%M:%S', 'now') from n;" \
  "insert into customer (name) values ('the last');" \
  "{SUM};" ".output stdout" ".shell cp site.sqlite site.sqlite-wal site.sqlite-shm /out/live/" > /out/sum.all
tail -n 1 /out/sum.all > /out/sum
cp site.sqlite /out/whole.sqlite
gzip -1 -k -c site.sqlite > /out/whole.sqlite.gz
sqlite3 site.sqlite "pragma journal_mode=delete" > /dev/null
sqlite3 site.sqlite "{SUM}" > /out/sum.after
cmp /out/sum /out/sum.after
ls -l /out/live >&2
test -s /out/live/site.sqlite-wal
# Smaller ones for what fails.
sqlite3 /out/small.sqlite "pragma page_size=4096;
create table t (id integer primary key autoincrement, name text unique, other integer references t);
insert into t (name) with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000) select 'name ' || i from n;" 
sqlite3 /out/small.sqlite "select rootpage from sqlite_schema where name = 'sqlite_autoindex_t_1'" > /out/index.page
cp /out/small.sqlite /out/orphan.sqlite
sqlite3 /out/orphan.sqlite "update t set other = 99999 where id = 7"
cp /out/small.sqlite /out/behind.sqlite
sqlite3 /out/behind.sqlite "update sqlite_sequence set seq = 5"
sqlite3 /out/none.sqlite "create table t (id); drop table t;"
chmod -R a+rX /out
"#
    )
}

fn source() -> &'static TempDir {
    static SOURCE: OnceLock<TempDir> = OnceLock::new();
    SOURCE.get_or_init(|| made("sqlite", &tools(), &[], &script()))
}

/// A place whose idle service mounts the volume, in an image that has `sqlite3`.
fn place(test: &str, restore: &str) -> Place {
    let tools = tools();
    source();
    let place = Place::new(test);
    place.write(
        "stack.yaml",
        format!(
            "services:\n  app:\n    image: {tools}\n    command: {IDLE}\n    volumes: [\"data:/srv/data\"]\nvolumes: {{ data: }}\n"
        ),
    );
    place.write(
        "rehearsal.yaml",
        format!(
            "rehearsal: {}\nstack: stack.yaml\ntestplan: testplan.yaml\nrestore:\n  - volume: data\n{restore}",
            place.name()
        ),
    );
    place.write(
        "testplan.yaml",
        "testplan: up\ntests:\n  - { name: up, exec: { service: app, run: test -s /srv/data/app/site.sqlite }, expect: { exit_code: 0 } }\n",
    );
    place
}

fn copied(place: &Place, from: &str, to: &str) -> PathBuf {
    let to = place.path(to);
    std::fs::create_dir_all(to.parent().expect("below the place")).expect("a folder");
    std::fs::copy(out(source(), from), &to).expect("a copy");
    to
}

#[test]
fn a_million_rows_are_restored_with_what_only_the_log_holds() {
    let place = place(
        "sqlite-wal",
        "    sqlite: { file: live/site.sqlite, to: app/site.sqlite, data_as_of: select max(placed) from invoice }\n    \
         max_age: 26h\n    require: [readable, indexes, rows, sequences, constraints, writes]\n    \
         expect: { rows: { invoice: 1000000, customer: 1001 } }\n    \
         invariants: [{ name: no note is empty, query: select id from invoice where note = '' }]\n",
    );
    for name in ["site.sqlite", "site.sqlite-wal", "site.sqlite-shm"] {
        copied(&place, &format!("live/{name}"), &format!("live/{name}"));
    }
    let sum = line(source(), "sum");
    place.write("sum.sql", format!("{SUM};\n"));
    let stack = std::fs::read_to_string(place.path("stack.yaml")).expect("it was written");
    place.write(
        "stack.yaml",
        stack.replace(
            "\"data:/srv/data\"",
            "\"data:/srv/data\", \"./sum.sql:/sum.sql:ro\"",
        ),
    );
    place.write(
        "testplan.yaml",
        format!(
            "testplan: rows\ntests:\n  - name: every row is as at the source\n    \
             exec: {{ service: app, run: sqlite3 /srv/data/app/site.sqlite < /sum.sql }}\n    expect: {{ stdout: \"{sum}\" }}\n  \
             - name: the journal mode is as it was\n    \
             exec: {{ service: app, run: sqlite3 /srv/data/app/site.sqlite 'pragma journal_mode' }}\n    expect: {{ stdout: wal }}\n"
        ),
    );
    let ran = place.backup_check();
    ran.expect(0, Outcome::Passed, None).expect_nothing_left();
    let figure = |name: &str| {
        let case = ran.case("restore", &format!("data/app/site.sqlite: {name}"));
        assert_eq!(case.status, CaseStatus::Passed, "{case:?}");
        case.message.clone().unwrap_or_default()
    };
    assert!(figure("restores without errors").contains("transactions in its write-ahead log"));
    assert_eq!(
        figure("the indexes agree with the tables"),
        "integrity_check: ok"
    );
    assert_eq!(
        figure("the sequences are past their columns"),
        "2 sequences"
    );
    figure("the data is fresh");
    forget_bases_of(ran.run());

    // Without its log the last thousand rows are gone: nothing in the file says so, but its demands do.
    std::fs::remove_file(place.path("live/site.sqlite-wal")).expect("it is there");
    let lost = place.backup_check();
    lost.expect(1, Outcome::Failed, Some(Owner::Backup));
    let rows = lost.case("restore", "data/app/site.sqlite: the row counts are exact");
    assert_eq!(rows.status, CaseStatus::Failed, "{rows:?}");
    let old = lost.case("restore", "data/app/site.sqlite: the data is fresh");
    assert_eq!(old.status, CaseStatus::Failed, "{old:?}");
    forget_bases_of(lost.run());

    // A log that is damaged loses transactions as silently: that is seen.
    let log = out(source(), "live/site.sqlite-wal");
    let whole = std::fs::read(log).expect("it was made");
    let mut flipped = whole.clone();
    flipped[5000] ^= 1;
    let mut header = whole.clone();
    header[17] ^= 1;
    for (what, content) in [
        ("a flipped byte in the log", flipped),
        ("a flipped byte in the log's header", header),
        ("a log that is cut", whole[..whole.len() - 100].to_vec()),
        ("a log that is something else", vec![b'x'; 9000]),
    ] {
        place.write("live/site.sqlite-wal", content);
        refused(&place, what, "log");
    }
}

#[track_caller]
fn refused(place: &Place, what: &str, word: &str) {
    let ran = place.backup_check();
    let verdict = ran.verdict();
    assert_eq!(
        (ran.code, verdict.owner),
        (Some(1), Some(Owner::Backup)),
        "{what}: {verdict:?}"
    );
    assert!(verdict.reason.contains(word), "{what}: {}", verdict.reason);
    ran.expect_nothing_left();
    forget_bases_of(ran.run());
}

#[test]
fn damaged_databases_are_the_backups_fault() {
    let place = place(
        "sqlite-damaged",
        "    sqlite: { file: backup.sqlite, to: app/site.sqlite }\n    expect: { rows: { t: 20000 } }\n",
    );
    let whole = std::fs::read(out(source(), "small.sqlite")).expect("it was made");
    let page: usize = line(source(), "index.page").parse().expect("a page");
    let changed = |at: usize, with: &[u8]| {
        let mut bytes = whole.clone();
        bytes[at..at + with.len()].copy_from_slice(with);
        bytes
    };
    // A name inside the index only: the table has the right one.
    let find = |from: usize| {
        let bytes = &whole[from..];
        from + bytes
            .windows(9)
            .position(|part| part == b"name 1234")
            .expect("it is there")
    };
    let first = find(0);
    let second = find(first + 9);
    let last = whole
        .windows(9)
        .rposition(|part| part == b"name 1234")
        .expect("it is there");
    assert!(second <= last);
    let made = |name: &str| std::fs::read(out(source(), name)).expect("it was made");
    for (what, content, word) in [
        ("cut in the middle", whole[..whole.len() / 2].to_vec(), ""),
        ("empty", Vec::new(), ""),
        (
            "its last page missing",
            whole[..whole.len() - 4096].to_vec(),
            "",
        ),
        (
            "garbage behind",
            [whole.as_slice(), &[7; 5000]].concat(),
            "",
        ),
        ("something else", b"PGDMP and so on".to_vec(), ""),
        ("a damaged header", changed(16, &[3, 3]), ""),
        (
            "an index page full of zeroes",
            changed((page - 1) * 4096, &[0; 4096]),
            "integrity_check",
        ),
        (
            "a flipped byte in an index or its table",
            changed(last + 8, b"9"),
            "integrity_check",
        ),
        ("a table without its rows", changed(4096, &[0; 4096]), ""),
        (
            "rows that refer to nothing",
            made("orphan.sqlite"),
            "refer to nothing",
        ),
        (
            "a sequence that is behind",
            made("behind.sqlite"),
            "is at 5",
        ),
        ("no table", made("none.sqlite"), "no table"),
    ] {
        place.write("backup.sqlite", content);
        refused(&place, what, word);
    }

    // What is asked wrongly is not the backup's fault.
    place.write("backup.sqlite", &whole);
    let rehearsal = std::fs::read_to_string(place.path("rehearsal.yaml")).expect("it was written");
    place.write(
        "rehearsal.yaml",
        rehearsal.replace(
            "expect:",
            "invariants: [{ name: typo, query: select x from tt }]\n    expect:",
        ),
    );
    let ran = place.backup_check();
    ran.expect(2, Outcome::Invalid, Some(Owner::Staging));
    forget_bases_of(ran.run());
}

#[test]
fn a_compressed_file_keeps_its_owner_and_the_service_can_write() {
    let place = place(
        "sqlite-owner",
        "    sqlite: { file: whole.sqlite.gz, to: app/site.sqlite }\n",
    );
    let file = copied(&place, "whole.sqlite.gz", "whole.sqlite.gz");
    let owner = Command::new("stat")
        .args(["-c", "%u:%g"])
        .arg(&file)
        .output()
        .expect("stat");
    let owner = String::from_utf8_lossy(&owner.stdout).trim().to_owned();
    place.write(
        "testplan.yaml",
        format!(
            "testplan: owner\ntests:\n  - name: owner\n    \
             exec: {{ service: app, run: \"stat -c %u:%g /srv/data/app /srv/data/app/site.sqlite\" }}\n    expect: {{ stdout: \"{owner}\\n{owner}\" }}\n  \
             - name: writes\n    exec: {{ service: app, user: \"{owner}\", run: \"sqlite3 /srv/data/app/site.sqlite 'delete from note; select count(*) from note'\" }}\n    \
             expect: {{ stdout: \"0\" }}\n"
        ),
    );
    let ran = place.backup_check();
    ran.expect(0, Outcome::Passed, None).expect_nothing_left();
    forget_bases_of(ran.run());
}

fn chinook() -> PathBuf {
    let data = std::env::var_os("REHEARSE_DATA")
        .map_or_else(|| checkout().join("../shared/data"), PathBuf::from);
    data.join("chinook/Chinook_Sqlite.sqlite")
}

/// Real data that nobody here wrote.
#[test]
fn chinook_comes_back_and_does_not_pass_when_it_is_damaged() {
    if !chinook().is_file() {
        // Past the harness, which hides what a test that passes prints.
        let _ = writeln!(
            std::io::stderr(),
            "NOT RUN: Chinook in SQLite, because `{}` is not there; REHEARSE_DATA may name the folder that holds chinook/",
            chinook().display()
        );
        return;
    }
    let place = place(
        "sqlite-chinook",
        "    sqlite: { file: backup.sqlite, to: app/site.sqlite, data_as_of: select max(InvoiceDate) from Invoice }\n    \
         require: [readable, indexes, rows, constraints, writes]\n    \
         expect: { rows: { Invoice: 412, InvoiceLine: 2240, PlaylistTrack: 8715, Track: 3503 } }\n",
    );
    let whole = std::fs::read(chinook()).expect("it can be read");
    place.write("backup.sqlite", &whole);
    place.write(
        "testplan.yaml",
        "testplan: chinook\ntests:\n  - name: every line is as at the source\n    exec:\n      service: app\n      \
         run: sqlite3 /srv/data/app/site.sqlite 'select count(*), cast(sum(UnitPrice * 100 * Quantity) as integer), sum(InvoiceLineId * TrackId) from InvoiceLine'\n    \
         expect: { stdout: \"2240|232860|4600321336\" }\n",
    );
    let ran = place.backup_check();
    ran.expect(0, Outcome::Passed, None).expect_nothing_left();
    for rung in ["the row counts are exact", "every table can be read"] {
        let case = ran.case("restore", &format!("data/app/site.sqlite: {rung}"));
        assert_eq!(case.status, CaseStatus::Passed, "{case:?}");
    }
    forget_bases_of(ran.run());
    let page = |number: usize| {
        let mut bytes = whole.clone();
        bytes[(number - 1) * 4096..number * 4096].fill(0);
        bytes
    };
    for (what, content) in [
        ("cut", whole[..whole.len() / 3].to_vec()),
        ("without its first page", page(1)),
        ("without its second page", page(2)),
        (
            "half of it twice",
            [&whole[..whole.len() / 2], &whole[..whole.len() / 2]].concat(),
        ),
        ("without its last byte", whole[..whole.len() - 1].to_vec()),
    ] {
        place.write("backup.sqlite", content);
        refused(&place, what, "");
    }
}
