//! A staging that was broken before the deploy says nothing about a package.

use rehearsal::event::{CaseStatus, Owner, Stage};
use rehearsal::verdict::{Outcome, Rollback};

use crate::common::{BASE, IDLE, Place, Ran};

const GOOD: &str = "\
package: good
components:
  - name: app
    steps: [{ name: look, run: echo deployed }]
";

#[track_caller]
fn expect_not_judged(ran: &Ran) {
    ran.expect(2, Outcome::Invalid, Some(Owner::Staging));
    let verdict = ran.verdict();
    assert_eq!(verdict.stage, Some(Stage::Baseline));
    assert_eq!(verdict.rollback, Rollback::NotReached);
    assert_eq!(ran.stage(Stage::Snapshot), None);
    assert_eq!(ran.stage(Stage::Deploy), None);
    ran.expect_nothing_left();
}

#[test]
fn a_test_that_is_false_before_the_deploy() {
    let place = Place::small("false-before", GOOD);
    place.write(
        "testplan.yaml",
        "testplan: small\ntests:\n  - name: the app is green\n    exec: { service: app, run: printenv COLOUR }\n    \
         expect: { stdout: green }\n",
    );
    let ran = place.run(&[]);
    expect_not_judged(&ran);
    assert!(
        ran.verdict().reason.contains("the app is green"),
        "{}",
        ran.verdict().reason
    );
    let case = ran.case("baseline.small", "the app is green");
    assert_eq!(case.status, CaseStatus::Failed);
    assert!(
        case.mismatches
            .iter()
            .any(|wrong| wrong.seen.contains("blue")),
        "{case:?}"
    );
}

#[test]
fn services_that_do_not_come_up() {
    for (test, service, words) in [
        (
            "exits",
            format!(
                "{{ image: {BASE}, command: [sh, -c, \"echo cannot open the ledger >&2; exit 3\"] }}"
            ),
            &["`worker`", "exit code 3", "cannot open the ledger"][..],
        ),
        (
            "unhealthy",
            format!(
                "{{ image: {BASE}, command: {IDLE}, healthcheck: {{ test: \"echo still locked; exit 1\", interval: 200ms, \
                 retries: 2 }} }}"
            ),
            &["`worker`", "still locked", "ready"],
        ),
    ] {
        let place = Place::small(test, GOOD);
        place.write(
            "stack.yaml",
            format!(
                "services:\n  app:\n    image: {BASE}\n    command: {IDLE}\n  worker: {service}\n"
            ),
        );
        let ran = place.run(&[]);
        expect_not_judged(&ran);
        for word in words {
            assert!(
                ran.reason(Stage::Baseline).contains(word),
                "{word}: {}",
                ran.reason(Stage::Baseline)
            );
        }
        let log = std::fs::read_to_string(ran.dir().join("logs/baseline-worker.log"));
        assert!(!log.expect("its log is kept").is_empty());
    }
}
