//! One emulator: its container, and what is read of its log.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::config::{CONFIG, configured, of_image};
use super::told::{event, named};
use crate::agent::protocol::EmulatorLine;
use crate::check::model::Received;
use crate::engine::{Attach, ContainerSpec, EngineError};
use crate::plan::model::{Emulates, Emulator};
use crate::staging::Ground;
use crate::state::agent;

/// For a container that is nothing but our own executable.
const STARTS: Duration = Duration::from_secs(60);

/// For the word of an emulator that all it answered is on record; only where it never comes is all of this waited for.
const HEARING: Duration = Duration::from_secs(45);

/// Bytes; it holds at most a megabyte of each of its connections' requests.
const MEMORY: u64 = 1 << 30;

/// So many requests to one emulator become events. Of more, only those that nothing fitted do.
const TOLD: usize = 1000;

/// So many requests to one emulator are remembered with headers and body.
const WHOLE: usize = 10_000;

/// So many requests to one emulator are remembered at all. A run that is asked for more cannot judge them.
const REMEMBERED: usize = 200_000;

/// One emulator at work.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) name: String,
    container: String,
    /// `None` for an image of somebody else's, of which nothing is heard.
    pub(super) heard: Option<watch::Sender<Heard>>,
    /// Two that ask at once could not tell whose mark it is.
    asking: tokio::sync::Mutex<()>,
    task: Option<JoinHandle<()>>,
}

/// What was read of an emulator's log.
#[derive(Debug, Default)]
pub(super) struct Heard {
    listening: bool,
    marks: u64,
    received: Vec<Received>,
    /// How many requests were read.
    read: u64,
    /// How many requests stood in no line above the last mark, though the emulator received them.
    missing: u64,
    /// How many of those that were read are in no list, because the agent called.
    passed_over: u64,
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

impl Live {
    pub(super) async fn open(
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
        // For calls of ports on which it does not listen.
        spec.hears_the_wire = true;
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
            resolver.to_string(),
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
    pub(super) async fn heard_so_far(&self, ground: &Ground) -> Result<(), String> {
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
            Ok(Ok(heard)) if heard.marks > before => heard.is_whole().map_err(|why| deaf(&why)),
            Ok(_) => Err(deaf("has ended")),
            Err(_) => Err(deaf(&format!("said nothing for {} s", HEARING.as_secs()))),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.heard
            .as_ref()
            .map_or(0, |heard| heard.borrow().received.len())
    }

    /// From a number on, with the askers' names as far as they are known by now.
    pub(super) fn since(&self, ground: &Ground, from: usize) -> Vec<Received> {
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

impl Heard {
    /// Whether everything that was received up to the last mark is here.
    fn is_whole(&self) -> Result<(), String> {
        if self.missing > 0 {
            return Err(format!(
                "received {} requests that its log does not have",
                self.missing
            ));
        }
        if self.read > self.received.len() as u64 + self.passed_over {
            return Err(format!(
                "received {} requests, more than the {REMEMBERED} that a run can judge",
                self.read
            ));
        }
        Ok(())
    }

    fn mark(&mut self, mark: u64, received: u64) {
        self.marks = mark;
        self.missing = received.abs_diff(self.read);
    }
}

/// Reads an emulator's log to its end; each request becomes an event.
async fn follow(
    ground: Ground,
    emulator: String,
    container: String,
    agent: String,
    heard: watch::Sender<Heard>,
) {
    let lines = ground.engine.follow_stdout(&container);
    let mut lines = std::pin::pin!(lines);
    while let Some(Ok(line)) = lines.next().await {
        let Ok(line) = serde_json::from_str::<EmulatorLine>(&line) else {
            continue;
        };
        match line {
            EmulatorLine::Listening { deaf } => {
                if let Some(why) = deaf {
                    ground.note(format!(
                        "calls of ports on which the emulator `{emulator}` does not listen are not seen: {why}"
                    ));
                }
                heard.send_modify(|heard| heard.listening = true);
            }
            EmulatorLine::Marked { mark, received } => {
                heard.send_modify(|heard| heard.mark(mark, received));
            }
            EmulatorLine::Received(received) => {
                let mut received = *received;
                // A test that a port is closed, a step that waits for it: what came of it is judged there.
                if received.is_unserved() && received.asker == agent {
                    heard.send_modify(|heard| {
                        heard.read += 1;
                        heard.passed_over += 1;
                    });
                    continue;
                }
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
                heard.send_modify(|heard| {
                    heard.read += 1;
                    if so_far < REMEMBERED {
                        heard.received.push(received);
                    }
                });
            }
        }
    }
    heard.send_modify(|heard| heard.over = true);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_missing_and_one_too_many_to_keep_are_noticed() {
        let mut heard = Heard {
            received: vec![Received::default()],
            read: 1,
            ..Heard::default()
        };
        heard.mark(1, 1);
        assert_eq!(heard.is_whole(), Ok(()));
        heard.mark(2, 2);
        assert!(
            heard
                .is_whole()
                .unwrap_err()
                .contains("received 1 requests")
        );
        heard.read = 2;
        heard.mark(3, 2);
        assert!(heard.is_whole().unwrap_err().contains("more than"));
        heard.passed_over = 1;
        assert_eq!(heard.is_whole(), Ok(()));
    }
}
