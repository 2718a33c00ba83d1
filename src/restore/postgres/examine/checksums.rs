//! The checksums of all pages, after a clean stop.

use std::time::Instant;

use crate::check::ladder::{Finding, Rung, Seen};
use crate::engine::{ExecOutcome, VolumeAt};
use crate::event::Owner;
use crate::restore::{Deadline, Subject, Toolbox, Trouble};
use crate::staging::{Bad, Running};

/// Finds the data folder, as the image does, and asks as its owner: the tool refuses to be root.
const CHECK: &str = r#"cd /
data=${PGDATA:-/var/lib/postgresql/data}
if [ ! -e "$data/PG_VERSION" ]; then echo "there is no data folder at $data" >&2; exit 90; fi
tool=pg_checksums
if ! command -v "$tool" >/dev/null; then tool=pg_verify_checksums; fi
if ! command -v "$tool" >/dev/null; then echo "pg_checksums is not in the image" >&2; exit 91; fi
check=--check
if [ "$tool" = pg_verify_checksums ]; then check=; fi
owner=$(stat -c '%u' "$data")
group=$(stat -c '%g' "$data")
if [ "$owner" = 0 ]; then exec "$tool" $check -D "$data"; fi
if command -v setpriv >/dev/null; then exec setpriv --reuid="$owner" --regid="$group" --clear-groups "$tool" $check -D "$data"; fi
if command -v gosu >/dev/null; then exec gosu "$owner:$group" "$tool" $check -D "$data"; fi
if command -v su-exec >/dev/null; then exec su-exec "$owner:$group" "$tool" $check -D "$data"; fi
exec "$tool" $check -D "$data"
"#;

const NO_TOOL: i64 = 91;

/// After the server's clean stop.
pub async fn at_rest(subject: Subject<'_>) -> Vec<Finding> {
    let begun = Instant::now();
    let Some(server) = subject.server else {
        return Vec::new();
    };
    let seen = checksums(subject, server)
        .await
        .unwrap_or_else(|bad| Seen::Unknown(bad.reason, bad.help));
    vec![Finding {
        seconds: begun.elapsed().as_secs_f64(),
        ..Finding::new(Rung::Checksums, seen)
    }]
}

async fn checksums(subject: Subject<'_>, server: &Running) -> Result<Seen, Bad> {
    let physical = subject.job.restore.method.is_physical();
    if !physical {
        return Ok(Seen::Skipped(
            "a dump carries no pages: those on the disk here were written by the restore"
                .to_owned(),
        ));
    }
    let blueprint = &server.blueprint;
    let volumes = blueprint
        .service
        .volumes_with(&blueprint.facts)
        .into_iter()
        .filter_map(|(name, at)| {
            Some(VolumeAt {
                volume: subject.branches.get(&name)?.volume.clone(),
                // The tool opens files for writing where it only reads them.
                read_only: false,
                ..at
            })
        })
        .collect();
    let restore = subject.job.restore;
    let name = crate::state::slug(&format!("checksums-{}", restore.name));
    let mut tool = Toolbox::open(
        subject.site.staging,
        &name,
        &blueprint.facts.id,
        volumes,
        format!("examine {}", restore.name),
        Deadline::of(subject.site.limit, "limits.examine"),
    )
    .await?;
    let settings = &blueprint.service.environment;
    tool.environment = settings
        .get("PGDATA")
        .map(|folder| ("PGDATA".to_owned(), folder.clone()))
        .into_iter()
        .collect();
    let outcome = tool.run(&["/bin/sh", "-e", "-c", CHECK]).await;
    let late = tool.deadline.left().is_zero();
    let closed = tool.close().await;
    let outcome = outcome.map_err(|bad| {
        if late {
            bad.with_help("raise `limits.examine`")
        } else {
            bad
        }
    })?;
    closed?;
    judge(&outcome)
}

fn judge(outcome: &ExecOutcome) -> Result<Seen, Bad> {
    let figure = |name: &str| {
        outcome
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(|rest| rest.trim_start_matches(':').trim().to_owned())
    };
    let said = format!("{}\n{}", outcome.stderr, outcome.stdout);
    if outcome.exit_code == 0 {
        // Without its own word for it nothing was scanned.
        return Ok(match (figure("Blocks scanned"), figure("Bad checksums")) {
            (Some(blocks), Some(bad)) if bad == "0" => {
                Seen::Holds(Some(format!("{blocks} blocks, no bad checksum")))
            }
            _ => Seen::Unknown(
                format!(
                    "pg_checksums did not say what it scanned: {}",
                    outcome.last_words()
                ),
                None,
            ),
        });
    }
    if said.contains("data checksums are not enabled") {
        return Ok(Seen::Skipped(
            "not verifiable: page checksums are disabled in this cluster (`initdb --data-checksums`, or `pg_checksums \
             --enable` while it is stopped)"
                .to_owned(),
        ));
    }
    if outcome.exit_code == NO_TOOL {
        return Ok(Seen::Skipped(
            "pg_checksums is not in the service's image".to_owned(),
        ));
    }
    if let Some(trouble) = Trouble::of(outcome) {
        return Err(trouble.bad(
            "check the page checksums",
            "pg_checksums",
            &outcome.last_words(),
        ));
    }
    let first = said.lines().find(|line| {
        line.contains("checksum verification failed") || line.contains("could not read block")
    });
    match (first, figure("Bad checksums")) {
        (Some(first), count) => Ok(Seen::Broken(match count {
            Some(count) => format!("{count} bad checksums: {}", first.trim()),
            None => first.trim().to_owned(),
        })),
        (None, Some(count)) if count != "0" => Ok(Seen::Broken(format!("{count} bad checksums"))),
        _ => Err(Bad::new(
            Owner::Staging,
            format!(
                "the page checksums cannot be checked: {}",
                outcome.last_words()
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_scan_without_a_bad_block_holds() {
        let good = "Checksum operation completed\nFiles scanned:   947\nBlocks scanned:  2829\nBad checksums:  0\nData checksum version: 1\n";
        let bad = "pg_checksums: error: checksum verification failed in file \"/d/base/5/1259\", block 0: calculated checksum 6E6D but block contains 8B3A\n";
        for (exit_code, stdout, stderr, expected) in [
            (0, good, "", "holds"),
            (0, "", "", "unknown"),
            (1, "Bad checksums:  1\n", bad, "broken"),
            (1, "", bad, "broken"),
            (
                1,
                "",
                "pg_checksums: error: data checksums are not enabled in cluster\n",
                "skipped",
            ),
            (
                1,
                "",
                "pg_checksums: error: cluster must be shut down\n",
                "error",
            ),
            (90, "", "there is no data folder at /x\n", "error"),
            (NO_TOOL, "", "pg_checksums is not in the image\n", "skipped"),
        ] {
            let outcome = ExecOutcome {
                exit_code,
                stdout: stdout.to_owned(),
                stderr: stderr.to_owned(),
            };
            let seen = match judge(&outcome) {
                Ok(Seen::Holds(_)) => "holds",
                Ok(Seen::Broken(_)) => "broken",
                Ok(Seen::Unknown(..)) => "unknown",
                Ok(Seen::Skipped(_)) => "skipped",
                Err(_) => "error",
            };
            assert_eq!(seen, expected, "{exit_code} {stdout} {stderr}");
        }
    }
}
