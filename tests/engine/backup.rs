//! Backups that must not be taken for good ones, and good ones in all their forms.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use rehearsal::event::{CaseStatus, Owner, Stage};
use rehearsal::verdict::Outcome;

use crate::common::{BASE, IDLE, Place, Ran, checkout, forget_bases_of};

/// A database of the sample's image, with nothing else.
pub(crate) const DATABASE: &str = "  db:
    image: rehearse-site/db:15
    environment: { POSTGRES_USER: ledger, POSTGRES_PASSWORD: in-staging }
    volumes: [\"data:/var/lib/postgresql/data\"]
    expose: [\"5432\"]
    healthcheck: { test: [CMD, pg_isready, -q, -h, 127.0.0.1, -U, ledger], interval: 250ms, retries: 20, start_period: 30s }
";

const NOTHING: &str = "\
package: nothing
components:
  - name: app
    steps: [{ name: look, run: echo deployed }]
";

/// A plain SQL dump as `pg_dump` frames it.
fn plain(table: &str, middle: &str) -> String {
    format!(
        "--\n-- PostgreSQL database dump\n--\n\nSET statement_timeout = 0;\nSET client_encoding = 'UTF8';\n\n\
         CREATE TABLE public.{table} (id integer PRIMARY KEY, placed timestamptz NOT NULL);\n\n\
         COPY public.{table} (id, placed) FROM stdin;\n1\t2024-03-01 12:00:00+00\n2\t2024-03-02 12:00:00+00\n\\.\n\n\
         {middle}\n--\n-- PostgreSQL database dump complete\n--\n\n"
    )
}

pub(crate) fn gz(content: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(content).expect("memory");
    out.finish().expect("memory")
}

fn zst(content: &[u8]) -> Vec<u8> {
    zstd::encode_all(content, 3).expect("memory")
}

/// A place whose rehearsal restores as said.
fn place(test: &str, restore: &str) -> Place {
    let place = Place::small(test, NOTHING);
    place.write(
        "stack.yaml",
        format!(
            "services:\n  app:\n    image: {BASE}\n    command: {IDLE}\n    volumes: [\"files:/srv/files\"]\n{DATABASE}\
             volumes: {{ data: , files: }}\n"
        ),
    );
    place.rehearsal(restore);
    place
}

/// The same backup, rehearsed and checked: invalid in the one, failed in the other, and the backup's fault in both.
#[track_caller]
fn expect_bad(place: &Place, stage: Stage, words: &[&str]) -> [Ran; 2] {
    let (ran, checked) = (place.run(&[]), place.backup_check());
    ran.expect(2, Outcome::Invalid, Some(Owner::Backup));
    checked.expect(1, Outcome::Failed, Some(Owner::Backup));
    for ran in [&ran, &checked] {
        assert_eq!(ran.verdict().stage, Some(stage));
        for word in words {
            assert!(
                ran.reason(stage).contains(word),
                "{word}: {}",
                ran.reason(stage)
            );
        }
        let failed = ran
            .cases()
            .any(|(_, case)| case.status == CaseStatus::Failed);
        assert!(failed, "no case says so");
        assert_eq!(ran.stage(Stage::Deploy), None, "deploy was reached");
        ran.expect_nothing_left();
    }
    [ran, checked]
}

#[test]
fn a_backup_that_is_not_whole_is_found_before_staging_is_made() {
    let dump = std::fs::read(sample("site.dump")).expect("the sample's backup");
    let uploads = std::fs::read(sample("uploads.tar.zst")).expect("the sample's backup");
    let sql = plain("ledger", "");
    let mut damaged = gz(sql.as_bytes());
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0xff;
    let place = place(
        "not-whole",
        "restore: [{ service: db, postgres: { dump: backup, database: ledger } }]\n",
    );
    for (content, word) in [
        (Some(dump[..dump.len() / 2].to_vec()), "truncated"),
        (Some(dump[..dump.len() - 1].to_vec()), "truncated"),
        (Some(Vec::new()), "0 bytes"),
        (Some(gz(b"")), "holds nothing"),
        (Some(uploads), "a tar archive"),
        (Some(b"hello\n".to_vec()), "expected"),
        (Some(damaged), "cannot restore"),
        (Some(gz(sql.as_bytes())[..60].to_vec()), "truncated"),
        (Some(sql.as_bytes()[..sql.len() / 2].to_vec()), "truncated"),
        (None, "No such file"),
    ] {
        match content {
            Some(content) => {
                place.write("backup", content);
            }
            None => std::fs::remove_file(place.path("backup")).expect("it is there"),
        }
        expect_bad(&place, Stage::Preflight, &[word]);
    }
}

/// A file of the sample's backup, which a fresh clone does not have yet.
fn sample(name: &str) -> PathBuf {
    crate::common::prepare();
    checkout().join("backups").join(name)
}

#[test]
fn an_archive_that_would_write_outside_its_volume_is_refused() {
    let place = place(
        "unsafe",
        "restore: [{ volume: files, archive: backup.tar }]\n",
    );
    for (name, link) in [
        ("../evil", None),
        ("/etc/evil", None),
        ("out", Some("../../etc")),
    ] {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_mtime(1);
        // The crate's own setter refuses such names, as it should.
        let bytes = &mut header.as_gnu_mut().expect("GNU").name;
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        if let Some(link) = link {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_link_name(link).expect("a name");
        }
        header.set_size(0);
        header.set_cksum();
        tar.append(&header, std::io::empty()).expect("memory");
        place.write("backup.tar", tar.into_inner().expect("memory"));
        expect_bad(&place, Stage::Preflight, &[name]);
    }
}

#[test]
fn a_dump_that_fails_in_the_middle_and_data_that_is_too_old_are_the_backups_fault() {
    let broken = place(
        "broken",
        "restore: [{ service: db, postgres: { dump: backup.sql, database: ledger } }]\n",
    );
    broken.write(
        "backup.sql",
        plain(
            "ledger",
            "ALTER TABLE public.missing ADD COLUMN x integer;\n",
        ),
    );
    let [ran, _] = expect_bad(
        &broken,
        Stage::Restore,
        &["public.missing", "does not exist"],
    );
    assert!(ran.bases().is_empty(), "half a restore is no base");
    drop(broken);

    let old = place(
        "old",
        "restore:\n  - service: db\n    postgres: { dump: backup.sql, database: ledger, data_as_of: select max(placed) from \
         ledger }\n    max_age: 1s\n",
    );
    old.write("backup.sql", plain("ledger", ""));
    let [ran, checked] = expect_bad(&old, Stage::Restore, &["max_age", "data_as_of"]);
    let case = ran.case("restore", "db/ledger: the data is fresh");
    assert!(
        case.mismatches[0].seen.contains("2024-03-02T12:00:00Z"),
        "{case:?}"
    );
    // The age is judged anew although the base is not restored anew.
    assert_eq!(checked.bases(), [("data", true)].into());
}

#[test]
fn good_backups_of_every_form_are_restored_and_checked() {
    let place = place(
        "forms",
        "restore:\n  - service: db\n    postgres: { dump: a.sql.gz, database: first, data_as_of: select max(placed) from one }\n    \
         max_age: 36500d\n  - { service: db, postgres: { dump: b.sql.zst, database: second } }\n  \
         - { service: db, postgres: { dump: c.sql, database: third } }\n  - { volume: files, archive: files.tar.gz }\n",
    );
    // A marker of this very run: its bases are its own, so the first restore is a real one.
    let marker = format!(
        "INSERT INTO public.one VALUES (3, '2024-03-03'); -- {}\n",
        place.name()
    );
    place.write("a.sql.gz", gz(plain("one", &marker).as_bytes()));
    place.write("b.sql.zst", zst(plain("two", "").as_bytes()));
    place.write("c.sql", plain("three", ""));
    place.write("files.tar.gz", gz(&archive(place.name())));
    place.write(
        "testplan.yaml",
        "testplan: forms\ntests:\n\
         \x20 - { name: gz, sql: { service: db, database: first, query: select count(*) from one }, expect: { value: 3 } }\n\
         \x20 - { name: zst, sql: { service: db, database: second, query: select count(*) from two }, expect: { value: 2 } }\n\
         \x20 - { name: plain, sql: { service: db, database: third, query: select count(*) from three }, expect: { value: 2 } }\n\
         \x20 - { name: owner and mode, file: { service: app, path: /srv/files/reports/q1.txt }, expect: { content: figures, \
         owner: \"1234:5678\", mode: \"0640\" } }\n\
         \x20 - { name: link, exec: { service: app, run: readlink /srv/files/latest }, expect: { stdout: reports/q1.txt } }\n",
    );
    let ran = place.backup_check();
    ran.expect(0, Outcome::Passed, None).expect_nothing_left();
    assert_eq!(ran.bases(), [("data", false), ("files", false)].into());
    for stage in [
        Stage::Snapshot,
        Stage::Deploy,
        Stage::Verify,
        Stage::Rollback,
    ] {
        assert_eq!(
            ran.stage(stage),
            None,
            "{stage} is not part of a backup check"
        );
    }
    assert!(
        ran.record()
            .measured
            .iter()
            .any(|measure| measure.what == "restore")
    );
    let again = place.backup_check();
    again.expect(0, Outcome::Passed, None);
    assert_eq!(again.bases(), [("data", true), ("files", true)].into());

    // What is no fault of a backup is not called one, so that an alert means what it says.
    place.write(
        "testplan.yaml",
        "testplan: forms\ntests:\n  - { name: wrong, exec: { service: app, run: echo no }, expect: { stdout: \"yes\" } }\n  \
         - { name: cannot be told, sql: { service: db, database: first, query: select 1; select 2 }, expect: { value: 1 } }\n",
    );
    let staging = place.backup_check();
    staging
        .expect(2, Outcome::Invalid, Some(Owner::Staging))
        .expect_nothing_left();
    // And a test that could not be determined is not one whose expectation was false.
    for (name, status) in [
        ("wrong", CaseStatus::Failed),
        ("cannot be told", CaseStatus::Error),
    ] {
        assert_eq!(staging.case("baseline.forms", name).status, status);
    }
    forget_bases_of(ran.run());
}

/// A folder, a file with an owner of its own, and a link.
pub(crate) fn archive(content: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let header = |kind: tar::EntryType, mode: u32, size: u64| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(1234);
        header.set_gid(5678);
        header.set_mtime(1_700_000_000);
        header.set_size(size);
        header
    };
    let text = format!("figures of {content}\n");
    let mut folder = header(tar::EntryType::Directory, 0o755, 0);
    let mut file = header(tar::EntryType::Regular, 0o640, text.len() as u64);
    let mut link = header(tar::EntryType::Symlink, 0o777, 0);
    tar.append_data(&mut folder, Path::new("reports/"), std::io::empty())
        .expect("memory");
    tar.append_data(&mut file, Path::new("reports/q1.txt"), text.as_bytes())
        .expect("memory");
    tar.append_link(&mut link, "latest", "reports/q1.txt")
        .expect("memory");
    tar.into_inner().expect("memory")
}
