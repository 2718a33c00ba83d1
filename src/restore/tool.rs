//! A container in which tools are run: a service's own, or one made for them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Trouble;
use crate::engine::{Attach, ContainerSpec, EngineError, ExecOutcome, ExecSpec, KEPT, VolumeAt};
use crate::event::{EventKind, Output, Owner, Stage};
use crate::staging::{Bad, Ended, Staging};

/// Waits for ever and ends at once when asked.
const IDLE: &str = "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done";

/// Bytes of an answer that is judged as a whole.
const WHOLE: usize = 64 << 20;

/// Bytes of the beginning of an output that are remembered besides its end.
const BEGINNING: usize = 64 << 10;

/// What they write to standard output is rows of the data.
const CLIENTS: [&str; 4] = ["mariadb", "mysql", "psql", "sqlite3"];

/// What a long output said before its end, which alone is kept: its beginning, and what was in the tool's way. What goes
/// wrong first is often only followed by its consequences.
#[derive(Debug, Default)]
struct Flood {
    stdout: Beginning,
    stderr: Beginning,
}

#[derive(Debug, Default)]
struct Beginning {
    lines: String,
    /// The first line behind them that names a trouble.
    trouble: Option<String>,
}

impl Flood {
    fn hear(&mut self, output: Output, line: &str) {
        let beginning = match output {
            Output::Stdout => &mut self.stdout,
            Output::Stderr => &mut self.stderr,
        };
        if beginning.lines.len() + line.len() < BEGINNING {
            beginning.lines.push_str(line);
            beginning.lines.push('\n');
        } else if beginning.trouble.is_none() && Trouble::in_line(line).is_some() {
            beginning.trouble = Some(line.to_owned());
        }
    }

    /// Puts it before the end of an output that was cut: `kept` bytes of it are there.
    fn complete(self, outcome: ExecOutcome, kept: usize) -> ExecOutcome {
        let whole = |beginning: Beginning, end: String| {
            if end.len() < kept {
                return end;
            }
            let trouble = beginning.trouble.unwrap_or_default();
            format!("{}{trouble}\n[...]\n{end}", beginning.lines)
        };
        ExecOutcome {
            stdout: whole(self.stdout, outcome.stdout),
            stderr: whole(self.stderr, outcome.stderr),
            ..outcome
        }
    }
}

/// The one limit that is itself a demand on the backup.
const RESTORE: &str = "limits.restore";

/// When something has to have ended, and by which limit of the rehearsal.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    ends: Instant,
    limit: Duration,
    key: &'static str,
}

impl Deadline {
    /// From now on; `key` names the limit: `limits.restore`.
    pub fn of(limit: Duration, key: &'static str) -> Self {
        Self {
            ends: Instant::now() + limit,
            limit,
            key,
        }
    }

    /// What is left of it.
    pub fn left(&self) -> Duration {
        self.ends.saturating_duration_since(Instant::now())
    }

    /// That it is over. A backup that restores too slowly is a bad one; one that takes long to examine is not.
    pub fn overrun(&self, what: &str) -> Bad {
        let (owner, help) = if self.key == RESTORE {
            (
                Owner::Backup,
                "raise the limit if a restore may take that long: it is the time that production would be down"
                    .to_owned(),
            )
        } else {
            (Owner::Staging, format!("raise `{}`", self.key))
        };
        let reason = format!(
            "{what} did not end within {} s ({})",
            self.limit.as_secs(),
            self.key
        );
        Bad {
            overrun: true,
            ..Bad::new(owner, reason).with_help(help)
        }
    }
}

/// Runs tools in one container.
pub struct Toolbox<'a> {
    /// Where.
    pub staging: &'a Staging,
    /// The engine's name of the container.
    pub container: String,
    /// Who speaks, in output lines: `restore db/site`.
    pub source: String,
    /// Added to the container's environment. Values are never shown.
    pub environment: BTreeMap<String, String>,
    /// `user` or `uid:gid`; default the container's.
    pub user: Option<String>,
    /// For all that is run together.
    pub deadline: Deadline,
}

impl<'a> Toolbox<'a> {
    /// In a container that runs already.
    pub fn within(
        staging: &'a Staging,
        container: impl Into<String>,
        source: impl Into<String>,
        deadline: Deadline,
    ) -> Self {
        Self {
            staging,
            container: container.into(),
            source: source.into(),
            environment: BTreeMap::new(),
            user: None,
            deadline,
        }
    }

    /// In a container of its own, without a network, that does nothing by itself; [`Self::close`] removes it. The image
    /// needs `/bin/sh` and `sleep`. It runs as root.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn open(
        staging: &'a Staging,
        name: &str,
        image: &str,
        volumes: Vec<VolumeAt>,
        source: impl Into<String>,
        deadline: Deadline,
    ) -> Result<Self, EngineError> {
        let ground = &staging.ground;
        let container = ground.names.of(name);
        let mut spec = ContainerSpec::new(&container, image, Attach::Loopback);
        spec.entrypoint = Some(vec!["/bin/sh".into(), "-c".into(), IDLE.into()]);
        spec.command = Some(Vec::new());
        spec.init = true;
        spec.user = Some("0:0".to_owned());
        spec.volumes = volumes;
        ground
            .engine
            .create_container(&spec, &ground.labels)
            .await?;
        ground.engine.start_container(&container).await?;
        Ok(Self::within(staging, container, source, deadline))
    }

    /// Removes the container that [`Self::open`] made.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn close(self) -> Result<(), EngineError> {
        let engine = &self.staging.ground.engine;
        engine.remove_container(&self.container).await
    }

    /// Runs a command to its end, whatever its exit code is; its lines become events.
    ///
    /// # Errors
    /// When it could not be run, or the deadline is over: then the container was killed.
    pub async fn run(&self, command: &[&str]) -> Result<ExecOutcome, Bad> {
        self.run_as(command, self.user.as_deref()).await
    }

    /// Like [`Self::run`], as another user of the container.
    ///
    /// # Errors
    /// Like [`Self::run`].
    pub async fn run_as(&self, command: &[&str], user: Option<&str>) -> Result<ExecOutcome, Bad> {
        self.seen(command, user, |_, _| {}).await
    }

    /// Like [`Self::run_as`]; `see` gets each line besides.
    ///
    /// # Errors
    /// Like [`Self::run`].
    pub async fn seen(
        &self,
        command: &[&str],
        user: Option<&str>,
        mut see: impl FnMut(Output, &str) + Send,
    ) -> Result<ExecOutcome, Bad> {
        self.heard(command, user, None, &mut see).await
    }

    async fn heard(
        &self,
        command: &[&str],
        user: Option<&str>,
        keep: Option<usize>,
        see: &mut (dyn FnMut(Output, &str) + Send),
    ) -> Result<ExecOutcome, Bad> {
        let spec = ExecSpec {
            command: command.iter().map(|part| (*part).to_owned()).collect(),
            environment: self.environment.clone(),
            user: user.map(str::to_owned),
            keep,
            ..ExecSpec::default()
        };
        let ground = &self.staging.ground;
        let mut flood = Flood::default();
        let ended = ground
            .exec_within(&self.container, &spec, self.deadline.left(), |line| {
                see(line.output, &line.line);
                flood.hear(line.output, &line.line);
                ground.recorder.emit(EventKind::OutputLine {
                    stage: Stage::Restore,
                    source: self.source.clone(),
                    output: line.output,
                    line: line.line,
                });
            })
            .await?;
        match ended {
            Ended::ByItself(outcome) => Ok(flood.complete(outcome, keep.unwrap_or(KEPT))),
            Ended::Killed => Err(self.deadline.overrun(&format!(
                "{} (`{}`)",
                self.source,
                command.first().copied().unwrap_or_default()
            ))),
        }
    }

    /// Runs a command whose whole standard output is judged.
    ///
    /// # Errors
    /// Like [`Self::run`], and when it wrote more than can be kept: a part of an answer is none.
    pub async fn whole(&self, command: &[&str]) -> Result<ExecOutcome, Bad> {
        let user = self.user.as_deref();
        let outcome = self
            .heard(command, user, Some(WHOLE), &mut |_, _| {})
            .await?;
        if outcome.stdout.len() >= WHOLE {
            return Err(Bad::new(
                Owner::Engine,
                format!(
                    "{}: `{}` wrote more than {} MiB, which are not judged",
                    self.source,
                    command.first().copied().unwrap_or_default(),
                    WHOLE >> 20
                ),
            ));
        }
        Ok(outcome)
    }

    /// Runs a command that has to succeed. What is in its way is told from what the backup does wrong.
    ///
    /// # Errors
    /// With `owner` at fault where it failed and nothing else was in its way.
    pub async fn must(&self, command: &[&str], owner: Owner) -> Result<ExecOutcome, Bad> {
        let outcome = self.run(command).await?;
        if outcome.exit_code == 0 {
            return Ok(outcome);
        }
        Err(self.failed(
            command.first().copied().unwrap_or_default(),
            &outcome,
            owner,
        ))
    }

    /// Runs a shell script that has to succeed, with arguments as `$1`, `$2`, ...; `tool` names it in errors.
    ///
    /// # Errors
    /// Like [`Self::must`].
    pub async fn script(
        &self,
        tool: &str,
        script: &str,
        arguments: &[&str],
        owner: Owner,
    ) -> Result<ExecOutcome, Bad> {
        let mut command = vec!["/bin/sh", "-e", "-c", script, tool];
        command.extend(arguments);
        let outcome = self.run(&command).await?;
        if outcome.exit_code == 0 {
            return Ok(outcome);
        }
        Err(self.failed(tool, &outcome, owner))
    }

    /// That a tool failed: what was in its way, else that `owner` is at fault, in the tool's own first words.
    pub fn failed(&self, tool: &str, outcome: &ExecOutcome, owner: Owner) -> Bad {
        let said = first_error(&outcome.stderr).unwrap_or_else(|| outcome.last_words());
        let trouble = if CLIENTS.contains(&tool) {
            Trouble::of_client(outcome)
        } else {
            Trouble::of(outcome)
        };
        if let Some(trouble) = trouble {
            return trouble.bad(&self.source, tool, &said);
        }
        Bad::new(
            owner,
            format!(
                "{}: `{tool}` failed with exit code {}: {said}",
                self.source, outcome.exit_code
            ),
        )
    }
}

/// The first line in which a tool says what went wrong; what follows is often only its consequence.
pub(crate) fn first_error(stderr: &str) -> Option<String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_flood_began_with_is_not_lost() {
        let lines = |output, said: &[String]| {
            let mut flood = Flood::default();
            for line in said {
                flood.hear(output, line);
            }
            flood
        };
        let noise = vec!["consequence of it".to_owned(); 100_000];
        let end = noise.join("\n").split_off(noise.len() * 18 - 1 - KEPT);
        let outcome = |stderr: &str| ExecOutcome {
            exit_code: 1,
            stdout: String::new(),
            stderr: stderr.to_owned(),
        };
        let first = [vec!["error: the first".to_owned()], noise.clone()].concat();
        let said = lines(Output::Stderr, &first).complete(outcome(&end), KEPT);
        assert_eq!(
            first_error(&said.stderr).as_deref(),
            Some("error: the first")
        );
        assert_eq!(Trouble::of(&said), None);
        let full = "write failed: No space left on device".to_owned();
        let late = [&noise[..50_000], &[full], &noise[..]].concat();
        let said = lines(Output::Stderr, &late).complete(outcome(&end), KEPT);
        assert_eq!(Trouble::of(&said), Some(Trouble::NoSpace));
        // What was not cut is as it was.
        let said = lines(Output::Stderr, &first[..2]).complete(outcome("short"), KEPT);
        assert_eq!(said.stderr, "short");
    }

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
