//! Stagings that are left up: found, looked into, tried again in, removed.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use jiff::{SignedDuration, Timestamp};
use rehearsal::engine::{Labels, Resource};
use rehearsal::event::{CaseStatus, EventKind, Owner, Stage, StageOutcome};
use rehearsal::report::record::Record;
use rehearsal::verdict::Outcome;
use rustix::process::Signal;

use crate::common::{Live, Place, Ran, Turn, engine, left_of, rehearse};

/// The state says whether a deploy was there before: on the snapshot it was not.
const BAD: &str = "\
package: release
version: 1.0.0
components:
  - name: app
    steps:
      - { name: write, service: app, run: 'test ! -e /srv/state/deployed; echo 1 > /srv/state/deployed; echo written' }
      - { name: fail, run: 'echo it is broken; exit 7' }
";

pub(crate) const MENDED: &str = "\
package: release
version: 1.0.1
components:
  - name: app
    steps:
      - { name: write, service: app, run: 'test ! -e /srv/state/deployed; echo 2 > /srv/state/deployed; echo written' }
      - { name: look, run: 'test -e /package/deploy.yaml; echo mended' }
";

pub(crate) fn place(test: &str) -> Place {
    let place = Place::with(test, Turn::shared()).made_small(BAD);
    place.write(
        "testplan.yaml",
        "testplan: small\ntests:\n  - name: the app answers\n    exec: { service: app, run: cat /etc/hostname }\n    \
         expect: { same_as: baseline }\n  - name: nothing else was written\n    when: [verify]\n    \
         exec: { service: app, run: ls /srv/state }\n    expect: { stdout: { equals: deployed } }\n",
    );
    // A container's name is its own in each generation; this one is not.
    place.write(
        "stack.yaml",
        std::fs::read_to_string(place.path("stack.yaml"))
            .expect("it was written")
            .replace("    environment:", "    hostname: app\n    environment:"),
    );
    place
}

/// Whatever a test leaves is removed, also when it fails.
pub(crate) struct Tidy(pub(crate) Vec<String>);

impl Drop for Tidy {
    fn drop(&mut self) {
        for run in &self.0 {
            let _ = engine(async |engine| engine.remove_run(run).await);
        }
    }
}

pub(crate) fn kept(place: &Place, more: &[&str]) -> (Ran, Tidy) {
    let ran = place.run(&[&["--keep", "on-failure"], more].concat());
    let tidy = Tidy(vec![ran.run().to_owned()]);
    ran.expect(1, Outcome::Failed, Some(Owner::Package));
    (ran, tidy)
}

pub(crate) fn command(place: &Place, arguments: &[&str]) -> Command {
    let (name, rest) = arguments.split_first().expect("a command");
    let mut made = rehearse();
    made.arg(name)
        .arg("--report-dir")
        .arg(place.path("reports"))
        .args(rest);
    made
}

fn say(place: &Place, arguments: &[&str]) -> (Option<i32>, String) {
    let out: Output = command(place, arguments).output().expect("it starts");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    (
        out.status.code(),
        text + &String::from_utf8_lossy(&out.stderr),
    )
}

#[track_caller]
fn expect(place: &Place, arguments: &[&str], code: i32, words: &[&str]) -> String {
    let (seen, text) = say(place, arguments);
    assert_eq!(seen, Some(code), "{arguments:?}: {text}");
    for word in words {
        assert!(text.contains(word), "{arguments:?}: no `{word}` in {text}");
    }
    text
}

pub(crate) fn retry(place: &Place, run: &str, more: &[&str]) -> Ran {
    let mut made = command(place, &["retry", "--format", "json", run]);
    made.args(more);
    Live::start(made).finish()
}

fn gate(place: &Place, package: &Path) -> (Option<i32>, String) {
    let package = package.to_str().expect("a plain path");
    say(place, &["gate", "--package", package])
}

pub(crate) fn package(place: &Place, folder: &str, content: &str) -> PathBuf {
    place.write(&format!("{folder}/deploy.yaml"), content);
    place.path(folder)
}

#[track_caller]
pub(crate) fn expect_taken_over(ran: &Ran, from: &Ran) {
    let record = ran.record();
    let taken = record.taken_over.expect("it says so");
    assert_eq!(taken.run, from.run());
    assert!(!record.assisted && !record.verdict.assisted);
    for stage in [
        Stage::Preflight,
        Stage::Provision,
        Stage::Isolate,
        Stage::Restore,
        Stage::Baseline,
        Stage::Snapshot,
    ] {
        assert_eq!(ran.stage(stage), Some(&StageOutcome::Ok), "{stage}");
    }
    let equal = ran.case("snapshot", "the frozen files are as at the kept snapshot");
    assert_eq!(equal.status, CaseStatus::Passed);
}

#[test]
fn a_failed_run_is_kept_looked_into_and_tried_again_until_it_passes() {
    let place = place("kept");
    let (ran, _tidy) = kept(&place, &[]);
    let run = ran.run().to_owned();

    expect(
        &place,
        &["ls"],
        0,
        &[&run, "release 1.0.0", "failed", "kept until"],
    );
    expect(&place, &["show", &run], 0, &["FAILED", "it is broken"]);
    let shown = expect(&place, &["show", "latest", "--format", "json"], 0, &[]);
    let shown: Record = serde_json::from_str(&shown).expect("a record");
    assert_eq!(shown, ran.record());
    expect(&place, &["logs", &run, "app/fail"], 0, &["it is broken"]);
    expect(
        &place,
        &["logs", &run, "app"],
        0,
        &["==> deploy-app <==", "ready"],
    );
    expect(&place, &["logs", &run], 0, &["app/fail\n", "app\n"]);
    expect(&place, &["logs", &run, "nobody"], 64, &["app/fail"]);
    expect(&place, &["logs", "no-such-run", "app"], 64, &[&run]);

    // The same package again: the same verdict, of a run of its own, and what was deployed before is not there.
    let again = retry(&place, &run, &[]);
    again.expect(1, Outcome::Failed, Some(Owner::Package));
    expect_taken_over(&again, &ran);
    assert_eq!(again.output_of("app/write"), ["written"]);
    assert_eq!(again.verdict().stage, ran.verdict().stage);
    assert_ne!(again.run(), run);
    expect(
        &place,
        &["ls"],
        0,
        &[&format!("taken over by {}", again.run())],
    );
    expect(
        &place,
        &["open", &run, "app", "--", "true"],
        2,
        &[again.run()],
    );

    // A shell: the run is marked, the next one is not.
    let opened = command(&place, &["open", again.run(), "app", "--", "sh", "-c"])
        .arg("cat /srv/state/deployed; touch /srv/state/by-hand; exit 5")
        .output()
        .expect("it starts");
    assert_eq!(opened.status.code(), Some(5), "the command's own exit code");
    assert_eq!(String::from_utf8_lossy(&opened.stdout), "1\n");
    let marked = again.record();
    assert!(marked.assisted && marked.verdict.assisted);
    expect(&place, &["show", again.run()], 0, &["ASSISTED"]);
    expect(&place, &["ls"], 0, &["failed, assisted"]);
    expect(
        &place,
        &[
            "open",
            again.run(),
            "bastion",
            "--",
            "sh",
            "-c",
            "cat /package/deploy.yaml && ! touch /package/x",
        ],
        0,
        &["it is broken"],
    );

    let mended = package(&place, "mended", MENDED);
    assert_eq!(gate(&place, &mended).0, Some(2));
    let good = retry(
        &place,
        again.run(),
        &[
            "--package",
            mended.to_str().expect("plain"),
            "--keep",
            "always",
        ],
    );
    good.expect(0, Outcome::Passed, None);
    expect_taken_over(&good, &again);
    assert_eq!(good.output_of("app/look"), ["mended"]);
    let (code, said) = gate(&place, &mended);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(good.run()), "{said}");
    let print = good.record().fingerprints;
    assert_eq!(print["snapshot"], ran.record().fingerprints["snapshot"]);
    assert_eq!(print["snapshot"], print["rollback"]);

    // A passed run in which somebody had a shell is no pass any more.
    expect(
        &place,
        &["open", good.run(), "app", "--", "true"],
        0,
        &["marked as assisted"],
    );
    let (code, said) = gate(&place, &mended);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("assisted"), "{said}");
    // Also where somebody writes the record again.
    let path = good.dir().join("record.json");
    let text = std::fs::read_to_string(&path).expect("the record");
    std::fs::write(
        &path,
        text.replace("\"assisted\": true", "\"assisted\": false"),
    )
    .expect("written");
    assert_eq!(gate(&place, &mended).0, Some(1));

    expect(
        &place,
        &["down", good.run()],
        0,
        &["removed container", "removed volume", "removed network"],
    );
    assert_eq!(left_of(&run), []);
    expect(
        &place,
        &["retry", good.run()],
        2,
        &["not in this engine", "anew"],
    );
    expect(&place, &["open", good.run(), "app"], 2, &["nothing of run"]);
    expect(&place, &["down", &run], 2, &["nothing of run"]);
    expect(&place, &["ls"], 0, &["was kept, removed"]);
}

#[test]
fn what_changed_since_is_not_tried_again() {
    let place = place("changed");
    let (ran, _tidy) = kept(&place, &[]);
    let runs = || {
        std::fs::read_dir(place.path("reports/runs"))
            .expect("runs")
            .count()
    };
    let before = runs();
    let testplan = std::fs::read_to_string(place.path("testplan.yaml")).expect("the test plan");
    place.write(
        "testplan.yaml",
        testplan.replace("equals: deployed", "equals: anything"),
    );
    expect(
        &place,
        &["retry", ran.run()],
        2,
        &["the testplan", "changed", "anew"],
    );
    assert_eq!(runs(), before, "nothing is on record of it");
    place.write("testplan.yaml", testplan);

    // One of the frozen volumes is gone: nobody can come back to that snapshot.
    let volume = engine(async |engine| {
        let all = engine
            .resources_of(ran.run())
            .await
            .expect("the engine answers");
        let own = all.into_iter().find_map(|resource| match resource {
            Resource::Volume(name) if name.contains("-baseline-") && name.ends_with("-own") => {
                Some(name)
            }
            _ => None,
        });
        let own = own.expect("a frozen layer");
        for container in engine.resources_of(ran.run()).await.expect("it answers") {
            if let Resource::Container(name) = container {
                engine.remove_container(&name).await.expect("removed");
            }
        }
        engine.remove_volume(&own).await.expect("removed");
        own
    });
    expect(&place, &["retry", ran.run()], 2, &[&volume, "is gone"]);
    // Not all: others work in this engine.
    expect(&place, &["down", ran.run()], 0, &["removed volume"]);
    assert_eq!(left_of(ran.run()), []);
}

#[test]
fn an_interrupted_retry_can_be_tried_again_and_nobody_works_beside_it() {
    let place = place("interrupted");
    let (ran, _tidy) = kept(&place, &["--keep-for", "2h"]);
    let waits = package(
        &place,
        "waits",
        "package: waits\ncomponents:\n  - name: app\n    steps: [{ name: wait, run: 'echo waiting; sleep 86400' }]\n",
    );
    let mut made = command(&place, &["retry", "--format", "json", ran.run()]);
    made.arg("--package").arg(&waits);
    let mut live = Live::start(made);
    live.until_output("waiting");
    for (arguments, word) in [
        (vec!["retry", ran.run()], "at work"),
        (vec!["open", ran.run(), "app", "--", "true"], "at work"),
        (vec!["down", ran.run()], "goes on"),
    ] {
        expect(&place, &arguments, 2, &[word, "staging of"]);
    }
    assert!(!ran.record().assisted, "no shell, no mark");
    live.signal(Signal::INT);
    let broken = live.finish();
    broken.expect(130, Outcome::Invalid, None);
    let record = broken.record();
    let expires = record.kept.expect("it is kept").expires;
    let first = ran.record().kept.expect("it was kept").expires;
    assert_eq!(expires, first, "a retry extends nothing");

    // A killed one leaves its right to nobody.
    let mut made = command(&place, &["retry", "--format", "json", broken.run()]);
    made.arg("--package").arg(&waits);
    let mut live = Live::start(made);
    live.until_output("waiting");
    live.signal(Signal::KILL);
    live.finish();
    let mended = package(&place, "mended", MENDED);
    let good = retry(
        &place,
        ran.run(),
        &["--package", mended.to_str().expect("plain")],
    );
    good.expect(0, Outcome::Passed, None);
    expect_taken_over(&good, &ran);
    // It passed, and only a failure was to be kept.
    assert_eq!(left_of(ran.run()), []);
}

#[test]
fn a_staging_whose_time_is_over_is_swept() {
    let place = Place::with("expired", Turn::alone()).made_small(BAD);
    let (ran, _tidy) = kept(&place, &["--keep-for", "1s"]);
    let kept = ran.record().kept.expect("it was kept");
    // Nothing tells that a time is over but the time.
    let left = kept.expires.duration_since(Timestamp::now());
    std::thread::sleep(left.unsigned_abs() + std::time::Duration::from_millis(10));
    // Anybody's sweep may have been faster.
    expect(
        &place,
        &["retry", ran.run()],
        2,
        &["the staging of run", "anew"],
    );
    expect(
        &place,
        &["open", ran.run(), "app", "--", "true"],
        2,
        &["run"],
    );
    assert!(!ran.record().assisted);
    let out = rehearse().arg("sweep").output().expect("it starts");
    assert!(out.status.success());
    assert_eq!(left_of(ran.run()), []);
}

#[test]
fn a_run_that_goes_on_has_no_shell_for_anybody() {
    let place = Place::small(
        "goes-on",
        "package: waits\ncomponents:\n  - name: app\n    steps: [{ name: wait, run: 'echo waiting; sleep 86400' }]\n",
    );
    let mut live = Live::start(place.command("run", &place.path("rehearsal.yaml")));
    live.until_output("waiting");
    let run = live.run().to_owned();
    expect(&place, &["ls"], 0, &[&run, "running"]);
    expect(
        &place,
        &["open", &run, "bastion", "--", "true"],
        2,
        &["still running"],
    );
    expect(&place, &["down", &run], 2, &["goes on"]);
    live.signal(Signal::INT);
    let ran = live.finish();
    assert!(!ran.dir().join("assisted.json").exists());
    ran.expect_nothing_left();
}

#[test]
fn stagings_are_found_without_their_reports_and_runs_without_an_engine() {
    let place = Place::with("elsewhere", Turn::shared()).made_small(BAD);
    let name = format!("{}-20260101-000000-0000", place.name());
    let now = Timestamp::now();
    let until = now + SignedDuration::from_hours(1);
    let labels = Labels::new(&name, "elsewhere", now, until);
    let _tidy = Tidy(vec![name.clone()]);
    engine(async |engine| engine.keep_run(&labels, &name, until).await).expect("marked");
    expect(&place, &["ls"], 0, &[&name, "elsewhere", "kept until"]);
    let text = expect(&place, &["ls", "--format", "json"], 0, &[]);
    let listed: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let runs = listed["runs"].as_array().expect("runs");
    let found = runs
        .iter()
        .find(|run| run["run"] == *name)
        .expect("it is listed");
    assert_eq!(found["staging"], "kept");
    let out = command(&place, &["ls"])
        .env("DOCKER_HOST", "tcp://127.0.0.1:1")
        .output()
        .expect("it starts");
    assert!(out.status.success());
    assert!(String::from_utf8_lossy(&out.stderr).contains("not known"));
    // It is not one of these reports, so `latest` is not the word for it.
    expect(&place, &["down", "latest"], 64, &["there is no run yet"]);
    expect(&place, &["down", &name], 0, &["removed volume"]);
    assert_eq!(left_of(&name), []);
}

#[test]
fn a_terminal_is_one_for_the_shell_too() {
    let place = Place::with("terminal", Turn::shared()).made_small(BAD);
    let (ran, _tidy) = kept(&place, &[]);
    let open = command(&place, &["open", ran.run(), "app"]);
    let words: Vec<String> = std::iter::once(open.get_program())
        .chain(open.get_args())
        .map(|word| format!("'{}'", word.to_str().expect("plain")))
        .collect();
    // `script` gives it a terminal of its own; what is typed comes from here.
    let mut script = Command::new("script");
    script.args(["-q", "-e", "-c", &words.join(" "), "/dev/null"]);
    script
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped());
    let mut child = script.spawn().expect("script (util-linux) is there");
    let mut input = child.stdin.take().expect("it is piped");
    std::io::Write::write_all(&mut input, b"test -t 0 && echo it-is-$((40+2)); exit 9\n")
        .expect("typed");
    let out = child.wait_with_output().expect("it ends");
    drop(input);
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(text.contains("it-is-42"), "{text}");
    assert_eq!(out.status.code(), Some(9), "{text}");
}

/// Told apart so that the first case of a list is not taken for all of it.
#[test]
fn events_of_a_retry_name_the_run_that_it_goes_back_to() {
    let kind = EventKind::TakenOver {
        run: "b".to_owned(),
        origin: "a".to_owned(),
        record: "sha256:00".to_owned(),
    };
    let text = serde_json::to_string(&kind).expect("JSON");
    assert_eq!(
        text,
        r#"{"event":"taken-over","run":"b","origin":"a","record":"sha256:00"}"#
    );
}
