//! The history, metrics and notifications as a user meets them, without an engine: a run that finds none is invalid
//! within a moment, which is verdict enough here.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rehearsal::history::{Entry, History, Wanted};
use rehearsal::notify::sign::Secret;
use rehearsal::report::record::Record;
use rehearsal::verdict::Outcome;
use serde_json::Value;
use tempfile::TempDir;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A rehearsal of nothing much, and an engine that is not there.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self {
            dir: tempfile::tempdir().expect("a temporary folder"),
        };
        let files = [
            (
                "stack.yaml",
                "services:\n  app: { image: none, command: [sleep, infinity] }\n",
            ),
            (
                "testplan.yaml",
                "testplan: small\ntests:\n  - name: the app answers\n    \
                 exec: { service: app, run: echo up }\n    expect: { stdout: up }\n",
            ),
            (
                "rehearsal.yaml",
                "rehearsal: small\nstack: stack.yaml\ntestplan: testplan.yaml\n",
            ),
        ];
        for (name, content) in files {
            std::fs::write(place.path(name), content).expect("a file");
        }
        place
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    /// `rehearse` in this place.
    fn rehearse(&self, arguments: &[&str]) -> Command {
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
    fn check(&self, more: &[&str]) -> Output {
        let out = self.try_check(more);
        assert_eq!(out.status.code(), Some(2), "{}", both(&out));
        out
    }

    fn try_check(&self, more: &[&str]) -> Output {
        let mut command = self.rehearse(&["backup-check", "rehearsal.yaml"]);
        command.args(more).output().expect("it starts")
    }

    fn history(&self) -> PathBuf {
        self.path(".rehearse/history.sqlite")
    }

    fn entries(&self) -> Vec<Entry> {
        let history = History::open_existing(&self.history()).expect("it can be read");
        let history = history.expect("it is there");
        history.list(&Wanted::default()).expect("it can be read")
    }

    /// Makes it look as if the newest run had passed.
    fn newest_passed(&self) {
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
    fn told(&self, more: &[&str]) -> String {
        let out = self
            .rehearse(&["history"])
            .args(more)
            .output()
            .expect("it starts");
        assert_eq!(out.status.code(), Some(0), "{}", both(&out));
        String::from_utf8(out.stdout).expect("text")
    }
}

fn both(out: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    )
}

/// A request that a receiver got.
struct Got {
    head: String,
    body: Vec<u8>,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        let found = self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        });
        found.unwrap_or_else(|| panic!("no {name} in {}", self.head))
    }

    /// The message, once its signature was found to be good.
    fn message(&self) -> Value {
        let time = self.header("webhook-timestamp").parse().expect("seconds");
        let Ok(secret) = Secret::parse(SECRET) else {
            panic!("a good secret")
        };
        let wanted = secret.sign(self.header("webhook-id"), time, &self.body);
        assert_eq!(self.header("webhook-signature"), wanted);
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

fn receive(stream: TcpStream, status: &str) -> Got {
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
fn receiving<T>(answers: &[&str], work: impl FnOnce(&str) -> T) -> (T, Vec<Got>) {
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

#[test]
fn an_empty_history_says_so() {
    let place = Place::new();
    assert!(place.told(&[]).contains("no run has been recorded"));
    assert!(
        place
            .told(&["rehearsal.yaml"])
            .contains("no run has been recorded")
    );
    assert_eq!(
        place.told(&["--format", "json"]),
        "{\"history\":1,\"runs\":[]}\n"
    );
    assert!(!place.path(".rehearse").exists(), "asking makes nothing");
    for wrong in [
        &["nowhere.yaml"][..],
        &["--since", "yesterday"],
        &["--mode", "x"],
    ] {
        let out = place
            .rehearse(&["history"])
            .args(wrong)
            .output()
            .expect("it starts");
        assert_eq!(out.status.code(), Some(64), "{wrong:?}: {}", both(&out));
    }
}

#[test]
fn runs_are_told_for_people_and_for_machines() {
    let place = Place::new();
    place.check(&[]);
    place.newest_passed();
    place.check(&[]);
    let told = place.told(&["rehearsal.yaml"]);
    for wanted in [
        "small · 2 runs, newest first",
        "backup-check  passed",
        "backup-check  invalid",
        "engine: ",
    ] {
        assert!(told.contains(wanted), "{wanted}: {told}");
    }
    assert!(
        !told.contains('\u{1b}'),
        "colours are for terminals: {told:?}"
    );
    assert!(told.find("invalid") < told.find("passed"), "{told}");

    let json: Value =
        serde_json::from_str(&place.told(&["small", "--format", "json"])).expect("JSON");
    assert_eq!(json["history"], 1);
    let runs = json["runs"].as_array().expect("a list");
    assert_eq!(runs.len(), 2);
    let newest = &runs[0];
    for (key, wanted) in [
        ("verdict", Value::from("invalid")),
        ("state", "finished".into()),
        ("owner", "engine".into()),
        ("mode", "backup-check".into()),
        ("exit_code", 2.into()),
        ("assisted", false.into()),
        ("notified", Value::Null),
        ("backups", Value::Array(Vec::new())),
    ] {
        assert_eq!(newest[key], wanted, "{key}");
    }
    assert_eq!(runs[1]["verdict"], "passed");

    assert!(place.told(&["--limit", "1"]).contains("1 run,"));
    assert!(
        place
            .told(&["--mode", "rehearse"])
            .contains("no run is like that")
    );
    assert!(
        place
            .told(&["--since", "2999-01-01"])
            .contains("no run is like that")
    );
    assert!(place.told(&["--since", "1h"]).contains("2 runs"));
    let other = place.told(&["smal"]);
    assert!(
        other.contains("no run of `smal`") && other.contains("`small`"),
        "{other}"
    );
}

/// An engine that takes connections and never says a word: the run hangs until it is killed.
#[test]
fn a_killed_run_is_shown_as_died_and_the_others_stay() {
    let place = Place::new();
    place.check(&[]);
    let deaf = TcpListener::bind("127.0.0.1:0").expect("a port");
    let host = format!("tcp://{}", deaf.local_addr().expect("an address"));
    let mut child = place
        .rehearse(&["backup-check", "rehearsal.yaml"])
        .env("DOCKER_HOST", host)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    // Once it asks the engine, its start has been recorded.
    let _asked = deaf.accept().expect("it asks the engine");
    let told = place.told(&[]);
    assert!(told.contains("running"), "{told}");
    child.kill().expect("it is there");
    child.wait().expect("it is ours");

    let told = place.told(&[]);
    assert!(
        told.contains("died") && told.contains("2 runs") && !told.contains("running"),
        "{told}"
    );
    assert!(told.contains("invalid"), "{told}");
    place.check(&[]);
    let outcomes: Vec<_> = place
        .entries()
        .into_iter()
        .map(|entry| entry.outcome)
        .collect();
    assert_eq!(
        outcomes,
        [Some(Outcome::Invalid), None, Some(Outcome::Invalid)]
    );
}

#[test]
fn runs_at_once_are_both_recorded() {
    let place = Place::new();
    let runs: Vec<_> = (0..4)
        .map(|_| {
            let mut command = place.rehearse(&["backup-check", "rehearsal.yaml"]);
            command.stdout(Stdio::null()).stderr(Stdio::piped());
            command.spawn().expect("it starts")
        })
        .collect();
    for run in runs {
        let out = run.wait_with_output().expect("it is ours");
        assert_eq!(out.status.code(), Some(2), "{}", both(&out));
        assert!(!both(&out).contains("history"), "{}", both(&out));
    }
    let entries = place.entries();
    assert_eq!(entries.len(), 4);
    assert!(
        entries
            .iter()
            .all(|entry| entry.outcome == Some(Outcome::Invalid))
    );
}

#[test]
fn a_damaged_history_is_a_loud_warning_and_no_verdict() {
    let place = Place::new();
    std::fs::create_dir(place.path(".rehearse")).expect("a folder");
    let damaged = "no database, and long enough to have a header ".repeat(9);
    std::fs::write(place.history(), &damaged).expect("a file");
    // Not passed, and nobody can say what was before: whoever is to be told is told.
    let (out, got) = receiving(&["204 No Content"], |url| {
        place.check(&["--notify", url, "--metrics", "m.prom"])
    });
    let said = both(&out);
    assert!(
        said.contains("warning") && said.contains("history.sqlite"),
        "{said}"
    );
    assert!(said.contains("its verdict stands"), "{said}");
    assert_eq!(said.matches("its verdict stands").count(), 1, "{said}");
    assert_eq!(got[0].message()["previous"], Value::Null);
    let metrics = std::fs::read_to_string(place.path("m.prom")).expect("metrics");
    assert!(
        metrics.contains("outcome=\"invalid\"} 1\n") && !metrics.contains("last_passed"),
        "{metrics}"
    );
    assert_eq!(
        std::fs::read_to_string(place.history()).expect("as it was"),
        damaged
    );

    let out = place.rehearse(&["history"]).output().expect("it starts");
    assert_eq!(out.status.code(), Some(2), "{}", both(&out));
    assert!(both(&out).contains("not a database"), "{}", both(&out));
}

/// Each of these is in the way in its own manner; none of them may touch the verdict.
#[test]
fn a_history_that_cannot_be_written_is_said_with_its_remedy() {
    type InTheWay = fn(&Path);
    let cases: [(InTheWay, &str); 4] = [
        (
            |path| std::fs::create_dir(path).expect("a folder"),
            "make it and its folder writable",
        ),
        (
            |path| drop(symlink("/nowhere/history.sqlite", path)),
            "make it and its folder writable",
        ),
        (
            |path| {
                drop(History::open(path).expect("a new one"));
                let db = rusqlite::Connection::open(path).expect("a database");
                db.pragma_update(None, "user_version", 99)
                    .expect("it is ours");
            },
            "use that version of rehearse",
        ),
        (
            |path| {
                let db = rusqlite::Connection::open(path).expect("a database");
                db.execute_batch("CREATE TABLE songs (title)")
                    .expect("it is ours");
            },
            "not a history of rehearse",
        ),
    ];
    for (in_the_way, remedy) in cases {
        let place = Place::new();
        std::fs::create_dir(place.path(".rehearse")).expect("a folder");
        in_the_way(&place.history());
        let out = place.check(&[]);
        let said = both(&out);
        assert!(
            said.contains("its verdict stands") && said.contains(remedy),
            "{remedy}: {said}"
        );
        let runs = std::fs::read_dir(place.path(".rehearse/runs")).expect("the runs");
        for run in runs {
            let dir = run.expect("it can be listed").path();
            let record = Record::read(&dir).expect("its record");
            assert_eq!(record.exit_code, Some(2), "{said}");
        }
    }
}

#[test]
fn a_change_is_told_once_and_signed() {
    let place = Place::new();
    place.check(&[]);
    place.newest_passed();
    let before = place.entries().remove(0).run;
    // A receiver that is down for a moment is asked again.
    let (out, got) = receiving(&["503 Service Unavailable", "204 No Content"], |url| {
        place.check(&["--notify", url])
    });
    assert!(!both(&out).contains("NOBODY"), "{}", both(&out));
    let message = got[1].message();
    assert_eq!(got[0].message(), message);
    assert_eq!(got[0].header("webhook-id"), got[1].header("webhook-id"));
    let run = place.entries().remove(0).run;
    for (pointer, wanted) in [
        ("/version", Value::from(1)),
        ("/rehearsal", "small".into()),
        ("/run", run.as_str().into()),
        ("/previous/run", before.as_str().into()),
        ("/previous/verdict", "passed".into()),
        ("/verdict", "invalid".into()),
        ("/owner", "engine".into()),
    ] {
        assert_eq!(
            message.pointer(pointer),
            Some(&wanted),
            "{pointer}: {message:#}"
        );
    }
    // The same again is no news.
    receiving(&[], |url| place.check(&["--notify", url]));
    let notified: Vec<_> = place
        .entries()
        .into_iter()
        .map(|entry| entry.notified)
        .collect();
    assert_eq!(notified, [None, Some(true), None]);
    // Neither the secret nor the path of the address is anywhere.
    let mut seen = both(&out);
    for file in ["record.json", "events.jsonl", "report.html", "junit.xml"] {
        seen += &std::fs::read_to_string(place.path(".rehearse/runs").join(&run).join(file))
            .expect(file);
    }
    seen += &String::from_utf8_lossy(&std::fs::read(place.history()).expect("the history"));
    assert!(!seen.contains("geheim") && !seen.contains(&SECRET[6..]));
}

#[test]
fn a_message_that_was_refused_is_sent_by_the_next_run() {
    let place = Place::new();
    let (out, got) = receiving(&["400 Bad Request"], |url| place.check(&["--notify", url]));
    assert_eq!(got.len(), 1, "a refusal is not argued with");
    let said = both(&out);
    assert!(
        said.contains("NOBODY WAS NOTIFIED") && said.contains("400"),
        "{said}"
    );
    assert!(!said.contains("geheim"), "{said}");
    assert_eq!(place.entries()[0].notified, Some(false));
    assert!(place.told(&[]).contains("nobody could be notified"));
    // One that tells nobody does not make it up.
    place.check(&[]);
    let (_, got) = receiving(&["200 OK"], |url| place.check(&["--notify", url]));
    let message = got[0].message();
    assert_eq!(
        (&message["verdict"], &message["previous"]["verdict"]),
        (&"invalid".into(), &"invalid".into())
    );
    receiving(&[], |url| place.check(&["--notify", url]));
}

#[test]
fn nothing_is_sent_unsigned_and_no_run_starts_without_a_secret() {
    let place = Place::new();
    for (address, name, secret, word) in [
        (
            "http://127.0.0.1:9/",
            "REHEARSE_NOTIFY_SECRET",
            None,
            "`REHEARSE_NOTIFY_SECRET` is not set",
        ),
        ("http://127.0.0.1:9/", "OTHER", None, "`OTHER` is not set"),
        (
            "http://127.0.0.1:9/",
            "OTHER",
            Some(""),
            "`OTHER`: the secret is empty",
        ),
        (
            "http://127.0.0.1:9/",
            "OTHER",
            Some("whsec_geheim!"),
            "not base64",
        ),
        (
            "ftp://127.0.0.1/",
            "OTHER",
            Some("x"),
            "not an http:// or https:// URL",
        ),
        (
            "https://127.0.0.1:9/",
            "OTHER",
            Some("x"),
            "root certificates",
        ),
    ] {
        let mut command = place.rehearse(&["backup-check", "rehearsal.yaml"]);
        command.args(["--notify", address, "--notify-secret-env", name]);
        command.env_remove("REHEARSE_NOTIFY_SECRET");
        secret.map(|secret| command.env(name, secret));
        let out = command.output().expect("it starts");
        assert_eq!(out.status.code(), Some(64), "{}", both(&out));
        assert!(
            both(&out).contains(word) && !both(&out).contains("geheim"),
            "{}",
            both(&out)
        );
    }
    assert!(!place.path(".rehearse").exists(), "no run was started");
}

#[test]
fn metrics_of_a_night_without_a_verdict_do_not_look_like_the_night_before() {
    let place = Place::new();
    let metrics = || std::fs::read_to_string(place.path("out/small.prom")).expect("metrics");
    let invalid = [
        "rehearse_backup_valid{rehearsal=\"small\",mode=\"backup-check\"} 0\n",
        "rehearse_run_outcome{rehearsal=\"small\",mode=\"backup-check\",outcome=\"invalid\"} 1\n",
    ];
    place.check(&["--metrics", "out/small.prom"]);
    assert!(
        invalid.iter().all(|line| metrics().contains(line)),
        "{}",
        metrics()
    );
    assert!(!metrics().contains("last_passed"), "{}", metrics());
    place.newest_passed();
    place.check(&["--metrics", "out/small.prom"]);
    assert!(
        metrics().contains("rehearse_last_passed_timestamp_seconds{"),
        "{}",
        metrics()
    );

    // The rehearsal can no longer be read: the run does not even begin.
    let good = "rehearse_backup_valid{rehearsal=\"small\",mode=\"backup-check\"} 1\n";
    std::fs::write(place.path("out/small.prom"), good).expect("a file");
    std::fs::write(place.path("rehearsal.yaml"), "rehearsal: [").expect("a file");
    let out = place.try_check(&["--metrics", "out/small.prom"]);
    assert_eq!(out.status.code(), Some(64), "{}", both(&out));
    assert!(
        invalid.iter().all(|line| metrics().contains(line)),
        "{}",
        metrics()
    );
    assert!(
        metrics().contains("rehearse_last_passed_timestamp_seconds{"),
        "{}",
        metrics()
    );
}

#[test]
fn metrics_that_cannot_be_written_make_a_run_invalid() {
    let place = Place::new();
    std::fs::write(place.path("file"), "").expect("a file");
    let out = place.check(&["--metrics", "file/small.prom"]);
    assert!(
        both(&out).contains("the metrics `file/small.prom` could not be written"),
        "{}",
        both(&out)
    );
}

/// `systemd-analyze` reads the units as systemd would. Where there is none, this says so and proves nothing.
#[test]
#[expect(
    clippy::print_stderr,
    reason = "a proof that was not made has to be seen"
)]
fn systemd_takes_the_units() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/systemd");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&units).expect("the units are there") {
        let path = entry.expect("they can be listed").path();
        let text = std::fs::read_to_string(&path).expect("text");
        // What it starts is somewhere else here.
        let text = text.replace("/usr/local/bin/rehearse", env!("CARGO_BIN_EXE_rehearse"));
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a name");
        let instance = dir.path().join(name.replace("@.", "@site."));
        std::fs::write(&instance, text).expect("a file");
        files.push(instance);
    }
    assert!(files.len() >= 2, "{files:?}");
    let verify = |files: &[PathBuf]| {
        Command::new("systemd-analyze")
            .args(["verify", "--recursive-errors=no", "--man=no"])
            .args(files)
            .output()
    };
    match verify(&files) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("NOT PROVED: there is no systemd-analyze here to read contrib/systemd with");
        }
        Err(error) => panic!("systemd-analyze: {error}"),
        Ok(out) => {
            assert!(
                out.status.success() && out.stderr.is_empty(),
                "{}",
                both(&out)
            );
            // It can say no.
            let wrong = dir.path().join("wrong@site.service");
            std::fs::write(
                &wrong,
                "[Service]\nType=nonsense\nExecStart=/nowhere/at/all\n",
            )
            .expect("a file");
            let out = verify(&[wrong]).expect("it was there");
            assert!(
                !out.status.success() || !out.stderr.is_empty(),
                "it takes anything"
            );
        }
    }
}

/// What the units start must be what the program knows.
#[test]
fn the_unit_starts_what_the_program_knows() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("contrib/systemd/rehearse-backup-check@.service");
    let unit = std::fs::read_to_string(unit).expect("the unit is there");
    let start = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="))
        .expect("it starts something");
    let start = start
        .replace("%i", "site")
        .replace("$REHEARSE_OPTIONS", "--notify https://alerts.example.com/");
    let words = start.split_whitespace().map(Into::into);
    let parsed = rehearsal::cli::Cli::parse_or_usage(words);
    let Ok(rehearsal::cli::Cli {
        command: rehearsal::cli::Command::BackupCheck(arguments),
    }) = parsed
    else {
        panic!("{start}")
    };
    let telling = &arguments.telling;
    assert!(
        telling.metrics.is_some() && telling.notify.is_some(),
        "{start}"
    );
    assert!(unit.contains(&telling.notify_secret_env), "{unit}");
}
