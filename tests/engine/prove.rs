//! The negative control: damaged copies that a check sees, and one that it cannot see.

use rehearsal::event::{CaseStatus, Owner, Stage};
use rehearsal::verdict::Outcome;

use crate::common::{BASE, IDLE, Live, Place, Ran, checkout};
use crate::workshop::{image, made, out, tools};

fn proved(place: &Place) -> Ran {
    let mut command = place.command("backup-check", &place.path("rehearsal.yaml"));
    command.arg("--prove");
    Live::start(command).finish()
}

/// The control's cases: name without the restore's, and how they ended.
fn controls(ran: &Ran) -> Vec<(String, CaseStatus)> {
    ran.cases()
        .filter(|(stage, case)| {
            *stage == Stage::Restore && case.name.ends_with("is seen to be bad")
        })
        .map(|(_, case)| (case.name.clone(), case.status))
        .collect()
}

#[test]
fn a_check_of_the_samples_backup_sees_each_damaged_copy() {
    crate::common::prepare();
    let place = Place::new("prove");
    for name in ["site.dump", "uploads.tar.zst"] {
        std::fs::copy(checkout().join("backups").join(name), place.path(name)).expect("a copy");
    }
    place.write(
        "stack.yaml",
        "services:\n  db:\n    image: rehearse-site/db:15\n    environment: { POSTGRES_USER: site, POSTGRES_PASSWORD: x }\n    \
         volumes: [\"data:/var/lib/postgresql/data\", \"uploads:/uploads\"]\n    expose: [\"5432\"]\nvolumes: { data: , uploads: }\n",
    );
    place.write(
        "rehearsal.yaml",
        format!(
            "rehearsal: {}\nstack: stack.yaml\nrestore:\n  - service: db\n    postgres: {{ dump: site.dump, database: site }}\n  \
             - volume: uploads\n    archive: uploads.tar.zst\n",
            place.name()
        ),
    );
    let ran = proved(&place);
    ran.expect(0, Outcome::Passed, None);
    let controls = controls(&ran);
    assert_eq!(controls.len(), 8, "{controls:?}");
    for (name, status) in &controls {
        // One file has no other that could be missing.
        let expected = if name.contains("without one of its files") {
            CaseStatus::Skipped
        } else {
            CaseStatus::Passed
        };
        assert_eq!(*status, expected, "{name}");
    }
    ran.expect_nothing_left();
    let left = std::fs::read_dir(ran.dir())
        .expect("the run's folder")
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("damaged-"))
        .count();
    assert_eq!(left, 0, "a damaged copy stays in the run's folder");
}

/// A command that restores whatever it gets, and a backup in which nothing shows what is missing.
#[test]
fn a_check_that_lets_a_damaged_copy_pass_is_itself_invalid() {
    let place = Place::new("prove-blind");
    place.write(
        "stack.yaml",
        format!(
            "services:\n  app:\n    image: {}\n    command: {}\n    volumes: [\"data:/data\"]\nvolumes: {{ data: }}\n",
            BASE, IDLE
        ),
    );
    place.write("backup.bin", "whatever is in it ".repeat(1000));
    let rehearsal = |more: &str| {
        place.write(
            "rehearsal.yaml",
            format!(
                "rehearsal: {}\nstack: stack.yaml\nrestore:\n  - volume: data\n    \
                 command: {{ backup: backup.bin, image: {}, run: cp /backup/backup.bin . }}\n{more}",
                place.name(),
                BASE
            ),
        );
    };
    rehearsal("");
    let ran = proved(&place);
    ran.expect(2, Outcome::Invalid, Some(Owner::Staging));
    assert!(
        ran.reason(Stage::Restore)
            .contains("the check itself is not valid"),
        "{}",
        ran.reason(Stage::Restore)
    );
    let wrong: Vec<_> = controls(&ran)
        .into_iter()
        .filter(|(_, status)| *status == CaseStatus::Error)
        .collect();
    assert!(!wrong.is_empty());
    ran.expect_nothing_left();
    // With its digest recorded, the same check sees every one of them, also the flipped bit.
    let digest = rehearsal::digest::sha256("whatever is in it ".repeat(1000));
    let digest = digest.trim_start_matches("sha256:");
    place.write("backup.sha256", format!("{digest}  backup.bin\n"));
    rehearsal("    checksum: backup.sha256\n");
    let ran = proved(&place);
    ran.expect(0, Outcome::Passed, None);
    let seen = controls(&ran)
        .iter()
        .filter(|(_, status)| *status == CaseStatus::Passed)
        .count();
    assert_eq!(seen, 3);
    // The rest of the check was tried besides, and the cases say that it saw nothing.
    for (name, figure) in figures(&ran) {
        let reading = name.contains("an empty copy") && figure.contains("by reading it");
        let digest = figure.contains("only by its recorded digest");
        assert!(digest || reading, "{name}: {figure}");
    }
    ran.expect_nothing_left();
}

/// The control's cases that passed, and how each copy was seen.
fn figures(ran: &Ran) -> Vec<(String, String)> {
    let cases = ran.cases().filter(|(stage, case)| {
        *stage == Stage::Restore
            && case.status == CaseStatus::Passed
            && case.name.ends_with("is seen to be bad")
    });
    cases
        .map(|(_, case)| (case.name.clone(), case.message.clone().unwrap_or_default()))
        .collect()
}

/// All damaged copies are seen, and those with these names cannot be made.
#[track_caller]
fn expect_all_seen(ran: &Ran, impossible: &[&str]) {
    ran.expect(0, Outcome::Passed, None);
    let controls = controls(ran);
    assert_eq!(controls.len(), 4, "{controls:?}");
    for (name, status) in &controls {
        let skipped = impossible.iter().any(|words| name.contains(words));
        let expected = if skipped {
            CaseStatus::Skipped
        } else {
            CaseStatus::Passed
        };
        assert_eq!(*status, expected, "{name}");
    }
    for (name, figure) in figures(ran) {
        let how = ["by reading it", "by restoring it", "by examining it"];
        assert!(
            how.iter().any(|how| figure.contains(how)),
            "{name}: {figure}"
        );
        assert!(!figure.contains("only by"), "{name}: {figure}");
    }
    ran.expect_nothing_left();
}

#[test]
fn each_damaged_copy_of_a_redis_snapshot_is_seen() {
    const REDIS: &str = "rehearse-test/redis:7";
    let place = Place::new("prove-redis");
    image("redis", REDIS);
    let source = made(
        "prove-redis",
        REDIS,
        &[],
        "redis-server --dir /out --save '' --enable-debug-command yes --daemonize yes --logfile /tmp/log\n\
         until redis-cli PING | grep -q PONG; do sleep 0.05; done\n\
         redis-cli DEBUG POPULATE 2000 key 24\nredis-cli SAVE\nchmod a+r /out/dump.rdb\n",
    );
    std::fs::copy(out(&source, "dump.rdb"), place.path("dump.rdb")).expect("a copy");
    place.write(
        "stack.yaml",
        format!(
            "services:\n  cache:\n    image: {REDIS}\n    \
             command: [redis-server, --bind, 0.0.0.0, --protected-mode, \"no\"]\n    \
             volumes: [\"cache:/data\"]\n    expose: [\"6379\"]\nvolumes: {{ cache: }}\n"
        ),
    );
    place.write(
        "rehearsal.yaml",
        format!(
            "rehearsal: {}\nstack: stack.yaml\nrestore: [{{ service: cache, redis: {{ rdb: dump.rdb }} }}]\n",
            place.name()
        ),
    );
    expect_all_seen(&proved(&place), &["without one of its files"]);
}

#[test]
fn each_damaged_copy_of_a_mariadb_dump_is_seen() {
    const MARIADB: &str = "rehearse-test/mariadb:10.11";
    let place = Place::new("prove-mariadb");
    image("mariadb", MARIADB);
    let rows: Vec<String> = (0..500).map(|n| format!("({n},'row {n}')")).collect();
    place.write(
        "app.sql",
        format!(
            "-- MariaDB dump 10.19  Distrib 10.11.6-MariaDB, for debian-linux-gnu (x86_64)\n--\n\
             -- Host: localhost    Database: app\n-- ------------------------------------------------------\n\
             -- Server version\t10.11.6-MariaDB\n\nCREATE TABLE `t` (`id` int NOT NULL PRIMARY KEY, `x` text);\n\
             INSERT INTO `t` VALUES {};\n-- Dump completed on 2026-11-21  3:00:00\n",
            rows.join(",")
        ),
    );
    place.write(
        "stack.yaml",
        format!(
            "services:\n  db:\n    image: {MARIADB}\n    environment: {{ MARIADB_ROOT_PASSWORD: x }}\n    \
             volumes: [\"data:/var/lib/mysql\"]\n    expose: [\"3306\"]\nvolumes: {{ data: }}\n"
        ),
    );
    place.write(
        "rehearsal.yaml",
        format!(
            "rehearsal: {}\nstack: stack.yaml\nrestore: [{{ service: db, mariadb: {{ dump: app.sql, database: app }} }}]\n",
            place.name()
        ),
    );
    let plain_text = ["without one of its files", "one flipped bit"];
    expect_all_seen(&proved(&place), &plain_text);
}

#[test]
fn each_damaged_copy_of_a_restic_repository_is_seen() {
    let place = Place::new("prove-restic");
    let source = made(
        "prove-restic",
        &tools(),
        &[],
        "mkdir -p /srv/files\ni=0; while [ $i -lt 50 ]; do echo \"paper $i\" > /srv/files/$i; i=$((i+1)); done\n\
         head -c 300000 /dev/urandom > /srv/files/large\nexport RESTIC_PASSWORD=x RESTIC_CACHE_DIR=/tmp/cache\n\
         restic init -r /out/repo >/dev/null\nrestic -r /out/repo backup --host web1 /srv/files >/dev/null\n\
         chmod -R u+w,a+rX /out\n",
    );
    place.write("password", "x\n");
    place.write(
        "stack.yaml",
        format!(
            "services:\n  app:\n    image: {BASE}\n    command: {IDLE}\n    volumes: [\"files:/srv/files\"]\n\
             volumes: {{ files: }}\n"
        ),
    );
    place.write(
        "rehearsal.yaml",
        format!(
            "rehearsal: {}\nstack: stack.yaml\nrestore:\n  - volume: files\n    \
             restic: {{ repository: {}, password: {{ file: password }}, path: /srv/files }}\n",
            place.name(),
            out(&source, "repo").display()
        ),
    );
    expect_all_seen(&proved(&place), &[]);
}

/// What a run that was killed left is removed by the next one, which proves nothing itself.
#[test]
fn the_damaged_copies_of_a_dead_run_are_removed() {
    let place = Place::small(
        "prove-left",
        "package: none\ncomponents: [{ name: a, steps: [{ name: look, run: echo x }] }]\n",
    );
    place.write("backup.tar", crate::backup::archive(place.name()));
    place.rehearsal("restore: [{ volume: state, archive: backup.tar }]\n");
    let ran = place.backup_check();
    let run = ran.dir();
    let me = rehearsal::engine::OwnerId::current().in_a_name();
    let (mine, dead) = (
        run.join(format!("damaged-{me}.aaaaaa")),
        run.join(format!("damaged-{me}1.aaaaaa")),
    );
    for folder in [&mine, &dead] {
        std::fs::create_dir(folder).expect("a folder");
        std::fs::write(folder.join("copy"), "x").expect("a file");
    }
    place.backup_check();
    assert!(mine.exists(), "a living process's copies are its own");
    assert!(!dead.exists(), "a dead run's copies stay");
    crate::common::forget_bases_of(ran.run());
}
