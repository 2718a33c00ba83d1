//! The first story on the sample website: a good release, and the same release with its content first.

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use rehearsal::event::{CaseStatus, EventKind, Owner, Stage};
use rehearsal::report::record::Record;
use rehearsal::verdict::{Outcome, Rollback, StageEnd};

use crate::common::{Live, Place, Ran, checkout, engine, left_of, rehearse};
use crate::junit::Junit;

fn site(place: &Place, package: &str, more: &[&str]) -> Ran {
    let mut command = place.command("run", Path::new("rehearsals/site.yaml"));
    command.args(["--package", package]).args(more);
    Live::start(command).finish()
}

/// Numbered without gaps from 1, on standard output and in the run's folder alike, with one terminal event.
fn expect_whole_stream(ran: &Ran) {
    let written = std::fs::read_to_string(ran.dir().join("events.jsonl")).expect("events.jsonl");
    let written: Vec<rehearsal::event::Event> = written
        .lines()
        .map(|line| serde_json::from_str(line).expect("an event a line"))
        .collect();
    assert_eq!(written, ran.events);
    let numbers: Vec<u64> = ran.events.iter().map(|event| event.seq).collect();
    let expected: Vec<u64> = (1..=numbers.len() as u64).collect();
    assert_eq!(numbers, expected);
    let terminal = ran
        .events
        .iter()
        .filter(|event| matches!(event.kind, EventKind::RunFinished { .. }));
    assert_eq!(terminal.count(), 1);
    ran.verdict();
}

fn gate(place: &Place, package: &Path, more: &[&str]) -> (Option<i32>, String) {
    let out = rehearse()
        .args(["gate", "--format", "json", "--package"])
        .arg(package)
        .arg("--report-dir")
        .arg(place.path("reports"))
        .args(more)
        .output()
        .expect("the built program can be started");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    (
        out.status.code(),
        text + &String::from_utf8_lossy(&out.stderr),
    )
}

#[test]
fn the_good_release_passes_and_the_gate_lets_exactly_it_through() {
    let place = Place::new("good");
    let junit = place.path("rehearsal.xml");
    let ran = site(
        &place,
        "packages/site-2.4",
        &["--junit", junit.to_str().expect("a plain path")],
    );
    ran.expect_passed();
    expect_whole_stream(&ran);

    let record = ran.record();
    assert_eq!(record.exit_code, Some(0));
    assert_eq!(record.verdict.outcome, Outcome::Passed);
    assert!(matches!(record.verdict.rollback, Rollback::Proved { .. }));
    let stages: Vec<Stage> = record.stages.iter().map(|stage| stage.stage).collect();
    // No what-if was asked for, so there is no such stage.
    let mut wanted = Stage::ALL.to_vec();
    wanted.retain(|stage| *stage != Stage::WhatIf);
    assert_eq!(stages, wanted);
    assert!(record.stages.iter().all(|stage| stage.end == StageEnd::Ok));
    let prints = &record.fingerprints["snapshot"];
    for part in ["schema of db/site", "volume uploads"] {
        assert!(prints[part].starts_with("sha256:"), "{prints:?}");
    }
    let rows = prints
        .iter()
        .filter(|(part, _)| part.starts_with("rows of db/site "));
    let rows: u64 = rows
        .map(|(_, count)| count.parse::<u64>().expect("a count"))
        .sum();
    assert!(rows >= 50_000, "the sample has {rows} rows");
    for what in ["snapshot", "deploy", "rollback to healthy"] {
        let measured = record.measured.iter().find(|measure| measure.what == what);
        assert!(
            measured.is_some_and(|measure| measure.seconds > 0.0),
            "{what}"
        );
    }
    assert!(record.leftovers.is_empty() && record.kept.is_none());
    for log in [
        "deploy-web.log",
        "rollback-db.log",
        "backend_roll-the-app.log",
    ] {
        assert!(ran.dir().join("logs").join(log).is_file(), "{log}");
    }

    let shown = Junit::read(&junit);
    assert_eq!(
        std::fs::read(&junit).expect("the file"),
        std::fs::read(ran.dir().join("junit.xml")).expect("the run's own")
    );
    assert!(shown.wrong().is_empty(), "{:?}", shown.wrong());
    for suite in [
        "isolate",
        "restore",
        "baseline.site",
        "deploy",
        "verify.site",
        "isolate-after-deploy",
        "rollback.site",
    ] {
        assert!(shown.suites.contains_key(suite), "no suite {suite}");
    }
    assert_eq!(shown.suites["verify.site"].len(), 24);

    let again = site(&place, "packages/site-2.4", &[]);
    again.expect_passed();
    assert_eq!(
        again.bases(),
        [("pgdata", true), ("uploads", true)].into(),
        "the second run uses the bases of the first"
    );
    for restore in ["db/site", "uploads"] {
        let case = again.case("restore", &format!("{restore}: restores without errors"));
        let said = case.message.as_deref().unwrap_or_default();
        assert!(said.contains("used again"), "{said}");
    }

    expect_gate(&place, &again);
}

/// The gate after a good run, for the package in all its shapes, and everything that must shut it.
fn expect_gate(place: &Place, good: &Ran) {
    let folder = checkout().join("packages/site-2.4");
    let digest = good.record().package.expect("a package").digest;
    let (tar, zip) = (tar_gz(place, &folder), zipped(place, &folder));
    for package in [&folder, &tar, &zip] {
        let (code, said) = gate(place, package, &[]);
        assert_eq!(code, Some(0), "{}: {said}", package.display());
        assert!(
            said.contains(&digest) && said.contains(good.run()),
            "{said}"
        );
    }
    let (code, said) = gate(place, &folder, &["--rehearsal", "site"]);
    assert_eq!(code, Some(0), "{said}");
    let other = checkout().join("packages/hotfix");
    for (package, more, expected) in [
        (&other, &[][..], 2),
        (&folder, &["--rehearsal", "another"][..], 2),
        (&folder, &["--max-age", "0s"][..], 1),
        (&place.path("nowhere"), &[][..], 64),
    ] {
        let (code, said) = gate(place, package, more);
        assert_eq!(code, Some(expected), "{more:?}: {said}");
    }
    // A newer run of the same package that did not pass shuts the gate, whatever an older one said.
    let mut failed: Record = good.record();
    failed.run = format!("{}-again", good.run());
    failed.started = Timestamp::now() + SignedDuration::from_secs(1);
    failed.finished = Some(failed.started);
    failed.exit_code = Some(1);
    failed.verdict.outcome = Outcome::Failed;
    failed.verdict.owner = Some(Owner::Package);
    let dir = place.path("reports/runs").join(&failed.run);
    std::fs::create_dir_all(&dir).expect("a folder");
    failed.write(&dir).expect("a record");
    let (code, said) = gate(place, &folder, &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&failed.run), "{said}");
}

fn tar_gz(place: &Place, folder: &Path) -> PathBuf {
    let path = place.path("site-2.4.tar.gz");
    let file = std::fs::File::create(&path).expect("a file");
    let zipped = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    let mut tar = tar::Builder::new(zipped);
    tar.append_dir_all("site-2.4", folder).expect("a tar");
    let zipped = tar.into_inner().expect("a tar");
    zipped.finish().expect("a tar.gz");
    path
}

fn zipped(place: &Place, folder: &Path) -> PathBuf {
    fn add(zip: &mut zip::ZipWriter<std::fs::File>, root: &Path, folder: &Path) {
        use std::os::unix::fs::PermissionsExt as _;
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                add(zip, root, &path);
                continue;
            }
            let name = path.strip_prefix(root).expect("below the root");
            let mode = path.metadata().expect("a file").permissions().mode();
            let options = zip::write::SimpleFileOptions::default().unix_permissions(mode);
            zip.start_file(name.to_str().expect("a plain name"), options)
                .expect("an entry");
            let mut file = std::fs::File::open(&path).expect("a file");
            std::io::copy(&mut file, zip).expect("its content");
        }
    }
    let path = place.path("site-2.4.zip");
    let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).expect("a file"));
    add(&mut zip, folder, folder);
    zip.finish().expect("a zip");
    path
}

#[test]
fn content_first_fails_names_its_component_and_can_be_kept_to_look_at() {
    let place = Place::new("content-first");
    let asked = Timestamp::now();
    let ran = site(
        &place,
        "packages/site-2.4-content-first",
        &["--keep", "on-failure"],
    );
    ran.expect(1, Outcome::Failed, Some(Owner::Package));
    expect_whole_stream(&ran);
    let verdict = ran.verdict();
    assert!(verdict.reason.contains("`content`"), "{}", verdict.reason);
    assert!(matches!(verdict.rollback, Rollback::Proved { .. }));
    assert_eq!(ran.record().verdict, *verdict);

    // The deploy broke off, and yet the admin learns whether the site is up.
    let front = ran.case("verify.site", "the front page answers");
    assert_eq!(front.status, CaseStatus::Failed);
    assert_eq!(front.component.as_deref(), Some("content"));
    assert!(
        front
            .location
            .as_deref()
            .is_some_and(|at| at.starts_with("testplans/site.yaml:"))
    );
    assert!(
        front
            .mismatches
            .iter()
            .any(|wrong| wrong.expected == "200" && wrong.seen == "500"),
        "{front:?}"
    );
    let unreached = ran.case("deploy", "backend / migrate the schema");
    assert_eq!(unreached.status, CaseStatus::Skipped);

    let junit = Junit::read(&ran.dir().join("junit.xml"));
    let wrong = junit.wrong();
    assert!(
        wrong
            .iter()
            .any(|case| case.name == "the front page answers")
    );
    for case in wrong {
        let (tag, message, text) = case.result.as_ref().expect("it is wrong");
        assert_eq!(tag, "failure", "{case:?}");
        assert!(
            !message.trim().is_empty() && !text.trim().is_empty(),
            "{case:?}"
        );
    }
    let first = junit.suites["verify.site"]
        .first()
        .and_then(|case| case.result.as_ref());
    let (_, message, text) = first.expect("the front page failed");
    assert!(
        message.contains("500") && text.contains("component: content"),
        "{message}: {text}"
    );

    expect_kept(&ran, asked);
}

/// Staging is as the deploy left it, for a day; a sweep leaves it alone until it is told which run.
fn expect_kept(ran: &Ran, asked: Timestamp) {
    let kept = ran.events.iter().find_map(|event| match &event.kind {
        EventKind::Kept {
            expires,
            containers,
        } => Some((*expires, containers.clone())),
        _ => None,
    });
    let (expires, containers) = kept.expect("staging was kept");
    let day = expires.duration_since(asked).as_hours();
    assert!((23..=24).contains(&day), "it expires in {day} h");
    assert_eq!(containers.keys().collect::<Vec<_>>(), ["cms", "db", "web"]);
    let sweep = |more: &[&str]| {
        let out = rehearse()
            .arg("sweep")
            .args(more)
            .output()
            .expect("it starts");
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
    };
    let expect_up = || {
        let (states, page) = engine(async |engine| {
            let mut states = Vec::new();
            for container in containers.values() {
                states.push(
                    engine
                        .container_state(container)
                        .await
                        .map(|state| state.running),
                );
            }
            // Only the new release has this page, and only a rollback would have taken it away.
            let path = "/usr/share/nginx/html/service.html";
            (
                states,
                engine.download(&containers["web"], path, 1 << 20).await,
            )
        });
        for state in states {
            assert!(state.expect("the container is there"), "{containers:?}");
        }
        page.expect("the release's page is still there");
    };
    expect_up();
    sweep(&[]);
    expect_up();
    sweep(&["--run", ran.run()]);
    assert_eq!(left_of(ran.run()), []);
}

#[test]
fn a_runbook_and_a_bare_script_are_packages_too() {
    let place = Place::new("shapes");
    for (package, shape, steps) in [
        ("packages/site-2.4-runbook", "DEPLOY.md", 4),
        ("packages/hotfix", "deploy.sh", 1),
    ] {
        let ran = site(&place, package, &[]);
        ran.expect_passed();
        let opened = ran.events.iter().find_map(|event| match &event.kind {
            EventKind::PackageOpened { shape, .. } => Some(shape.clone()),
            _ => None,
        });
        assert_eq!(opened.as_deref(), Some(shape));
        let finished = ran.events.iter().filter(|event| {
            matches!(
                event.kind,
                EventKind::StepFinished {
                    exit_code: Some(0),
                    ..
                }
            )
        });
        assert_eq!(finished.count(), steps, "{package}");
    }
}
