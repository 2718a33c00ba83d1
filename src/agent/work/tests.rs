use std::time::Duration;

use serde_json::json;
use tokio::io::{DuplexStream, Lines, ReadHalf, WriteHalf, duplex, split};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::agent::protocol::Reach;
use crate::check::model::{Observation, TcpProbe};

struct Worker {
    requests: WriteHalf<DuplexStream>,
    replies: Lines<BufReader<ReadHalf<DuplexStream>>>,
    end: JoinHandle<Result<(), String>>,
}

impl Worker {
    fn start() -> Self {
        let (ours, theirs) = duplex(1 << 16);
        let (input, output) = split(theirs);
        let (replies, requests) = split(ours);
        Self {
            requests,
            replies: BufReader::new(replies).lines(),
            end: tokio::spawn(work(input, output)),
        }
    }

    async fn send(&mut self, line: &str) {
        self.requests.write_all(line.as_bytes()).await.unwrap();
        self.requests.write_all(b"\n").await.unwrap();
    }

    async fn ask(&mut self, id: u64, ask: Ask) {
        let line = serde_json::to_string(&Request { id, ask }).unwrap();
        self.send(&line).await;
    }

    async fn reply(&mut self) -> Reply {
        let line = self.replies.next_line().await.unwrap().unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

fn greeting_of(port: u16) -> Ask {
    Ask::Probe(crate::check::model::Probe::Tcp(TcpProbe {
        host: "127.0.0.1".to_owned(),
        port,
        send: None,
        read: 3,
        timeout: Duration::from_secs(30),
    }))
}

#[tokio::test]
async fn replies_come_as_they_finish_and_the_end_of_input_waits_for_all() {
    let slow = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = slow.local_addr().unwrap().port();
    let mut worker = Worker::start();
    worker.ask(1, greeting_of(port)).await;
    worker.ask(2, Ask::Network).await;
    // The first is not answered before the second has been.
    let second = worker.reply().await;
    assert_eq!(second.id, 2);
    assert!(matches!(second.answer, Answer::Network(_)));
    worker.requests.shutdown().await.unwrap();
    let (mut stream, _) = slow.accept().await.unwrap();
    stream.write_all(b"hey").await.unwrap();
    let first = worker.reply().await;
    let banner = "hey".to_owned();
    assert_eq!(first.id, 1);
    assert_eq!(first.answer, Answer::Seen(Ok(Observation::Tcp { banner })));
    assert_eq!(worker.end.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn a_bad_line_is_refused_and_the_next_is_answered() {
    let mut worker = Worker::start();
    for (line, id) in [
        ("nonsense".to_owned(), 0),
        (json!({ "id": 7, "ask": { "sing": {} } }).to_string(), 7),
        (json!({ "id": 8 }).to_string(), 8),
    ] {
        worker.send(&line).await;
        let reply = worker.reply().await;
        assert_eq!(reply.id, id, "{line}");
        assert!(matches!(reply.answer, Answer::Refused(_)), "{line}");
    }
}

#[tokio::test]
async fn every_ask_gets_its_own_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut worker = Worker::start();
    let (host, port) = ("127.0.0.1".to_owned(), address.port());
    let patience = Duration::from_secs(30);
    worker
        .ask(
            1,
            Ask::AwaitTcp {
                host,
                port,
                patience,
            },
        )
        .await;
    assert_eq!(worker.reply().await.answer, Answer::Connected(Ok(())));
    let reach = Reach::Tcp {
        address: address.ip(),
        port,
        timeout: patience,
    };
    worker.ask(2, Ask::Reach(reach)).await;
    assert!(matches!(worker.reply().await.answer, Answer::Reached(_)));
}

#[tokio::test]
async fn a_worker_that_nobody_hears_ends() {
    let (mut requests, input) = duplex(1 << 16);
    let (replies, output) = duplex(1 << 16);
    drop(replies);
    let end = tokio::spawn(work(input, output));
    let line = serde_json::to_string(&Request {
        id: 1,
        ask: Ask::Network,
    })
    .unwrap();
    requests
        .write_all(format!("{line}\n").as_bytes())
        .await
        .unwrap();
    // The input stays open: only the deaf ear ends it.
    assert!(
        end.await
            .unwrap()
            .unwrap_err()
            .starts_with("cannot write replies")
    );
}

#[tokio::test]
async fn a_line_that_is_too_long_is_not_kept() {
    let mut input: &[u8] = b"short\n\n  \n0123456789abcdef\nlast";
    let mut next = async || next_line(&mut input, 10).await.unwrap();
    let mut lines = Vec::new();
    while let Some(line) = next().await {
        lines.push((line.bytes.len(), line.too_long));
    }
    assert_eq!(lines, [(5, false), (0, true), (4, false)]);
}
