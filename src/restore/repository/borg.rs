//! Borg 1.2 and 1.4.
//!
//! `borg extract` ends with exit code 1 where it only warns; each warning means an entry that is not as it was, so it
//! counts as a failure unless the rehearsal tolerates it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::DateTime;
use serde::Deserialize;

use super::settle::settle;
use super::{CHECKED, Complaints, RESTORED, STAGE, Told, Work, begins, failed};
use crate::engine::ExecOutcome;
use crate::event::{Output, Owner};
use crate::restore::{Toolbox, Trouble};
use crate::staging::Bad;

/// Words of the lines that name a defect.
const TELLING: [&str; 6] = [
    "Data integrity error",
    "integrity check failed",
    "not a valid",
    "valid configuration",
    "mismatch",
    "rror",
];
const HELP: &str =
    "look at the repository with `borg check --verify-data`, and at the disk it lies on";
/// Where Borg keeps what it knows of repositories; it goes with the container. The folder with keys stays where the
/// image has it.
const SCRATCH: &str = "/tmp/rehearse-borg";
/// Seconds to wait for a lock: nobody removes one from a copy.
const LOCK_WAIT: &str = "1";

pub(super) fn environment(password: Option<&str>) -> BTreeMap<String, String> {
    let yes = || "yes".to_owned();
    let mut environment = BTreeMap::from([
        (
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK".to_owned(),
            yes(),
        ),
        ("BORG_RELOCATED_REPO_ACCESS_IS_OK".to_owned(), yes()),
        ("BORG_CACHE_DIR".to_owned(), format!("{SCRATCH}/cache")),
        (
            "BORG_SECURITY_DIR".to_owned(),
            format!("{SCRATCH}/security"),
        ),
        // Times are written without a zone, in this one.
        ("TZ".to_owned(), "UTC".to_owned()),
        // Names that are not ASCII; every image knows this locale.
        ("LC_ALL".to_owned(), "C.UTF-8".to_owned()),
    ]);
    if let Some(password) = password {
        environment.insert("BORG_PASSPHRASE".to_owned(), password.to_owned());
    }
    environment
}

#[derive(Debug, Deserialize)]
struct Listing {
    archives: Vec<Archive>,
    encryption: Encryption,
}

#[derive(Debug, Deserialize)]
struct Encryption {
    mode: String,
}

#[derive(Debug, Deserialize)]
struct Archive {
    name: String,
    id: String,
    time: String,
    #[serde(default)]
    hostname: String,
}

pub(super) async fn restore(tool: &Toolbox<'_>, work: &Work<'_>) -> Result<Told, Bad> {
    begins(tool, "check all data");
    let check = [
        "borg",
        "check",
        "--lock-wait",
        LOCK_WAIT,
        "--verify-data",
        &work.at,
    ];
    done(tool, "borg check", &check).await?;
    let (archive, encryption) = archive(tool, work).await?;
    begins(tool, "restore");
    extract(tool, work, &archive).await?;
    let count = settle(tool, work.name, &work.path).await?;
    let as_of = time(&archive.time);
    let of = as_of.map_or_else(|| archive.time.clone(), |time| format!("{time:.0}"));
    let figure = format!(
        "archive {} of {of} by {} (encryption: {encryption}): {count}",
        archive.name, archive.hostname
    );
    Ok(Told {
        as_of,
        figure: Some(figure),
        facts: BTreeMap::from([
            ("snapshot".to_owned(), archive.id),
            (
                CHECKED.to_owned(),
                "`borg check --verify-data` found no errors".to_owned(),
            ),
            (
                RESTORED.to_owned(),
                format!("{count}, each chunk verified by `borg extract`"),
            ),
        ]),
    })
}

async fn done(tool: &Toolbox<'_>, program: &str, command: &[&str]) -> Result<ExecOutcome, Bad> {
    let outcome = tool.run(command).await?;
    if outcome.exit_code == 0 {
        return Ok(outcome);
    }
    Err(refused(tool, program, &outcome))
}

fn refused(tool: &Toolbox<'_>, program: &str, outcome: &ExecOutcome) -> Bad {
    if outcome.stderr.contains("No key file for repository") {
        return Bad::new(
            Owner::Staging,
            format!(
                "{}: the key of the repository is not in it (`borg init -e keyfile`): {}",
                tool.source,
                outcome.last_words()
            ),
        )
        .with_help(
            "name an `image:` with Borg and the key in root's .config/borg/keys, or move the key into the repository with \
             `borg key change-location`; without its key nobody can restore this backup",
        );
    }
    failed(tool, program, outcome, &TELLING, HELP)
}

/// The archive that is wanted: by its name, by a pattern of names, or the newest of all.
async fn archive(tool: &Toolbox<'_>, work: &Work<'_>) -> Result<(Archive, String), Bad> {
    let wanted = work.repository.snapshot.as_str();
    let pattern = match wanted {
        "latest" => "*".to_owned(),
        pattern if pattern.contains(['*', '?']) => pattern.to_owned(),
        // A name is a pattern that matches only itself.
        name => name.replace('[', "[[]"),
    };
    let command = [
        "borg",
        "list",
        "--lock-wait",
        LOCK_WAIT,
        "--json",
        "--format",
        "{hostname}{NL}",
        "--glob-archives",
        &pattern,
        "--last",
        "1",
        &work.at,
    ];
    let outcome = done(tool, "borg list", &command).await?;
    let listing: Listing = serde_json::from_str(&outcome.stdout).map_err(|error| {
        Bad::new(
            Owner::Engine,
            format!(
                "{}: the answer of `borg list --json` is not understood: {error}",
                tool.source
            ),
        )
    })?;
    let archive = listing.archives.into_iter().next_back().ok_or_else(|| {
        Bad::new(
            Owner::Backup,
            format!(
                "{}: there is no archive `{wanted}` in the repository",
                work.name
            ),
        )
        .with_help("look at the log of the job that should have made it, or correct `snapshot:`")
    })?;
    Ok((archive, listing.encryption.mode))
}

async fn extract(tool: &Toolbox<'_>, work: &Work<'_>, archive: &Archive) -> Result<(), Bad> {
    let script =
        r#"mkdir "$1"; cd "$1"; shift; exec borg extract --lock-wait 1 --numeric-ids "$@""#;
    let from = format!("{}::{}", work.at, archive.name);
    let path = format!("pp:{}", work.path);
    let mut command = vec!["/bin/sh", "-ec", script, "borg", STAGE, &from];
    if !work.path.is_empty() {
        command.push(&path);
    }
    let mut said = Complaints::new(work.tolerate);
    let outcome = tool
        .seen(&command, None, |output, line| {
            if output == Output::Stderr && is_warning(line.trim()) {
                said.hear(line.trim().to_owned());
            }
        })
        .await?;
    match outcome.exit_code {
        // Nothing was warned of, and what is tolerated has to come.
        0 => Complaints::new(work.tolerate).judge(&tool.source),
        // Since 1.4 warnings may have codes of their own, from 100 on.
        1 | 100..=127 if !said.is_empty() && Trouble::of_repository(&outcome).is_none() => {
            said.trouble(&tool.source, "borg extract")?;
            said.judge(&tool.source)
        }
        _ => Err(refused(tool, "borg extract", &outcome)),
    }
}

/// True for a warning about an entry; that a pattern matched nothing shows in the result.
fn is_warning(line: &str) -> bool {
    !line.is_empty()
        && !line.starts_with("Warning: ")
        && !line.starts_with("Do you want to continue?")
        && !line.ends_with("never matched.")
}

/// Without a zone up to 1.4, where it is the container's, which is UTC.
fn time(text: &str) -> Option<Timestamp> {
    text.parse::<Timestamp>().ok().or_else(|| {
        let local = text.parse::<DateTime>().ok()?;
        let zoned = local.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        Some(zoned.timestamp())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_an_archive_is_read_with_and_without_a_zone() {
        let expected: Timestamp = "2026-11-21T12:20:09Z".parse().expect("a time");
        for text in [
            "2026-11-21T12:20:09.000000",
            "2026-11-21T13:20:09.000000+01:00",
        ] {
            assert_eq!(time(text), Some(expected), "{text}");
        }
        assert_eq!(time("Sat, 2026-11-21"), None);
    }

    #[test]
    fn a_listing_of_borg_is_read() {
        let listing: Listing = serde_json::from_str(
            r#"{"archives": [{"archive": "two", "barchive": "two", "hostname": "h", "id": "3cc4", "name": "two",
            "start": "2026-11-21T12:20:09.000000", "time": "2026-11-21T12:20:09.000000"}],
            "encryption": {"mode": "repokey"}, "repository": {"id": "4108", "location": "/r"}}"#,
        )
        .expect("as Borg 1.2 writes it");
        assert_eq!(listing.archives[0].name, "two");
        assert_eq!(listing.encryption.mode, "repokey");
    }
}
