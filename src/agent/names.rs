//! Names, looked up as programs do it and as evidence.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::fault;
use super::protocol::Reached;

/// The file that names the container's resolvers; the engine writes it into every container.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The addresses of a name, by the C library's own resolver: what a service in the same network would get.
///
/// # Errors
/// The resolver's.
pub(super) async fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    tokio::net::lookup_host((host, port))
        .await
        .map(Iterator::collect)
}

/// What the container's resolvers say to a question, with the response code that a C library hides.
pub(super) enum Answered {
    /// There are records; the addresses among them.
    Records(Vec<IpAddr>),
    /// No records, and why.
    Nothing(String),
    /// Nobody could be asked.
    NotAsked(String),
}

/// Asks every resolver of the container for A and AAAA of a name.
pub(super) async fn ask(name: &str, patience: Duration) -> Answered {
    let text = match tokio::fs::read_to_string(RESOLV_CONF).await {
        Ok(text) => text,
        Err(error) => {
            let reason = format!("cannot read {RESOLV_CONF}: {}", fault::say(&error));
            return Answered::NotAsked(reason);
        }
    };
    let servers: Vec<SocketAddr> = resolvers(&text)
        .into_iter()
        .map(|address| SocketAddr::new(address, 53))
        .collect();
    if servers.is_empty() {
        return Answered::NotAsked(format!("{RESOLV_CONF} names no resolver"));
    }
    ask_servers(&servers, name, patience).await
}

/// All questions at once, each with all of the time.
async fn ask_servers(servers: &[SocketAddr], name: &str, patience: Duration) -> Answered {
    let questions = servers.iter().flat_map(|server| {
        [RecordType::A, RecordType::AAAA].map(|kind| ask_server(*server, name, kind, patience))
    });
    let mut addresses = Vec::new();
    let mut records = false;
    let mut nothing = Vec::new();
    let mut not_asked = Vec::new();
    for answered in futures_util::future::join_all(questions).await {
        match answered {
            Answered::Records(more) => {
                records = true;
                addresses.extend(more);
            }
            Answered::Nothing(reason) => nothing.push(reason),
            Answered::NotAsked(reason) => not_asked.push(reason),
        }
    }
    if records {
        return Answered::Records(addresses);
    }
    not_asked.dedup();
    nothing.dedup();
    match not_asked.is_empty() {
        true => Answered::Nothing(nothing.join(", ")),
        false => Answered::NotAsked(not_asked.join(", ")),
    }
}

async fn ask_server(
    server: SocketAddr,
    name: &str,
    kind: RecordType,
    patience: Duration,
) -> Answered {
    let question = match Name::from_ascii(name) {
        Ok(mut name) => {
            // As it is, without the container's search domains.
            name.set_fqdn(true);
            let mut message = Message::query();
            message.add_query(Query::query(name, kind));
            message.metadata.recursion_desired = true;
            message
        }
        Err(error) => return Answered::NotAsked(format!("not a name: {error}")),
    };
    let id = question.metadata.id;
    let bytes = match question.to_vec() {
        Ok(bytes) => bytes,
        Err(error) => return Answered::NotAsked(format!("not a question: {error}")),
    };
    let exchange = async {
        let any: IpAddr = match server {
            SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(server).await?;
        socket.send(&bytes).await?;
        let mut buffer = vec![0; 4096];
        loop {
            let length = socket.recv(&mut buffer).await?;
            match Message::from_vec(&buffer[..length]) {
                Ok(message) if message.metadata.id == id => return Ok(message),
                // Not the answer to this question: go on listening until the time is over.
                Ok(_) | Err(_) => {}
            }
        }
    };
    match timeout(patience, exchange).await {
        Err(_) => Answered::Nothing(format!(
            "the resolver did not answer, {}",
            fault::timed_out(patience)
        )),
        Ok(Err(error)) if fault::ours(&error) => {
            Answered::NotAsked(format!("cannot ask the resolver: {}", fault::say(&error)))
        }
        Ok(Err(error)) => Answered::Nothing(format!("the resolver: {}", fault::say(&error))),
        Ok(Ok(answer)) => read(&answer),
    }
}

fn read(answer: &Message) -> Answered {
    let code = answer.metadata.response_code;
    if code == ResponseCode::NXDomain {
        return Answered::Nothing("no such name".to_owned());
    }
    if code != ResponseCode::NoError {
        return Answered::Nothing(format!("the resolver refused: {code}"));
    }
    if answer.answers.is_empty() && !answer.metadata.truncation {
        return Answered::Nothing("the name has no address".to_owned());
    }
    let addresses = answer
        .answers
        .iter()
        .filter_map(|record| match record.data {
            RData::A(address) => Some(IpAddr::V4(address.0)),
            RData::AAAA(address) => Some(IpAddr::V6(address.0)),
            _ => None,
        });
    Answered::Records(addresses.collect())
}

/// [`Answered`] as a try to get out.
pub(super) fn reached(answered: Answered) -> Reached {
    match answered {
        Answered::Records(addresses) if addresses.is_empty() => {
            Reached::Yes("the name has records".to_owned())
        }
        Answered::Records(addresses) => Reached::Yes(format!("the name is {}", list(&addresses))),
        Answered::Nothing(reason) => Reached::No(reason),
        Answered::NotAsked(reason) => Reached::Inconclusive(reason),
    }
}

pub(super) fn list(addresses: &[IpAddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    texts.join(", ")
}

/// The `nameserver` lines of a resolv.conf; a zone after `%` is left out.
fn resolvers(text: &str) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => words.next()?.split('%').next()?.parse().ok(),
                Some(_) | None => None,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_read_as_the_engine_writes_them() {
        let text = "# by the engine\nsearch example.org\nnameserver 127.0.0.11\nnameserver fe80::1%eth0\noptions ndots:0\nnameserver nonsense\n";
        let expected: Vec<IpAddr> = vec!["127.0.0.11".parse().unwrap(), "fe80::1".parse().unwrap()];
        assert_eq!(resolvers(text), expected);
    }

    /// Our own resolver is at hand to refuse.
    #[tokio::test]
    async fn a_refused_name_is_no_hole_and_a_dead_resolver_is_none_either() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        tokio::spawn(crate::agent::serve::datagrams(server, |_| Ok(())));
        let reached = reached(ask_servers(&[address], "example.com", Duration::from_secs(5)).await);
        assert_eq!(reached, Reached::No("no such name".to_owned()));

        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = silent.local_addr().unwrap();
        let patience = Duration::from_millis(20);
        match ask_servers(&[address], "example.com", patience).await {
            Answered::Nothing(reason) => assert!(reason.contains("timed out"), "{reason}"),
            Answered::Records(_) | Answered::NotAsked(_) => panic!("a silent resolver answered"),
        }
    }
}
