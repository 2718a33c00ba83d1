//! The kinds of tests: what is asked.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::check::model::{
    ExecProbe, Expect, FileProbe, FormFile, HttpBody, HttpProbe, Probe, SqlProbe, TcpProbe,
};
use crate::manifest::decode::{
    Fields, any_text, boolean, container_path, duration, entries, json, list, number, one_or_more,
    string, text,
};
use crate::manifest::paths;
use crate::manifest::place::At;
use crate::manifest::problem::Problems;
use crate::manifest::tree::{Kind, Node};

const HTTP: Duration = Duration::from_secs(10);
const TCP: Duration = Duration::from_secs(5);
const LONG: Duration = Duration::from_secs(30);
/// What is read of a TCP answer as soon as something is expected of it.
const BANNER: usize = 1024;

/// A probe and what it names.
pub(crate) struct Probed {
    pub(crate) probe: Probe,
    pub(crate) service: Option<At<String>>,
    pub(crate) host: Option<At<String>>,
    pub(crate) within: Option<Duration>,
    pub(crate) default_user: bool,
}

impl Probed {
    fn new(probe: Probe) -> Self {
        Self {
            probe,
            service: None,
            host: None,
            within: None,
            default_user: false,
        }
    }
}

pub(super) fn decode(kind: &str, node: &Arc<Node>, dir: &Path, p: &mut Problems) -> Option<Probed> {
    match kind {
        "http" => http(node, dir, p),
        "tcp" => tcp(node, p),
        "sql" => sql(node, p),
        "exec" => exec(node, p),
        "file" => file(node, p),
        // Only the kinds of the list above come here.
        _ => None,
    }
}

/// What the expectations tell the probe: what must be read, and that a limit below which an answer is expected
/// can be judged before the deadline ends it all.
pub(super) fn fit(probe: &mut Probe, expect: &Expect) {
    let (within, timeout) = match (probe, expect) {
        (Probe::Http(probe), Expect::Http(expect)) => (expect.within, &mut probe.timeout),
        (Probe::Sql(probe), Expect::Sql(expect)) => (expect.within, &mut probe.timeout),
        (Probe::Exec(probe), Expect::Exec(expect)) => (expect.within, &mut probe.timeout),
        (Probe::Tcp(probe), Expect::Tcp(expect)) => {
            if expect.banner.is_some() && probe.read == 0 {
                probe.read = BANNER;
            }
            (expect.within, &mut probe.timeout)
        }
        _ => return,
    };
    if let Some(within) = within.filter(|within| *within >= *timeout) {
        *timeout = within.saturating_mul(2);
    }
}

const METHODS: [(&str, &str); 7] = [
    ("url", "GET"),
    ("get", "GET"),
    ("post", "POST"),
    ("put", "PUT"),
    ("patch", "PATCH"),
    ("delete", "DELETE"),
    ("head", "HEAD"),
];

fn http(node: &Arc<Node>, dir: &Path, p: &mut Problems) -> Option<Probed> {
    let mut f = Fields::of(node, "`http`", p)?;
    let given: Vec<_> = METHODS.into_iter().filter(|(key, _)| f.has(key)).collect();
    let mut target = None;
    for (key, method) in METHODS {
        if let Some(url) = f.opt(key, p, url) {
            target = Some((method, url));
        }
    }
    if given.len() != 1 {
        let keys = METHODS.map(|(key, _)| format!("`{key}`")).join(", ");
        p.push(f.place.problem(format!(
            "`http` has {} of {keys}",
            if given.is_empty() { "none" } else { "several" }
        )));
    }
    let headers = f.opt("headers", p, pairs).unwrap_or_default();
    let body = body(&mut f, dir, p);
    let follow_redirects = f.opt("follow_redirects", p, boolean).unwrap_or_default();
    let within = f.opt("within", p, duration);
    let timeout = f.opt("timeout", p, duration).unwrap_or(HTTP);
    f.finish(p);
    let (method, (url, host)) = target?;
    let mut probed = Probed::new(Probe::Http(HttpProbe {
        method: method.to_owned(),
        url,
        headers,
        body: body?,
        follow_redirects,
        timeout,
    }));
    probed.host = Some(host);
    probed.within = within;
    Some(probed)
}

/// A plain `GET` of a URL.
pub(super) fn get(node: &Arc<Node>, p: &mut Problems) -> Option<Probed> {
    let (url, host) = url(node, p)?;
    let mut probed = Probed::new(Probe::Http(HttpProbe {
        method: "GET".to_owned(),
        url,
        headers: Vec::new(),
        body: HttpBody::None,
        follow_redirects: false,
        timeout: HTTP,
    }));
    probed.host = Some(host);
    Some(probed)
}

/// The URL and its host.
fn url(node: &Arc<Node>, p: &mut Problems) -> Option<(String, At<String>)> {
    let written = text(node, p)?;
    let parsed = reqwest::Url::parse(&written.value);
    let fault = match &parsed {
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            Some("its scheme is neither http nor https".to_owned())
        }
        Ok(url) if url.host_str().is_none_or(str::is_empty) => Some("it has no host".to_owned()),
        Ok(_) => None,
        Err(error) => Some(error.to_string()),
    };
    if let Some(fault) = fault {
        p.push(
            written
                .place
                .problem(format!(
                    "`{}` is not a URL that can be tested: {fault}",
                    written.value
                ))
                .help("write it whole, with a service as its host: `http://web/`"),
        );
        return None;
    }
    let host = parsed.ok()?.host_str()?.to_owned();
    Some((written.value, At::new(host, written.place)))
}

fn pairs(node: &Arc<Node>, p: &mut Problems) -> Option<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    for entry in entries(node, p)? {
        for value in one_or_more(&entry.value, p, any_text).unwrap_or_default() {
            pairs.push((entry.key.value.clone(), value.value));
        }
    }
    Some(pairs)
}

fn body(f: &mut Fields<'_>, dir: &Path, p: &mut Problems) -> Option<HttpBody> {
    let multipart = f.has("form") || f.has("file");
    let given = usize::from(multipart) + usize::from(f.has("json")) + usize::from(f.has("body"));
    if given > 1 {
        p.push(
            f.place
                .problem("`http` sends more than one body")
                .help("choose one of `body`, `json`, and `form` with or without `file`"),
        );
    }
    // `json: null` is a document too, so it is not asked for as other keys are.
    let document = f.raw("json").map(json);
    let text = f.opt("body", p, any_text);
    let fields = f.opt("form", p, pairs);
    let files = f.opt("file", p, |node, p| match &node.kind {
        Kind::Scalar { .. } => {
            upload("file".to_owned(), text_path(node, dir, p)).map(|file| vec![file])
        }
        Kind::Empty | Kind::Null | Kind::List(_) | Kind::Map(_) => {
            one_or_more(node, p, |node, p| {
                let mut f = Fields::of(node, "a file to upload", p)?;
                let field = f
                    .opt("field", p, string)
                    .unwrap_or_else(|| "file".to_owned());
                let path = f.req("path", p, |node, p| text_path(node, dir, p));
                f.finish(p);
                upload(field, path)
            })
        }
    });
    if multipart {
        return Some(HttpBody::Form {
            fields: fields.unwrap_or_default(),
            files: files.unwrap_or_default(),
        });
    }
    Some(match (document, text) {
        (Some(document), _) => HttpBody::Json(document),
        (None, Some(text)) => HttpBody::Text(text.value),
        (None, None) => HttpBody::None,
    })
}

fn text_path(node: &Arc<Node>, dir: &Path, p: &mut Problems) -> Option<std::path::PathBuf> {
    let written = text(node, p)?;
    let path = paths::join(dir, &written.value);
    if !path.is_file() {
        p.push(
            written
                .place
                .problem(format!("there is no file `{}`", path.display()))
                .help("paths start from the folder of the test plan"),
        );
    }
    Some(path)
}

fn upload(field: String, path: Option<std::path::PathBuf>) -> Option<FormFile> {
    let path = path?;
    Some(FormFile {
        field,
        name: path.file_name()?.to_string_lossy().into_owned(),
        path,
        content: Vec::new(),
    })
}

fn tcp(node: &Arc<Node>, p: &mut Problems) -> Option<Probed> {
    let (host, port, send, read, timeout) = if let Kind::Scalar { .. } = node.kind {
        let written = text(node, p)?;
        let (host, port) = address(&written, p)?;
        (host, port, None, 0, TCP)
    } else {
        let mut f = Fields::of(node, "`tcp`", p)?;
        let host = f.req("host", p, text);
        let port = f.req("port", p, number::<u16>);
        let send = f.opt("send", p, string);
        let read = f.opt("read", p, number::<usize>).unwrap_or(0);
        let timeout = f.opt("timeout", p, duration).unwrap_or(TCP);
        f.finish(p);
        (host?, port?, send, read.min(1 << 20), timeout)
    };
    let mut probed = Probed::new(Probe::Tcp(TcpProbe {
        host: host.value.clone(),
        port,
        send,
        read,
        timeout,
    }));
    probed.host = Some(host);
    Some(probed)
}

fn address(written: &At<String>, p: &mut Problems) -> Option<(At<String>, u16)> {
    let parsed = written
        .value
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host, port.parse::<u16>().ok().filter(|port| *port > 0)?)))
        .filter(|(host, _)| !host.is_empty());
    let Some((host, port)) = parsed else {
        p.push(
            written
                .place
                .problem(format!("`{}` is not `host:port`", written.value))
                .help("write a service and its port: `db:5432`"),
        );
        return None;
    };
    Some((At::new(host.to_owned(), written.place.clone()), port))
}

fn sql(node: &Arc<Node>, p: &mut Problems) -> Option<Probed> {
    let mut f = Fields::of(node, "`sql`", p)?;
    let service = f.req("service", p, text);
    let database = f.req("database", p, string);
    let query = f.req("query", p, string);
    let port = f.opt("port", p, number::<u16>).unwrap_or(5432);
    let user = f.opt("user", p, string);
    let password = f.opt("password", p, any_text).map(|at| at.value);
    let timeout = f.opt("timeout", p, duration).unwrap_or(LONG);
    f.finish(p);
    let service = service?;
    let mut probed = Probed::new(Probe::Sql(SqlProbe {
        service: service.value.clone(),
        port,
        database: database?,
        user: user.clone().unwrap_or_default(),
        password,
        query: query?,
        timeout,
    }));
    probed.service = Some(service);
    probed.default_user = user.is_none();
    Some(probed)
}

fn exec(node: &Arc<Node>, p: &mut Problems) -> Option<Probed> {
    let mut f = Fields::of(node, "`exec`", p)?;
    let service = f.req("service", p, text);
    let user = f.opt("user", p, string);
    let timeout = f.opt("timeout", p, duration).unwrap_or(LONG);
    let command = |node: &Arc<Node>, p: &mut Problems| match &node.kind {
        Kind::List(_) => list(node, p, |item, p| any_text(item, p).map(|at| at.value))
            .filter(|words| !words.is_empty()),
        Kind::Empty | Kind::Null | Kind::Scalar { .. } | Kind::Map(_) => {
            Some(vec!["sh".to_owned(), "-c".to_owned(), string(node, p)?])
        }
    };
    let given = (f.has("run"), f.has("command"));
    let run = f.opt("run", p, command);
    let words = f.opt("command", p, command);
    if given == (true, true) {
        p.push(
            f.place
                .problem("`exec` has both `run` and `command`")
                .help("they mean the same; keep one"),
        );
    } else if given == (false, false) {
        p.push(f.place.problem("`exec` has no `run`"));
    }
    f.finish(p);
    let service = service?;
    let mut probed = Probed::new(Probe::Exec(ExecProbe {
        service: service.value.clone(),
        command: run.or(words)?,
        user,
        timeout,
    }));
    probed.service = Some(service);
    Some(probed)
}

fn file(node: &Arc<Node>, p: &mut Problems) -> Option<Probed> {
    let mut f = Fields::of(node, "`file`", p)?;
    let service = f.req("service", p, text);
    let path = f.req("path", p, container_path);
    f.finish(p);
    let service = service?;
    let mut probed = Probed::new(Probe::File(FileProbe {
        service: service.value.clone(),
        path: path?,
    }));
    probed.service = Some(service);
    Some(probed)
}
