//! Answers HTTP by a list of routes.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::{LOGGED_WORD, Log, logged, tls, word};
use crate::check::model::Received;
use crate::event::Exchange;
use crate::plan::model::{Route, RouteBody, fits};
use crate::template;

/// Bytes of a request's body that are kept; the rest is read and forgotten.
const KEPT: usize = 1 << 20;

/// Headers whose values are written down. Any other may prove who somebody is, and nobody needs that to judge a deploy.
const RECORDED: [&str; 5] = [
    "accept",
    "content-length",
    "content-type",
    "host",
    "user-agent",
];

/// A key of a query with one of these in it may stand before a secret.
const SECRETIVE: [&str; 6] = ["key", "token", "secret", "sig", "pass", "auth"];

/// What is written down in place of a value.
const NOT_RECORDED: &str = "(not recorded)";

/// The routes, and where requests are written down.
pub(super) struct Site {
    routes: Vec<Route>,
    log: Log,
}

/// A request as it was read.
struct Asked {
    method: String,
    host: String,
    path: String,
    query: String,
    headers: HeaderMap,
    body: Vec<u8>,
    /// Bytes of the whole body.
    bytes: u64,
    /// Why the body did not come to its end.
    broken: Option<String>,
}

/// What is said to a request.
#[derive(Debug)]
struct Said {
    matched: bool,
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    delay: std::time::Duration,
    /// Why it is not matched.
    note: String,
}

impl Said {
    /// No route fits.
    fn unmatched(status: u16, note: String) -> Self {
        Self {
            matched: false,
            status,
            headers: vec![(
                "content-type".to_owned(),
                "text/plain; charset=utf-8".to_owned(),
            )],
            body: format!("emulator: {note}\n").into_bytes(),
            delay: std::time::Duration::ZERO,
            note,
        }
    }
}

/// A connection without TLS.
pub(super) async fn plain(site: Arc<Site>, stream: TcpStream, asker: String) {
    converse(site, stream, asker, Exchange::Http).await;
}

/// A connection with TLS.
pub(super) async fn secure(
    site: Arc<Site>,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    asker: String,
) {
    if let Some(stream) = tls::accept(&acceptor, &site.log, stream, &asker).await {
        converse(site, stream, asker, Exchange::Https).await;
    }
}

async fn converse(
    site: Arc<Site>,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    asker: String,
    kind: Exchange,
) {
    let service = service_fn(|request| {
        let (site, asker) = (Arc::clone(&site), asker.clone());
        async move { site.answer(request, asker, kind).await }
    });
    let ended = http1::Builder::new()
        .timer(TokioTimer::new())
        // Who has said all, or hangs up at once, has still asked for it.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    // Something was sent that is no request: nothing that a route could fit.
    if ended.is_err_and(|error| error.is_parse()) {
        // The connection is over, whether this is heard or not.
        let _ = site.log.write(Received {
            kind,
            asker,
            method: "unreadable".to_owned(),
            path: "request".to_owned(),
            matched: false,
            status: Some(400),
            note: "what was sent is not HTTP/1.1".to_owned(),
            ..Received::default()
        });
    }
}

impl Site {
    pub(super) const fn new(routes: Vec<Route>, log: Log) -> Self {
        Self { routes, log }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        asker: String,
        kind: Exchange,
    ) -> Result<Response<Full<Bytes>>, String> {
        let under_way = self.log.under_way();
        let asked = read(request).await;
        let said = match &asked.broken {
            Some(why) => Said::unmatched(400, why.clone()),
            None => self.say(&asked).await,
        };
        let (body, cut) = logged(&asked.body);
        self.log.write(Received {
            kind,
            asker,
            host: asked.host.clone(),
            method: asked.method.clone(),
            path: asked.path.clone(),
            query: recorded_query(&asked.query),
            headers: recorded(&asked.headers),
            body,
            cut: cut || asked.bytes > asked.body.len() as u64,
            bytes: asked.bytes,
            matched: said.matched,
            status: Some(said.status),
            note: said.note.clone(),
            ..Received::default()
        })?;
        drop(under_way);
        if let Some(why) = asked.broken {
            return Err(why);
        }
        tokio::time::sleep(said.delay).await;
        response(said)
    }

    /// The first route that fits answers.
    async fn say(&self, asked: &Asked) -> Said {
        let fitting = self.routes.iter().find(|route| {
            let method = route
                .method
                .as_ref()
                .is_none_or(|method| *method == asked.method);
            method && fits(&route.path, &asked.path)
        });
        let Some(route) = fitting else {
            return Said::unmatched(404, "no route fits".to_owned());
        };
        let body = match &route.body {
            RouteBody::Empty => Ok(Vec::new()),
            RouteBody::Template(source) => template::fill(source, &document(asked))
                .map(String::into_bytes)
                // The request lacks what the answer is made of, so it is not one that this route is for.
                .map_err(|why| {
                    let note = format!(
                        "the request lacks what the body of route {} is made of: {why}",
                        route.path
                    );
                    Said::unmatched(400, note)
                }),
            RouteBody::File(path) => tokio::fs::read(path).await.map_err(|error| {
                Said::unmatched(500, format!("cannot read `{}`: {error}", path.display()))
            }),
        };
        match body {
            Ok(body) => Said {
                matched: true,
                status: route.status,
                headers: route.headers.clone(),
                body,
                delay: route.delay,
                note: String::new(),
            },
            Err(said) => said,
        }
    }
}

/// Reads a request to its end, or as far as it comes.
async fn read(request: Request<Incoming>) -> Asked {
    let (head, mut incoming) = request.into_parts();
    let host = head
        .uri
        .host()
        .map(str::to_owned)
        .or_else(|| Some(head.headers.get("host")?.to_str().ok()?.to_owned()))
        .unwrap_or_default();
    let mut asked = Asked {
        method: head.method.as_str().to_owned(),
        host,
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head.headers,
        body: Vec::new(),
        bytes: 0,
        broken: None,
    };
    while let Some(frame) = incoming.frame().await {
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => {
                asked.broken = Some(format!("the body broke off: {error}"));
                break;
            }
        };
        if let Some(chunk) = frame.data_ref() {
            let most = KEPT.saturating_sub(asked.body.len()).min(chunk.len());
            asked.body.extend_from_slice(&chunk[..most]);
            asked.bytes += chunk.len() as u64;
        }
    }
    asked
}

/// What a template sees.
fn document(asked: &Asked) -> Value {
    let headers: BTreeMap<&str, String> = asked
        .headers
        .iter()
        .map(|(name, value)| {
            (
                name.as_str(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        })
        .collect();
    // The host is of no account here: only the parsing of the query is.
    let query: BTreeMap<String, String> =
        reqwest::Url::parse(&format!("http://x/?{}", asked.query))
            .map(|url| url.query_pairs().into_owned().collect())
            .unwrap_or_default();
    let mut request = json!({
        "method": asked.method,
        "host": asked.host,
        "path": asked.path,
        "query": query,
        "headers": headers,
        "body": String::from_utf8_lossy(&asked.body),
    });
    let whole = asked.bytes == asked.body.len() as u64;
    if whole && let Ok(document) = serde_json::from_slice::<Value>(&asked.body) {
        request["json"] = document;
    }
    json!({ "request": request })
}

/// Headers as they are written down.
fn recorded(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut most = 4 * LOGGED_WORD;
    let mut recorded = Vec::new();
    for (name, value) in headers {
        let value = if RECORDED.contains(&name.as_str()) {
            word(String::from_utf8_lossy(value.as_bytes()).into_owned())
        } else {
            NOT_RECORDED.to_owned()
        };
        let Some(left) = most.checked_sub(name.as_str().len() + value.len()) else {
            break;
        };
        most = left;
        recorded.push((name.as_str().to_owned(), value));
    }
    recorded
}

/// A query as it is written down.
fn recorded_query(query: &str) -> String {
    let recorded = |pair: &str| match pair.split_once('=') {
        Some((key, _)) if is_secretive(key) => format!("{key}={NOT_RECORDED}"),
        Some(_) | None => pair.to_owned(),
    };
    query.split('&').map(recorded).collect::<Vec<_>>().join("&")
}

/// Whether a secret may stand behind this key. One that is written with `%` is read by nobody here, so it may.
fn is_secretive(key: &str) -> bool {
    let key = key.to_lowercase();
    key.contains('%') || SECRETIVE.iter().any(|word| key.contains(word))
}

fn response(said: Said) -> Result<Response<Full<Bytes>>, String> {
    let mut response = Response::new(Full::new(Bytes::from(said.body)));
    *response.status_mut() =
        StatusCode::from_u16(said.status).map_err(|error| error.to_string())?;
    for (name, value) in said.headers {
        let name = HeaderName::try_from(name).map_err(|error| error.to_string())?;
        let value = HeaderValue::try_from(value).map_err(|error| error.to_string())?;
        response.headers_mut().append(name, value);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn route(method: Option<&str>, path: &str, body: RouteBody) -> Route {
        Route {
            path: path.to_owned(),
            method: method.map(str::to_owned),
            status: 201,
            headers: vec![
                ("x-a".to_owned(), "1".to_owned()),
                ("x-a".to_owned(), "2".to_owned()),
            ],
            body,
            delay: std::time::Duration::ZERO,
        }
    }

    fn site() -> Site {
        let text = |text: &str| RouteBody::Template(text.to_owned());
        let routes = vec![
            route(
                Some("POST"),
                "/charge",
                text("{{ request.json.id }} of {{ request.headers[\"x-who\"] }}"),
            ),
            route(
                None,
                "/echo/*",
                text(
                    "{{ request.method }} {{ request.path }} {{ request.query.q }} {{ request.body }}",
                ),
            ),
            route(
                Some("GET"),
                "/echo/never",
                text("the first that fits answers"),
            ),
            route(None, "/gone", RouteBody::File("/nothing/here".into())),
        ];
        Site::new(routes, Log::new())
    }

    fn asked(method: &str, path: &str, body: &str) -> Asked {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut headers = HeaderMap::new();
        headers.insert("x-who", HeaderValue::from_static("anna"));
        headers.insert("authorization", HeaderValue::from_static("Bearer x"));
        headers.insert("content-type", HeaderValue::from_static("text/plain"));
        Asked {
            method: method.to_owned(),
            host: "api.example".to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers,
            body: body.as_bytes().to_vec(),
            bytes: body.len() as u64,
            broken: None,
        }
    }

    #[tokio::test]
    async fn who_hangs_up_has_still_asked() {
        for (length, hangs_up, answer) in [
            (11, false, Some("HTTP/1.1 201")),
            // Nobody is left who would read an answer.
            (11, true, None),
            // The body breaks off.
            (20, false, None),
        ] {
            let site = Arc::new(site());
            let (mut theirs, ours) = tokio::io::duplex(4096);
            let request = format!(
                "POST /charge HTTP/1.1\r\nhost: x\r\nx-who: anna\r\ncontent-length: {length}\r\n\r\n{{\"id\": \"x\"}}"
            );
            theirs.write_all(request.as_bytes()).await.unwrap();
            theirs.shutdown().await.unwrap();
            let asker = "10.0.0.1".to_owned();
            let serving = converse(Arc::clone(&site), ours, asker, Exchange::Http);
            let mut said = String::new();
            if hangs_up {
                drop(theirs);
                serving.await;
            } else {
                let (_, read) = tokio::join!(serving, theirs.read_to_string(&mut said));
                read.unwrap();
            }
            assert_eq!(*site.log.received.lock().unwrap(), 1, "{length} {hangs_up}");
            if let Some(answer) = answer {
                assert!(said.starts_with(answer), "{said}");
            }
        }
    }

    #[tokio::test]
    async fn an_answer_comes_after_its_delay() {
        let delay = std::time::Duration::from_millis(200);
        let slow = Route {
            delay,
            ..route(None, "/slow", RouteBody::Empty)
        };
        let site = Arc::new(Site::new(vec![slow], Log::new()));
        let (mut theirs, ours) = tokio::io::duplex(4096);
        let begun = std::time::Instant::now();
        let serving = converse(site, ours, "10.0.0.1".to_owned(), Exchange::Http);
        theirs
            .write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut said = String::new();
        let (_, read) = tokio::join!(serving, theirs.read_to_string(&mut said));
        read.unwrap();
        assert!(said.starts_with("HTTP/1.1 201"), "{said}");
        assert!(begun.elapsed() >= delay, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn the_first_route_that_fits_answers_and_nothing_else_is_matched() {
        let site = site();
        for (method, path, body, status, said) in [
            ("POST", "/charge", r#"{"id": "x"}"#, 201, Some("x of anna")),
            ("GET", "/charge", "", 404, None),
            ("POST", "/charge/", "{}", 404, None),
            // What the answer is made of is not there.
            ("POST", "/charge", "{}", 400, None),
            ("POST", "/charge", "no json", 400, None),
            (
                "PUT",
                "/echo/a%20b?q=a+b&r=1",
                "hi",
                201,
                Some("PUT /echo/a%20b a b hi"),
            ),
            (
                "GET",
                "/echo/never?q=1",
                "",
                201,
                Some("GET /echo/never 1 "),
            ),
            ("GET", "/gone", "", 500, None),
        ] {
            let answer = site.say(&asked(method, path, body)).await;
            assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
            assert_eq!(answer.matched, said.is_some(), "{method} {path}");
            if let Some(said) = said {
                assert_eq!(String::from_utf8_lossy(&answer.body), said);
            }
        }
    }

    #[test]
    fn what_proves_who_somebody_is_is_not_written_down() {
        let asked = asked("GET", "/", "");
        assert_eq!(
            recorded(&asked.headers),
            [
                ("x-who".to_owned(), "(not recorded)".to_owned()),
                ("authorization".to_owned(), "(not recorded)".to_owned()),
                ("content-type".to_owned(), "text/plain".to_owned()),
            ]
        );
        for (query, written) in [
            ("", ""),
            ("q=a+b&r", "q=a+b&r"),
            (
                "q=1&API_Key=x&X-Signature=y",
                "q=1&API_Key=(not recorded)&X-Signature=(not recorded)",
            ),
            ("tok%65n=x", "tok%65n=(not recorded)"),
        ] {
            assert_eq!(recorded_query(query), written);
        }
        assert_eq!(word("x".repeat(2000)), "(2000 bytes)");
    }
}
