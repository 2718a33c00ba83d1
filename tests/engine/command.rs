//! Backups of forms that only their own commands know.

use rehearsal::event::{CaseStatus, Owner, Stage};
use rehearsal::verdict::Outcome;

use crate::common::{BASE, IDLE, Place, forget_bases_of};

/// Joins parts, checks what they give, and unpacks it.
const JOIN: &str = "cat \"$REHEARSE_BACKUP\"/part.* > /tmp/all\\n      (cd \"$REHEARSE_BACKUP\" && sha256sum -c --status sum)\\n      tar -xf /tmp/all";

fn place(test: &str, restore: &str) -> Place {
    let place = Place::new(test);
    place.write(
        "stack.yaml",
        format!(
            "services:\n  app:\n    image: {BASE}\n    command: {IDLE}\n    volumes: [\"files:/srv/files\"]\nvolumes: {{ files: }}\n"
        ),
    );
    place.write(
        "rehearsal.yaml",
        format!(
            "rehearsal: {}\nstack: stack.yaml\ntestplan: testplan.yaml\nrestore:\n{restore}",
            place.name()
        ),
    );
    place.write(
        "testplan.yaml",
        "testplan: files\ntests:\n  - { name: content, exec: { service: app, run: cat /srv/files/figures.txt }, expect: { stdout: the figures } }\n",
    );
    place
}

/// A tar in parts of 700 bytes, and the digest of each.
fn parts(place: &Place) {
    let mut tar = tar::Builder::new(Vec::new());
    let content = format!("the figures of {}\n", place.name());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "figures.txt", content.as_bytes())
        .expect("memory");
    let tar = tar.into_inner().expect("memory");
    let mut sums = String::new();
    for (index, part) in tar.chunks(700).enumerate() {
        let name = format!("part.{index}");
        place.write(&format!("parts/{name}"), part);
        let digest = rehearsal::digest::sha256(part);
        sums.push_str(&format!(
            "{}  {name}\n",
            digest.trim_start_matches("sha256:")
        ));
    }
    place.write("parts/sum", sums);
}

#[test]
fn a_command_fills_a_volume_and_says_when_it_cannot() {
    let restore = format!(
        "  - volume: files\n    command:\n      backup: parts\n      image: {BASE}\n      run: |\n        {}\n",
        JOIN.replace("\\n      ", "\n        ")
    );
    let place = place("command-volume", &restore);
    parts(&place);
    let ran = place.backup_check();
    ran.expect(0, Outcome::Passed, None).expect_nothing_left();
    let case = ran.case("restore", "files: restores without errors");
    assert_eq!(case.status, CaseStatus::Passed);
    forget_bases_of(ran.run());

    let first = std::fs::read(place.path("parts/part.0")).expect("it was made");
    let mut flipped = first.clone();
    flipped[600] ^= 1;
    for (what, content) in [
        ("cut", Some(first[..300].to_vec())),
        ("empty", Some(Vec::new())),
        ("flipped", Some(flipped)),
        ("something else", Some(vec![b'x'; 700])),
        ("garbage behind", Some([first.as_slice(), b"x"].concat())),
        ("missing", None),
    ] {
        parts(&place);
        match content {
            Some(content) => drop(place.write("parts/part.0", content)),
            None => std::fs::remove_file(place.path("parts/part.0")).expect("it is there"),
        }
        let ran = place.backup_check();
        let verdict = ran.verdict();
        assert_eq!(
            (ran.code, verdict.owner),
            (Some(1), Some(Owner::Backup)),
            "{what}: {verdict:?}"
        );
        ran.expect_nothing_left();
    }

    // Nothing written is nothing restored; the other ways to go wrong are not the backup's.
    parts(&place);
    let rehearsal = std::fs::read_to_string(place.path("rehearsal.yaml")).expect("it was written");
    for (run, code, owner, word) in [
        ("true", 1, Owner::Backup, "left nothing"),
        (
            "echo no such volume >&2; exit 3",
            1,
            Owner::Backup,
            "no such volume",
        ),
        ("cat", 1, Owner::Backup, "left nothing"),
        ("no-such-tool", 2, Owner::Stack, "no-such-tool"),
        (
            "echo x > \"$REHEARSE_BACKUP/part.0\"",
            1,
            Owner::Backup,
            "Read-only",
        ),
    ] {
        let (head, _) = rehearsal.split_once("run: |").expect("it was written");
        place.write("rehearsal.yaml", format!("{head}run: '{run}'\n"));
        let ran = place.backup_check();
        let verdict = ran.verdict();
        assert_eq!(
            (ran.code, verdict.owner),
            (Some(code), Some(owner)),
            "{run}: {verdict:?}"
        );
        assert!(verdict.reason.contains(word), "{run}: {}", verdict.reason);
        assert_eq!(verdict.stage, Some(Stage::Restore));
    }
}

#[test]
fn what_a_command_said_before_a_flood_is_judged() {
    let flood = "head -c 3000000 /dev/zero | tr \\0 x | fold -w 1000 >&2; exit 1";
    let place = place("command-flood", "");
    place.write("figures", "the figures");
    for (first, code, owner, word) in [
        (
            "cp: write failed: No space left on device",
            2,
            Owner::Engine,
            "no space is left",
        ),
        (
            "error: the figures are torn",
            1,
            Owner::Backup,
            "the figures are torn",
        ),
    ] {
        place.write(
            "rehearsal.yaml",
            format!(
                "rehearsal: {}\nstack: stack.yaml\ntestplan: testplan.yaml\nrestore:\n  - volume: files\n    \
                 command:\n      backup: figures\n      image: {BASE}\n      run: |\n        echo '{first}' >&2\n        {flood}\n",
                place.name()
            ),
        );
        let ran = place.backup_check();
        let verdict = ran.verdict();
        assert_eq!(
            (ran.code, verdict.owner),
            (Some(code), Some(owner)),
            "{first}: {verdict:?}"
        );
        assert!(verdict.reason.contains(word), "{}", verdict.reason);
        ran.expect_nothing_left();
    }
}

#[test]
fn a_command_runs_in_the_service_that_it_restores() {
    let place = place(
        "command-service",
        "  - service: app\n    command: { backup: figures, run: 'cp \"$REHEARSE_BACKUP\" /srv/files/figures.txt; test -d /proc/1' }\n",
    );
    place.write("figures", format!("the figures of {}\n", place.name()));
    let ran = place.backup_check();
    ran.expect(0, Outcome::Passed, None).expect_nothing_left();
    let case = ran.case("restore", "app: the server starts and recovers");
    assert_eq!(case.status, CaseStatus::Passed);
    forget_bases_of(ran.run());
    let rehearsal = std::fs::read_to_string(place.path("rehearsal.yaml")).expect("it was written");
    for (run, word) in [("exit 7", "exit code 7"), ("true", "are empty")] {
        let (head, _) = rehearsal.split_once("run: '").expect("it was written");
        place.write("rehearsal.yaml", format!("{head}run: '{run}' }}\n"));
        let ran = place.backup_check();
        ran.expect(1, Outcome::Failed, Some(Owner::Backup));
        let reason = ran.reason(Stage::Restore);
        assert!(reason.contains(word), "{run}: {reason}");
        ran.expect_nothing_left();
    }
}

#[test]
fn a_service_that_makes_its_own_data_is_not_taken_for_restored() {
    let place = place(
        "command-own",
        "  - service: app\n    command: { backup: figures, run: 'test -r \"$REHEARSE_BACKUP\"' }\n",
    );
    place.write(
        "stack.yaml",
        format!(
            "services:\n  app:\n    image: {BASE}\n    command: {}\n    volumes: [\"files:/srv/files\"]\nvolumes: {{ files: }}\n",
            IDLE.replace("echo ready", "echo ready >> /srv/files/own")
        ),
    );
    place.write("figures", format!("the figures of {}\n", place.name()));
    let ran = place.backup_check();
    let verdict = ran.verdict();
    assert_eq!(
        (ran.code, verdict.stage),
        (Some(2), Some(Stage::Baseline)),
        "{verdict:?}"
    );
    assert_eq!(
        ran.case("baseline.files", "content").status,
        CaseStatus::Failed
    );
    ran.expect_nothing_left();
    forget_bases_of(ran.run());

    // Where no test would look, nothing is run at all.
    let rehearsal = std::fs::read_to_string(place.path("rehearsal.yaml")).expect("it was written");
    place.write(
        "rehearsal.yaml",
        rehearsal.replace("testplan: testplan.yaml\n", ""),
    );
    let mut command = place.command("backup-check", &place.path("rehearsal.yaml"));
    let out = command.output().expect("the built program can be started");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(64), "{said}");
    let word = "nothing would look at what the command restored into `app`";
    assert!(said.contains(word), "{said}");
}

#[test]
fn nothing_shows_that_what_only_a_command_knows_is_whole() {
    let restore = format!(
        "  - volume: files\n    command:\n      backup: figures\n      image: {BASE}\n      \
         run: cp \"$REHEARSE_BACKUP\" figures.txt\n"
    );
    let place = place("command-whole", &restore);
    place.write("figures", "the figures\n");
    let ran = place.backup_check();
    ran.expect(0, Outcome::Passed, None).expect_nothing_left();
    let case = ran.case("preflight", "files: the backup is whole");
    assert_eq!(case.status, CaseStatus::Skipped, "{case:?}");
    let said = case.message.clone().unwrap_or_default();
    assert!(
        said.contains("cannot be seen: it may be anything"),
        "{said}"
    );
    forget_bases_of(ran.run());

    let rehearsal = std::fs::read_to_string(place.path("rehearsal.yaml")).expect("it was written");
    place.write(
        "rehearsal.yaml",
        format!("{rehearsal}    require: [complete]\n"),
    );
    let ran = place.backup_check();
    ran.expect(2, Outcome::Invalid, Some(Owner::Staging));
    let case = ran.case("preflight", "files: the backup is whole");
    assert_eq!(case.status, CaseStatus::Error, "{case:?}");
    let reason = ran.reason(Stage::Preflight);
    assert!(reason.contains("`require:` names complete"), "{reason}");
}
