//! Hears who looks for the way out of staging. Nobody has the address of the network's gateway, so whoever calls an
//! address outside asks the whole network for it by ARP, in vain. Measured on engine 20.10: three questions a second
//! apart, then the caller is told "no route to host". What was called is not part of the question.

use std::collections::HashMap;
use std::io::{ErrorKind, Read as _};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::mpsc;

use super::network;
use super::protocol::CalledOut;

/// `AF_PACKET`
const PACKET: i32 = 17;
/// `ETH_P_ARP`
const ARP: u16 = 0x0806;
/// The questions of one call come within this; one line is enough for them.
const ONE_CALL: Duration = Duration::from_secs(4);

/// True where this process may hear what is asked on its network.
pub(super) fn can_listen() -> bool {
    open().is_ok()
}

fn open() -> std::io::Result<Socket> {
    let protocol = Protocol::from(i32::from(ARP.to_be()));
    Socket::new(Domain::from(PACKET), Type::DGRAM, Some(protocol))
}

/// Calls `log` for each caller. Where the network has no way out to look for, or listening is not allowed, there is
/// nothing to hear, and this never ends.
pub(super) async fn listen(log: impl Fn(CalledOut) -> Result<(), String>) -> Result<(), String> {
    let facts = network::facts();
    let (true, Ok(socket)) = (facts.default_route, open()) else {
        return std::future::pending().await;
    };
    let (say, mut heard) = mpsc::unbounded_channel();
    // It waits in the kernel, and ends with the process.
    std::thread::spawn(move || questions(socket, &say));
    let mut told: HashMap<IpAddr, Instant> = HashMap::new();
    while let Some((caller, sought)) = heard.recv().await {
        if !facts.gateways.contains(&sought) || facts.addresses.contains(&caller) {
            continue;
        }
        let now = Instant::now();
        let known = told.get(&caller);
        if known.is_none_or(|last| now.duration_since(*last) > ONE_CALL) {
            log(CalledOut {
                way_out: sought,
                caller,
            })?;
            told.insert(caller, now);
        }
    }
    Err("cannot hear any more who looks for the way out".to_owned())
}

/// Reads until the socket breaks or nobody listens.
fn questions(mut socket: Socket, say: &mpsc::UnboundedSender<(IpAddr, IpAddr)>) {
    let mut buffer = [0; 128];
    loop {
        match socket.read(&mut buffer) {
            Ok(length) => {
                if let Some(question) = question(&buffer[..length])
                    && say.send(question).is_err()
                {
                    return;
                }
            }
            // The network went down and up again, or a signal came.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::Interrupted | ErrorKind::NetworkDown
                ) => {}
            Err(_) => return,
        }
    }
}

/// Who asks for whom; `None` for what is no question of IPv4 over Ethernet.
fn question(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    // Hardware, protocol, their lengths, and that it is a question.
    if packet.get(..8)? != [0, 1, 8, 0, 6, 4, 0, 1] {
        return None;
    }
    let address = |from: usize| {
        let bytes: [u8; 4] = packet.get(from..from + 4)?.try_into().ok()?;
        Some(IpAddr::V4(Ipv4Addr::from(bytes)))
    };
    Some((address(14)?, address(24)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_has_an_asker_and_somebody_who_is_sought() {
        let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 1];
        packet.extend([2, 0x42, 172, 18, 0, 3, 172, 18, 0, 3]);
        packet.extend([0, 0, 0, 0, 0, 0, 172, 18, 0, 1]);
        let asked = |packet: &[u8]| question(packet).map(|(a, b)| format!("{a} {b}"));
        assert_eq!(asked(&packet).as_deref(), Some("172.18.0.3 172.18.0.1"));
        assert_eq!(asked(&packet[..27]), None);
        packet[7] = 2;
        assert_eq!(asked(&packet), None, "an answer");
    }
}
