//! Other ways that a deploy could go: each what-if where it has to pass, and where it has to fail.

use rehearsal::event::{CaseStatus, EventKind, Owner, PathOutcome, Stage};
use rehearsal::verdict::{Outcome, PathEnd};

use crate::common::{Place, Ran, checkout};

/// How a path ended, and what was said of it.
#[track_caller]
fn path<'a>(ran: &'a Ran, wanted: &str) -> (PathOutcome, &'a str) {
    let ended = ran.events.iter().find_map(|event| match &event.kind {
        EventKind::PathEnded {
            path,
            outcome,
            reason,
            ..
        } if path == wanted => Some((*outcome, reason.as_deref().unwrap_or_default())),
        _ => None,
    });
    ended.unwrap_or_else(|| panic!("no end of the path `{wanted}`: {:#?}", paths(ran)))
}

fn paths(ran: &Ran) -> Vec<(&str, PathOutcome, &str)> {
    let ended = ran.events.iter().filter_map(|event| match &event.kind {
        EventKind::PathEnded {
            path,
            outcome,
            reason,
            ..
        } => Some((
            path.as_str(),
            *outcome,
            reason.as_deref().unwrap_or_default(),
        )),
        _ => None,
    });
    ended.collect()
}

#[track_caller]
fn expect(ran: &Ran, wanted: &str, outcome: PathOutcome, words: &[&str]) {
    let (seen, said) = path(ran, wanted);
    assert_eq!(seen, outcome, "{wanted}: {said}");
    for word in words {
        assert!(said.contains(word), "{wanted}: {word}: {said}");
    }
}

/// A run of the sample site with a package of this test.
fn site(place: &Place, more: &[&str]) -> Ran {
    let mut command = place.command("run", &checkout().join("rehearsals/site.yaml"));
    command.arg("--package").arg(place.path("package"));
    command.args(more);
    crate::common::Live::start(command).finish()
}

const PSQL: &str = "psql -X -q -v ON_ERROR_STOP=1 -c";

fn site_package(place: &Place, rollback: &str) {
    place.write("package/page/index.html", "<h1>Notes</h1>\n");
    place.write(
        "package/deploy.yaml",
        format!(
            "package: notes\nversion: 1.0.0\ncomponents:\n  - name: backend\n    steps:\n      \
             - {{ name: add a table, run: {PSQL} 'create table if not exists notes (id int primary key)' }}\n      \
             - {{ name: mark a customer, run: \"{PSQL} \\\"update customers set name = 'Renamed' where id = 7\\\"\" }}\n  \
             - name: content\n    after: [backend]\n    steps:\n      \
             - {{ name: push a page, service: web, copy: page/, to: /usr/share/nginx/html/notes }}\n\
             rollback:\n  steps:\n{rollback}\ndeclares: {{ schema: [table notes], max_rollback: 60s }}\n"
        ),
    );
}

#[test]
fn a_sound_package_comes_back_runs_again_and_is_not_flaky() {
    let place = Place::new("what-if-sound");
    site_package(
        &place,
        &format!(
            "    - {{ name: drop the table, run: {PSQL} 'drop table notes' }}\n    \
             - {{ name: name the customer again, run: \"{PSQL} \\\"update customers set name = 'Customer 7' where id = 7\\\"\" }}\n    \
             - {{ name: take the page away, service: web, run: rm -r /usr/share/nginx/html/notes }}"
        ),
    );
    let ran = site(&place, &["--what-if", "rollback,rerun,again"]);
    ran.expect_passed();
    for name in ["rollback", "rerun", "again 2 of 3", "again 3 of 3"] {
        expect(&ran, name, PathOutcome::Passed, &[]);
    }
    expect(
        &ran,
        "rollback",
        PathOutcome::Passed,
        &["the package's own rollback took", "of 60.0 s"],
    );
    assert_eq!(
        ran.case("what-if.rollback", "rollback").status,
        CaseStatus::Passed
    );
    let record = ran.record();
    let told = record.what_ifs.expect("what-ifs were asked for");
    assert_eq!(told.paths.len(), 4);
    assert!(told.paths.iter().all(|path| path.bytes > Some(0)));
    assert!(
        record
            .measured
            .iter()
            .any(|measure| measure.what == "the package's own rollback")
    );
    // Nothing of a path is taken for the deploy that was judged.
    let steps = ran
        .events
        .iter()
        .filter(|event| matches!(event.kind, EventKind::StepStarted { .. }));
    assert_eq!(steps.count(), 3);
}

#[test]
fn a_rollback_that_lies_is_found_by_what_is_still_changed() {
    let place = Place::new("what-if-lie");
    let back = format!("    - {{ name: all is well, run: {PSQL} 'create database reports' }}");
    site_package(&place, &back);
    let ran = site(&place, &["--what-if", "rollback"]);
    ran.expect(1, Outcome::Failed, Some(Owner::Package))
        .expect_rolled_back();
    assert_eq!(ran.verdict().stage, Some(Stage::WhatIf));
    let case = ran.case("what-if.rollback", "rollback");
    assert_eq!(case.status, CaseStatus::Failed);
    let named: Vec<&str> = case.mismatches.iter().map(|m| m.what.as_str()).collect();
    for what in [
        "table notes of db/site",
        "rows of db/site public.customers",
        "database reports of db",
        "file /usr/share/nginx/html/notes/index.html of web",
    ] {
        assert!(named.contains(&what), "{what}: {named:?}");
    }
    expect(
        &ran,
        "rollback",
        PathOutcome::Failed,
        &["says that it succeeded"],
    );
    // What it says that it leaves is no lie.
    let honest = std::fs::read_to_string(place.path("package/deploy.yaml")).expect("a package");
    let leaves = "rollback:\n  leaves: [table notes, table customers, file /usr/share/nginx/html/notes/, database reports of db]\n";
    place.write("package/deploy.yaml", honest.replace("rollback:\n", leaves));
    let ran = site(&place, &["--what-if", "rollback"]);
    ran.expect_passed();
}

/// A package for the small stack: the steps of its components, and what stands behind them.
fn package(components: &[(&str, &str, &str)], more: &str) -> String {
    let mut text = "package: small\nversion: 1.0.0\ncomponents:\n".to_owned();
    for (name, after, script) in components {
        text += &format!("  - name: {name}\n    after: [{after}]\n    steps:\n");
        for (number, line) in script.split(';').enumerate() {
            text += &format!(
                "      - {{ name: \"{name} {}\", service: app, run: \"{}\" }}\n",
                number + 1,
                line.trim()
            );
        }
    }
    (text + more).replace("    after: []\n", "")
}

/// The place comes along: the run's folder lies in it.
fn small(test: &str, components: &[(&str, &str, &str)], more: &str, what_if: &str) -> (Place, Ran) {
    let place = Place::small(test, &package(components, more));
    place.rehearsal(&format!("what_if: {what_if}\n"));
    let ran = place.run(&[]);
    (place, ran)
}

#[test]
fn a_slow_rollback_a_second_deploy_that_fails_and_one_that_changes_something() {
    let (held, ran) = small(
        "what-if-slow",
        &[("app", "", "touch /srv/state/new")],
        "rollback: { steps: [{ name: slow, service: app, run: rm /srv/state/new && sleep 2 }] }\n\
         declares: { max_rollback: 1s }\n",
        "[rollback]",
    );
    ran.expect(1, Outcome::Failed, Some(Owner::Package));
    expect(
        &ran,
        "rollback",
        PathOutcome::Failed,
        &["more than declares.max_rollback (1.0 s)"],
    );

    drop(held);
    let (held, ran) = small(
        "what-if-again",
        &[("app", "", "mkdir /srv/state/new")],
        "",
        "[rerun]",
    );
    ran.expect(1, Outcome::Failed, Some(Owner::Package));
    expect(
        &ran,
        "rerun",
        PathOutcome::Failed,
        &["the second deploy: ", "File exists"],
    );

    drop(held);
    let (_held, ran) = small(
        "what-if-more",
        &[("app", "", "echo more >> /srv/state/list")],
        "",
        "[rerun, { path: again, times: 2 }]",
    );
    ran.expect(1, Outcome::Failed, Some(Owner::Package));
    expect(
        &ran,
        "rerun",
        PathOutcome::Failed,
        &["the second deploy changed files of volume state"],
    );
    expect(&ran, "again 2 of 2", PathOutcome::Passed, &[]);
}

/// The second step finds out what the first has begun.
const HALF_APPLIED: &[(&str, &str, &str)] =
    &[("app", "", "mkdir /srv/state/new; touch /srv/state/new/done")];

#[test]
fn a_deploy_that_cannot_be_resumed_needs_a_way_back() {
    let (held, ran) = small("what-if-half", HALF_APPLIED, "", "[interrupt]");
    ran.expect(1, Outcome::Failed, Some(Owner::Package));
    expect(
        &ran,
        "killed before app / app 1",
        PathOutcome::Passed,
        &["deployed again it ends well", "the site was up half-way"],
    );
    expect(
        &ran,
        "killed after app / app 1",
        PathOutcome::Failed,
        &["the package has no rollback", "File exists"],
    );

    drop(held);
    let (_held, ran) = small(
        "what-if-back",
        HALF_APPLIED,
        "rollback: { steps: [{ name: back, service: app, run: rm -rf /srv/state/new }] }\n",
        "[interrupt, rollback]",
    );
    ran.expect_passed();
    expect(
        &ran,
        "killed after app / app 1",
        PathOutcome::Passed,
        &["its rollback leads back from there", "File exists"],
    );
}

#[test]
fn a_step_is_killed_with_its_service_while_it_runs() {
    let (_held, ran) = small(
        "what-if-kill",
        &[("app", "", "sleep 2 && touch /srv/state/slow")],
        "",
        "[interrupt]",
    );
    ran.expect_passed();
    expect(
        &ran,
        "killed during app / app 1",
        PathOutcome::Passed,
        &["it was killed with its service after 1."],
    );
}

#[test]
fn an_order_that_matters_is_found_and_a_declared_one_is_told() {
    let needs = "test -e /srv/state/first";
    let (held, ran) = small(
        "what-if-order",
        &[
            ("first", "", "touch /srv/state/first"),
            ("second", "", needs),
        ],
        "",
        "[order]",
    );
    ran.expect(1, Outcome::Failed, Some(Owner::Package));
    expect(
        &ran,
        "order second, first",
        PathOutcome::Failed,
        &["`second` before `first` matters and is not declared"],
    );

    // Declared, it is told to be real, and judges nothing; what was declared without need is told too.
    drop(held);
    let (_held, ran) = small(
        "what-if-real",
        &[
            ("first", "", "touch /srv/state/first"),
            ("second", "first", needs),
            ("third", "second", "touch /srv/state/third"),
        ],
        "",
        "[order, subset]",
    );
    ran.expect_passed();
    expect(
        &ran,
        "order second, first, third",
        PathOutcome::Failed,
        &["the declared dependency `second` after `first` is real"],
    );
    expect(
        &ran,
        "order first, third, second",
        PathOutcome::Passed,
        &["`third` after `second` was not needed in this staging"],
    );
    expect(&ran, "only first", PathOutcome::Passed, &[]);
    expect(&ran, "only first, second", PathOutcome::Passed, &[]);
    expect(
        &ran,
        "only second",
        PathOutcome::Failed,
        &["without first: "],
    );
    assert_eq!(
        ran.case("what-if.subset", "only second").status,
        CaseStatus::Warned
    );
}

#[test]
fn how_fast_an_answer_is_does_not_count_on_a_path() {
    let first = ("first", "", "echo first >> /srv/state/log");
    let second = ("second", "", "echo second >> /srv/state/log");
    let place = Place::small("what-if-speed", &package(&[first, second], ""));
    place.rehearsal("what_if: [order]\n");
    // It is slow where the other one was deployed first.
    place.write(
        "testplan.yaml",
        "testplan: small\ntests:\n  - name: the app answers\n    exec: { service: app, run: echo up }\n    \
         expect: { stdout: up }\n  - name: it is quick\n    when: [verify]\n    \
         exec: { service: app, run: 'test \"$(head -n 1 /srv/state/log)\" = first || sleep 2; echo up' }\n    \
         expect: { stdout: up, within: 1500ms }\n",
    );
    let ran = place.run(&[]);
    ran.expect_passed();
    expect(&ran, "order second, first", PathOutcome::Passed, &[]);
    // In the deploy that is judged it counts.
    place.write("package/deploy.yaml", package(&[second], ""));
    place.rehearsal("");
    let ran = place.run(&[]);
    ran.expect(1, Outcome::Failed, Some(Owner::Package));
    let case = ran.case("verify.small", "it is quick");
    assert_eq!(case.mismatches[0].what, "time");
}

#[test]
fn a_variable_that_is_taken_back_leads_back() {
    let deploy = |back: &str| {
        format!(
            "package: flavours\ncomponents:\n  - name: app\n    steps:\n      \
             - {{ name: flavour, service: app, env: {{ FLAVOUR: sweet }} }}\n\
             rollback: {{ steps: [{{ name: back, service: app, env: {{ FLAVOUR: {back} }} }}] }}\n"
        )
    };
    let place = Place::small("what-if-variable", &deploy("null"));
    place.rehearsal("what_if: [rollback]\n");
    place.run(&[]).expect_passed();
    place.write("package/deploy.yaml", deploy("sour"));
    let ran = place.run(&[]);
    ran.expect(1, Outcome::Failed, Some(Owner::Package));
    let case = ran.case("what-if.rollback", "rollback");
    let named: Vec<&str> = case.mismatches.iter().map(|m| m.what.as_str()).collect();
    assert_eq!(named, ["variable FLAVOUR of app"]);
}

#[test]
fn an_advisory_failure_leaves_the_run_passed_and_a_missing_way_back_does_not() {
    let (held, ran) = small(
        "what-if-advisory",
        &[("app", "", "mkdir /srv/state/new")],
        "",
        "[{ path: rerun, advisory: true }, { path: rollback, advisory: true }]",
    );
    ran.expect_passed();
    expect(&ran, "rerun", PathOutcome::Failed, &["File exists"]);
    expect(
        &ran,
        "rollback",
        PathOutcome::Failed,
        &["the package has no rollback"],
    );

    drop(held);
    let place = Place::small(
        "what-if-none",
        &package(&[("app", "", "touch /srv/state/new")], ""),
    );
    let ran = place.run(&["--what-if", "rollback"]);
    ran.expect(1, Outcome::Failed, Some(Owner::Package));
    // A deploy that fails says all there is to say.
    let place = Place::beside(&place, "what-if-not-tried")
        .made_small(&package(&[("app", "", "exit 3")], ""));
    place.rehearsal("what_if: [again]\n");
    let ran = place.run(&[]);
    ran.expect(1, Outcome::Failed, Some(Owner::Package));
    assert_eq!(ran.verdict().stage, Some(Stage::Deploy));
    let told = ran.record().what_ifs.expect("what-ifs were asked for");
    assert!(told.paths.iter().all(|path| path.end == PathEnd::NotTried));
    assert_eq!(
        ran.case("what-if.again", "again 2 of 3").status,
        CaseStatus::Skipped
    );
}

#[test]
fn what_the_engine_does_for_a_step_is_broken_off_too() {
    let place = Place::small(
        "what-if-actions",
        "package: actions\ncomponents:\n  - name: app\n    steps:\n      \
         - { name: colour, service: app, env: { COLOUR: red } }\n      \
         - { name: page, service: app, copy: page/, to: /srv/state/page }\n      \
         - { name: restart, restart: app }\n",
    );
    place.write("package/page/index.html", "<h1>Actions</h1>\n");
    place.write(
        "testplan.yaml",
        "testplan: small\ntests:\n  - name: the app answers\n    exec: { service: app, run: echo up }\n    \
         expect: { stdout: up }\n  - name: it is deployed\n    when: [verify]\n    \
         exec: { service: app, run: 'echo $COLOUR; ls /srv/state/page' }\n    \
         expect: { stdout: { equals: \"red\\nindex.html\" } }\n",
    );
    place.rehearsal("what_if: [interrupt]\n");
    let ran = place.run(&[]);
    ran.expect_passed();
    for step in ["colour", "page", "restart"] {
        let wanted = format!("killed during app / {step}");
        expect(
            &ran,
            &wanted,
            PathOutcome::Passed,
            &["deployed again it ends well"],
        );
    }
    // What it takes to make a container anew leaves time enough.
    let name = "killed during app / colour";
    expect(
        &ran,
        name,
        PathOutcome::Passed,
        &["in the middle of what the engine does"],
    );
}

#[test]
fn a_rollback_of_mariadb_that_lies_is_found() {
    let restore = "restore: [{ service: db, mariadb: { dump: mini.sql, database: mini } }]\nwhat_if: [rollback]\n";
    let place = crate::mariadb::place("what-if-maria", restore);
    crate::mariadb::stack_without_events(&place);
    place.write("mini.sql", crate::mariadb::sql("mini.sql"));
    let client = "mariadb -uroot -pin-staging mini -e";
    let package = |back: &str| {
        format!(
            "package: maria\ncomponents:\n  - name: db\n    steps:\n      \
             - {{ name: note, service: db, run: \"{client} 'create table note (id int primary key)'\" }}\n      \
             - {{ name: row, service: db, run: \"{client} 'insert into old values (4711, 4711)'\" }}\n\
             rollback:\n  steps: [{{ name: back, service: db, run: \"{client} '{back}'\" }}]\n"
        )
    };
    for (back, left) in [
        (
            "select 1",
            vec![
                "rows of db mini.note",
                "rows of db mini.old",
                "table mini.note of db",
            ],
        ),
        ("drop table note", vec!["rows of db mini.old"]),
        ("delete from old where id = 4711; drop table note", vec![]),
    ] {
        place.write("package/deploy.yaml", package(back));
        let ran = place.run(&[]);
        let case = ran.case("what-if.rollback", "rollback");
        let mut seen: Vec<&str> = case
            .mismatches
            .iter()
            .map(|found| found.what.as_str())
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, left, "{back}: {case:?}");
        if left.is_empty() {
            ran.expect_passed();
        } else {
            ran.expect(1, Outcome::Failed, Some(Owner::Package));
            expect(
                &ran,
                "rollback",
                PathOutcome::Failed,
                &["says that it succeeded"],
            );
        }
    }
    // The package that came back. What is too large to be compared is no proof.
    place.rehearsal(&format!("{restore}limits: {{ compare: 1k }}\n"));
    let ran = place.run(&[]);
    ran.expect(2, Outcome::Invalid, Some(Owner::Staging));
    let reason = ran.reason(Stage::WhatIf);
    assert!(
        reason.contains("what is too large was not compared"),
        "{reason}"
    );
    assert!(reason.contains("mini.paper"), "{reason}");
}
