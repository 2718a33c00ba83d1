//! The resolver of staging: it knows nobody, says so at once, and writes down who was asked for.
//!
//! The engine's own resolver answers the names of the stack; only what it does not know comes here. Nothing is
//! ever asked of anyone else.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::protocol::RefusedName;
use super::{lines, way_out};

/// How the refusal is worded. REFUSED would be the truer word, but the asker would hear that the name cannot be
/// resolved for now, and well-made programs then try again. Measured on engine 20.10 with the C library's resolver:
/// after REFUSED and SERVFAIL each question comes twice and the asker is told "temporary failure in name resolution";
/// after NXDOMAIN it comes once and the asker is told "name or service not known", in under 10 ms.
const REFUSAL: ResponseCode = ResponseCode::NXDomain;

/// TCP conversations at a time: more wait, so that no service can use up the agent's files.
const CONVERSATIONS: usize = 64;
/// A TCP conversation that says nothing for this long is over.
const SILENCE: Duration = Duration::from_secs(5);

/// Listens on port 53 of all IPv4 addresses until it is asked to end.
pub(super) async fn serve() -> Result<(), String> {
    let on = (Ipv4Addr::UNSPECIFIED, 53);
    let cannot = |what: &str, error: std::io::Error| {
        format!(
            "cannot listen for DNS questions on {what} port 53: {error}\nhelp: the agent must run as root, or with CAP_NET_BIND_SERVICE"
        )
    };
    let udp = UdpSocket::bind(on)
        .await
        .map_err(|error| cannot("UDP", error))?;
    let tcp = TcpListener::bind(on)
        .await
        .map_err(|error| cannot("TCP", error))?;
    lines::complain(&json!({ "listening": "0.0.0.0:53" }).to_string());
    let print = |refused: RefusedName| lines::print(&refused);
    tokio::select! {
        end = datagrams(udp, print) => end,
        end = conversations(tcp, print) => end,
        end = way_out::listen(|called| lines::print(&called)) => end,
    }
}

/// Answers questions over UDP. `log` is called before each answer, so that no refusal goes unwritten.
pub(super) async fn datagrams(
    socket: UdpSocket,
    log: impl Fn(RefusedName) -> Result<(), String>,
) -> Result<(), String> {
    let mut buffer = vec![0; 4096];
    loop {
        // An error here is that of an earlier answer whose asker is gone.
        let Ok((length, asker)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        if let Some(answer) = refuse(&buffer[..length], asker.ip(), &log)? {
            let _ = socket.send_to(&answer, asker).await;
        }
    }
}

/// Answers questions over TCP, where each has its length before it.
pub(super) async fn conversations(
    listener: TcpListener,
    log: impl Fn(RefusedName) -> Result<(), String> + Clone + Send + Sync + 'static,
) -> Result<(), String> {
    let places = Arc::new(Semaphore::new(CONVERSATIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return Ok(());
        };
        let (stream, asker) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) if super::fault::ours(&error) => {
                return Err(format!("cannot accept a DNS conversation: {error}"));
            }
            // The asker went away before it was its turn.
            Err(_) => continue,
        };
        let log = log.clone();
        tokio::spawn(async move {
            // A broken conversation is the asker's affair.
            let _ = conversation(stream, asker.ip(), &log).await;
            drop(place);
        });
    }
}

async fn conversation(
    mut stream: TcpStream,
    asker: IpAddr,
    log: &(impl Fn(RefusedName) -> Result<(), String> + Sync),
) -> std::io::Result<()> {
    loop {
        let question = timeout(SILENCE, async {
            let length = stream.read_u16().await?;
            let mut question = vec![0; usize::from(length)];
            stream.read_exact(&mut question).await?;
            Ok::<_, std::io::Error>(question)
        })
        .await??;
        let Ok(Some(answer)) = refuse(&question, asker, log) else {
            return Ok(());
        };
        // An answer is no longer than its question, whose length fitted.
        let length = u16::try_from(answer.len()).map_err(std::io::Error::other)?;
        stream.write_u16(length).await?;
        stream.write_all(&answer).await?;
    }
}

/// The answer to a question, or none where it is none: then silence is the only answer that cannot be abused.
///
fn refuse(
    question: &[u8],
    asker: IpAddr,
    log: &impl Fn(RefusedName) -> Result<(), String>,
) -> Result<Option<Vec<u8>>, String> {
    let Ok(question) = Message::from_vec(question) else {
        return Ok(None);
    };
    if question.metadata.message_type != MessageType::Query {
        return Ok(None);
    }
    for query in &question.queries {
        log(RefusedName {
            name: query.name().to_ascii().trim_end_matches('.').to_owned(),
            kind: query.query_type().to_string(),
            asker,
        })?;
    }
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata.response_code = REFUSAL;
    answer.metadata.recursion_desired = question.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.queries = question.queries;
    Ok(answer.to_vec().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::Query;
    use hickory_proto::rr::{Name, RecordType};
    use std::sync::Mutex;

    fn question(name: &str, kind: RecordType) -> (u16, Vec<u8>) {
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        (message.metadata.id, message.to_vec().unwrap())
    }

    fn seen(name: &str, kind: &str) -> RefusedName {
        RefusedName {
            name: name.to_owned(),
            kind: kind.to_owned(),
            asker: "127.0.0.1".parse().unwrap(),
        }
    }

    #[tokio::test]
    async fn a_question_over_udp_is_refused_and_written_down() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let names = Arc::new(Mutex::new(Vec::new()));
        let log = names.clone();
        tokio::spawn(datagrams(server, move |name| {
            log.lock().unwrap().push(name);
            Ok(())
        }));
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.connect(address).await.unwrap();
        client.send(b"not a question").await.unwrap();
        let (id, bytes) = question("Mail.Example.com.", RecordType::MX);
        client.send(&bytes).await.unwrap();
        let mut buffer = [0; 512];
        let length = client.recv(&mut buffer).await.unwrap();
        let answer = Message::from_vec(&buffer[..length]).unwrap();
        assert_eq!(answer.metadata.id, id);
        assert_eq!(answer.metadata.message_type, MessageType::Response);
        assert_eq!(answer.metadata.response_code, REFUSAL);
        assert_eq!((answer.queries.len(), answer.answers.len()), (1, 0));
        assert_eq!(*names.lock().unwrap(), [seen("Mail.Example.com", "MX")]);
    }

    #[tokio::test]
    async fn several_questions_over_one_tcp_conversation_are_all_refused() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let names = Arc::new(Mutex::new(Vec::new()));
        let log = names.clone();
        tokio::spawn(conversations(server, move |name| {
            log.lock().unwrap().push(name);
            Ok(())
        }));
        let mut client = TcpStream::connect(address).await.unwrap();
        for kind in [RecordType::A, RecordType::AAAA] {
            let (id, bytes) = question("example.com.", kind);
            client.write_u16(bytes.len() as u16).await.unwrap();
            client.write_all(&bytes).await.unwrap();
            let length = client.read_u16().await.unwrap();
            let mut answer = vec![0; usize::from(length)];
            client.read_exact(&mut answer).await.unwrap();
            let answer = Message::from_vec(&answer).unwrap();
            assert_eq!(answer.metadata.id, id);
            assert_eq!(answer.metadata.response_code, REFUSAL);
        }
        let expected = [seen("example.com", "A"), seen("example.com", "AAAA")];
        assert_eq!(*names.lock().unwrap(), expected);
    }

    #[test]
    fn an_answer_gets_no_answer() {
        let (id, _) = question("example.com.", RecordType::A);
        let answer = Message::response(id, hickory_proto::op::OpCode::Query);
        let refused = refuse(
            &answer.to_vec().unwrap(),
            "127.0.0.1".parse().unwrap(),
            &|_| panic!("two resolvers could go on like this for ever"),
        );
        assert_eq!(refused, Ok(None));
    }
}
