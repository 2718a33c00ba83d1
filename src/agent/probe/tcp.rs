//! One TCP connection, and waiting for one.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};

use crate::agent::{fault, names};
use crate::check::model::{Observation, TcpProbe, Unseen};

/// A greeting has ended when nothing more has come for this long: servers greet and then wait for the client.
const PAUSE: Duration = Duration::from_millis(250);
/// Between two tries to connect.
const BETWEEN: Duration = Duration::from_millis(50);
/// For one try: a packet lost while a service starts must not use up all the patience.
const ONE_TRY: Duration = Duration::from_secs(1);

/// Connects, sends, reads. Once there is a connection there is an observation, whatever the reading brings; the
/// time is that of the connecting.
pub(super) async fn probe(probe: &TcpProbe) -> Result<(Observation, Duration), Unseen> {
    let started = Instant::now();
    let deadline = started + probe.timeout;
    let what = format!("cannot connect to `{}:{}`", probe.host, probe.port);
    let mut stream = match timeout_at(deadline, connect(&probe.host, probe.port)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(fault::unseen(&what, &error)),
        Err(_) => {
            let reason = format!("{what}: {}", fault::timed_out(probe.timeout));
            return Err(Unseen::Unanswered(reason));
        }
    };
    let elapsed = started.elapsed();
    if let Some(text) = &probe.send {
        // A peer that hangs up on what is sent may have greeted before.
        let _ = timeout_at(deadline, stream.write_all(text.as_bytes())).await;
    }
    let banner = read(&mut stream, probe.read, deadline).await;
    let banner = String::from_utf8_lossy(&banner).into_owned();
    Ok((Observation::Tcp { banner }, elapsed))
}

/// Up to `limit` bytes, until the peer ends, pauses after it has begun, or the time is over.
async fn read(stream: &mut TcpStream, limit: usize, deadline: Instant) -> Vec<u8> {
    let mut banner = Vec::new();
    let mut buffer = [0; 4096];
    while banner.len() < limit {
        let room = buffer.len().min(limit - banner.len());
        let until = match banner.is_empty() {
            true => deadline,
            false => deadline.min(Instant::now() + PAUSE),
        };
        match timeout_at(until, stream.read(&mut buffer[..room])).await {
            Ok(Ok(length)) if length > 0 => banner.extend_from_slice(&buffer[..length]),
            Ok(Ok(_) | Err(_)) | Err(_) => break,
        }
    }
    banner
}

/// Tries each address of the name; the error is the last one's.
async fn connect(host: &str, port: u16) -> std::io::Result<TcpStream> {
    let addresses = names::addresses(host, port).await?;
    TcpStream::connect(addresses.as_slice()).await
}

/// Connects again and again: across a network there is no event to wait for, so this asks twenty times a second.
///
/// # Errors
/// The last try's.
pub(in crate::agent) async fn await_tcp(
    host: &str,
    port: u16,
    patience: Duration,
) -> Result<(), String> {
    let deadline = Instant::now() + patience;
    let mut last = "not tried once".to_owned();
    loop {
        let until = deadline.min(Instant::now() + ONE_TRY);
        match timeout_at(until, connect(host, port)).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => last = fault::say(&error),
            Err(_) if last == "not tried once" => "no answer to a connection".clone_into(&mut last),
            // Cut short by the end of the patience: the try before says more.
            Err(_) => {}
        }
        if Instant::now() + BETWEEN >= deadline {
            return Err(format!(
                "cannot connect to `{host}:{port}` within {patience:?}: {last}"
            ));
        }
        sleep(BETWEEN).await;
    }
}
