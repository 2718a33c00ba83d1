//! Messages, signatures and delivery, against a receiver on the loopback interface.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use jiff::Timestamp;

use super::deliver::{Patience, Receiver};
use super::sign::{Secret, SecretError};
use super::{Message, is_due};
use crate::event::{EventKind, Mode, Owner, Stage};
use crate::history::Told;
use crate::report::record::Record;
use crate::verdict::stream::{Stream, backup_check};
use crate::verdict::{Outcome, Rollback};

fn passed() -> Record {
    Record::of(&backup_check().events).unwrap()
}

fn failed(owner: Owner) -> Record {
    let mut stream = Stream::new(Mode::BackupCheck);
    stream
        .bad(Stage::Preflight, owner, "the dump is cut")
        .finish();
    Record::of(&stream.events).unwrap()
}

fn told(outcome: Outcome, owner: Option<Owner>) -> Told {
    Told {
        run: "earlier".to_owned(),
        finished: Timestamp::UNIX_EPOCH,
        outcome,
        owner: owner.map(|owner| owner.name().to_owned()),
        stuck: false,
    }
}

#[test]
fn who_is_told_when() {
    let good = told(Outcome::Passed, None);
    let bad = told(Outcome::Failed, Some(Owner::Backup));
    let unjudged = told(Outcome::Invalid, Some(Owner::Engine));
    let (passes, fails) = (passed(), failed(Owner::Backup));
    assert_eq!(fails.verdict.outcome, Outcome::Failed);
    for (record, previous, last_told, wanted) in [
        // The first run.
        (&passes, None, None, false),
        (&fails, None, None, true),
        // No change, and the receiver knows.
        (&passes, Some(&good), None, false),
        (&fails, Some(&bad), Some(&bad), false),
        // Changes.
        (&fails, Some(&good), None, true),
        (&passes, Some(&bad), Some(&bad), true),
        (&fails, Some(&unjudged), Some(&unjudged), true),
        // No change, but the receiver was not told of the last one.
        (&fails, Some(&bad), None, true),
        (&passes, Some(&good), Some(&bad), true),
        // Back to what the receiver knows: a change all the same.
        (&fails, Some(&good), Some(&bad), true),
    ] {
        assert_eq!(
            is_due(record, previous, last_told),
            wanted,
            "{:?} after {previous:?}, told {last_told:?}",
            record.verdict.outcome
        );
    }
    // Another owner is another person to wake.
    let other = failed(Owner::Stack);
    assert_eq!(other.verdict.outcome, Outcome::Invalid);
    assert!(is_due(&other, Some(&unjudged), Some(&unjudged)));
    let mut interrupted = failed(Owner::Backup);
    interrupted.verdict.interrupted = true;
    assert!(!is_due(&interrupted, Some(&good), None));
    let mut stuck = passed();
    stuck.verdict.rollback = Rollback::Stuck {
        reason: "it is".to_owned(),
    };
    assert!(is_due(&stuck, None, None) && is_due(&stuck, Some(&good), None));
}

#[test]
fn a_message_has_what_a_receiver_needs() {
    let mut stream = Stream::new(Mode::BackupCheck);
    stream
        .push(EventKind::BackupRestored {
            restore: "db/site".to_owned(),
            format: "PostgreSQL custom-format dump".to_owned(),
            size: 1_000,
            seconds: 12.5,
            as_of: Some("2025-11-21T01:00:00Z".parse().unwrap()),
            reused: false,
            base: None,
        })
        .ok(&[Stage::Preflight, Stage::Provision, Stage::Isolate])
        .bad(Stage::Restore, Owner::Backup, "the dump is cut")
        .finish();
    let record = Record::of(&stream.events).unwrap();
    let before = told(Outcome::Passed, None);
    let message = Message::new(&record, Some(&before));
    let json = serde_json::to_value(&message).unwrap();
    for (pointer, wanted) in [
        ("/version", serde_json::json!(1)),
        ("/type", "rehearsal.verdict".into()),
        ("/rehearsal", "site".into()),
        ("/mode", "backup-check".into()),
        ("/run", record.run.as_str().into()),
        ("/previous/run", "earlier".into()),
        ("/previous/verdict", "passed".into()),
        ("/verdict", "failed".into()),
        ("/owner", "backup".into()),
        ("/stage", "restore".into()),
        ("/exit_code", 1.into()),
        ("/backups/0/restore", "db/site".into()),
        ("/backups/0/size", 1000.into()),
        ("/backups/0/data_age_seconds", 3600.into()),
    ] {
        assert_eq!(json.pointer(pointer), Some(&wanted), "{pointer}: {json:#}");
    }
    assert!(json["reason"].as_str().unwrap().contains("the dump is cut"));
    assert_eq!(message.id(), format!("rehearse-{}", record.run));
}

/// The example of the specification's own test vectors (standard-webhooks, libraries' tests).
#[test]
fn signatures_are_those_of_the_specification() {
    let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")
        .ok()
        .unwrap();
    assert_eq!(
        secret.sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#
        ),
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    );
    assert_eq!(Secret::parse("  \n").err(), Some(SecretError::Empty));
    assert_eq!(Secret::parse("whsec_").err(), Some(SecretError::Empty));
    assert_eq!(Secret::parse("whsec_ä").err(), Some(SecretError::NotBase64));
}

/// What came in one request.
struct Asked {
    head: String,
    body: Vec<u8>,
}

impl Asked {
    fn header(&self, name: &str) -> &str {
        let found = self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        });
        found.unwrap_or_else(|| panic!("no {name} in {}", self.head))
    }
}

fn answer(stream: TcpStream, status: &str) -> Asked {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).unwrap(), 0, "{head}");
    }
    let mut asked = Asked {
        head,
        body: Vec::new(),
    };
    let length: usize = asked.header("content-length").parse().unwrap();
    asked.body.resize(length, 0);
    reader.read_exact(&mut asked.body).unwrap();
    let reply = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    reader.get_mut().write_all(reply.as_bytes()).unwrap();
    asked
}

const PATIENCE: Patience = Patience {
    tries: 3,
    each: Duration::from_secs(5),
    pause: Duration::from_millis(1),
    total: Duration::from_secs(60),
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn receiver(url: &str) -> Receiver {
    let made = Receiver::new(url, Secret::parse(SECRET).ok().unwrap(), PATIENCE);
    made.unwrap_or_else(|error| panic!("{error}"))
}

/// Answers as told, one request each, and checks every signature. Returns what delivery said.
fn delivered(answers: &[&str]) -> (Result<u32, super::deliver::Undelivered>, Vec<Asked>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!(
        "http://127.0.0.1:{}/hook?token=geheim",
        listener.local_addr().unwrap().port()
    );
    let answers: Vec<String> = answers.iter().map(|text| (*text).to_owned()).collect();
    let server = std::thread::spawn(move || -> Vec<Asked> {
        let answer = |status: &String| answer(listener.accept().unwrap().0, status);
        answers.iter().map(answer).collect()
    });
    let result = block_on(receiver(&url).deliver("rehearse-1", b"{\"verdict\":\"failed\"}"));
    let asked = server.join().unwrap();
    for one in &asked {
        assert!(
            one.head.starts_with("POST /hook?token=geheim HTTP/1.1\r\n"),
            "{}",
            one.head
        );
        assert_eq!(one.header("content-type"), "application/json");
        assert_eq!(one.header("webhook-id"), "rehearse-1");
        let time: i64 = one.header("webhook-timestamp").parse().unwrap();
        assert!((Timestamp::now().as_second() - time).abs() < 60);
        let signature = Secret::parse(SECRET)
            .ok()
            .unwrap()
            .sign("rehearse-1", time, &one.body);
        assert_eq!(one.header("webhook-signature"), signature);
        assert_eq!(one.body, b"{\"verdict\":\"failed\"}");
    }
    (result, asked)
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(work)
}

#[test]
fn what_may_help_is_tried_again_and_nothing_else() {
    let (result, asked) = delivered(&[
        "503 Service Unavailable",
        "429 Too Many Requests",
        "202 Accepted",
    ]);
    assert_eq!((result, asked.len()), (Ok(3), 3));
    // Patience ends.
    let (result, _) = delivered(&["500 x", "502 x", "503 x"]);
    let undelivered = result.unwrap_err();
    assert_eq!(undelivered.tries, 3);
    assert!(undelivered.reason.contains("503"), "{}", undelivered.reason);
    // The server of this test takes one request: a second one would be refused, and said so.
    for refusal in ["400 Bad Request", "401 x", "404 x", "410 Gone", "302 Found"] {
        let (result, _) = delivered(&[refusal]);
        let undelivered = result.unwrap_err();
        assert_eq!(undelivered.tries, 1, "{refusal}");
        assert!(
            undelivered.reason.contains(&refusal[..3]),
            "{}",
            undelivered.reason
        );
    }
}

#[test]
fn nobody_there_is_tried_again_and_the_address_is_not_told() {
    // Bound and closed again: nobody answers there.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let gone = receiver(&format!(
        "http://user:geheim@127.0.0.1:{port}/geheim?geheim"
    ));
    assert_eq!(gone.to_string(), format!("http://127.0.0.1:{port}"));
    let undelivered = block_on(gone.deliver("rehearse-1", b"{}")).unwrap_err();
    assert_eq!(undelivered.tries, 3);
    assert!(
        !undelivered.reason.contains("geheim"),
        "{}",
        undelivered.reason
    );
    for (url, word) in [
        ("ftp://x/geheim", "scheme"),
        ("geheim", "relative"),
        ("", "relative"),
    ] {
        let refused = Receiver::new(url, Secret::parse(SECRET).ok().unwrap(), PATIENCE);
        let said = refused.err().unwrap().to_string();
        assert!(said.contains(word) && !said.contains("geheim"), "{said}");
    }
}

#[test]
fn the_total_bounds_all_tries() {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let hasty = Patience {
        total: Duration::from_secs(5),
        ..PATIENCE
    };
    let url = format!("http://127.0.0.1:{port}/");
    let receiver = Receiver::new(&url, Secret::parse(SECRET).ok().unwrap(), hasty);
    let undelivered = block_on(receiver.ok().unwrap().deliver("rehearse-1", b"{}")).unwrap_err();
    assert_eq!(undelivered.tries, 1, "a second try might take too long");
}
