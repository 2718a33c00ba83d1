//! Dumps of every format, of a million rows and more, compared row for row with their source; and dumps that must not
//! pass.

use std::fmt::Write as _;
use std::path::Path;

use rehearsal::event::{CaseStatus, EventKind, Owner, Stage};
use rehearsal::verdict::Outcome;

use crate::common::{Place, Ran, forget_bases_of};
use crate::postgres_source::{SUM, Source};

/// A place with these database services, each with a volume of its own, and one for files.
fn place(test: &str, services: &[&str]) -> Place {
    let place = Place::new(test);
    let mut stack = "services:\n".to_owned();
    let mut volumes = "volumes:\n  files:\n".to_owned();
    for service in services {
        write!(
            stack,
            "  {service}:
    image: rehearse-site/db:15
    environment: {{ POSTGRES_USER: ledger, POSTGRES_PASSWORD: in-staging }}
    volumes: [\"{service}:/var/lib/postgresql/data\"]
    expose: [\"5432\"]
    healthcheck: {{ test: [CMD, pg_isready, -q, -h, 127.0.0.1, -U, ledger], interval: 250ms, retries: 20, start_period: 30s }}
"
        )
        .expect("memory");
        writeln!(volumes, "  {service}:").expect("memory");
    }
    place.write("stack.yaml", stack + &volumes);
    rehearsal(&place, "", None);
    place
}

fn rehearsal(place: &Place, restore: &str, tests: Option<&str>) {
    let testplan = tests.map_or("", |_| "testplan: testplan.yaml\n");
    if let Some(tests) = tests {
        place.write("testplan.yaml", tests);
    }
    place.write(
        "rehearsal.yaml",
        format!(
            "rehearsal: {}\nstack: stack.yaml\n{testplan}{restore}",
            place.name()
        ),
    );
}

#[track_caller]
fn expect_case(ran: &Ran, name: &str, status: CaseStatus, words: &[&str]) {
    let case = ran.case("restore", name);
    assert_eq!(case.status, status, "{case:?}");
    let said = case.message.as_deref().unwrap_or_default();
    for word in words {
        assert!(said.contains(word), "{word}: {case:?}");
    }
}

#[test]
fn dumps_of_every_format_bring_back_every_row() {
    let source = Source::get();
    let place = place("pg-formats", &["db", "whole"]);
    let mut restore = "restore:\n".to_owned();
    let mut tests = "testplan: sums\ntests:\n".to_owned();
    let mut add = |service: &str, database: &str, of: &str| {
        let query = serde_json::Value::from(SUM);
        writeln!(
            tests,
            "  - name: {service}/{database}\n    sql: {{ service: {service}, database: {database}, timeout: 2m, query: {query} }}\n    \
             expect: {{ value: \"{}\" }}",
            source.sums[of]
        )
        .expect("memory");
    };
    for (database, file, jobs) in [
        ("custom", "dump", ", jobs: 2"),
        ("folder", "dir", ", jobs: 2"),
        ("tar", "tar", ", jobs: 2"),
        ("plain", "sql.gz", ""),
    ] {
        let path = source.path(&format!("big.{file}"));
        let chinook = if source.with_chinook {
            "invoice: 412, invoice_line: 2240, "
        } else {
            ""
        };
        writeln!(
            restore,
            "  - service: db\n    postgres: {{ dump: {}, database: big_{database}{jobs} }}\n    \
             expect: {{ rows: {{ {chinook}reading: 1000000, sensor: \">= 100\" }} }}",
            path.display()
        )
        .expect("memory");
        add("db", &format!("big_{database}"), "big");
    }
    // Globals are listed last, and restored first: the dumps grant to their roles.
    let globals = source.path("globals.sql");
    let cluster = source.path("cluster.sql.gz");
    writeln!(
        restore,
        "  - {{ service: db, postgres: {{ globals: {} }} }}\n  - {{ service: whole, postgres: {{ dump: {} }} }}",
        globals.display(),
        cluster.display()
    )
    .expect("memory");
    for of in source.sums.keys() {
        add("whole", of, of);
    }
    rehearsal(&place, &restore, Some(&tests));
    let ran = place.backup_check();
    ran.expect(0, Outcome::Passed, None).expect_nothing_left();

    let rows = "the row counts are exact";
    let tables = if source.with_chinook {
        "16 tables"
    } else {
        "5 tables"
    };
    expect_case(
        &ran,
        &format!("db/big_custom: {rows}"),
        CaseStatus::Passed,
        &[tables],
    );
    for (rung, word) in [
        ("restores without errors", tables),
        ("the major version is the same", "PostgreSQL 15"),
        ("every table can be read", "1 database"),
        ("the indexes agree with the tables", "B-tree"),
        ("the sequences are past their columns", "fed by"),
        ("foreign keys and invariants hold", "foreign key"),
        ("accepts writes", "read back"),
    ] {
        for restore in [
            "db/big_custom",
            "db/big_folder",
            "db/big_tar",
            "db/big_plain",
        ] {
            let name = format!("{restore}: {rung}");
            expect_case(&ran, &name, CaseStatus::Passed, &[word]);
        }
    }
    // What a dump cannot show is not called shown.
    for rung in [
        "the collation versions are the same",
        "the page checksums hold",
    ] {
        let name = format!("db/big_custom: {rung}");
        expect_case(&ran, &name, CaseStatus::Skipped, &["a dump carries no"]);
    }
    // The role and the database that the image makes are told, not hidden.
    let already = "1 message about what the service's image had made already";
    for restore in ["db/globals", "whole"] {
        let name = format!("{restore}: restores without errors");
        expect_case(&ran, &name, CaseStatus::Passed, &[already]);
    }
    expect_case(
        &ran,
        "whole: the major version is the same",
        CaseStatus::Passed,
        &["PostgreSQL 15"],
    );
    let told = ran.events.iter().any(|event| {
        matches!(&event.kind, EventKind::Progress { stage: Stage::Restore, unit, total: Some(_), .. } if unit == "tables")
    });
    assert!(told, "nothing was said while it was restored");
    forget_bases_of(ran.run());
}

/// A plain dump as `pg_dump` frames it, from a server of this version.
fn plain(version: &str, middle: &str) -> String {
    format!(
        "--\n-- PostgreSQL database dump\n--\n\n-- Dumped from database version {version}\n-- Dumped by pg_dump version {version}\n\n\
         SET client_encoding = 'UTF8';\n\n{middle}\n--\n-- PostgreSQL database dump complete\n--\n\n"
    )
}

/// What production may say of a database, and what must not keep us from looking at it.
const SETTINGS_OF_PRODUCTION: &str = "\
do $$ declare setting text; begin foreach setting in array array['statement_timeout = 1', 'lock_timeout = 1',
'idle_in_transaction_session_timeout = 1', 'default_transaction_read_only = on',
'default_transaction_deferrable = on', 'default_transaction_isolation = serializable', 'row_security = on',
'search_path = odd, pg_catalog'] loop execute format('alter database %I set %s', current_database(), setting); end loop; end $$;
";

/// Everything that the other rungs need is in order.
const FINE: &str = "\
create table parent (id int primary key, code text);
create table child (id serial primary key, parent int references parent, path text);
insert into parent select i, 'code ' || i from generate_series(1, 500) i;
insert into child (parent, path) select i, 'f' || i % 3 from generate_series(1, 100) i;
";

#[test]
fn each_rung_sees_what_is_wrong() {
    let place = place("pg-rungs", &["db"]);
    let mut restore = "restore:\n  - { volume: files, archive: files.tar }\n".to_owned();
    let mut add = |database: &str, version: &str, more: &str, demands: &str| {
        place.write(
            &format!("{database}.sql"),
            plain(version, &format!("{FINE}{more}")),
        );
        writeln!(
            restore,
            "  - service: db\n    postgres: {{ dump: {database}.sql, database: {database} }}{demands}"
        )
        .expect("memory");
    };
    add(
        "fine",
        "15.4",
        "",
        "\n    require: [version, readable, indexes, rows, sequences, constraints, files, writes]\n    \
         expect: { rows: { parent: 500, public.child: \">= 100\" } }\n    \
         invariants: [{ name: no orphan, query: \"select 1 from child where parent > 500; \" }]\n    \
         files: { query: \"select distinct path from child union all select null\", volume: files, below: papers }",
    );
    add(
        "behind",
        "15.4",
        "select pg_catalog.setval('child_id_seq', 99, true);\n",
        "",
    );
    // As `pg_dump --disable-triggers` restores: nobody looks at the foreign key.
    add(
        "orphan",
        "15.4",
        "set session_replication_role = replica;\ninsert into child (parent) values (501), (502), (null);\n",
        "",
    );
    add(
        "not_valid",
        "15.4",
        "alter table child add constraint later foreign key (id) references parent not valid;\n",
        "",
    );
    add(
        "short",
        "15.4",
        "delete from child where id = 7;\n",
        "\n    expect: { rows: { child: 100 } }",
    );
    add(
        "invariant",
        "15.4",
        "",
        "\n    invariants:\n      - { name: codes are short, query: \"select id, code from parent where id >= 499 order by id\" }",
    );
    add(
        "unasked",
        "15.4",
        "",
        "\n    invariants: [{ name: wrong, query: select no_such_column from parent }]",
    );
    add(
        "lost_file",
        "15.4",
        "insert into child (path) values ('lost.txt');\n",
        "\n    files: { query: select path from child where path is not null, volume: files, below: papers }",
    );
    add(
        "escape",
        "15.4",
        "insert into child (path) values ('../f0');\n",
        "\n    files: { query: select path from child where path is not null, volume: files, below: papers }",
    );
    // For real: the index was not told of the new rows.
    add(
        "index",
        "15.4",
        "create index parent_code on parent (code);
update pg_index set indisready = false where indexrelid = 'parent_code'::regclass;
insert into parent values (1000, 'unknown to the index');
update pg_index set indisready = true where indexrelid = 'parent_code'::regclass;
",
        "",
    );
    // For real: a page of the table is overwritten on the disk.
    add(
        "page",
        "15.4",
        "create table torn (word text);\ninsert into torn select repeat('x', 1000) from generate_series(1, 100);\ncheckpoint;
do $$ begin execute format('copy (select) to program %L',
'dd if=/dev/urandom of=' || pg_relation_filepath('torn') || ' bs=8192 seek=3 count=1 conv=notrunc status=none'); end $$;
",
        "",
    );
    add("locked", "15.4", SETTINGS_OF_PRODUCTION, "");
    // A key of several columns refers to nothing where one is null, but with MATCH FULL only where all are.
    let keys = |matching: &str, rows: &str| {
        format!(
            "create table pair (a int, b int, primary key (a, b));\ninsert into pair values (1, 1);\n\
             create table half (a int, b int, foreign key (a, b) references pair {matching});\n\
             set session_replication_role = replica;\ninsert into half values {rows};\n"
        )
    };
    add(
        "simple",
        "15.4",
        &keys("", "(1, 1), (9, null), (null, null)"),
        "",
    );
    add(
        "simple_bad",
        "15.4",
        &keys("", "(1, 1), (9, null), (1, 2)"),
        "",
    );
    add(
        "full",
        "15.4",
        &keys("match full", "(1, 1), (null, null)"),
        "",
    );
    add(
        "full_bad",
        "15.4",
        &keys("match full", "(1, 1), (null, null), (1, null)"),
        "",
    );
    add("older", "14.9", "", "");
    add("required", "15.4", "", "\n    require: [checksums, rows]");
    place.write("files.tar", files(&["f0", "f1", "f2"]));
    rehearsal(&place, &restore, None);
    let ran = place.backup_check();
    // Several cannot be determined, which comes before what is the backup's fault.
    ran.expect(2, Outcome::Invalid, Some(Owner::Staging))
        .expect_nothing_left();

    let (bad, unknown) = (CaseStatus::Failed, CaseStatus::Error);
    for (name, status, words) in [
        (
            "behind: the sequences are past their columns",
            bad,
            ["public.child_id_seq is 100", "has 100 already"],
        ),
        (
            "orphan: foreign keys and invariants hold",
            bad,
            ["child_parent_fkey of public.child", "2 rows"],
        ),
        (
            "not_valid: foreign keys and invariants hold",
            CaseStatus::Passed,
            ["1 foreign key", "later of public.child"],
        ),
        (
            "short: the row counts are exact",
            bad,
            ["99 rows", "expected 100"],
        ),
        (
            "invariant: foreign keys and invariants hold",
            bad,
            ["`codes are short` gives 2 rows", "499"],
        ),
        (
            "unasked: foreign keys and invariants hold",
            unknown,
            ["`wrong`", "no_such_column"],
        ),
        (
            "lost_file: files named in the database are there",
            bad,
            ["1 of 101 files", "lost.txt"],
        ),
        (
            "escape: files named in the database are there",
            bad,
            ["`..`", "../f0"],
        ),
        (
            "index: the indexes agree with the tables",
            bad,
            ["parent_code", "lacks matching index tuple"],
        ),
        (
            "page: every table can be read",
            bad,
            ["invalid page", "block 3"],
        ),
        (
            "simple: foreign keys and invariants hold",
            CaseStatus::Passed,
            ["2 foreign keys", ""],
        ),
        (
            "simple_bad: foreign keys and invariants hold",
            bad,
            ["half_a_b_fkey of public.half", "1 row refers"],
        ),
        (
            "full: foreign keys and invariants hold",
            CaseStatus::Passed,
            ["2 foreign keys", ""],
        ),
        (
            "full_bad: foreign keys and invariants hold",
            bad,
            ["half_a_b_fkey of public.half", "1 row refers"],
        ),
        (
            "older: the major version is the same",
            unknown,
            ["PostgreSQL 14", "PostgreSQL 15"],
        ),
        (
            "required: the page checksums hold",
            CaseStatus::Skipped,
            ["a dump carries no pages", ""],
        ),
        (
            "required: the row counts are exact",
            CaseStatus::Skipped,
            ["expect:", ""],
        ),
    ] {
        expect_case(&ran, &format!("db/{name}"), status, &words);
    }
    for rung in [
        "the major version is the same",
        "every table can be read",
        "the indexes agree with the tables",
        "the row counts are exact",
        "the sequences are past their columns",
        "foreign keys and invariants hold",
        "files named in the database are there",
        "accepts writes",
    ] {
        expect_case(&ran, &format!("db/fine: {rung}"), CaseStatus::Passed, &[]);
    }
    for rung in [
        "every table can be read",
        "the indexes agree with the tables",
        "accepts writes",
    ] {
        expect_case(&ran, &format!("db/locked: {rung}"), CaseStatus::Passed, &[]);
    }
    let wrong = |restore: &str| {
        ran.cases()
            .filter(|(_, case)| case.name.starts_with(&format!("db/{restore}: ")))
            .filter(|(_, case)| matches!(case.status, CaseStatus::Failed | CaseStatus::Error))
            .count()
    };
    for (restore, count) in [
        ("fine", 0),
        ("locked", 0),
        ("behind", 1),
        ("orphan", 1),
        ("invariant", 1),
    ] {
        assert_eq!(wrong(restore), count, "{restore}");
    }

    // The same bases, one thing asked at a time: what is the backup's fault is failed, what could not be run is invalid.
    for (database, more, code, outcome, owner) in [
        ("behind", "", 1, Outcome::Failed, Owner::Backup),
        (
            "required",
            "\n    require: [checksums]",
            2,
            Outcome::Invalid,
            Owner::Staging,
        ),
    ] {
        let restore = format!(
            "restore:\n  - service: db\n    postgres: {{ dump: {database}.sql, database: {database} }}{more}\n"
        );
        rehearsal(&place, &restore, None);
        let alone = place.backup_check();
        alone.expect(code, outcome, Some(owner));
        forget_bases_of(alone.run());
    }
    forget_bases_of(ran.run());
}

/// A dump as `pg_dumpall` frames it.
fn cluster(middle: &str) -> String {
    format!(
        "--\n-- PostgreSQL database cluster dump\n--\n\nSET default_transaction_read_only = off;\n\n\
         SET client_encoding = 'UTF8';\nSET standard_conforming_strings = on;\n\n--\n-- Roles\n--\n\n\
         CREATE ROLE ledger;\nALTER ROLE ledger WITH SUPERUSER INHERIT CREATEROLE CREATEDB LOGIN REPLICATION BYPASSRLS;\n\n\
         {middle}\n--\n-- PostgreSQL database cluster dump complete\n--\n\n"
    )
}

#[test]
fn what_production_sets_for_a_database_keeps_nobody_from_judging_it_and_no_log_tells_a_password() {
    const PASSWORD: &str = "tattletale-7d1f";
    let place = place("pg-settings", &["db"]);
    let stack = std::fs::read_to_string(place.path("stack.yaml")).expect("it was written");
    place.write(
        "stack.yaml",
        stack.replace("in-staging", PASSWORD).replace(
            "    volumes: [\"db:",
            "    command: [postgres, -c, log_statement=all, -c, log_min_duration_statement=0]\n    volumes: [\"db:",
        ),
    );
    // As pg_dumpall writes it: the settings hold for the session that fills the database.
    let kept = "CREATE DATABASE kept WITH TEMPLATE = template0;\n\\connect kept\n".to_owned()
        + SETTINGS_OF_PRODUCTION
        + "\\connect kept\nSET statement_timeout = 0;\nSET lock_timeout = 0;\nSET idle_in_transaction_session_timeout = 0;\n\
           SET search_path = public;\n"
        + &plain("15.4", FINE);
    place.write("cluster.sql", cluster(&kept));
    let whole = "restore:\n  - service: db\n    postgres: { dump: cluster.sql }\n    \
         require: [version, readable, indexes, rows, sequences, constraints, writes]\n    \
         expect: { rows: { parent: 500, child: 100 } }\n";
    rehearsal(&place, whole, None);
    let ran = place.backup_check();
    ran.expect(0, Outcome::Passed, None).expect_nothing_left();
    let mut logged = false;
    let mut folders = vec![ran.dir()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("the run's folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let content = std::fs::read(&path).expect("a file");
            let text = String::from_utf8_lossy(&content);
            assert!(!text.contains(PASSWORD), "{}", path.display());
            logged |= text.contains("alter role") && text.contains("SCRAM-SHA-256$");
        }
    }
    assert!(logged, "the server did not log what it was asked");
    forget_bases_of(ran.run());

    // Nothing comes out of this one; what is there was there before.
    place.write(
        "empty.sql",
        cluster(&format!("\\connect postgres\n{}", plain("15.4", ""))),
    );
    place.write("first.sql", plain("15.4", FINE));
    rehearsal(
        &place,
        "restore:\n  - { service: db, postgres: { dump: first.sql, database: first } }\n  \
         - { service: db, postgres: { dump: empty.sql } }\n",
        None,
    );
    let ran = place.backup_check();
    ran.expect(1, Outcome::Failed, Some(Owner::Backup))
        .expect_nothing_left();
    let good = "db/first: restores without errors";
    expect_case(&ran, good, CaseStatus::Passed, &["2 tables"]);
    let empty = "db: restores without errors";
    expect_case(&ran, empty, CaseStatus::Failed, &["brought no table"]);
    // The same of one database.
    place.write("none.sql", plain("15.4", ""));
    rehearsal(
        &place,
        "restore: [{ service: db, postgres: { dump: none.sql, database: none } }]\n",
        None,
    );
    let ran = place.backup_check();
    ran.expect(1, Outcome::Failed, Some(Owner::Backup))
        .expect_nothing_left();
    assert!(ran.reason(Stage::Restore).contains("brought no table"));
}

fn files(names: &[&str]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for name in names {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000);
        header.set_size(1);
        tar.append_data(&mut header, Path::new("papers").join(name), &b"x"[..])
            .expect("memory");
    }
    tar.into_inner().expect("memory")
}

#[test]
fn only_messages_that_are_listed_and_come_as_often_as_listed_are_tolerated() {
    let source = Source::get();
    let services = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let place = place("pg-tolerate", &services);
    let reader = "tolerate: [{ message: 'role \"reader\" does not exist', count: 2 }]";
    let once = "tolerate: [{ message: 'role \"reader\" does not exist', count: 1 }]";
    // The second error stands behind the ones that are tolerated.
    let hidden = source.sql("granted.sql.gz").replace(
        "--\n-- PostgreSQL database dump complete",
        "ALTER TABLE public.missing ADD COLUMN x integer;\n\n--\n-- PostgreSQL database dump complete",
    );
    place.write("hidden.sql", hidden);
    place.write("newer.sql", plain("16.2", FINE));
    let dump = |name: &str| format!("dump: {}", source.path(name).display());
    let shop = dump("shop.dump");
    let (sql, custom) = (dump("granted.sql.gz"), dump("granted.dump"));
    let mut restore = "restore:\n".to_owned();
    for (service, dump, demands) in [
        ("a", sql.as_str(), reader),
        ("b", custom.as_str(), reader),
        ("c", shop.as_str(), reader),
        ("d", "dump: hidden.sql", reader),
        ("e", sql.as_str(), once),
        ("f", custom.as_str(), once),
        ("g", custom.as_str(), ""),
        ("h", "dump: newer.sql", ""),
    ] {
        writeln!(
            restore,
            "  - service: {service}\n    postgres: {{ {dump}, database: site }}\n    {demands}"
        )
        .expect("memory");
    }
    rehearsal(&place, &restore, None);
    let ran = place.backup_check();
    // The newer dump is no fault of the backup, which comes before the others.
    ran.expect(2, Outcome::Invalid, Some(Owner::Stack))
        .expect_nothing_left();
    let (good, bad) = (CaseStatus::Passed, CaseStatus::Failed);
    for (service, status, words) in [
        ("a", good, ["2 tolerated messages", "2 tables"]),
        ("b", good, ["2 tolerated messages", "2 tables"]),
        ("c", bad, ["came 0 times", "exactly 2 times"]),
        (
            "d",
            bad,
            ["\"public.missing\" does not exist", "nobody tolerates"],
        ),
        ("e", bad, ["came 2 times", "exactly 1 times"]),
        ("f", bad, ["came 2 times", "exactly 1 times"]),
        ("g", bad, ["role \"reader\" does not exist", "pg_restore"]),
        ("h", CaseStatus::Error, ["PostgreSQL 16", "PostgreSQL 15"]),
    ] {
        let name = format!("{service}/site: restores without errors");
        expect_case(&ran, &name, status, &words);
    }
    forget_bases_of(ran.run());

    // Whose database a dump is for is the rehearsal's to say, rightly.
    for (postgres, word) in [
        (
            format!(
                "dump: {}, database: site",
                source.path("cluster.sql.gz").display()
            ),
            "whole cluster",
        ),
        (shop, "does not name it"),
    ] {
        let restore = format!("restore: [{{ service: a, postgres: {{ {postgres} }} }}]\n");
        rehearsal(&place, &restore, None);
        let ran = place.backup_check();
        ran.expect(2, Outcome::Invalid, Some(Owner::Staging));
        assert!(
            ran.reason(Stage::Restore).contains(word),
            "{}",
            ran.reason(Stage::Restore)
        );
        forget_bases_of(ran.run());
    }
}

/// A copy of a folder in which one file is changed, or left out.
fn copy_of(folder: &Path, to: &Path, change: impl Fn(&str, Vec<u8>) -> Option<Vec<u8>>) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(folder).expect("the dump") {
        let entry = entry.expect("a file");
        let name = entry.file_name().into_string().expect("a name");
        let content = std::fs::read(entry.path()).expect("a file");
        if let Some(content) = change(&name, content) {
            std::fs::write(to.join(name), content).expect("a file");
        }
    }
}

fn gz(text: &str) -> Vec<u8> {
    use std::io::Write as _;
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(text.as_bytes()).expect("memory");
    out.finish().expect("memory")
}

fn half(mut content: Vec<u8>) -> Vec<u8> {
    content.truncate(content.len() / 2);
    content
}

fn flipped(mut content: Vec<u8>, at: usize) -> Vec<u8> {
    content[at] ^= 0x10;
    content
}

#[test]
fn no_damaged_dump_passes() {
    let source = Source::get();
    let place = place("pg-damage", &["db", "x", "y", "z", "w"]);
    let expect_bad = |damage: &str, method: &str| {
        rehearsal(
            &place,
            &format!("restore: [{{ service: db, postgres: {{ {method} }} }}]\n"),
            None,
        );
        let ran = place.backup_check();
        assert_eq!(
            (ran.code, ran.verdict().outcome, ran.verdict().owner),
            (Some(1), Outcome::Failed, Some(Owner::Backup)),
            "{damage}: {:?}",
            ran.verdict()
        );
    };
    let into_shop = "dump: damaged, database: shop";
    let (custom, tar) = (source.read("shop.dump"), source.read("shop.tar"));
    let (plain_gz, cluster_gz) = (source.read("shop.sql.gz"), source.read("cluster.sql.gz"));
    let sql = source.sql("shop.sql.gz");
    let globals = source.read("globals.sql");
    let middle = plain_gz.len() / 2;
    let cut = |text: &str| text.as_bytes()[..text.len() - 60].to_vec();
    for (damage, content, method) in [
        ("custom, half", half(custom.clone()), into_shop),
        (
            "custom, one byte less",
            custom[..custom.len() - 1].to_vec(),
            into_shop,
        ),
        ("custom, empty", Vec::new(), into_shop),
        (
            "custom, its first byte",
            flipped(custom.clone(), 0),
            into_shop,
        ),
        (
            "custom, another's content",
            b"hello\n".repeat(1000),
            into_shop,
        ),
        ("tar, half", half(tar.clone()), into_shop),
        ("tar, a header's byte", flipped(tar.clone(), 3), into_shop),
        (
            "tar, its first member only",
            tar[..4096].to_vec(),
            into_shop,
        ),
        ("tar, another archive", files(&["f0"]), into_shop),
        ("tar, zeros", vec![0; 4096], into_shop),
        ("plain, half", half(plain_gz.clone()), into_shop),
        ("plain, a flipped bit", flipped(plain_gz, middle), into_shop),
        ("plain, nothing compressed", gz(""), into_shop),
        (
            "plain, without its end",
            gz(&String::from_utf8_lossy(&cut(&sql))),
            into_shop,
        ),
        (
            "plain, continued",
            gz(&format!("{sql}\nselect 1;\n")),
            into_shop,
        ),
        ("plain, globals", globals.clone(), into_shop),
        ("cluster, half", half(cluster_gz.clone()), "dump: damaged"),
        (
            "cluster, its last byte",
            cluster_gz[..cluster_gz.len() - 1].to_vec(),
            "dump: damaged",
        ),
        ("cluster, empty", Vec::new(), "dump: damaged"),
        ("cluster, globals only", globals.clone(), "dump: damaged"),
        ("globals, half", half(globals.clone()), "globals: damaged"),
        ("globals, empty", Vec::new(), "globals: damaged"),
        (
            "globals, a dump",
            sql.clone().into_bytes(),
            "globals: damaged",
        ),
    ] {
        place.write("damaged", content);
        expect_bad(damage, method);
    }
    let folder = source.path("shop.dir");
    let largest = std::fs::read_dir(&folder)
        .expect("the dump")
        .map(|entry| entry.expect("a file"))
        .filter(|entry| entry.file_name() != "toc.dat")
        .max_by_key(|entry| entry.metadata().expect("a file").len())
        .expect("a table")
        .file_name()
        .into_string()
        .expect("a name");
    type Change<'a> = &'a dyn Fn(Vec<u8>) -> Option<Vec<u8>>;
    let changes: [(&str, &str, Change<'_>); 5] = [
        ("a table's file is not there", &largest, &|_| None),
        ("a table's file, half", &largest, &|content| {
            Some(half(content))
        }),
        ("a table's file, empty", &largest, &|_| Some(Vec::new())),
        ("contents not there", "toc.dat", &|_| None),
        ("contents, half", "toc.dat", &|content| Some(half(content))),
    ];
    for (damage, file, change) in changes {
        copy_of(&folder, &place.path("folder"), |name, content| {
            if name == file {
                change(content)
            } else {
                Some(content)
            }
        });
        expect_bad(damage, "dump: folder, database: shop");
    }

    // What only the tools see, each in a service of its own.
    let at = custom.len() / 2;
    place.write("flipped.dump", flipped(custom, at));
    let digit = tar.windows(9).position(|part| part == b"1\t1\t1.50\n");
    let digit = digit.expect("an invoice");
    place.write("flipped.tar", flipped(tar, digit + 4));
    copy_of(&folder, &place.path("flipped.dir"), |name, content| {
        let middle = content.len() / 2;
        Some(if name == largest {
            flipped(content, middle)
        } else {
            content
        })
    });
    let wrong = sql.replace("CREATE TABLE public.invoice", "CREATE TABEL public.invoice");
    assert_ne!(wrong, sql);
    place.write(
        "wrong.sql",
        String::from_utf8_lossy(&globals).replace(
            "--\n-- PostgreSQL database cluster dump complete",
            &format!("{wrong}\n--\n-- PostgreSQL database cluster dump complete"),
        ),
    );
    rehearsal(
        &place,
        "restore:\n  - { service: x, postgres: { dump: flipped.dump, database: shop } }\n  \
         - { service: y, postgres: { dump: flipped.tar, database: shop } }\n  \
         - { service: w, postgres: { dump: wrong.sql } }\n",
        None,
    );
    let ran = place.backup_check();
    ran.expect(1, Outcome::Failed, Some(Owner::Backup))
        .expect_nothing_left();
    for (restore, word) in [
        ("x/shop", "uncompress"),
        ("y/shop", "invalid input syntax"),
        ("w", "syntax error"),
    ] {
        let name = format!("{restore}: restores without errors");
        expect_case(&ran, &name, CaseStatus::Failed, &[word]);
    }
    rehearsal(
        &place,
        "restore: [{ service: z, postgres: { dump: flipped.dir, database: shop } }]\n",
        None,
    );
    place
        .backup_check()
        .expect(1, Outcome::Failed, Some(Owner::Backup));
}
