//! Posting a message, and trying again where that may help.

use std::error::Error as _;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};

use super::sign::Secret;

/// How long and how often delivery is tried.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// At most this many requests.
    pub tries: u32,
    /// What each may take.
    pub each: Duration,
    /// The pause after the first, before it is varied; each later one is twice as long.
    pub pause: Duration,
    /// All requests and pauses together.
    pub total: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            tries: 5,
            each: Duration::from_secs(10),
            pause: Duration::from_secs(1),
            total: Duration::from_secs(60),
        }
    }
}

/// Where messages go. What it prints of itself is scheme, host and port: the rest of such an address is often a
/// password.
pub struct Receiver {
    url: Url,
    secret: Secret,
    client: Client,
    patience: Patience,
}

/// Why there can be no notifications.
#[derive(Debug, thiserror::Error)]
pub enum ReceiverError {
    /// The address is none, or not one of HTTP. Does not quote it: it may hold a password.
    #[error("the address of --notify is not an http:// or https:// URL: {0}")]
    Address(String),
    /// The HTTP client cannot be made, likely for want of root certificates.
    #[error("cannot make an HTTP client: {0}")]
    Client(String),
}

/// A message that did not arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undelivered {
    /// How many requests were made.
    pub tries: u32,
    /// What came of the last one.
    pub reason: String,
}

/// What came of one request.
enum Answer {
    Taken,
    /// It may be taken another time.
    Later(String),
    /// It will never be taken.
    Never(String),
}

impl Receiver {
    /// Fails where the address is not one of HTTP, or this machine has no root certificates to check it with.
    pub fn new(url: &str, secret: Secret, patience: Patience) -> Result<Self, ReceiverError> {
        let url = Url::parse(url).map_err(|error| ReceiverError::Address(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(ReceiverError::Address("it has another scheme".to_owned()));
        }
        // Another part of the program may have installed it already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .user_agent(concat!("rehearse/", env!("CARGO_PKG_VERSION")))
            // A signed message goes where it was sent, and nowhere else.
            .redirect(Policy::none())
            .timeout(patience.each)
            // Where no certificate is looked at, a machine without root certificates is as good as any.
            .tls_danger_accept_invalid_certs(url.scheme() == "http")
            .build()
            .map_err(|error| ReceiverError::Client(chain(error)))?;
        Ok(Self {
            url,
            secret,
            client,
            patience,
        })
    }

    /// Posts a message until it is taken, will never be taken, or patience ends. Returns how many requests it took.
    ///
    /// Tried again are answers of 500 and above, 429, and requests that got no answer. A message may arrive twice
    /// that way; its id is the same.
    pub async fn deliver(&self, id: &str, body: &[u8]) -> Result<u32, Undelivered> {
        let begun = tokio::time::Instant::now();
        let mut pause = self.patience.pause;
        let mut tries = 0;
        loop {
            tries += 1;
            let reason = match self.post(id, body).await {
                Answer::Taken => return Ok(tries),
                Answer::Never(reason) => return Err(Undelivered { tries, reason }),
                Answer::Later(reason) => reason,
            };
            // Between half of the pause and one and a half: those who lost a receiver together do not return together.
            let wait = pause.mul_f64(0.5 + fastrand::f64());
            let over = begun.elapsed() + wait + self.patience.each > self.patience.total;
            if tries >= self.patience.tries || over {
                return Err(Undelivered { tries, reason });
            }
            tokio::time::sleep(wait).await;
            pause *= 2;
        }
    }

    async fn post(&self, id: &str, body: &[u8]) -> Answer {
        // Of each try: receivers refuse a time that is minutes off.
        let timestamp = Timestamp::now().as_second();
        let request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", self.secret.sign(id, timestamp, body))
            .body(body.to_vec());
        match request.send().await {
            Ok(answer) => judged(answer.status()),
            Err(error) if error.is_builder() => Answer::Never(chain(error)),
            // Another try meets the same certificate, and whoever answers is not known to be the receiver.
            Err(error) if is_certificate(&error) => Answer::Never(format!(
                "its certificate is not to be trusted: {}; for a CA of your own name its file with SSL_CERT_FILE",
                chain(error)
            )),
            Err(error) => Answer::Later(chain(error)),
        }
    }
}

impl std::fmt::Display for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let host = self.url.host_str().unwrap_or_default();
        write!(f, "{}://{host}", self.url.scheme())?;
        self.url.port().map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

fn judged(status: StatusCode) -> Answer {
    let said = format!("it answered {status}");
    if status.is_success() {
        Answer::Taken
    } else if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        Answer::Later(said)
    } else {
        Answer::Never(said)
    }
}

/// True where the other side's certificate was looked at and refused.
fn is_certificate(error: &(dyn std::error::Error + 'static)) -> bool {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return matches!(tls, rustls::Error::InvalidCertificate(_));
    }
    // An input and output error does not name what it carries as its source, but what is behind that.
    let carried = error
        .downcast_ref::<std::io::Error>()
        .and_then(std::io::Error::get_ref);
    carried.is_some_and(|carried| is_certificate(carried))
        || error.source().is_some_and(is_certificate)
}

/// An error with its causes, without the address.
fn chain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        said = format!("{said}: {next}");
        cause = next.source();
    }
    said
}
