//! What is judged of steps as they were seen.

use super::*;
use crate::event::Output;
use jiff::Timestamp;

fn events(kinds: Vec<EventKind>) -> Vec<Event> {
    (1..)
        .zip(kinds)
        .map(|(seq, kind)| Event {
            seq,
            at: Timestamp::UNIX_EPOCH,
            kind,
        })
        .collect()
}

fn step(target: &str, lines: &[&str]) -> Vec<EventKind> {
    let mut kinds = vec![EventKind::StepStarted {
        component: "app".to_owned(),
        step: "roll".to_owned(),
        target: target.to_owned(),
    }];
    kinds.extend(lines.iter().map(|line| EventKind::OutputLine {
        stage: Stage::Deploy,
        source: "app/roll".to_owned(),
        output: Output::Stdout,
        line: (*line).to_owned(),
    }));
    kinds.push(EventKind::StepFinished {
        component: "app".to_owned(),
        step: "roll".to_owned(),
        exit_code: Some(0),
        seconds: 1.0,
    });
    kinds
}

fn outside(stage: Stage, asker: &str) -> EventKind {
    EventKind::OutsideName {
        stage,
        name: "example.com".to_owned(),
        asker: asker.to_owned(),
    }
}

fn statuses(kinds: Vec<EventKind>) -> Vec<CaseStatus> {
    let events = events(kinds);
    let watched = Watched::new();
    cases(&deploy(&events, &watched, &Habits::NONE))
        .into_iter()
        .map(|case| case.status)
        .collect()
}

/// Of which nothing but its events and what surrounded it matters.
fn deploy<'a>(events: &'a [Event], watched: &'a Watched, habits: &'a Habits) -> Deploy<'a> {
    Deploy {
        events,
        took: Duration::from_secs(2),
        limit: Duration::from_secs(60),
        manual: &[],
        digest: "sha256:00",
        watched,
        habits,
        heard: Ok(()),
        hears_calls: true,
    }
}

#[test]
fn a_question_to_a_person_is_found_by_what_was_written() {
    use CaseStatus::{Failed, Passed, Warned};
    for (lines, status) in [
        (&["migrated"][..], Passed),
        (&["Do you want to continue? [Y/n] "], Warned),
        (&["Do you want to continue? [Y/n] ", "done"], Passed),
        (&["Password: "], Warned),
        (&["the input device is not a TTY", "Password: "], Failed),
        (
            &["Pseudo-terminal will not be allocated because stdin is not a terminal."],
            Passed,
        ),
        (
            &[
                "sudo: a terminal is required to read the password",
                "gave up",
            ],
            Failed,
        ),
        (&["EOFError: EOF when reading a line"], Failed),
        (&["the password was changed"], Passed),
        (
            &[
                "/bin/sh: 2: cannot open /dev/tty: No such device or address",
                "answer: y",
            ],
            Failed,
        ),
        (
            &[
                "/bin/bash: line 1: /dev/tty: No such device or address",
                "gone on",
            ],
            Failed,
        ),
        (
            &[
                "sh: 1: cannot create /dev/tty: No such device or address",
                "done",
            ],
            Passed,
        ),
        (
            &["could not read password file, using none", "done"],
            Passed,
        ),
        (
            &[
                "fatal: could not read Username for 'https://git.example.com'",
                "done",
            ],
            Failed,
        ),
    ] {
        assert_eq!(statuses(step("bastion", lines))[0], status, "{lines:?}");
    }
}

#[test]
fn a_question_counts_where_its_step_read_or_may_have_read() {
    let events = events(step("bastion", &["rolled", "Drop the table? [y/N] ", " "]));
    let steps = steps(&events);
    let mut watched = Watched::new();
    // `echo y | tool`
    let unread = nobody_was_asked(&steps, &watched);
    assert_eq!(unread.status, CaseStatus::Warned);
    let asks = "step `app/roll` waits for a person: Drop the table? [y/N]";
    watched.unseen.insert("app/roll".to_owned());
    let unseen = nobody_was_asked(&steps, &watched);
    assert_eq!(unseen.status, CaseStatus::Failed);
    assert_eq!(unseen.message.as_deref(), Some(asks));
    let mut watched = Watched::new();
    watched.reads.insert("app/roll".to_owned());
    let read = nobody_was_asked(&steps, &watched);
    assert_eq!(read.status, CaseStatus::Failed);
    assert_eq!(read.message.as_deref(), Some(asks));
    // Another step is another affair.
    let mut watched = Watched::new();
    watched.reads.insert("app/other".to_owned());
    let other = nobody_was_asked(&steps, &watched);
    assert_eq!(other.status, CaseStatus::Warned);
    assert_eq!(other.suite, SUITE);
}

#[test]
fn a_call_outside_is_held_against_steps_and_not_against_the_site() {
    use CaseStatus::{Failed, Passed};
    let with = |more: Vec<EventKind>, target: &str| {
        let mut kinds = step(target, &[]);
        kinds.extend(more);
        statuses(kinds)[2]
    };
    let during = |asker| vec![outside(Stage::Deploy, asker)];
    assert_eq!(with(vec![], "bastion"), Passed);
    assert_eq!(with(during("bastion"), "bastion"), Failed);
    assert_eq!(with(during("web"), "bastion"), Passed);
    assert_eq!(with(during("web"), "web"), Failed);
    let always = vec![
        outside(Stage::Baseline, "web"),
        outside(Stage::Deploy, "web"),
    ];
    assert_eq!(with(always, "web"), Passed);
    // Who has no name yet was made by a step; that the site asks for the same by itself is known of its name only.
    assert_eq!(with(during("172.18.0.9"), "bastion"), Failed);
    let again = vec![
        outside(Stage::Baseline, "web"),
        outside(Stage::Deploy, "172.18.0.9"),
    ];
    assert_eq!(with(again, "web"), Passed);
    // Before a step has touched it a service is its own.
    let mut kinds = during("web");
    kinds.extend(step("web", &[]));
    assert_eq!(statuses(kinds)[2], Passed);
    // A service that got another image has run no script of the package, and runs what it brought.
    let mut kinds = step("web", &[]);
    for kind in &mut kinds {
        if let EventKind::StepFinished { exit_code, .. } = kind {
            *exit_code = None;
        }
    }
    kinds.extend(during("web"));
    let events = events(kinds);
    let habits = |of: &[Event]| Habits::NONE.with(of);
    let seen = |habits: &Habits| cases(&deploy(&events, &Watched::new(), habits))[2].status;
    assert_eq!(seen(&Habits::NONE), Failed);
    // What was seen of the site elsewhere counts as seen.
    let elsewhere = self::events(vec![outside(Stage::Baseline, "web")]);
    assert_eq!(seen(&habits(&elsewhere)), Passed);
}

#[test]
fn a_silent_read_is_a_question_and_what_we_gave_too_much_is_nobodys_failure() {
    let events = events(step("bastion", &["migrated"]));
    let mut watched = Watched::new();
    let cases_with = |watched: &Watched| cases(&deploy(&events, watched, &Habits::NONE));
    let stty = self::events(step(
        "bastion",
        &["stty: 'standard input': Inappropriate ioctl for device"],
    ));
    let harmless = nobody_was_asked(&steps(&stty), &watched);
    assert_eq!(harmless.status, CaseStatus::Passed);
    watched.unseen.insert("app/roll".to_owned());
    let asks = nobody_was_asked(&steps(&stty), &watched);
    assert_eq!(asks.status, CaseStatus::Failed);
    let told = cases_with(&watched)[0].clone();
    assert_eq!(told.status, CaseStatus::Passed);
    assert!(told.message.unwrap().contains("of 1 nobody can see"));
    watched.reads.insert("app/roll".to_owned());
    watched
        .deviations
        .insert("bastion: it has privileged".to_owned());
    let told = cases_with(&watched);
    assert_eq!(told[0].status, CaseStatus::Failed);
    assert_eq!(told[5].status, CaseStatus::Error);
    assert_eq!(told[4].status, CaseStatus::Passed);
    watched.told.insert("app/roll".to_owned());
    let told = &cases_with(&watched)[4];
    assert_eq!(told.status, CaseStatus::Failed);
    assert_eq!(
        told.message.as_deref(),
        Some("step `app/roll` writes a secret to its output")
    );
}

#[test]
fn a_call_to_an_address_is_held_against_steps_like_one_for_a_name() {
    use CaseStatus::{Failed, Passed, Warned};
    let call = |stage, caller: &str| EventKind::OutsideCall {
        stage,
        caller: caller.to_owned(),
    };
    let deploy = Stage::Deploy;
    for (calls, target, status) in [
        (vec![], "bastion", Passed),
        (vec![call(deploy, "bastion")], "bastion", Failed),
        (vec![call(deploy, "web")], "bastion", Passed),
        (
            vec![call(deploy, "web"), call(deploy, "web")],
            "web",
            Failed,
        ),
        (
            vec![call(Stage::Baseline, "web"), call(deploy, "web")],
            "web",
            Warned,
        ),
        (
            vec![call(Stage::Baseline, "web"), call(deploy, "web")],
            "bastion",
            Passed,
        ),
        (vec![call(Stage::Verify, "bastion")], "bastion", Passed),
        (vec![call(deploy, "172.18.0.9")], "bastion", Failed),
        (
            vec![call(Stage::Baseline, "web"), call(deploy, "172.18.0.9")],
            "web",
            Warned,
        ),
    ] {
        let mut kinds = step(target, &[]);
        kinds.extend(calls);
        assert_eq!(statuses(kinds)[3], status);
    }
}

#[test]
fn what_cannot_have_been_heard_is_an_error_and_a_step_that_overran_is_late() {
    let mut kinds = step("bastion", &[]);
    let late = not_passed(
        Stage::Deploy,
        "app / roll",
        CaseStatus::Failed,
        2.0,
        format!("it {LATE} of 2 s and was killed"),
    );
    kinds.push(EventKind::CaseFinished {
        stage: Stage::Deploy,
        case: late,
    });
    let events = events(kinds);
    let (watched, habits) = (Watched::new(), Habits::NONE);
    let deploy = Deploy {
        heard: Err("the agent is deaf".to_owned()),
        hears_calls: false,
        ..deploy(&events, &watched, &habits)
    };
    let cases = cases(&deploy);
    assert_eq!(cases[2].status, CaseStatus::Error);
    assert_eq!(cases[6].status, CaseStatus::Failed);
}
