//! Every exit code that a run can end with, one by one. 0 and 1 are the stories of `release.rs`, 130 is in `crash.rs`.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use rehearsal::engine::ExecSpec;
use rehearsal::event::{CaseStatus, Owner, Stage};
use rehearsal::verdict::{Outcome, Rollback};

use crate::backup::DATABASE;
use crate::bases::touch;
use crate::common::{BASE, IDLE, Live, Place, checkout, engine, forget_bases_of, rehearse};

const GOOD: &str = "\
package: small
components:
  - name: app
    steps: [{ name: look, service: app, run: echo deployed }]
";

/// Runs a command that ends at once, and returns its exit code and all that it said.
fn said(command: &mut Command) -> (Option<i32>, String) {
    let out = command.output().expect("the built program can be started");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    (
        out.status.code(),
        text + &String::from_utf8_lossy(&out.stderr),
    )
}

#[test]
fn usage_is_64_and_says_what_to_do() {
    let place = tempfile::tempdir().expect("a folder");
    let broken = place.path().join("broken.yaml");
    std::fs::write(
        &broken,
        "rehearsal: broken\nstack: nowhere.yaml\nspeed: 9\nrestore: [{ service: db }]\n",
    )
    .expect("a file");
    let broken = broken.to_str().expect("a plain path");
    let nowhere = place.path().join("nowhere.yaml");
    let nowhere = nowhere.to_str().expect("a plain path");
    let site = "rehearsals/site.yaml";
    let nothing = place.path().join("nothing.yaml");
    let stack = checkout().join("docker/site/compose.yaml");
    std::fs::write(
        &nothing,
        format!("rehearsal: nothing\nstack: {}\n", stack.display()),
    )
    .expect("a file");
    let nothing = nothing.to_str().expect("a plain path");
    for (arguments, words) in [
        (&["run"][..], &["REHEARSAL"][..]),
        (&["rehearse"], &["unrecognized subcommand"]),
        (&["run", site, "--keep", "sometimes"], &["on-failure"]),
        (&["run", nowhere], &["nowhere.yaml"]),
        (
            &["run", broken],
            &["broken.yaml:3:1", "`speed`", "broken.yaml:2:8"],
        ),
        (
            &["check", broken],
            &["broken.yaml:3:1", "`speed`", "broken.yaml:2:8"],
        ),
        (&["backup-check", broken], &["`speed`"]),
        (
            &["backup-check", nothing],
            &["restores no backup", "nothing could fail", "help:"],
        ),
        (
            &["run", site, "--package", nowhere],
            &["nowhere.yaml", "help:"],
        ),
        (&["gate", "--package", nowhere], &["nowhere.yaml", "help:"]),
        (
            &["gate", "--package", "packages/hotfix", "--max-age", "soon"],
            &["24h"],
        ),
        (
            &[
                "demo",
                "--dir",
                place.path().to_str().expect("a plain path"),
            ],
            &["help:"],
        ),
    ] {
        let (code, text) = said(rehearse().args(arguments));
        assert_eq!(code, Some(64), "{arguments:?}: {text}");
        for word in words {
            assert!(
                text.contains(word),
                "{arguments:?} does not say {word}: {text}"
            );
        }
    }
}

#[test]
fn help_teaches_with_examples_and_exit_codes() {
    let (code, text) = said(rehearse().arg("--help"));
    assert_eq!(code, Some(0));
    for word in ["rehearse run ", "rehearse gate", "130", "64", "DOCKER_HOST"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    for command in ["run", "backup-check", "gate", "check", "demo", "sweep"] {
        let (code, text) = said(rehearse().args([command, "--help"]));
        assert_eq!(code, Some(0), "{command}");
        assert!(text.contains("Usage: rehearse"), "{text}");
    }
}

#[test]
fn check_reads_the_whole_sample_without_an_engine() {
    use std::io::Write as _;
    let begun = std::time::Instant::now();
    let (code, text) = said(
        rehearse()
            .args([
                "check",
                "rehearsals/site.yaml",
                "packages/hotfix",
                "packages/site-2.4-runbook",
            ])
            .env("DOCKER_HOST", "tcp://127.0.0.1:1"),
    );
    let took = begun.elapsed();
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("3 services, 2 restores, 2 components"),
        "{text}"
    );
    // For the reader only; a time is no gate on a busy machine. (The test harness shows no output of tests that pass.)
    let _ = writeln!(
        std::io::stderr(),
        "rehearse check on the sample took {} ms (a release build must stay below 50 ms)",
        took.as_millis()
    );
}

/// An address at which nobody answers.
fn dead_end() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address");
    format!("tcp://{address}")
}

#[test]
fn without_an_engine_nothing_can_be_judged_and_the_remedy_is_said() {
    let place = tempfile::tempdir().expect("a folder");
    // The sample's backup may not have been made yet; the engine is asked before any backup is read.
    for host in [
        dead_end(),
        format!("unix://{}", place.path().join("no.sock").display()),
    ] {
        for command in ["run", "backup-check"] {
            let mut asked = rehearse();
            asked
                .arg(command)
                .arg(checkout().join("rehearsals/site.yaml"))
                .args(["--format", "json", "--report-dir"])
                .arg(place.path())
                .env("DOCKER_HOST", &host);
            let ran = Live::start(asked).finish();
            ran.expect(2, Outcome::Invalid, Some(Owner::Engine));
            let verdict = ran.verdict();
            assert_eq!(verdict.stage, Some(Stage::Preflight));
            assert!(verdict.reason.contains(&host), "{}", verdict.reason);
            let help = verdict.help.as_deref().unwrap_or_default();
            assert!(
                help.contains("DOCKER_HOST") && help.contains("start"),
                "{help}"
            );
            assert_eq!(verdict.rollback, Rollback::NotReached);
        }
        let (code, text) = said(rehearse().arg("sweep").env("DOCKER_HOST", &host));
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains("help:"), "{text}");
    }
}

#[test]
fn a_rollback_that_cannot_be_proved_has_a_code_of_its_own() {
    let place = Place::small("stuck", GOOD);
    place.write(
        "testplan.yaml",
        "testplan: small\ntests:\n  - name: the app answers\n    exec: { service: app, run: echo up }\n    \
         expect: { stdout: up }\n  - name: never true\n    when: [rollback]\n    \
         exec: { service: app, run: test -e /nowhere }\n    expect: { exit_code: 0 }\n",
    );
    let ran = place.run(&[]);
    ran.expect(3, Outcome::Passed, None);
    let Rollback::Stuck { reason } = &ran.verdict().rollback else {
        panic!("{:?}", ran.verdict());
    };
    assert!(reason.contains("never true"), "{reason}");
    let suite = format!("rollback.{}", "small");
    assert_eq!(ran.case(&suite, "never true").status, CaseStatus::Failed);
    ran.expect_nothing_left();
    // Beside the verdict, never instead of it, and no release goes through.
    assert_eq!(ran.record().exit_code, Some(3));
    let (code, text) = gate(&place);
    assert_eq!(code, Some(1), "{text}");
}

const WAITS: &str = "\
package: waits
components:
  - name: app
    steps: [{ name: wait, run: \"mkfifo /tmp/go; echo waiting; cat /tmp/go\" }]
";

/// A table over the size up to which rows are counted, and a small one.
const TABLES: &str = "--\n-- PostgreSQL database dump\n--\n\n\
    create table small as select n from generate_series(1, 7) n;\n\
    create table much as select n, repeat(md5(n::text), 30) as pad from generate_series(1, 80000) n;\n\n\
    --\n-- PostgreSQL database dump complete\n--\n\n";

#[test]
fn what_is_frozen_and_was_written_to_all_the_same_is_seen_by_the_rollback() {
    let place = Place::small("frozen", WAITS);
    place.write(
        "stack.yaml",
        format!(
            "services:\n  app: {{ image: \"{BASE}\", command: {IDLE}, volumes: [\"state:/srv/state\"] }}\n{DATABASE}\
             volumes: {{ state: , data: }}\n"
        ),
    );
    place.write("tables.sql", TABLES);
    place.rehearsal("restore: [{ service: db, postgres: { dump: tables.sql, database: much } }]\n");
    let mut live = Live::start(place.command("run", &place.path("rehearsal.yaml")));
    live.until_output("waiting");
    let name = |what: &str| format!("rehearse-{}-{what}", live.run());
    // What the baseline wrote is a layer of the snapshot now, on which the deploy and the rollback stand.
    touch(&name("baseline-state-own"), "echo new > /v/upper/planted");
    touch(
        &name("baseline-data-own"),
        "touch /v/upper/PG_VERSION.planted",
    );
    let go = ExecSpec {
        command: ["sh", "-c", "echo > /tmp/go"].map(str::to_owned).to_vec(),
        ..ExecSpec::default()
    };
    let bastion = name("bastion");
    engine(async |engine| engine.exec(&bastion, &go, |_| {}).await).expect("it goes on");
    let ran = live.finish();
    ran.expect(3, Outcome::Passed, None);
    let case = ran.case(
        "rollback",
        "files, schema, row counts and sequences are as at the snapshot",
    );
    assert_eq!(case.status, CaseStatus::Failed);
    let differs: Vec<&str> = case
        .mismatches
        .iter()
        .map(|wrong| wrong.what.as_str())
        .collect();
    assert_eq!(differs, ["volume data", "volume state"]);
    let prints = &ran.record().fingerprints["snapshot"];
    assert_eq!(prints["rows of db/much public.small"], "7");
    assert_eq!(prints["rows of db/much public.much"], "large");
    assert!(prints["volume data"].starts_with("outline sha256:"));
    assert!(prints["volume state"].starts_with("sha256:"));
    ran.expect_nothing_left();
    forget_bases_of(ran.run());
}

fn gate(place: &Place) -> (Option<i32>, String) {
    said(
        rehearse()
            .args(["gate", "--package"])
            .arg(place.path("package"))
            .arg("--report-dir")
            .arg(place.path("reports")),
    )
}

#[test]
fn a_rollback_over_its_limit_is_stuck() {
    let place = Place::small("late", GOOD);
    // It is healthy only after a second, so half a second cannot be met.
    let stack = std::fs::read_to_string(place.path("stack.yaml")).expect("the stack");
    let slow = "healthcheck: { test: [CMD, \"true\"], interval: 1s }\n    environment:";
    place.write("stack.yaml", stack.replace("environment:", slow));
    place.rehearsal("limits: { rollback: 500ms }\n");
    let ran = place.run(&[]);
    ran.expect(3, Outcome::Passed, None);
    let Rollback::Stuck { reason } = &ran.verdict().rollback else {
        panic!("{:?}", ran.verdict());
    };
    assert!(reason.contains("limits.rollback"), "{reason}");
    ran.expect_nothing_left();
}

#[test]
fn the_engine_is_reached_over_tcp_too() {
    let place = Place::small("tcp", GOOD);
    let Some(socket) = crate::common::socket() else {
        // DOCKER_HOST already names something else than a socket, so all the other tests show this.
        return;
    };
    let proxy = crate::common::TcpProxy::to(Path::new(&socket));
    let mut command = place.command("run", &place.path("rehearsal.yaml"));
    command.env("DOCKER_HOST", proxy.host());
    Live::start(command).finish().expect_passed();
}
