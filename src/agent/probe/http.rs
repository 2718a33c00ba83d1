//! One HTTP exchange.

use std::error::Error as _;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::multipart::{Form, Part};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, Url};

use crate::agent::fault;
use crate::check::model::{HttpBody, HttpProbe, Observation, SEEN_LIMIT, Unseen};

/// Redirects that are followed where a test asks for it.
const REDIRECTS: usize = 10;

/// One client for tests that follow redirects and one for those that do not.
pub(super) struct Clients {
    following: Client,
    staying: Client,
}

impl Clients {
    /// # Errors
    /// The TLS library cannot be set up.
    pub(super) fn new() -> Result<Self, String> {
        // Another part of the program may have installed it already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = |policy: Policy| {
            Client::builder()
                .user_agent(concat!("rehearse/", env!("CARGO_PKG_VERSION")))
                .no_proxy()
                .redirect(policy)
                // Each test comes as a new visitor: a connection left over from before a deploy would hide that
                // nobody can connect any more.
                .pool_max_idle_per_host(0)
                // There is no certificate store in this image, and staging seldom has real certificates: whether
                // a certificate is good is for tests of kind `tls` to judge, not a condition of looking at a page.
                .tls_danger_accept_invalid_certs(true)
                .build()
                .map_err(|error| format!("cannot make an HTTP client: {}", fault::say(&error)))
        };
        Ok(Self {
            following: client(Policy::limited(REDIRECTS))?,
            staying: client(Policy::none())?,
        })
    }
}

pub(super) async fn probe(clients: &Clients, probe: HttpProbe) -> Result<Observation, Unseen> {
    let patience = probe.timeout;
    let client = match probe.follow_redirects {
        true => &clients.following,
        false => &clients.staying,
    };
    let request = request(client, probe).map_err(Unseen::Undetermined)?;
    match tokio::time::timeout(patience, exchange(request)).await {
        Ok(seen) => seen,
        Err(_) => Err(Unseen::Unanswered(fault::timed_out(patience))),
    }
}

/// # Errors
/// The test plan asks for something that is not HTTP.
fn request(client: &Client, probe: HttpProbe) -> Result<RequestBuilder, String> {
    let method = Method::from_bytes(probe.method.as_bytes())
        .map_err(|_| format!("`{}` is not an HTTP method", probe.method))?;
    let url = Url::parse(&probe.url).map_err(|error| format!("`{}`: {error}", probe.url))?;
    let mut request = client.request(method, url);
    request = match probe.body {
        HttpBody::None => request,
        HttpBody::Text(text) => request.body(text),
        HttpBody::Json(value) => request
            .header(CONTENT_TYPE, "application/json")
            .body(value.to_string()),
        HttpBody::Form { fields, files } if files.is_empty() => request.form(&fields),
        HttpBody::Form { fields, files } => {
            let mut form = Form::new();
            for (name, value) in fields {
                form = form.text(name, value);
            }
            for file in files {
                let part = Part::bytes(file.content)
                    .file_name(file.name)
                    .mime_str("application/octet-stream")
                    .map_err(|error| error.to_string())?;
                form = form.part(file.field, part);
            }
            request.multipart(form)
        }
    };
    let mut headers = HeaderMap::new();
    for (name, value) in &probe.headers {
        let bad = |what: &str| format!("header `{name}: {value}`: {what}");
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).map_err(|error| bad(&error.to_string()))?,
            HeaderValue::from_str(value).map_err(|error| bad(&error.to_string()))?,
        );
    }
    // Takes the place of what the body brought along.
    Ok(request.headers(headers))
}

async fn exchange(request: RequestBuilder) -> Result<Observation, Unseen> {
    let mut response = request.send().await.map_err(|error| unseen(&error))?;
    let status = response.status().as_u16();
    let headers = response
        .headers()
        .iter()
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        })
        .collect();
    let mut body = Vec::new();
    let mut truncated = false;
    loop {
        let chunk = match response.chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            Err(error) => {
                let what = format!("the answer broke off after {} bytes", body.len());
                return Err(fault::unseen(&what, &error));
            }
        };
        let room = SEEN_LIMIT - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            truncated = true;
            break;
        }
    }
    Ok(Observation::Http {
        status,
        headers,
        body: text(body, truncated),
        truncated,
    })
}

/// The body as text, without the half of a character that a cut may leave.
fn text(mut body: Vec<u8>, truncated: bool) -> String {
    if truncated
        && let Err(error) = std::str::from_utf8(&body)
        && error.error_len().is_none()
    {
        body.truncate(error.valid_up_to());
    }
    String::from_utf8(body)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn unseen(error: &reqwest::Error) -> Unseen {
    let host = error
        .url()
        .map(|url| format!("`{}`", url.authority()))
        .unwrap_or_default();
    if error.is_builder() {
        return Unseen::Undetermined(format!("cannot ask {host}: {}", fault::say(error)));
    }
    let what = if error.is_connect() {
        format!("cannot connect to {host}")
    } else if error.is_redirect() {
        format!("too many redirects, the last to {host}")
    } else {
        format!("{host} gave no HTTP answer")
    };
    match error.source() {
        Some(source) if !error.is_redirect() => fault::unseen(&what, source),
        Some(_) | None => Unseen::Unanswered(what),
    }
}
