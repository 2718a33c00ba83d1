//! What a runbook says stands beside its steps, and can do nothing there.

use crate::event::{CaseStatus, EventKind, Part, Stage};
use crate::report::record::Record;
use crate::report::{html, junit};
use crate::verdict::stream;

#[test]
fn the_words_of_a_runbook_stand_beside_its_steps() {
    let prose = |text: &str| Part::Prose {
        text: text.to_owned(),
    };
    let step = |step: &str, rollback| Part::Step {
        step: step.to_owned(),
        rollback,
    };
    let parts = vec![
        prose("Two lines\nof SQL & <script>alert(1)</script>"),
        step("migrate", false),
        prose("You should see:"),
        Part::Shown {
            language: "console".to_owned(),
            text: "UPDATE 1 <b>\n".to_owned(),
        },
        step("look", false),
        step("go back", true),
        prose("x".repeat(100_000).as_str()),
    ];
    let mut s = stream::up_to_snapshot();
    s.push(EventKind::Runbook {
        component: "site".to_owned(),
        parts: parts.clone(),
    })
    .begin(Stage::Deploy)
    .step("site", "migrate", 0, &["UPDATE 1"])
    .case(Stage::Deploy, "site / migrate", CaseStatus::Passed);

    let page = html::render(&s.events);
    assert!(page.len() < 30_000, "{}", page.len());
    assert!(!page.contains("<script>") && !page.contains("1 <b>"));
    let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text}: {page}"));
    let order = [
        at("Two lines\nof SQL &amp; &lt;script&gt;"),
        at("<summary>site/migrate"),
        at("console, not run:"),
        at("UPDATE 1 &lt;b&gt;"),
        at("look <span class=\"dim\">not reached"),
        at("go back <span class=\"dim\">of the way back"),
    ];
    assert!(order.is_sorted(), "{order:?}");

    let junit = junit::render(&s.events);
    let (_, case) = junit.split_once("name=\"site / migrate\"").unwrap();
    let (case, _) = case.split_once("</testcase>").unwrap();
    assert!(
        case.contains("Two lines\nof SQL &amp; &lt;script&gt;"),
        "{case}"
    );

    assert_eq!(Record::of(&s.events).unwrap().runbook, parts);
}
