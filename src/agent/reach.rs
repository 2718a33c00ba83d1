//! Tries to get out. What counts is whether anything at all came back.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};
use rustix::io::Errno;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout, timeout_at};

use super::fault;
use super::names::{self, Answered};
use super::protocol::{Reach, Reached};

/// How long to listen for who answered, once somebody did. It decides nothing but the words.
const GREETING: Duration = Duration::from_millis(250);

/// When a datagram is sent again for the first time; from then on after twice as long each time.
const RESEND: Duration = Duration::from_millis(100);

/// Tries for as long as the probe says.
pub(super) async fn reach(reach: &Reach) -> Reached {
    match reach {
        Reach::Tcp {
            address,
            port,
            timeout,
        } => tcp(SocketAddr::new(*address, *port), *timeout).await,
        Reach::Udp {
            address,
            port,
            timeout,
        } => udp(SocketAddr::new(*address, *port), *timeout).await,
        Reach::Name { name, timeout } => names::reached(names::ask(name, *timeout).await),
        Reach::Host {
            host,
            ports,
            timeout,
        } => self::host(host, ports, *timeout).await,
    }
}

async fn tcp(to: SocketAddr, patience: Duration) -> Reached {
    let deadline = Instant::now() + patience;
    match timeout_at(deadline, TcpStream::connect(to)).await {
        Err(_) => Reached::No(fault::timed_out(patience)),
        Ok(Err(error)) => failed(to, &error),
        Ok(Ok(mut stream)) => {
            let mut buffer = [0; 128];
            let until = deadline.min(Instant::now() + GREETING);
            let said = match timeout_at(until, stream.read(&mut buffer)).await {
                Ok(Ok(length)) if length > 0 => buffer[..length].escape_ascii().to_string(),
                Ok(Ok(_) | Err(_)) | Err(_) => {
                    return Reached::Yes(format!("{to} accepted a connection"));
                }
            };
            Reached::Yes(format!("{to} accepted a connection and said `{said}`"))
        }
    }
}

/// Any datagram from there counts, and so does a refusal. Datagrams get lost, also where somebody is: with the socket of a
/// server that ends before it has read them, say.
async fn udp(to: SocketAddr, patience: Duration) -> Reached {
    let exchange = async {
        let any: IpAddr = match to {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).await?;
        // Connected, so that the kernel drops what others send and tells of a refusal.
        socket.connect(to).await?;
        let question = question(to.port());
        let mut buffer = [0; 1500];
        let mut pause = RESEND;
        loop {
            socket.send(&question).await?;
            match timeout(pause, socket.recv(&mut buffer)).await {
                Ok(received) => return received,
                Err(_) => pause *= 2,
            }
        }
    };
    match timeout(patience, exchange).await {
        Err(_) => Reached::No(fault::timed_out(patience)),
        Ok(Err(error)) => failed(to, &error),
        Ok(Ok(length)) => Reached::Yes(format!("{to} answered with {length} bytes")),
    }
}

/// Something a server on that port is likely to answer.
fn question(port: u16) -> Vec<u8> {
    let mut message = Message::query();
    message.add_query(Query::query(Name::root(), RecordType::NS));
    message.metadata.recursion_desired = true;
    match (port, message.to_vec()) {
        (53, Ok(bytes)) => bytes,
        (_, _) => b"rehearse: is anybody there?\n".to_vec(),
    }
}

async fn host(host: &str, ports: &[u16], patience: Duration) -> Reached {
    if ports.is_empty() {
        return Reached::Inconclusive(format!("no port of `{host}` to try"));
    }
    let deadline = Instant::now() + patience;
    let addresses = match host.parse() {
        Ok(address) => vec![address],
        Err(_) => match names::ask(host, patience).await {
            Answered::Records(addresses) => addresses,
            other @ (Answered::Nothing(_) | Answered::NotAsked(_)) => return names::reached(other),
        },
    };
    if addresses.is_empty() {
        return Reached::Yes(format!("`{host}` has records, but no address"));
    }
    let left = deadline.saturating_duration_since(Instant::now());
    let tries = addresses
        .iter()
        .flat_map(|address| ports.iter().map(|port| SocketAddr::new(*address, *port)))
        .map(|to| async move { (to, tcp(to, left).await) });
    let mut no = Vec::new();
    let mut inconclusive = Vec::new();
    for (to, reached) in futures_util::future::join_all(tries).await {
        match reached {
            Reached::Yes(what) => return Reached::Yes(what),
            Reached::No(reason) => no.push(format!("{to}: {reason}")),
            Reached::Inconclusive(reason) => inconclusive.push(format!("{to}: {reason}")),
        }
    }
    match inconclusive.is_empty() {
        true => Reached::No(no.join(", ")),
        false => Reached::Inconclusive(inconclusive.join(", ")),
    }
}

/// What an error says about who is there.
fn failed(to: SocketAddr, error: &io::Error) -> Reached {
    let reason = fault::say(error);
    let is = |errno| fault::is(error, errno);
    // Without an IPv6 address there is no source for a packet; in IPv4 it means that the ports have run out.
    let no_family = is(Errno::AFNOSUPPORT) || (is(Errno::ADDRNOTAVAIL) && to.is_ipv6());
    if is(Errno::CONNREFUSED) || is(Errno::CONNRESET) || is(Errno::CONNABORTED) {
        Reached::Yes(format!("{to} answered: {reason}"))
    } else if no_family
        || is(Errno::NETUNREACH)
        || is(Errno::HOSTUNREACH)
        || is(Errno::HOSTDOWN)
        || is(Errno::NETDOWN)
        || is(Errno::TIMEDOUT)
    {
        Reached::No(reason)
    } else {
        Reached::Inconclusive(format!("{to}: {reason}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    const PATIENCE: Duration = Duration::from_secs(5);

    #[test]
    fn every_error_is_a_hole_a_wall_or_our_own() {
        let v4: SocketAddr = "192.0.2.1:80".parse().unwrap();
        let v6: SocketAddr = "[2001:db8::1]:80".parse().unwrap();
        let word = |to, errno: Errno| match failed(to, &io::Error::from(errno)) {
            Reached::Yes(_) => "yes",
            Reached::No(_) => "no",
            Reached::Inconclusive(_) => "inconclusive",
        };
        for (to, errno, expected) in [
            (v4, Errno::CONNREFUSED, "yes"),
            (v4, Errno::CONNRESET, "yes"),
            (v4, Errno::NETUNREACH, "no"),
            (v4, Errno::HOSTUNREACH, "no"),
            (v4, Errno::TIMEDOUT, "no"),
            (v6, Errno::AFNOSUPPORT, "no"),
            (v6, Errno::ADDRNOTAVAIL, "no"),
            (v4, Errno::ADDRNOTAVAIL, "inconclusive"),
            (v4, Errno::PERM, "inconclusive"),
            (v4, Errno::ACCESS, "inconclusive"),
            (v4, Errno::MFILE, "inconclusive"),
            (v4, Errno::NOBUFS, "inconclusive"),
        ] {
            assert_eq!(word(to, errno), expected, "{errno:?}");
        }
    }

    #[tokio::test]
    async fn whoever_accepts_or_refuses_is_reached() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let open = Reach::Host {
            host: "127.0.0.1".to_owned(),
            ports: vec![address.port()],
            timeout: PATIENCE,
        };
        assert!(matches!(reach(&open).await, Reached::Yes(_)));
        drop(listener);
        let Reached::Yes(what) = reach(&open).await else {
            panic!("a refusal comes from somebody");
        };
        assert_eq!(what, format!("{address} answered: connection refused"));
    }

    #[tokio::test]
    async fn a_datagram_that_is_answered_or_refused_is_reached_and_silence_is_not() {
        let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = peer.local_addr().unwrap();
        assert_eq!(
            udp(address, Duration::from_millis(20)).await,
            Reached::No("timed out after 20ms".to_owned())
        );
        let answer = tokio::spawn(async move {
            let mut buffer = [0; 100];
            // The first datagram is the one above, whose asker has gone.
            for _ in 0..2 {
                let (length, from) = peer.recv_from(&mut buffer).await.unwrap();
                peer.send_to(&buffer[..length], from).await.unwrap();
            }
        });
        assert!(matches!(udp(address, PATIENCE).await, Reached::Yes(_)));
        answer.await.unwrap();
        assert!(
            matches!(udp(address, PATIENCE).await, Reached::Yes(what) if what.contains("refused"))
        );
    }

    #[tokio::test]
    async fn a_datagram_that_was_lost_is_sent_again() {
        let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = peer.local_addr().unwrap();
        let lost = tokio::spawn(async move {
            peer.recv_from(&mut [0; 100]).await.unwrap();
        });
        // The kernel of who closed the socket refuses the second one.
        assert!(
            matches!(udp(address, PATIENCE).await, Reached::Yes(what) if what.contains("refused"))
        );
        lost.await.unwrap();
    }

    #[tokio::test]
    async fn no_port_is_no_proof() {
        let nothing = Reach::Host {
            host: "127.0.0.1".to_owned(),
            ports: vec![],
            timeout: PATIENCE,
        };
        assert!(matches!(reach(&nothing).await, Reached::Inconclusive(_)));
    }
}
