//! A place without an engine, and receivers on this machine.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use rehearsal::history::{Entry, History, Wanted};
use rehearsal::notify::sign::Secret;
use rehearsal::report::record::Record;
use rehearsal::verdict::Outcome;
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A rehearsal of nothing much, and an engine that is not there.
pub(crate) struct Place {
    pub dir: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self {
            dir: tempfile::tempdir().expect("a temporary folder"),
        };
        let files = [
            (
                "stack.yaml",
                "services:\n  app: { image: none, command: [sleep, infinity], volumes: [\"state:/srv\"] }\n\
                 volumes: { state: }\n",
            ),
            (
                "testplan.yaml",
                "testplan: small\ntests:\n  - name: the app answers\n    \
                 exec: { service: app, run: echo up }\n    expect: { stdout: up }\n",
            ),
            (
                "rehearsal.yaml",
                "rehearsal: small\nstack: stack.yaml\ntestplan: testplan.yaml\n\
                 restore: [{ volume: state, archive: backup.tar }]\n",
            ),
        ];
        for (name, content) in files {
            std::fs::write(place.path(name), content).expect("a file");
        }
        place
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    /// `rehearse` in this place.
    pub(crate) fn rehearse(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rehearse"));
        command
            .current_dir(self.dir.path())
            .args(arguments)
            .env("DOCKER_HOST", "unix:///nowhere/docker.sock")
            .env("REHEARSE_NOTIFY_SECRET", SECRET)
            // A machine without root certificates can notify over http all the same.
            .env("SSL_CERT_FILE", "/nowhere/certificates.pem")
            .env("SSL_CERT_DIR", "/nowhere")
            // The receivers of these tests are on this machine.
            .env("NO_PROXY", "127.0.0.1")
            .stdin(Stdio::null());
        command
    }

    /// A backup check, which is invalid for want of an engine.
    #[track_caller]
    pub(crate) fn check(&self, more: &[&str]) -> Output {
        let out = self.try_check(more);
        assert_eq!(out.status.code(), Some(2), "{}", both(&out));
        out
    }

    pub(crate) fn try_check(&self, more: &[&str]) -> Output {
        let mut command = self.rehearse(&["backup-check", "rehearsal.yaml"]);
        command.args(more).output().expect("it starts")
    }

    pub(crate) fn history(&self) -> PathBuf {
        self.path(".rehearse/history.sqlite")
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        let history = History::open_existing(&self.history()).expect("it can be read");
        let history = history.expect("it is there");
        history.list(&Wanted::default()).expect("it can be read")
    }

    /// Makes it look as if the newest run had passed.
    pub(crate) fn newest_passed(&self) {
        let newest = self.entries().remove(0).run;
        let mut record =
            Record::read(&self.path(".rehearse/runs").join(&newest)).expect("its record");
        record.verdict.outcome = Outcome::Passed;
        record.verdict.owner = None;
        record.exit_code = Some(0);
        let mut history = History::open(&self.history()).expect("it can be opened");
        history.complete(&record).expect("it can be written");
    }

    /// What `rehearse history` says; it must succeed.
    #[track_caller]
    pub(crate) fn told(&self, more: &[&str]) -> String {
        let out = self
            .rehearse(&["history"])
            .args(more)
            .output()
            .expect("it starts");
        assert_eq!(out.status.code(), Some(0), "{}", both(&out));
        String::from_utf8(out.stdout).expect("text")
    }
}

pub(crate) fn both(out: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    )
}

/// A request that a receiver got.
pub(crate) struct Got {
    pub head: String,
    pub body: Vec<u8>,
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        });
        found.unwrap_or_else(|| panic!("no {name} in {}", self.head))
    }

    /// The message, once its signature was found to be good.
    pub(crate) fn message(&self) -> Value {
        let time = self.header("webhook-timestamp").parse().expect("seconds");
        let Ok(secret) = Secret::parse(SECRET) else {
            panic!("a good secret")
        };
        let wanted = secret.sign(self.header("webhook-id"), time, &self.body);
        assert_eq!(self.header("webhook-signature"), wanted);
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

pub(crate) fn receive(stream: impl Read + Write, status: &str) -> Got {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).expect("a head"), 0, "{head}");
    }
    let mut got = Got {
        head,
        body: Vec::new(),
    };
    let length = got.header("content-length").parse().expect("a length");
    got.body.resize(length, 0);
    reader.read_exact(&mut got.body).expect("a body");
    let reply = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    reader
        .get_mut()
        .write_all(reply.as_bytes())
        .expect("an answer");
    got
}

/// Runs something with a receiver that answers as told. Every answer must be asked for, and no more.
pub(crate) fn receiving<T>(answers: &[&str], work: impl FnOnce(&str) -> T) -> (T, Vec<Got>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::scope(|scope| {
        let listening = &listener;
        let server = scope.spawn(move || -> Vec<Got> {
            let receive = |status: &&str| receive(listening.accept().expect("a request").0, status);
            answers.iter().map(receive).collect()
        });
        let result = work(&format!("http://127.0.0.1:{port}/hook/geheim"));
        let got = server.join().expect("every answer was asked for");
        listener.set_nonblocking(true).expect("a socket");
        assert!(listener.accept().is_err(), "one request too many");
        (result, got)
    })
}
