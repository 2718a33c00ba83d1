//! The folder of packages: `tests/packages/NAME/` holds a package and, in `expect.yaml`, what must come of it on the
//! sample. Sound ones of every shape pass, and each of the others goes wrong in its own way and is not passed.
//!
//! `REHEARSE_PACKAGES_ROUNDS=10` does all of it ten times, `REHEARSE_PACKAGES=hangs,asks` only those.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rehearsal::event::CaseStatus;
use rehearsal::verdict::Rollback;
use serde::Deserialize;

use crate::common::{Live, Place, Ran, Turn, checkout, left_of};
use crate::hostile;

/// What must come of a package.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Expected {
    /// What this package shows, for the reader of the folder.
    about: String,
    /// `passed`, `failed` or `invalid`; none where it is refused.
    verdict: Option<String>,
    /// Who is at fault.
    owner: Option<String>,
    /// What has failed; without it no case has.
    fails: Option<Fails>,
    /// Nothing runs, and these words are said.
    refused: Vec<String>,
    /// How it is handed over.
    packed: Packed,
    /// Instead of a folder: an archive that this maker makes.
    made: Option<String>,
    /// More arguments of `rehearse run`.
    arguments: Vec<String>,
    /// Variables of whoever runs it.
    environment: BTreeMap<String, String>,
    /// More keys of the rehearsal, or others instead of the usual ones.
    rehearsal: String,
    /// More of the test plan.
    testplan: String,
    /// Texts that stand in no file of the run.
    never: Vec<String>,
    /// Texts that stand in the page.
    shown: Vec<String>,
}

/// Failed cases, each by `suite / case` or a part of it.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Fails {
    One(String),
    /// Every one of them.
    All(Vec<String>),
}

impl Fails {
    fn all(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::All(all) => all,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
enum Packed {
    #[default]
    #[serde(rename = "folder")]
    Folder,
    #[serde(rename = "tar")]
    Tar,
    #[serde(rename = "tar.gz")]
    TarGz,
    #[serde(rename = "tar.zst")]
    TarZst,
    #[serde(rename = "zip")]
    Zip,
}

/// One folder of the folder.
struct Entry {
    name: String,
    folder: PathBuf,
    expected: Expected,
}

fn folder() -> PathBuf {
    checkout().join("tests/packages")
}

/// All of them by name. One without an expectation would be a package that nobody looks at.
fn entries() -> Vec<Entry> {
    let mut entries: Vec<Entry> = std::fs::read_dir(folder())
        .expect("the folder of packages")
        .map(|entry| {
            let folder = entry.expect("an entry").path();
            let name = folder.file_name().expect("a name").to_string_lossy();
            let path = folder.join("expect.yaml");
            let text = std::fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let expected: Expected = serde_saphyr::from_str(&text)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(!expected.about.is_empty(), "{name} says what it is about");
            assert_eq!(
                expected.verdict.is_none(),
                !expected.refused.is_empty(),
                "{name} has a verdict or is refused"
            );
            assert_eq!(
                expected.made.is_none(),
                folder.join("package").is_dir(),
                "{name} is a folder or made"
            );
            Entry {
                name: name.into_owned(),
                folder,
                expected,
            }
        })
        .collect();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    entries
}

/// For whoever waits: `--nocapture` shows it.
#[expect(clippy::print_stderr, reason = "ten rounds take hours")]
fn told(round: usize, name: &str, wrong: &[String], took: Duration) {
    let (count, seconds) = (wrong.len(), took.as_secs_f64());
    eprintln!("round {round}: {name}: {count} wrong, {seconds:.1} s");
    for what in wrong {
        eprintln!("  {what}");
    }
}

#[test]
fn every_package_comes_to_what_it_must() {
    let entries = entries();
    assert!(entries.len() >= 40, "only {} packages", entries.len());
    let only = std::env::var("REHEARSE_PACKAGES").unwrap_or_default();
    let only: Vec<&str> = only.split(',').filter(|name| !name.is_empty()).collect();
    let rounds: usize = std::env::var("REHEARSE_PACKAGES_ROUNDS")
        .map(|rounds| rounds.parse().expect("a number of rounds"))
        .unwrap_or(1);
    let first = Place::with("packages", Turn::alone());
    let queue: VecDeque<(usize, &Entry)> = (1..=rounds)
        .flat_map(|round| entries.iter().map(move |entry| (round, entry)))
        .filter(|(_, entry)| only.is_empty() || only.contains(&entry.name.as_str()))
        .collect();
    assert!(!queue.is_empty(), "no package is called {only:?}");
    let count = queue.len();
    let (queue, wrong) = (Mutex::new(queue), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().expect("no holder panics").pop_front();
                    let Some((round, entry)) = next else { break };
                    let place = Place::beside(&first, &format!("packages-{round}-{}", entry.name));
                    let begun = Instant::now();
                    let found = compare(entry, &place);
                    told(round, &entry.name, &found, begun.elapsed());
                    let mut wrong = wrong.lock().expect("no holder panics");
                    wrong.extend(
                        found
                            .into_iter()
                            .map(|what| format!("{} (round {round}): {what}", entry.name)),
                    );
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("no holder panics");
    assert!(
        wrong.is_empty(),
        "{} of {count} runs:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// Hands a package over, rehearses it, and says what came out otherwise than expected.
fn compare(entry: &Entry, place: &Place) -> Vec<String> {
    let expected = &entry.expected;
    let package = handed_over(entry, place);
    place.write("rehearsal.yaml", rehearsal(expected));
    place.write("testplan.yaml", testplan() + &expected.testplan);
    let mut command = place.command("run", &place.path("rehearsal.yaml"));
    command
        .arg("--package")
        .arg(&package)
        .args(&expected.arguments)
        .envs(&expected.environment);
    if expected.verdict.is_none() {
        return refused(expected, &mut command);
    }
    let ran = Live::start(command).finish();
    if ran.events.is_empty() {
        return vec![format!("it did not run: {}", ran.stderr)];
    }
    let mut wrong = judged(expected, &ran);
    wrong.extend(held(&ran.dir(), &expected.never));
    let page = std::fs::read_to_string(ran.dir().join("report.html")).unwrap_or_default();
    for text in &expected.shown {
        if !page.contains(text.as_str()) {
            wrong.push(format!("the page does not show `{text}`"));
        }
    }
    wrong
}

fn refused(expected: &Expected, command: &mut Command) -> Vec<String> {
    let out = command.output().expect("the built program can be started");
    let said = String::from_utf8_lossy(&out.stderr);
    let mut wrong = Vec::new();
    if out.status.code() != Some(64) || !out.stdout.is_empty() {
        wrong.push(format!(
            "it is not refused: {:?}: {said}",
            out.status.code()
        ));
    }
    for words in &expected.refused {
        if !said.contains(words.as_str()) {
            wrong.push(format!("`{words}` is not said: {said}"));
        }
    }
    wrong
}

fn judged(expected: &Expected, ran: &Ran) -> Vec<String> {
    let verdict = ran.verdict();
    let mut wrong = Vec::new();
    let wanted = expected.verdict.as_deref().unwrap_or_default();
    let code = ["passed", "failed", "invalid"]
        .iter()
        .position(|outcome| *outcome == wanted);
    let outcome = verdict.outcome.name();
    let owner = verdict.owner.map(|owner| owner.name());
    if outcome != wanted
        || owner != expected.owner.as_deref()
        || ran.code.and_then(|code| usize::try_from(code).ok()) != code
    {
        wrong.push(format!(
            "{outcome} by {owner:?} with exit code {:?} instead of {wanted} by {:?}: {}",
            ran.code, expected.owner, verdict.reason
        ));
    }
    let failed: Vec<String> = ran
        .cases()
        .filter(|(_, case)| case.status == CaseStatus::Failed)
        .map(|(_, case)| format!("{} / {}", case.suite, case.name))
        .collect();
    match &expected.fails {
        Some(fails) => {
            let passed = |part: &&String| !failed.iter().any(|case| case.contains(part.as_str()));
            let missed = fails.all().iter().filter(passed);
            wrong.extend(missed.map(|part| format!("`{part}` has not failed, but {failed:?}")));
        }
        None if !failed.is_empty() => wrong.push(format!("{failed:?} failed")),
        None => {}
    }
    if !matches!(verdict.rollback, Rollback::Proved { .. }) {
        wrong.push(format!("the rollback: {:?}", verdict.rollback));
    }
    let left = left_of(ran.run());
    if !left.is_empty() {
        wrong.push(format!("left behind: {left:?}"));
    }
    wrong
}

/// Every file below a folder that holds one of these texts.
fn held(folder: &Path, never: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir(folder).expect("the run's folder");
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        if path.is_dir() {
            found.extend(held(&path, never));
            continue;
        }
        let content = std::fs::read(&path).expect("a file");
        let content = String::from_utf8_lossy(&content);
        let shown = never.iter().filter(|text| content.contains(text.as_str()));
        found.extend(shown.map(|text| format!("`{text}` stands in {}", path.display())));
    }
    found
}

/// The package as a copy in the place, in the form in which it is handed over.
fn handed_over(entry: &Entry, place: &Place) -> PathBuf {
    let name = &entry.name;
    if let Some(maker) = &entry.expected.made {
        let (file, bytes) = hostile::made(maker);
        return place.write(&file, bytes);
    }
    let copy = place.path(name);
    hostile::copy(&entry.folder.join("package"), &copy);
    match entry.expected.packed {
        Packed::Folder => copy,
        Packed::Tar => place.write(&format!("{name}.tar"), hostile::tar_of(&copy, name)),
        Packed::TarGz => {
            let zipped = hostile::gzipped(&hostile::tar_of(&copy, name));
            place.write(&format!("{name}.tar.gz"), zipped)
        }
        Packed::TarZst => {
            let zipped = zstd::encode_all(hostile::tar_of(&copy, name).as_slice(), 3);
            place.write(&format!("{name}.tar.zst"), zipped.expect("memory"))
        }
        Packed::Zip => place.write(&format!("{name}.zip"), hostile::zip_of(&copy)),
    }
}

/// The sample's own test plan, without what depends on how busy this machine is.
fn testplan() -> String {
    let path = checkout().join("testplans/site.yaml");
    let text = std::fs::read_to_string(path).expect("the sample's test plan");
    let fixtures = format!("file: {}/testplans/fixtures/", checkout().display());
    let mut text = text.replace("file: fixtures/", &fixtures);
    while let Some((before, rest)) = text.split_once(", within: ") {
        let after = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric());
        text = format!("{before}{after}");
    }
    assert!(text.contains(&fixtures), "the test plan uploads a file");
    text
}

/// The rehearsal of the sample, with what an expectation changes in it.
fn rehearsal(expected: &Expected) -> String {
    let root = checkout().display();
    let usual = [
        ("rehearsal", "rehearsal: packages".to_owned()),
        ("stack", format!("stack: {root}/docker/site/compose.yaml")),
        (
            "restore",
            format!(
                "restore:\n  - service: db\n    postgres: {{ dump: {root}/backups/site.dump, database: site, jobs: 2 }}\n  \
                 - volume: uploads\n    archive: {root}/backups/uploads.tar.zst"
            ),
        ),
        ("testplan", "testplan: testplan.yaml".to_owned()),
        (
            "bastion",
            "bastion:\n  image: rehearse-site/bastion:1\n  \
             environment: { PGHOST: db, PGUSER: site, PGPASSWORD: site-in-staging, PGDATABASE: site }"
                .to_owned(),
        ),
        ("limits", "limits: { start: 1m, deploy: 2m }".to_owned()),
    ];
    let own: Vec<&str> = expected
        .rehearsal
        .lines()
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split_once(':'))
        .map(|(key, _)| key)
        .collect();
    let usual = usual
        .into_iter()
        .filter(|(key, _)| !own.contains(key))
        .map(|(_, text)| text);
    let mut lines: Vec<String> = usual.collect();
    lines.push(expected.rehearsal.replace("{root}", &root.to_string()));
    lines.join("\n") + "\n"
}
