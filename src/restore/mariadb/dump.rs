//! Dumps, restored by the client of the service's own image.
//!
//! The server runs on the base's volume as the stack describes it. The client stops at the first error. After the dump
//! it runs one more statement: that its answer comes shows that nothing was still open at the dump's end, a string or a
//! comment that swallowed the rest. The server is stopped cleanly before its volume is frozen.

use std::collections::{BTreeMap, BTreeSet};

use super::ask::literal;
use super::fault::Fault;
use super::heard::{Heard, UNREAD};
use super::{Ask, PORT, quiet, version};
use crate::engine::{ExecOutcome, VolumeFacts};
use crate::event::{Output, Owner};
use crate::plan::model::Method;
use crate::restore::{Deadline, Inbox, Job, Made, Server, Site, Told, Toolbox, Trouble, timed};
use crate::staging::{Bad, Blueprint};

/// What the client answers after the dump.
const END: &str = "rehearse: the dump was read to its end";
/// What an error quotes of it.
const END_WORDS: &str = "the dump was read to its end";

/// Feeds the file `$2` to the client `$1`. A file that cannot be read to its end has no end, which the client does not
/// know: it takes what came for all, and is content where that ends between two statements. So it is said besides.
const FEED: &str = "client=$1 file=$2 end=$3 unread=$4\nshift 4\n\
    { LC_ALL=C cat \"$file\"; code=$?; if [ $code -eq 0 ]; then printf \"\\nselect '%s';\\n\" \"$end\"; \
    else echo \"$unread $code\" >&2; fi; } | \"$client\" --user=\"$user\" \"$@\"\n";

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
    let inbox = Inbox::open(staging, &blueprint.service.name).await?;
    let more = vec![inbox.mount()];
    // The server makes its empty data folder while the backup is copied.
    let (put, server) = tokio::join!(
        inbox.put(staging, jobs),
        Server::start(staging, blueprint, volumes, more, PORT, Owner::Staging)
    );
    put?;
    let server = server?;
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
    let before = identities(&ask, None).await?;
    let tolerated = feed(&ask, file, into, job).await?;
    let replicas = quiet::replication(&ask).await?;
    not_empty(&ask, name, database.as_deref(), &before).await?;
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
    let session = format!("--init-command={}", super::ask::LIMITS);
    let mut arguments = vec![
        ask.client.as_str(),
        file,
        END,
        UNREAD,
        &session,
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
    let mut heard = Heard::new(tolerate);
    let mut ended = false;
    let outcome = ask
        .script(FEED, &arguments, |output, line| match output {
            Output::Stdout => ended |= line == END,
            Output::Stderr => heard.hear(line),
        })
        .await?;
    let name = &job.restore.name;
    // Who was killed or lost its server has shown nothing of the dump, whatever messages are tolerated.
    if let Some(bad) = in_the_way(ask, &outcome, heard.lost()).await {
        return Err(bad);
    }
    // Neither has what the client made of a part of the dump.
    if let Some(said) = heard.unread() {
        return Err(unread(&ask.tool.source, &outcome, &said));
    }
    if let Some(fault) = heard.unknown() {
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
    let seen = heard.as_often(name)?;
    if outcome.exit_code != 0 && heard.is_empty() {
        return Err(ask.tool.failed(&ask.client, &outcome, Owner::Backup));
    }
    if !ended {
        return Err(never_closed(name));
    }
    Ok(seen)
}

/// The dump could not be read where it lies in staging.
fn unread(source: &str, outcome: &ExecOutcome, said: &str) -> Bad {
    match Trouble::of(outcome) {
        Some(trouble) => trouble.bad(source, "cat", said),
        None => Bad::new(
            Owner::Engine,
            format!("{source}: the dump could not be read to its end in staging: {said}"),
        )
        .with_help("look at the disk on which the engine keeps its volumes"),
    }
}

/// What kept the client from reading the dump to its end, if that is not the dump.
async fn in_the_way(ask: &Ask<'_>, outcome: &ExecOutcome, lost: Option<&Fault>) -> Option<Bad> {
    /// A shell's exit code of a program that a signal ended is this and the signal's number.
    const SIGNAL: i64 = 128;
    let source = &ask.tool.source;
    if outcome.exit_code > SIGNAL {
        let engine = &ask.tool.staging.ground.engine;
        let gone = engine.container_state(&ask.tool.container).await;
        if !gone.is_ok_and(|state| state.running) {
            // The client was ended with its container: the server was first.
            let fault = lost.cloned().unwrap_or_else(|| Fault {
                code: Some(2013),
                message: "Lost connection to server".to_owned(),
                line: "the server went down while the dump was read".to_owned(),
            });
            return Some(ask.blame(&fault, Owner::Backup).await);
        }
        if let Some(trouble) = Trouble::of_client(outcome) {
            return Some(trouble.bad(source, &ask.client, &outcome.stderr));
        }
        return Some(Bad::new(
            Owner::Engine,
            format!(
                "{source}: `{}` was ended by signal {}",
                ask.client,
                outcome.exit_code - SIGNAL
            ),
        ));
    }
    Some(ask.blame(lost?, Owner::Backup).await)
}

fn never_closed(name: &str) -> Bad {
    Bad::new(
        Owner::Backup,
        format!(
            "{name}: the dump's last statement is not complete: something in it, such as a string or a comment, was never closed"
        ),
    )
}

/// The tables of one database or of all, each by a name that a later one of the same name does not get, nor the same
/// with other rows: a dump of rows alone fills what the service's image made.
async fn identities(ask: &Ask<'_>, database: Option<&str>) -> Result<BTreeSet<String>, Bad> {
    let which = match database {
        Some(database) => format!("t.table_schema = {}", literal(database)),
        None => format!("t.table_schema not in ({})", super::ask::SYSTEM),
    };
    let query = |number: &str, more: &str| {
        format!(
            "select t.table_schema, t.table_name, t.create_time, t.update_time, {number} from information_schema.tables t {more} where {which} \
             and t.table_type not in ('VIEW', 'SEQUENCE')"
        )
    };
    // InnoDB numbers its tables, which is finer than the second of their creation. MySQL calls that view otherwise, and
    // not every account may look.
    for view in ["innodb_sys_tables", "innodb_tables"] {
        let numbered = query(
            "i.table_id",
            &format!(
                "left join information_schema.{view} i on i.name = concat(t.table_schema, '/', t.table_name)"
            ),
        );
        if let Ok(text) = ask.run(None, &numbered).await? {
            return Ok(text.lines().map(str::to_owned).collect());
        }
    }
    let text = ask.text(None, &query("0", ""), Owner::Staging).await?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Tables that the image made are not what was backed up.
async fn not_empty(
    ask: &Ask<'_>,
    name: &str,
    database: Option<&str>,
    before: &BTreeSet<String>,
) -> Result<(), Bad> {
    if let Some(database) = database {
        let databases = ask.databases().await?;
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
    }
    let after = identities(ask, database).await?;
    if after.difference(before).next().is_none() {
        return Err(Bad::new(
            Owner::Backup,
            format!("{name}: the restore ended without an error, but it brought no table"),
        )
        .with_help("look at what was dumped: perhaps another database, or none"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// Feeds a file to a shell that stands in for the client; its standard output, and what was heard.
    fn fed(file: &str, client: &str) -> (String, Option<String>, Option<Fault>) {
        // The shell would take the client's own argument for one of its own.
        let script = FEED.replace("--user=\"$user\" ", "");
        let out = Command::new("sh")
            .args(["-c", &script, "sh", "sh", file, END, UNREAD, "-c", client])
            .stdin(Stdio::null())
            .output()
            .expect("a shell");
        let mut heard = Heard::new(&[]);
        String::from_utf8_lossy(&out.stderr)
            .lines()
            .for_each(|line| heard.hear(line));
        (
            String::from_utf8_lossy(&out.stdout).into_owned(),
            heard.unread(),
            heard.unknown().cloned(),
        )
    }

    #[test]
    fn a_dump_that_cannot_be_read_is_told_from_one_that_ends_early() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("dump.sql");
        std::fs::write(&file, "insert;\n".repeat(200_000)).expect("it can be written");
        let file = file.display().to_string();
        let (fed_whole, unread, _) = fed(&file, "cat");
        assert!(fed_whole.ends_with(&format!("\nselect '{END}';\n")));
        assert_eq!(unread, None);
        // The client stops at an error, and nobody reads what `cat` still has.
        let error = "ERROR 1064 (42000) at line 1: x";
        let (_, unread, fault) = fed(&file, &format!("read one; echo '{error}' >&2; exit 1"));
        assert_eq!(unread, None);
        assert_eq!(fault.map(|fault| fault.line).as_deref(), Some(error));
        // A folder can be opened and not be read, as a file on a bad disk.
        let folder = folder.path().display().to_string();
        let (fed_nothing, unread, _) = fed(&folder, "cat");
        assert_eq!(fed_nothing, "");
        let unread = unread.expect("it could not be read");
        assert!(unread.contains("Is a directory"), "{unread}");
    }
}
