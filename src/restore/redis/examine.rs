//! The ladder's rungs that a Redis server can show.

use std::time::Instant;

use super::ask::{self, Keyspace};
use super::{CHECKSUM, KEYSPACE, VERSION};
use crate::check::ladder::{Finding, Rung, Seen};
use crate::check::rows;
use crate::event::Owner;
use crate::restore::{Deadline, Subject, Toolbox};
use crate::staging::Bad;

/// Serialises the values of some keys, as `DUMP` does, and says where to go on, how many there were and their bytes.
const BATCH: &str = "local r = redis.call('SCAN', ARGV[1], 'COUNT', 5000); local n, b = 0, 0; \
    for _, k in ipairs(r[2]) do local d = redis.call('DUMP', k); if d then n = n + 1; b = b + #d end end; \
    return {r[1], n, b}";

/// Reads every key of a database, from the first to the last.
const EVERY_KEY: &str = r#"
database=$1 batch=$2 cursor=0 keys=0 bytes=0
while :; do
  answer=$(redis-cli -n "$database" EVAL "$batch" 0 "$cursor")
  set -- $answer
  case "$#$1$2$3" in *[!0-9]*) printf '%s\n' "$answer" >&2; exit 1 ;; esac
  cursor=$1 keys=$((keys + $2)) bytes=$((bytes + $3))
  if [ "$cursor" = 0 ]; then break; fi
done
echo "$keys $bytes"
"#;

/// Writes, reads and removes one key.
const WRITES: &str = r#"
set -- rehearse:accepts:writes
[ "$(redis-cli SET "$1" 1)" = OK ] || { redis-cli SET "$1" 1 >&2; exit 1; }
[ "$(redis-cli GET "$1")" = 1 ] || { echo "what was written cannot be read" >&2; exit 1; }
[ "$(redis-cli DEL "$1")" = 1 ] || { echo "what was written cannot be removed" >&2; exit 1; }
"#;

/// With the server running on a branch.
pub async fn examine(subject: Subject<'_>) -> Vec<Finding> {
    let mut findings = vec![
        Finding::skipped(
            Rung::Collation,
            "Redis compares bytes: it has no collations",
        ),
        Finding::skipped(Rung::Indexes, "Redis keeps no index beside its keys"),
        Finding::skipped(Rung::Sequences, "Redis has no sequences"),
        Finding::skipped(
            Rung::Constraints,
            "Redis has no foreign keys, and invariants need a query language",
        ),
        Finding::skipped(Rung::Files, "`files:` needs a query language"),
        checksums(subject),
    ];
    let Some(running) = subject.server else {
        return findings;
    };
    let mut tool = Toolbox::within(
        subject.site.staging,
        &running.container,
        format!("examine {}", subject.job.restore.name),
        Deadline::of(subject.site.limit, "limits.examine"),
    );
    let ready = async {
        ask::log_in(&mut tool, &running.blueprint).await?;
        ask::loaded(&tool).await?;
        let keys = ask::section(&tool, "keyspace").await?;
        Ok(ask::keyspace(&keys))
    }
    .await;
    let now = match ready {
        Ok(now) => now,
        Err(bad) => {
            findings.push(Finding::new(Rung::Readable, seen(bad)));
            return findings;
        }
    };
    for (rung, begun, seen) in [
        timed(Rung::Version, version(&tool, subject)).await,
        timed(Rung::Readable, readable(&tool, subject, &now)).await,
        timed(Rung::Writes, writes(&tool)).await,
    ] {
        findings.push(Finding {
            seconds: begun,
            ..Finding::new(rung, seen)
        });
    }
    findings.push(keys(subject, &now));
    findings
}

async fn timed(rung: Rung, work: impl Future<Output = Result<Seen, Bad>>) -> (Rung, f64, Seen) {
    let begun = Instant::now();
    let seen = work.await.unwrap_or_else(seen);
    (rung, begun.elapsed().as_secs_f64(), seen)
}

fn seen(bad: Bad) -> Seen {
    if bad.owner == Owner::Backup {
        return Seen::Broken(bad.reason);
    }
    Seen::Unknown(bad.reason, bad.help)
}

fn checksums(subject: Subject<'_>) -> Finding {
    match subject.told.get(CHECKSUM).map(String::as_str) {
        Some("holds") => Finding::holds(Rung::Checksums, "the snapshot's CRC-64 holds"),
        Some("none") => Finding::skipped(
            Rung::Checksums,
            "the snapshot was made with `rdbchecksum no`: a changed byte would not be seen",
        ),
        Some(_) | None => Finding::skipped(
            Rung::Checksums,
            "what is appended has no checksum: a changed byte would not be seen",
        ),
    }
}

async fn version(tool: &Toolbox<'_>, subject: Subject<'_>) -> Result<Seen, Bad> {
    let Some(from) = subject.told.get(VERSION) else {
        return Ok(Seen::Skipped(
            "the backup does not say which version made it".to_owned(),
        ));
    };
    let server = ask::section(tool, "server").await?;
    let here = ask::info(&server, "redis_version").unwrap_or_default();
    if ask::major(from) == ask::major(here) {
        return Ok(Seen::Holds(Some(format!("made by {from}, read by {here}"))));
    }
    Ok(Seen::Unknown(
        format!("the backup was made by Redis {from}, and the stack's is {here}"),
        Some("use the same major version of Redis as production in the stack".to_owned()),
    ))
}

async fn readable(tool: &Toolbox<'_>, subject: Subject<'_>, now: &Keyspace) -> Result<Seen, Bad> {
    let told = subject.told.get(KEYSPACE).map(|text| ask::keyspace(text));
    let told = told.unwrap_or_default();
    // Only keys that expire may go: what else is missing was lost by the server's stop or start.
    for (name, (keys, expires)) in &told {
        let (here, _) = now.get(name).copied().unwrap_or_default();
        if here < keys.saturating_sub(*expires) || here > *keys {
            return Ok(Seen::Unknown(
                format!("`{name}` had {keys} keys when it was restored, and has {here} after the server's next start"),
                Some("look at the service's settings for saving: what it stops with it must start with".to_owned()),
            ));
        }
    }
    let (mut all, mut size) = (0, 0);
    for (name, (keys, expires)) in now {
        let number = name.trim_start_matches("db");
        let read = tool
            .script("redis-cli", EVERY_KEY, &[number, BATCH], Owner::Staging)
            .await?;
        let mut numbers = read.stdout.split_whitespace();
        let mut number = || numbers.next()?.parse::<u64>().ok();
        let (Some(read), Some(bytes)) = (number(), number()) else {
            return Ok(Seen::Unknown(
                format!("reading every key of `{name}` gave no figure"),
                None,
            ));
        };
        if read < keys.saturating_sub(*expires) {
            return Ok(Seen::Broken(format!(
                "`{name}` has {keys} keys, and only {read} can be read"
            )));
        }
        all += read;
        size += bytes;
    }
    Ok(Seen::Holds(Some(format!(
        "{all} keys, {size} bytes of values"
    ))))
}

async fn writes(tool: &Toolbox<'_>) -> Result<Seen, Bad> {
    tool.script("redis-cli", WRITES, &[], Owner::Staging)
        .await?;
    Ok(Seen::Holds(Some(
        "a key was set, read and removed".to_owned(),
    )))
}

/// The databases are Redis' tables.
fn keys(subject: Subject<'_>, now: &Keyspace) -> Finding {
    let expected = &subject.job.restore.demands.rows;
    let mut counts: std::collections::BTreeMap<String, u64> = now
        .iter()
        .map(|(name, (keys, _))| (name.clone(), *keys))
        .collect();
    // A database without keys is not listed, and is there all the same.
    for name in expected.keys() {
        let number = name.strip_prefix("db").map(str::parse::<u32>);
        if matches!(number, Some(Ok(_))) {
            counts.entry(name.clone()).or_insert(0);
        }
    }
    let source = subject.job.source.map(|source| {
        let keys = |database: &crate::check::source::DatabaseFacts| database.tables.values().sum();
        let databases = source.databases.iter();
        databases
            .map(|(name, database)| (name.clone(), keys(database)))
            .collect::<std::collections::BTreeMap<String, u64>>()
    });
    let finding = rows::judge(expected, source.as_ref(), &counts);
    let expires: u64 = now.values().map(|(_, expires)| expires).sum();
    match finding.seen {
        Seen::Holds(_) => {
            let keys: u64 = counts.values().sum();
            Finding::holds(
                Rung::Rows,
                format!(
                    "{keys} keys in {} databases, {expires} of them expire",
                    counts.len()
                ),
            )
        }
        Seen::Broken(reason) if expires > 0 => Finding::broken(
            Rung::Rows,
            format!("{reason} ({expires} keys expire: expect \">= ..\" of them)"),
        ),
        _ => finding,
    }
}
