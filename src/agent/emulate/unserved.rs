//! Hears who calls a port on which the emulator does not listen. The kernel refuses such a call by itself, and a
//! program that goes on without an answer would be taken for one that called nobody.
//!
//! The kernel gives a packet to this socket while it refuses it, and whoever called goes on only after that. So no call
//! before a mark is missing above it, if all that lies in the socket is written down first.

use std::collections::HashMap;
use std::io::{ErrorKind, Read as _};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::time::interval;

use super::Log;
use crate::agent::network;
use crate::check::model::Received;
use crate::event::Exchange;

/// `AF_PACKET`
const PACKET: i32 = 17;
/// `ETH_P_IP`: what comes in. Only `ETH_P_ALL` would bring what goes out too.
const IPV4: u16 = 0x0800;

/// Protocols of IPv4.
const TCP: u8 = 6;
const UDP: u8 = 17;
/// The bits of the offset, which the first fragment and a packet in one piece do not have. The others have no ports.
const FRAGMENT: u16 = 0x1fff;
/// Flags of TCP.
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
/// Where they stand in its header.
const FLAGS: u8 = 13;

/// The port of DNS: what comes from it is an answer.
const DNS: u16 = 53;

/// Bytes of a packet that are read: more than the longest header of IPv4 and what is looked at behind it.
const KEPT: usize = 128;

/// How often the socket is read. Whoever waits for a call asks for a mark, before which it is read to its end.
const PACE: Duration = Duration::from_millis(200);

/// Calls of one port by the same asker within this are one: who is refused may try again at once, and for ever.
const ONE_CALL: Duration = Duration::from_secs(4);

/// So many are remembered at most. A repeat that is written down twice does no harm.
const REMEMBERED: usize = 4096;

/// So many packets are read at a time: more than the socket holds, so that all that lay in it is, and a flood ends.
const AT_A_TIME: usize = 4096;

/// Somebody calls a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Call {
    asker: Ipv4Addr,
    from: u16,
    to: u16,
    udp: bool,
}

/// Where calls are heard.
pub(super) struct Ears {
    socket: Socket,
    own: Vec<IpAddr>,
    /// TCP ports that somebody listens on.
    served: Vec<u16>,
    log: Log,
    /// Whoever reads the socket holds it until all is written.
    told: Mutex<Told>,
}

/// When a call was written down: whose, of which port, and whether over UDP.
type Told = HashMap<(Ipv4Addr, u16, bool), Instant>;

impl Ears {
    /// The ears of an emulator that listens on these TCP ports.
    ///
    /// # Errors
    /// It is not allowed to hear, or there is nothing to hear.
    pub(super) fn open(served: Vec<u16>, log: Log) -> Result<Self, String> {
        let own = network::facts().addresses;
        if !own.iter().any(IpAddr::is_ipv4) {
            return Err("it has no address".to_owned());
        }
        let socket =
            open(&served).map_err(|error| format!("cannot open a packet socket: {error}"))?;
        Ok(Self {
            socket,
            own,
            served,
            log,
            told: Mutex::default(),
        })
    }

    /// Writes down calls soon after they come, and returns why it cannot any more. Nothing is lost where it is dropped.
    pub(super) async fn listen(&self) -> String {
        let mut pace = interval(PACE);
        loop {
            pace.tick().await;
            if let Err(why) = self.drain() {
                return why;
            }
        }
    }

    /// Writes down every call that has come until now.
    ///
    /// # Errors
    /// The socket is broken, or nobody reads what is written.
    pub(super) fn drain(&self) -> Result<(), String> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let mut socket = &self.socket;
        let mut packet = [0; KEPT];
        for _ in 0..AT_A_TIME {
            match socket.read(&mut packet) {
                Ok(length) => {
                    if let Some(call) = unserved(&packet[..length], &self.own, &self.served)
                        && is_new(&mut told, call, Instant::now())
                    {
                        self.log.write(call.received())?;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // The network went down and up again, or a signal came.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::Interrupted | ErrorKind::NetworkDown
                    ) => {}
                Err(error) => return Err(unheard(&error)),
            }
        }
        Ok(())
    }
}

impl Call {
    fn received(self) -> Received {
        let udp = if self.udp { "/udp" } else { "" };
        Received {
            kind: Exchange::Tcp,
            asker: self.asker.to_string(),
            matched: false,
            note: format!("port {}{udp}", self.to),
            ..Received::default()
        }
    }
}

fn unheard(error: &std::io::Error) -> String {
    format!("cannot hear any more who calls other ports: {error}")
}

fn open(served: &[u16]) -> std::io::Result<Socket> {
    let protocol = Protocol::from(i32::from(IPV4.to_be()));
    let socket = Socket::new(Domain::from(PACKET), Type::DGRAM, Some(protocol))?;
    socket.set_nonblocking(true)?;
    socket.attach_filter(&filter(served))?;
    Ok(socket)
}

/// What the kernel leaves out: everything but datagrams and the first packets of connections that nobody serves. So
/// only such calls can fill the socket, and one that it has no room for changes no judgement: hundreds are before it.
fn filter(served: &[u16]) -> Vec<SockFilter> {
    // Offsets count from the header of IPv4, or from behind it. A packet without that many bytes is left out.
    const LOAD_BYTE: u16 = 0x30;
    const LOAD_NUMBER: u16 = 0x28;
    const MEASURE_HEADER: u16 = 0xb1;
    const LOAD_BYTE_BEHIND: u16 = 0x50;
    const LOAD_NUMBER_BEHIND: u16 = 0x48;
    const AND: u16 = 0x54;
    const IF_EQUAL: u16 = 0x15;
    const IF_ANY_BIT: u16 = 0x45;
    const RETURN: u16 = 0x06;
    // `SKF_AD_OFF` and `SKF_AD_PKTTYPE`, of which 0 is what comes for this machine alone: no broadcast.
    const FOR_WHOM: u32 = 0xffff_f004;
    let step = |code: u16, value: u32| SockFilter::new(code, 0, 0, value);
    let skip_if = |value: u32| SockFilter::new(IF_EQUAL, 1, 0, value);
    let skip_unless = |value: u32| SockFilter::new(IF_EQUAL, 0, 1, value);
    let keep = || step(RETURN, u32::MAX);
    let leave_out = || step(RETURN, 0);
    let mut program = vec![
        step(LOAD_BYTE, FOR_WHOM),
        skip_if(0),
        leave_out(),
        step(LOAD_NUMBER, 6),
        SockFilter::new(IF_ANY_BIT, 0, 1, u32::from(FRAGMENT)),
        leave_out(),
        step(LOAD_BYTE, 9),
        skip_unless(u32::from(UDP)),
        keep(),
        skip_if(u32::from(TCP)),
        leave_out(),
        step(MEASURE_HEADER, 0),
        step(LOAD_BYTE_BEHIND, u32::from(FLAGS)),
        step(AND, u32::from(SYN | ACK)),
        skip_if(u32::from(SYN)),
        leave_out(),
        step(LOAD_NUMBER_BEHIND, 2),
    ];
    for port in served {
        program.extend([skip_unless(u32::from(*port)), leave_out()]);
    }
    program.push(keep());
    program
}

/// The call that a packet is, if it is one of a port of these addresses that nobody listens on.
fn unserved(packet: &[u8], own: &[IpAddr], served: &[u16]) -> Option<Call> {
    let (called, call) = call(packet)?;
    let in_vain = match call.udp {
        true => call.from != DNS,
        false => !served.contains(&call.to),
    };
    (in_vain && own.contains(&IpAddr::V4(called))).then_some(call)
}

/// Which address is called, and the call: the first packet of a connection, or a datagram.
fn call(packet: &[u8]) -> Option<(Ipv4Addr, Call)> {
    let number = |at: usize| {
        let bytes: [u8; 2] = packet.get(at..at + 2)?.try_into().ok()?;
        Some(u16::from_be_bytes(bytes))
    };
    let address = |at: usize| {
        let bytes: [u8; 4] = packet.get(at..at + 4)?.try_into().ok()?;
        Some(Ipv4Addr::from(bytes))
    };
    let first = *packet.first()?;
    let header = usize::from(first & 0xf) * 4;
    if first >> 4 != 4 || header < 20 || number(6)? & FRAGMENT != 0 {
        return None;
    }
    let udp = match *packet.get(9)? {
        TCP if packet.get(header + usize::from(FLAGS))? & (SYN | ACK) == SYN => false,
        UDP => true,
        _ => return None,
    };
    let call = Call {
        asker: address(12)?,
        from: number(header)?,
        to: number(header + 2)?,
        udp,
    };
    Some((address(16)?, call))
}

/// Remembers a call; false where it is the repeat of one.
fn is_new(told: &mut Told, call: Call, now: Instant) -> bool {
    let key = (call.asker, call.to, call.udp);
    let known = told.get(&key);
    if known.is_some_and(|last| now.duration_since(*last) <= ONE_CALL) {
        return false;
    }
    if told.len() >= REMEMBERED {
        told.clear();
    }
    told.insert(key, now);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: [u8; 4] = [172, 18, 0, 5];
    const OWN: [u8; 4] = [172, 18, 0, 3];

    /// A packet of IPv4 with this many words of options, from port 40000 to `to`.
    fn packet(protocol: u8, options: u8, to: u16, flags: u8) -> Vec<u8> {
        let mut packet = vec![0x45 + options, 0, 0, 60, 1, 2, 0x40, 0, 64, protocol, 0, 0];
        packet.extend(FROM);
        packet.extend(OWN);
        packet.extend(std::iter::repeat_n(1, usize::from(options) * 4));
        packet.extend(40_000_u16.to_be_bytes());
        packet.extend(to.to_be_bytes());
        packet.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        packet
    }

    fn heard(packet: &[u8]) -> Option<String> {
        let own = [IpAddr::V4(Ipv4Addr::from(OWN))];
        let received = unserved(packet, &own, &[25, 80])?.received();
        Some(format!("{} {}", received.asker, received.note))
    }

    #[test]
    fn a_call_of_a_port_that_nobody_serves_is_heard_and_nothing_else() {
        let port_587 = Some("172.18.0.5 port 587");
        for (what, packet, told) in [
            ("a call", packet(TCP, 0, 587, SYN), port_587),
            (
                "of one that would mark congestion",
                packet(TCP, 0, 587, SYN | 0xc0),
                port_587,
            ),
            ("with options", packet(TCP, 10, 587, SYN), port_587),
            ("an answer to a call", packet(TCP, 0, 587, SYN | ACK), None),
            ("in a connection", packet(TCP, 0, 587, ACK), None),
            ("a refusal", packet(TCP, 0, 587, 0x04 | ACK), None),
            ("a served port", packet(TCP, 0, 25, SYN), None),
            (
                "a datagram",
                packet(UDP, 0, 123, 0),
                Some("172.18.0.5 port 123/udp"),
            ),
            (
                "a datagram for the port of a listener of TCP",
                packet(UDP, 1, 25, 0),
                Some("172.18.0.5 port 25/udp"),
            ),
            ("an echo", packet(1, 0, 587, SYN), None),
        ] {
            assert_eq!(heard(&packet).as_deref(), told, "{what}");
        }
    }

    #[test]
    fn what_is_for_somebody_else_or_not_all_there_is_no_call() {
        let whole = packet(TCP, 2, 587, SYN);
        let changed = |at: usize, to: u8| {
            let mut packet = whole.clone();
            packet[at] = to;
            heard(&packet)
        };
        assert_eq!(changed(19, OWN[3]), heard(&whole));
        assert!(changed(19, 4).is_none(), "another destination");
        assert!(changed(0, 0x67).is_none(), "another version");
        assert!(changed(0, 0x44).is_none(), "a header that is too short");
        assert!(changed(7, 1).is_none(), "a later fragment");
        assert!(changed(6, 0x20).is_some(), "the first fragment");
        // The last byte that is looked at is that of the flags.
        let flags = 28 + usize::from(FLAGS);
        assert_eq!(heard(&whole[..=flags]), heard(&whole));
        for length in 0..=flags {
            assert_eq!(heard(&whole[..length]), None, "{length} bytes");
        }
        let mut answer = packet(UDP, 0, 40_001, 0);
        answer[20..22].copy_from_slice(&DNS.to_be_bytes());
        assert_eq!(heard(&answer), None, "an answer of the resolver");
    }

    #[test]
    fn a_call_that_is_repeated_is_one() {
        let (_, first) = call(&packet(TCP, 0, 587, SYN)).unwrap();
        let again = Call {
            from: first.from + 1,
            ..first
        };
        let second = Call { to: 465, ..first };
        let mut told = Told::new();
        let begun = Instant::now();
        let later = |seconds| begun + Duration::from_secs(seconds);
        assert!(is_new(&mut told, first, begun));
        assert!(!is_new(&mut told, first, later(3)), "sent again");
        assert!(!is_new(&mut told, again, later(3)), "tried again");
        assert!(is_new(&mut told, second, later(3)), "another call");
        assert!(is_new(&mut told, first, later(5)), "a new one");
    }
}
