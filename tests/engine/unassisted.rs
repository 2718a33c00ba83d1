//! Nobody sits beside the admin: no input, no terminal, no network, no time without end.

use std::collections::BTreeSet;

use rehearsal::engine::{Attach, ContainerSpec, ExecSpec, Labels, VolumeAt};
use rehearsal::event::{CaseStatus, EventKind, Owner, Stage};
use rehearsal::verdict::Outcome;

use crate::common::{BASE, Live, Place, Ran, engine};

#[test]
fn a_step_sees_only_what_the_package_and_the_rehearsal_declare() {
    let place = Place::small(
        "declared",
        "\
package: declared
components:
  - name: look
    steps:
      - name: input
        run: |
          echo \"input gave $(wc -c < /dev/null) bytes\"; test ! -t 0
        timeout: 20s
      - { name: terminal, run: tty, expect_exit: 1 }
      - { name: controlling terminal, run: \"if (: </dev/tty) 2>/dev/null; then exit 9; fi\" }
      - name: package
        run: |
          pwd; cat notes.txt
          if touch /package/written 2>/dev/null; then exit 9; fi
      - { name: environment, run: env }
      - { name: somebody else, service: app, user: nobody, run: \"id -un; printenv COLOUR\" }
",
    );
    place.write("package/notes.txt", "from the package\n");
    let mut command = place.command("run", &place.path("rehearsal.yaml"));
    command.env("REHEARSE_TEST_SECRET", "of whoever runs it");
    let ran = Live::start(command).finish();
    ran.expect_passed();
    assert_eq!(ran.output_of("look/input"), ["input gave 0 bytes"]);
    assert_eq!(ran.output_of("look/terminal"), ["not a tty"]);
    assert_eq!(
        ran.output_of("look/package"),
        ["/package", "from the package"]
    );
    assert_eq!(ran.output_of("look/somebody else"), ["nobody", "blue"]);
    let seen = ran.output_of("look/environment");
    assert!(seen.contains(&"GREETING=hello"), "{seen:?}");
    let names: BTreeSet<&str> = seen
        .iter()
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name)
        .collect();
    // What the engine and the shell set by themselves, and the one variable of the rehearsal.
    let known = BTreeSet::from([
        "GREETING", "HOME", "HOSTNAME", "OLDPWD", "PATH", "PWD", "SHLVL", "_",
    ]);
    assert!(names.is_subset(&known), "{names:?}");
    let used = ran.case("unassisted", "nothing but the package is used");
    let used = used.message.as_deref().unwrap_or_default();
    for words in [
        "app: /srv/state; COLOUR; one network",
        "bastion: /package read-only; GREETING; one network",
    ] {
        assert!(used.contains(words), "{used}");
    }
    let asked = ran.case("unassisted", "no step asks a person");
    assert_eq!(
        asked.message.as_deref(),
        Some("6 steps ran without input and terminal")
    );
    assert!(!std::fs::exists(place.path("package/written")).expect("the place"));
    let suite: Vec<(&str, CaseStatus)> = ran
        .cases()
        .filter(|(_, case)| case.suite == "unassisted")
        .map(|(_, case)| (case.name.as_str(), case.status))
        .collect();
    assert_eq!(suite.len(), 8, "{suite:?}");
    assert!(
        suite
            .iter()
            .all(|(_, status)| *status == CaseStatus::Passed),
        "{suite:?}"
    );
}

/// The case of the suite that is failed, and the run that failed by it although every step ended with 0.
fn assisted(test: &str, step: &str, case: &str, words: &str) {
    let place = Place::small(
        test,
        &format!("package: {test}\ncomponents:\n  - name: app\n    steps:\n      - {step}\n"),
    );
    let ran = place.run(&[]);
    ran.expect(1, Outcome::Failed, Some(Owner::Package))
        .expect_rolled_back();
    assert_eq!(ran.failed_cases(), [case]);
    let why = ran
        .case("unassisted", case)
        .message
        .clone()
        .unwrap_or_default();
    assert!(why.contains(words), "{why}");
    assert!(
        ran.verdict().reason.contains(case),
        "{}",
        ran.verdict().reason
    );
}

#[test]
fn a_step_that_asks_and_goes_on_without_an_answer_has_not_passed() {
    assisted(
        "asks",
        "{ name: ask, run: \"printf 'Drop the old table? [y/N] '; read answer || true\" }",
        "no step asks a person",
        "step `app/ask` waits for a person: Drop the old table? [y/N]",
    );
}

#[test]
fn a_step_that_reads_its_input_without_a_word_is_seen() {
    assisted(
        "reads",
        "{ name: read, user: nobody, run: \"echo input gave $(wc -c) bytes\" }",
        "no step asks a person",
        "step `app/read` reads its input",
    );
    assisted(
        "reads-service",
        "{ name: read, service: app, run: \"python3 -c 'import sys; sys.stdin.read()' 2>/dev/null || read x || true\" }",
        "no step asks a person",
        "step `app/read` reads its input",
    );
}

#[test]
fn a_call_outside_that_does_not_matter_to_its_step_is_one_all_the_same() {
    assisted(
        "calls",
        "{ name: tell, run: \"getent hosts telemetry.example.com || true\" }",
        "no step asks for anything outside staging",
        "bastion asked for telemetry.example.com",
    );
}

#[test]
fn a_call_to_an_address_outside_is_seen_without_a_name() {
    assisted(
        "calls-address",
        "{ name: tell, run: \"bash -c 'exec 3<>/dev/tcp/192.0.2.10/443' || true\" }",
        "no step calls an address outside staging",
        "bastion called an address outside: nobody answered",
    );
}

#[test]
fn a_runbook_that_hands_something_to_a_person_is_assisted() {
    let place = Place::small("manual", "");
    std::fs::remove_file(place.path("package/deploy.yaml")).expect("the manifest");
    place.write(
        "package/DEPLOY.md",
        "# Release\n\n```sh\necho rolled\n```\n\n<!-- rehearse:manual tell the warehouse to restart its scanners -->\n\
         Tell the warehouse to restart its scanners.\n",
    );
    let ran = place.run(&[]);
    ran.expect(1, Outcome::Failed, Some(Owner::Package))
        .expect_rolled_back();
    let case = ran.case("unassisted", "no person is part of the deploy");
    assert_eq!(case.status, CaseStatus::Failed);
    let why = case.message.as_deref().unwrap_or_default();
    assert!(
        why.contains("DEPLOY.md:7:1: tell the warehouse to restart its scanners"),
        "{why}"
    );
    assert!(ran.verdict().assisted && ran.record().assisted);
}

#[test]
fn a_step_over_its_timeout_is_killed_with_all_it_started() {
    let place = Place::small(
        "timeout",
        "\
package: timeout
components:
  - name: app
    steps:
      - { name: hang, run: \"setsid sleep 86400 & sleep 86401 & echo started; wait\", timeout: 2s }
      - { name: after, run: echo never }
",
    );
    let mut live = Live::start(place.command("run", &place.path("rehearsal.yaml")));
    live.until_output("started");
    let bastion = format!("rehearse-{}-bastion", live.run());
    live.until("the step's end", |kind| {
        matches!(kind, EventKind::StepFinished { .. })
    });
    // A container's processes end with it: those in the background and in sessions of their own, too.
    match engine(async |engine| engine.container_state(&bastion).await) {
        Ok(state) => assert!(!state.running, "{state:?}"),
        Err(error) => assert!(error.is_not_found(), "{error}"),
    }
    let ran = live.finish();
    ran.expect(1, Outcome::Failed, Some(Owner::Package))
        .expect_rolled_back();
    let hang = ran.case("deploy", "app / hang");
    assert_eq!(hang.status, CaseStatus::Failed);
    assert!(
        hang.message
            .as_deref()
            .is_some_and(|said| said.contains("timeout of 2 s")),
        "{hang:?}"
    );
    assert!((2.0..20.0).contains(&hang.seconds), "{hang:?}");
    let late = ran.case("unassisted", "every step ends inside its time");
    assert_eq!(late.status, CaseStatus::Failed, "{late:?}");
    assert_eq!(
        ran.case("deploy", "app / after").status,
        CaseStatus::Skipped
    );
    let code = ran.events.iter().find_map(|event| match &event.kind {
        EventKind::StepFinished { exit_code, .. } => Some(*exit_code),
        _ => None,
    });
    assert_eq!(code, Some(None), "it did not end by itself");
}

#[test]
fn a_step_that_needs_the_outside_fails_and_the_name_it_asked_for_is_on_record() {
    let place = Place::small(
        "outside",
        "\
package: outside
components:
  - name: app
    steps:
      - { name: stack, run: getent hosts app }
      - { name: fetch, run: getent hosts packages.example.com }
",
    );
    let ran = place.run(&[]);
    ran.expect(1, Outcome::Failed, Some(Owner::Package))
        .expect_rolled_back();
    assert_eq!(ran.case("deploy", "app / stack").status, CaseStatus::Passed);
    let fetch = ran.case("deploy", "app / fetch");
    assert_eq!(fetch.status, CaseStatus::Failed);
    assert!(
        fetch
            .location
            .as_deref()
            .is_some_and(|at| at.contains("deploy.yaml:6:")),
        "{fetch:?}"
    );
    let asked: BTreeSet<(Stage, String, String)> = ran
        .events
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::OutsideName { stage, name, asker } => {
                Some((*stage, name.clone(), asker.clone()))
            }
            _ => None,
        })
        .collect();
    let expected = (
        Stage::Deploy,
        "packages.example.com".to_owned(),
        "bastion".to_owned(),
    );
    assert!(asked.contains(&expected), "{asked:?}");
    let recorded = ran.record().outside_names;
    assert!(
        recorded
            .iter()
            .any(|name| name.name == "packages.example.com" && name.asker == "bastion"),
        "{recorded:?}"
    );
}

/// Writes into what a run has of its package while a step of it waits, and lets it go on.
fn written_meanwhile(test: &str, write: impl FnOnce(&Place, &str)) -> Ran {
    let place = Place::small(
        test,
        "package: meanwhile\ncomponents:\n  - name: app\n    steps:\n      - name: wait\n        \
         run: 'echo waiting; until test -e /tmp/go; do sleep 0.1; done'\n",
    );
    let mut live = Live::start(place.command("run", &place.path("rehearsal.yaml")));
    live.until_output("waiting");
    let run = live.run().to_owned();
    write(&place, &run);
    let go = ExecSpec {
        command: vec!["touch".into(), "/tmp/go".into()],
        ..Default::default()
    };
    let bastion = format!("rehearse-{run}-bastion");
    engine(async |engine| engine.exec(&bastion, &go, |_| {}).await).expect("it goes on");
    let ran = live.finish();
    ran.expect(2, Outcome::Invalid, Some(Owner::Engine));
    assert_eq!(ran.verdict().stage, Some(Stage::Deploy));
    ran
}

#[test]
fn a_package_that_somebody_writes_to_meanwhile_is_not_what_was_handed_over() {
    let ran = written_meanwhile("edited", |place, _| {
        place.write("package/late.txt", "one more file\n");
    });
    let reason = &ran.verdict().reason;
    assert!(reason.contains("changed during the deploy"), "{reason}");
    assert!(reason.contains("late.txt"), "{reason}");

    let ran = written_meanwhile("volume", |place, run| {
        let name = format!("rehearse-{run}-{}-writes", place.name());
        let mut spec = ContainerSpec::new(name, BASE, Attach::None);
        spec.volumes = vec![VolumeAt {
            volume: format!("rehearse-{run}-package"),
            target: "/v".to_owned(),
            read_only: false,
        }];
        let write = "echo more >> /v/deploy.yaml";
        spec.command = Some(["sh", "-c", write].map(str::to_owned).to_vec());
        let now = jiff::Timestamp::now();
        let labels = Labels::new(run, place.name(), now, now);
        engine(async |engine| engine.run_once(&spec, &labels).await).expect("written");
    });
    let reason = &ran.verdict().reason;
    assert!(
        reason.contains("what the steps had at /package"),
        "{reason}"
    );
    assert!(reason.contains("its digest is sha256:"), "{reason}");
}
