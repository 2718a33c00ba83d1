//! What the reporters write, from streams built here.

use std::fs;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

mod runbook;

use super::*;
use crate::event::{CaseStatus, Exchange, Mode, Output, Owner, Stage, StageOutcome};
use crate::report::files::{LogNames, RunFolder};
use crate::report::paint::Paint;
use crate::report::record::Record;
use crate::verdict::stream::{self, Stream};

/// A stream that can be looked into, and closed by its reader.
#[derive(Clone, Default)]
struct Pipe {
    written: Arc<Mutex<Vec<u8>>>,
    fails: Arc<Mutex<Option<io::ErrorKind>>>,
}

impl Pipe {
    fn text(&self) -> String {
        String::from_utf8(self.written.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Pipe {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if let Some(kind) = *self.fails.lock().unwrap() {
            return Err(kind.into());
        }
        self.written.lock().unwrap().write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A deploy that goes wrong with everything that can be said on the way.
fn eventful() -> Stream {
    let mut s = stream::up_to_snapshot();
    s.push(EventKind::Note {
        stage: Stage::Deploy,
        text: "steps run without input".to_owned(),
    })
    .begin(Stage::Deploy)
    .step(
        "backend",
        "migrate the schema",
        3,
        &["BEGIN", "\u{1b}[31mERROR\u{1b}[0m: relation exists"],
    )
    .case(Stage::Deploy, "no prompt", CaseStatus::Warned)
    .case(Stage::Deploy, "no name from outside", CaseStatus::Error)
    .case(Stage::Deploy, "content/push the pages", CaseStatus::Skipped)
    .end_bad(Stage::Deploy, Owner::Package, "exit code 3, not 0")
    .push(EventKind::StageSkipped {
        stage: Stage::Verify,
        reason: "the deploy went wrong".to_owned(),
    })
    .judged()
    .begin(Stage::Rollback)
    .end(
        Stage::Rollback,
        StageOutcome::Bad {
            owner: Owner::Engine,
            reason: "`db/site` differs from the snapshot".to_owned(),
            help: Some("do not trust this snapshot".to_owned()),
        },
    )
    .begin(Stage::Teardown)
    .push(EventKind::Leftover {
        what: "network rehearse-x".to_owned(),
        reason: "it has endpoints".to_owned(),
    })
    .push(EventKind::Kept {
        expires: "2025-11-22T02:00:00Z".parse().unwrap(),
        containers: [("web".to_owned(), "rehearse-x-web".to_owned())].into(),
    })
    .end(Stage::Teardown, StageOutcome::Ok)
    .finish();
    s
}

fn streams() -> Vec<(&'static str, Stream)> {
    let mut cut = stream::up_to_snapshot();
    cut.begin(Stage::Deploy);
    vec![
        ("passing", stream::passing()),
        ("failing", stream::failing()),
        ("backup_check", stream::backup_check()),
        ("eventful", eventful()),
        ("cut", cut),
    ]
}

#[test]
fn verdict_blocks() {
    for (name, stream) in streams() {
        let plain = summary::block(&stream.events, Paint::PLAIN);
        assert!(!plain.contains('\u{1b}'), "{name}");
        insta::assert_snapshot!(format!("block_{name}"), plain);
        let coloured = summary::block(&stream.events, Paint::COLOURS);
        assert!(coloured.contains('\u{1b}'), "{name}");
    }
}

/// Where nothing was judged, a rollback that is stuck says nothing about the package.
#[test]
fn what_to_do_next_after_a_run_that_judged_nothing() {
    let next = |help: Option<&str>, deploy: Owner, kept: bool| {
        let mut s = stream::up_to_snapshot();
        s.begin(Stage::Deploy).end(
            Stage::Deploy,
            StageOutcome::Bad {
                owner: deploy,
                reason: "the deploy went wrong".to_owned(),
                help: help.map(str::to_owned),
            },
        );
        s.judged()
            .bad(Stage::Rollback, Owner::Engine, "`db/site` differs");
        if kept {
            s.push(EventKind::Kept {
                expires: "2025-11-22T02:00:00Z".parse().unwrap(),
                containers: [("web".to_owned(), "rehearse-x-web".to_owned())].into(),
            });
        }
        s.finish();
        let block = summary::block(&s.events, Paint::PLAIN);
        assert!(block.contains("STUCK"), "{block}");
        let (_, next) = block.split_once("   next       ").unwrap();
        next.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    for (owner, help, kept, expected) in [
        (
            Owner::Engine,
            Some("free some disk"),
            false,
            "free some disk",
        ),
        (
            Owner::Engine,
            None,
            false,
            "nothing was judged: see to the engine, and this machine's disk and memory, then run it again",
        ),
        (
            Owner::Engine,
            None,
            true,
            "`rehearse open 01JD0000000000000000000000 web` looks inside, `rehearse retry 01JD0000000000000000000000` \
             tries again, `rehearse down 01JD0000000000000000000000` removes it",
        ),
        (
            Owner::Package,
            Some("ask"),
            false,
            "do not deploy: nobody has seen the way back; then: ask",
        ),
    ] {
        assert_eq!(next(help, owner, kept), expected);
    }
}

#[test]
fn plain_lines() {
    for (name, stream) in streams() {
        let pipe = Pipe::default();
        let mut plain = plain::Plain::new(Box::new(pipe.clone()));
        for n in 1..=stream.events.len() {
            plain.take(&stream.events[..n]).unwrap();
        }
        let text = pipe.text();
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{name}");
        insta::assert_snapshot!(format!("plain_{name}"), text);
    }
}

#[test]
fn plain_progress_is_told_now_and_then() {
    let mut s = Stream::new(Mode::Rehearse);
    s.begin(Stage::Restore);
    for done in 0..=100 {
        s.push(EventKind::Progress {
            stage: Stage::Restore,
            what: "restore site.dump".to_owned(),
            done: done << 20,
            total: Some(100 << 20),
            unit: "bytes".to_owned(),
        });
    }
    let pipe = Pipe::default();
    let mut plain = plain::Plain::new(Box::new(pipe.clone()));
    for n in 1..=s.events.len() {
        plain.take(&s.events[..n]).unwrap();
    }
    insta::assert_snapshot!(pipe.text());
}

#[test]
fn json_lines_are_numbered_and_read_back() {
    for (name, stream) in streams() {
        let pipe = Pipe::default();
        let mut lines = jsonl::JsonLines::new(Box::new(pipe.clone()));
        for event in &stream.events {
            lines.take(event).unwrap();
        }
        let read: Vec<Event> = pipe
            .text()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(read, stream.events, "{name}");
    }
}

#[test]
fn records() {
    for (name, stream) in streams() {
        let record = Record::of(&stream.events).unwrap();
        insta::assert_json_snapshot!(format!("record_{name}"), record);
        let dir = tempfile::tempdir().unwrap();
        record.write(dir.path()).unwrap();
        assert_eq!(Record::read(dir.path()).unwrap(), record, "{name}");
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            1,
            "{name}: no temporary file stays"
        );
    }
    assert_eq!(Record::of(&[]), None);
}

#[test]
fn pages() {
    for (name, stream) in streams() {
        let page = html::render(&stream.events);
        assert!(
            !page.contains("<script") && !page.contains("src="),
            "{name}"
        );
        if name == "eventful" {
            insta::assert_snapshot!(
                "page_eventful",
                page.replace(include_str!("html.css"), "")
                    .replace("><", ">\n<")
            );
        }
    }
    assert!(html::render(&[]).contains("invalid"));
}

#[test]
fn what_would_have_left_for_the_outside_is_told_in_every_report() {
    let mut s = stream::up_to_snapshot();
    s.begin(Stage::Deploy);
    let mut asked = |stage, kind, summary: &str, matched| {
        s.push(EventKind::EmulatorRequest {
            stage,
            emulator: "mail & more".to_owned(),
            asker: "app".to_owned(),
            kind,
            summary: summary.to_owned(),
            matched,
            status: None,
            detail: Some("hello".to_owned()),
        });
    };
    asked(
        Stage::Baseline,
        Exchange::Smtp,
        "mail from a to c: before",
        false,
    );
    asked(Stage::Deploy, Exchange::Smtp, "mail from a to c: hi", false);
    asked(Stage::Deploy, Exchange::Smtp, "mail from a to c: hi", false);
    asked(
        Stage::Deploy,
        Exchange::Smtp,
        "mail from a to tester: hi",
        true,
    );
    asked(Stage::Deploy, Exchange::Https, "POST /charge", false);
    let record = Record::of(&s.events).unwrap();
    assert_eq!(record.mails_to_strangers(), 2);
    assert_eq!(record.emulated.len(), 4);
    let block = summary::block(&s.events, Paint::PLAIN);
    // As it was before it was broken into lines.
    let told = block.split_whitespace().collect::<Vec<_>>().join(" ");
    for line in [
        "2 mails would have gone to customers",
        "mail & more: app: mail from a to c: hi in deploy, 2 times: unmatched",
        "mail & more: app: POST /charge in deploy: unmatched",
        "5 requests in all",
    ] {
        assert!(told.contains(line), "{line}: {block}");
    }
    let page = html::render(&s.events);
    assert!(
        page.contains("2 mails would have gone to customers")
            && page.contains("<b>mail &amp; more</b>")
    );
    let pipe = Pipe::default();
    let mut plain = plain::Plain::new(Box::new(pipe.clone()));
    plain.take(&s.events).unwrap();
    assert!(
        pipe.text()
            .contains("deploy: emulator mail & more: app: POST /charge: UNMATCHED"),
        "{}",
        pipe.text()
    );
}

#[test]
fn a_page_shows_hostile_text_as_text() {
    let evil = "</pre><script>alert('x')</script>\u{1b}[31m\"&";
    let mut s = stream::up_to_snapshot();
    let mut case = stream::case(Stage::Verify, evil, CaseStatus::Failed);
    case.suite = evil.to_owned();
    case.mismatches[0].what = evil.to_owned();
    case.mismatches[0].seen = evil.to_owned();
    case.message = Some(evil.to_owned());
    case.output = Some(evil.to_owned());
    case.evidence = vec![
        evil.to_owned(),
        "../../etc/passwd".to_owned(),
        "javascript:alert(1)".to_owned(),
    ];
    s.begin(Stage::Deploy).step(evil, evil, 1, &[evil]).end_bad(
        Stage::Deploy,
        Owner::Package,
        evil,
    );
    s.push(EventKind::CaseFinished {
        stage: Stage::Verify,
        case,
    });
    s.push(EventKind::OutsideName {
        stage: Stage::Verify,
        name: evil.to_owned(),
        asker: evil.to_owned(),
    });
    let page = html::render(&s.events);
    assert!(!page.contains("<script") && !page.contains('\u{1b}'));
    assert!(!page.contains("href=\"./..") && !page.contains("javascript:alert(1)\""));
    assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;"));
}

#[test]
fn a_folder_keeps_everything() {
    let report_dir = tempfile::tempdir().unwrap();
    let second = report_dir.path().join("ci/reports/rehearse.xml");
    let folder = RunFolder::create(report_dir.path(), "01JD", Some(second.clone())).unwrap();
    let recorder = Recorder::new(vec![Sink::Folder(folder.sink().unwrap())]);
    for event in eventful().events {
        recorder.emit(event.kind);
    }
    folder.write_reports(&recorder.events()).unwrap();

    let dir = report_dir.path().join("runs/01JD");
    let lines = fs::read_to_string(dir.join("events.jsonl")).unwrap();
    let read: Vec<Event> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(read, recorder.events());
    assert!(read.iter().map(|e| e.seq).eq(1..=read.len() as u64));
    assert_eq!(Record::read(&dir).unwrap(), Record::of(&read).unwrap());
    assert_eq!(
        fs::read(dir.join("junit.xml")).unwrap(),
        fs::read(&second).unwrap()
    );
    assert!(
        fs::read_to_string(dir.join("report.html"))
            .unwrap()
            .ends_with("</html>\n")
    );
    let log = fs::read_to_string(dir.join("logs/backend_migrate-the-schema.log")).unwrap();
    assert_eq!(log.lines().count(), 2);
    assert_eq!(recorder.lost(), Vec::<String>::new());

    let again = RunFolder::create(report_dir.path(), "01JD", None).unwrap_err();
    assert!(
        again.to_string().contains("01JD"),
        "two runs never share a folder: {again}"
    );
}

#[test]
fn a_second_copy_that_cannot_be_written_is_told_and_the_rest_is_there() {
    let report_dir = tempfile::tempdir().unwrap();
    let blocked = report_dir.path().join("file");
    fs::write(&blocked, "").unwrap();
    let folder =
        RunFolder::create(report_dir.path(), "01JD", Some(blocked.join("junit.xml"))).unwrap();
    let error = folder.write_reports(&stream::passing().events).unwrap_err();
    assert!(error.to_string().contains("file/junit.xml"), "{error}");
    for file in ["record.json", "junit.xml", "report.html"] {
        assert!(folder.path().join(file).is_file(), "{file}");
    }
}

#[test]
fn log_names_are_safe_and_never_shared() {
    let mut names = LogNames::default();
    let long = "x".repeat(300);
    let told: Vec<String> = [
        "db",
        "DB",
        "a/b c",
        "a_b-c",
        "../../etc/passwd",
        "",
        "..",
        &long,
        "db",
    ]
    .iter()
    .map(|source| names.of(source).to_owned())
    .collect();
    assert_eq!(
        told[..7],
        [
            "db.log",
            "DB~2.log",
            "a_b-c.log",
            "a_b-c~2.log",
            "_.._etc_passwd.log",
            "_.log",
            "_~2.log"
        ]
    );
    assert!(told[7].len() < 100);
    assert_eq!(told[8], told[0]);
}

#[test]
fn the_stream_has_one_terminal_event() {
    let recorder = Recorder::new(vec![]);
    for event in stream::passing().events {
        recorder.emit(event.kind);
    }
    let before = recorder.events().len();
    recorder.emit(EventKind::StageStarted {
        stage: Stage::Teardown,
    });
    assert_eq!(recorder.events().len(), before);
}

#[test]
fn a_closed_pipe_is_silent_and_a_full_disk_is_told() {
    let (whole, closed, full) = (Pipe::default(), Pipe::default(), Pipe::default());
    let sink = |pipe: &Pipe| Sink::JsonLines(jsonl::JsonLines::new(Box::new(pipe.clone())));
    let recorder = Recorder::new(vec![sink(&closed), sink(&full), sink(&whole)]);
    recorder.emit(EventKind::StageStarted {
        stage: Stage::Preflight,
    });
    *closed.fails.lock().unwrap() = Some(io::ErrorKind::BrokenPipe);
    *full.fails.lock().unwrap() = Some(io::ErrorKind::StorageFull);
    for _ in 0..3 {
        recorder.emit(EventKind::StageStarted {
            stage: Stage::Provision,
        });
    }
    assert_eq!(whole.text().lines().count(), 4);
    assert_eq!(
        (closed.text().lines().count(), full.text().lines().count()),
        (1, 1)
    );
    assert_eq!(
        recorder.lost(),
        ["cannot write to the JSON lines since event 2: no storage space"]
    );
}

#[test]
fn many_threads_number_without_gaps() {
    let recorder = Recorder::new(vec![]);
    std::thread::scope(|scope| {
        for n in 0..8 {
            let recorder = &recorder;
            scope.spawn(move || {
                for line in 0..100 {
                    recorder.emit(EventKind::OutputLine {
                        stage: Stage::Deploy,
                        source: format!("source {n}"),
                        output: Output::Stdout,
                        line: line.to_string(),
                    });
                }
            });
        }
    });
    assert!(recorder.events().iter().map(|e| e.seq).eq(1..=800));
}
