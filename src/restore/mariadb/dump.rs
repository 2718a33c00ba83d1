//! Dumps, restored by the client of the service's own image.
//!
//! The server runs on the base's volume as the stack describes it. The client stops at the first error. After the dump
//! it runs one more statement: that its answer comes shows that nothing was still open at the dump's end, a string or a
//! comment that swallowed the rest. The server is stopped cleanly before its volume is frozen.

use std::collections::BTreeMap;

use super::ask::literal;
use super::fault::{Fault, Meaning};
use super::{Ask, PORT, quiet, version};
use crate::engine::VolumeFacts;
use crate::event::Owner;
use crate::plan::model::{Method, Tolerated};
use crate::restore::{Deadline, Inbox, Job, Made, Server, Site, Told, Toolbox, timed};
use crate::staging::{Bad, Blueprint};

/// What the client answers after the dump.
const END: &str = "rehearse: the dump was read to its end";
/// What an error quotes of it.
const END_WORDS: &str = "the dump was read to its end";

/// Feeds the file `$2` to the client `$1`. A file that cannot be read to its end has no end.
const FEED: &str = "client=$1 file=$2 end=$3\nshift 3\n\
    { cat \"$file\" && printf \"\\nselect '%s';\\n\" \"$end\"; } | \"$client\" --user=\"$user\" \"$@\"\n";

/// Says whether the dump in `$1` makes or chooses databases itself: `mariadb-dump --databases` does so before anything
/// else.
const NAMES_ITS_OWN: &str = "if head -n 60 \"$1\" | grep -a -q -E '^(CREATE DATABASE|USE |-- Current Database: )'; then echo yes; fi";

pub(super) async fn restore(
    site: Site<'_>,
    blueprint: Blueprint,
    volumes: &BTreeMap<String, VolumeFacts>,
    jobs: &[Job<'_>],
) -> Result<Made, Bad> {
    let staging = site.staging;
    let inbox = Inbox::fill(staging, &blueprint.service.name, jobs).await?;
    let more = vec![inbox.mount()];
    let server = Server::start(staging, blueprint, volumes, more, PORT, Owner::Staging).await?;
    let mut made = Made::default();
    for (index, job) in jobs.iter().enumerate() {
        let tool = Toolbox::within(
            staging,
            &server.running.container,
            format!("restore {}", job.restore.name),
            Deadline::of(site.limit, "limits.restore"),
        );
        let ended = timed(one(tool, &Inbox::path(index), *job)).await;
        let failed = ended.result.is_err();
        made.ended.push(ended);
        if failed {
            break;
        }
    }
    made.log = server.log(staging).await.ok();
    if made.ended.iter().all(|ended| ended.result.is_ok()) {
        server.stop_cleanly(staging).await?;
        inbox.remove(staging).await?;
    }
    Ok(made)
}

async fn one(tool: Toolbox<'_>, file: &str, job: Job<'_>) -> Result<Told, Bad> {
    let Method::MariadbDump { database, user } = &job.restore.method else {
        return Err(crate::restore::not_built(&[job]));
    };
    let name = &job.restore.name;
    let ask = Ask::open(tool, user).await?;
    let server = ask.text(None, "select version()", Owner::Staging).await?;
    let dump = job.facts.dump.as_ref();
    version::refuse_newer(
        name,
        dump.and_then(|dump| dump.server_version.as_deref()),
        &server,
    )?;
    quiet::events(&ask).await?;
    let own = ask
        .tool
        .script("sh", NAMES_ITS_OWN, &[file], Owner::Engine)
        .await?;
    let into = database.as_deref().filter(|_| own.stdout.trim().is_empty());
    if let Some(database) = into {
        let create = format!(
            "create database if not exists {} character set utf8mb4",
            super::ask::quoted(database)
        );
        ask.text(None, &create, Owner::Staging).await?;
    }
    let tolerated = feed(&ask, file, into, job).await?;
    let replicas = quiet::replication(&ask).await?;
    not_empty(&ask, name, database.as_deref()).await?;
    let mut told = Told {
        figure: figure(tolerated, replicas),
        ..Told::default()
    };
    if let Some(query) = &job.restore.demands.data_as_of {
        let asked = database
            .as_deref()
            .or(job.restore.demands.database.as_deref());
        told.as_of = Some(ask.as_of(name, asked, query).await?);
    }
    Ok(told)
}

fn figure(tolerated: u64, replicas: usize) -> Option<String> {
    let mut said = Vec::new();
    if tolerated > 0 {
        said.push(format!("{tolerated} tolerated messages"));
    }
    if replicas > 0 {
        said.push("the replication that it set up was taken away".to_owned());
    }
    (!said.is_empty()).then(|| said.join("; "))
}

/// Restores, and gives how many messages were tolerated.
async fn feed(ask: &Ask<'_>, file: &str, into: Option<&str>, job: Job<'_>) -> Result<u64, Bad> {
    let tolerate = &job.restore.demands.tolerate;
    let mut arguments = vec![
        ask.client.as_str(),
        file,
        END,
        "--default-character-set=utf8mb4",
        "--max-allowed-packet=1G",
        "--binary-mode",
        "--show-warnings",
        "-N",
        "-B",
    ];
    if ask.client == "mariadb" {
        arguments.push("--abort-source-on-error");
    }
    if !tolerate.is_empty() {
        arguments.push("--force");
    }
    arguments.extend(into);
    let mut faults: Vec<Fault> = Vec::new();
    let mut ended = false;
    let outcome = ask
        .script(FEED, &arguments, |_, line| {
            ended |= line == END;
            // Enough to tell of; with `--force` a dump may give one for each of its lines.
            if faults.len() < 10_000 {
                faults.extend(Fault::of(line));
            }
        })
        .await?;
    let name = &job.restore.name;
    let first = faults.iter().find(|fault| {
        let known = tolerate
            .iter()
            .any(|tolerated| tolerated.message == fault.message);
        !known || matches!(fault.meaning(), Meaning::Lost)
    });
    if let Some(fault) = first {
        // Our own statement closed a string of the dump, and so became a part of it.
        if fault.message.contains(END_WORDS) {
            return Err(never_closed(&job.restore.name));
        }
        let bad = ask.blame(fault, Owner::Backup).await;
        return Err(if fault.code == Some(1100) {
            bad.with_help(
                "mariadb-dump locks a table without the sequence that numbers it: make the dump with `--skip-add-locks`",
            )
        } else {
            bad
        });
    }
    let seen = as_often(name, tolerate, &faults)?;
    if outcome.exit_code != 0 && faults.is_empty() {
        return Err(ask.tool.failed(&ask.client, &outcome, Owner::Backup));
    }
    if !ended {
        return Err(never_closed(name));
    }
    Ok(seen)
}

fn never_closed(name: &str) -> Bad {
    Bad::new(
        Owner::Backup,
        format!(
            "{name}: the dump's last statement is not complete: something in it, such as a string or a comment, was never closed"
        ),
    )
}

/// Checks that each tolerated message came exactly as often as the rehearsal says.
fn as_often(name: &str, tolerate: &[Tolerated], faults: &[Fault]) -> Result<u64, Bad> {
    let mut all = 0;
    for tolerated in tolerate {
        let same = faults
            .iter()
            .filter(|fault| fault.message == tolerated.message);
        let seen = same.count() as u64;
        if seen != tolerated.count {
            return Err(Bad::new(
                Owner::Backup,
                format!(
                    "{name}: the message `{}` came {seen} times, `tolerate:` says {}",
                    tolerated.message, tolerated.count
                ),
            )
            .with_help("find out what changed in the dump before you change the number"));
        }
        all += seen;
    }
    Ok(all)
}

async fn not_empty(ask: &Ask<'_>, name: &str, database: Option<&str>) -> Result<(), Bad> {
    let databases = ask.databases().await?;
    let which = match database {
        Some(database) => {
            if !databases.iter().any(|known| known == database) {
                return Err(Bad::new(
                    Owner::Backup,
                    format!(
                        "{name}: the dump holds no database `{database}` but {}",
                        databases.join(", ")
                    ),
                )
                .with_help("name the database that was dumped, or leave `database:` away"));
            }
            format!("table_schema = {}", literal(database))
        }
        None => format!("table_schema not in ({})", super::ask::SYSTEM),
    };
    let count = format!(
        "select count(*) from information_schema.tables where {which} and table_type not in ('VIEW', 'SEQUENCE')"
    );
    if ask.text(None, &count, Owner::Staging).await?.trim() == "0" {
        return Err(Bad::new(
            Owner::Backup,
            format!("{name}: the restore ended without an error, but there is no table"),
        )
        .with_help("look at what was dumped: perhaps another database, or none"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerated_messages_come_exactly_so_often() {
        let fault = Fault::of("ERROR 1050 (42S01) at line 2: Table 'x' already exists").unwrap();
        let tolerate = |count| {
            vec![Tolerated {
                message: "Table 'x' already exists".into(),
                count,
            }]
        };
        let faults = [fault.clone(), fault];
        assert_eq!(as_often("db", &tolerate(2), &faults).ok(), Some(2));
        for count in [1, 3] {
            let bad = as_often("db", &tolerate(count), &faults).unwrap_err();
            assert_eq!(bad.owner, Owner::Backup);
        }
    }
}
