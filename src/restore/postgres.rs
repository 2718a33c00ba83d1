//! PostgreSQL dumps, restored by the service's own image and tools.
//!
//! The server runs on the base's volume as the stack describes it. `pg_restore` stops at the first error (its
//! default is to count errors and go on), `psql` likewise by `ON_ERROR_STOP`; the server is stopped cleanly before
//! its volume is frozen.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::engine::{
    Attach, ContainerSpec, EngineError, ExecOutcome, ExecSpec, Purpose, VolumeAt, VolumeFacts,
};
use crate::event::{EventKind, Output, Owner, Stage};
use crate::plan::model::{Restore, RestoreTarget};
use crate::restore::{BackupFacts, Format, open_decompressed};
use crate::staging::{Bad, Blueprint, Ended, Running, Staging};

/// Where the dumps lie in the server's container.
const INBOX: &str = "/rehearse-backup";
const PORT: u16 = 5432;

/// A clean stop writes everything to disk; after a large restore that takes time, and a kill would make the base
/// one that has to recover.
const STOP_GRACE: Duration = Duration::from_secs(600);

/// A server that runs on the volumes of a base in the making.
pub struct Server {
    running: Running,
    inbox: String,
}

/// Runs one of the server's own tools.
struct Tool<'a> {
    staging: &'a Staging,
    container: &'a str,
    environment: BTreeMap<String, String>,
    source: String,
}

impl Tool<'_> {
    async fn run(
        &self,
        command: &[&str],
        limit: Duration,
    ) -> Result<Result<ExecOutcome, Bad>, EngineError> {
        let spec = ExecSpec {
            command: command.iter().map(|part| (*part).to_owned()).collect(),
            environment: self.environment.clone(),
            ..ExecSpec::default()
        };
        let ended = self
            .staging
            .ground
            .exec_within(self.container, &spec, limit, |line| {
                self.staging.ground.recorder.emit(EventKind::OutputLine {
                    stage: Stage::Restore,
                    source: self.source.clone(),
                    output: line.output,
                    line: line.line,
                });
            })
            .await?;
        let tool = command.first().copied().unwrap_or_default();
        Ok(match ended {
            Ended::ByItself(outcome) if outcome.exit_code == 0 => Ok(outcome),
            Ended::ByItself(outcome) => Err(self.failed(tool, &outcome)),
            Ended::Killed => Err(Bad::new(
                Owner::Backup,
                format!(
                    "{}: {tool} did not end within {} s (limits.restore)",
                    self.source,
                    limit.as_secs()
                ),
            )),
        })
    }

    /// Whose fault it is that a tool failed, by what it said.
    fn failed(&self, tool: &str, outcome: &ExecOutcome) -> Bad {
        let said = first_error(&outcome.stderr).unwrap_or_else(|| outcome.last_words());
        let reason = format!(
            "{}: {tool} ended with exit code {}: {said}",
            self.source, outcome.exit_code
        );
        let lower = outcome.stderr.to_lowercase();
        if matches!(outcome.exit_code, 126 | 127) && lower.contains("not found") {
            return Bad::new(Owner::Stack, reason)
                .with_help("the service's image has to bring PostgreSQL's client tools");
        }
        if lower.contains("no space left on device") {
            return Bad::new(Owner::Engine, reason)
                .with_help("free space where the engine keeps its data");
        }
        let bad = Bad::new(Owner::Backup, reason);
        if lower.contains("role") && lower.contains("does not exist") {
            return bad.with_help(
                "pg_dump carries no roles: make them in the service's image (docker-entrypoint-initdb.d), or let the \
                 service's POSTGRES_USER be the owner in production",
            );
        }
        if lower.contains("unsupported version") {
            return bad
                .with_help("use the same major version of PostgreSQL as production in the stack");
        }
        bad
    }
}

/// The first line in which a tool says what went wrong; what follows is often only its consequence.
fn first_error(stderr: &str) -> Option<String> {
    let mut lines = stderr
        .lines()
        .map(str::trim)
        .skip_while(|line| !line.to_lowercase().contains("error"));
    let first = lines.next()?.to_owned();
    match lines.next() {
        Some(next) if next.starts_with("DETAIL") => Some(format!("{first} ({next})")),
        Some(_) | None => Some(first),
    }
}

impl Server {
    /// Copies the dumps to where the server can read them, and starts the server on empty volumes.
    ///
    /// # Errors
    /// When the service does not start: staging is at fault, not the backup.
    pub async fn start(
        staging: &Staging,
        mut blueprint: Blueprint,
        volumes: &BTreeMap<String, VolumeFacts>,
        backups: &[(&Restore, &BackupFacts)],
    ) -> Result<Self, Bad> {
        let ground = &staging.ground;
        let service = blueprint.service.name.clone();
        let inbox = fill_inbox(staging, &service, backups).await?;
        // It stands alone: what it depends on in the stack is not there yet.
        blueprint.service.depends_on.clear();
        if !blueprint.service.tcp_ports.contains(&PORT) {
            blueprint.service.tcp_ports.push(PORT);
        }
        let mut mounts: Vec<VolumeAt> = blueprint
            .service
            .volumes_with(&blueprint.facts)
            .into_iter()
            .filter_map(|(name, at)| {
                let facts = volumes.get(&name)?;
                Some(VolumeAt {
                    volume: facts.name.clone(),
                    read_only: false,
                    ..at
                })
            })
            .collect();
        mounts.push(VolumeAt {
            volume: inbox.clone(),
            target: INBOX.into(),
            read_only: true,
        });
        let container = ground.names.of(&format!("restore-{service}"));
        let network = (staging.network.name.as_str(), staging.network.resolver);
        let spec = ground.service_spec(&blueprint, container.clone(), network, mounts);
        ground
            .engine
            .create_container(&spec, &ground.labels)
            .await?;
        ground
            .upload_service_files(&blueprint.service, &container)
            .await?;
        ground.engine.start_container(&container).await?;
        let running = Running {
            blueprint,
            container,
        };
        staging
            .await_ready(&running)
            .await
            .map_err(|error| Bad::start(&error, Owner::Staging))?;
        Ok(Self { running, inbox })
    }

    /// The service's name.
    pub fn service(&self) -> &str {
        &self.running.blueprint.service.name
    }

    /// Restores one dump and returns the time of its newest data, where the rehearsal asks for it.
    ///
    /// # Errors
    /// At the first error of the tools; when the database is empty afterwards.
    pub async fn restore(
        &mut self,
        staging: &Staging,
        index: usize,
        restore: &Restore,
        facts: &BackupFacts,
        limit: Duration,
    ) -> Result<Option<Timestamp>, Bad> {
        let RestoreTarget::Postgres {
            database,
            user,
            jobs,
            data_as_of,
            ..
        } = &restore.target
        else {
            return Err(Bad::new(Owner::Engine, "not a PostgreSQL restore"));
        };
        let service = &self.running.blueprint.service;
        let mut environment = BTreeMap::new();
        if let Some(password) = service.environment.get("POSTGRES_PASSWORD") {
            environment.insert("PGPASSWORD".to_owned(), password.clone());
        }
        let tool = Tool {
            staging,
            container: &self.running.container,
            environment,
            source: format!("restore {}", restore.name),
        };
        let ask = |database: &str, query: &str| {
            [
                "psql",
                "-X",
                "-A",
                "-t",
                "-q",
                "-w",
                "-v",
                "ON_ERROR_STOP=1",
                "-U",
                user,
                "-d",
                database,
                "-c",
                query,
            ]
            .map(str::to_owned)
        };
        let exists = format!(
            "select count(*) from pg_database where datname = '{}'",
            database.replace('\'', "''")
        );
        let exists = ask("postgres", &exists);
        let exists: Vec<&str> = exists.iter().map(String::as_str).collect();
        if tool.run(&exists, limit).await??.stdout.trim() == "0" {
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
            tool.run(&create, limit).await??;
        }
        let file = format!("{INBOX}/{index}");
        let jobs = jobs.to_string();
        match facts.format {
            Format::PostgresCustom => {
                let command = [
                    "pg_restore",
                    "-w",
                    "-U",
                    user,
                    "-d",
                    database,
                    "--exit-on-error",
                    "--verbose",
                    "-j",
                    &jobs,
                    &file,
                ];
                tool.run(&command, limit).await??;
            }
            Format::PostgresPlain => {
                let command = [
                    "psql",
                    "-X",
                    "-q",
                    "-w",
                    "-v",
                    "ON_ERROR_STOP=1",
                    "-o",
                    "/dev/null",
                    "-U",
                    user,
                    "-d",
                    database,
                    "-f",
                    &file,
                ];
                tool.run(&command, limit).await??;
            }
            Format::Tar | Format::Zip => {
                return Err(Bad::new(
                    Owner::Backup,
                    format!("{} is a {}", restore.source.display(), facts.format.name()),
                ));
            }
        }
        let tables = ask(
            database,
            "select count(*) from pg_catalog.pg_tables where schemaname not in ('pg_catalog', 'information_schema')",
        );
        let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
        if tool.run(&tables, limit).await??.stdout.trim() == "0" {
            return Err(Bad::new(
                Owner::Backup,
                format!(
                    "{}: the restore ended without an error, but the database holds no table",
                    restore.name
                ),
            )
            .with_help(
                "look at what was dumped: perhaps another database, or only its schema `public`",
            ));
        }
        let Some(query) = data_as_of else {
            return Ok(None);
        };
        // Read as a time with a zone, in UTC, so that the text has one form whatever the column's type is.
        let query = format!(
            "set timezone = 'UTC'; select to_char((({query}))::timestamptz, 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')",
            query = query.trim().trim_end_matches(';')
        );
        let query = ask(database, &query);
        let query: Vec<&str> = query.iter().map(String::as_str).collect();
        let answer = tool.run(&query, limit).await?.map_err(|mut bad| {
            bad.owner = Owner::Staging;
            bad.help = Some("data_as_of has to be one select of one time".to_owned());
            bad
        })?;
        let text = answer.stdout.trim();
        let as_of = text.parse::<Timestamp>().map_err(|_| {
            Bad::new(
                Owner::Backup,
                format!(
                    "{}: data_as_of gave `{text}` instead of a time",
                    restore.name
                ),
            )
        })?;
        Ok(Some(as_of))
    }

    /// The server's whole log.
    ///
    /// # Errors
    /// When its container is gone.
    pub async fn log(&self, staging: &Staging) -> Result<String, EngineError> {
        staging
            .ground
            .engine
            .container_log(&self.running.container, None)
            .await
    }

    /// Stops the server cleanly and removes its container; its volumes can be frozen now.
    ///
    /// # Errors
    /// When it did not end with exit code 0: then its volumes are not what a base is made of.
    pub async fn stop_cleanly(self, staging: &Staging) -> Result<(), Bad> {
        let engine = &staging.ground.engine;
        let container = &self.running.container;
        engine.stop_container(container, STOP_GRACE).await?;
        let state = engine.container_state(container).await?;
        if state.exit_code != Some(0) {
            let log = engine.container_log(container, Some(5)).await?;
            return Err(Bad::new(
                Owner::Staging,
                format!(
                    "service `{}` did not stop cleanly after the restore (exit code {:?}): {}",
                    self.service(),
                    state.exit_code,
                    log.trim().replace('\n', " | ")
                ),
            )
            .with_help("the image's stop signal should be SIGINT (fast shutdown) or SIGTERM"));
        }
        engine.remove_container(container).await?;
        engine.remove_volume(&self.inbox).await?;
        Ok(())
    }
}

/// A volume with the dumps, decompressed, named by their index.
async fn fill_inbox(
    staging: &Staging,
    service: &str,
    backups: &[(&Restore, &BackupFacts)],
) -> Result<String, Bad> {
    let ground = &staging.ground;
    let volume = ground.names.of(&format!("inbox-{service}"));
    ground
        .engine
        .create_volume(&volume, &ground.labels, Purpose::Run, Default::default())
        .await?;
    let filler = ground.names.of(&format!("inbox-filler-{service}"));
    let mut spec = ContainerSpec::new(&filler, &staging.agent_image, Attach::None);
    spec.command = Some(crate::state::agent(&["idle"]));
    spec.volumes = vec![VolumeAt {
        volume: volume.clone(),
        target: "/v".into(),
        read_only: false,
    }];
    ground
        .engine
        .create_container(&spec, &ground.labels)
        .await?;
    for (index, (restore, facts)) in backups.iter().enumerate() {
        ground.recorder.emit(EventKind::OutputLine {
            stage: Stage::Restore,
            source: format!("restore {}", restore.name),
            output: Output::Stdout,
            line: format!("copy {} bytes into staging", facts.decompressed),
        });
        let facts = (*facts).clone();
        ground
            .engine
            .upload_tar(&filler, "/v", move |out| -> std::io::Result<()> {
                let content = open_decompressed(&facts.path, facts.compression)?;
                let mut header = tar::Header::new_gnu();
                header.set_size(facts.decompressed);
                header.set_mode(0o644);
                header.set_mtime(0);
                let mut tar = tar::Builder::new(out);
                tar.append_data(&mut header, index.to_string(), content)?;
                tar.finish()
            })
            .await?;
    }
    ground.engine.remove_container(&filler).await?;
    Ok(volume)
}

#[cfg(test)]
mod tests {
    use super::first_error;

    #[test]
    fn the_first_error_is_the_one_that_matters() {
        let said = "pg_restore: connecting\npg_restore: error: could not execute query: ERROR:  relation \"a\" does not exist\nLINE 1: x\npg_restore: error: later";
        assert_eq!(
            first_error(said).as_deref(),
            Some(
                "pg_restore: error: could not execute query: ERROR:  relation \"a\" does not exist"
            )
        );
        assert_eq!(first_error("nothing of the kind"), None);
    }
}
