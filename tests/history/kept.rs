//! What the history keeps, and what is in its way.

use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;

use rehearsal::history::History;
use rehearsal::report::record::Record;
use rehearsal::verdict::Outcome;
use serde_json::Value;

use super::common::*;

#[test]
fn an_empty_history_says_so() {
    let place = Place::new();
    assert!(place.told(&[]).contains("no run has been recorded"));
    assert!(
        place
            .told(&["rehearsal.yaml"])
            .contains("no run has been recorded")
    );
    assert_eq!(
        place.told(&["--format", "json"]),
        "{\"history\":1,\"runs\":[]}\n"
    );
    assert!(!place.path(".rehearse").exists(), "asking makes nothing");
    for wrong in [
        &["nowhere.yaml"][..],
        &["--since", "yesterday"],
        &["--mode", "x"],
    ] {
        let out = place
            .rehearse(&["history"])
            .args(wrong)
            .output()
            .expect("it starts");
        assert_eq!(out.status.code(), Some(64), "{wrong:?}: {}", both(&out));
    }
}

#[test]
fn runs_are_told_for_people_and_for_machines() {
    let place = Place::new();
    place.check(&[]);
    place.newest_passed();
    place.check(&[]);
    let told = place.told(&["rehearsal.yaml"]);
    for wanted in [
        "small · 2 runs, newest first",
        "backup-check  passed",
        "backup-check  invalid",
        "engine: ",
    ] {
        assert!(told.contains(wanted), "{wanted}: {told}");
    }
    assert!(
        !told.contains('\u{1b}'),
        "colours are for terminals: {told:?}"
    );
    assert!(told.find("invalid") < told.find("passed"), "{told}");

    let json: Value =
        serde_json::from_str(&place.told(&["small", "--format", "json"])).expect("JSON");
    assert_eq!(json["history"], 1);
    let runs = json["runs"].as_array().expect("a list");
    assert_eq!(runs.len(), 2);
    let newest = &runs[0];
    for (key, wanted) in [
        ("verdict", Value::from("invalid")),
        ("state", "finished".into()),
        ("owner", "engine".into()),
        ("mode", "backup-check".into()),
        ("exit_code", 2.into()),
        ("assisted", false.into()),
        ("notified", Value::Null),
        ("backups", Value::Array(Vec::new())),
    ] {
        assert_eq!(newest[key], wanted, "{key}");
    }
    assert_eq!(runs[1]["verdict"], "passed");

    assert!(place.told(&["--limit", "1"]).contains("1 run,"));
    assert!(
        place
            .told(&["--mode", "rehearse"])
            .contains("no run is like that")
    );
    assert!(
        place
            .told(&["--since", "2999-01-01"])
            .contains("no run is like that")
    );
    assert!(place.told(&["--since", "1h"]).contains("2 runs"));
    let other = place.told(&["smal"]);
    assert!(
        other.contains("no run of `smal`") && other.contains("`small`"),
        "{other}"
    );
}

/// An engine that takes connections and never says a word: the run hangs until it is killed.
#[test]
fn a_killed_run_is_shown_as_died_and_the_others_stay() {
    let place = Place::new();
    place.check(&[]);
    let deaf = TcpListener::bind("127.0.0.1:0").expect("a port");
    let host = format!("tcp://{}", deaf.local_addr().expect("an address"));
    let mut child = place
        .rehearse(&["backup-check", "rehearsal.yaml"])
        .env("DOCKER_HOST", host)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    // Once it asks the engine, its start has been recorded.
    let _asked = deaf.accept().expect("it asks the engine");
    let told = place.told(&[]);
    assert!(told.contains("running"), "{told}");
    child.kill().expect("it is there");
    child.wait().expect("it is ours");

    let told = place.told(&[]);
    assert!(
        told.contains("died") && told.contains("2 runs") && !told.contains("running"),
        "{told}"
    );
    assert!(told.contains("invalid"), "{told}");
    place.check(&[]);
    let outcomes: Vec<_> = place
        .entries()
        .into_iter()
        .map(|entry| entry.outcome)
        .collect();
    assert_eq!(
        outcomes,
        [Some(Outcome::Invalid), None, Some(Outcome::Invalid)]
    );
}

#[test]
fn runs_at_once_are_both_recorded() {
    let place = Place::new();
    let runs: Vec<_> = (0..4)
        .map(|_| {
            let mut command = place.rehearse(&["backup-check", "rehearsal.yaml"]);
            command.stdout(Stdio::null()).stderr(Stdio::piped());
            command.spawn().expect("it starts")
        })
        .collect();
    for run in runs {
        let out = run.wait_with_output().expect("it is ours");
        assert_eq!(out.status.code(), Some(2), "{}", both(&out));
        assert!(!both(&out).contains("history"), "{}", both(&out));
    }
    let entries = place.entries();
    assert_eq!(entries.len(), 4);
    assert!(
        entries
            .iter()
            .all(|entry| entry.outcome == Some(Outcome::Invalid))
    );
}

#[test]
fn a_damaged_history_is_a_loud_warning_and_no_verdict() {
    let place = Place::new();
    std::fs::create_dir(place.path(".rehearse")).expect("a folder");
    let damaged = "no database, and long enough to have a header ".repeat(9);
    std::fs::write(place.history(), &damaged).expect("a file");
    // Not passed, and nobody can say what was before: whoever is to be told is told.
    let (out, got) = receiving(&["204 No Content"], |url| {
        place.check(&["--notify", url, "--metrics", "m.prom"])
    });
    let said = both(&out);
    assert!(
        said.contains("warning") && said.contains("history.sqlite"),
        "{said}"
    );
    assert!(said.contains("its verdict stands"), "{said}");
    assert_eq!(said.matches("its verdict stands").count(), 1, "{said}");
    assert_eq!(got[0].message()["previous"], Value::Null);
    let metrics = std::fs::read_to_string(place.path("m.prom")).expect("metrics");
    assert!(
        metrics.contains("outcome=\"invalid\"} 1\n") && !metrics.contains("last_passed"),
        "{metrics}"
    );
    assert_eq!(
        std::fs::read_to_string(place.history()).expect("as it was"),
        damaged
    );

    let out = place.rehearse(&["history"]).output().expect("it starts");
    assert_eq!(out.status.code(), Some(2), "{}", both(&out));
    assert!(both(&out).contains("not a database"), "{}", both(&out));
}

/// Each of these is in the way in its own manner; none of them may touch the verdict.
#[test]
fn a_history_that_cannot_be_written_is_said_with_its_remedy() {
    type InTheWay = fn(&Path);
    let cases: [(InTheWay, &str); 4] = [
        (
            |path| std::fs::create_dir(path).expect("a folder"),
            "make it and its folder writable",
        ),
        (
            |path| drop(symlink("/nowhere/history.sqlite", path)),
            "make it and its folder writable",
        ),
        (
            |path| {
                drop(History::open(path).expect("a new one"));
                let db = rusqlite::Connection::open(path).expect("a database");
                db.pragma_update(None, "user_version", 99)
                    .expect("it is ours");
            },
            "use that version of rehearse",
        ),
        (
            |path| {
                let db = rusqlite::Connection::open(path).expect("a database");
                db.execute_batch("CREATE TABLE songs (title)")
                    .expect("it is ours");
            },
            "not a history of rehearse",
        ),
    ];
    for (in_the_way, remedy) in cases {
        let place = Place::new();
        std::fs::create_dir(place.path(".rehearse")).expect("a folder");
        in_the_way(&place.history());
        let out = place.check(&[]);
        let said = both(&out);
        assert!(
            said.contains("its verdict stands") && said.contains(remedy),
            "{remedy}: {said}"
        );
        let runs = std::fs::read_dir(place.path(".rehearse/runs")).expect("the runs");
        for run in runs {
            let dir = run.expect("it can be listed").path();
            let record = Record::read(&dir).expect("its record");
            assert_eq!(record.exit_code, Some(2), "{said}");
        }
    }
}
