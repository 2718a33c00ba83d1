//! How long the deploy locked a table against readers or writers: one session in each restored PostgreSQL database looks
//! ten times a second. It takes no lock on a table of the site, and holds up nothing: no query of it lasts a second.

mod report;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use jiff::Timestamp;
use serde::Deserialize;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Bad;
use super::database::restored;
use super::run::Run;
use crate::check::locks::{Ledger, Mode};
use crate::engine::{Engine, EngineError, ExecSpec, Interactive};
use crate::event::Output;
use crate::restore::postgres::environment;

/// One JSON document a line.
const QUERY: &str = include_str!("locks.sql");

/// What the session is told first. A query that has to wait must not wait long.
const SETTINGS: &str = "set application_name = 'rehearse'; set statement_timeout = '1s'; set lock_timeout = '500ms'; \
     set search_path = pg_catalog;\n";

/// From one look to the next.
const EVERY: Duration = Duration::from_millis(100);
/// Between two tries to connect.
const BETWEEN: Duration = Duration::from_millis(250);
/// Looks that may be waiting for their answer: a server that hangs is not asked more and more.
const WAITING: u32 = 20;
/// For the first look, before the first step.
const FIRST: Duration = Duration::from_secs(10);
/// For a session's end.
const LAST: Duration = Duration::from_secs(5);
/// How a client says that nobody serves there: then nobody holds a lock either.
const NOBODY_SERVES: [&str; 5] = [
    "No such file or directory",
    "Connection refused",
    "starting up",
    "shutting down",
    "not accepting connections",
];

/// What the samplers are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Looks,
    Pause,
    End,
}

/// All that looks at locks during one deploy.
pub(super) struct Locks {
    samplers: Vec<Sampler>,
    /// Why a database is not looked at.
    unread: Option<String>,
}

struct Sampler {
    name: String,
    service: String,
    wanted: watch::Sender<Wanted>,
    connected: watch::Receiver<bool>,
    task: Option<JoinHandle<Looks>>,
}

impl Drop for Sampler {
    fn drop(&mut self) {
        // Its session ends with its input.
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// What one sampler saw.
#[derive(Debug, Default)]
struct Looks {
    ledger: Ledger,
    /// Seconds from the server's clock to ours.
    ahead: Option<f64>,
    /// The longest time in which nothing was seen although somebody may have held a lock.
    blind: Duration,
    /// What was said meanwhile.
    why: Option<String>,
}

/// What was seen during a deploy.
pub(super) struct Seen {
    looks: Vec<(String, Option<Looks>)>,
    unread: Option<String>,
}

#[derive(Deserialize)]
struct Sample {
    at: f64,
    held: Vec<(String, String)>,
}

impl Locks {
    /// Begins to look, and waits for the first looks. What cannot be looked at is told at the end.
    pub(super) async fn begin(run: &Run) -> Self {
        let begun = async {
            let generation = run.generation()?;
            let engine = &run.ground()?.engine;
            let mut samplers = Vec::new();
            for of in restored(run, generation, "the locks").await? {
                let spec = ExecSpec {
                    command: [
                        "psql",
                        "-X",
                        "-A",
                        "-t",
                        "-q",
                        "-w",
                        "-U",
                        of.user,
                        "-d",
                        &of.database,
                    ]
                    .map(str::to_owned)
                    .to_vec(),
                    environment: environment(&of.running.blueprint),
                    ..ExecSpec::default()
                };
                let container = of.running.container.clone();
                let service = of.running.blueprint.service.name.clone();
                samplers.push(Sampler::start(of.name, service, engine, container, spec));
            }
            Ok::<_, Bad>(samplers)
        };
        let (mut samplers, unread) = match begun.await {
            Ok(samplers) => (samplers, None),
            Err(bad) => (Vec::new(), Some(bad.reason)),
        };
        for sampler in &mut samplers {
            // One that does not come has nothing to show in the end, which says so.
            let _ = tokio::time::timeout(FIRST, sampler.connected.wait_for(|there| *there)).await;
        }
        Self { samplers, unread }
    }

    /// Ends the sessions in a service.
    pub(super) async fn pause(&self, service: &str) {
        for sampler in self.samplers.iter().filter(|of| of.service == service) {
            sampler.wanted.send_replace(Wanted::Pause);
            let mut connected = sampler.connected.clone();
            let _ = tokio::time::timeout(LAST, connected.wait_for(|there| !*there)).await;
        }
    }

    /// Begins anew in a service.
    pub(super) async fn resume(&self, service: &str) {
        for sampler in self.samplers.iter().filter(|of| of.service == service) {
            sampler.wanted.send_replace(Wanted::Looks);
            let mut connected = sampler.connected.clone();
            // A server that did not come up again is said by the step.
            let _ = tokio::time::timeout(LAST, connected.wait_for(|there| *there)).await;
        }
    }

    /// Ends all sessions.
    pub(super) async fn end(mut self) -> Seen {
        for sampler in &self.samplers {
            sampler.wanted.send_replace(Wanted::End);
        }
        let mut looks = Vec::new();
        for sampler in &mut self.samplers {
            let seen = match &mut sampler.task {
                Some(task) => tokio::time::timeout(2 * LAST, task).await,
                None => continue,
            };
            let seen = seen.ok().and_then(Result::ok);
            looks.push((std::mem::take(&mut sampler.name), seen));
        }
        Seen {
            looks,
            unread: self.unread,
        }
    }
}

impl Sampler {
    fn start(
        name: String,
        service: String,
        engine: &Engine,
        container: String,
        spec: ExecSpec,
    ) -> Self {
        let (wanted, orders) = watch::channel(Wanted::Looks);
        let (says, connected) = watch::channel(false);
        let looking = Looking {
            engine: engine.clone(),
            container,
            spec,
            orders,
            says,
            looks: Looks::default(),
            last: Instant::now(),
            gone: false,
        };
        Self {
            name,
            service,
            wanted,
            connected,
            task: Some(tokio::spawn(looking.run())),
        }
    }
}

/// A sampler at work.
struct Looking {
    engine: Engine,
    container: String,
    spec: ExecSpec,
    orders: watch::Receiver<Wanted>,
    says: watch::Sender<bool>,
    looks: Looks,
    /// When something was seen last.
    last: Instant,
    /// True where nobody served since then.
    gone: bool,
}

impl Looking {
    async fn run(mut self) -> Looks {
        loop {
            let wanted = *self.orders.borrow_and_update();
            match wanted {
                Wanted::End => break,
                Wanted::Pause => {
                    self.says.send_replace(false);
                    self.gone = true;
                    if self.orders.changed().await.is_err() {
                        break;
                    }
                    // From here on somebody serves: what is not seen is not seen.
                    self.since();
                }
                Wanted::Looks => {
                    match self
                        .engine
                        .exec_interactive(&self.container, &self.spec)
                        .await
                    {
                        Ok(session) => self.session(session).await,
                        Err(error) => self.refused(&error),
                    }
                    self.says.send_replace(false);
                    if *self.orders.borrow() == Wanted::Looks {
                        let _ = tokio::time::timeout(BETWEEN, self.orders.changed()).await;
                    }
                }
            }
        }
        self.since();
        self.looks
    }

    /// A container that does not run, or is not there, serves nobody.
    fn refused(&mut self, error: &EngineError) {
        if error.is_not_found() || error.status == Some(409) {
            self.gone = true;
        } else {
            self.looks.why = Some(error.to_string());
        }
    }

    /// What was not seen until now.
    fn since(&mut self) {
        let blind = self.last.elapsed();
        // The first step waited for the first look.
        let before = self.looks.ledger.samples == 0 && blind < FIRST;
        if !before && !self.gone && blind > self.looks.blind {
            self.looks.blind = blind;
        }
        if self.gone {
            self.looks.ledger.lost();
        }
        self.gone = false;
        self.last = Instant::now();
    }

    /// One session, until it is lost or not wanted any more.
    async fn session(&mut self, mut session: Interactive) {
        let mut orders = self.orders.clone();
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut waiting = 0;
        let mut text = Lines::default();
        if session.input.write_all(SETTINGS.as_bytes()).await.is_err() {
            return;
        }
        loop {
            tokio::select! {
                () = other_orders(&mut orders) => {
                    // What was asked is answered before the session ends.
                    let _ = session.input.write_all(b"\\q\n").await;
                    let _ = session.input.shutdown().await;
                    let rest = async {
                        while let Some(Ok(chunk)) = session.output.next().await {
                            self.hear(&mut text, chunk.output, &chunk.bytes);
                        }
                    };
                    let _ = tokio::time::timeout(LAST, rest).await;
                    return;
                }
                chunk = session.output.next() => {
                    let Some(Ok(chunk)) = chunk else {
                        return;
                    };
                    let answered = self.hear(&mut text, chunk.output, &chunk.bytes);
                    waiting = u32::saturating_sub(waiting, answered);
                }
                _ = tick.tick(), if waiting < WAITING => {
                    waiting += 1;
                    let asked = session.input.write_all(QUERY.as_bytes()).await;
                    if asked.is_err() || session.input.flush().await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Takes what the session wrote, and returns to how many looks that is the answer.
    fn hear(&mut self, text: &mut Lines, output: Output, bytes: &[u8]) -> u32 {
        let mut answered = 0;
        for line in text.push(output, bytes) {
            if let Ok(sample) = serde_json::from_str::<Sample>(&line) {
                answered += 1;
                self.sample(sample);
            } else if NOBODY_SERVES.iter().any(|said| line.contains(said)) {
                self.gone = true;
            } else if output == Output::Stderr && !line.trim().is_empty() {
                // A look that was broken off is answered, too.
                answered += u32::from(line.contains("ERROR"));
                self.looks.why = Some(line.trim().to_owned());
            }
        }
        answered
    }

    fn sample(&mut self, sample: Sample) {
        self.since();
        let held = sample.held.into_iter();
        let held = held.filter_map(|(table, mode)| Some((table, Mode::named(&mode)?)));
        self.looks.ledger.add(sample.at, held.collect());
        // The way takes time, so the least that was seen is nearest.
        let ahead = seconds(Timestamp::now()) - sample.at;
        let least = self.looks.ahead.map_or(ahead, |known| known.min(ahead));
        self.looks.ahead = Some(least);
        self.says
            .send_if_modified(|there| !std::mem::replace(there, true));
    }
}

/// Waits for another order than to look. Where nobody is left to give one, this is over too.
async fn other_orders(orders: &mut watch::Receiver<Wanted>) {
    let _ = orders.wait_for(|wanted| *wanted != Wanted::Looks).await;
}

/// Chunks to lines, each output by itself.
#[derive(Default)]
struct Lines(BTreeMap<bool, Vec<u8>>);

impl Lines {
    fn push(&mut self, output: Output, bytes: &[u8]) -> Vec<String> {
        let pending = self.0.entry(output == Output::Stdout).or_default();
        pending.extend_from_slice(bytes);
        let mut lines = Vec::new();
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            lines.push(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
        lines
    }
}

fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1_000.0
}
