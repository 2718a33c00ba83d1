//! The proof of isolation, in the run in which it must fail.

use rehearsal::event::{CaseStatus, EventKind, Owner, Stage};
use rehearsal::verdict::Outcome;

use crate::common::Place;

const NEVER: &str = "\
package: never
components:
  - name: app
    steps: [{ name: must not run, run: echo deployed }]
";

#[test]
fn a_network_without_the_isolation_option_is_found_out_before_anything_enters_it() {
    let place = Place::small("open", NEVER);
    place.rehearsal("forbidden: [db.prod.example.com, 192.0.2.10]\n");
    let ran = place.run(&["--without-isolation"]);
    ran.expect(2, Outcome::Invalid, Some(Owner::Isolation));
    assert_eq!(ran.verdict().stage, Some(Stage::Isolate));
    let control = ran.case("isolate", "control: an ordinary network reaches the beacon");
    assert_eq!(control.status, CaseStatus::Passed);
    let open: Vec<&str> = ran
        .cases()
        .filter(|(_, case)| case.suite == "isolate" && case.status == CaseStatus::Failed)
        .map(|(_, case)| case.name.as_str())
        .collect();
    assert!(
        open.iter().any(|name| name.starts_with("gateway ")),
        "{open:?}"
    );
    // Production's hosts are not touched from a network that is known to be open.
    for host in ["db.prod.example.com", "192.0.2.10"] {
        let case = ran.case("isolate", &format!("forbidden {host}"));
        assert_eq!(case.status, CaseStatus::Skipped, "{case:?}");
    }
    for stage in [Stage::Restore, Stage::Baseline, Stage::Deploy] {
        assert_eq!(ran.stage(stage), None, "{stage} was reached");
    }
    let skipped = ran.events.iter().filter(|event| {
        matches!(&event.kind, EventKind::StageSkipped { stage: Stage::Deploy, reason } if reason.contains("isolate"))
    });
    assert_eq!(skipped.count(), 1);
    ran.expect_nothing_left();
}
