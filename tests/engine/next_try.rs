//! The place of the next try: taken where it is as it was made, and by one try.

use bollard::Docker;
use bollard::models::{ContainerCreateBody, NetworkConnectRequest};
use bollard::query_parameters::CreateContainerOptions;
use rehearsal::engine::{Attach, ContainerSpec, ContainerState, Labels, Resource, VolumeAt};
use rehearsal::event::{EventKind, Owner, Stage};
use rehearsal::verdict::Outcome;

use rustix::process::Signal;

use crate::common::{BASE, Live, Place, Ran, engine, left_of};
use crate::kept::{MENDED, command, expect_taken_over, kept, package, place, retry};

/// What something in the place that a run has made ready is called.
fn next(ran: &Ran, what: &str) -> String {
    format!("rehearse-{}.next-{what}", ran.run())
}

fn state(container: &str) -> Option<ContainerState> {
    match engine(async |engine| engine.container_state(container).await) {
        Ok(state) => Some(state),
        Err(error) if error.is_not_found() => None,
        Err(error) => panic!("{error}"),
    }
}

/// Where a place was not taken, all of it is removed before the deploy.
#[track_caller]
fn expect_taken(of: &Ran) {
    assert!(state(&next(of, "agent")).is_some(), "its place was taken");
}

/// The container in which a run's deploy stands.
fn app(ran: &Ran) -> String {
    let kept = ran.record().kept.expect("it is kept");
    kept.containers["app"].clone()
}

/// What of a run's place is there, in the staging of the first run.
fn left(staging: &str, of: &Ran) -> Vec<Resource> {
    let named = next(of, "");
    let all = left_of(staging);
    all.into_iter()
        .filter(|resource| resource.to_string().contains(&named))
        .collect()
}

fn deployed(ran: &Ran) -> bool {
    ran.events
        .iter()
        .any(|event| matches!(event.kind, EventKind::StepStarted { .. }))
}

/// Puts a container on the engine's ordinary bridge as well.
fn connect(container: &str) {
    let request = NetworkConnectRequest {
        container: container.to_owned(),
        endpoint_config: None,
    };
    engine(async |_| {
        let docker = Docker::connect_with_defaults().expect("the engine's address");
        docker.connect_network("bridge", request).await
    })
    .expect("the engine lets anybody do that");
}

/// A container without our labels on a network of ours.
struct Foreign(String);

impl Foreign {
    fn on(name: &str, network: &str) -> Self {
        let body = serde_json::json!({
            "Image": BASE, "Cmd": ["sleep", "600"], "HostConfig": { "NetworkMode": network, "Init": true },
        });
        let body: ContainerCreateBody = serde_json::from_value(body).expect("a container");
        engine(async |engine| {
            let docker = Docker::connect_with_defaults().expect("the engine's address");
            let options = CreateContainerOptions {
                name: Some(name.to_owned()),
                ..Default::default()
            };
            docker
                .create_container(Some(options), body)
                .await
                .expect("made");
            engine.start_container(name).await
        })
        .expect("the engine lets anybody do that");
        Self(name.to_owned())
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        engine(async |engine| engine.remove_container(&self.0).await).expect("removed");
    }
}

fn mended(place: &Place, run: &str) -> Ran {
    let package = package(place, "mended", MENDED);
    let package = package.to_str().expect("plain");
    retry(place, run, &["--package", package, "--keep", "always"])
}

#[test]
fn a_place_is_made_ready_for_each_try_and_serves_one() {
    let place = place("next");
    let (ran, _tidy) = kept(&place, &[]);
    let ready = next(&ran, "deploy-app");
    let waiting = state(&ready).expect("the service's container is made");
    assert!(!waiting.running, "and not started");
    assert!(state(&next(&ran, "agent")).expect("an agent").running);

    let again = retry(&place, ran.run(), &[]);
    again.expect(1, Outcome::Failed, Some(Owner::Package));
    expect_taken_over(&again, &ran);
    assert_eq!(app(&again), ready, "its deploy stands there");
    assert!(state(&ready).expect("it is kept").running);
    assert!(state(&app(&ran)).is_none(), "the last deploy is removed");
    let ticket = Resource::Volume(next(&ran, "ticket"));
    assert!(
        !left_of(ran.run()).contains(&ticket),
        "nobody else takes it"
    );

    let good = mended(&place, again.run());
    good.expect(0, Outcome::Passed, None);
    expect_taken_over(&good, &again);
    assert_eq!(app(&good), next(&again, "deploy-app"));
    assert_eq!(left(ran.run(), &ran), [], "the place before is removed");
}

#[test]
fn a_place_that_is_not_whole_is_nobodys() {
    let place = place("not-whole");
    let (ran, _tidy) = kept(&place, &[]);
    let look = left(ran.run(), &ran)
        .into_iter()
        .find_map(|resource| match resource {
            Resource::Volume(name) if name.contains("-look-") => Some(name),
            _ => None,
        });
    let look = look.expect("branches to compare the frozen files on");
    engine(async |engine| engine.remove_volume(&look).await).expect("nothing stands on it");
    let good = mended(&place, ran.run());
    good.expect(0, Outcome::Passed, None);
    expect_taken_over(&good, &ran);
    assert!(
        app(&good).contains(good.run()),
        "{} made its own",
        app(&good)
    );
    assert_eq!(left(ran.run(), &ran), [], "what was left of it is removed");

    // As after somebody started all containers there are: what the deploy would stand on is not as at the snapshot.
    let ready = next(&good, "deploy-app");
    engine(async |engine| engine.start_container(&ready).await).expect("started");
    let good = {
        let again = mended(&place, good.run());
        again.expect(0, Outcome::Passed, None);
        assert!(app(&again).contains(again.run()), "{}", app(&again));
        assert_eq!(left(ran.run(), &good), []);
        again
    };

    // As after the engine was started anew.
    engine(async |engine| engine.kill_container(&next(&good, "agent")).await).expect("killed");
    let after = mended(&place, good.run());
    after.expect(0, Outcome::Passed, None);
    expect_taken_over(&after, &good);
    assert!(app(&after).contains(after.run()), "{}", app(&after));
    assert_eq!(left(ran.run(), &good), []);
}

#[test]
fn a_place_that_was_opened_meanwhile_is_nobodys() {
    let place = place("opened");
    let (ran, _tidy) = kept(&place, &[]);
    let mut last = ran;
    let staging = last.run().to_owned();
    // What no label and no list of resources tells: the agent, and then a service, has a way out by now; and somebody is on its
    // network.
    let foreign = format!("{}-foreign", place.name());
    for what in ["agent", "deploy-app", "net"] {
        let _foreign = match what {
            "net" => Some(Foreign::on(&foreign, &next(&last, what))),
            _ => {
                connect(&next(&last, what));
                None
            }
        };
        let good = mended(&place, last.run());
        good.expect(0, Outcome::Passed, None);
        expect_taken_over(&good, &last);
        assert!(app(&good).contains(good.run()), "{}", app(&good));
        // The engine keeps a network that somebody is on.
        let kept = match what {
            "net" => vec![Resource::Network(next(&last, "net"))],
            _ => Vec::new(),
        };
        assert_eq!(left(&staging, &last), kept);
        last = good;
    }
}

#[test]
fn what_was_written_to_what_is_frozen_is_seen() {
    let place = place("written");
    let (ran, _tidy) = kept(&place, &[]);
    let frozen = left_of(ran.run())
        .into_iter()
        .find_map(|resource| match resource {
            Resource::Volume(name) if name.contains("-baseline-") && name.ends_with("-own") => {
                Some(name)
            }
            _ => None,
        });
    let mut spec = ContainerSpec::new(
        format!("rehearse-{}-writes", place.name()),
        BASE,
        Attach::None,
    );
    spec.volumes = vec![VolumeAt {
        volume: frozen.expect("a frozen layer"),
        target: "/frozen".to_owned(),
        read_only: false,
    }];
    // Wherever in it a branch's files lie.
    let write = "for folder in $(find /frozen -type d -name upper) /frozen; do echo x > $folder/by-hand; done";
    spec.command = Some(["sh", "-c", write].map(str::to_owned).to_vec());
    let now = jiff::Timestamp::now();
    let labels = Labels::new(ran.run(), place.name(), now, now);
    engine(async |engine| engine.run_once(&spec, &labels).await).expect("written");
    let tampered = mended(&place, ran.run());
    tampered.expect(2, Outcome::Invalid, Some(Owner::Engine));
    expect_taken(&ran);
    assert_eq!(tampered.verdict().stage, Some(Stage::Snapshot));
    assert!(
        tampered.verdict().reason.contains("the frozen files"),
        "{}",
        tampered.verdict().reason
    );
    assert!(!deployed(&tampered));
    // Its services had been started: nobody would see them.
    let service = next(&ran, "deploy-app");
    assert!(state(&service).is_none(), "they were ended");
}

#[test]
fn a_retry_that_is_broken_off_before_its_deploy_leaves_nothing_at_work() {
    let place = place("broken-off");
    let (ran, _tidy) = kept(&place, &[]);
    let mut made = command(&place, &["retry", "--format", "json", ran.run()]);
    made.args(["--keep", "always"]);
    let mut live = Live::start(made);
    live.until("the proof", |event| {
        matches!(
            event,
            EventKind::StageStarted {
                stage: Stage::Isolate
            }
        )
    });
    live.signal(Signal::INT);
    let broken = live.finish();
    broken.expect(130, Outcome::Invalid, None);
    assert!(!deployed(&broken));
    expect_taken(&ran);
    for container in [
        next(&ran, "deploy-app"),
        next(&ran, "isolate-beacon"),
        app(&ran),
    ] {
        assert!(state(&container).is_none(), "{container} was ended");
    }
    let good = mended(&place, broken.run());
    good.expect(0, Outcome::Passed, None);
    expect_taken_over(&good, &broken);
    assert_eq!(left(ran.run(), &ran), []);
}

#[test]
fn a_bastion_that_is_to_be_built_anew_is_built() {
    let place = place("rebuilt");
    let dockerfile = |word: &str| {
        place.write(
            "bastion/Dockerfile",
            format!("FROM {BASE}\nRUN echo {word} > /etc/word\n"),
        );
    };
    dockerfile("old");
    place.rehearsal("");
    let rehearsal = std::fs::read_to_string(place.path("rehearsal.yaml")).expect("it was written");
    let image = format!("image: \"{BASE}\"");
    assert!(rehearsal.contains(&image), "{rehearsal}");
    let built = rehearsal.replace(&image, "build: { context: bastion }");
    place.write("rehearsal.yaml", built);
    let (ran, _tidy) = kept(&place, &[]);
    dockerfile("new");
    let look = "package: release\nversion: 1.0.2\ncomponents:\n  - name: app\n    steps:\n      \
                - { name: write, service: app, run: 'echo 2 > /srv/state/deployed' }\n      \
                - { name: look, run: 'cat /etc/word' }\n";
    let package = package(&place, "look", look);
    let package = package.to_str().expect("plain");
    let good = retry(&place, ran.run(), &["--package", package]);
    good.expect(0, Outcome::Passed, None);
    assert_eq!(good.output_of("app/look"), ["new"]);
    let built = Resource::Image(format!("rehearse-{}-bastion", place.name()));
    engine(async |engine| engine.remove_resources(vec![built]).await).expect("nobody uses it");
}

#[test]
fn services_that_do_not_come_up_beside_the_last_deploys_are_started_alone() {
    let place = place("alone");
    // The kernel counts the processes of a user in all containers: there may be as many as one copy of the service has, as
    // where the machine's memory is enough for one.
    let single = format!(
        "  single:\n    image: {BASE}\n    user: \"54321\"\n    \
         command: [sh, -c, \"trap 'exit 0' TERM; ulimit -p 2; sleep infinity & wait\"]\nvolumes: {{"
    );
    let stack = std::fs::read_to_string(place.path("stack.yaml")).expect("it was written");
    place.write("stack.yaml", stack.replacen("volumes: {", &single, 1));
    let (ran, _tidy) = kept(&place, &[]);
    let good = mended(&place, ran.run());
    good.expect(0, Outcome::Passed, None);
    expect_taken(&ran);
    expect_taken_over(&good, &ran);
    let noted = good.events.iter().any(|event| {
        matches!(&event.kind, EventKind::Note { text, .. } if text.contains("did not come up beside"))
    });
    assert!(noted, "it was tried beside them first");
    assert!(state(&app(&ran)).is_none(), "the last deploy was ended");
    assert!(state(&app(&good)).expect("it stands").running);
}
