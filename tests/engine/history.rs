//! Three nights: a good backup, a cut one, a good one again.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;

use rehearsal::event::{Mode, Owner};
use rehearsal::history::{History, Wanted};
use rehearsal::verdict::Outcome;
use serde_json::Value;

use crate::backup::{archive, gz};
use crate::common::{Live, Place, forget_bases_of};

const PACKAGE: &str = "\
package: nothing
components:
  - name: app
    steps: [{ name: look, run: echo deployed }]
";

#[test]
fn nights_are_recorded_measured_and_told_of_when_they_change() {
    let place = Place::small("nights", PACKAGE);
    place.rehearsal("restore: [{ volume: state, archive: backup.tar.gz }]\n");
    let good = gz(&archive(place.name()));
    let receiver = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/", receiver.local_addr().expect("an address"));
    let metrics = place.path("nights.prom");
    let night = |backup: &[u8]| {
        place.write("backup.tar.gz", backup);
        let mut command = place.command("backup-check", &place.path("rehearsal.yaml"));
        command
            .arg("--metrics")
            .arg(&metrics)
            .args(["--notify", &url])
            .env("REHEARSE_NOTIFY_SECRET", "only these tests know it")
            .env("NO_PROXY", "127.0.0.1");
        Live::start(command).finish()
    };
    let figures = || std::fs::read_to_string(&metrics).expect("metrics");
    let valid = |yes: u8| {
        let name = place.name();
        format!("rehearse_backup_valid{{rehearsal=\"{name}\",mode=\"backup-check\"}} {yes}\n")
    };

    // The first night passes, so no word is sent. One that was would be the first that is read below.
    let first = night(&good);
    first.expect(0, Outcome::Passed, None);
    assert!(!first.stderr.contains("NOTIFIED"), "{}", first.stderr);
    assert!(figures().contains(&valid(1)), "{}", figures());

    let served = std::thread::spawn(move || -> Vec<Value> {
        (0..2)
            .map(|_| {
                let mut reader = BufReader::new(receiver.accept().expect("a request").0);
                let mut length = 0;
                let mut line = String::new();
                while line != "\r\n" {
                    line.clear();
                    reader.read_line(&mut line).expect("a head");
                    if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().expect("a length");
                    }
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).expect("a body");
                let reply = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
                reader.get_mut().write_all(reply).expect("an answer");
                serde_json::from_slice(&body).expect("JSON")
            })
            .collect()
    });
    let second = night(&good[..good.len() / 2]);
    second.expect(1, Outcome::Failed, Some(Owner::Backup));
    assert!(figures().contains(&valid(0)), "{}", figures());
    let third = night(&good);
    third.expect(0, Outcome::Passed, None);
    assert!(figures().contains(&valid(1)), "{}", figures());

    let told: Vec<_> = served
        .join()
        .expect("both messages came")
        .into_iter()
        .map(|message| {
            let text = |pointer| {
                message
                    .pointer(pointer)
                    .and_then(Value::as_str)
                    .map(str::to_owned)
            };
            (
                text("/run"),
                text("/verdict"),
                text("/owner"),
                text("/previous/verdict"),
            )
        })
        .collect();
    let words = |run: &str, verdict: &str, owner: Option<&str>, previous: &str| {
        let own = |text: &str| Some(text.to_owned());
        (
            own(run),
            own(verdict),
            owner.map(str::to_owned),
            own(previous),
        )
    };
    assert_eq!(
        told,
        [
            words(second.run(), "failed", Some("backup"), "passed"),
            words(third.run(), "passed", None, "failed")
        ]
    );

    let history = History::open_existing(&place.path("reports/history.sqlite"));
    let history = history.expect("it can be read").expect("it is there");
    let nights = history.list(&Wanted::default()).expect("it can be read");
    let seen: Vec<_> = nights
        .iter()
        .map(|entry| {
            (
                entry.run.as_str(),
                entry.mode,
                entry.exit_code,
                entry.notified,
            )
        })
        .collect();
    let check = Mode::BackupCheck;
    assert_eq!(
        seen,
        [
            (third.run(), check, Some(0), Some(true)),
            (second.run(), check, Some(1), Some(true)),
            (first.run(), check, Some(0), None)
        ]
    );
    // What the next night's backup is compared with: the cut one is not part of it.
    let size = good.len() as u64;
    assert_eq!(
        history
            .sizes(place.name(), "state")
            .expect("it can be read"),
        [size, size]
    );
    forget_bases_of(first.run());
}
