//! Reads JUnit as a CI does, strictly.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// A case of the file.
#[derive(Debug, Default)]
pub(crate) struct Case {
    pub(crate) class: String,
    pub(crate) name: String,
    /// `failure`, `error` or `skipped`, with the attribute `message` and the text.
    pub(crate) result: Option<(String, String, String)>,
}

/// A file of flat suites.
#[derive(Debug, Default)]
pub(crate) struct Junit {
    /// From a suite's name to its cases.
    pub(crate) suites: BTreeMap<String, Vec<Case>>,
}

impl Junit {
    /// Reads a file and checks what makes CIs show it well: one level of suites, counts that are true, and no two
    /// cases with the same class and name.
    pub(crate) fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).expect("the JUnit file is there");
        let mut reader = Reader::from_str(&text);
        let mut junit = Self::default();
        let mut open: Vec<String> = Vec::new();
        let (mut suite, mut expected) = (String::new(), BTreeMap::new());
        loop {
            let event = reader.read_event().expect("well-formed XML");
            let empty = matches!(event, Event::Empty(_));
            match event {
                Event::Start(start) | Event::Empty(start) => {
                    let tag = String::from_utf8_lossy(start.name().as_ref()).into_owned();
                    let parent = open.last().map(String::as_str);
                    match tag.as_str() {
                        "testsuites" => assert_eq!(parent, None),
                        "testsuite" => {
                            assert_eq!(parent, Some("testsuites"), "suites are flat");
                            suite = attribute(&start, "name");
                            expected.insert(suite.clone(), counts(&start));
                            let before = junit.suites.insert(suite.clone(), Vec::new());
                            assert!(before.is_none(), "two suites are called {suite}");
                        }
                        "testcase" => {
                            assert_eq!(parent, Some("testsuite"));
                            let case = Case {
                                class: attribute(&start, "classname"),
                                name: attribute(&start, "name"),
                                result: None,
                            };
                            junit.suites.entry(suite.clone()).or_default().push(case);
                        }
                        "failure" | "error" | "skipped" => {
                            assert_eq!(parent, Some("testcase"));
                            let message = attribute(&start, "message");
                            let result = Some((tag.clone(), message, String::new()));
                            junit.last(&suite).result = result;
                        }
                        "system-out" | "system-err" | "properties" | "property" => {}
                        other => panic!("unknown element {other}"),
                    }
                    if !empty {
                        open.push(tag);
                    }
                }
                Event::End(_) => {
                    open.pop();
                }
                Event::Text(part) => {
                    let part = part.decode().expect("UTF-8");
                    junit.text(&open, &suite, &part);
                }
                Event::GeneralRef(_) => junit.text(&open, &suite, "?"),
                Event::CData(part) => {
                    let part = part.decode().expect("UTF-8");
                    junit.text(&open, &suite, &part);
                }
                Event::Eof => break,
                Event::Decl(_) => {}
                other => panic!("unexpected {other:?}"),
            }
        }
        let mut seen = BTreeSet::new();
        for (suite, cases) in &junit.suites {
            let of = |kind: &str| {
                let with = |case: &&Case| case.result.as_ref().is_some_and(|(tag, ..)| tag == kind);
                cases.iter().filter(with).count()
            };
            let counted = [cases.len(), of("failure"), of("error"), of("skipped")];
            assert_eq!(expected[suite], counted, "counts of {suite}");
            for case in cases {
                assert!(
                    seen.insert((&case.class, &case.name)),
                    "two cases are called {} {}",
                    case.class,
                    case.name
                );
            }
        }
        junit
    }

    fn last(&mut self, suite: &str) -> &mut Case {
        let cases = self.suites.get_mut(suite).expect("inside a suite");
        cases.last_mut().expect("inside a case")
    }

    fn text(&mut self, open: &[String], suite: &str, part: &str) {
        let inside = open.last().map(String::as_str);
        if matches!(inside, Some("failure" | "error" | "skipped"))
            && let Some((_, _, text)) = &mut self.last(suite).result
        {
            text.push_str(part);
        }
    }

    /// The cases with a failure or an error.
    pub(crate) fn wrong(&self) -> Vec<&Case> {
        let wrong = |case: &&Case| {
            case.result
                .as_ref()
                .is_some_and(|(tag, ..)| tag != "skipped")
        };
        self.suites.values().flatten().filter(wrong).collect()
    }
}

fn attribute(start: &BytesStart<'_>, name: &str) -> String {
    let found = start
        .try_get_attribute(name)
        .expect("well-formed attributes")
        .unwrap_or_else(|| panic!("{start:?} has no {name}"));
    let decoded = found
        .normalized_value(quick_xml::XmlVersion::Implicit1_0)
        .expect("well-formed text");
    decoded.into_owned()
}

fn counts(start: &BytesStart<'_>) -> [usize; 4] {
    ["tests", "failures", "errors", "skipped"].map(|name| {
        let text = attribute(start, name);
        text.parse().expect("a number")
    })
}
