//! What a run leaves beside its reports: its place in the history, metrics, a notification.
//!
//! A history or a receiver that is not to be had changes no verdict and no exit code, and is said loudly. A file of
//! metrics that was asked for is a report, and counts as one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};

use super::conduct::Asked;
use super::{USAGE, say};
use crate::event::{Mode, Owner};
use crate::history::{self, Begun, History, HistoryError, Told};
use crate::notify::deliver::{Patience, Receiver};
use crate::notify::sign::Secret;
use crate::notify::{Message, is_due};
use crate::plan::model::Plan;
use crate::report::metrics::Metrics;
use crate::report::record::{ComeBack, Record};
use crate::verdict::{Outcome, Rollback};

/// Whom to tell of a run.
#[derive(Clone, Default, Args)]
pub struct Telling {
    /// Write figures of this run for Prometheus' textfile collector here
    #[arg(long, value_name = "FILE")]
    pub metrics: Option<PathBuf>,
    /// POST a signed message to this http:// or https:// address when the verdict is another one than before
    #[arg(long, value_name = "URL")]
    pub notify: Option<String>,
    /// The environment variable that holds the secret with which messages are signed
    #[arg(long, value_name = "NAME", default_value = "REHEARSE_NOTIFY_SECRET")]
    pub notify_secret_env: String,
}

impl std::fmt::Debug for Telling {
    /// Without the address, which is often a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Telling")
            .field("metrics", &self.metrics)
            .field("notify", &self.notify.is_some())
            .field("notify_secret_env", &self.notify_secret_env)
            .finish()
    }
}

/// Where notifications go, if they are asked for. Nothing is sent unsigned: without a secret there is no run.
pub(super) fn receiver(telling: &Telling) -> Result<Option<Receiver>, ExitCode> {
    let Some(url) = &telling.notify else {
        return Ok(None);
    };
    let name = &telling.notify_secret_env;
    let refuse = |text: String, help: &str| {
        say::error(text, Some(help));
        ExitCode::from(USAGE)
    };
    let help = "put the secret that the receiver knows into that variable (`whsec_` and base64, or any text), \
                or name another one with --notify-secret-env";
    let secret = match std::env::var(name) {
        Ok(secret) => secret,
        Err(std::env::VarError::NotPresent) => {
            let text = format!("--notify needs a secret to sign with, and `{name}` is not set");
            return Err(refuse(text, help));
        }
        Err(std::env::VarError::NotUnicode(_)) => {
            return Err(refuse(format!("`{name}` is not UTF-8"), help));
        }
    };
    let secret =
        Secret::parse(&secret).map_err(|error| refuse(format!("`{name}`: {error}"), help))?;
    let made = Receiver::new(url, secret, Patience::default());
    made.map(Some).map_err(|error| {
        let help = "give an address like https://alerts.example.com/rehearse; for https the machine needs \
                    root certificates (Debian: ca-certificates)";
        refuse(error.to_string(), help)
    })
}

/// The place of one run in the history, and what could not be kept.
pub(super) struct Keeping {
    history: Option<History>,
    lost: Vec<String>,
}

impl Keeping {
    /// Records that the run has begun.
    pub(super) fn begin(report_dir: &Path, begun: &Begun<'_>) -> Self {
        let mut keeping = Self {
            history: None,
            lost: Vec::new(),
        };
        match History::open(&report_dir.join(history::FILE)) {
            Ok(mut history) => {
                let recorded = history.begin(begun);
                keeping.history = Some(history);
                keeping.kept(recorded);
            }
            Err(error) => keeping.lose(&error),
        }
        keeping
    }

    /// From each restore's name to the sizes of its backup in earlier passed runs.
    pub(super) fn earlier_sizes(mut self, plan: &Plan) -> (Self, BTreeMap<String, Vec<u64>>) {
        let mut sizes = BTreeMap::new();
        for restore in &plan.restores {
            let Some(history) = &self.history else { break };
            let found = history.sizes(&plan.rehearsal, &restore.name);
            if let Some(found) = self.kept(found) {
                sizes.insert(restore.name.clone(), found);
            }
        }
        (self, sizes)
    }

    /// Records how the run ended, writes metrics, notifies. Returns the exit code, which is at least 2 where a report
    /// that was asked for could not be written: a CI that reads it must not take this for a pass.
    pub(super) async fn end(
        mut self,
        telling: &Telling,
        receiver: Option<Receiver>,
        record: Option<Record>,
        code: u8,
        written: Result<(), String>,
    ) -> u8 {
        let Some(mut record) = record else {
            return code.max(2);
        };
        if let Err(problem) = written {
            unwritten(&mut record, problem);
        }
        if let Some(path) = &telling.metrics
            && let Err(error) = self.metrics(&record, path)
        {
            let problem = format!(
                "the metrics `{}` could not be written: {error}",
                path.display()
            );
            unwritten(&mut record, problem);
        }
        let recorded = self
            .history
            .as_mut()
            .map(|history| history.complete(&record));
        if let Some(recorded) = recorded {
            self.kept(recorded);
        }
        if let Some(receiver) = receiver {
            self.notify(&receiver, &record).await;
        }
        for sentence in &self.lost {
            say::warning(sentence);
        }
        record.exit_code.unwrap_or(2).max(code)
    }

    fn metrics(&mut self, record: &Record, path: &Path) -> std::io::Result<()> {
        let finished = record.finished.unwrap_or(record.started);
        let last_passed = match (&self.history, record.verdict.outcome) {
            (_, Outcome::Passed) => Some(finished),
            (Some(history), _) => {
                let found = history.last_passed(&record.rehearsal, record.mode);
                self.kept(found).flatten()
            }
            (None, _) => None,
        };
        Metrics {
            rehearsal: &record.rehearsal,
            mode: record.mode,
            outcome: record.verdict.outcome,
            stuck: matches!(record.verdict.rollback, Rollback::Stuck { .. }),
            finished,
            last_passed,
            restores: &record.restores,
        }
        .write(path)
    }

    async fn notify(&mut self, receiver: &Receiver, record: &Record) {
        let (previous, last_told) = self.earlier(record);
        if !is_due(record, previous.as_ref(), last_told.as_ref()) {
            return;
        }
        // Owed from here on: a crash in the middle of this leaves it to the next run.
        self.notified(record, false);
        let message = Message::new(record, previous.as_ref());
        let body = match serde_json::to_vec(&message) {
            Ok(body) => body,
            Err(error) => {
                self.lost.push(format!("nobody was notified: {error}"));
                return;
            }
        };
        let id = message.id();
        let undelivered = tokio::select! {
            delivered = receiver.deliver(&id, &body) => match delivered {
                Ok(_) => return self.notified(record, true),
                Err(undelivered) => format!(
                    "{} (tries: {})", undelivered.reason, undelivered.tries
                ),
            },
            () = asked_to_end() => "interrupted".to_owned(),
        };
        let next = match self.history {
            Some(_) => "the next run with --notify makes up for it",
            None => "without a history nothing makes up for it",
        };
        self.lost.push(format!(
            "NOBODY WAS NOTIFIED of this verdict: {receiver} did not take the message: {undelivered}; {next}"
        ));
    }

    /// The run before, and what the receiver was last told. Nothing where the history does not say: then whatever is
    /// not passed is told.
    fn earlier(&mut self, record: &Record) -> (Option<Told>, Option<Told>) {
        let Some(history) = &self.history else {
            return (None, None);
        };
        let (previous, last_told) = (history.previous(record), history.last_told(record));
        (
            self.kept(previous).flatten(),
            self.kept(last_told).flatten(),
        )
    }

    fn notified(&mut self, record: &Record, delivered: bool) {
        let noted = self
            .history
            .as_mut()
            .map(|history| history.notified(&record.run, delivered));
        if let Some(noted) = noted {
            self.kept(noted);
        }
    }

    fn kept<T>(&mut self, result: Result<T, HistoryError>) -> Option<T> {
        result.map_err(|error| self.lose(&error)).ok()
    }

    /// Said once a cause: what is broken at the start of a run is so at its end.
    fn lose(&mut self, error: &HistoryError) {
        let help = error.help().map(|help| format!("; {help}"));
        let sentence = format!(
            "this run is missing or incomplete in the history, and its verdict stands: {}{}",
            error.sentence(),
            help.unwrap_or_default()
        );
        if !self.lost.contains(&sentence) {
            self.lost.push(sentence);
        }
    }
}

/// A verdict without its reports counts for nothing, in the history and for whoever is told of it. An interrupted run
/// stays what it is, and what was invalid has its reason already.
fn unwritten(record: &mut Record, problem: String) {
    say::error(
        &problem,
        Some("a verdict without its reports counts for nothing: run again"),
    );
    if record.verdict.outcome != Outcome::Invalid {
        record.verdict.outcome = Outcome::Invalid;
        record.verdict.owner = Some(Owner::Engine);
        record.verdict.stage = None;
        record.verdict.reason = problem;
        record.verdict.help = None;
        if let Some(check) = &mut record.backup_check {
            check.come_back = ComeBack::Unknown;
        }
    }
    record.exit_code = record.exit_code.map(|code| code.max(2));
}

/// Where a run was asked for and did not begin: the metrics of the run before it are no longer the newest.
pub(super) fn not_started(asked: &Asked<'_>) {
    let Some(path) = &asked.telling.metrics else {
        return;
    };
    let history = History::open_existing(&asked.reporting.report_dir.join(history::FILE));
    // What is wrong with a history is for runs to say.
    let history = history.ok().flatten();
    let known = history
        .as_ref()
        .and_then(|history| history.name_of(asked.rehearsal).ok().flatten());
    let stem = || {
        asked
            .rehearsal
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
    };
    let rehearsal = known.or_else(stem).unwrap_or_default();
    let passed = |mode: Mode| {
        history
            .as_ref()?
            .last_passed(&rehearsal, mode)
            .ok()
            .flatten()
    };
    let written = Metrics {
        rehearsal: &rehearsal,
        mode: asked.mode,
        outcome: Outcome::Invalid,
        stuck: false,
        finished: Timestamp::now(),
        last_passed: passed(asked.mode),
        restores: &[],
    }
    .write(path);
    if let Err(error) = written {
        say::error(
            format!(
                "the metrics `{}` could not be written: {error}",
                path.display()
            ),
            Some("what is there is of an earlier run"),
        );
    }
}

/// Ctrl-C or SIGTERM. Whoever presses it after the verdict does not want to wait for a receiver that is down.
async fn asked_to_end() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
