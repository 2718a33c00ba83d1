//! A test, what was seen, and what was expected: the words between test plan, agent and judgement.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::Exchange;
use crate::plan::model::Location;

/// One test of a test plan.
#[derive(Clone, Debug, Serialize)]
pub struct Test {
    /// Unique in its test plan.
    pub name: String,
    /// What to do.
    pub probe: Probe,
    /// What must be seen. It asserts at least one thing.
    pub expect: Expect,
    /// When it runs.
    pub when: Vec<When>,
    /// How long and how often to try until it passes.
    pub retry: Option<Retry>,
    /// Free words to pick tests by.
    pub tags: Vec<String>,
    /// What a false expectation means.
    pub severity: Severity,
    /// Where it is written.
    pub location: Location,
}

/// When a test runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// Before the deploy.
    Baseline,
    /// After the deploy.
    Verify,
    /// After the rollback.
    Rollback,
}

/// Tried again until it passes or `for` is over; the last try is the one that is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Retry {
    /// From the first try.
    pub total: Duration,
    /// Between tries.
    pub every: Duration,
}

/// What a false expectation means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Severity {
    /// The test failed.
    Fail,
    /// It is reported and does not change the verdict.
    Warn,
}

/// What to do to see something. Sent to the agent as it is, except `Exec` and `File`, which the
/// engine serves, and `Emulator`, which the run knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Probe {
    /// One HTTP exchange.
    Http(HttpProbe),
    /// One TCP connection.
    Tcp(TcpProbe),
    /// One SQL query.
    Sql(SqlProbe),
    /// A command in a service's container.
    Exec(ExecProbe),
    /// A file in a service's container.
    File(FileProbe),
    /// What an emulator received.
    Emulator(EmulatorProbe),
}

/// One HTTP exchange.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HttpProbe {
    /// `GET`, `POST` and so on.
    pub method: String,
    /// An absolute URL; its host is a service, an alias or an emulator.
    pub url: String,
    /// Request headers.
    pub headers: Vec<(String, String)>,
    /// What is sent.
    pub body: HttpBody,
    /// Redirects are followed up to ten times; otherwise the first answer is the answer.
    pub follow_redirects: bool,
    /// The whole exchange must end within this; default 10 s.
    pub timeout: Duration,
}

/// What an HTTP request carries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HttpBody {
    /// Nothing.
    None,
    /// Text as it is.
    Text(String),
    /// A JSON document.
    Json(serde_json::Value),
    /// `application/x-www-form-urlencoded`, or `multipart/form-data` as soon as there is a file.
    Form {
        /// Name and value.
        fields: Vec<(String, String)>,
        /// Files to upload.
        files: Vec<FormFile>,
    },
}

/// A file in a multipart form. The plan reads it from beside the test plan; the agent gets its bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FormFile {
    /// The form field.
    pub field: String,
    /// The file's name as sent.
    pub name: String,
    /// Where it lies on this machine.
    pub path: PathBuf,
    /// Its content; empty in the plan, filled just before it is sent.
    pub content: Vec<u8>,
}

/// One TCP connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TcpProbe {
    /// A service or an alias.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Sent after connecting.
    pub send: Option<String>,
    /// Read up to this many bytes of what comes back (0: only connect).
    pub read: usize,
    /// For all of it; default 5 s.
    pub timeout: Duration,
}

/// One SQL query over PostgreSQL's own protocol.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SqlProbe {
    /// The service, which is also the host name.
    pub service: String,
    /// The port; default 5432.
    pub port: u16,
    /// The database.
    pub database: String,
    /// The role. Default: the service's `POSTGRES_USER`, else `postgres`.
    pub user: String,
    /// The password. Default: the service's `POSTGRES_PASSWORD`, else the mounted file of `POSTGRES_PASSWORD_FILE`.
    pub password: Option<String>,
    /// One statement.
    pub query: String,
    /// For all of it; default 30 s.
    pub timeout: Duration,
}

/// A command in a service's container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExecProbe {
    /// The service.
    pub service: String,
    /// The command and its arguments; a single string in the file becomes `sh -c`.
    pub command: Vec<String>,
    /// The user in the container.
    pub user: Option<String>,
    /// For all of it; default 30 s.
    pub timeout: Duration,
}

/// A file in a service's container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileProbe {
    /// The service.
    pub service: String,
    /// The absolute path.
    pub path: String,
}

/// What an emulator received.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EmulatorProbe {
    /// The emulator.
    pub name: String,
    /// From when on; default [`Since::Deploy`] for tests after the deploy, else the start of the stage that asks.
    pub since: Option<Since>,
}

/// From when on requests to an emulator count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Since {
    /// From the first step of the deploy on.
    Deploy,
    /// From the start of the run on.
    Start,
}

/// One thing that an emulator received.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// How it came.
    pub kind: Exchange,
    /// The asking service or container; inside the emulator, its address.
    pub asker: String,
    /// The host that was asked for, of HTTP.
    #[serde(default)]
    pub host: String,
    /// In upper case, of HTTP.
    #[serde(default)]
    pub method: String,
    /// Without the query, of HTTP.
    #[serde(default)]
    pub path: String,
    /// Without `?`, of HTTP.
    #[serde(default)]
    pub query: String,
    /// Names in lower case.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The sender, of mail.
    #[serde(default)]
    pub from: String,
    /// The recipients, of mail.
    #[serde(default)]
    pub to: Vec<String>,
    /// Of mail.
    #[serde(default)]
    pub subject: String,
    /// The body as text (invalid UTF-8 replaced), as far as it was read.
    #[serde(default)]
    pub body: String,
    /// True where the body was longer.
    #[serde(default)]
    pub cut: bool,
    /// Bytes of the whole body.
    #[serde(default)]
    pub bytes: u64,
    /// False where no route fitted, somebody was written to who may not be, or nobody listens on the port.
    pub matched: bool,
    /// The status of the answer, of HTTP.
    #[serde(default)]
    pub status: Option<u16>,
    /// What else there is to say: why it is not matched, why a handshake failed, the port of a connection.
    #[serde(default)]
    pub note: String,
}

impl Received {
    /// True for the call of a port on which the emulator does not listen: nothing is known of it but the port.
    pub fn is_unserved(&self) -> bool {
        self.kind == Exchange::Tcp && !self.matched
    }

    /// In a few words: `POST /charge`, `mail from a@x to b@y: Your order`.
    pub fn summary(&self) -> String {
        match self.kind {
            Exchange::Http | Exchange::Https => format!("{} {}", self.method, self.path),
            Exchange::Smtp => {
                let subject = match self.subject.as_str() {
                    "" => "no subject",
                    subject => subject,
                };
                let from = match self.from.as_str() {
                    "" => "nobody",
                    from => from,
                };
                format!("mail from {from} to {}: {subject}", self.to.join(", "))
            }
            Exchange::Tcp if self.is_unserved() => format!("call of unserved {}", self.note),
            Exchange::Tcp => format!("connection to {}", self.note),
            Exchange::Tls => format!("TLS handshake failed: {}", self.note),
        }
    }
}

/// Bytes that are read of a body, an output or a file; what lies beyond is not judged.
pub const SEEN_LIMIT: usize = 1 << 20;

/// What was seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Observation {
    /// An HTTP answer.
    Http {
        /// The status code.
        status: u16,
        /// Response headers, names in lower case.
        headers: Vec<(String, String)>,
        /// The body as text (invalid UTF-8 replaced), at most 1 MiB of it.
        body: String,
        /// True where the body was longer.
        truncated: bool,
    },
    /// A connection was made.
    Tcp {
        /// What was read.
        banner: String,
    },
    /// A result set; the values as the server writes them in text.
    Sql {
        /// Column names.
        columns: Vec<String>,
        /// Rows; `None` is NULL.
        rows: Vec<Vec<Option<String>>>,
    },
    /// A command ended.
    Exec {
        /// Its exit code.
        exit_code: i64,
        /// At most 1 MiB.
        stdout: String,
        /// At most 1 MiB.
        stderr: String,
    },
    /// A file, or its absence.
    File(Option<FileSeen>),
    /// All that an emulator received, in order.
    Emulator(Vec<Received>),
}

/// A file that is there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileSeen {
    /// `file`, `directory`, `symlink`.
    pub kind: String,
    /// Bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u64,
    /// Numeric group.
    pub gid: u64,
    /// `<hex>` of a file's content.
    pub sha256: Option<String>,
    /// The content as text, at most 1 MiB.
    pub text: Option<String>,
}

/// Why nothing was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "lowercase")]
pub enum Unseen {
    /// What was asked did not answer, or answered with an error of its own: refused, reset, timed out, no
    /// such name, an SQL error. Any expectation on it is false: the case *failed*.
    #[error("{0}")]
    Unanswered(String),
    /// The asking itself went wrong: agent, engine, protocol. The case is an *error*.
    #[error("{0}")]
    Undetermined(String),
}

/// What must be seen. The variants match those of [`Probe`].
#[derive(Clone, Debug, Serialize)]
pub enum Expect {
    /// For `http`.
    Http(HttpExpect),
    /// For `tcp`.
    Tcp(TcpExpect),
    /// For `sql`.
    Sql(SqlExpect),
    /// For `exec`.
    Exec(ExecExpect),
    /// For `file`.
    File(FileExpect),
    /// For `emulator`.
    Emulator(EmulatorExpect),
}

/// A condition on text.
#[derive(Clone, Debug, Serialize)]
pub enum TextMatch {
    /// The text contains this.
    Contains(String),
    /// The text (without trailing white space) is exactly this.
    Equals(String),
    /// The text does not contain this.
    Lacks(String),
    /// A regular expression written as `/.../` finds a match; kept as its source, compiled by the plan to know it is sound.
    Regex(String),
}

/// For `http`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct HttpExpect {
    /// Any of these codes; empty: any code.
    pub status: Vec<u16>,
    /// Header name in lower case to its condition.
    pub headers: Vec<(String, TextMatch)>,
    /// All of these.
    pub body: Vec<TextMatch>,
    /// JSONPath (RFC 9535) to the value that its one match must equal.
    pub json: Vec<(String, serde_json::Value)>,
    /// The exchange must take no longer.
    pub within: Option<Duration>,
    /// Status and body equal what the baseline saw.
    pub same_as_baseline: bool,
}

/// For `tcp`.
#[derive(Clone, Debug, Serialize)]
pub struct TcpExpect {
    /// True: a connection is made; false: it must not be.
    pub open: bool,
    /// On what was read.
    pub banner: Option<TextMatch>,
    /// The connection must take no longer.
    pub within: Option<Duration>,
}

/// For `sql`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SqlExpect {
    /// The exact rows, values as text; `None` is NULL.
    pub rows: Option<Vec<Vec<Option<String>>>>,
    /// How many rows.
    pub row_count: Option<u64>,
    /// The result equals what the baseline saw.
    pub same_as_baseline: bool,
    /// The query must take no longer.
    pub within: Option<Duration>,
}

/// For `exec`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ExecExpect {
    /// The exit code; default 0 as soon as anything else is expected.
    pub exit_code: Option<i64>,
    /// All of these, on standard output.
    pub stdout: Vec<TextMatch>,
    /// All of these, on standard error.
    pub stderr: Vec<TextMatch>,
    /// Exit code and standard output equal what the baseline saw.
    pub same_as_baseline: bool,
    /// The command must take no longer.
    pub within: Option<Duration>,
}

/// For `file`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FileExpect {
    /// True: it is there; false: it is not.
    pub exists: Option<bool>,
    /// All of these, on its content.
    pub content: Vec<TextMatch>,
    /// `<hex>`.
    pub sha256: Option<String>,
    /// Permission bits.
    pub mode: Option<u32>,
    /// Numeric owner and group, `uid:gid`.
    pub owner: Option<(u64, u64)>,
    /// Everything equals what the baseline saw.
    pub same_as_baseline: bool,
}

/// For `emulator`.
#[derive(Clone, Debug, Serialize)]
pub struct EmulatorExpect {
    /// Which of all that it received count.
    pub received: Wanted,
    /// How many of them.
    pub count: Count,
}

/// Which requests count: those that fit everything that is given.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Wanted {
    /// In upper case.
    pub method: Option<String>,
    /// `*` stands for any characters.
    pub path: Option<String>,
    /// The asking service, or `bastion`.
    pub by: Option<String>,
    /// All of these, on the sender.
    pub from: Vec<TextMatch>,
    /// Each of these, on at least one recipient.
    pub to: Vec<TextMatch>,
    /// All of these.
    pub subject: Vec<TextMatch>,
    /// All of these.
    pub body: Vec<TextMatch>,
}

/// How many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Count {
    /// At least.
    pub min: u64,
    /// At most.
    pub max: Option<u64>,
}

/// What the baseline saw, by test name.
pub type BaselineSeen = BTreeMap<String, Observation>;
