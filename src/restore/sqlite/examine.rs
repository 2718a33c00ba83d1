//! The ladder's rungs that a database file can show, on a branch of its volume.

use std::time::Instant;

use super::MOUNT;
use super::db::{Db, Integrity};
use crate::check::ladder::{Finding, Rung, Seen};
use crate::check::rows;
use crate::engine::{ExecOutcome, VolumeAt};
use crate::event::Owner;
use crate::plan::model::Method;
use crate::restore::{Deadline, Subject, Toolbox, files, tool_image};
use crate::staging::Bad;

/// Reads every row of every table. `.dump` goes on after an error, writes it between its statements, and says at its end
/// whether there was one. A pipe would hide the exit code.
const DUMP: &str = r#"
{ sqlite3 -batch "$db" .dump 2>/tmp/dump.err || echo $? > /tmp/dump.code; } |
  awk '/^\/\*+ (CORRUPTION )?ERROR/ { if (errors++ < 3) print > "/tmp/dump.said" } { size += length($0) + 1; last = $0 } END { printf "%s %.0f\n", last, size }'
cat /tmp/dump.err >&2
if [ -s /tmp/dump.said ]; then said=$(cat /tmp/dump.said); else said=; fi
if [ -s /tmp/dump.code ]; then code=$(cat /tmp/dump.code); else code=0; fi
echo "$said" >&2
exit "$code"
"#;

/// Each table with AUTOINCREMENT, what its sequence says and what its largest row is.
const SEQUENCES: &str = "select 'select ' || quote(s.name) || ', ' || coalesce(q.seq, 'null') || ', coalesce(max(rowid), 0) from \"' || \
    replace(s.name, '\"', '\"\"') || '\";' from sqlite_schema s left join sqlite_sequence q on q.name = s.name \
    where s.type = 'table' and upper(s.sql) like '%PRIMARY KEY%AUTOINCREMENT%'";

const WRITES: &str = "begin immediate; create table rehearse_accepts_writes (x); insert into rehearse_accepts_writes values (1); commit; \
    select count(*) from rehearse_accepts_writes; drop table rehearse_accepts_writes;";

/// Climbs them.
pub async fn examine(subject: Subject<'_>) -> Vec<Finding> {
    let mut findings = vec![
        Finding::skipped(
            Rung::Starts,
            "a database file has no server; the test plan shows whether its service starts",
        ),
        Finding::skipped(
            Rung::Version,
            "every SQLite 3 reads the files of every other",
        ),
        Finding::skipped(Rung::Collation, "SQLite's own collations have no versions"),
        Finding::skipped(
            Rung::Checksums,
            "SQLite's pages have no checksums: a changed byte in a value would not be seen",
        ),
    ];
    match climb(subject).await {
        Ok(more) => findings.extend(more),
        Err(bad) => findings.push(Finding::new(Rung::Readable, seen(bad))),
    }
    findings
}

async fn climb(subject: Subject<'_>) -> Result<Vec<Finding>, Bad> {
    let restore = &subject.job.restore;
    let (Method::Sqlite { to }, Some(volume)) = (&restore.method, restore.volume()) else {
        return Ok(Vec::new());
    };
    let Some(branch) = subject.branches.get(volume) else {
        return Err(Bad::new(
            Owner::Engine,
            format!("there is no branch of volume `{volume}` (a defect of rehearse)"),
        ));
    };
    let staging = subject.site.staging;
    let image = tool_image::of_job(&staging.ground, subject.job).await?;
    let tool = Toolbox::open(
        staging,
        &crate::state::slug(&format!("examine-sqlite-{}", restore.name)),
        &image,
        vec![VolumeAt {
            volume: branch.volume.clone(),
            target: MOUNT.to_owned(),
            read_only: false,
        }],
        format!("examine {}", restore.name),
        Deadline::of(subject.site.limit, "limits.examine"),
    )
    .await?;
    let db = Db::of(&tool, to);
    // Each rung has its own end, so the container is closed in any case.
    let findings = vec![
        timed(Rung::Readable, readable(&db)).await,
        timed(Rung::Indexes, indexes(&db)).await,
        timed(Rung::Rows, counted(&db, subject)).await,
        timed(Rung::Sequences, sequences(&db)).await,
        timed(Rung::Constraints, constraints(&db, subject)).await,
        timed(Rung::Files, named(&db, subject, &image)).await,
        // Last: it changes the file.
        timed(Rung::Writes, writes(&db)).await,
    ];
    tool.close().await?;
    Ok(findings)
}

async fn timed(rung: Rung, work: impl Future<Output = Result<Seen, Bad>>) -> Finding {
    let begun = Instant::now();
    let seen = work.await.unwrap_or_else(seen);
    Finding {
        seconds: begun.elapsed().as_secs_f64(),
        ..Finding::new(rung, seen)
    }
}

fn seen(bad: Bad) -> Seen {
    if bad.owner == Owner::Backup {
        return Seen::Broken(bad.reason);
    }
    Seen::Unknown(bad.reason, bad.help)
}

async fn readable(db: &Db<'_>) -> Result<Seen, Bad> {
    let outcome = db.script(DUMP, "").await?;
    let Some(bytes) = whole(&outcome) else {
        let bad = db.failed(&outcome);
        if bad.owner != Owner::Backup {
            return Err(bad);
        }
        return Ok(Seen::Broken(format!(
            "`.dump` met an error: {} {}",
            outcome.stderr.trim().replace('\n', " | "),
            outcome.stdout.trim()
        )));
    };
    let tables = db.tables().await?.len();
    Ok(Seen::Holds(Some(format!(
        "{tables} tables, {bytes} bytes as SQL"
    ))))
}

/// The bytes of a dump that came to its end without an error; `None` of every other.
fn whole(outcome: &ExecOutcome) -> Option<u64> {
    let bytes = outcome.stdout.trim().strip_prefix("COMMIT; ")?;
    (outcome.exit_code == 0)
        .then(|| bytes.trim().parse().ok())
        .flatten()
}

async fn indexes(db: &Db<'_>) -> Result<Seen, Bad> {
    Ok(match db.integrity().await? {
        Integrity::Holds => Seen::Holds(Some("integrity_check: ok".to_owned())),
        Integrity::Broken(said) => Seen::Broken(format!("integrity_check: {said}")),
        Integrity::CannotTell(why) => Seen::Skipped(why),
    })
}

async fn counted(db: &Db<'_>, subject: Subject<'_>) -> Result<Seen, Bad> {
    let counts = db.counts().await?;
    // A file is one database, whatever the manifest calls it.
    let of_source = subject
        .job
        .source
        .and_then(|source| source.databases.values().next())
        .map(|database| &database.tables);
    Ok(rows::judge(&subject.job.restore.demands.rows, of_source, &counts).seen)
}

async fn sequences(db: &Db<'_>) -> Result<Seen, Bad> {
    let has = "select count(*) from sqlite_schema where name = 'sqlite_sequence'";
    if db.text(has).await?.trim() == "0" {
        return Ok(Seen::Skipped("no table has AUTOINCREMENT".to_owned()));
    }
    let script = "sqlite3 -batch -bail \"$db\" \"$sql\" > /tmp/sequences.sql\nsqlite3 -batch -bail \"$db\" < /tmp/sequences.sql";
    let outcome = db.script(script, SEQUENCES).await?;
    if outcome.exit_code != 0 {
        return Err(db.failed(&outcome));
    }
    let mut behind = Vec::new();
    let mut all = 0;
    for line in outcome.stdout.lines() {
        let mut parts = line.rsplitn(3, '|');
        let (Some(max), Some(seq), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        all += 1;
        let (max, at) = (max.parse().unwrap_or(0_i64), seq.parse().unwrap_or(0_i64));
        if at < max {
            behind.push(format!("`{name}` is at {at}, its largest row is {max}"));
        }
    }
    if behind.is_empty() {
        return Ok(Seen::Holds(Some(format!("{all} sequences"))));
    }
    Ok(Seen::Broken(behind.join("; ")))
}

async fn constraints(db: &Db<'_>, subject: Subject<'_>) -> Result<Seen, Bad> {
    let mut wrong = Vec::new();
    let breaches = db.rows("pragma foreign_key_check").await?;
    let outcome = breaches.outcome;
    if outcome.exit_code != 0 {
        let said = outcome.last_words();
        if said.contains("foreign key mismatch") {
            return Ok(Seen::Unknown(
                format!("the foreign keys cannot be checked: {said}"),
                Some("a parent key in the schema is not unique".to_owned()),
            ));
        }
        return Err(db.failed(&outcome));
    }
    if let Some(first) = &breaches.first {
        let mut parts = first.split('|');
        let (table, row) = (parts.next().unwrap_or(first), parts.next().unwrap_or("?"));
        let parent = parts.next().unwrap_or("?");
        wrong.push(format!(
            "{} rows refer to nothing, the first is row {row} of `{table}`, which refers to `{parent}`",
            breaches.count
        ));
    }
    let invariants = &subject.job.restore.demands.invariants;
    for invariant in invariants {
        let rows = db.rows(&invariant.query).await?;
        let outcome = rows.outcome;
        if outcome.exit_code != 0 {
            let said = outcome.last_words();
            return Ok(Seen::Unknown(
                format!("the invariant `{}` cannot be asked: {said}", invariant.name),
                Some("an invariant is a query of which each row is a breach".to_owned()),
            ));
        }
        if let Some(first) = rows.first {
            wrong.push(format!(
                "`{}` has {} breaches, the first is `{first}`",
                invariant.name, rows.count
            ));
        }
    }
    if wrong.is_empty() {
        return Ok(Seen::Holds(Some(format!(
            "foreign keys, {} invariants",
            invariants.len()
        ))));
    }
    Ok(Seen::Broken(wrong.join("; ")))
}

/// Each file that the rehearsal's query names is in its volume.
async fn named(db: &Db<'_>, subject: Subject<'_>, image: &str) -> Result<Seen, Bad> {
    let Some(named) = &subject.job.restore.demands.files else {
        return Ok(Seen::Skipped("the rehearsal says no `files:`".to_owned()));
    };
    // In hexadecimal, so that the client escapes nothing. A row of NULL names no file.
    let query = format!(
        "with named(path) as ({}) select hex(path) from named where path is not null",
        named.query.trim().trim_end_matches(';')
    );
    let outcome = db.run(&query).await?;
    if outcome.exit_code != 0 {
        return Ok(Seen::Unknown(
            format!(
                "the query of `files:` cannot be asked: {}",
                outcome.last_words()
            ),
            Some("it has to be one select of one path a row".to_owned()),
        ));
    }
    let paths = files::from_hex(outcome.stdout.trim_end_matches('\n'))?;
    let deadline = Deadline::of(subject.site.limit, "limits.examine");
    files::look_for(subject, image, deadline, named, paths).await
}

async fn writes(db: &Db<'_>) -> Result<Seen, Bad> {
    let text = db.text(WRITES).await?;
    if text.trim() == "1" {
        return Ok(Seen::Holds(Some(
            "a table was made, filled and removed".to_owned(),
        )));
    }
    Ok(Seen::Broken(format!(
        "a row was written, and `{}` were read",
        text.trim()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_dump_that_came_to_its_end_is_whole() {
        for (exit_code, stdout, bytes) in [
            (0, "COMMIT; 4096\n", Some(4096)),
            (137, "COMMIT; 4096\n", None),
            (1, "COMMIT; 4096\n", None),
            (0, "ROLLBACK; -- due to errors 4096\n", None),
            (0, "INSERT INTO t VALUES('COMMIT; 9'); 4096\n", None),
            (0, " 0\n", None),
        ] {
            let outcome = ExecOutcome {
                exit_code,
                stdout: stdout.to_owned(),
                stderr: String::new(),
            };
            assert_eq!(whole(&outcome), bytes, "{exit_code} {stdout}");
        }
    }
}
