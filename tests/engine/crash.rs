//! Runs that end before their time: by Ctrl-C, and by SIGKILL.

use rehearsal::event::{Stage, StageOutcome};
use rehearsal::report::record::Record;
use rehearsal::verdict::{Outcome, Rollback};
use rustix::process::Signal;

use crate::common::{Live, Place, Turn, left_of, rehearse};

const ASLEEP: &str = "\
package: asleep
components:
  - name: app
    steps: [{ name: sleep, run: \"echo asleep; sleep 86400\" }]
";

fn asleep(place: &Place) -> Live {
    let mut live = Live::start(place.command("run", &place.path("rehearsal.yaml")));
    live.until_output("asleep");
    live
}

fn sweep() -> String {
    let out = rehearse().arg("sweep").output().expect("it starts");
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(
        out.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&out.stderr)
    );
    said
}

#[test]
fn sweep_removes_what_a_killed_run_left_and_nothing_of_a_living_one() {
    let place = Place::with("killed", Turn::alone()).made_small(ASLEEP);
    let (mut killed, mut living) = (asleep(&place), asleep(&place));
    let (dead, alive) = (killed.run().to_owned(), living.run().to_owned());
    killed.signal(Signal::KILL);
    let ran = killed.finish();
    assert_eq!(ran.code, None, "a signal ended it");

    let left = left_of(&dead);
    for kind in ["container", "network", "volume"] {
        let found = left
            .iter()
            .any(|resource| resource.to_string().starts_with(kind));
        assert!(found, "no {kind} to sweep in {left:?}");
    }
    let (before, said) = (left_of(&alive), sweep());
    assert!(said.contains(&dead) && !said.contains(&alive), "{said}");
    assert_eq!(left_of(&dead), []);
    assert_eq!(left_of(&alive), before);

    // Whatever the killed run reported before it died is there, and is not taken for a pass.
    let events = std::fs::read_to_string(ran.dir().join("events.jsonl")).expect("its events");
    assert!(events.contains("asleep"));
    if let Ok(record) = Record::read(&ran.dir()) {
        assert_eq!((record.exit_code, record.finished), (None, None));
        assert_ne!(record.verdict.outcome, Outcome::Passed);
    }

    // Ctrl-C on the other one: it cleans up after itself.
    living.signal(Signal::INT);
    let ran = living.finish();
    ran.expect(130, Outcome::Invalid, None);
    assert!(ran.verdict().interrupted);
    assert_eq!(ran.verdict().rollback, Rollback::NotReached);
    assert_eq!(ran.stage(Stage::Deploy), Some(&StageOutcome::Interrupted));
    assert_eq!(ran.stage(Stage::Teardown), Some(&StageOutcome::Ok));
    ran.expect_nothing_left();
}

#[test]
fn sigterm_before_anything_was_deployed_leaves_nothing_either() {
    let place = Place::small("term", ASLEEP);
    let mut live = Live::start(place.command("run", &place.path("rehearsal.yaml")));
    live.until("isolate", |kind| {
        matches!(
            kind,
            rehearsal::event::EventKind::StageStarted {
                stage: Stage::Isolate
            }
        )
    });
    live.signal(Signal::TERM);
    let ran = live.finish();
    ran.expect(130, Outcome::Invalid, None);
    assert_eq!(ran.stage(Stage::Deploy), None);
    ran.expect_nothing_left();
}
