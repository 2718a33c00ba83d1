//! PostgreSQL's physical backups, made by `pg_basebackup` and pgBackRest: restored, compared row for row with their
//! source, and damaged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rehearsal::engine::{Attach, ContainerSpec, Engine, ExecSpec, Labels};
use rehearsal::event::{CaseStatus, Owner, Stage};
use rehearsal::plan::model::{Build, Image};
use rehearsal::verdict::Outcome;
use tempfile::TempDir;

use crate::backup::DATABASE;
use crate::common::{Place, Ran, engine, forget_bases_of};

/// The sample's database image with pgBackRest: what production would run.
const SOURCE: &str = "rehearse-test/db-pgbackrest:15";
const DOCKERFILE: &str = "FROM rehearse-site/db:15
RUN apt-get update \\
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends pgbackrest \\
    && rm -rf /var/lib/apt/lists/*
";

/// The beginning of what makes a source: 1 000 000 rows, and functions for the rest.
const LOAD: &str = r#"
set -eu
ask() { psql -X -q -A -t -v ON_ERROR_STOP=1 -U ledger -d site "$@"; }
say() { ask -c "select count(*) || ' ' || sum(hashtextextended(e::text, 7)) from entry e" >"/out/values/$1"; }
until pg_isready -q -h 127.0.0.1 -U ledger -d site; do sleep 0.1; done
mkdir /out/values
ask -c "alter system set archive_command = 'true'" -c "select pg_reload_conf()" >/dev/null
ask -c "create table entry (id bigint, placed timestamptz, note text)" \
    -c "insert into entry select g, now(), md5(g::text) from generate_series(1, 1000000) g" \
    -c "alter table entry add primary key (id)" -c "checkpoint"
more() { ask -c "insert into entry select g, clock_timestamp(), md5(g::text) from generate_series($1, $1 + 999) g"; }
"#;

/// A plain folder, with WAL that was written while it was made; then tars with a tablespace.
const BASE_BACKUPS: &str = r#"
pg_basebackup -U ledger -D /out/plain -Fp -X stream --checkpoint=fast --max-rate=32M &
backup=$!
until [ "$(ask -c "select count(*) from pg_stat_progress_basebackup where phase = 'streaming database files'")" = 1 ]; do
    sleep 0.02
done
for batch in 1 2 3 4 5; do more "$((1000000 + batch * 1000))"; done
kill -0 $backup
say plain
wait $backup
ask -c "select pg_relation_filepath('entry')" >/out/values/path
ask -c "create tablespace far location '/ts'" -c "create table distant tablespace far as select 1 as x from generate_series(1, 500)"
pg_basebackup -U ledger -D /out/tars -Ft -Z 1 -X stream --checkpoint=fast
say tars
"#;

/// One of a primary, one of its standby, and one whose collation was of another library.
const OTHER_BASE_BACKUPS: &str = r#"
ask -c "create table sorted (word text collate \"de-x-icu\" primary key)" -c "insert into sorted select md5(g::text) from generate_series(1, 1000) g"
pg_basebackup -U ledger -D /out/plain -Fp -X stream --checkpoint=fast
ask -c "select pg_relation_filepath('entry')" >/out/values/path
pg_basebackup -U ledger -D /tmp/standby -Fp -X stream --checkpoint=fast -R
pg_ctl start -D /tmp/standby -s -w -l /tmp/standby.log -o "-c port=5433 -c listen_addresses= -c unix_socket_directories=/tmp"
more 1000001
at=$(ask -c "select pg_current_wal_flush_lsn()")
until [ "$(psql -X -A -t -h /tmp -p 5433 -U ledger -d site -c "select pg_last_wal_replay_lsn() >= '$at'")" = t ]; do sleep 0.05; done
psql -X -q -h /tmp -p 5433 -U ledger -d site -c checkpoint
pg_basebackup -h /tmp -p 5433 -U ledger -D /out/of-standby -Fp -X stream --checkpoint=fast
say of-standby
pg_ctl stop -D /tmp/standby -s -m fast
ask -c "update pg_collation set collversion = '1.0' where collname = 'de-x-icu'"
pg_basebackup -U ledger -D /out/sorted -Fp -X stream --checkpoint=fast
"#;

/// A repository and an encrypted one; rows before and after a point in time, and segments after it.
const REPOSITORIES: &str = r#"
ask -c "create tablespace far location '/ts'" -c "create table distant tablespace far as select 1 as x from generate_series(1, 500)"
for repo in plain secret; do /out/pgbackrest-to "$repo" stanza-create; done
ask -c "alter system set archive_command = '/out/pgbackrest-to plain archive-push %p && /out/pgbackrest-to secret archive-push %p'" -c "select pg_reload_conf()" >/dev/null
/out/pgbackrest-to plain --start-fast backup
/out/pgbackrest-to secret --start-fast backup &
more 2000001
wait $!
more 2001001
ask -c "select clock_timestamp()" >/out/values/time
say rows-at-time
for batch in 3 4 5; do more "$((2000001 + batch * 1000))"; ask -c "select pg_switch_wal()" >/dev/null; done
say latest
"#;
const PUSH: &str = r#"#!/bin/sh
repo=$1
shift
export PGBACKREST_STANZA=main PGBACKREST_PG1_PATH=/var/lib/postgresql/data PGBACKREST_PG1_USER=ledger PGBACKREST_PG1_DATABASE=site
export PGBACKREST_REPO1_PATH=/out/$repo PGBACKREST_REPO1_RETENTION_FULL=2 PGBACKREST_LOG_LEVEL_FILE=off PGBACKREST_LOCK_PATH=/tmp/$repo
export PGBACKREST_COMPRESS_LEVEL=1
if [ "$repo" = secret ]; then export PGBACKREST_REPO1_CIPHER_TYPE=aes-256-cbc PGBACKREST_REPO1_CIPHER_PASS=right; fi
exec pgbackrest --no-config "$@"
"#;

/// What a source left: its backups, and what it said of its rows at the time.
struct Source {
    dir: TempDir,
}

impl Source {
    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join("out").join(below)
    }

    fn value(&self, name: &str) -> String {
        let text =
            std::fs::read_to_string(self.path("values").join(name)).expect("the source said it");
        text.trim().to_owned()
    }
}

/// Runs a server, loads it, and takes its backups out of its container.
fn source(name: &str, script: &str, settings: &[&str]) -> Source {
    crate::common::prepare();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let container = format!("rehearse-test-{name}-{}", std::process::id());
    let tar = dir.path().join("out.tar");
    engine(async |engine| {
        let made = make(&engine, &container, script, settings, &tar).await;
        let removed = engine.remove_container(&container).await;
        made.expect("the source can be made");
        removed.expect("its container can be removed");
    });
    let file = std::fs::File::open(&tar).expect("the tar");
    tar::Archive::new(std::io::BufReader::new(file))
        .unpack(dir.path())
        .expect("the tar is whole");
    std::fs::remove_file(tar).expect("the tar");
    Source { dir }
}

async fn make(
    engine: &Engine,
    container: &str,
    script: &str,
    settings: &[&str],
    tar: &Path,
) -> Result<(), Box<dyn std::error::Error>> {
    let context = tempfile::tempdir()?;
    std::fs::write(context.path().join("Dockerfile"), DOCKERFILE)?;
    let build = Build {
        context: context.path().to_owned(),
        dockerfile: "Dockerfile".to_owned(),
        args: BTreeMap::new(),
        target: None,
    };
    let image = Image {
        reference: SOURCE.to_owned(),
        build: Some(build),
    };
    engine.ensure_image(&image, |_| {}).await?;
    let now = jiff::Timestamp::now();
    let labels = Labels::new(
        container,
        "test",
        now,
        now + jiff::SignedDuration::from_hours(1),
    );
    let mut spec = ContainerSpec::new(container, SOURCE, Attach::Loopback);
    spec.environment = [
        ("POSTGRES_USER", "ledger"),
        ("POSTGRES_PASSWORD", "in-staging"),
        ("POSTGRES_DB", "site"),
        ("POSTGRES_INITDB_ARGS", "--data-checksums"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    let mut command = vec!["postgres".to_owned()];
    for setting in settings {
        command.extend(["-c".to_owned(), (*setting).to_owned()]);
    }
    spec.command = Some(command);
    engine.create_container(&spec, &labels).await?;
    engine.start_container(container).await?;
    let prepare = format!(
        "install -d -o postgres /out /ts && printf '%s' '{}' >/out/pgbackrest-to && chmod 755 /out/pgbackrest-to",
        PUSH.replace('\'', r"'\''")
    );
    let whole = format!("{LOAD}{script}");
    for (script, user) in [(prepare.as_str(), "root"), (whole.as_str(), "postgres")] {
        let spec = ExecSpec {
            command: vec!["/bin/sh".into(), "-ec".into(), script.to_owned()],
            user: Some(user.to_owned()),
            ..ExecSpec::default()
        };
        let outcome = engine.exec(container, &spec, |_| {}).await?;
        if outcome.exit_code != 0 {
            return Err(format!("{}: {}", outcome.exit_code, outcome.last_words()).into());
        }
    }
    // A clean stop archives what is left.
    engine
        .stop_container(container, Duration::from_secs(60))
        .await?;
    let mut file = tokio::fs::File::create(tar).await?;
    engine.download_to(container, "/out", &mut file).await?;
    Ok(())
}

/// A copy whose files are links to the original's, with one of them to be changed.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("the backup is there") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        let kind = entry.file_type().expect("its kind");
        if kind.is_dir() {
            copy(&entry.path(), &target);
        } else if kind.is_symlink() {
            let link = std::fs::read_link(entry.path()).expect("a link");
            std::os::unix::fs::symlink(link, target).expect("a link");
        } else {
            std::fs::hard_link(entry.path(), target).expect("the same file system");
        }
    }
}

/// What is done to one file of a copy.
enum Damage {
    Gone,
    Empty,
    Half,
    Flipped,
    FlippedAt(usize),
    Text(&'static str),
}

fn damage(path: &Path, how: &Damage) {
    let content = std::fs::read(path).expect("the file is there");
    // The original has the same inode.
    std::fs::remove_file(path).expect("it can be removed");
    let changed = match how {
        Damage::Gone => return,
        Damage::Empty => Vec::new(),
        Damage::Half => content[..content.len() / 2].to_vec(),
        Damage::Flipped | Damage::FlippedAt(_) => {
            let at = match how {
                Damage::FlippedAt(at) => *at,
                _ => content.len() / 2,
            };
            let mut content = content;
            content[at] ^= 0xff;
            content
        }
        Damage::Text(text) => text.as_bytes().to_vec(),
    };
    std::fs::write(path, changed).expect("it can be written");
}

/// A place that restores `what` into the database's service, and compares the rows with `expected`.
fn place(test: &str, what: &str, query: &[(&str, &str)]) -> Place {
    let place = Place::small(
        test,
        "package: nothing\ncomponents:\n  - name: app\n    steps: [{ name: look, run: echo deployed }]\n",
    );
    place.write(
        "stack.yaml",
        format!("services:\n{DATABASE}volumes: {{ data: }}\n"),
    );
    write(&place, what, query);
    place
}

fn write(place: &Place, what: &str, tests: &[(&str, &str)]) {
    place.rehearsal(&format!(
        "restore:\n  - service: db\n    postgres: {{ {what} }}\n    max_age: 1h\n"
    ));
    let none = [("select 1", "1")];
    let tests: String = if tests.is_empty() { &none } else { tests }
        .iter()
        .enumerate()
        .map(|(index, (query, value))| {
            format!(
                "  - name: test {index}\n    sql: {{ service: db, database: site, query: \"{query}\" }}\n    expect: {{ value: \"{value}\" }}\n"
            )
        })
        .collect();
    place.write("testplan.yaml", format!("testplan: small\ntests:\n{tests}"));
}

const ROWS: &str = "select count(*) || ' ' || sum(hashtextextended(e::text, 7)) from entry e";
const DISTANT: &str = "select count(*)::text from distant";

#[track_caller]
fn expect_good(place: &Place, words: &[&str]) {
    let ran = place.backup_check();
    ran.expect(0, Outcome::Passed, None).expect_nothing_left();
    let case = ran.case("restore", "db: restores without errors");
    let figure = format!("{:?}", case.message);
    for word in words {
        let log = std::fs::read_to_string(ran.dir().join("logs/restore-db.log"));
        assert!(figure.contains(word), "{word}: {figure}\n{log:?}");
    }
    forget_bases_of(ran.run());
}

#[track_caller]
fn expect_bad(place: &Place, word: &str) -> Ran {
    let ran = place.backup_check();
    ran.expect(1, Outcome::Failed, Some(Owner::Backup))
        .expect_nothing_left();
    let stage = ran.verdict().stage.expect("a stage went wrong");
    let reason = ran.reason(stage);
    assert!(reason.contains(word), "{word}: {reason}");
    assert!(ran.bases().is_empty(), "half a restore is no base");
    ran
}

#[track_caller]
fn expect_invalid(place: &Place, owner: Owner, word: &str) {
    let ran = place.backup_check();
    ran.expect(2, Outcome::Invalid, Some(owner))
        .expect_nothing_left();
    let reason = ran.reason(Stage::Restore);
    assert!(reason.contains(word), "{word}: {reason}");
}

#[test]
fn base_backups_are_restored_row_for_row_and_damaged_ones_are_not() {
    let source = source("base", BASE_BACKUPS, &[]);
    let (plain, tars) = (source.path("plain"), source.path("tars"));
    let rows = source.value("plain");
    let what = |path: &Path| {
        format!(
            "base_backup: \"{}\", data_as_of: select max(placed) from entry",
            path.display()
        )
    };
    let place = place("base", &what(&plain), &[(ROWS, &rows)]);
    expect_good(
        &place,
        &["pg_verifybackup", "recovered to", "page checksums on"],
    );
    write(
        &place,
        &what(&tars),
        &[(ROWS, &source.value("tars")), (DISTANT, "500")],
    );
    expect_good(&place, &["pg_verifybackup", "tablespaces"]);

    // Seen before an engine is asked, or by pg_verifybackup, or by the server.
    let heap = source.value("path");
    let wal = first_below(&plain.join("pg_wal"));
    for (file, how, word) in [
        (heap.as_str(), Damage::Flipped, "checksum"),
        (heap.as_str(), Damage::Gone, heap.as_str()),
        (heap.as_str(), Damage::Half, heap.as_str()),
        ("backup_label", Damage::Gone, "backup_label"),
        ("global/pg_control", Damage::Empty, "pg_control"),
        (wal.as_str(), Damage::Gone, "WAL"),
    ] {
        let copied = place.path("copy");
        copy(&plain, &copied);
        damage(&copied.join(file), &how);
        write(&place, &what(&copied), &[]);
        expect_bad(&place, word);
        std::fs::remove_dir_all(copied).expect("the copy");
    }
    let copied = place.path("copy");
    copy(&tars, &copied);
    damage(&copied.join("base.tar.gz"), &Damage::Half);
    write(&place, &what(&copied), &[]);
    expect_bad(&place, "base.tar.gz");
    std::fs::remove_dir_all(&copied).expect("the copy");

    // Without a manifest it is the server that has to see it: a page when it is read, and WAL when it is replayed.
    copy(&plain, &copied);
    std::fs::remove_file(copied.join("backup_manifest")).expect("the manifest");
    damage(&copied.join(&heap), &Damage::Flipped);
    write(&place, &what(&copied), &[(ROWS, &rows)]);
    let ran = place.backup_check();
    assert_ne!(
        ran.code,
        Some(0),
        "a page whose checksum does not hold passed"
    );
    forget_bases_of(ran.run());
    // After the segment's first records, and before the end of the backup.
    damage(&copied.join(&wal), &Damage::FlippedAt(100_000));
    expect_bad(&place, "does not recover");
    std::fs::remove_dir_all(&copied).expect("the copy");

    // Another version is the stack's fault, and so is a library that the image lacks.
    copy(&plain, &copied);
    std::fs::remove_file(copied.join("backup_manifest")).expect("the manifest");
    damage(&copied.join("PG_VERSION"), &Damage::Text("14\n"));
    write(&place, &what(&copied), &[]);
    expect_invalid(&place, Owner::Stack, "PostgreSQL 14");
    damage(&copied.join("PG_VERSION"), &Damage::Text("15\n"));
    damage(
        &copied.join("postgresql.auto.conf"),
        &Damage::Text("shared_preload_libraries = 'pg_of_production'\n"),
    );
    expect_invalid(&place, Owner::Stack, "pg_of_production");
    // A role that is not in the backup is nobody's fault but the rehearsal's.
    damage(&copied.join("postgresql.auto.conf"), &Damage::Text(""));
    write(
        &place,
        &format!("base_backup: \"{}\", user: nobody", copied.display()),
        &[],
    );
    expect_invalid(&place, Owner::Staging, "nobody");
}

#[test]
fn rungs_of_a_base_backup_are_judged_by_their_names() {
    let source = source("base-rungs", OTHER_BASE_BACKUPS, &[]);
    let (plain, heap) = (source.path("plain"), source.value("path"));
    // Whole, of a standby: it has no label of a primary, and has to be promoted.
    let of_standby = format!(
        "base_backup: \"{}\", data_as_of: select max(placed) from entry",
        source.path("of-standby").display()
    );
    let place = place(
        "base-rungs",
        &of_standby,
        &[(ROWS, &source.value("of-standby"))],
    );
    expect_good(&place, &["pg_verifybackup", "page checksums on"]);

    let copied = place.path("copy");
    let what = format!("base_backup: \"{}\"", copied.display());
    let case = |ran: &Ran, rung: &str, status: CaseStatus, words: &[&str]| {
        let case = ran.case("restore", &format!("db: {rung}"));
        assert_eq!(case.status, status, "{case:?}");
        let said = case.message.as_deref().unwrap_or_default();
        for word in words {
            assert!(said.contains(word), "{word}: {case:?}");
        }
    };
    // Without its manifest nobody sees a changed byte but who reads the page.
    copy(&plain, &copied);
    std::fs::remove_file(copied.join("backup_manifest")).expect("the manifest");
    damage(&copied.join(&heap), &Damage::Flipped);
    write(&place, &what, &[]);
    let ran = place.backup_check();
    ran.expect(1, Outcome::Failed, Some(Owner::Backup))
        .expect_nothing_left();
    case(&ran, "restores without errors", CaseStatus::Passed, &[]);
    case(
        &ran,
        "the page checksums hold",
        CaseStatus::Failed,
        &["1 bad checksum", &heap],
    );
    case(
        &ran,
        "every table can be read",
        CaseStatus::Failed,
        &["invalid page"],
    );
    forget_bases_of(ran.run());
    std::fs::remove_dir_all(&copied).expect("the copy");

    // Its only segments are those that it was written in.
    copy(&plain, &copied);
    std::fs::remove_file(copied.join("backup_manifest")).expect("the manifest");
    damage(
        &copied.join(first_below(&plain.join("pg_wal"))),
        &Damage::Gone,
    );
    write(&place, &what, &[]);
    expect_bad(&place, "WAL");
    std::fs::remove_dir_all(&copied).expect("the copy");

    let sorted = format!("base_backup: \"{}\"", source.path("sorted").display());
    write(&place, &sorted, &[]);
    let ran = place.backup_check();
    assert_eq!(
        (ran.code, ran.verdict().outcome),
        (Some(2), Outcome::Invalid)
    );
    case(
        &ran,
        "the collation versions are the same",
        CaseStatus::Error,
        &["icu de-x-icu", "was 1.0"],
    );
    case(
        &ran,
        "the page checksums hold",
        CaseStatus::Passed,
        &["no bad checksum"],
    );
    forget_bases_of(ran.run());
}

/// The path of a folder's first file, relative to the folder above it.
fn first_below(folder: &Path) -> String {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("an entry"))
        .filter(|entry| entry.file_type().expect("its kind").is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let above = folder.file_name().expect("a name").to_string_lossy();
    format!("{above}/{}", names.first().expect("a file"))
}

#[test]
fn repositories_of_pgbackrest_are_restored_row_for_row_and_damaged_ones_are_not() {
    let settings = ["archive_mode=on"];
    let source = source("pgbackrest", REPOSITORIES, &settings);
    let (plain, secret) = (source.path("plain"), source.path("secret"));
    let time = source.value("time");
    let what = |path: &Path, more: &str| {
        format!(
            "pgbackrest: {{ repository: \"{}\", stanza: main{more} }}, database: site",
            path.display()
        )
    };
    let at = |time: &str| format!(", time: \"{time}\"");
    let place = place(
        "pgbackrest",
        &what(&plain, &at(&time)),
        &[(ROWS, &source.value("rows-at-time")), (DISTANT, "500")],
    );
    expect_good(&place, &["recovered to", "WAL segments"]);

    place.write("passphrase", "right\n");
    let passphrase = ", passphrase: { file: passphrase }";
    write(
        &place,
        &what(&secret, passphrase),
        &[(ROWS, &source.value("latest")), (DISTANT, "500")],
    );
    expect_good(&place, &["recovered to"]);
    place.write("passphrase", "wrong\n");
    expect_invalid(&place, Owner::Staging, "passphrase");
    write(&place, &what(&secret, ""), &[]);
    expect_invalid(&place, Owner::Staging, "encrypted");
    write(&place, &what(&plain, &at("tomorrow")), &[]);
    expect_invalid(&place, Owner::Staging, "tomorrow");
    write(&place, &what(&plain, &at("2099-01-01 00:00:00+00")), &[]);
    expect_bad(&place, "2099-01-01");

    let archive = "archive/main/15-1/0000000100000000";
    let mut segments: Vec<String> = std::fs::read_dir(plain.join(archive))
        .expect("the archive")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| name.contains('-'))
        .collect();
    segments.sort();
    let gap = &segments[segments.len() - 2];
    let label = std::fs::read_link(plain.join("backup/main/latest")).expect("a link");
    let heap = first_below(
        &plain
            .join("backup/main")
            .join(&label)
            .join("pg_data/base/1"),
    );
    let heap = format!("backup/main/{}/pg_data/base/{heap}", label.display());
    for (files, how, word) in [
        (vec![format!("{archive}/{gap}")], Damage::Gone, &gap[..24]),
        (vec![heap.clone()], Damage::Half, "verify"),
        (vec![heap.clone()], Damage::Flipped, "verify"),
        (vec![heap], Damage::Gone, "verify"),
        (
            vec![
                "backup/main/backup.info".to_owned(),
                "backup/main/backup.info.copy".to_owned(),
            ],
            Damage::Gone,
            "backup.info",
        ),
    ] {
        let copied = place.path("copy");
        copy(&plain, &copied);
        for file in files {
            damage(&copied.join(file), &how);
        }
        write(&place, &what(&copied, ""), &[]);
        expect_bad(&place, word);
        std::fs::remove_dir_all(copied).expect("the copy");
    }
    // Of an encrypted one some files still open: it is damage, not the passphrase.
    place.write("passphrase", "right\n");
    let copied = place.path("copy");
    copy(&secret, &copied);
    for name in ["backup.info", "backup.info.copy"] {
        damage(&copied.join("backup/main").join(name), &Damage::Half);
    }
    write(&place, &what(&copied, passphrase), &[]);
    expect_bad(&place, "backup.info");
}
