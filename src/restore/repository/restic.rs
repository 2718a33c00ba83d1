//! restic, from 0.14 to today's.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use tokio::sync::watch;

use super::settle::settle;
use super::{CHECKED, Complaints, RESTORED, STAGE, Told, Work, begins, failed};
use crate::event::{EventKind, Owner, Stage};
use crate::restore::Toolbox;
use crate::staging::Bad;

/// Words of the lines that name a defect, in all versions.
const TELLING: [&str; 8] = [
    "does not exist",
    "unexpected file size",
    "does not match",
    "error for tree",
    "error for snapshot",
    "invalid repository",
    "ciphertext verification failed",
    "Fatal",
];
const HELP: &str =
    "look at the repository with `restic check --read-data`, and at the disk it lies on";

pub(super) fn environment(password: Option<&str>) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::from([
        // Lines of progress every ten seconds; without it, none where there is no terminal.
        ("RESTIC_PROGRESS_FPS".to_owned(), "0.1".to_owned()),
        ("TMPDIR".to_owned(), "/tmp".to_owned()),
    ]);
    if let Some(password) = password {
        environment.insert("RESTIC_PASSWORD".to_owned(), password.to_owned());
    }
    environment
}

#[derive(Debug, Deserialize)]
struct Snapshot {
    time: Timestamp,
    id: String,
    #[serde(default)]
    paths: Vec<String>,
    #[serde(default)]
    hostname: String,
}

pub(super) async fn restore(tool: &Toolbox<'_>, work: &Work<'_>) -> Result<Told, Bad> {
    begins(tool, "check all data");
    check(tool, work).await?;
    let snapshot = choose(snapshots(tool, work).await?, work)?;
    begins(tool, "restore");
    extract(tool, work, &snapshot).await?;
    let count = settle(tool, work.name, &work.path).await?;
    let short: String = snapshot.id.chars().take(8).collect();
    let figure = format!(
        "snapshot {short} of {:.0} by {} of {}: {count}",
        snapshot.time,
        snapshot.hostname,
        snapshot.paths.join(", ")
    );
    Ok(Told {
        as_of: Some(snapshot.time),
        figure: Some(figure),
        facts: BTreeMap::from([
            ("snapshot".to_owned(), snapshot.id),
            (
                CHECKED.to_owned(),
                "`restic check --read-data` found no errors".to_owned(),
            ),
            (
                RESTORED.to_owned(),
                format!("{count}, compared with the repository by `restic restore --verify`"),
            ),
        ]),
    })
}

async fn check(tool: &Toolbox<'_>, work: &Work<'_>) -> Result<(), Bad> {
    let (found, mut finding) = watch::channel(None);
    let command = ["restic", "-r", &work.at, "check", "--read-data"];
    // A file on a local disk does not come back; restic up to 0.16 waits minutes for it.
    let checking = tool.seen(&command, None, |_, line| {
        if line.starts_with("pack ") && line.ends_with(": does not exist") {
            found.send_replace(Some(line.to_owned()));
        }
    });
    let outcome = tokio::select! {
        biased;
        outcome = checking => outcome?,
        gone = async { finding.wait_for(Option::is_some).await.map(|line| line.clone()) } => {
            let line = gone.ok().flatten().unwrap_or_default();
            return Err(Bad::new(
                Owner::Backup,
                format!("{}: `restic check` misses a part of the repository: {line}", tool.source),
            )
            .with_help(HELP));
        }
    };
    if outcome.exit_code == 0 {
        return Ok(());
    }
    Err(failed(tool, "restic check", &outcome, &TELLING, HELP))
}

async fn snapshots(tool: &Toolbox<'_>, work: &Work<'_>) -> Result<Vec<Snapshot>, Bad> {
    let mut command = vec![
        "restic",
        "-r",
        &work.at,
        "snapshots",
        "--no-cache",
        "--json",
    ];
    match work.repository.snapshot.as_str() {
        // The newest of each host and set of paths: the list of all may be very long.
        "latest" => command.extend(["--latest", "1"]),
        id => command.push(id),
    }
    let outcome = tool.whole(&command).await?;
    if outcome.exit_code != 0 {
        return Err(failed(tool, "restic snapshots", &outcome, &TELLING, HELP));
    }
    let list = outcome
        .stdout
        .lines()
        .find(|line| line.trim_start().starts_with('['))
        .and_then(|line| serde_json::from_str(line).ok());
    list.ok_or_else(|| {
        Bad::new(
            Owner::Engine,
            format!(
                "{}: the answer of `restic snapshots --json` is not understood: {}",
                tool.source,
                outcome.last_words()
            ),
        )
    })
}

/// The newest snapshot that can hold what is wanted: a repository is often shared by several jobs.
fn choose(snapshots: Vec<Snapshot>, work: &Work<'_>) -> Result<Snapshot, Bad> {
    let wanted = format!("/{}", work.path);
    let below = |inner: &str, outer: &str| {
        let outer = outer.trim_end_matches('/');
        inner == outer || inner.starts_with(&format!("{outer}/"))
    };
    let holds = |snapshot: &Snapshot| {
        work.path.is_empty()
            || snapshot
                .paths
                .iter()
                .any(|path| below(&wanted, path) || below(path, &wanted))
    };
    let seen: Vec<String> = snapshots
        .iter()
        .flat_map(|snapshot| snapshot.paths.clone())
        .collect();
    let newest = snapshots
        .into_iter()
        .filter(holds)
        .max_by_key(|snapshot| snapshot.time);
    newest.ok_or_else(|| {
        let name = work.name;
        let asked = &work.repository.snapshot;
        let reason = if seen.is_empty() {
            format!("{name}: there is no snapshot `{asked}` in the repository")
        } else {
            format!("{name}: no snapshot holds `{wanted}`, only {}", seen.join(", "))
        };
        Bad::new(Owner::Backup, reason).with_help(
            "look at the log of the job that should have made it, or correct `snapshot:` and `path:`",
        )
    })
}

async fn extract(tool: &Toolbox<'_>, work: &Work<'_>, snapshot: &Snapshot) -> Result<(), Bad> {
    let include;
    let mut command = vec![
        "restic",
        "-r",
        &work.at,
        "restore",
        &snapshot.id,
        "--no-cache",
        "--target",
        STAGE,
        "--verify",
        "--json",
    ];
    if !work.path.is_empty() {
        // `id:folder` came with 0.15; this does the same in all versions.
        include = pattern(&work.path);
        command.extend(["--include", &include]);
    }
    let recorder = &tool.staging.ground.recorder;
    let what = format!("{}: restore", tool.source);
    let mut said = Complaints::new(work.tolerate);
    let mut counted = None;
    let outcome = tool
        .seen(&command, None, |_, line| {
            if let Some(complaint) = complaint(line) {
                said.hear(complaint);
                counted = None;
            } else if let Some(errors) = closing(line) {
                counted = Some(errors);
            }
            if let Some((done, total)) = progress(line) {
                recorder.emit(EventKind::Progress {
                    stage: Stage::Restore,
                    what: what.clone(),
                    done,
                    total: Some(total),
                    unit: "bytes".to_owned(),
                });
            }
        })
        .await?;
    said.trouble(&tool.source, "restic restore")?;
    if came_to_its_end(outcome.exit_code, counted, said.all) {
        // What is tolerated has to come, also where nothing was complained of.
        return said.judge(&tool.source);
    }
    Err(failed(tool, "restic restore", &outcome, &TELLING, HELP))
}

/// True where a restore came to its end and every complaint of it was heard. One that died on the way may have complained
/// of nothing but what is tolerated, and lacks all that was to follow.
const fn came_to_its_end(exit_code: i64, counted: Option<u64>, heard: u64) -> bool {
    match (exit_code, counted) {
        (0, None) => true,
        (1, Some(counted)) => counted == heard && heard > 0,
        (_, Some(_) | None) => false,
    }
}

/// The count of errors with which a restore ends that met some, in the words of all versions:
/// `Fatal: There were 3 errors`.
fn closing(line: &str) -> Option<u64> {
    let told = serde_json::from_str::<serde_json::Value>(line).ok();
    let said = match &told {
        Some(told) => told["message"].as_str()?,
        None => line,
    };
    let said = said.trim();
    let said = said.strip_prefix("Fatal: ").unwrap_or(said);
    let count = said.strip_prefix("There were ")?;
    count.strip_suffix(" errors")?.parse().ok()
}

/// A path as a pattern that matches only itself.
fn pattern(path: &str) -> String {
    let mut pattern = "/".to_owned();
    for letter in path.chars() {
        if matches!(letter, '*' | '?' | '[' | ']' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern
}

/// A line of the restore's status, since 0.16.
fn progress(line: &str) -> Option<(u64, u64)> {
    let status: serde_json::Value = serde_json::from_str(line).ok()?;
    (status["message_type"] == "status").then_some(())?;
    Some((
        status["bytes_restored"].as_u64().unwrap_or(0),
        status["total_bytes"].as_u64()?,
    ))
}

/// What a line says of a single entry, in the words of all versions: `ignoring error for /a: ...`.
fn complaint(line: &str) -> Option<String> {
    if line.starts_with("ignoring error for ") {
        return Some(line.trim_end().to_owned());
    }
    let told: serde_json::Value = serde_json::from_str(line).ok()?;
    (told["message_type"] == "error").then_some(())?;
    let item = told["item"].as_str().unwrap_or_default();
    let message = told["error"]["message"].as_str().unwrap_or_default();
    Some(format!("ignoring error for {item}: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::model::Repository;

    fn snapshot(id: &str, time: &str, path: &str) -> Snapshot {
        Snapshot {
            time: time.parse().expect("a time"),
            id: id.to_owned(),
            paths: vec![path.to_owned()],
            hostname: "h".to_owned(),
        }
    }

    #[test]
    fn the_newest_snapshot_that_holds_the_path_is_chosen() {
        let repository = Repository {
            password: None,
            snapshot: "latest".to_owned(),
            path: None,
            image: None,
        };
        let choose_for = |path: &str| {
            let work = Work {
                repository: &repository,
                path: path.to_owned(),
                at: "/r".to_owned(),
                tolerate: &[],
                name: "uploads",
            };
            let snapshots = vec![
                snapshot("old", "2026-11-20T01:00:00Z", "/srv/uploads"),
                snapshot("uploads", "2026-11-21T01:00:00.5+01:00", "/srv/uploads"),
                snapshot("database", "2026-11-21T03:00:00Z", "/srv/db"),
            ];
            choose(snapshots, &work).map(|snapshot| snapshot.id)
        };
        for (path, expected) in [
            ("", Some("database")),
            ("srv", Some("database")),
            ("srv/uploads", Some("uploads")),
            ("srv/uploads/deep", Some("uploads")),
            ("srv/upload", None),
        ] {
            let chosen = choose_for(path);
            match expected {
                Some(id) => assert_eq!(chosen.expect("a snapshot"), id),
                None => assert_eq!(chosen.expect_err(path).owner, Owner::Backup),
            }
        }
    }

    #[test]
    fn a_restore_that_died_did_not_come_to_its_end() {
        for (exit_code, counted, heard, expected) in [
            (0, None, 0, true),
            (0, None, 1, true),
            (1, Some(2), 2, true),
            // Some were not heard, or it ended for another reason.
            (1, Some(3), 2, false),
            (1, Some(0), 0, false),
            (1, None, 2, false),
            (1, None, 0, false),
            // A panic, and signals.
            (2, None, 2, false),
            (2, Some(2), 2, false),
            (137, None, 2, false),
            (139, Some(2), 2, false),
            (143, None, 2, false),
        ] {
            assert_eq!(
                came_to_its_end(exit_code, counted, heard),
                expected,
                "{exit_code} {counted:?} {heard}"
            );
        }
        for (line, count) in [
            ("Fatal: There were 12 errors", Some(12)),
            (
                r#"{"message_type":"exit_error","code":1,"message":"Fatal: There were 1 errors\n"}"#,
                Some(1),
            ),
            ("Fatal: unable to load index: There were 1 errors", None),
            ("ignoring error for /a: Fatal: There were 1 errors", None),
            (r#"{"message_type":"summary","total_files":3}"#, None),
        ] {
            assert_eq!(closing(line), count, "{line}");
        }
    }

    #[test]
    fn what_restic_writes_is_read_in_all_versions() {
        let status = r#"{"message_type":"status","percent_done":0.26,"total_files":55,"files_restored":13,"total_bytes":1000000,"bytes_restored":260000}"#;
        assert_eq!(progress(status), Some((260_000, 1_000_000)));
        assert_eq!(progress("restoring <Snapshot 3b1c284f of [/srv/up]>"), None);
        assert_eq!(pattern("srv/a*[b]"), r"/srv/a\*\[b\]");
        assert_eq!(complaint("Fatal: There were 1 errors"), None);
        assert_eq!(complaint(status), None);
        for said in [
            "ignoring error for /srv/up/a/1: ciphertext verification failed",
            r#"{"message_type":"error","error":{"message":"ciphertext verification failed"},"during":"restore","item":"/srv/up/a/1"}"#,
        ] {
            assert_eq!(
                complaint(said).as_deref(),
                Some("ignoring error for /srv/up/a/1: ciphertext verification failed")
            );
        }
    }
}
