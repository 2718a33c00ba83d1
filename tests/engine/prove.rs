//! The negative control: damaged copies that a check sees, and one that it cannot see.

use rehearsal::event::{CaseStatus, Owner, Stage};
use rehearsal::verdict::Outcome;

use crate::common::{Live, Place, Ran, checkout};

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
            crate::common::BASE,
            crate::common::IDLE
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
                crate::common::BASE
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
    ran.expect_nothing_left();
}
