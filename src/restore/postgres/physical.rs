//! Physical backups: the data folder is filled before the server starts, the server recovers, and what must not act in
//! staging is set again.
//!
//! The recovery runs in a container of the service's image without a network, under `limits.restore`: production's
//! settings cannot reach anything there, and hours of WAL are no slow start of a service. Only then the service itself
//! is started as the stack describes it.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::data_folder::Cluster;
use super::{Ask, PORT, base, pgbackrest, recovery, settings};
use crate::engine::VolumeFacts;
use crate::event::Owner;
use crate::plan::model::Method;
use crate::restore::{Deadline, Job, Made, Server, Site, Told, timed};
use crate::staging::{Bad, Blueprint};

/// In the container of the recovery: the server's socket, log and rules of who may log in.
const RUN: &str = "/tmp/rehearse-server";
const PREPARE: &str = r#"
mkdir -p "$1"
printf 'local all all trust\n' >"$1/hba.conf"
: >"$1/log"
chown -R "$2" "$1"
"#;

/// `pg_ctl` is content with a server that recovers and lets nobody in; there is no event for the end of that.
const AWAIT: &str = r#"
until pg_isready -q -h "$1" -p 5432; do
    kill -0 "$(head -n 1 "$2/postmaster.pid")" 2>/dev/null || exit 1
    sleep 0.1
done
"#;

pub(super) async fn restore(
    site: Site<'_>,
    blueprint: Blueprint,
    volumes: &BTreeMap<String, VolumeFacts>,
    jobs: &[Job<'_>],
) -> Result<Made, Bad> {
    let [job] = jobs else {
        return Err(Bad::new(
            Owner::Staging,
            format!(
                "service `{}` is restored from a whole data folder, which leaves no place for a second backup",
                blueprint.service.name
            ),
        ));
    };
    let mut log = String::new();
    let ended = timed(one(site, blueprint, volumes, *job, &mut log)).await;
    Ok(Made {
        ended: vec![ended],
        log: Some(log),
    })
}

async fn one(
    site: Site<'_>,
    blueprint: Blueprint,
    volumes: &BTreeMap<String, VolumeFacts>,
    job: Job<'_>,
    log: &mut String,
) -> Result<Told, Bad> {
    let staging = site.staging;
    let deadline = Deadline::of(site.limit, "limits.restore");
    let (mut cluster, wal, inbox) = match &job.restore.method {
        Method::PgBackRest { .. } => {
            let (cluster, wal, inbox) =
                pgbackrest::fill(site, &blueprint, volumes, job, deadline).await?;
            (cluster, Some(wal), Some(inbox))
        }
        _ => {
            let (cluster, inbox) = base::fill(site, &blueprint, volumes, job, deadline).await?;
            (cluster, None, inbox)
        }
    };
    let from = wal.as_ref().map(pgbackrest::Wal::from).unwrap_or_default();
    let recovered = recover(&mut cluster, job, &from, log).await;
    let told = match (recovered, &wal) {
        (Err(bad), Some(wal)) => return Err(wal.explain(bad)),
        (recovered, _) => recovered?,
    };
    cluster.tool.close().await?;
    if let Some(wal) = wal {
        wal.remove(staging).await?;
    }
    if let Some(inbox) = inbox {
        inbox.remove(staging).await?;
    }
    // What was restored has started and recovered; what goes wrong now is the stack's.
    let server = Server::start(staging, blueprint, volumes, Vec::new(), PORT, Owner::Stack).await?;
    log.push_str(&server.log(staging).await.unwrap_or_default());
    server.stop_cleanly(staging).await?;
    Ok(told)
}

/// Starts the server on the filled folder, waits until it has recovered, asks it, and stops it cleanly.
async fn recover(
    cluster: &mut Cluster<'_>,
    job: Job<'_>,
    from: &settings::From,
    log: &mut String,
) -> Result<Told, Bad> {
    let restore = job.restore.name.as_str();
    let control = cluster.control().await?;
    let label = cluster.read("backup_label").await?;
    cluster.quieten(&control).await?;
    // Also without an archive: only so the server follows the times of the transactions that it replays.
    cluster.write("recovery.signal", String::new()).await?;
    let said = start(cluster, from).await;
    let lines = cluster
        .as_server(&["cat", &format!("{RUN}/log")])
        .await?
        .stdout;
    log.push_str(&lines);
    if let Some(last_words) = said? {
        let said = if lines.trim().is_empty() {
            &last_words
        } else {
            &lines
        };
        return Err(recovery::failed(restore, said));
    }
    cluster
        .tool
        .environment
        .insert("PGHOST".to_owned(), RUN.to_owned());
    cluster.tool.environment.extend([super::ask::options(None)]);
    let asked = ask(cluster, job, &lines, label.as_deref()).await;
    let stopped = cluster
        .as_server(&[
            "pg_ctl",
            "stop",
            "-D",
            &cluster.data,
            "-m",
            "fast",
            "-w",
            "-t",
            "86400",
        ])
        .await?;
    let told = match asked {
        Ok(told) => told,
        Err(bad) => return Err(with_roles(cluster, bad).await),
    };
    if stopped.exit_code != 0 {
        return Err(cluster.tool.failed("pg_ctl stop", &stopped, Owner::Staging));
    }
    let control = cluster.control().await?;
    let state = settings::control_value(&control, "Database cluster state").unwrap_or_default();
    if state != "shut down" {
        return Err(Bad::new(
            Owner::Staging,
            format!("{restore}: the server did not stop cleanly after its recovery: `{state}`"),
        ));
    }
    Ok(told)
}

/// Starts the server and waits until it has recovered; the words of `pg_ctl` where it did not.
async fn start(cluster: &Cluster<'_>, from: &settings::From) -> Result<Option<String>, Bad> {
    cluster
        .tool
        .script("prepare", PREPARE, &[RUN, &cluster.user], Owner::Engine)
        .await?;
    let options = settings::recovery(RUN, &format!("{RUN}/hba.conf"), from);
    let seconds = cluster.tool.deadline.left().as_secs().max(1).to_string();
    let started = cluster
        .as_server(&[
            "pg_ctl",
            "start",
            "-s",
            "-w",
            "-t",
            &seconds,
            "-D",
            &cluster.data,
            "-l",
            &format!("{RUN}/log"),
            "-o",
            &options,
        ])
        .await?;
    if started.exit_code != 0 {
        return Ok(Some(started.last_words()));
    }
    let wait = ["/bin/sh", "-c", AWAIT, "await", RUN, &cluster.data];
    let ended = cluster.as_server(&wait).await?;
    Ok((ended.exit_code != 0).then(|| ended.last_words()))
}

/// What the recovered server says of its data.
async fn ask(
    cluster: &Cluster<'_>,
    job: Job<'_>,
    log: &str,
    label: Option<&str>,
) -> Result<Told, Bad> {
    let restore = &job.restore;
    let user = restore.method.user().unwrap_or("postgres");
    let ask = Ask {
        tool: &cluster.tool,
        user,
    };
    // template1 is in every cluster; `postgres` may have been dropped.
    let first = "select pg_is_in_recovery(), current_setting('data_checksums')";
    let answer = match ask.text("template1", first, Owner::Staging).await {
        Ok(answer) => answer,
        Err(bad) => return Err(because_of_the_stack(bad)),
    };
    let (recovering, checksums) = answer.trim().split_once('|').unwrap_or_default();
    if recovering != "f" {
        return Err(Bad::new(
            Owner::Backup,
            format!(
                "{}: the server is still in recovery after it said that it is ready",
                restore.name
            ),
        ));
    }
    let mut told = Told::default();
    let last = recovery::last_transaction(log);
    let began = match label.and_then(recovery::start_time) {
        Some(text) => began(&ask, text).await?,
        None => None,
    };
    let mut figure: Vec<String> = Vec::new();
    if let Some(recovered) = last {
        figure.push(format!("recovered to {recovered:.0}"));
        told.facts
            .insert("recovered".to_owned(), recovered.to_string());
    } else if let Some(began) = began {
        figure.push(format!(
            "backup of {began:.0}, no later transaction in its WAL"
        ));
    }
    figure.push(format!("page checksums {checksums}"));
    figure.extend(cluster.notes.iter().cloned());
    told.facts
        .insert("checksums".to_owned(), checksums.to_owned());
    told.as_of = last.or(began);
    if let Some(query) = &restore.demands.data_as_of {
        let database = database(&ask, job).await?;
        told.as_of = Some(ask.as_of(&restore.name, &database, query).await?);
    }
    told.figure = Some(figure.join("; "));
    Ok(told)
}

/// A time with a zone's abbreviation, as the server reads it; `None` where it does not know the zone.
async fn began(ask: &Ask<'_>, text: &str) -> Result<Option<Timestamp>, Bad> {
    let query = format!(
        "select to_char({}::timestamptz, 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')",
        super::ask::literal(text)
    );
    let outcome = ask.tool.run(&ask.command("template1", &query)).await?;
    Ok(outcome.stdout.trim().parse().ok())
}

/// The database that `data_as_of` is asked in.
async fn database(ask: &Ask<'_>, job: Job<'_>) -> Result<String, Bad> {
    if let Some(database) = &job.restore.demands.database {
        return Ok(database.clone());
    }
    let query = "select datname from pg_database where datallowconn and not datistemplate order by datname = 'postgres', datname";
    let names = ask.text("template1", query, Owner::Staging).await?;
    let names: Vec<&str> = names.lines().collect();
    match names.as_slice() {
        [one] | [one, "postgres"] => Ok((*one).to_owned()),
        several => Err(Bad::new(
            Owner::Staging,
            format!(
                "{}: data_as_of needs a database, and the backup has several: {}",
                job.restore.name,
                several.join(", ")
            ),
        )
        .with_help("name one with `database:` beside it")),
    }
}

/// A library or a locale that the image lacks is seen when somebody logs in.
fn because_of_the_stack(bad: Bad) -> Bad {
    let lacking = [
        "could not access file",
        "could not load library",
        "database locale is incompatible",
    ];
    if lacking.iter().any(|words| bad.reason.contains(words)) {
        return Bad {
            owner: Owner::Stack,
            ..bad
        }
        .with_help("use an image that brings production's extensions and locales in the stack");
    }
    bad
}

/// Where a role is missing, says which there are: by the server alone, since nobody can log in.
async fn with_roles(cluster: &Cluster<'_>, bad: Bad) -> Bad {
    if !(bad.reason.contains("role \"") && bad.reason.contains("does not exist")) {
        return bad;
    }
    const QUERY: &str = r#"echo "select rolname from pg_roles where rolsuper and rolcanlogin" | postgres --single -D "$1" template1"#;
    let command = ["/bin/sh", "-c", QUERY, "postgres", &cluster.data];
    let roles = match cluster.as_server(&command).await {
        Ok(outcome) => single_values(&outcome.stdout),
        Err(_) => Vec::new(),
    };
    let names = if roles.is_empty() {
        String::new()
    } else {
        format!(" (its superusers: {})", roles.join(", "))
    };
    bad.with_help(format!(
        "the roles are production's: name one of them with `user:` in the restore, or as POSTGRES_USER of the service{names}"
    ))
}

/// Values in what a server alone prints: `1: rolname = "postgres"`, a tab, `(typeid = 19, ..)`.
fn single_values(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.split_once(": rolname = \"")?.1.split_once("\"\t("))
        .map(|(value, _)| value.to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::single_values;

    #[test]
    fn what_a_server_alone_prints_is_read() {
        let text = "\nPostgreSQL stand-alone backend 15.14\nbackend> \t 1: rolname\t(typeid = 19, len = 64, typmod = -1, byval = f)\n\t----\n\t 1: rolname = \"postgres\"\t(typeid = 19, len = 64, typmod = -1, byval = f)\n\t----\n";
        assert_eq!(single_values(text), ["postgres"]);
    }
}
