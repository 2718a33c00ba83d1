//! Dumps, restored by the service's own image and tools.
//!
//! The server runs on the base's volume as the stack describes it. `pg_restore` stops at the first error (its
//! default is to count errors and go on), `psql` likewise by `ON_ERROR_STOP`; only where the rehearsal tolerates
//! messages, or the image has made roles that the backup makes too, all are heard and each has to be explained. The
//! server is stopped cleanly before its volume is frozen.

use std::collections::{BTreeMap, BTreeSet};

use super::cluster::{self, Existing};
use super::said::{self, Said, Speaker};
use super::version::{Major, major};
use super::{Ask, PORT, ask, remedy};
use crate::backup::Format;
use crate::engine::{ExecOutcome, VolumeFacts};
use crate::event::{Output, Owner};
use crate::plan::model::Method;
use crate::restore::{Deadline, Inbox, Job, Made, Server, Site, Told, Toolbox, Trouble, timed};
use crate::staging::{Bad, Blueprint};

/// The fact of a restore with the version of the server that was dumped, where only the whole backup tells it.
pub(super) const SERVER_VERSION: &str = "server-version";

pub(super) async fn restore(
    site: Site<'_>,
    blueprint: Blueprint,
    volumes: &BTreeMap<String, VolumeFacts>,
    jobs: &[Job<'_>],
) -> Result<Made, Bad> {
    let staging = site.staging;
    let mut environment = ask::environment(&blueprint);
    // What the tools say is compared with what is tolerated.
    environment.insert("LC_MESSAGES".to_owned(), "C".to_owned());
    let settings = blueprint.service.environment.clone();
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
        let tool = Toolbox {
            environment: environment.clone(),
            ..Toolbox::within(
                staging,
                &server.running.container,
                format!("restore {}", job.restore.name),
                Deadline::of(site.limit, "limits.restore"),
            )
        };
        let file = Inbox::path(index);
        let ended = timed(one(&tool, &file, *job, &settings)).await;
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

async fn one(
    tool: &Toolbox<'_>,
    file: &str,
    job: Job<'_>,
    settings: &BTreeMap<String, String>,
) -> Result<Told, Bad> {
    match (&job.restore.method, job.facts.format) {
        (
            Method::PostgresDump {
                database: Some(_), ..
            },
            Format::PostgresCluster,
        ) => Err(Bad::new(
            Owner::Staging,
            format!(
                "{}: the backup is a dump of a whole cluster, and the rehearsal names one database",
                job.restore.name
            ),
        )
        .with_help("leave `database:` out: the dump makes its databases itself")),
        (
            Method::PostgresDump {
                database: Some(database),
                user,
                jobs,
            },
            format,
        ) => {
            let ask = Ask { tool, user };
            of_database(&ask, file, job, database, *jobs, format).await
        }
        (
            Method::PostgresDump {
                database: None,
                user,
                ..
            },
            Format::PostgresCluster,
        ) => {
            let ask = Ask { tool, user };
            of_cluster(&ask, file, job, settings).await
        }
        (Method::PostgresDump { database: None, .. }, _) => Err(Bad::new(
            Owner::Staging,
            format!(
                "{}: the backup is a dump of one database, and the rehearsal does not name it",
                job.restore.name
            ),
        )
        .with_help("add `database:`; only a dump of `pg_dumpall` makes its databases itself")),
        (Method::PostgresGlobals { user }, _) => {
            let ask = Ask { tool, user };
            let existing = Existing::look(&ask, file, settings).await?;
            let figure = run(&ask, job, &psql(user, "postgres", file), &existing.messages).await?;
            existing.keep_password(&ask, settings).await?;
            Ok(Told {
                figure,
                ..Told::default()
            })
        }
        _ => Err(crate::restore::not_built(&[job])),
    }
}

async fn of_database(
    ask: &Ask<'_>,
    file: &str,
    job: Job<'_>,
    database: &str,
    jobs: u16,
    format: Format,
) -> Result<Told, Bad> {
    let user = ask.user;
    let dumped = job.facts.dump.as_ref();
    let from = dumped.and_then(|dump| dump.server_version.as_deref());
    not_newer(ask, job, from).await?;
    let exists = format!(
        "select count(*) from pg_database where datname = {}",
        ask::literal(database)
    );
    let there = ask.text("postgres", &exists, Owner::Staging).await?.trim() != "0";
    let before = if there {
        ask.identities(database).await?
    } else {
        BTreeSet::new()
    };
    if !there {
        // From template0: nothing that the image added to template1 gets mixed with the backup.
        let create = [
            "createdb",
            "-w",
            "-U",
            user,
            "--maintenance-db=postgres",
            "-T",
            "template0",
            database,
        ];
        ask.tool.must(&create, Owner::Staging).await?;
    }
    let command = match format {
        Format::PostgresPlain => psql(user, database, file),
        // A tar archive is one stream, which several processes cannot read at once.
        Format::PostgresTar => pg_restore(user, database, file, 1),
        Format::PostgresCustom | Format::PostgresDirectory => {
            pg_restore(user, database, file, jobs)
        }
        _ => return Err(crate::restore::not_built(&[job])),
    };
    let figure = run(ask, job, &command, &[]).await.map_err(|bad| {
        if !before.is_empty() && bad.owner == Owner::Backup && bad.reason.contains("already exists") {
            return Bad {
                owner: Owner::Stack,
                ..bad.with_help(format!(
                    "the service's image had made {} tables in `{database}` before: a backup is restored into an empty database",
                    before.len()
                ))
            };
        }
        bad
    })?;
    let after = ask.identities(database).await?;
    // Tables that the image made are not what was backed up.
    let made = after.difference(&before).count() as u64;
    let brought = job.facts.dump.as_ref().and_then(|dump| dump.tables);
    if made == 0 || brought == Some(0) {
        return Err(Bad::new(
            Owner::Backup,
            format!(
                "{}: the restore ended without an error, but it brought no table",
                job.restore.name
            ),
        )
        .with_help(
            "look at what was dumped: perhaps another database, or only its schema `public`",
        ));
    }
    let mut told = Told {
        figure: Some(figures(made, 1, figure)),
        ..Told::default()
    };
    if let Some(query) = &job.restore.demands.data_as_of {
        told.as_of = Some(ask.as_of(&job.restore.name, database, query).await?);
    }
    Ok(told)
}

async fn of_cluster(
    ask: &Ask<'_>,
    file: &str,
    job: Job<'_>,
    settings: &BTreeMap<String, String>,
) -> Result<Told, Bad> {
    let existing = Existing::look(ask, file, settings).await?;
    not_newer(ask, job, existing.server_version.as_deref()).await?;
    existing.make_room(ask, &job.restore.name).await?;
    let before = of_all(ask, &ask.databases().await?).await?;
    let command = psql(ask.user, "postgres", file);
    let figure = run(ask, job, &command, &existing.messages).await?;
    existing.keep_password(ask, settings).await?;
    let databases = ask.databases().await?;
    // Tables that the image made are not what was backed up.
    let after = of_all(ask, &databases).await?;
    let tables = after.difference(&before).count() as u64;
    if tables == 0 {
        return Err(Bad::new(
            Owner::Backup,
            format!(
                "{}: the restore ended without an error, but it brought no table into any database",
                job.restore.name
            ),
        )
        .with_help("look at what was dumped: perhaps only roles, or another server"));
    }
    let mut told = Told {
        figure: Some(figures(tables, databases.len(), figure)),
        ..Told::default()
    };
    if let Some(version) = existing.server_version {
        told.facts.insert(SERVER_VERSION.to_owned(), version);
    }
    if let Some(query) = &job.restore.demands.data_as_of {
        let database = cluster::asked(job.restore, &databases)?;
        told.as_of = Some(ask.as_of(&job.restore.name, database, query).await?);
    }
    Ok(told)
}

/// The tables of these databases.
async fn of_all(ask: &Ask<'_>, databases: &[String]) -> Result<BTreeSet<String>, Bad> {
    let mut all = BTreeSet::new();
    for database in databases {
        all.extend(ask.identities(database).await?);
    }
    Ok(all)
}

fn figures(tables: u64, databases: usize, more: Option<String>) -> String {
    let mut figure = format!("{tables} {}", if tables == 1 { "table" } else { "tables" });
    if databases > 1 {
        figure = format!("{figure} in {databases} databases");
    }
    match more {
        Some(more) => format!("{figure}, {more}"),
        None => figure,
    }
}

/// A dump of a newer server may say what this one does not understand, and worse, what it understands otherwise.
async fn not_newer(ask: &Ask<'_>, job: Job<'_>, from: Option<&str>) -> Result<(), Bad> {
    let Some(from) = from.and_then(major) else {
        return Ok(());
    };
    let here = Major::of_number(ask.version().await?);
    if from <= here {
        return Ok(());
    }
    Err(Bad::new(
        Owner::Stack,
        format!(
            "{}: the dump is of PostgreSQL {from}, and the service runs PostgreSQL {here}",
            job.restore.name
        ),
    )
    .with_help(format!(
        "use PostgreSQL {from} in the stack, as production does: the backup was not judged"
    )))
}

/// A command without what makes it end at the first error.
struct Tool {
    speaker: Speaker,
    command: Vec<String>,
}

fn psql(user: &str, database: &str, file: &str) -> Tool {
    let words = [
        "psql", "-X", "-A", "-t", "-w", "-U", user, "-d", database, "-f", file,
    ];
    Tool {
        speaker: Speaker::Psql,
        command: words.map(str::to_owned).to_vec(),
    }
}

fn pg_restore(user: &str, database: &str, file: &str, jobs: u16) -> Tool {
    let jobs = jobs.to_string();
    let mut words = vec!["pg_restore", "-w", "--verbose", "-U", user, "-d", database];
    if jobs != "1" {
        words.extend(["-j", &jobs]);
    }
    words.push(file);
    Tool {
        speaker: Speaker::PgRestore,
        command: words.into_iter().map(str::to_owned).collect(),
    }
}

/// Runs the tool. The answer is a figure, where what it said is worth one.
async fn run(
    ask: &Ask<'_>,
    job: Job<'_>,
    tool: &Tool,
    ours: &[String],
) -> Result<Option<String>, Bad> {
    let tolerated = &job.restore.demands.tolerate;
    // Without anything to tolerate, the first error ends it.
    let strict = tolerated.is_empty() && ours.is_empty();
    let mut command: Vec<&str> = tool.command.iter().map(String::as_str).collect();
    if strict {
        let stop: &[&str] = match tool.speaker {
            Speaker::PgRestore => &["--exit-on-error"],
            Speaker::Psql => &["-v", "ON_ERROR_STOP=1"],
        };
        command.splice(1..1, stop.iter().copied());
    }
    let mut said = Said::default();
    let total = job.facts.dump.as_ref().and_then(|dump| dump.tables);
    let mut progress = super::progress::Progress::new(ask.tool, job.restore.name.clone(), total);
    let outcome = ask
        .tool
        .seen(&command, None, |output, line| match output {
            Output::Stderr => {
                said.hear(tool.speaker, line);
                progress.see(tool.speaker, line);
            }
            Output::Stdout if tool.speaker == Speaker::Psql => progress.see(tool.speaker, line),
            Output::Stdout => {}
        })
        .await?;
    progress.end();
    let judged = match tool.speaker {
        _ if strict => (outcome.exit_code == 0 && said.errors.is_empty())
            .then_some(None)
            .ok_or_else(|| said.first().unwrap_or_else(|| outcome.last_words())),
        Speaker::PgRestore => {
            counted(&said, &outcome).and_then(|()| said::judge(&said.errors, tolerated, ours))
        }
        // Its exit code for a connection that was lost: what it heard before is not why.
        Speaker::Psql if outcome.exit_code == 2 => Err(outcome.last_words()),
        // Whatever the file held, `psql` came to its end.
        Speaker::Psql if outcome.exit_code == 0 => said::judge(&said.errors, tolerated, ours),
        Speaker::Psql => Err(said.first().unwrap_or_else(|| outcome.last_words())),
    };
    judged.map_err(|why| failed(ask.tool, job, tool.speaker, &outcome, &why))
}

/// Checks that `pg_restore` came to its end and that no error of it was missed.
fn counted(said: &Said, outcome: &ExecOutcome) -> Result<(), String> {
    let seen = said.errors.len() as u64;
    match (outcome.exit_code, said.ignored) {
        (0, None) if seen == 0 => Ok(()),
        (1, Some(ignored)) if ignored == seen => Ok(()),
        (0 | 1, Some(ignored)) => Err(format!(
            "it counted {ignored} errors, and {seen} were heard: {}",
            said.first().unwrap_or_default()
        )),
        _ => Err(said.first().unwrap_or_else(|| outcome.last_words())),
    }
}

fn failed(
    tool: &Toolbox<'_>,
    job: Job<'_>,
    speaker: Speaker,
    outcome: &ExecOutcome,
    why: &str,
) -> Bad {
    if let Some(trouble) = Trouble::of_client(outcome) {
        return trouble.bad(&tool.source, speaker.name(), why);
    }
    let exit = match outcome.exit_code {
        0 => String::new(),
        code => format!(" with exit code {code}"),
    };
    let reason = format!("{}: `{}` failed{exit}: {why}", tool.source, speaker.name());
    remedy::of(Bad::new(Owner::Backup, reason), job.facts)
}
