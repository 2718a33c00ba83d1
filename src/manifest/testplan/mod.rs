//! The test plan.

mod availability;
mod emulator;
mod expect;
mod probe;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::check::model::{Retry, Severity, Test, When};
use crate::manifest::decode::{Fields, duration, one_or_more, some, string, word};
use crate::manifest::names;
use crate::manifest::paths;
use crate::manifest::place::{At, Place};
use crate::manifest::problem::Problems;
use crate::manifest::tree::{Kind, Node};
pub use availability::TargetEntry;
pub(crate) use probe::Probed;

/// What a step of a package waits for: `http`, `tcp` or `sql`, written as in a test plan.
pub(crate) fn awaited(kind: &str, node: &Arc<Node>, p: &mut Problems) -> Option<Probed> {
    if kind == "http" && matches!(node.kind, Kind::Scalar { .. }) {
        return probe::get(node, p);
    }
    for key in ["file", "within"] {
        if let Some(value) = node.get(key) {
            p.push(
                value
                    .head()
                    .problem(format!("`{key}` means nothing in a `wait`"))
                    .help("it waits for an answer, for as long as the step's `timeout`"),
            );
            return None;
        }
    }
    // It sends no file, so no folder matters.
    probe::decode(kind, node, Path::new(""), p)
}

/// A test plan as written.
#[derive(Clone, Debug)]
pub struct TestPlan {
    /// The file as given.
    pub file: PathBuf,
    /// Its name.
    pub name: String,
    /// In listing order.
    pub tests: Vec<TestEntry>,
    /// What is asked again and again during the deploy.
    pub availability: Vec<TargetEntry>,
}

/// A test as written.
#[derive(Clone, Debug)]
pub struct TestEntry {
    /// The test; where it is silent, what the stack says is filled in by the plan.
    pub test: Test,
    /// The service that it names.
    pub service: Option<At<String>>,
    /// The host that it names.
    pub host: Option<At<String>>,
    /// The emulator that it names.
    pub emulator: Option<At<String>>,
    /// True where an SQL test leaves its role to the stack.
    pub default_user: bool,
    /// Where it is written.
    pub place: Place,
}

impl TestEntry {
    /// Files beside the test plan that it uploads.
    pub fn uploads(&self) -> Vec<PathBuf> {
        use crate::check::model::{HttpBody, Probe};
        match &self.test.probe {
            Probe::Http(http) => match &http.body {
                HttpBody::Form { files, .. } => files.iter().map(|f| f.path.clone()).collect(),
                HttpBody::None | HttpBody::Text(_) | HttpBody::Json(_) => Vec::new(),
            },
            Probe::Tcp(_)
            | Probe::Sql(_)
            | Probe::Exec(_)
            | Probe::File(_)
            | Probe::Emulator(_) => Vec::new(),
        }
    }
}

/// What `within` inside `http:` and the other parts tell the expectations.
#[derive(Default)]
struct Hints {
    within: Option<Duration>,
}

pub(crate) fn decode(file: &Path, root: &Arc<Node>, p: &mut Problems) -> Option<TestPlan> {
    let dir = paths::folder_of(file);
    let mut f = Fields::of(root, "the test plan", p)?;
    let name = f.req("testplan", p, names::lower);
    let tests: Vec<TestEntry> = f
        .req("tests", p, |node, p| {
            some(node, p, |node, p| test(node, &dir, p))
        })
        .unwrap_or_default();
    let availability = f.opt("availability", p, availability::decode);
    f.finish(p);
    for (index, entry) in tests.iter().enumerate() {
        let earlier = tests
            .iter()
            .take(index)
            .find(|e| e.test.name == entry.test.name);
        if let Some(earlier) = earlier {
            p.push(
                entry
                    .place
                    .problem(format!(
                        "a second test is called `{}`; the first is in line {}",
                        entry.test.name,
                        earlier.place.location().line
                    ))
                    .help("results are found by the test's name, so it must be the only one"),
            );
        }
    }
    Some(TestPlan {
        file: file.to_path_buf(),
        name: name.map(|at| at.value).unwrap_or_default(),
        tests,
        availability: availability.unwrap_or_default(),
    })
}

/// Kinds that the design names and this version does not have.
const NOT_BUILT: [&str; 5] = ["dns", "tls", "log", "browser", "load"];
const KINDS: [&str; 6] = ["http", "tcp", "sql", "exec", "file", "emulator"];

fn test(node: &Arc<Node>, dir: &Path, p: &mut Problems) -> Option<TestEntry> {
    let mut f = Fields::of(node, "a test", p)?;
    let name = f.req("name", p, names::title);
    if let Some(name) = &name {
        f.call(format!("the test `{}`", name.value));
    }
    let place = name
        .as_ref()
        .map_or_else(|| f.place.clone(), |name| name.place.clone());
    f.place = place.clone();
    let when = f.opt("when", p, when).unwrap_or_else(|| {
        if f.has("emulator") {
            emulator::WHEN.to_vec()
        } else {
            vec![When::Baseline, When::Verify, When::Rollback]
        }
    });
    let retry = f.opt("retry", p, retry);
    let tags = f
        .opt("tags", p, |node, p| one_or_more(node, p, string))
        .unwrap_or_default();
    let severity = f
        .opt("severity", p, |node, p| {
            word(
                node,
                p,
                &[("fail", Severity::Fail), ("warn", Severity::Warn)],
            )
        })
        .unwrap_or(Severity::Fail);
    let mut unbuilt = false;
    for key in NOT_BUILT.into_iter().chain(["capture"]) {
        if let Some(place) = f.key_place(key) {
            unbuilt |= key != "capture";
            p.push(place.problem(format!("`{key}` is not built yet")).help(
                "remove it; this version has the kinds `http`, `tcp`, `sql`, `exec`, `file` and `emulator`",
            ));
            f.node(key, &mut Problems::new());
        }
    }
    let given: Vec<&'static str> = KINDS.into_iter().filter(|kind| f.has(kind)).collect();
    let expect = f.opt("expect", p, |node, _| Some(Arc::clone(node)));
    let kind = match given.as_slice() {
        [kind] => Some(*kind),
        [] => {
            if !unbuilt {
                p.push(
                    place
                        .problem("the test has no kind")
                        .help("give it one of `http`, `tcp`, `sql`, `exec`, `file`, `emulator`"),
                );
            }
            None
        }
        several => {
            let several: Vec<_> = several.iter().map(|kind| format!("`{kind}`")).collect();
            p.push(
                place
                    .problem(format!(
                        "the test has several kinds: {}",
                        several.join(" and ")
                    ))
                    .help("write one test for each, so that a failure names what failed"),
            );
            None
        }
    };
    let Some(kind) = kind else {
        for kind in KINDS {
            f.node(kind, &mut Problems::new());
        }
        f.finish(p);
        return None;
    };
    if kind == "emulator" {
        let asked = f.opt(kind, p, |node, p| emulator::decode(node, &when, p));
        if let Some(place) = f.key_place("expect") {
            p.push(place.problem("a test of an emulator has no `expect`").help(
                "what it must have received stands in `received`: `{ path: /charge, count: 1 }`",
            ));
        }
        f.finish(p);
        let (named, probe, expect) = asked?;
        return Some(TestEntry {
            test: Test {
                name: name?.value,
                probe,
                expect,
                when,
                retry,
                tags,
                severity,
                location: place.location(),
            },
            service: None,
            host: None,
            emulator: Some(named),
            default_user: false,
            place,
        });
    }
    let probed = f.opt(kind, p, |node, p| probe::decode(kind, node, dir, p));
    f.finish(p);
    let hints = probed
        .as_ref()
        .map(|probed| Hints {
            within: probed.within,
        })
        .unwrap_or_default();
    if expect.is_none() && !f_has_empty_expect(node) && hints.within.is_none() {
        p.push(
            place
                .problem("the test expects nothing")
                .help("add `expect: { .. }`: a test that asserts nothing can only pass"),
        );
    }
    let expected = expect::decode(kind, expect.as_ref(), &hints, &place, p);
    let mut probed = probed?;
    let (expect, baseline) = expected?;
    if let Some(place) = baseline
        && !when.contains(&When::Baseline)
    {
        p.push(
            place
                .problem("`same_as: baseline` in a test that does not run at baseline")
                .help("add `baseline` to its `when`, or expect something else"),
        );
    }
    probe::fit(&mut probed.probe, &expect);
    Some(TestEntry {
        test: Test {
            name: name?.value,
            probe: probed.probe,
            expect,
            when,
            retry,
            tags,
            severity,
            location: place.location(),
        },
        service: probed.service,
        host: probed.host,
        emulator: None,
        default_user: probed.default_user,
        place,
    })
}

/// `expect:` with nothing behind it is already reported as empty.
fn f_has_empty_expect(node: &Arc<Node>) -> bool {
    node.get("expect")
        .is_some_and(|e| matches!(e.kind, Kind::Empty | Kind::Null))
}

fn when(node: &Arc<Node>, p: &mut Problems) -> Option<Vec<When>> {
    let mut when = Vec::new();
    let words = [
        ("baseline", When::Baseline),
        ("verify", When::Verify),
        ("rollback", When::Rollback),
    ];
    for one in one_or_more(node, p, |node, p| word(node, p, &words))? {
        if !when.contains(&one) {
            when.push(one);
        }
    }
    // Every word was wrong: reported, and not to be judged as never.
    (!when.is_empty()).then_some(when)
}

fn retry(node: &Arc<Node>, p: &mut Problems) -> Option<Retry> {
    let mut f = Fields::of(node, "`retry`", p)?;
    let total = f.req("for", p, duration);
    let every = f
        .opt("every", p, duration)
        .unwrap_or(Duration::from_secs(1));
    let place = f.place.clone();
    f.finish(p);
    let total = total?;
    if every > total {
        p.push(place.problem("`every` is longer than `for`: it would never be tried again"));
    }
    Some(Retry { total, every })
}
