//! Repositories of restic and Borg: a tree with everything that a tree may hold, restored and compared; then the same
//! repositories, damaged.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rehearsal::event::{CaseStatus, Owner, Stage};
use rehearsal::plan::model::{Build, Image};
use rehearsal::verdict::Outcome;
use tempfile::TempDir;

use crate::backup::DATABASE;
use crate::common::{BASE, IDLE, Live, Place, Ran, checkout, engine, forget_bases_of};
use crate::workshop::{image, line, made, out};

const TOOLS: &str = "rehearse-tools:bookworm";
const PASSWORD: &str = "correct-horse-7f3a";

/// Type, mode, owner, size, time and links of everything below the working folder, and all content. Of links and
/// folders the size is the filesystem's own affair.
const DIGEST: &str = r"export LC_ALL=C; { find . \( -type f -printf 'f %m %U:%G %s %T@ %n %p\0' -o -type d -printf 'd %m %U:%G %T@ %p\0' -o -printf '%y %m %U:%G %T@ %l %p\0' \) | sort -z; find . -type f -print0 | sort -z | xargs -0 sha256sum; } | sha256sum | cut -c1-64";

/// 2000 small files and one of a million lines, with what makes trees hard: links of all kinds, also out of the tree,
/// owners, modes, times, holes, names.
const SOURCE: &str = r#"
t=/srv/uploads
mkdir -p $t/many $t/deep/er /srv/db
i=0; while [ $i -lt 2000 ]; do echo "paper $i" > $t/many/$i.txt; i=$((i+1)); done
seq 1000000 | awk '{ print $1 "," $1 * 7 ",customer " $1 }' > $t/rows.csv
[ "$(wc -l < $t/rows.csv)" = 1000000 ]
ln $t/many/1.txt $t/deep/hard
ln -s ../many/2.txt $t/deep/relative
ln -s /etc/passwd $t/absolute
ln -s ../../../../etc $t/out-of-it
install -m 4755 /bin/true $t/setuid
mkdir -m 1777 $t/sticky; mkdir -m 0700 $t/private
truncate -s 8M $t/sparse; printf end >> $t/sparse
printf x > "$t/ünïcode ✓"
printf y > "$t/new
line"
printf z > "$t/-dash [x]*?"
echo marked > $t/marked
(cd $t; tar --format=pax --pax-option SCHILY.xattr.user.origin:=web1 -cf /tmp/marked.tar marked; tar --xattrs -xf /tmp/marked.tar)
mkfifo $t/fifo; mknod $t/null c 1 3
chown 1234:5678 $t/many/3.txt; chown -h 33:33 $t/absolute
touch -h -d '2020-02-02 02:02:02.123456789 UTC' $t/many/4.txt $t/absolute
chown 33:34 $t; chmod 2750 $t
touch -d '2021-03-04 05:06:07.5 UTC' $t/deep $t
echo dump > /srv/db/dump
(cd $t; DIGEST) > /out/digest

export RESTIC_PASSWORD=PASSWORD RESTIC_CACHE_DIR=/tmp/cache
restic init -r /out/restic >/dev/null
restic -r /out/restic backup --host web1 /srv/uploads >/dev/null
# Another job's snapshot is newer.
restic -r /out/restic backup --host web1 /srv/db >/dev/null
# The lock of a backup that is running.
cp -a /out/restic /tmp/locked; mkfifo /tmp/pipe
restic -r /tmp/locked backup --stdin < /tmp/pipe >/dev/null & job=$!
exec 9> /tmp/pipe
until [ -n "$(ls /tmp/locked/locks)" ]; do sleep 0.05; done
mkdir /out/locks; cp /tmp/locked/locks/* /out/locks/
kill -9 $job; exec 9>&-

export BORG_PASSPHRASE=PASSWORD BORG_BASE_DIR=/tmp/borg
borg init -e repokey /out/borg 2>/dev/null
borg create --numeric-ids /out/borg::uploads-1 /srv/uploads
borg create --numeric-ids /out/borg::db-1 /srv/db
borg init -e keyfile /out/keyfile 2>/dev/null
borg create /out/keyfile::db-1 /srv/db
unset BORG_PASSPHRASE
export BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes
borg init -e none /out/plain
borg create --numeric-ids /out/plain::uploads-1 /srv/uploads
chmod -R u+w,a+rX /out
"#;

fn source() -> &'static TempDir {
    static SOURCE_MADE: OnceLock<TempDir> = OnceLock::new();
    SOURCE_MADE.get_or_init(|| {
        // An absolute path stands for itself.
        image(&checkout().join("docker/tools").to_string_lossy(), TOOLS);
        let script = SOURCE
            .replace("DIGEST", DIGEST)
            .replace("PASSWORD", PASSWORD);
        // The names of the variables themselves.
        let script = script
            .replace(&format!("RESTIC_{PASSWORD}"), "RESTIC_PASSWORD")
            .replace("export LC_ALL=C; {", "LC_ALL=C; export LC_ALL; {");
        made("repositories", TOOLS, &[], &script)
    })
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).expect("a copy");
        }
    }
}

/// A place with a volume, a repository as `repo`, and its password.
fn place(test: &str, repository: &str, restore: &str) -> Place {
    let made = source();
    let place = Place::new(test);
    copy(&out(made, repository), &place.path("repo"));
    place.write("password", format!("{PASSWORD}\n"));
    place.write(
        "stack.yaml",
        format!(
            "services:\n  app:\n    image: {BASE}\n    command: {IDLE}\n    volumes: [\"uploads:/srv/uploads\"]\n\
             volumes: {{ uploads: }}\n"
        ),
    );
    place.write(
        "testplan.yaml",
        format!(
            "testplan: tree\ntests:\n  - name: the tree is as at the source\n    exec:\n      service: app\n      run: |\n        \
             cd /srv/uploads\n        {DIGEST}\n    expect: {{ stdout: \"{}\" }}\n  \
             - name: an extended attribute\n    exec: {{ service: app, run: \"cd /srv/uploads; tar --xattrs -cf - marked | grep -a -o SCHILY.xattr.user.origin=web1\" }}\n    \
             expect: {{ stdout: \"SCHILY.xattr.user.origin=web1\" }}\n  \
             - name: a million lines\n    exec: {{ service: app, run: wc -l < /srv/uploads/rows.csv }}\n    \
             expect: {{ stdout: \"1000000\" }}\n",
            line(made, "digest")
        ),
    );
    rehearsal(&place, restore);
    place
}

fn rehearsal(place: &Place, restore: &str) {
    place.write(
        "rehearsal.yaml",
        format!(
            "rehearsal: {}\nstack: stack.yaml\ntestplan: testplan.yaml\nrestore:\n  - volume: uploads\n    {restore}\n",
            place.name()
        ),
    );
}

const RESTIC: &str =
    "restic: { repository: repo, password: { file: password }, path: /srv/uploads }";
const BORG: &str = "borg: { repository: repo, password: { file: password }, snapshot: uploads-*, path: srv/uploads }";

/// The password is in nothing that a run leaves behind.
#[track_caller]
fn expect_secret_kept(ran: &Ran) {
    let mut left = vec![ran.dir()];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).expect("a folder");
            left.extend(entries.map(|entry| entry.expect("an entry").path()));
            continue;
        }
        let content = std::fs::read(&path).expect("a file");
        let content = String::from_utf8_lossy(&content);
        assert!(!content.contains(PASSWORD), "{} says it", path.display());
    }
    assert!(!format!("{:?}{}", ran.events, ran.stderr).contains(PASSWORD));
}

#[track_caller]
fn expect_restored(ran: &Ran, tool: &str) {
    ran.expect(0, Outcome::Passed, None).expect_nothing_left();
    expect_secret_kept(ran);
    let case = |says: &str| {
        let case = ran.case("restore", &format!("uploads: {says}"));
        assert_eq!(case.status, CaseStatus::Passed, "{says}: {case:?}");
        case.message.clone().unwrap_or_default()
    };
    let figure = case("restores without errors");
    assert!(figure.contains("2008 files"), "{figure}");
    assert!(case("the page checksums hold").contains(tool));
    assert!(case("the data is fresh").contains("by the restoring tool"));
    for test in [
        "the tree is as at the source",
        "a million lines",
        "an extended attribute",
    ] {
        let found = ran.cases().any(|(stage, case)| {
            stage == Stage::Baseline && case.name == test && case.status == CaseStatus::Passed
        });
        assert!(found, "{test}");
    }
}

#[test]
fn a_tree_comes_back_from_a_restic_repository_as_it_was() {
    let with_age = RESTIC.to_owned() + "\n    max_age: 1h";
    let place = place("restic", "restic", &with_age);
    let first = place.backup_check();
    expect_restored(&first, "restic check --read-data");
    let figure = first
        .case("restore", "uploads: restores without errors")
        .message
        .clone()
        .unwrap_or_default();
    for word in ["snapshot ", " by web1 ", "/srv/uploads"] {
        assert!(figure.contains(word), "{figure}");
    }
    // A base that is used again still says what was checked.
    let again = place.backup_check();
    again.expect(0, Outcome::Passed, None);
    let checksums = again.case("restore", "uploads: the page checksums hold");
    assert_eq!(checksums.status, CaseStatus::Passed);
    // The same by the environment; the plan differs, so it is restored again.
    rehearsal(
        &place,
        "restic: { repository: repo, password: { env: REPOSITORY_PASSWORD }, path: /srv/uploads }\n    max_age: 1h",
    );
    let mut command = place.command("backup-check", &place.path("rehearsal.yaml"));
    command.env("REPOSITORY_PASSWORD", PASSWORD);
    let by_environment = Live::start(command).finish();
    expect_restored(&by_environment, "restic check --read-data");
    forget_bases_of(first.run());
    forget_bases_of(by_environment.run());
}

#[test]
fn a_tree_comes_back_from_borg_repositories_as_it_was() {
    let place = place("borg", "borg", &(BORG.to_owned() + "\n    max_age: 1h"));
    let encrypted = place.backup_check();
    expect_restored(&encrypted, "borg check --verify-data");
    forget_bases_of(encrypted.run());
    std::fs::remove_dir_all(place.path("repo")).expect("it is there");
    copy(&out(source(), "plain"), &place.path("repo"));
    rehearsal(
        &place,
        "borg: { repository: repo, path: /srv/uploads }\n    max_age: 1h",
    );
    let plain = place.backup_check();
    expect_restored(&plain, "borg check --verify-data");
    forget_bases_of(plain.run());
}

/// The largest file below a folder.
fn largest(below: &Path) -> PathBuf {
    let mut left = vec![below.to_owned()];
    let mut largest = (0, PathBuf::new());
    while let Some(path) = left.pop() {
        for entry in std::fs::read_dir(path).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                left.push(path);
            } else {
                let size = std::fs::metadata(&path).expect("a file").len();
                largest = largest.max((size, path));
            }
        }
    }
    largest.1
}

fn change(path: &Path, how: impl FnOnce(&mut Vec<u8>)) {
    let mut content = std::fs::read(path).expect("a file");
    how(&mut content);
    std::fs::write(path, content).expect("it can be written");
}

fn empty(folder: &Path) {
    std::fs::remove_dir_all(folder).expect("it is there");
    std::fs::create_dir(folder).expect("a folder");
}

type Damage = (&'static str, fn(&Path));

const BOTH: [Damage; 6] = [
    ("data is missing", |repo| {
        std::fs::remove_file(largest(&repo.join("data"))).expect("it is there");
    }),
    ("data is cut off", |repo| {
        change(&largest(&repo.join("data")), |content| {
            content.truncate(content.len() - 1000);
        });
    }),
    ("a byte differs", |repo| {
        change(&largest(&repo.join("data")), |content| {
            let middle = content.len() / 2;
            content[middle] ^= 0x10;
        });
    }),
    ("the config is empty", |repo| {
        change(&repo.join("config"), Vec::clear)
    }),
    ("there is nothing", empty),
    ("there is no folder", |repo| {
        std::fs::remove_dir_all(repo).expect("it is there");
    }),
];

/// Each damage to a fresh copy, one after the other.
fn expect_never_passed(place: &Place, repository: &str, damages: &[Damage]) {
    for (what, damage) in damages {
        let repo = place.path("repo");
        if repo.exists() {
            std::fs::remove_dir_all(&repo).expect("it is there");
        }
        copy(&out(source(), repository), &repo);
        damage(&repo);
        let ran = place.backup_check();
        let verdict = ran.verdict();
        assert_eq!(
            (ran.code, verdict.outcome, verdict.owner),
            (Some(1), Outcome::Failed, Some(Owner::Backup)),
            "{what}: {verdict:#?}\n{}",
            ran.stderr
        );
        ran.expect_nothing_left();
    }
}

#[test]
fn a_damaged_restic_repository_never_passes() {
    let place = place("restic-damaged", "restic", RESTIC);
    expect_never_passed(&place, "restic", &BOTH);
    expect_never_passed(
        &place,
        "restic",
        &[
            ("the index is missing", |repo| empty(&repo.join("index"))),
            ("one index is missing", |repo| {
                std::fs::remove_file(largest(&repo.join("index"))).expect("it is there");
            }),
            ("the snapshots are missing", |repo| {
                empty(&repo.join("snapshots"));
            }),
        ],
    );
    for restore in [
        "restic: { repository: repo, password: { file: password }, path: /srv/upload }",
        "restic: { repository: repo, password: { file: password }, path: /srv/uploads/no }",
        "restic: { repository: repo, password: { file: password }, snapshot: deadbeef }",
    ] {
        rehearsal(&place, restore);
        expect_never_passed(&place, "restic", &[(restore, |_| {})]);
    }
}

#[test]
fn a_damaged_borg_repository_never_passes() {
    let place = place("borg-damaged", "borg", BORG);
    expect_never_passed(&place, "borg", &BOTH);
    for restore in [
        "borg: { repository: repo, password: { file: password }, snapshot: uploads-1, path: srv/upload }",
        "borg: { repository: repo, password: { file: password }, snapshot: uploads-2 }",
    ] {
        rehearsal(&place, restore);
        expect_never_passed(&place, "borg", &[(restore, |_| {})]);
    }
}

/// What is in the way of a good repository is not the backup's fault.
#[track_caller]
fn expect_invalid(place: &Place, owner: Owner, words: &str) {
    let ran = place.backup_check();
    ran.expect(2, Outcome::Invalid, Some(owner))
        .expect_nothing_left();
    expect_secret_kept(&ran);
    let reason = &ran.verdict().reason;
    assert!(reason.contains(words), "{reason}");
}

#[test]
fn a_password_a_lock_and_a_folder_that_cannot_be_read_are_not_the_backups_fault() {
    let place = place("repositories-locked", "restic", RESTIC);
    let repo = place.path("repo");
    copy(&out(source(), "locks"), &repo.join("locks"));
    expect_invalid(&place, Owner::Staging, "locked");
    empty(&repo.join("locks"));
    place.write("password", "wrong\n");
    expect_invalid(&place, Owner::Staging, "password is wrong");

    rehearsal(&place, BORG);
    std::fs::remove_dir_all(&repo).expect("it is there");
    copy(&out(source(), "borg"), &repo);
    expect_invalid(&place, Owner::Staging, "password is wrong");
    place.write("password", PASSWORD);
    place.write("repo/lock.exclusive/web1@20734.12-0", "");
    expect_invalid(&place, Owner::Staging, "locked");
    std::fs::remove_dir_all(&repo).expect("it is there");
    copy(&out(source(), "keyfile"), &repo);
    rehearsal(
        &place,
        "borg: { repository: repo, password: { file: password } }",
    );
    expect_invalid(&place, Owner::Staging, "key of the repository");
    rehearsal(&place, "borg: { repository: repo }");
    std::fs::remove_dir_all(&repo).expect("it is there");
    std::os::unix::fs::symlink("repo", &repo).expect("a link to itself");
    expect_invalid(&place, Owner::Engine, "cannot serve");
}

/// The tools' image under another name, as an `image:` of the rehearsal.
#[test]
fn a_named_image_restores_and_its_tag_may_move() {
    let tagged = format!("rehearse-t-restic-{}:1", std::process::id());
    let restore = format!(
        "restic: {{ repository: repo, password: {{ file: password }}, path: /srv/uploads, image: \"{tagged}\" }}\n    max_age: 1h"
    );
    let place = place("restic-image", "restic", &restore);
    let tag = |image: &str| {
        engine(async |engine| engine.tag(image, &tagged).await).expect("the engine tags");
    };
    tag(TOOLS);
    let first = place.backup_check();
    expect_restored(&first, "restic check --read-data");
    assert!(!first.bases()["uploads"]);
    // It is the tools' own image: without the name the same base serves.
    rehearsal(&place, &(RESTIC.to_owned() + "\n    max_age: 1h"));
    assert!(place.backup_check().bases()["uploads"]);
    rehearsal(&place, &restore);
    // An image without the tool is another address, and the stack's fault.
    tag(BASE);
    expect_invalid(&place, Owner::Stack, "`restic");
    engine(async |engine| engine.remove_image(&tagged).await).expect("it is only a name");
    expect_invalid(&place, Owner::Stack, &tagged);
    forget_bases_of(first.run());
}

/// restic as it is, and then whatever the script behind it does.
fn restic_and(name: &str, script: &str) -> String {
    let context = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str, content: String| {
        std::fs::write(context.path().join(name), content).expect("a file");
    };
    file(
        "restic",
        format!(
            "#!/bin/sh\n/usr/bin/restic \"$@\" || exit\ncase \" $* \" in *\" restore \"*) {script} ;; esac\n"
        ),
    );
    file(
        "Dockerfile",
        format!(
            "FROM {TOOLS}\nCOPY restic /usr/local/bin/restic\nRUN chmod 755 /usr/local/bin/restic\n"
        ),
    );
    let image = Image {
        reference: format!("rehearse-t-{name}-{}:1", std::process::id()),
        build: Some(Build {
            context: context.path().to_owned(),
            dockerfile: "Dockerfile".to_owned(),
            args: std::collections::BTreeMap::new(),
            target: None,
        }),
    };
    engine(async |engine| engine.ensure_image(&image, |_| {}).await)
        .unwrap_or_else(|error| panic!("{error}"));
    image.reference
}

/// What it complained of before it died is tolerated; what it did not come to nobody knows.
#[test]
fn a_restore_that_died_does_not_pass_for_its_complaints_are_tolerated() {
    const COMPLAINT: &str = "ignoring error for /srv/uploads/marked: known";
    let complain = format!("echo '{COMPLAINT}' >&2");
    let tolerating = |image: &str| {
        format!(
            "restic: {{ repository: repo, password: {{ file: password }}, path: /srv/uploads, image: \"{image}\" }}\n    \
             tolerate: [{{ message: \"{COMPLAINT}\", count: 1 }}]"
        )
    };
    let place = place("restic-died", "restic", RESTIC);
    for (name, end, passes) in [
        (
            "ended",
            "echo 'Fatal: There were 1 errors' >&2; exit 1",
            true,
        ),
        ("panicked", "echo 'panic: runtime error' >&2; exit 2", false),
        ("fatal", "echo 'Fatal: unable to read' >&2; exit 1", false),
    ] {
        let image = restic_and(name, &format!("{complain}; {end}"));
        rehearsal(&place, &tolerating(&image));
        let ran = place.backup_check();
        engine(async |engine| engine.remove_image(&image).await).expect("nothing stands on it");
        let case = ran.case("restore", "uploads: restores without errors");
        if passes {
            ran.expect(0, Outcome::Passed, None).expect_nothing_left();
            assert_eq!(case.status, CaseStatus::Passed, "{name}: {case:?}");
            forget_bases_of(ran.run());
        } else {
            ran.expect(1, Outcome::Failed, Some(Owner::Backup))
                .expect_nothing_left();
            assert_eq!(case.status, CaseStatus::Failed, "{name}: {case:?}");
        }
    }
}

/// A service and a volume have the same name, and their backups are handed over side by side.
#[test]
fn a_service_and_a_volume_of_one_name_are_restored_side_by_side() {
    let place = place("one-name", "restic", "");
    place.write(
        "stack.yaml",
        format!(
            "services:\n  app:\n    image: {BASE}\n    command: {IDLE}\n    volumes: [\"db:/srv/uploads\"]\n{DATABASE}\
             volumes: {{ data: , db: }}\n"
        ),
    );
    place.write(
        "backup.sql",
        format!(
            "--\n-- PostgreSQL database dump\n--\n\n-- of {}\nCREATE TABLE public.ledger (id integer PRIMARY KEY);\n\
             INSERT INTO public.ledger SELECT generate_series(1, 100);\n--\n-- PostgreSQL database dump complete\n--\n\n",
            place.name()
        ),
    );
    place.write(
        "rehearsal.yaml",
        format!(
            "rehearsal: {}\nstack: stack.yaml\ntestplan: testplan.yaml\nrestore:\n  - volume: db\n    {RESTIC}\n  \
             - service: db\n    postgres: {{ dump: backup.sql, database: ledger }}\n    expect: {{ rows: {{ ledger: 100 }} }}\n\
             limits: {{ restore_jobs: 2 }}\n",
            place.name()
        ),
    );
    let ran = place.backup_check();
    ran.expect(0, Outcome::Passed, None).expect_nothing_left();
    for name in [
        "db: restores without errors",
        "db/ledger: restores without errors",
        "db/ledger: the row counts are exact",
    ] {
        assert_eq!(
            ran.case("restore", name).status,
            CaseStatus::Passed,
            "{name}"
        );
    }
    assert_eq!(ran.bases().len(), 2, "{:?}", ran.bases());
    forget_bases_of(ran.run());
}
