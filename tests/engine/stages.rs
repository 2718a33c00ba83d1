//! Stages that must go wrong, each in a way of its own: provision, snapshot, teardown.

use jiff::{SignedDuration, Timestamp};
use rehearsal::engine::{Attach, ContainerSpec, Engine, EngineError, Labels};
use rehearsal::event::{CaseStatus, EventKind, Owner, Stage};
use rehearsal::verdict::{Outcome, Rollback};

use crate::common::{BASE, IDLE, Live, Place, engine, left_of};

const GOOD: &str = "\
package: good
components:
  - name: app
    steps: [{ name: look, run: echo deployed }]
";

#[test]
fn provision_names_the_service_whose_image_is_nowhere() {
    let place = Place::small("nowhere", GOOD);
    place.write(
        "broken/Dockerfile",
        format!("FROM {BASE}\nRUN echo no such tool >&2; exit 7\n"),
    );
    for (image, words) in [
        (
            "image: rehearse-nowhere/none:1".to_owned(),
            &["service `app`", "rehearse-nowhere/none:1"][..],
        ),
        (
            "build: ./broken".to_owned(),
            &["service `app`", "no such tool"],
        ),
    ] {
        place.write(
            "stack.yaml",
            format!("services:\n  app:\n    {image}\n    command: {IDLE}\n"),
        );
        let ran = place.run(&[]);
        ran.expect(2, Outcome::Invalid, Some(Owner::Stack));
        for word in words {
            assert!(
                ran.reason(Stage::Provision).contains(word),
                "{word}: {}",
                ran.reason(Stage::Provision)
            );
        }
        assert_eq!(ran.stage(Stage::Restore), None);
        ran.expect_nothing_left();
    }
}

#[test]
fn a_service_that_starts_only_once_is_found_by_the_snapshot() {
    let place = Place::small("once", GOOD);
    place.write(
        "stack.yaml",
        format!(
            "services:\n  app:\n    image: {BASE}\n    volumes: [\"state:/srv/state\"]\n    command:\n      - sh\n      \
             - -c\n      - 'test -e /srv/state/once && {{ echo already started once >&2; exit 4; }}; \
             touch /srv/state/once; exec sleep infinity'\n    stop_grace_period: 1s\nvolumes: {{ state: }}\n"
        ),
    );
    let ran = place.run(&[]);
    ran.expect(2, Outcome::Invalid, Some(Owner::Staging));
    assert_eq!(ran.verdict().stage, Some(Stage::Snapshot));
    assert_eq!(ran.verdict().rollback, Rollback::NotReached);
    assert!(
        ran.reason(Stage::Snapshot).contains("already started once"),
        "{}",
        ran.reason(Stage::Snapshot)
    );
    assert_eq!(ran.stage(Stage::Deploy), None);
    ran.expect_nothing_left();
}

/// Somebody else's container on the run's network.
async fn squat(engine: &Engine, network: &str, name: &str) -> Result<(), EngineError> {
    let now = Timestamp::now();
    let until = now + SignedDuration::from_hours(1);
    let labels = Labels::new(name, "squatter", now, until);
    let attach = Attach::Network {
        name: network.to_owned(),
        aliases: Vec::new(),
        dns: None,
    };
    let mut spec = ContainerSpec::new(name, BASE, attach);
    spec.command = Some(vec!["sleep".into(), "infinity".into()]);
    engine.create_container(&spec, &labels).await?;
    engine.start_container(name).await
}

#[test]
fn what_teardown_cannot_remove_is_named_and_does_not_change_the_verdict() {
    let place = Place::small(
        "leftover",
        "package: waits\ncomponents:\n  - name: app\n    steps:\n      - name: wait\n        \
         run: 'echo waiting; until test -e /tmp/go; do sleep 0.1; done'\n",
    );
    let mut live = Live::start(place.command("run", &place.path("rehearsal.yaml")));
    live.until_output("waiting");
    let run = live.run().to_owned();
    let squatter = format!("{}-squatter", place.name());
    let network = format!("rehearse-{run}-net");
    engine(async |engine| {
        squat(&engine, &network, &squatter).await?;
        let go = rehearsal::engine::ExecSpec {
            command: vec!["touch".into(), "/tmp/go".into()],
            ..Default::default()
        };
        let bastion = format!("rehearse-{run}-bastion");
        engine.exec(&bastion, &go, |_| {}).await
    })
    .expect("the engine does it");
    let ran = live.finish();
    let left: Vec<&str> = ran
        .events
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::Leftover { what, .. } => Some(what.as_str()),
            _ => None,
        })
        .collect();
    let removed = engine(async |engine| {
        engine.remove_container(&squatter).await?;
        engine.remove_run(&run).await
    });
    removed.expect("the engine does it");
    assert_eq!(left, [format!("network {network}")]);
    assert!(ran.reason(Stage::Teardown).contains("could not be removed"));
    ran.expect(0, Outcome::Passed, None);
    assert_eq!(left_of(&run), []);
}

#[test]
fn a_deploy_over_its_limit_is_ended_before_anything_is_judged() {
    let place = Place::small(
        "endless",
        "package: endless\ncomponents:\n  - name: app\n    steps:\n      - name: never ends\n        \
         run: 'while :; do echo still here; sleep 0.1; done'\n      - { name: is never reached, run: 'true' }\n",
    );
    place.rehearsal("limits: { deploy: 2s }\n");
    let ran = place.run(&[]);
    ran.expect(1, Outcome::Failed, Some(Owner::Package));
    assert_eq!(ran.verdict().stage, Some(Stage::Deploy));
    ran.expect_rolled_back();
    // What was seen of it is judged all the same.
    let step = ran.case("deploy", "app / never ends");
    assert_eq!(step.status, CaseStatus::Failed);
    let said = step.message.as_deref().unwrap_or_default();
    assert!(said.contains("limits.deploy"), "{said}");
    let next = ran.case("deploy", "app / is never reached");
    assert_eq!(next.status, CaseStatus::Skipped);
    for (case, status) in [
        ("every step ends inside its time", CaseStatus::Failed),
        ("no step asks a person", CaseStatus::Passed),
        ("the package is as it was handed over", CaseStatus::Passed),
    ] {
        assert_eq!(ran.case("unassisted", case).status, status, "{case}");
    }
    let ended = ran.events.iter().position(|event| {
        matches!(
            event.kind,
            EventKind::StageFinished {
                stage: Stage::Deploy,
                ..
            }
        )
    });
    let after = &ran.events[ended.expect("deploy ended")..];
    let late = after
        .iter()
        .filter(|event| matches!(event.kind, EventKind::OutputLine { .. }))
        .count();
    assert_eq!(late, 0, "the step went on after its stage");
}

#[test]
fn a_one_shot_that_completed_is_part_of_the_snapshot() {
    let place = Place::small("one-shot", GOOD);
    place.write(
        "stack.yaml",
        format!(
            "services:\n  seed:\n    image: {BASE}\n    command: [sh, -c, \"echo ran >> /shared/log\"]\n    \
             volumes: [\"shared:/shared\"]\n  app:\n    image: {BASE}\n    command: {IDLE}\n    \
             volumes: [\"shared:/shared\"]\n    depends_on: {{ seed: {{ condition: service_completed_successfully }} }}\n\
             volumes: {{ shared: }}\n"
        ),
    );
    place.write(
        "testplan.yaml",
        "testplan: small\ntests:\n  - name: it ran once\n    exec: { service: app, run: cat /shared/log }\n    \
         expect: { stdout: { equals: ran } }\n",
    );
    place.run(&[]).expect_passed();
}

#[test]
fn what_a_dockerfile_would_have_fetched_is_refused() {
    for (test, dockerfile, word) in [
        (
            "adds",
            format!("FROM {BASE}\nADD http:///x /x\n"),
            "reaches outside",
        ),
        (
            "pulls",
            "FROM rehearse-nowhere/none:1\n".to_owned(),
            "not present",
        ),
    ] {
        let place = Place::small(
            test,
            "package: fetches\ncomponents:\n  - name: app\n    steps:\n      - { name: roll, service: app, image: img }\n",
        );
        place.write("package/img/Dockerfile", dockerfile);
        let ran = place.run(&[]);
        ran.expect(1, Outcome::Failed, Some(Owner::Package));
        assert!(
            ran.reason(Stage::Deploy).contains(word),
            "{}",
            ran.reason(Stage::Deploy)
        );
        ran.expect_rolled_back();
    }
}
