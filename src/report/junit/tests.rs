//! The file as its readers see it: parsed back, and fed with what breaks them.

use std::collections::BTreeSet;

use quick_xml::events::Event as Xml;

use super::*;
use crate::event::{EventKind, Stage, StageOutcome};
use crate::verdict::stream::{self, Stream};

/// A test case as a reader finds it.
#[derive(Clone, Debug, Default)]
struct Seen {
    suite: String,
    class: String,
    name: String,
    time: String,
    /// `failure`, `error`, `skipped` or nothing.
    kind: String,
    message: String,
    text: String,
    outputs: Vec<String>,
}

/// Parses strictly: any text that XML 1.0 forbids, and any nested suite, is a panic.
fn read(xml: &str) -> Vec<Seen> {
    let allowed = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..);
    assert_eq!(xml.chars().find(|c| !allowed(*c) || *c == '\u{1b}'), None);
    let mut reader = quick_xml::Reader::from_str(xml);
    let mut path: Vec<String> = Vec::new();
    let (mut cases, mut suite) = (Vec::new(), String::new());
    loop {
        let event = reader.read_event().unwrap();
        let empty = matches!(event, Xml::Empty(_));
        match event {
            Xml::Start(tag) | Xml::Empty(tag) => {
                let name = String::from_utf8(tag.name().as_ref().to_vec()).unwrap();
                let attribute = |wanted: &str| {
                    let found = tag.try_get_attribute(wanted).unwrap()?;
                    Some(
                        found
                            .normalized_value(quick_xml::XmlVersion::Explicit1_0)
                            .unwrap()
                            .into_owned(),
                    )
                };
                match name.as_str() {
                    "testsuite" => {
                        assert_eq!(path, ["testsuites"], "suites are flat");
                        suite = attribute("name").unwrap();
                    }
                    "testcase" => cases.push(Seen {
                        suite: suite.clone(),
                        class: attribute("classname").unwrap(),
                        name: attribute("name").unwrap(),
                        time: attribute("time").unwrap_or_default(),
                        ..Seen::default()
                    }),
                    "failure" | "error" | "skipped" => {
                        let case = cases.last_mut().unwrap();
                        assert_eq!(case.kind, "", "one status a case");
                        case.kind.clone_from(&name);
                        case.message = attribute("message").unwrap();
                    }
                    "system-out" => cases.last_mut().unwrap().outputs.push(String::new()),
                    _ => {}
                }
                if !empty {
                    path.push(name);
                }
            }
            Xml::End(_) => drop(path.pop()),
            Xml::Text(text) => add(&mut cases, &path, &text.decode().unwrap()),
            Xml::GeneralRef(entity) => {
                let name = entity.decode().unwrap();
                let text = match &*name {
                    "lt" => "<",
                    "gt" => ">",
                    "amp" => "&",
                    "quot" => "\"",
                    "apos" => "'",
                    other => panic!("entity {other}"),
                };
                add(&mut cases, &path, text);
            }
            Xml::Eof => break,
            Xml::Decl(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(path.is_empty());
    cases
}

fn add(cases: &mut [Seen], path: &[String], text: &str) {
    match path.last().map(String::as_str) {
        Some("failure" | "error" | "skipped") => cases.last_mut().unwrap().text += text,
        Some("system-out") => *cases.last_mut().unwrap().outputs.last_mut().unwrap() += text,
        _ => {}
    }
}

fn red(cases: &[Seen]) -> usize {
    cases
        .iter()
        .filter(|c| c.kind == "failure" || c.kind == "error")
        .count()
}

#[test]
fn files() {
    for (name, stream) in [
        ("passing", stream::passing()),
        ("failing", stream::failing()),
        ("backup_check", stream::backup_check()),
    ] {
        let xml = render(&stream.events);
        let cases = read(&xml);
        let ids: BTreeSet<_> = cases.iter().map(|c| (&c.class, &c.name)).collect();
        assert_eq!(
            ids.len(),
            cases.len(),
            "{name}: class and name are unique together"
        );
        insta::assert_snapshot!(name, xml);
    }
}

#[test]
fn kinds_are_kept_apart() {
    let mut s = stream::up_to_deploy();
    s.begin(Stage::Verify);
    for (name, status) in [
        ("p", CaseStatus::Passed),
        ("f", CaseStatus::Failed),
        ("e", CaseStatus::Error),
        ("s", CaseStatus::Skipped),
        ("w", CaseStatus::Warned),
    ] {
        s.case(Stage::Verify, name, status);
    }
    s.end_bad(Stage::Verify, Owner::Package, "1 failed")
        .finish();
    let cases = read(&render(&s.events));
    let of = |name: &str| {
        cases
            .iter()
            .find(|c| c.suite == "verify.site" && c.name == name)
            .unwrap()
    };
    let kinds = ["p", "f", "e", "s", "w"].map(|name| of(name).kind.as_str());
    assert_eq!(kinds, ["", "failure", "error", "skipped", ""]);
    for name in ["f", "e", "s"] {
        assert!(
            !of(name).message.is_empty() && of(name).text.starts_with(&of(name).message),
            "{:?}",
            of(name)
        );
    }
    assert!(
        of("f").text.contains("testplans/site.yaml:12:5") && of("f").text.contains("expected: 200")
    );
    assert_eq!(of("f").outputs.len(), 1);
    assert!(
        of("f").outputs[0]
            .contains("[[ATTACHMENT|.rehearse/runs/01JD0000000000000000000000/logs/web.log]]")
    );
    assert!(of("w").outputs[0].starts_with("warning: took 900 ms"));
    assert_eq!(of("p").time, "0.125");
}

#[test]
fn stages_are_cases() {
    let mut s = stream::up_to_deploy();
    s.bad(Stage::Verify, Owner::Package, "x")
        .bad(Stage::Rollback, Owner::Engine, "y");
    s.push(EventKind::StageSkipped {
        stage: Stage::Teardown,
        reason: "kept".to_owned(),
    });
    let cases = read(&render(&s.events));
    let told: Vec<_> = cases
        .iter()
        .filter(|c| c.suite == STAGES)
        .map(|c| (c.name.as_str(), c.kind.as_str()))
        .collect();
    // What-ifs are a stage only where they are asked for.
    assert_eq!(told.len(), Stage::ALL.len() - 1);
    assert_eq!(
        told[6..],
        [
            ("deploy", ""),
            ("verify", "failure"),
            ("rollback", "error"),
            ("teardown", "skipped")
        ]
    );

    let mut s = Stream::new(Mode::BackupCheck);
    s.bad(Stage::Restore, Owner::Backup, "the file ends early")
        .finish();
    let cases = read(&render(&s.events));
    assert_eq!(
        cases.iter().find(|c| c.name == "restore").unwrap().kind,
        "failure"
    );
}

/// The property that matters most: whatever the stream, a run that is not passed is red somewhere.
#[test]
fn what_is_not_passed_is_never_green() {
    let mut stuck = stream::passing_up_to_verify();
    stuck.bad(Stage::Rollback, Owner::Engine, "y").finish();
    assert!(red(&read(&render(&stuck.events))) > 0);
    let mut interrupted = stream::passing_up_to_verify();
    interrupted
        .begin(Stage::Rollback)
        .end(Stage::Rollback, StageOutcome::Interrupted)
        .finish();
    assert!(red(&read(&render(&interrupted.events))) > 0);

    for whole in [stream::passing(), stream::failing(), stream::backup_check()] {
        for at in 0..=whole.events.len() {
            let mut lost = whole.events.clone();
            if at < lost.len() {
                lost.remove(at);
            }
            for events in [&whole.events[..at], &lost[..]] {
                let passed = crate::verdict::Verdict::of(events).outcome == Outcome::Passed;
                let over = matches!(
                    events.last().map(|e| &e.kind),
                    Some(EventKind::RunFinished { .. })
                );
                let cases = read(&render(events));
                assert_eq!(
                    red(&cases) == 0,
                    passed && over,
                    "at event {at}: {events:#?}"
                );
            }
        }
    }
}

#[test]
fn hostile_texts() {
    let lone = String::from_utf8_lossy(b"lone \xed\xa0\x80 surrogate").into_owned();
    let rows = [
        "\u{1b}[31mred\u{1b}[0m \u{1b}]8;;http://x\u{7}link".to_owned(),
        "nul \0 bell \u{7} escape \u{1b} delete \u{7f} csi \u{9b}31m".to_owned(),
        "]]> <![CDATA[ <!-- --> <failure> &amp; &#0; \" '".to_owned(),
        "not a character \u{fffe} \u{ffff}".to_owned(),
        lone,
        "\u{202e}turned".to_owned(),
        String::new(),
        "\n\n".to_owned(),
    ];
    let mut s = stream::up_to_deploy();
    for text in &rows {
        let mut case = stream::case(Stage::Verify, text, CaseStatus::Failed);
        case.message = Some(text.clone());
        case.output = Some(text.clone());
        case.component = Some(text.clone());
        case.evidence = vec![text.clone()];
        case.mismatches[0].seen.clone_from(text);
        s.push(EventKind::CaseFinished {
            stage: Stage::Verify,
            case: case.clone(),
        });
        case.suite.clone_from(text);
        s.push(EventKind::CaseFinished {
            stage: Stage::Verify,
            case,
        });
        s.bad(Stage::Verify, Owner::Package, text);
    }
    let cases = read(&render(&s.events));
    let verify: Vec<_> = cases.iter().filter(|c| c.suite == "verify.site").collect();
    assert_eq!(verify.len(), rows.len());
    assert_eq!(verify[0].name, "red link");
    assert!(verify[2].outputs[0].starts_with("]]> <![CDATA[ <!-- --> <failure> &amp; &#0; \" '"));
    assert!(verify[4].name.contains("surrogate"));
    assert_eq!(verify[6].name, "(no name)");
    assert_eq!(verify[7].name, "(no name) (2)");
}

#[test]
fn ten_megabytes_of_output_are_capped_to_their_end() {
    let mut case = stream::case(Stage::Verify, "loud", CaseStatus::Failed);
    case.output = Some("all work and no play\n".repeat(500_000) + "the end");
    case.mismatches[0].seen = "x".repeat(10 << 20);
    let mut s = stream::up_to_deploy();
    s.push(EventKind::CaseFinished {
        stage: Stage::Verify,
        case,
    });
    let xml = render(&s.events);
    assert!(xml.len() < 512 << 10, "{} bytes", xml.len());
    let cases = read(&xml);
    let loud = cases.iter().find(|c| c.name == "loud").unwrap();
    assert!(
        loud.outputs[0].starts_with('[') && loud.outputs[0].contains("the end"),
        "{:?}",
        &loud.outputs[0][..80]
    );
    assert!(loud.outputs[0].len() <= MOST_OUTPUT + 100);
}

#[test]
fn figures_that_are_none_do_not_keep_the_report_from_being_written() {
    let mut s = stream::up_to_deploy();
    for secs in [f64::NAN, f64::INFINITY, -1.0, 1e300] {
        let mut case = stream::case(Stage::Verify, "t", CaseStatus::Passed);
        case.seconds = secs;
        s.push(EventKind::CaseFinished {
            stage: Stage::Verify,
            case,
        });
    }
    let cases = read(&render(&s.events));
    assert!(cases.iter().filter(|c| c.time == "0.000").count() >= 4);
}
