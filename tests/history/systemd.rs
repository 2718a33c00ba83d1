//! The units of `contrib/systemd`.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::common::*;

/// `systemd-analyze` reads the units as systemd would. Where there is none, this says so and proves nothing.
#[test]
#[expect(
    clippy::print_stderr,
    reason = "a proof that was not made has to be seen"
)]
fn systemd_takes_the_units() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/systemd");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&units).expect("the units are there") {
        let path = entry.expect("they can be listed").path();
        let text = std::fs::read_to_string(&path).expect("text");
        // What it starts is somewhere else here.
        let text = text.replace("/usr/local/bin/rehearse", env!("CARGO_BIN_EXE_rehearse"));
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a name");
        let instance = dir.path().join(name.replace("@.", "@site."));
        std::fs::write(&instance, text).expect("a file");
        files.push(instance);
    }
    assert!(files.len() >= 2, "{files:?}");
    let verify = |files: &[PathBuf]| {
        Command::new("systemd-analyze")
            .args(["verify", "--recursive-errors=no", "--man=no"])
            .args(files)
            .output()
    };
    match verify(&files) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("NOT PROVED: there is no systemd-analyze here to read contrib/systemd with");
        }
        Err(error) => panic!("systemd-analyze: {error}"),
        Ok(out) => {
            assert!(
                out.status.success() && out.stderr.is_empty(),
                "{}",
                both(&out)
            );
            // It can say no.
            let wrong = dir.path().join("wrong@site.service");
            std::fs::write(
                &wrong,
                "[Service]\nType=nonsense\nExecStart=/nowhere/at/all\n",
            )
            .expect("a file");
            let out = verify(&[wrong]).expect("it was there");
            assert!(
                !out.status.success() || !out.stderr.is_empty(),
                "it takes anything"
            );
        }
    }
}

/// What the units start must be what the program knows.
#[test]
fn the_unit_starts_what_the_program_knows() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("contrib/systemd/rehearse-backup-check@.service");
    let unit = std::fs::read_to_string(unit).expect("the unit is there");
    let start = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="))
        .expect("it starts something");
    let start = start
        .replace("%i", "site")
        .replace("$REHEARSE_OPTIONS", "--notify https://alerts.example.com/");
    let words = start.split_whitespace().map(Into::into);
    let parsed = rehearsal::cli::Cli::parse_or_usage(words);
    let Ok(rehearsal::cli::Cli {
        command: rehearsal::cli::Command::BackupCheck(arguments),
    }) = parsed
    else {
        panic!("{start}")
    };
    let telling = &arguments.telling;
    assert!(
        telling.metrics.is_some() && telling.notify.is_some(),
        "{start}"
    );
    assert!(unit.contains(&telling.notify_secret_env), "{unit}");
}
