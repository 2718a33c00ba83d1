//! MariaDB: its dumps and `mariadb-backup`s, made by its own tools from a million rows, restored and compared row for row;
//! and their damage, which must never pass.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use jiff::{SignedDuration, Timestamp};
use rehearsal::engine::{
    Attach, ContainerSpec, Engine, EngineError, HostPaths, Labels, Modes, Purpose, VolumeAt,
};
use rehearsal::event::{CaseStatus, Owner, Stage};
use rehearsal::plan::model::{Build, Image};
use rehearsal::staging::Names;
use rehearsal::verdict::Outcome;

use crate::common::{BASE, Place, Ran, checkout, engine, forget_bases_of};

/// Behaves like the official image.
pub(crate) const IMAGE: &str = "rehearse-test/mariadb:10.11";

const NOTHING: &str = "\
package: nothing
components:
  - name: app
    steps: [{ name: look, run: echo deployed }]
";

/// Rungs that every good backup here shows.
const ALL: &str =
    "require: [version, collation, readable, checksums, indexes, sequences, constraints, writes]";

fn chinook() -> PathBuf {
    let data = std::env::var_os("REHEARSE_DATA")
        .map_or_else(|| checkout().join("../shared/data"), PathBuf::from);
    data.join("chinook/Chinook_MySql.sql")
}

/// The backups and the checksums of their source, made once for all tests.
pub(crate) fn made() -> &'static Path {
    static MADE: OnceLock<tempfile::TempDir> = OnceLock::new();
    MADE.get_or_init(|| {
        crate::common::prepare();
        let dir = tempfile::tempdir().expect("a temporary folder");
        let made = engine(async |engine| {
            let now = Timestamp::now();
            let names = Names::new("mariadb-source", now);
            let labels = Labels::new(
                names.run(),
                "mariadb-source",
                now,
                now + SignedDuration::from_hours(1),
            );
            let made = make(&engine, &names, &labels).await;
            engine.remove_run(names.run()).await?;
            made
        });
        let tar = made.expect("the backups can be made");
        tar::Archive::new(tar.as_slice())
            .unpack(dir.path())
            .expect("a tar archive");
        dir
    })
    .path()
}

async fn make(engine: &Engine, names: &Names, labels: &Labels) -> Result<Vec<u8>, EngineError> {
    let context = checkout().join("tests/engine/images/mariadb");
    let image = Image {
        reference: IMAGE.into(),
        build: Some(Build {
            context: context.clone(),
            dockerfile: "Dockerfile".into(),
            args: BTreeMap::new(),
            target: None,
        }),
    };
    engine.ensure_image(&image, |_| {}).await?;
    let container = names.of("source");
    let mut spec = ContainerSpec::new(&container, IMAGE, Attach::Loopback);
    spec.entrypoint = Some(vec!["bash".into(), "/seed/make.sh".into()]);
    spec.command = Some(Vec::new());
    let volume = names.of("source-data");
    engine
        .create_volume(&volume, labels, Purpose::Run, Default::default())
        .await?;
    spec.volumes = vec![VolumeAt {
        volume,
        target: "/var/lib/mysql".into(),
        read_only: false,
    }];
    engine.create_container(&spec, labels).await?;
    let mut seeds = vec![(context.join("make.sh"), "/seed/make.sh")];
    if chinook().is_file() {
        seeds.push((chinook(), "/seed/chinook.sql"));
    } else {
        // Past the harness, which hides what a test that passes prints.
        let _ = writeln!(
            std::io::stderr(),
            "NOT RUN: Chinook in MariaDB, because `{}` is not there; REHEARSE_DATA may name the folder that holds chinook/",
            chinook().display()
        );
    }
    for (source, target) in seeds {
        let seed = HostPaths {
            source,
            target: target.into(),
            owner: (0, 0),
            mode: Modes::Set(0o644),
        };
        engine.upload_paths(&container, seed).await?;
    }
    engine.start_container(&container).await?;
    let code = engine.wait_container(&container).await?;
    if code != 0 {
        let said = engine.container_log(&container, Some(20)).await?;
        return Err(EngineError::new(
            "make the backups",
            format!("exit code {code}: {said}"),
        ));
    }
    engine.download(&container, "/out", 2 << 30).await
}

pub(crate) fn out(name: &str) -> PathBuf {
    made().join("out").join(name)
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(out(name)).expect("it was made")
}

pub(crate) fn sql(name: &str) -> String {
    String::from_utf8(read(name)).expect("a dump with hexadecimal blobs is text")
}

fn gz(content: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(content).expect("memory");
    out.finish().expect("memory")
}

/// A MariaDB server and a rehearsal that restores as said. The scheduler is on, so that an event would act if it could.
pub(crate) fn place(test: &str, restore: &str) -> Place {
    made();
    let place = Place::small(test, NOTHING);
    stack(&place, IMAGE, "in-staging");
    place.rehearsal(restore);
    tests(&place, &[]);
    place
}

fn stack(place: &Place, image: &str, password: &str) {
    place.write(
        "stack.yaml",
        format!(
            "services:\n  db:\n    image: {image}\n    command: [mariadbd, --event-scheduler=ON]\n    \
             environment: {{ MARIADB_ROOT_PASSWORD: {password} }}\n    volumes: [\"data:/var/lib/mysql\"]\n    \
             expose: [\"3306\"]\nvolumes: {{ data: }}\n"
        ),
    );
}

/// A test plan that compares the checksums of all tables of these databases with their source's.
fn tests(place: &Place, databases: &[&str]) {
    let mut plan = "testplan: small\ntests:\n  - { name: up, exec: { service: db, run: echo up }, expect: { stdout: up } }\n".to_owned();
    for database in databases {
        let (query, sums) = (
            sql(&format!("{database}.query")),
            sql(&format!("{database}.sums")),
        );
        plan.push_str(&format!(
            "  - name: all rows of {database}\n    exec:\n      service: db\n      run: |\n        export MYSQL_PWD=in-staging\n        \
             mariadb -N -B <<'SQL' | tr '\\t\\n' '= '\n        {}\n        SQL\n    expect: {{ stdout: {{ equals: \"{}\" }} }}\n",
            query.trim(),
            sums.trim()
        ));
    }
    place.write("testplan.yaml", plan);
}

/// How a rung of the first restore ended.
pub(crate) fn rung<'a>(ran: &'a Ran, restore: &str, says: &str) -> &'a rehearsal::event::Case {
    ran.case("restore", &format!("{restore}: {says}"))
}

#[track_caller]
pub(crate) fn passed(ran: &Ran) {
    ran.expect(0, Outcome::Passed, None).expect_nothing_left();
    forget_bases_of(ran.run());
}

#[track_caller]
pub(crate) fn failed(place: &Place, what: &str, stage: Stage, words: &[&str]) -> Ran {
    let ran = place.backup_check();
    let verdict = ran.verdict();
    assert_eq!(
        (ran.code, verdict.outcome, verdict.owner),
        (Some(1), Outcome::Failed, Some(Owner::Backup)),
        "{what}: {verdict:#?}\n{}",
        ran.stderr
    );
    let reason = ran.reason(stage);
    for word in words {
        assert!(reason.contains(word), "{what}: expected `{word}`: {reason}");
    }
    ran.expect_nothing_left();
    forget_bases_of(ran.run());
    ran
}

#[track_caller]
fn invalid(place: &Place, what: &str, owner: Owner, words: &[&str]) {
    let ran = place.backup_check();
    let verdict = ran.verdict();
    assert_eq!(
        (ran.code, verdict.outcome, verdict.owner),
        (Some(2), Outcome::Invalid, Some(owner)),
        "{what}: {verdict:#?}\n{}",
        ran.stderr
    );
    let said = format!("{verdict:?}");
    for word in words {
        assert!(said.contains(word), "{what}: expected `{word}`: {said}");
    }
    ran.expect_nothing_left();
    forget_bases_of(ran.run());
}

#[test]
fn a_dump_of_a_million_rows_is_restored_row_for_row() {
    let place = place(
        "maria-million",
        &format!(
            "restore:\n  - service: db\n    mariadb: {{ dump: shop.sql.gz, database: shop, data_as_of: select max(placed) from sale }}\n    \
             max_age: 36500d\n    {ALL}\n    expect: {{ rows: {{ sale: 1000000, shop.customer: \">= 5000\" }} }}\n"
        ),
    );
    place.write("shop.sql.gz", gz(&read("shop.sql")));
    tests(&place, &["shop"]);
    let ran = place.backup_check();
    passed(&ran);
    let rows = rung(&ran, "db/shop", "the row counts are exact");
    assert_eq!(rows.status, CaseStatus::Passed);
    let keys = rung(&ran, "db/shop", "foreign keys and invariants hold");
    assert_eq!(keys.status, CaseStatus::Passed);
}

#[test]
fn dumps_of_every_form_bring_all_that_the_source_had() {
    let chinook = chinook().is_file();
    let mut restore = format!(
        "restore:\n  - service: db\n    mariadb: {{ dump: mini.sql.zst, database: mini, data_as_of: select placed from latest }}\n    \
         max_age: 36500d\n    {ALL}\n    expect: {{ rows: {{ paper: 3000, line: 6000 }} }}\n    \
         invariants: [{{ name: no paper of the future, query: select id from paper where placed > now() }}]\n"
    );
    if chinook {
        restore.push_str("  - { service: db, mysql: { dump: chinook.sql, database: Chinook }, require: [constraints] }\n");
    }
    let place = place("maria-forms", &restore);
    place.write(
        "mini.sql.zst",
        zstd::encode_all(read("mini.sql").as_slice(), 3).expect("memory"),
    );
    if chinook {
        place.write("chinook.sql", read("chinook.sql"));
    }
    tests(
        &place,
        if chinook {
            &["mini", "Chinook"]
        } else {
            &["mini"]
        },
    );
    let plan = std::fs::read_to_string(place.path("testplan.yaml")).expect("it was written");
    let mut more = String::new();
    for (name, query, value) in [
        (
            "a trigger",
            "select count(*) from information_schema.triggers where trigger_schema = 'mini'",
            "1",
        ),
        (
            "a routine",
            "select count(*) from information_schema.routines where routine_schema = 'mini'",
            "1",
        ),
        (
            "an event",
            "select count(*) from information_schema.events where event_schema = 'mini'",
            "1",
        ),
        (
            "a view",
            "select placed from mini.latest",
            "2024-03-03 14:00:00",
        ),
        (
            "bytes",
            "select hex(left(kept, 9)) from mini.paper where id = 77",
            "00FF00275C0A0D1A22",
        ),
    ] {
        more.push_str(&format!(
            "  - {{ name: {name}, exec: {{ service: db, run: \"MYSQL_PWD=in-staging mariadb -N -B -e \\\"{query}\\\"\" }}, expect: {{ stdout: {{ equals: \"{value}\" }} }} }}\n"
        ));
    }
    // The server of the test plan runs as the stack says, and there the event acts: what it deletes cannot be compared.
    place.write("testplan.yaml", format!("{plan}{more}"));
    stack_without_events(&place);
    let ran = place.backup_check();
    passed(&ran);

    // A whole server, with its accounts; the same password as the stack's.
    place.rehearsal(&format!(
        "restore:\n  - service: db\n    mariadb: {{ dump: all.sql }}\n    {ALL}\n"
    ));
    place.write("all.sql", read("all.sql"));
    let ran = place.backup_check();
    passed(&ran);
    // A dump that makes its database itself.
    place
        .rehearsal("restore:\n  - { service: db, mariadb: { dump: named.sql, database: mini } }\n");
    place.write("named.sql", read("named.sql"));
    tests(&place, &["mini"]);
    let ran = place.backup_check();
    passed(&ran);
}

pub(crate) fn stack_without_events(place: &Place) {
    let stack = std::fs::read_to_string(place.path("stack.yaml")).expect("it was written");
    place.write(
        "stack.yaml",
        stack.replace("[mariadbd, --event-scheduler=ON]", "[mariadbd]"),
    );
}

#[test]
fn backups_of_the_data_folder_are_prepared_and_restored_row_for_row() {
    let restore = format!(
        "restore:\n  - service: db\n    mariadb: {{ backup: BACKUP, database: shop, data_as_of: select max(placed) from sale }}\n    \
         max_age: 36500d\n    {ALL}\n    expect: {{ rows: {{ shop.sale: 1000000, mini.line: 6000 }} }}\n"
    );
    let place = place(
        "maria-folder",
        &restore.replace("BACKUP", &out("full").display().to_string()),
    );
    stack_without_events(&place);
    tests(&place, &["mini", "shop"]);
    let ran = place.backup_check();
    passed(&ran);
    let pages = rung(&ran, "db", "the page checksums hold");
    assert_eq!(pages.status, CaseStatus::Passed);

    place.rehearsal(&format!(
        "restore:\n  - service: db\n    mariadb: {{ backup: small.xb.gz }}\n    {ALL}\n"
    ));
    place.write("small.xb.gz", gz(&read("small.xb")));
    tests(&place, &["mini"]);
    let ran = place.backup_check();
    passed(&ran);
}

#[test]
fn a_damaged_dump_never_passes() {
    let whole = sql("mini.sql");
    let place = place(
        "maria-dump-damage",
        "restore:\n  - service: db\n    mariadb: { dump: mini.sql, database: mini }\n    expect: { rows: { paper: 3000 } }\n",
    );
    stack_without_events(&place);
    let trailer = whole.rfind("\n-- Dump completed").expect("a trailer");
    let (body, end) = whole.split_at(trailer);
    let row = "INSERT INTO `line` VALUES";
    assert!(whole.contains(row), "rows are inserted as expected");
    let before_rows = whole.find(row).expect("it is there");
    let setval = whole
        .lines()
        .find(|line| line.to_uppercase().contains("SETVAL(`TICKET`"))
        .expect("a sequence")
        .to_owned();
    for (what, content, stage, words) in [
        (
            "truncated",
            whole[..whole.len() / 2].to_owned(),
            Stage::Preflight,
            vec!["truncated"],
        ),
        ("empty", String::new(), Stage::Preflight, vec!["0 bytes"]),
        (
            "without its trailer",
            body.to_owned(),
            Stage::Preflight,
            vec!["Dump completed"],
        ),
        (
            "something else after its end",
            format!("{whole}INSERT INTO paper VALUES\n"),
            Stage::Preflight,
            vec![],
        ),
        (
            "another file",
            "hello\n".to_owned(),
            Stage::Preflight,
            vec![],
        ),
        (
            "a keyword with a flipped byte",
            whole.replacen(row, "INSERU INTO `line` VALUES", 1),
            Stage::Restore,
            vec!["1064"],
        ),
        (
            "a string that nobody closes",
            format!("{body}\nSELECT 'this is never closed;\n{end}"),
            Stage::Restore,
            vec!["never closed"],
        ),
        (
            "a row lost",
            format!("{body}\nDELETE FROM line; DELETE FROM paper WHERE id = 7;\n{end}"),
            Stage::Restore,
            vec!["2999"],
        ),
        (
            "an orphan",
            format!(
                "{body}\nSET FOREIGN_KEY_CHECKS=0; INSERT INTO line (paper, said) VALUES (99999, 'orphan');\n{end}"
            ),
            Stage::Restore,
            vec!["line_paper", "1 rows"],
        ),
        (
            "a sequence that goes back",
            whole.replace(&setval, "SELECT SETVAL(`ticket`, 1000, 0);"),
            Stage::Restore,
            vec!["sequence", "mini.ticket"],
        ),
        (
            "no table",
            format!(
                "{}{end}",
                &whole[..whole.find("DROP TABLE").unwrap_or(before_rows)]
            ),
            Stage::Restore,
            vec!["brought no table"],
        ),
    ] {
        place.write("mini.sql", content);
        failed(&place, what, stage, &words);
    }
}

#[test]
fn a_damaged_backup_of_the_data_folder_never_passes() {
    let stream = read("small.xb");
    let restore = |backup: &str| {
        format!(
            "restore:\n  - service: db\n    mariadb: {{ backup: {backup} }}\n    expect: {{ rows: {{ mini.paper: 3000 }} }}\n"
        )
    };
    let place = place("maria-backup-damage", &restore("backup.xb"));
    stack_without_events(&place);
    let mut flipped = stream.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x10;
    let mut longer = stream.clone();
    longer.extend_from_slice(b"something else\n");
    for (what, content) in [
        ("truncated", stream[..stream.len() / 2].to_vec()),
        (
            "short of its last byte",
            stream[..stream.len() - 1].to_vec(),
        ),
        ("empty", Vec::new()),
        ("a flipped byte", flipped),
        ("garbage at its end", longer),
    ] {
        place.write("backup.xb", content);
        failed(&place, what, Stage::Preflight, &[]);
    }

    place.rehearsal(&restore("full"));
    let copy = place.path("full");
    for (what, damage) in [
        (
            "no checkpoints",
            (|full| {
                for name in ["mariadb_backup_checkpoints", "xtrabackup_checkpoints"] {
                    let _ = std::fs::remove_file(full.join(name));
                }
            }) as fn(&Path),
        ),
        ("ibdata1 cut", |full| cut(&full.join("ibdata1"), 1 << 20)),
        ("a table's file missing", |full| {
            std::fs::remove_file(full.join("mini/paper.ibd")).expect("it is there")
        }),
        ("a table's file cut", |full| {
            cut(&full.join("mini/paper.ibd"), 5 * 16384)
        }),
        ("a page with a flipped byte", |full| {
            let path = full.join("mini/paper.ibd");
            let mut bytes = std::fs::read(&path).expect("it is there");
            let at = 7 * 16384 + 5000;
            bytes[at] ^= 0x04;
            std::fs::write(&path, bytes).expect("a copy");
        }),
    ] {
        copy_folder(&out("full"), &copy);
        damage(&copy);
        let ran = place.backup_check();
        let verdict = ran.verdict();
        assert_eq!(
            (ran.code, verdict.owner),
            (Some(1), Some(Owner::Backup)),
            "{what}: {verdict:#?}\n{}",
            ran.stderr
        );
        ran.expect_nothing_left();
        forget_bases_of(ran.run());
    }
}

fn cut(path: &Path, size: u64) {
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(path)
        .expect("it is there");
    file.set_len(size).expect("it can be cut");
}

/// A copy of the backup without the million rows of the other database, which nothing here is about.
fn copy_folder(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).expect("a copy");
        }
    }
}

#[test]
fn what_is_no_fault_of_the_backup_is_not_called_one() {
    let whole = sql("mini.sql");
    let place = place(
        "maria-others",
        "restore: [{ service: db, mariadb: { dump: mini.sql, database: mini } }]\n",
    );
    stack_without_events(&place);
    let version = whole
        .lines()
        .find(|line| line.starts_with("-- Server version"))
        .expect("it says so");
    place.write(
        "mini.sql",
        whole.replace(version, "-- Server version\t11.8.2-MariaDB"),
    );
    invalid(
        &place,
        "a newer server's dump",
        Owner::Stack,
        &["MariaDB 11.8", "10.11"],
    );
    place.write(
        "mini.sql",
        whole.replacen(
            "COLLATE=utf8mb4_general_ci",
            "COLLATE=utf8mb4_unheard_of_ci",
            1,
        ),
    );
    invalid(
        &place,
        "a collation of another server",
        Owner::Stack,
        &["utf8mb4_unheard_of_ci"],
    );
    place.write("mini.sql", &whole);
    place.rehearsal(
        "restore: [{ service: db, mariadb: { dump: mini.sql, database: mini, user: nobody } }]\n",
    );
    invalid(
        &place,
        "an account that is not there",
        Owner::Staging,
        &["nobody"],
    );
    place.rehearsal("restore: [{ service: db, mariadb: { dump: mini.sql, database: mini }, invariants: [{ name: wrong, query: select nothing from nowhere }] }]\n");
    invalid(
        &place,
        "an invariant that cannot be asked",
        Owner::Staging,
        &["nowhere"],
    );

    // After a physical restore the accounts are the backup's.
    place.rehearsal("restore: [{ service: db, mariadb: { backup: small.xb } }]\n");
    place.write("small.xb", read("small.xb"));
    stack(&place, IMAGE, "another");
    invalid(
        &place,
        "the wrong password",
        Owner::Staging,
        &["1045", "password"],
    );
    stack(&place, BASE, "in-staging");
    invalid(
        &place,
        "an image without the tools",
        Owner::Stack,
        &["mariadbd"],
    );
}

#[test]
fn known_messages_are_tolerated_exactly_so_often() {
    let whole = sql("mini.sql");
    let trailer = whole.rfind("\n-- Dump completed").expect("a trailer");
    let (body, end) = whole.split_at(trailer);
    let twice = format!("{body}\nCREATE TABLE old (id int);\nCREATE TABLE old (id int);\n{end}");
    let restore = |count: u32| {
        format!(
            "restore:\n  - service: db\n    mariadb: {{ dump: mini.sql, database: mini }}\n    tolerate: [{{ message: \"Table 'old' already exists\", count: {count} }}]\n"
        )
    };
    let place = place("maria-tolerate", &restore(2));
    stack_without_events(&place);
    place.write("mini.sql", &twice);
    let ran = place.backup_check();
    passed(&ran);
    place.rehearsal(&restore(1));
    failed(&place, "one more than known", Stage::Restore, &["2 times"]);
    place.rehearsal("restore: [{ service: db, mariadb: { dump: mini.sql, database: mini } }]\n");
    failed(&place, "not tolerated", Stage::Restore, &["1050"]);
}

#[test]
fn limits_that_a_backup_brings_along_keep_nobody_from_judging_it() {
    let whole = sql("mini.sql");
    let trailer = whole.rfind("\n-- Dump completed").expect("a trailer");
    let (body, end) = whole.split_at(trailer);
    let place = place(
        "maria-limits",
        &format!(
            "restore:\n  - service: db\n    mariadb: {{ dump: mini.sql, database: mini }}\n    {ALL}\n    \
             expect: {{ rows: {{ paper: 3000 }} }}\n    invariants: [{{ name: of its mode, query: 'select \"id\" from \"paper\" where \"id\" = 0' }}]\n"
        ),
    );
    let stack = std::fs::read_to_string(place.path("stack.yaml")).expect("it was written");
    place.write(
        "stack.yaml",
        stack.replace(
            "--event-scheduler=ON]",
            "\"--sql-mode=ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT\"]",
        ),
    );
    place.write(
        "mini.sql",
        format!(
            "{body}\nGRANT USAGE ON *.* TO root@localhost WITH MAX_STATEMENT_TIME 0.0001;\n\
             GRANT USAGE ON *.* TO root@'%' WITH MAX_STATEMENT_TIME 0.0001;\n{end}"
        ),
    );
    let ran = place.backup_check();
    passed(&ran);
}

#[test]
fn a_client_that_loses_its_server_is_no_bad_dump_and_a_dump_of_nothing_is() {
    let whole = sql("mini.sql");
    let trailer = whole.rfind("\n-- Dump completed").expect("a trailer");
    let (body, end) = whole.split_at(trailer);
    let place = place(
        "maria-lost",
        "restore:\n  - service: db\n    mariadb: { dump: lost.sql, database: mini }\n    \
         tolerate: [{ message: \"Table 'old' already exists\", count: 1 }]\n",
    );
    stack_without_events(&place);
    place.write(
        "lost.sql",
        format!("{body}\nCREATE TABLE old (id int);\nSHUTDOWN;\nSELECT SLEEP(60);\nCREATE TABLE late (id int);\n{end}"),
    );
    invalid(&place, "its server went down", Owner::Staging, &["db/mini"]);

    // The second one brings nothing, and there are tables all the same.
    place.write("mini.sql", &whole);
    let named = sql("named.sql");
    let uses = "USE `mini`;\n";
    let header = named.find(uses).expect("it chooses its database") + uses.len();
    place.write("nothing.sql", format!("{}{end}", &named[..header]));
    place.rehearsal(
        "restore:\n  - { service: db, mariadb: { dump: mini.sql, database: mini } }\n  - { service: db, mariadb: { dump: nothing.sql } }\n",
    );
    let ran = failed(&place, "nothing", Stage::Restore, &["brought no table"]);
    let case = rung(&ran, "db", "restores without errors");
    assert_eq!(case.status, CaseStatus::Failed);
}

#[test]
fn a_backup_that_was_prepared_already_is_restored_and_an_incremental_one_is_refused() {
    let restore = |folder: &str| {
        format!(
            "restore:\n  - service: db\n    mariadb: {{ backup: {folder} }}\n    {ALL}\n    expect: {{ rows: {{ mini.paper: 3000 }} }}\n"
        )
    };
    let place = place(
        "maria-prepared",
        &restore(&out("prepared").display().to_string()),
    );
    stack_without_events(&place);
    tests(&place, &["mini"]);
    let ran = place.backup_check();
    passed(&ran);

    copy_folder(&out("prepared"), &place.path("more"));
    let name = ["mariadb_backup_checkpoints", "xtrabackup_checkpoints"]
        .into_iter()
        .find(|name| out("prepared").join(name).is_file())
        .expect("checkpoints");
    let text = std::fs::read_to_string(out("prepared").join(name)).expect("text");
    assert!(
        text.contains("full-prepared") || text.contains("log-applied"),
        "{text}"
    );
    place.write(
        &format!("more/{name}"),
        text.replace("full-prepared", "incremental")
            .replace("log-applied", "incremental"),
    );
    place.rehearsal(&restore("more"));
    let ran = place.backup_check();
    assert_ne!(ran.code, Some(0), "an incremental backup is no whole one");
    let reason = ran.reason(Stage::Preflight);
    assert!(reason.contains("incremental"), "{reason}");
}

#[test]
fn files_that_the_database_names_are_looked_for() {
    let restore = |suffix: &str| {
        format!(
            "restore:\n  - service: db\n    mariadb: {{ dump: mini.sql, database: mini }}\n    require: [files]\n    files: {{ query: \"select \
             concat('p', id, '{suffix}') from old where id <= 2\", volume: papers, below: kept }}\n  - {{ volume: papers, archive: papers.tar }}\n"
        )
    };
    let place = place("maria-files", &restore(".pdf"));
    stack_without_events(&place);
    let stack = std::fs::read_to_string(place.path("stack.yaml")).expect("it was written");
    place.write(
        "stack.yaml",
        stack.replace("volumes: { data: }", "volumes: { data: , papers: }"),
    );
    place.write("mini.sql", read("mini.sql"));
    let mut tar = tar::Builder::new(Vec::new());
    for name in ["kept/p1.pdf", "kept/p2.pdf"] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(0);
        tar.append_data(&mut header, name, std::io::empty())
            .expect("memory");
    }
    place.write("papers.tar", tar.into_inner().expect("memory"));
    let ran = place.backup_check();
    passed(&ran);
    place.rehearsal(&restore(".doc"));
    failed(
        &place,
        "files that are not there",
        Stage::Restore,
        &["2 of 2 files", "p1.doc"],
    );
}
