//! Bases: restored once, never trusted blindly, never removed under a run.
//!
//! Other tests use bases of their own beside these, so nothing here removes a base that it did not make.

use std::collections::HashMap;
use std::process::Output;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use rehearsal::engine::{
    Attach, BASE_RUN, ContainerSpec, Engine, EngineError, ExecSpec, Labels, Purpose, REHEARSAL,
    Resource, VolumeAt,
};
use rehearsal::event::{CaseStatus, EventKind};
use rehearsal::state::shelf::{self, Removed, Shelved};
use rehearsal::verdict::Outcome;
use rustix::process::Signal;

use crate::backup::DATABASE;
use crate::common::{BASE, IDLE, Live, Place, Ran, engine, forget_bases_of, left_of, rehearse};

/// Writes into the restored volume, so that a base that is not behind a branch would be seen to be touched.
const WRITES: &str = "\
package: writes
components:
  - name: app
    steps: [{ name: write, service: app, run: \"echo new > /srv/state/file; rm /srv/state/other; echo deployed\" }]
";

/// A rehearsal that restores one small archive, which no other test has.
fn with_archive(test: &str) -> Place {
    archive_in(Place::small(test, WRITES))
}

fn archive_in(place: Place) -> Place {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in [("file", place.name()), ("other", "other")] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, content.as_bytes())
            .expect("memory");
    }
    place.write("backup.tar", tar.into_inner().expect("memory"));
    place.rehearsal("restore: [{ volume: state, archive: backup.tar }]\n");
    place
}

/// A rehearsal whose restore does not end before [`let_go`].
fn with_gate(test: &str) -> Place {
    let place = Place::small(test, WRITES);
    place.write(
        "stack.yaml",
        format!(
            "services:\n  app:\n    image: {BASE}\n    command: {IDLE}\n    volumes: [\"state:/srv/state\"]\n{DATABASE}\
             volumes: {{ data: , state: }}\n"
        ),
    );
    place.write(
        "backup.sql",
        format!(
            "--\n-- PostgreSQL database dump\n--\n\n-- of {}\nCREATE TABLE public.ledger (id integer PRIMARY KEY);\n\
             DO $$ BEGIN WHILE (pg_stat_file('/tmp/go', true)).size IS NULL LOOP PERFORM pg_sleep(0.05); END LOOP; END $$;\n\
             --\n-- PostgreSQL database dump complete\n--\n\n",
            place.name()
        ),
    );
    place.rehearsal(
        "restore: [{ service: db, postgres: { dump: backup.sql, database: ledger } }]\nlimits: { restore: 90s }\n",
    );
    place
}

fn check(place: &Place) -> Live {
    Live::start(place.command("backup-check", &place.path("rehearsal.yaml")))
}

/// The run that has the claim on this place's base, if one has.
async fn claimant(engine: &Engine, place: &Place) -> Result<Option<String>, EngineError> {
    let claims = engine.claims_with("rehearse.base.claim").await?;
    Ok(claims
        .into_iter()
        .find(|claim| {
            claim
                .labels
                .get(REHEARSAL)
                .is_some_and(|name| name == place.name())
        })
        .and_then(|claim| claim.labels.get(BASE_RUN).cloned()))
}

/// Lets the restore of one of these runs end, as soon as it has begun, and returns that run.
fn let_go(place: &Place, runs: &[&str]) -> String {
    let deadline = Instant::now() + Duration::from_secs(60);
    engine(async |engine| {
        loop {
            assert!(Instant::now() < deadline, "none of {runs:?} restores");
            let owner = claimant(&engine, place).await?;
            if let Some(run) = owner.filter(|run| runs.contains(&run.as_str())) {
                for resource in engine.resources_of(&run).await? {
                    let Resource::Container(name) = resource else {
                        continue;
                    };
                    let spec = ExecSpec {
                        command: vec!["touch".to_owned(), "/tmp/go".to_owned()],
                        ..ExecSpec::default()
                    };
                    // Only the server's container has a shell's tools and runs.
                    let touched = engine.exec(&name, &spec, |_| {}).await;
                    if touched.is_ok_and(|outcome| outcome.exit_code == 0) {
                        return Ok::<_, EngineError>(run);
                    }
                }
            }
            // What is waited for is another process in another container: it tells nobody.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .expect("the engine answers")
}

fn waits_for(run: &str) -> impl Fn(&EventKind) -> bool {
    let wanted = format!("waits for run {run}");
    move |kind| matches!(kind, EventKind::Note { text, .. } if text.starts_with(&wanted))
}

fn notes(ran: &Ran) -> Vec<&str> {
    let notes = ran.events.iter().filter_map(|event| match &event.kind {
        EventKind::Note { text, .. } => Some(text.as_str()),
        _ => None,
    });
    notes.collect()
}

fn bases_of(place: &Place) -> Vec<Shelved> {
    let all = engine(async |engine| shelf::list(&engine, Timestamp::now()).await);
    let mut all = all.expect("the engine answers");
    all.retain(|base| base.rehearsal == place.name());
    all
}

fn bases(arguments: &[&str]) -> Output {
    let mut command = rehearse();
    command.arg("bases").args(arguments);
    command.output().expect("it starts")
}

/// Removes what this place's runs have restored.
fn forget(place: &Place) {
    for base in bases_of(place) {
        let out = bases(&["remove", base.key.as_str()]);
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
    }
    assert_eq!(bases_of(place), []);
}

#[test]
fn of_two_runs_at_once_one_restores_and_the_other_waits() {
    let place = with_gate("at-once");
    let mut first = check(&place);
    first.until(
        "the restore",
        |kind| matches!(kind, EventKind::StageStarted { stage } if stage.name() == "restore"),
    );
    let mut second = check(&place);
    let one = first.run().to_owned();
    second.until("the wait", waits_for(&one));
    assert_eq!(let_go(&place, &[&one]), one);
    let (first, second) = (first.finish(), second.finish());
    first.expect(0, Outcome::Passed, None).expect_nothing_left();
    second
        .expect(0, Outcome::Passed, None)
        .expect_nothing_left();
    assert!(!first.bases()["data"]);
    assert!(second.bases()["data"]);
    assert_eq!(bases_of(&place).len(), 1);
    forget(&place);
}

#[test]
fn when_the_run_that_restores_is_killed_exactly_one_that_waits_takes_over() {
    let place = with_gate("takeover");
    let mut killed = check(&place);
    killed.until(
        "the restore",
        |kind| matches!(kind, EventKind::StageStarted { stage } if stage.name() == "restore"),
    );
    let dead = killed.run().to_owned();
    let (mut one, mut two) = (check(&place), check(&place));
    one.until("the wait", waits_for(&dead));
    two.until("the wait", waits_for(&dead));
    killed.signal(Signal::KILL);
    assert_eq!(killed.finish().code, None);
    let heir = let_go(&place, &[one.run(), two.run()]);
    let (one, two) = (one.finish(), two.finish());
    for ran in [&one, &two] {
        ran.expect(0, Outcome::Passed, None).expect_nothing_left();
        let restored = !ran.bases()["data"];
        assert_eq!(restored, ran.run() == heir, "{:?}", notes(ran));
        let took_over = notes(ran)
            .iter()
            .any(|note| note.starts_with(&format!("run {dead} has ended without")));
        assert_eq!(took_over, restored, "{:?}", notes(ran));
    }
    assert_eq!(bases_of(&place).len(), 1);
    let swept = engine(async |engine| engine.remove_run(&dead).await).expect("the engine answers");
    assert!(swept.left.is_empty(), "{swept:?}");
    forget_bases_of(&dead);
    forget(&place);
}

#[test]
fn a_restore_that_fails_lets_the_next_one_restore_itself() {
    let place = with_gate("fails");
    let sql = std::fs::read_to_string(place.path("backup.sql")).expect("the dump");
    place.write(
        "backup.sql",
        sql.replace("END $$;\n", "END $$;\nSELECT nonsense;\n"),
    );
    let mut first = check(&place);
    first.until(
        "the restore",
        |kind| matches!(kind, EventKind::StageStarted { stage } if stage.name() == "restore"),
    );
    let one = first.run().to_owned();
    let mut second = check(&place);
    second.until("the wait", waits_for(&one));
    let_go(&place, &[&one]);
    let two = second.run().to_owned();
    let first = first.finish();
    assert_eq!(let_go(&place, &[&two]), two);
    let second = second.finish();
    for ran in [&first, &second] {
        ran.expect(1, Outcome::Failed, Some(rehearsal::event::Owner::Backup))
            .expect_nothing_left();
        let failed = ran.cases().any(|(_, case)| {
            case.name.ends_with("restores without errors")
                && case
                    .message
                    .as_deref()
                    .is_some_and(|said| said.contains("nonsense"))
        });
        assert!(failed, "its verdict has no evidence of its own");
    }
    assert_eq!(bases_of(&place), []);
}

/// Does something to a volume, as somebody with a shell would.
pub(crate) fn touch(volume: &str, script: &str) {
    let now = Timestamp::now();
    let until = now + SignedDuration::from_mins(10);
    let labels = Labels::new("t-touch", "t-touch", now, until);
    let name = format!("rehearse-t-touch-{volume}");
    let mut spec = ContainerSpec::new(name, BASE, Attach::None);
    spec.command = Some(["sh", "-ec", script].map(str::to_owned).to_vec());
    spec.volumes = vec![VolumeAt {
        volume: volume.to_owned(),
        target: "/v".to_owned(),
        read_only: false,
    }];
    engine(async |engine| engine.run_once(&spec, &labels).await).expect("it can be touched");
}

#[test]
fn a_base_that_was_touched_or_is_incomplete_is_restored_anew() {
    let place = with_archive("touched");
    place.run(&[]).expect_passed();
    // The whole rehearsal, with a deploy that wrote to the volume, has not touched the base.
    let again = place.backup_check();
    assert!(again.bases()["state"]);
    for (script, words) in [
        (
            Some("was=$(stat -c %y /v/other); printf OTHER > /v/other; touch -d \"$was\" /v/other"),
            "something was written or changed",
        ),
        (Some("touch /v/more"), "held 2 files, now 3"),
        (None, "has no volume"),
    ] {
        let base = bases_of(&place).pop().expect("a base");
        let volume = &base.volumes["state"];
        match script {
            Some(script) => touch(volume, script),
            None => {
                engine(async |engine| engine.remove_volume(volume).await).expect("it is unused")
            }
        }
        let ran = place.backup_check();
        ran.expect(0, Outcome::Passed, None).expect_nothing_left();
        assert!(!ran.bases()["state"], "{words}");
        let said = notes(&ran);
        let told = said.iter().any(|note| {
            note.contains("is not used") && note.contains("`state`") && note.contains(words)
        });
        assert!(told, "{words}: {said:?}");
        let old = engine(async |engine| engine.volume(volume).await).expect("the engine answers");
        assert!(old.is_none(), "what was touched is still there");
    }
    assert!(place.backup_check().bases()["state"]);
    forget(&place);
}

#[test]
fn a_base_on_which_a_run_stands_is_not_removed() {
    let place = with_archive("in-use");
    let kept = place.run(&["--keep", "always"]);
    kept.expect(0, Outcome::Passed, None);
    let base = bases_of(&place).pop().expect("a base");
    assert_eq!(base.in_use_by, [kept.run()]);
    let key = base.key.as_str();
    let out = bases(&["remove", key]);
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(
        said.contains("in use by") && said.contains(kept.run()),
        "{said}"
    );
    assert!(place.backup_check().bases()["state"]);

    // Touched all the same: the next run restores anew, and what the kept run stands on stays.
    touch(&base.volumes["state"], "touch /v/more");
    let anew = place.backup_check();
    assert!(!anew.bases()["state"]);
    let told = notes(&anew);
    assert!(
        told.iter().any(|note| note.contains("stands on it")),
        "{told:?}"
    );
    let volume = &base.volumes["state"];
    let is_there = || {
        let seen = engine(async |engine| {
            shelf::sweep(&engine, Timestamp::now()).await?;
            engine.volume(volume).await
        });
        seen.expect("the engine answers").is_some()
    };
    assert!(is_there(), "removed under a kept run");
    engine(async |engine| engine.remove_run(kept.run()).await).expect("the engine answers");
    assert!(!is_there(), "left although nobody stands on it");
    forget(&place);
}

/// A base that was used last long ago and is larger than everything else.
fn large_and_old(name: &str) -> String {
    let key = format!("t{}-{name}", std::process::id());
    let now = Timestamp::now();
    let labels = Labels::new(&key, name, now, now + SignedDuration::from_hours(1));
    engine(async |engine| {
        let data = format!("rehearse-base-{key}-data");
        let more = HashMap::from([("rehearse.base".to_owned(), key.clone())]);
        engine
            .create_volume(&data, &labels, Purpose::Base, more)
            .await?;
        let stamp = r#"{"data":{"stamp":"sha256:0","files":1,"bytes":1,"disk":1099511627776}}"#;
        let more = [
            ("rehearse.base.sealed", key.as_str()),
            ("rehearse.base.volumes", &format!("data={data}")),
            ("rehearse.base.stamps", stamp),
            ("rehearse.base.at", "2020-01-01T00:00:00Z"),
            ("rehearse.base.seconds", "1"),
        ]
        .map(|(label, value)| (label.to_owned(), value.to_owned()));
        let seal = format!("rehearse-base-{key}-sealed");
        engine
            .create_volume(&seal, &labels, Purpose::Base, HashMap::from(more))
            .await
    })
    .expect("the engine makes volumes");
    key
}

#[test]
fn the_least_recently_used_base_goes_when_there_is_a_limit() {
    let older = with_archive("lru-a");
    // In the same turn on the engine: two tests that each wait for a second one would wait for ever.
    let newer = archive_in(Place::beside(&older, "lru-b").made_small(WRITES));
    for (place, restored) in [(&older, true), (&newer, true), (&older, false)] {
        let ran = place.backup_check();
        assert_eq!(ran.bases()["state"], !restored);
    }
    let used = |place: &Place| bases_of(place).pop().expect("a base").used;
    assert!(
        used(&older) > used(&newer),
        "what was used last is not last"
    );

    let key = large_and_old("lru-large");
    let out = bases(&["--format", "json"]);
    let listed: Vec<serde_json::Value> = serde_json::from_slice(&out.stdout).expect("JSON");
    let at = |key: &str| listed.iter().position(|base| base["key"] == key);
    let (a, b) = (bases_of(&older), bases_of(&newer));
    let places = [at(&key), at(b[0].key.as_str()), at(a[0].key.as_str())];
    assert!(places.is_sorted() && places[0].is_some(), "{places:?}");
    let base = &listed[at(a[0].key.as_str()).expect("it is listed")];
    assert_eq!(base["rehearsal"], older.name());
    assert_eq!(
        (&base["files"], &base["in_use_by"]),
        (&2.into(), &serde_json::json!([]))
    );
    assert!(
        base["bytes"].as_u64() > Some(0) && base["volumes"]["state"].is_string(),
        "{base}"
    );
    let table = bases(&[]);
    let table = String::from_utf8_lossy(&table.stdout);
    assert!(table.contains(&key) && table.contains("1.0 TiB"), "{table}");

    // Everything else in this engine is smaller than that: only the large one goes.
    let mut limited = newer.command("backup-check", &newer.path("rehearsal.yaml"));
    limited.args(["--bases-limit", "900g"]);
    let ran = Live::start(limited).finish();
    ran.expect(0, Outcome::Passed, None).expect_nothing_left();
    let said = notes(&ran);
    assert!(said.iter().any(|note| note.contains(&key)), "{said:?}");
    let key = large_and_old("lru-again");
    let out = rehearse()
        .args(["sweep", "--bases-over", "900g"])
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(
        out.status.success() && said.contains(&format!("removed base {key}")),
        "{said}"
    );
    assert_eq!(
        bases(&["remove", &key]).status.code(),
        Some(64),
        "it is gone"
    );
    for place in [&older, &newer] {
        assert_eq!(bases_of(place).len(), 1, "removed within the limit");
        forget(place);
    }
}

#[test]
fn a_removal_that_a_run_meets_is_waited_for() {
    let place = with_archive("removal");
    assert!(!place.backup_check().bases()["state"]);
    let base = bases_of(&place).pop().expect("a base");
    let key = base.key.clone();
    // A live remover that has announced itself and not looked yet: this very process.
    let now = Timestamp::now();
    let labels = Labels::new(
        "t-going",
        "t-going",
        now,
        now + SignedDuration::from_hours(1),
    );
    let going = format!("rehearse-base-{key}-going-test");
    engine(async |engine| {
        let more = HashMap::from([("rehearse.base.going".to_owned(), key.to_string())]);
        engine
            .create_volume(&going, &labels, Purpose::Base, more)
            .await
    })
    .expect("the engine makes volumes");
    let mut run = check(&place);
    run.until(
        "the restore",
        |kind| matches!(kind, EventKind::StageStarted { stage } if stage.name() == "restore"),
    );
    // The run has said that it stands on the base: the removal sees it, and refuses.
    let removed = engine(async |engine| shelf::remove(&engine, &key).await);
    let stands = vec![run.run().to_owned()];
    assert_eq!(removed.expect("the engine answers"), Removed::InUse(stands));
    engine(async |engine| engine.remove_volume(&going).await).expect("it is unused");
    let ran = run.finish();
    ran.expect(0, Outcome::Passed, None);
    assert!(
        ran.bases()["state"],
        "it was restored although it was there"
    );
    forget(&place);
}

/// A rehearsal whose volume a command fills, in the image that `image` names.
fn with_command(test: &str, image: &str, run: &str) -> Place {
    let place = Place::small(test, WRITES);
    place.write("backup", place.name());
    command(&place, image, run, "");
    place
}

fn command(place: &Place, image: &str, run: &str, more: &str) {
    place.rehearsal(&format!(
        "restore: [{{ volume: state, command: {{ backup: backup, image: \"{image}\", run: '{run}' }} }}]\n{more}"
    ));
}

#[test]
fn an_image_that_is_tagged_anew_makes_another_base() {
    const RUN: &str = r#"cp "$REHEARSE_BACKUP" file; cp file other"#;
    const OTHER: &str = "rehearse-site/db:15";
    let tagged = format!("rehearse-t-retag-{}:1", std::process::id());
    let place = with_command("retag", &tagged, RUN);
    let tag = |image: &str| {
        engine(async |engine| engine.tag(image, &tagged).await).expect("the engine tags");
    };
    tag(BASE);
    for reused in [false, true] {
        let ran = place.backup_check();
        ran.expect(0, Outcome::Passed, None).expect_nothing_left();
        assert_eq!(ran.bases()["state"], reused);
    }
    // The same image under another name restores the same.
    command(&place, BASE, RUN, "");
    assert!(place.backup_check().bases()["state"]);
    command(&place, &tagged, RUN, "");
    tag(OTHER);
    let other = place.backup_check();
    other.expect(0, Outcome::Passed, None).expect_nothing_left();
    assert!(!other.bases()["state"], "restored by another image");
    assert_eq!(bases_of(&place).len(), 2);
    tag(BASE);
    assert!(place.backup_check().bases()["state"], "as at first");
    engine(async |engine| engine.remove_image(&tagged).await).expect("it is only a name");
    forget(&place);
}

/// A rehearsal whose restore is as slow as `run` makes it, and a function that sets its limit.
fn with_limit<'a>(test: &str, run: &'a str) -> (Place, impl Fn(&Place, &str) + 'a) {
    let place = with_command(test, BASE, run);
    let limit = |place: &Place, limit: &str| {
        let limits = format!("limits: {{ restore: {limit} }}\n");
        command(place, BASE, run, &limits);
    };
    (place, limit)
}

#[test]
fn a_base_whose_restore_took_longer_than_the_limit_of_today_is_not_used() {
    let (place, limit) = with_limit("slower", "sleep 11; echo new > file; echo other > other");
    limit(&place, "120s");
    assert!(!place.backup_check().bases()["state"]);
    limit(&place, "10s");
    let late = place.backup_check();
    late.expect(1, Outcome::Failed, Some(rehearsal::event::Owner::Backup))
        .expect_nothing_left();
    let noted = |note: &&str| note.contains("more than 10 s (limits.restore)");
    assert!(notes(&late).iter().any(noted), "{:?}", notes(&late));
    // It was restored anew, and was as late.
    let case = late.case("restore", "state: restores without errors");
    assert_eq!(case.status, CaseStatus::Failed, "{case:?}");
    assert!(case.seconds >= 9.9, "{case:?}");
    let said = case.message.clone().unwrap_or_default();
    assert!(said.contains("within 10 s (limits.restore)"), "{said}");
    assert!(late.bases().is_empty(), "it was used");
    // Nothing took its place: it serves when the limit is raised.
    limit(&place, "60s");
    let again = place.backup_check();
    again.expect(0, Outcome::Passed, None);
    assert!(again.bases()["state"]);
    let case = again.case("restore", "state: restores without errors");
    let said = case.message.clone().unwrap_or_default();
    // The first one's time, however busy the machine was.
    assert!(said.contains("is used again; it took 1"), "{said}");
    forget(&place);
}

#[test]
fn a_base_whose_restore_was_slow_once_is_replaced_by_one_that_is_not() {
    // It waits for a time of the day: only the first restore does.
    let until = Timestamp::now().as_second() + 30;
    let run = format!(
        "while [ $(date +%s) -lt {until} ]; do sleep 1; done; echo new > file; echo other > other"
    );
    let (place, limit) = with_limit("slow-once", &run);
    limit(&place, "120s");
    let slow = place.backup_check();
    slow.expect(0, Outcome::Passed, None);
    limit(&place, "8s");
    let anew = place.backup_check();
    anew.expect(0, Outcome::Passed, None).expect_nothing_left();
    assert!(!anew.bases()["state"], "the slow one was used");
    let noted =
        |note: &&str| note.contains("is not used, and restored anew: the restore of state took");
    assert!(notes(&anew).iter().any(noted), "{:?}", notes(&anew));
    let all = bases_of(&place);
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(all[0].made_by, anew.run());
    let again = place.backup_check();
    again.expect(0, Outcome::Passed, None);
    assert!(again.bases()["state"], "the new one is not used");
    forget(&place);
}

#[test]
fn a_restore_that_failed_leaves_nothing_while_its_run_goes_on() {
    let place = Place::small("cleared", WRITES);
    place.write(
        "stack.yaml",
        format!(
            "services:\n  app:\n    image: {BASE}\n    command: {IDLE}\n    volumes: [\"state:/srv/state\", \"bad:/srv/bad\", \"own:/srv/own\"]\n\
             volumes: {{ state: , bad: , own: }}\n"
        ),
    );
    place.write("backup", vec![b'x'; 100_000]);
    let copy = r#"cp "$REHEARSE_BACKUP" file; cp file other"#;
    place.rehearsal(&format!(
        "restore:\n  - {{ volume: bad, command: {{ backup: backup, image: \"{BASE}\", run: 'cp \"$REHEARSE_BACKUP\" half; exit 9' }} }}\n  \
         - {{ volume: state, command: {{ backup: backup, image: \"{BASE}\", run: '{copy}' }} }}\n  \
         - {{ service: app, command: {{ backup: backup, run: 'cp \"$REHEARSE_BACKUP\" /srv/own/half; exit 8' }} }}\n"
    ));
    // A run that is kept keeps all that it has at its end.
    let ran = place.run(&["--keep", "always"]);
    ran.expect(2, Outcome::Invalid, Some(rehearsal::event::Owner::Backup));
    for (name, word) in [("bad", "exit code 9"), ("app", "exit code 8")] {
        let case = ran.case("restore", &format!("{name}: restores without errors"));
        assert_eq!(case.status, CaseStatus::Failed);
        let said = case.message.clone().unwrap_or_default();
        assert!(said.contains(word), "{said}");
    }
    assert!(!ran.bases()["state"], "the good one is not restored");
    let left: Vec<String> = left_of(ran.run())
        .iter()
        .map(ToString::to_string)
        .filter(|left| {
            left.contains("-restore-") || left.contains("backup") || left.contains("command")
        })
        .collect();
    assert_eq!(left, Vec::<String>::new());
    let made = engine(async |engine| {
        engine
            .volumes_with(&format!("{BASE_RUN}={}", ran.run()))
            .await
    })
    .expect("the engine answers");
    assert!(made.iter().any(|volume| volume.name.contains("-state")));
    for half in ["-bad", "-own"] {
        assert!(
            !made.iter().any(|volume| volume.name.contains(half)),
            "{half}"
        );
    }
    let log = std::fs::read_to_string(ran.dir().join("logs/restore-app.log"));
    assert!(log.expect("the evidence was saved").contains("ready"));
    engine(async |engine| engine.remove_run(ran.run()).await).expect("the engine answers");
    forget(&place);
}

#[test]
fn a_limit_that_is_none_is_said() {
    let place = with_archive("no-limit");
    let mut command = place.command("backup-check", &place.path("rehearsal.yaml"));
    let out = command
        .env("REHEARSE_BASES_LIMIT", "much")
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(64), "{said}");
    assert!(
        said.contains("REHEARSE_BASES_LIMIT") && said.contains("50g"),
        "{said}"
    );
}
