use std::net::SocketAddr;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;
use crate::check::model::{FormFile, HttpBody, HttpProbe, SEEN_LIMIT, SqlProbe, TcpProbe};

const PATIENCE: Duration = Duration::from_secs(30);

async fn look(probe: Probe) -> Result<Observation, Unseen> {
    Prober::new().unwrap().probe(probe).await.0
}

/// `unanswered` or `undetermined`, and the reason.
fn word(unseen: Unseen) -> (&'static str, String) {
    match unseen {
        Unseen::Unanswered(reason) => ("unanswered", reason),
        Unseen::Undetermined(reason) => ("undetermined", reason),
    }
}

/// Reads a request up to and with its body, as far as its length is told.
async fn request(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
                .unwrap_or(0);
            if body.len() >= length {
                return text;
            }
        }
        if stream.read_buf(&mut read).await.unwrap() == 0 {
            return text;
        }
    }
}

/// Answers each connection with the next of these, then hangs up. Gives back the requests.
async fn answering(answers: Vec<Vec<u8>>) -> (SocketAddr, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = tokio::spawn(async move {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            requests.push(request(&mut stream).await);
            // A client that has read enough may hang up first.
            let _ = stream.write_all(&answer).await;
        }
        requests
    });
    (address, requests)
}

fn get(url: String) -> HttpProbe {
    HttpProbe {
        method: "GET".to_owned(),
        url,
        headers: vec![],
        body: HttpBody::None,
        follow_redirects: false,
        timeout: PATIENCE,
    }
}

async fn http(
    answer: &[u8],
    change: impl FnOnce(&mut HttpProbe),
) -> (Result<Observation, Unseen>, String) {
    let (address, requests) = answering(vec![answer.to_vec()]).await;
    let mut probe = get(format!("http://{address}/a?b=c"));
    change(&mut probe);
    let seen = look(Probe::Http(probe)).await;
    (seen, requests.await.unwrap().remove(0))
}

const OK: &[u8] =
    b"HTTP/1.1 200 OK\r\nX-One: 1\r\nX-One: 2\r\nContent-Length: 5\r\n\r\nhe\xffl\xc3";

#[tokio::test]
async fn an_answer_is_seen_with_its_headers_and_its_body_as_text() {
    let (seen, request) = http(OK, |_| ()).await;
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let expected = Observation::Http {
        status: 200,
        headers: vec![
            header("x-one", "1"),
            header("x-one", "2"),
            header("content-length", "5"),
        ],
        body: "he\u{fffd}l\u{fffd}".to_owned(),
        truncated: false,
    };
    assert_eq!(seen, Ok(expected));
    assert!(request.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("user-agent: rehearse/"), "{request}");
}

#[tokio::test]
async fn a_long_body_is_cut_between_two_characters() {
    let mut answer = b"HTTP/1.1 200 OK\r\n\r\nx".to_vec();
    answer.extend("é".repeat(SEEN_LIMIT).bytes());
    let (seen, _) = http(&answer, |_| ()).await;
    let Ok(Observation::Http {
        body, truncated, ..
    }) = seen
    else {
        panic!("{seen:?}");
    };
    assert_eq!((body.len(), truncated), (SEEN_LIMIT - 1, true));
    assert!(!body.contains('\u{fffd}'));
}

#[tokio::test]
async fn what_a_test_sends_arrives() {
    let post = |body: HttpBody| {
        move |probe: &mut HttpProbe| {
            probe.method = "POST".to_owned();
            probe.body = body;
            probe.headers = vec![("x-token".to_owned(), "t".to_owned())];
        }
    };
    let field = || vec![("title".to_owned(), "a b".to_owned())];
    let paper = FormFile {
        field: "file".to_owned(),
        name: "paper.pdf".to_owned(),
        path: "fixtures/paper.pdf".into(),
        content: b"%PDF".to_vec(),
    };
    let bodies: [(HttpBody, &[&str]); 4] = [
        (HttpBody::Text("hello".to_owned()), &["\r\n\r\nhello"]),
        (
            HttpBody::Json(json!({ "a": 1 })),
            &["content-type: application/json\r\n", "\r\n\r\n{\"a\":1}"],
        ),
        (
            HttpBody::Form {
                fields: field(),
                files: vec![],
            },
            &[
                "content-type: application/x-www-form-urlencoded\r\n",
                "\r\n\r\ntitle=a+b",
            ],
        ),
        (
            HttpBody::Form {
                fields: field(),
                files: vec![paper],
            },
            &[
                "content-type: multipart/form-data; boundary=",
                "name=\"title\"\r\n\r\na b\r\n",
                "name=\"file\"; filename=\"paper.pdf\"",
                "\r\n\r\n%PDF\r\n",
            ],
        ),
    ];
    for (body, parts) in bodies {
        let (seen, request) = http(OK, post(body)).await;
        assert!(seen.is_ok());
        for part in parts
            .iter()
            .chain(&["POST /a?b=c HTTP/1.1\r\n", "x-token: t\r\n"])
        {
            assert!(request.contains(part), "`{part}` in {request}");
        }
    }
    let (_, request) = http(OK, |probe| {
        probe.body = HttpBody::Json(json!(1));
        probe.headers = vec![("Content-Type".to_owned(), "application/ld+json".to_owned())];
    })
    .await;
    assert_eq!(request.matches("content-type").count(), 1, "{request}");
}

#[tokio::test]
async fn redirects_are_followed_only_when_asked() {
    let there = b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n".to_vec();
    let status = |seen| match seen {
        Ok(Observation::Http { status, .. }) => status,
        other => panic!("{other:?}"),
    };
    let (seen, _) = http(&there, |_| ()).await;
    assert_eq!(status(seen), 302);

    let (address, requests) = answering(vec![there.clone(), OK.to_vec()]).await;
    let mut probe = get(format!("http://{address}/"));
    probe.follow_redirects = true;
    assert_eq!(status(look(Probe::Http(probe.clone())).await), 200);
    assert!(requests.await.unwrap()[1].starts_with("GET /there "));

    let (address, requests) = answering(vec![there; 11]).await;
    probe.url = format!("http://{address}/");
    let (word, reason) = word(look(Probe::Http(probe)).await.unwrap_err());
    assert_eq!((word, requests.await.unwrap().len()), ("unanswered", 11));
    assert!(reason.starts_with("too many redirects"), "{reason}");
}

#[tokio::test]
async fn what_is_no_answer_is_unanswered() {
    let broken: [(&[u8], &str); 4] = [
        (b"", "gave no HTTP answer"),
        (b"SSH-2.0-OpenSSH\r\n", "gave no HTTP answer"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
            "the answer broke off after 4 bytes",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "the answer broke off after 0 bytes",
        ),
    ];
    for (answer, expected) in broken {
        let (seen, _) = http(answer, |_| ()).await;
        let (word, reason) = word(seen.unwrap_err());
        assert_eq!(word, "unanswered", "{reason}");
        assert!(reason.contains(expected), "{reason}");
    }
    // TLS asked of a server that has none, and says so before it has understood anything.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let refusal = b"HTTP/1.1 400 Bad Request\r\n\r\n";
        stream.write_all(refusal).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let seen = look(Probe::Http(get(format!("https://{address}/")))).await;
    let (word, reason) = word(seen.unwrap_err());
    assert_eq!(word, "unanswered", "{reason}");
}

/// A port on which nobody listens, for as long as what comes with it is not dropped: its connection holds the port.
async fn closed() -> (u16, TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connecting = TcpStream::connect(("127.0.0.1", port));
    let (ours, theirs) = tokio::join!(connecting, listener.accept());
    (port, ours.unwrap(), theirs.unwrap().0)
}

#[tokio::test]
async fn a_refusal_and_a_silence_are_unanswered_and_nonsense_is_undetermined() {
    let (port, _ours, _theirs) = closed().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = silent.local_addr().unwrap();
    let short = Duration::from_millis(30);
    let http = |url: &str| get(url.to_owned());
    let probes = [
        (
            Probe::Http(http(&format!("http://127.0.0.1:{port}/"))),
            "unanswered",
            "connection refused",
        ),
        (
            Probe::Tcp(tcp_probe(port, None, 0)),
            "unanswered",
            "connection refused",
        ),
        (
            Probe::Sql(sql_probe(port, PATIENCE)),
            "unanswered",
            "connection refused",
        ),
        (
            Probe::Sql(sql_probe(silent.port(), short)),
            "unanswered",
            "timed out after 30ms",
        ),
        (
            Probe::Http(HttpProbe {
                timeout: short,
                ..http(&format!("http://{silent}/"))
            }),
            "unanswered",
            "timed out after 30ms",
        ),
        (
            Probe::Http(http("http//web/")),
            "undetermined",
            "relative URL",
        ),
        (Probe::Http(http("ftp://web/")), "undetermined", "scheme"),
        (
            Probe::Http(HttpProbe {
                method: "G T".to_owned(),
                ..http("http://127.0.0.1/")
            }),
            "undetermined",
            "method",
        ),
        (
            Probe::Http(HttpProbe {
                headers: vec![("a b".to_owned(), String::new())],
                ..http("http://127.0.0.1/")
            }),
            "undetermined",
            "header",
        ),
        (
            Probe::File(crate::check::model::FileProbe {
                service: "web".to_owned(),
                path: "/".to_owned(),
            }),
            "undetermined",
            "file",
        ),
    ];
    for (probe, expected, part) in probes {
        let (word, reason) = word(look(probe).await.unwrap_err());
        assert_eq!(word, expected, "{reason}");
        assert!(reason.contains(part), "{reason}");
    }
}

fn tcp_probe(port: u16, send: Option<&str>, read: usize) -> TcpProbe {
    TcpProbe {
        host: "127.0.0.1".to_owned(),
        port,
        send: send.map(str::to_owned),
        read,
        timeout: PATIENCE,
    }
}

#[tokio::test]
async fn a_connection_is_seen_with_what_the_peer_says() {
    // Sent, bytes to read, what the peer says after it got what was sent, what is seen of it.
    for (send, read, said, expected) in [
        (None, 0, "SSH-2.0", ""),
        (None, 100, "SSH-2.0", "SSH-2.0"),
        (None, 3, "SSH-2.0", "SSH"),
        (Some("PING\n"), 100, "PONG\n", "PONG\n"),
        // It hangs up: there was a connection all the same, and a test of a closed port must not pass.
        (None, 100, "", ""),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let peer = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut got = vec![0; send.map_or(0, str::len)];
            stream.read_exact(&mut got).await.unwrap();
            let _ = stream.write_all(said.as_bytes()).await;
            got
        });
        let seen = look(Probe::Tcp(tcp_probe(port, send, read))).await;
        let banner = expected.to_owned();
        assert_eq!(seen, Ok(Observation::Tcp { banner }), "{said}");
        assert_eq!(peer.await.unwrap(), send.unwrap_or_default().as_bytes());
    }
}

#[tokio::test]
async fn patience_for_a_port_ends_with_the_last_error() {
    let (port, _ours, _theirs) = closed().await;
    let last = tcp::await_tcp("127.0.0.1", port, Duration::from_millis(300)).await;
    let expected = format!("cannot connect to `127.0.0.1:{port}` within 300ms: connection refused");
    assert_eq!(last, Err(expected));
}

fn sql_probe(port: u16, timeout: Duration) -> SqlProbe {
    SqlProbe {
        service: "127.0.0.1".to_owned(),
        port,
        database: "site".to_owned(),
        user: "app".to_owned(),
        password: None,
        query: "select 1".to_owned(),
        timeout,
    }
}

/// One message of PostgreSQL's protocol.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[kind][..], &length.to_be_bytes(), body].concat()
}

/// A server that lets everybody in and answers the first query with this.
async fn database(answer: Vec<u8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let length = stream.read_u32().await.unwrap();
        stream
            .read_exact(&mut vec![0; length as usize - 4])
            .await
            .unwrap();
        let hello = [message(b'R', &[0, 0, 0, 0]), message(b'Z', b"I")].concat();
        stream.write_all(&hello).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'Q');
        stream.write_all(&answer).await.unwrap();
        // Until the client says goodbye.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    port
}

#[tokio::test]
async fn a_result_is_text_and_null() {
    let column = |name: &str| [name.as_bytes(), &[0; 19]].concat();
    let described = [&[0, 2][..], &column("n"), &column("note")].concat();
    let row = [&[0, 2, 0, 0, 0, 1][..], b"1", &[0xff; 4]].concat();
    let done = message(b'C', b"SELECT 1\0");
    let ready = message(b'Z', b"I");
    let table = [message(b'T', &described), message(b'D', &row), done.clone()].concat();
    let port = database([table, ready.clone()].concat()).await;
    let expected = Observation::Sql {
        columns: vec!["n".to_owned(), "note".to_owned()],
        rows: vec![vec![Some("1".to_owned()), None]],
    };
    assert_eq!(
        look(Probe::Sql(sql_probe(port, PATIENCE))).await,
        Ok(expected)
    );

    let port = database([done.clone(), done, ready].concat()).await;
    let seen = look(Probe::Sql(sql_probe(port, PATIENCE))).await;
    assert_eq!(word(seen.unwrap_err()).0, "undetermined");
}

#[tokio::test]
async fn an_error_of_the_server_is_unanswered_with_its_code() {
    let fields = b"SERROR\0VERROR\0C42P01\0Mrelation \"paper\" does not exist\0Hlook again\0\0";
    let port = database([message(b'E', fields), message(b'Z', b"I")].concat()).await;
    let seen = look(Probe::Sql(sql_probe(port, PATIENCE))).await;
    let expected =
        "the query failed: ERROR 42P01: relation \"paper\" does not exist; HINT: look again";
    assert_eq!(seen, Err(Unseen::Unanswered(expected.to_owned())));
}
