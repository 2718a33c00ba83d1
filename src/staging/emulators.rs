//! The emulators of one staging network, and what they received.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{join_all, try_join_all};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::Ground;
use crate::agent::protocol::{Emulation, EmulatorLine};
use crate::check::model::{EmulatorProbe, Received, Since, Unseen};
use crate::engine::{Attach, ContainerSpec, EngineError};
use crate::event::{EventKind, Exchange, Stage};
use crate::plan::model::{Emulates, Emulator, ImageEmulator, Route, RouteBody};
use crate::state::agent;

/// For a container that is nothing but our own executable.
const STARTS: Duration = Duration::from_secs(60);

/// For the word of an emulator that all it answered is on record; only where it never comes is all of this waited for.
const HEARING: Duration = Duration::from_secs(45);

/// Where its configuration lies in its container.
const CONFIG: &str = "/emulate.json";

/// Bytes; it holds at most a megabyte of each of its connections' requests.
const MEMORY: u64 = 1 << 30;

/// So many requests to one emulator become events. Of more, only those that nothing fitted do.
const TOLD: usize = 1000;

/// So many requests to one emulator are remembered with headers and body.
const WHOLE: usize = 10_000;

/// Characters of headers and body that an event shows.
const DETAIL: usize = 2000;

/// Longer than any secret is: so much of the end of a body that was cut may be the beginning of one.
const SECRET: usize = 4096;

/// All emulators of a network.
#[derive(Debug, Default)]
pub struct Emulators {
    all: Vec<Live>,
    moments: Mutex<Moments>,
}

/// How many requests each emulator had received at which moment, in the order of the emulators.
#[derive(Debug, Default)]
struct Moments {
    entered: BTreeMap<Stage, Vec<usize>>,
    latest: Option<Stage>,
    judged: Vec<usize>,
}

/// One emulator at work.
#[derive(Debug)]
struct Live {
    name: String,
    container: String,
    /// `None` for an image of somebody else's, of which nothing is heard.
    heard: Option<watch::Sender<Heard>>,
    /// Two that ask at once could not tell whose mark it is.
    asking: tokio::sync::Mutex<()>,
    task: Option<JoinHandle<()>>,
}

/// What was read of an emulator's log.
#[derive(Debug, Default)]
struct Heard {
    listening: bool,
    marks: u64,
    received: Vec<Received>,
    /// Nothing more will be read.
    over: bool,
}

impl Drop for Live {
    fn drop(&mut self) {
        // It follows a log of a container that teardown removes.
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Emulators {
    /// Makes the plan's emulators on a network and waits until they listen.
    ///
    /// # Errors
    /// When the engine refuses, or one does not start.
    pub async fn open(
        ground: &Ground,
        network: &str,
        resolver: IpAddr,
        agent_image: &str,
    ) -> Result<Self, EngineError> {
        let emulators = ground.plan.emulators.iter();
        let opened = emulators
            .map(|emulator| Live::open(ground, emulator, (network, resolver), agent_image));
        let all = try_join_all(opened).await?;
        let judged = vec![0; all.len()];
        Ok(Self {
            all,
            moments: Mutex::new(Moments {
                judged,
                ..Moments::default()
            }),
        })
    }

    /// Returns when everything that was answered until now is known here.
    ///
    /// # Errors
    /// Why that cannot be said.
    pub async fn heard_so_far(&self, ground: &Ground) -> Result<(), String> {
        let heard = join_all(self.all.iter().map(|live| live.heard_so_far(ground))).await;
        heard.into_iter().collect()
    }

    /// A stage begins: what comes from now on belongs to it.
    ///
    /// # Errors
    /// When it cannot be said what came before.
    pub async fn enter(&self, ground: &Ground, stage: Stage) -> Result<(), String> {
        self.heard_so_far(ground).await?;
        let counts = self.all.iter().map(Live::count).collect();
        let mut moments = self.moments();
        moments.entered.insert(stage, counts);
        moments.latest = Some(stage);
        Ok(())
    }

    /// What an emulator received since the moment that a test means.
    ///
    /// # Errors
    /// When that cannot be said.
    pub async fn received(
        &self,
        ground: &Ground,
        probe: &EmulatorProbe,
    ) -> Result<Vec<Received>, Unseen> {
        let undetermined = |why: String| Unseen::Undetermined(why);
        let at = self.all.iter().position(|live| live.name == probe.name);
        let Some((at, live)) = at.and_then(|at| Some((at, self.all.get(at)?))) else {
            return Err(undetermined(format!(
                "there is no emulator `{}`",
                probe.name
            )));
        };
        live.heard_so_far(ground).await.map_err(undetermined)?;
        let from = {
            let moments = self.moments();
            let since = |stage: Stage| {
                moments
                    .entered
                    .get(&stage)
                    .and_then(|counts| counts.get(at))
                    .copied()
            };
            let begun = |stage: Option<Stage>| stage.and_then(since).unwrap_or(0);
            match (probe.since, moments.latest) {
                (Some(Since::Start), _) => 0,
                (Some(Since::Deploy), _) | (None, Some(Stage::Deploy | Stage::Verify)) => {
                    since(Stage::Deploy).ok_or_else(|| {
                        undetermined(
                            "there was no deploy since which requests could count".to_owned(),
                        )
                    })?
                }
                (None, latest) => begun(latest),
            }
        };
        let all = live.since(ground, from);
        Ok(all
            .into_iter()
            .filter(|one| one.kind != Exchange::Tls)
            .collect())
    }

    /// What each emulator received that was not judged yet, which it is from now on.
    pub fn to_be_judged(&self, ground: &Ground) -> Vec<(String, Vec<Received>)> {
        let mut moments = self.moments();
        let mut all = Vec::new();
        for (live, judged) in self.all.iter().zip(&mut moments.judged) {
            if live.heard.is_none() {
                continue;
            }
            let new = live.since(ground, *judged);
            *judged += new.len();
            all.push((live.name.clone(), new));
        }
        all
    }

    fn moments(&self) -> std::sync::MutexGuard<'_, Moments> {
        self.moments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    async fn open(
        ground: &Ground,
        emulator: &Emulator,
        (network, resolver): (&str, IpAddr),
        agent_image: &str,
    ) -> Result<Self, EngineError> {
        let container = ground.names.of(&format!("emulator-{}", emulator.name));
        let attach = Attach::Network {
            name: network.to_owned(),
            aliases: emulator.hosts.clone(),
            dns: Some(resolver),
        };
        let mut live = Self {
            name: emulator.name.clone(),
            container: container.clone(),
            heard: None,
            asking: tokio::sync::Mutex::new(()),
            task: None,
        };
        let engine = &ground.engine;
        if let Emulates::Image(image) = &emulator.does {
            let spec = of_image(ground, &container, image, attach);
            engine.create_container(&spec, &ground.labels).await?;
            engine.start_container(&container).await?;
            ground.note(format!(
                "the emulator `{}` is an image of its own: what it is asked for is not recorded",
                emulator.name
            ));
            return Ok(live);
        }
        let failed =
            |why: String| EngineError::new(format!("start the emulator `{}`", emulator.name), why);
        let files = configured(ground, emulator).map_err(failed)?;
        let mut spec = ContainerSpec::new(&container, agent_image, attach);
        spec.command = Some(agent(&["emulate", CONFIG]));
        spec.memory = Some(MEMORY);
        engine.create_container(&spec, &ground.labels).await?;
        engine
            .upload_tar(&container, "/", move |out| {
                let mut tar = tar::Builder::new(out);
                for (path, content) in files {
                    let mut header = tar::Header::new_gnu();
                    header.set_size(content.len() as u64);
                    header.set_mode(0o600);
                    tar.append_data(
                        &mut header,
                        path.trim_start_matches('/'),
                        content.as_slice(),
                    )?;
                }
                tar.finish()
            })
            .await?;
        engine.start_container(&container).await?;
        let heard = watch::Sender::new(Heard::default());
        live.task = Some(tokio::spawn(follow(
            ground.clone(),
            emulator.name.clone(),
            container.clone(),
            heard.clone(),
        )));
        let mut listens = heard.subscribe();
        live.heard = Some(heard);
        let ready = timeout(
            STARTS,
            listens.wait_for(|heard| heard.listening || heard.over),
        )
        .await;
        if !ready.is_ok_and(|ready| ready.is_ok_and(|heard| heard.listening)) {
            let said = engine.container_log(&container, Some(5)).await?;
            return Err(failed(format!("it does not listen: {}", said.trim())));
        }
        Ok(live)
    }

    /// Asks for a mark in its log: whatever was answered before stands above it.
    async fn heard_so_far(&self, ground: &Ground) -> Result<(), String> {
        let Some(heard) = &self.heard else {
            return Ok(());
        };
        let deaf = |why: &str| {
            format!(
                "the emulator `{}` {why}, so requests may have gone unheard",
                self.name
            )
        };
        let _one_at_a_time = self.asking.lock().await;
        let before = heard.borrow().marks;
        let asked = ground
            .engine
            .signal_container(&self.container, "SIGUSR1")
            .await;
        asked.map_err(|error| deaf(&format!("cannot be asked ({error})")))?;
        let mut marks = heard.subscribe();
        let marked = timeout(
            HEARING,
            marks.wait_for(|heard| heard.marks > before || heard.over),
        )
        .await;
        match marked {
            Ok(Ok(heard)) if heard.marks > before => Ok(()),
            Ok(_) => Err(deaf("has ended")),
            Err(_) => Err(deaf(&format!("said nothing for {} s", HEARING.as_secs()))),
        }
    }

    fn count(&self) -> usize {
        self.heard
            .as_ref()
            .map_or(0, |heard| heard.borrow().received.len())
    }

    /// From a number on, with the askers' names as far as they are known by now.
    fn since(&self, ground: &Ground, from: usize) -> Vec<Received> {
        let Some(heard) = &self.heard else {
            return Vec::new();
        };
        let heard = heard.borrow();
        let new = heard.received.get(from..).unwrap_or_default();
        new.iter()
            .map(|one| Received {
                asker: named(ground, &one.asker),
                ..one.clone()
            })
            .collect()
    }
}

/// The name behind an address, where it is one and known.
fn named(ground: &Ground, asker: &str) -> String {
    let known = ground
        .addresses
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let address = asker.parse::<IpAddr>().ok();
    address
        .and_then(|address| known.get(&address).cloned())
        .unwrap_or_else(|| asker.to_owned())
}

fn of_image(
    ground: &Ground,
    container: &str,
    image: &ImageEmulator,
    attach: Attach,
) -> ContainerSpec {
    let engine_memory = u64::try_from(ground.facts.memory).unwrap_or(0);
    let mut spec = ContainerSpec::new(container, &image.image.reference, attach);
    spec.command = image.command.clone();
    spec.environment = image.environment.clone();
    // What a service gets that says no limit.
    spec.memory = (engine_memory > 0).then_some(engine_memory / 4 * 3);
    spec
}

/// The files of an emulator's container.
fn configured(ground: &Ground, emulator: &Emulator) -> Result<Vec<(String, Vec<u8>)>, String> {
    let mut files = Vec::new();
    let emulation = match &emulator.does {
        Emulates::Http(http) => {
            let identity = match (&ground.authority, http.tls.is_empty()) {
                (_, true) => None,
                (Some(authority), false) => Some(authority.vouch(&emulator.hosts)?),
                (None, false) => return Err("the run has no authority for certificates".to_owned()),
            };
            let mut routes = Vec::new();
            for route in &http.routes {
                let mut route: Route = route.clone();
                if let RouteBody::File(path) = &route.body {
                    let content = std::fs::read(path)
                        .map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
                    let inside = format!("/answers/{}", files.len());
                    files.push((inside.clone(), content));
                    route.body = RouteBody::File(inside.into());
                }
                routes.push(route);
            }
            Emulation::Http {
                ports: http.ports.clone(),
                tls: http.tls.clone(),
                identity,
                routes,
            }
        }
        Emulates::Smtp(smtp) => Emulation::Smtp {
            ports: smtp.ports.clone(),
            host: emulator.hosts.first().cloned().unwrap_or_default(),
            accept: smtp.accept.clone(),
        },
        Emulates::Blackhole { ports } => Emulation::Blackhole {
            ports: ports.clone(),
        },
        Emulates::Image(_) => return Err("it is an image of its own".to_owned()),
    };
    let config = serde_json::to_vec(&emulation).map_err(|error| error.to_string())?;
    files.push((CONFIG.to_owned(), config));
    Ok(files)
}

/// Reads an emulator's log to its end; each request becomes an event.
async fn follow(ground: Ground, emulator: String, container: String, heard: watch::Sender<Heard>) {
    let lines = ground.engine.follow_stdout(&container);
    let mut lines = std::pin::pin!(lines);
    while let Some(Ok(line)) = lines.next().await {
        let Ok(line) = serde_json::from_str::<EmulatorLine>(&line) else {
            continue;
        };
        match line {
            EmulatorLine::Listening => heard.send_modify(|heard| heard.listening = true),
            EmulatorLine::Marked(mark) => heard.send_modify(|heard| heard.marks = mark),
            EmulatorLine::Received(received) => {
                let mut received = *received;
                let so_far = heard.borrow().received.len();
                // The event comes first: whoever waits for a mark finds it in the stream.
                if so_far < TOLD || !received.matched && so_far < WHOLE {
                    ground.recorder.emit(event(&ground, &emulator, &received));
                } else if so_far == TOLD {
                    ground.note(format!(
                        "the emulator `{emulator}` received more than {TOLD} requests; the others are counted, not shown"
                    ));
                }
                if so_far >= WHOLE {
                    received.cut |= !received.body.is_empty();
                    received.body = String::new();
                    received.headers = Vec::new();
                }
                heard.send_modify(|heard| heard.received.push(received));
            }
        }
    }
    heard.send_modify(|heard| heard.over = true);
}

fn event(ground: &Ground, emulator: &str, received: &Received) -> EventKind {
    let mut detail = String::new();
    for (name, value) in &received.headers {
        detail += &format!("{name}: {value}\n");
    }
    if !received.query.is_empty() {
        detail += &format!("query: {}\n", received.query);
    }
    if !received.note.is_empty() && received.kind != Exchange::Tcp {
        detail += &format!("({})\n", received.note);
    }
    if !received.body.is_empty() {
        detail += &format!("\n{}", received.body);
    }
    let detail = shortened(ground, detail, received.cut, DETAIL);
    EventKind::EmulatorRequest {
        stage: ground.current_stage(),
        emulator: emulator.to_owned(),
        asker: named(ground, &received.asker),
        kind: received.kind,
        summary: shortened(ground, received.summary(), false, 400),
        matched: received.matched,
        status: received.status,
        detail: Some(detail).filter(|detail| !detail.trim().is_empty()),
    }
}

/// Without secrets, and then without what is too long. Of a text that was cut already the end is left out: it may be
/// the beginning of a secret, which nothing would find.
fn shortened(ground: &Ground, text: String, cut: bool, most: usize) -> String {
    let text = ground.mask.text(text);
    let safe = match cut && !ground.mask.is_empty() {
        true => text.chars().count().saturating_sub(SECRET),
        false => usize::MAX,
    };
    let short: String = text.chars().take(most.min(safe)).collect();
    if short.len() < text.len() || cut {
        format!("{short}…")
    } else {
        short
    }
}
