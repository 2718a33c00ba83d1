//! The paths of what-ifs as people see them: how far they have come, and the table of paths against outcomes.

use std::fmt::Write as _;

use crate::event::{Event, EventKind};
use crate::report::paint::Paint;
use crate::report::record::{PathFacts, WhatIfFacts};
use crate::report::text::{bytes, clip, count, one_line, seconds, wrap};
use crate::verdict::{PathEnd, paths_seen};

/// Wide enough for most names; longer ones are cut.
const NAME: usize = 46;

/// `3 of 12 paths, 1 failed`.
pub(super) fn progress(events: &[Event]) -> String {
    let paths = paths_seen(events);
    let number = |wanted: &[PathEnd]| paths.iter().filter(|p| wanted.contains(&p.end)).count();
    let ended = number(&[PathEnd::Passed, PathEnd::Failed, PathEnd::Invalid]);
    let mut said = format!("{ended} of {}", count(paths.len(), "path"));
    for (end, word) in [
        (PathEnd::Failed, "failed"),
        (PathEnd::Invalid, "could not be judged"),
    ] {
        let number = number(&[end]);
        if number > 0 {
            let _ = write!(said, ", {number} {word}");
        }
    }
    said
}

/// How the paths of each what-if ended: `again: 3 of 3 ended the same way`.
pub(super) fn by_what_if(facts: &WhatIfFacts) -> Vec<(String, String)> {
    let mut names: Vec<&str> = Vec::new();
    for path in &facts.paths {
        if !names.contains(&path.what_if.as_str()) {
            names.push(&path.what_if);
        }
    }
    names
        .into_iter()
        .map(|name| {
            let of: Vec<&PathFacts> = facts.paths.iter().filter(|p| p.what_if == name).collect();
            let passed = of.iter().filter(|p| p.end == PathEnd::Passed).count();
            let total = of.len();
            let said = match name {
                // The deploy itself was the first of them, and what-ifs are tried only after it passed.
                "again" if of.iter().all(|p| p.end == PathEnd::NotTried) => "not tried".to_owned(),
                "again" if passed == total => {
                    format!("{} of {} ended the same way", passed + 1, total + 1)
                }
                "again" => format!(
                    "FLAKY: {} of {} ended as the first did",
                    passed + 1,
                    total + 1
                ),
                _ => format!("{passed} of {total} passed"),
            };
            (name.to_owned(), said)
        })
        .collect()
}

/// What is said below the table.
pub(super) fn left_out(facts: &WhatIfFacts) -> Option<String> {
    let number = match facts.orders_left_out {
        0 => return None,
        u64::MAX => "more orders than can be counted were not tried".to_owned(),
        1 => "1 order was not tried".to_owned(),
        n => format!("{n} orders were not tried"),
    };
    Some(format!(
        "{number}: `--max-orders` tries more, `--seed {}` the same ones",
        facts.seed
    ))
}

/// The table, a line a path, and what was learnt below those that did not pass.
pub(super) fn table(out: &mut String, facts: &WhatIfFacts, paint: Paint) {
    let _ = writeln!(out, "   {}", paint.bold("what-ifs"));
    for path in &facts.paths {
        let (mark, word) = match (path.end, path.advisory) {
            (PathEnd::Passed, _) => (paint.good("✓"), path.end.says()),
            (PathEnd::Failed, false) => (paint.bad("✗"), path.end.says()),
            (PathEnd::Failed | PathEnd::Invalid, true) => (paint.doubt("~"), path.end.says()),
            (PathEnd::Invalid | PathEnd::Unfinished, _) => (paint.doubt("!"), path.end.says()),
            (PathEnd::NotTried, _) => (paint.dim("–"), path.end.says()),
        };
        let name = clip(&one_line(&path.path), NAME);
        let advisory = if path.advisory { ", advisory" } else { "" };
        let mut figures = Vec::new();
        if path.end != PathEnd::NotTried {
            figures.push(seconds(path.seconds));
        }
        figures.extend(path.bytes.map(bytes));
        let line = format!(
            "     {mark} {name:<NAME$}  {:<28} {}",
            format!("{word}{advisory}"),
            paint.dim(&figures.join(" · "))
        );
        let _ = writeln!(out, "{}", line.trim_end());
        if let Some(reason) = &path.reason {
            let reason = wrap(&clip(&one_line(reason), 300), 70, 9);
            let _ = writeln!(out, "         {}", paint.dim(&reason));
        }
    }
    let told: Vec<String> = by_what_if(facts)
        .into_iter()
        .map(|(name, said)| format!("{name}: {said}"))
        .collect();
    let _ = writeln!(out, "     {}", paint.dim(&wrap(&told.join(" · "), 72, 5)));
    if let Some(left) = left_out(facts) {
        let _ = writeln!(out, "     {}", paint.dim(&wrap(&left, 72, 5)));
    }
    out.push('\n');
}

/// What happened on one path that its page shows: the steps, and the cases that did not pass.
pub(super) fn happened<'a>(
    events: &'a [Event],
    wanted: &'a str,
) -> impl Iterator<Item = &'a EventKind> {
    events.iter().filter_map(move |event| match &event.kind {
        EventKind::OnPath { path, happened } if path == wanted => Some(happened.as_ref()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Mode, PathOutcome, PathPlanned};
    use crate::report::record::Record;
    use crate::verdict::stream::Stream;

    fn stream() -> Stream {
        let planned = |path: &str, what_if: &str, advisory| PathPlanned {
            path: path.to_owned(),
            what_if: what_if.to_owned(),
            advisory,
        };
        let mut s = Stream::new(Mode::Rehearse);
        s.push(EventKind::PathsPlanned {
            paths: vec![
                planned("rollback", "rollback", false),
                planned("order b, a", "order", true),
                planned("again 2 of 3", "again", false),
                planned("again 3 of 3", "again", false),
            ],
            orders_left_out: 3,
            seed: 7,
        });
        for (path, outcome, reason) in [
            ("rollback", PathOutcome::Passed, "it took 4.2 s"),
            ("order b, a", PathOutcome::Failed, "it is real"),
            ("again 2 of 3", PathOutcome::Failed, "exit code 1"),
        ] {
            let path = path.to_owned();
            s.push(EventKind::PathStarted { path: path.clone() });
            s.push(EventKind::PathEnded {
                path,
                outcome,
                reason: Some(reason.to_owned()),
                seconds: 2.0,
                bytes: Some(4096),
            });
        }
        s
    }

    #[test]
    fn the_table_has_a_line_for_each_path_and_its_reason() {
        let events = stream().events;
        let record = Record::of(&events).expect("it started");
        let facts = record.what_ifs.expect("what-ifs were asked for");
        let mut out = String::new();
        table(&mut out, &facts, Paint::PLAIN);
        let lines: Vec<String> = out
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(
            lines,
            [
                "what-ifs",
                "✓ rollback passed 2.00 s · 4.0 KiB",
                "it took 4.2 s",
                "~ order b, a failed, advisory 2.00 s · 4.0 KiB",
                "it is real",
                "✗ again 2 of 3 failed 2.00 s · 4.0 KiB",
                "exit code 1",
                "– again 3 of 3 not tried",
                "rollback: 1 of 1 passed · order: 0 of 1 passed · again: FLAKY: 1 of 3",
                "ended as the first did",
                "3 orders were not tried: `--max-orders` tries more, `--seed 7` the same",
                "ones",
                "",
            ]
        );
        assert_eq!(progress(&events), "3 of 4 paths, 2 failed");
        let page = crate::report::html::render(&events);
        for words in ["<h2>What-ifs</h2>", "again 3 of 3", "it is real"] {
            assert!(page.contains(words), "{words}");
        }
    }

    #[test]
    fn what_happened_on_a_path_is_in_no_other_part_of_a_report() {
        let mut s = stream();
        let mut inside = Stream::new(Mode::Rehearse);
        inside.step("backend", "migrate", 3, &["ERROR: on the path"]);
        for event in inside.events.into_iter().skip(1) {
            s.push(EventKind::OnPath {
                path: "again 2 of 3".to_owned(),
                happened: Box::new(event.kind),
            });
        }
        assert!(crate::report::steps::steps(&s.events).is_empty());
        assert!(!crate::report::junit::render(&s.events).contains("on the path"));
        let page = crate::report::html::render(&s.events);
        assert!(page.contains("step backend/migrate ended after"), "{page}");
        assert!(
            page.contains("logs/again-2-of-3_-backend_migrate.log"),
            "{page}"
        );
    }
}
