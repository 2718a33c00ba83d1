//! Stands in for a system outside staging: answers as it is told to, and writes down what it is asked for.
//!
//! What is received is printed before it is answered. Whoever has an answer is on record, so the run needs only to
//! ask for a mark in the log to know that it has heard of everything that a deploy was answered. The kernel answers who
//! calls a port on which nobody listens; such calls are read from the wire, and before each mark to their end.

mod blackhole;
mod http;
mod smtp;
mod tls;
mod unserved;

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::lines;
use super::protocol::{Emulation, EmulatorLine};
use crate::check::model::Received;

/// Connections at a time: more wait, so that no service can use up the emulator's files.
const CONNECTIONS: usize = 512;

/// What is under way (a handshake, a request that is being read) is given this long to be written down before a mark.
const UNDER_WAY: Duration = Duration::from_secs(2);

/// Bytes of a body that the log takes. With all its escapes a line must stay below 64 KiB.
const LOGGED: usize = 8 * 1024;

/// Bytes of one header, path, query or address that the log takes; of a longer one only the length is told, because a
/// piece of a secret is none that could be masked.
const LOGGED_WORD: usize = 1024;

/// Bytes of a line beyond which body and headers are left out of it.
const LINE: usize = 60_000;

/// What a connection needs to tell what it received.
#[derive(Clone)]
struct Log {
    under_way: watch::Sender<usize>,
    /// How much was received. Whoever writes a line holds it, so that a mark counts the lines above it and no other.
    received: Arc<Mutex<u64>>,
}

/// Something is under way for as long as this lives.
struct UnderWay(watch::Sender<usize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n -= 1);
    }
}

impl Log {
    /// Of an emulator that has received nothing.
    fn new() -> Self {
        Self {
            under_way: watch::Sender::new(0),
            received: Arc::default(),
        }
    }

    /// Writes a mark.
    fn mark(&self, mark: u64) -> Result<(), String> {
        let received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        lines::print(&EmulatorLine::Marked {
            mark,
            received: *received,
        })
    }

    /// Holds back marks.
    fn under_way(&self) -> UnderWay {
        self.under_way.send_modify(|n| *n += 1);
        UnderWay(self.under_way.clone())
    }

    /// Writes down what was received.
    fn write(&self, mut received: Received) -> Result<(), String> {
        received.path = word(received.path);
        received.query = word(received.query);
        received.host = word(received.host);
        received.subject = word(received.subject);
        let fits = serde_json::to_vec(&received).is_ok_and(|line| line.len() <= LINE);
        if !fits {
            received.cut |= !received.body.is_empty();
            received.body = String::new();
            received.headers = Vec::new();
        }
        let mut so_far = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        // It counts also where it cannot be written: that it is missing has to be noticed.
        *so_far += 1;
        lines::print(&EmulatorLine::Received(Box::new(received)))
    }
}

/// A text as it is, or its length.
fn word(text: String) -> String {
    if text.len() <= LOGGED_WORD {
        text
    } else {
        format!("({} bytes)", text.len())
    }
}

/// The beginning of a body as text, and whether there was more.
fn logged(body: &[u8]) -> (String, bool) {
    let most = body.len().min(LOGGED);
    let text = String::from_utf8_lossy(&body[..most]).into_owned();
    (text, body.len() > most)
}

/// Runs an emulator until it is asked to end.
pub(super) async fn emulate(config: &Path) -> Result<(), String> {
    let text = tokio::fs::read(config)
        .await
        .map_err(|error| format!("cannot read `{}`: {error}", config.display()))?;
    let emulation: Emulation = serde_json::from_slice(&text)
        .map_err(|error| format!("cannot understand `{}`: {error}", config.display()))?;
    let mut asked = signal(SignalKind::user_defined1())
        .map_err(|error| format!("cannot listen for signals: {error}"))?;
    let log = Log::new();
    let ears = unserved::Ears::open(ports(&emulation), log.clone());
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    match emulation {
        Emulation::Http {
            ports,
            tls,
            identity,
            routes,
        } => {
            let site = Arc::new(http::Site::new(routes, log.clone()));
            for port in ports {
                let site = Arc::clone(&site);
                serve(port, &places, move |stream, asker| {
                    http::plain(Arc::clone(&site), stream, asker)
                })
                .await?;
            }
            if let Some(identity) = identity {
                let acceptor = tls::acceptor(&identity)?;
                for port in tls {
                    let (site, acceptor) = (Arc::clone(&site), acceptor.clone());
                    serve(port, &places, move |stream, asker| {
                        http::secure(Arc::clone(&site), acceptor.clone(), stream, asker)
                    })
                    .await?;
                }
            }
        }
        Emulation::Smtp {
            ports,
            host,
            accept,
        } => {
            let office = Arc::new(smtp::Office::new(host, accept, log.clone()));
            for port in ports {
                let office = Arc::clone(&office);
                serve(port, &places, move |stream, asker| {
                    smtp::conversation(Arc::clone(&office), stream, asker)
                })
                .await?;
            }
        }
        Emulation::Blackhole { ports } => {
            for port in ports {
                let log = log.clone();
                serve(port, &places, move |stream, asker| {
                    blackhole::swallow(log.clone(), stream, asker, port)
                })
                .await?;
            }
        }
    }
    let (ears, deaf) = match ears {
        Ok(ears) => (Some(ears), None),
        Err(why) => (None, Some(why)),
    };
    lines::print(&EmulatorLine::Listening { deaf })?;
    let calls = async || match &ears {
        Some(ears) => ears.listen().await,
        None => std::future::pending().await,
    };
    let mut marks = 0;
    loop {
        tokio::select! {
            why = calls() => return Err(why),
            signal = asked.recv() => if signal.is_none() {
                return Err("no signal can be heard any more".to_owned());
            },
        }
        // One that is under way for long has not been answered, so nobody relies on it.
        let _ = timeout(
            UNDER_WAY,
            log.under_way
                .subscribe()
                .wait_for(|under_way| *under_way == 0),
        )
        .await;
        if let Some(ears) = &ears {
            ears.drain()?;
        }
        marks += 1;
        log.mark(marks)?;
    }
}

/// The TCP ports on which it listens.
fn ports(emulation: &Emulation) -> Vec<u16> {
    match emulation {
        Emulation::Http { ports, tls, .. } => [ports.as_slice(), tls.as_slice()].concat(),
        Emulation::Smtp { ports, .. } | Emulation::Blackhole { ports } => ports.clone(),
    }
}

/// Listens on a port of all addresses; each connection is a task of its own.
async fn serve<F>(
    port: u16,
    places: &Arc<Semaphore>,
    mut handle: impl FnMut(TcpStream, String) -> F + Send + 'static,
) -> Result<(), String>
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
        .await
        .map_err(|error| format!("cannot listen on port {port}: {error}"))?;
    let places = Arc::clone(places);
    tokio::spawn(async move {
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            // The asker went away before it was its turn, or files have run out until others are closed.
            let Ok((stream, asker)) = listener.accept().await else {
                tokio::task::yield_now().await;
                continue;
            };
            let work = handle(stream, asker.ip().to_string());
            tokio::spawn(async move {
                work.await;
                drop(place);
            });
        }
    });
    Ok(())
}
