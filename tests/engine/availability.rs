//! What a deploy does to those who use the site meanwhile: outages, locks, settings, and calls to the outside.

use std::path::Path;

use rehearsal::event::{Case, CaseStatus, EventKind, Outage, Owner};
use rehearsal::verdict::Outcome;

use crate::common::{Place, Ran, checkout};

/// A service that takes a second and a half to come up, each time.
const STACK: &str = "\
services:
  app:
    image: rehearse-site/cms:2.3
    entrypoint: [sh, -c, \"sleep 1.5; cd /srv/state && touch there && exec python3 -m http.server 8000\"]
    init: true
    user: \"0:0\"
    expose: [8000]
    environment: { COLOUR: blue }
    volumes: [\"state:/srv/state\"]
volumes: { state: }
";

/// A small site with an availability target, and a package of these steps.
fn site(test: &str, steps: &str, declares: &str, limits: &str) -> Place {
    let place = Place::small(
        test,
        &format!("package: {test}\ncomponents:\n  - name: app\n    steps:\n{steps}{declares}"),
    );
    place.write("stack.yaml", STACK);
    place.write(
        "testplan.yaml",
        "testplan: small\ntests:\n  - name: the app answers\n    http: { url: http://app:8000/ }\n    \
         expect: { status: 200 }\navailability:\n  - { name: front page, http: { url: http://app:8000/there, within: 1s } }\n",
    );
    place.rehearsal(limits);
    place
}

const RESTART: &str = "      - { name: look, service: app, run: echo before }
      - { name: roll the app, restart: app }
      - { name: look again, service: app, run: echo after }
";

fn outages(ran: &Ran) -> Vec<Outage> {
    let outages = ran.events.iter().filter_map(|event| match &event.kind {
        EventKind::Unavailable(outage) => Some(outage.clone()),
        _ => None,
    });
    outages.collect()
}

fn message(case: &Case) -> &str {
    case.message.as_deref().unwrap_or_default()
}

#[test]
fn a_restart_is_one_outage_of_its_step_and_a_loose_limit_bears_it() {
    let place = site(
        "outage",
        RESTART,
        "declares: { max_downtime: 60s }\n",
        "limits: { downtime: 30s }\n",
    );
    let ran = place.run(&[]);
    ran.expect_passed();
    let seen = outages(&ran);
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(seen[0].steps, ["app / roll the app"]);
    assert!((1.4..20.0).contains(&seen[0].seconds), "{seen:?}");
    assert!(seen[0].to.is_some() && seen[0].probes > 1, "{seen:?}");
    let case = ran.case("availability", "front page");
    assert_eq!(case.status, CaseStatus::Passed);
    let said = message(case);
    assert!(
        said.starts_with("down ") && said.contains(" s during `app / roll the app`: "),
        "{said}"
    );
    assert!(!ran.verdict().assisted);
    // A service of the stack that is away for a moment is no outside name.
    assert!(
        !ran.events
            .iter()
            .any(|event| matches!(event.kind, EventKind::OutsideName { .. }))
    );
    let record = ran.record();
    assert_eq!(record.outages, seen);
    let target = &record.availability[0];
    assert_eq!((target.target.as_str(), target.outages), ("front page", 1));
    assert!(target.probes > target.failed && target.failed == seen[0].probes);
    let page = std::fs::read_to_string(ran.dir().join("report.html")).expect("the page");
    assert!(page.contains("Availability during the deploy"), "{page}");
}

#[test]
fn an_outage_beyond_a_limit_fails_and_each_limit_is_named() {
    let place = site(
        "too-long",
        RESTART,
        "declares: { max_downtime: 200ms }\n",
        "limits: { downtime: 1s }\n",
    );
    let ran = place.run(&[]);
    ran.expect(1, Outcome::Failed, Some(Owner::Package))
        .expect_rolled_back();
    let case = ran.case("availability", "front page");
    assert_eq!(case.status, CaseStatus::Failed);
    assert_eq!(case.component.as_deref(), Some("app"));
    let limits: Vec<&str> = case
        .mismatches
        .iter()
        .map(|of| of.expected.as_str())
        .collect();
    assert_eq!(
        limits,
        [
            "at most 1 s (limits.downtime)",
            "at most 0.2 s (declares.max_downtime)"
        ]
    );
    assert!(
        ran.verdict().reason.contains("front page"),
        "{:?}",
        ran.verdict()
    );
}

#[test]
fn a_deploy_without_an_outage_has_no_downtime() {
    let place = site(
        "no-outage",
        "      - { name: look, service: app, run: sleep 1 }\n",
        "",
        "limits: { downtime: 0s }\n",
    );
    let ran = place.run(&[]);
    ran.expect_passed();
    assert_eq!(outages(&ran), Vec::<Outage>::new());
    let case = ran.case("availability", "front page");
    assert!(message(case).starts_with("always there: "), "{case:?}");
    let target = &ran.record().availability[0];
    // A second at ten questions a second, on a machine that has other things to do as well.
    assert!(target.probes >= 4 && target.failed == 0, "{target:?}");
    assert!(target.downtime_seconds.abs() < f64::EPSILON);
}

#[test]
fn what_is_still_down_when_the_deploy_has_ended_breaks_every_limit() {
    let place = site(
        "still-down",
        "      - { name: take it away, service: app, run: rm /srv/state/there }\n",
        "",
        "limits: { downtime: 2s }\n",
    );
    let ran = place.run(&[]);
    ran.expect(1, Outcome::Failed, Some(Owner::Package))
        .expect_rolled_back();
    let seen = outages(&ran);
    assert_eq!((seen.len(), seen[0].to), (1, None), "{seen:?}");
    assert!(seen[0].seconds > 2.0, "{seen:?}");
    assert_eq!(seen[0].reason, "HTTP status 404");
    let case = ran.case("availability", "front page");
    assert_eq!(case.status, CaseStatus::Failed);
    assert!(
        message(case).contains("still down when the deploy had ended"),
        "{case:?}"
    );
}

#[test]
fn an_outage_that_ends_after_the_last_step_is_as_long_as_it_was() {
    let place = site(
        "comes-back",
        "      - { name: roll, service: app, run: 'rm /srv/state/there; (sleep 1; touch /srv/state/there) >/dev/null 2>&1 &' }\n",
        "",
        "limits: { downtime: 30s }\n",
    );
    let ran = place.run(&[]);
    ran.expect_passed();
    let seen = outages(&ran);
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert!(seen[0].to.is_some(), "{seen:?}");
    let case = ran.case("availability", "front page");
    assert!(message(case).starts_with("down "), "{case:?}");
}

#[test]
fn what_is_not_there_before_the_deploy_is_staging_at_fault() {
    let place = site(
        "never-there",
        "      - { name: look, service: app, run: echo never }\n",
        "",
        "limits: { start: 10s, downtime: 10m }\n",
    );
    let plan = std::fs::read_to_string(place.path("testplan.yaml")).expect("the test plan");
    place.write("testplan.yaml", plan.replace("/there", "/nowhere"));
    let ran = place.run(&[]);
    ran.expect(2, Outcome::Invalid, Some(Owner::Staging))
        .expect_rolled_back();
    let reason = &ran.verdict().reason;
    assert!(
        reason.contains("`front page` was not available before the deploy: HTTP status 404"),
        "{reason}"
    );
    assert!(
        !ran.events
            .iter()
            .any(|event| matches!(event.kind, EventKind::StepStarted { .. }))
    );
}

/// The sample's database, and a package of these steps.
fn shop(test: &str, steps: &str, declares: &str) -> Place {
    let place = Place::new(test);
    let checkout = checkout().display().to_string();
    let at = |below: &str| Path::new(&checkout).join(below).display().to_string();
    let sample = std::fs::read_to_string(at("rehearsals/site.yaml")).expect("the sample");
    let sample = sample
        .replace("rehearsal: site", &format!("rehearsal: {}", place.name()))
        .replace("../packages/site-2.4", "package")
        .replace("../testplans/site.yaml", "testplan.yaml")
        .replace("../", &format!("{checkout}/"));
    place.write("rehearsal.yaml", sample);
    place.write(
        "testplan.yaml",
        "testplan: small\ntests:\n  - name: the front page answers\n    http: { url: http://web/ }\n    \
         expect: { status: 200 }\n    retry: { for: 30s, every: 1s }\n",
    );
    place.write(
        "package/deploy.yaml",
        format!("package: {test}\ncomponents:\n  - name: app\n    steps:\n{steps}{declares}"),
    );
    place
}

const HOLD: &str = "      - { name: hold it, run: \"psql -X -q -c 'begin; lock table customers in exclusive mode; \
                    select pg_sleep(1); alter table customers add column seen int; select pg_sleep(1); commit'\" }\n";

#[test]
fn a_lock_beyond_what_is_declared_fails_with_its_table_and_step() {
    let place = shop(
        "lock",
        HOLD,
        "declares: { schema: [column customers.seen], max_lock: 1s }\n",
    );
    let ran = place.run(&[]);
    ran.expect(1, Outcome::Failed, Some(Owner::Package))
        .expect_rolled_back();
    let case = ran.case("locks", "db/site: how long a table was locked");
    assert_eq!(case.status, CaseStatus::Failed);
    assert_eq!(
        case.mismatches[0].expected,
        "at most 1 s (declares.max_lock)"
    );
    let said = message(case);
    assert!(
        said.contains(" s on customers, AccessExclusive, during `app / hold it`"),
        "{said}"
    );
    assert!((1.8..8.0).contains(&case.seconds), "{case:?}");
}

#[test]
fn a_lock_within_what_is_declared_passes_and_a_restart_of_the_server_is_none() {
    let steps = format!(
        "{HOLD}      - {{ name: restart it, restart: db }}\n      - {{ name: after, run: \"psql -X -q -c 'select 1'\" }}\n"
    );
    let place = shop(
        "lock-borne",
        &steps,
        "declares: { schema: [column customers.seen], max_lock: 20s }\n",
    );
    let ran = place.run(&[]);
    ran.expect_passed();
    let case = ran.case("locks", "db/site: how long a table was locked");
    assert_eq!(case.status, CaseStatus::Passed);
    assert!(
        message(case).contains("customers, AccessExclusive, during `app / hold it`"),
        "{case:?}"
    );
    let restart = ran.case("deploy", "app / restart it");
    assert_eq!(restart.status, CaseStatus::Passed);
}

const FILE: &str = "      - { name: colour, service: app, env: { COLOUR: very-secret-red } }
      - { name: configure, service: app, files: [{ template: app.conf.j2, to: /srv/state/app.conf }] }
";

/// The place, which has a turn on the engine, has to be held for as long as the run's record is read, and no longer.
fn configured(test: &str, declares: &str) -> (Place, Ran) {
    let place = site(test, FILE, declares, "");
    place.write("package/app.conf.j2", "colour = very-secret-red\n");
    let ran = place.run(&[]);
    (place, ran)
}

#[test]
fn every_changed_setting_is_declared_or_the_package_fails() {
    const NAME: &str = "every changed setting is declared";
    let (place, declared) = configured(
        "declared-settings",
        "declares: { config: [app.COLOUR, \"app:/srv/state/app.conf\"] }\n",
    );
    declared.expect_passed();
    assert_eq!(declared.case("config", NAME).status, CaseStatus::Passed);
    drop(place);

    let (place, silent) = configured("silent", "");
    silent.expect_passed();
    let case = silent.case("config", NAME);
    assert_eq!(case.status, CaseStatus::Warned);
    assert_eq!(
        message(case),
        "2 of 2 changed settings are not declared: app.COLOUR, app:/srv/state/app.conf"
    );
    assert!(!format!("{case:?}").contains("very-secret"), "{case:?}");
    drop(place);

    let (place, hidden) = configured(
        "hidden-settings",
        "declares: { config: [app.COLOUR, app.SIZE] }\n",
    );
    hidden
        .expect(1, Outcome::Failed, Some(Owner::Package))
        .expect_rolled_back();
    let case = hidden.case("config", NAME);
    assert_eq!(case.status, CaseStatus::Failed);
    assert_eq!(case.mismatches.len(), 1, "{case:?}");
    assert_eq!(case.mismatches[0].what, "app:/srv/state/app.conf");
    assert_eq!(case.mismatches[0].seen, "set");
    drop(place);

    let (_place, idle) = configured(
        "idle-settings",
        "declares: { config: [app.COLOUR, app.SIZE, \"app:/srv/state/app.conf\"] }\n",
    );
    idle.expect_passed();
    let case = idle.case("config", NAME);
    assert_eq!(case.status, CaseStatus::Warned);
    assert_eq!(message(case), "declared, and not changed: app.SIZE");
}
