//! Whoever gets through to it gets an answer: without it, silence would prove nothing.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::Serialize;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, UdpSocket};

use super::{fault, lines, network};

/// What a TCP connection is answered with.
const LINE: &[u8] = b"rehearse beacon\n";

/// What the beacon listens on, printed as soon as it does.
#[derive(Debug, Default, Serialize)]
struct Bound {
    tcp: Vec<SocketAddr>,
    udp: Vec<SocketAddr>,
    /// What it could not listen on, and why.
    failed: Vec<String>,
}

/// Listens on what it can and answers for that long.
pub(super) async fn beacon(
    tcp: &[u16],
    udp: &[u16],
    bind: &[IpAddr],
    patience: Duration,
) -> Result<(), String> {
    let bound = listen(tcp, udp, bind).await;
    if bound.tcp.is_empty() && bound.udp.is_empty() {
        return Err(format!(
            "the beacon can listen on nothing: {}",
            bound.failed.join(", ")
        ));
    }
    lines::print(&bound)?;
    tokio::time::sleep(patience).await;
    Ok(())
}

/// Binds each address by itself: a datagram's answer then comes from the address that was asked, which an asker
/// insists on. For TCP that is so anyway, and all addresses at once cover those that come later.
async fn listen(tcp: &[u16], udp: &[u16], bind: &[IpAddr]) -> Bound {
    let own: Vec<IpAddr> = match bind {
        [] => network::facts().addresses,
        given => given.to_vec(),
    };
    let own: Vec<IpAddr> = own
        .into_iter()
        .filter(|address| !bind.is_empty() || address.is_ipv4())
        .collect();
    let mut bound = Bound::default();
    for port in tcp {
        let any = match bind {
            [] => listen_tcp(Ipv4Addr::UNSPECIFIED.into(), *port, &mut bound).await,
            [..] => false,
        };
        if !any {
            for address in &own {
                listen_tcp(*address, *port, &mut bound).await;
            }
        }
    }
    for port in udp {
        for address in &own {
            listen_udp(*address, *port, &mut bound).await;
        }
    }
    bound
}

async fn listen_tcp(address: IpAddr, port: u16, bound: &mut Bound) -> bool {
    let listener = TcpListener::bind((address, port)).await;
    match listener.and_then(|listener| Ok((listener.local_addr()?, listener))) {
        Ok((on, listener)) => {
            bound.tcp.push(on);
            tokio::spawn(async move {
                // Whoever goes away early has got through all the same.
                loop {
                    if let Ok((mut stream, _)) = listener.accept().await {
                        let _ = stream.write_all(LINE).await;
                    } else {
                        // Out of files: let those that are being closed be closed.
                        tokio::task::yield_now().await;
                    }
                }
            });
            true
        }
        Err(error) => {
            bound
                .failed
                .push(format!("tcp {address}:{port}: {}", fault::say(&error)));
            false
        }
    }
}

async fn listen_udp(address: IpAddr, port: u16, bound: &mut Bound) {
    let socket = UdpSocket::bind((address, port)).await;
    match socket.and_then(|socket| Ok((socket.local_addr()?, socket))) {
        Ok((on, socket)) => {
            bound.udp.push(on);
            tokio::spawn(async move {
                let mut buffer = [0; 1500];
                loop {
                    if let Ok((length, asker)) = socket.recv_from(&mut buffer).await {
                        let _ = socket.send_to(&buffer[..length], asker).await;
                    }
                }
            });
        }
        Err(error) => bound
            .failed
            .push(format!("udp {address}:{port}: {}", fault::say(&error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::protocol::{Reach, Reached};
    use crate::agent::reach::reach;

    #[tokio::test]
    async fn it_is_reached_over_tcp_and_udp() {
        let loopback: IpAddr = "127.0.0.1".parse().unwrap();
        let bound = listen(&[0], &[0], &[loopback]).await;
        let timeout = Duration::from_secs(5);
        let tcp = Reach::Tcp {
            address: loopback,
            port: bound.tcp[0].port(),
            timeout,
        };
        let udp = Reach::Udp {
            address: loopback,
            port: bound.udp[0].port(),
            timeout,
        };
        let Reached::Yes(said) = reach(&tcp).await else {
            panic!("the beacon accepts");
        };
        assert!(said.ends_with("said `rehearse beacon\\n`"), "{said}");
        assert!(matches!(reach(&udp).await, Reached::Yes(_)));
    }

    #[tokio::test]
    async fn an_address_of_somebody_else_is_told_and_does_not_stop_the_others() {
        let addresses = ["192.0.2.1".parse().unwrap(), "127.0.0.1".parse().unwrap()];
        let bound = listen(&[0], &[], &addresses).await;
        assert_eq!(bound.tcp.len(), 1);
        assert_eq!(bound.failed.len(), 1);
        assert!(
            bound.failed[0].starts_with("tcp 192.0.2.1:0: "),
            "{:?}",
            bound.failed
        );
    }
}
