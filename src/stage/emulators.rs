//! Whether everything that the emulators were asked for is something that the rehearsal allows.

use std::collections::BTreeSet;

use super::Bad;
use super::run::{Run, not_passed, passed};
use crate::check::model::Received;
use crate::event::{Case, CaseStatus, Exchange, Owner, Stage};
use crate::plan::model::{Emulates, Emulator, Unmatched};

/// The suite's name.
pub(super) const SUITE: &str = "emulators";

/// Requests that a case names; the others are in its output.
const NAMED: usize = 2;

/// Requests that a case's output lists.
const LISTED: usize = 50;

/// The deploy is about to begin: what was asked for between baseline and now is none of its doing.
///
/// # Errors
/// When staging asks for what no emulator has, or nobody can tell what it asked for.
pub(super) async fn begin(run: &Run) -> Result<(), Bad> {
    let staging = run.staging()?;
    if staging.ground.plan.emulators.is_empty() {
        return Ok(());
    }
    let entered = staging
        .network
        .emulators
        .enter(&staging.ground, Stage::Deploy)
        .await;
    entered.map_err(|why| Bad::new(Owner::Engine, why))?;
    let asked = staging.network.emulators.to_be_judged(&staging.ground);
    for (emulator, received) in with_plan(&staging.ground.plan.emulators, &asked) {
        if let Some(why) = held_against(Stage::Baseline, emulator, received) {
            return Err(of_staging(emulator, &why));
        }
    }
    Ok(())
}

/// Judges what came in a stage, as a case for each emulator, and returns a sentence about the first that is failed.
///
/// # Errors
/// When it cannot be said what came.
pub(super) async fn judge(run: &Run, stage: Stage) -> Result<Option<Bad>, Bad> {
    let staging = run.staging()?;
    let ground = &staging.ground;
    if ground.plan.emulators.is_empty() {
        return Ok(None);
    }
    if let Err(why) = staging.network.emulators.heard_so_far(ground).await {
        run.case(
            stage,
            of_suite(not_passed(
                stage,
                "every request is known",
                CaseStatus::Error,
                0.0,
                &why,
            )),
        );
        return Err(Bad::new(Owner::Engine, why));
    }
    let asked = staging.network.emulators.to_be_judged(ground);
    let mut bad = None;
    for (emulator, received) in with_plan(&ground.plan.emulators, &asked) {
        let why = held_against(stage, emulator, received);
        run.case(
            stage,
            case(stage, emulator, received, why.as_deref(), |text| {
                ground.mask.text(text)
            }),
        );
        if let Some(why) = why {
            let of_package = || {
                Bad::new(
                    Owner::Package,
                    format!("emulator `{}`: {why}", emulator.name),
                )
                .with_help(help(emulator, received))
            };
            bad = bad.or_else(|| {
                Some(if stage == Stage::Baseline {
                    of_staging(emulator, &why)
                } else {
                    of_package()
                })
            });
        }
    }
    Ok(bad)
}

fn with_plan<'a>(
    emulators: &'a [Emulator],
    asked: &'a [(String, Vec<Received>)],
) -> impl Iterator<Item = (&'a Emulator, &'a [Received])> {
    asked.iter().filter_map(|(name, received)| {
        let emulator = emulators.iter().find(|emulator| emulator.name == *name)?;
        Some((emulator, received.as_slice()))
    })
}

fn of_staging(emulator: &Emulator, why: &str) -> Bad {
    Bad::new(
        Owner::Staging,
        format!("before the deploy emulator `{}`: {why}", emulator.name),
    )
    .with_help(format!(
        "staging itself asks for this: give the emulator at {} what it needs, and run again",
        emulator.location
    ))
}

fn help(emulator: &Emulator, received: &[Received]) -> String {
    let unmatched = received.iter().filter(|one| !one.matched);
    let allow: BTreeSet<&str> = unmatched
        .map(|one| match (one.is_unserved(), &emulator.does) {
            (true, _) if is_udp(one) => "say `unmatched: allow`",
            (true, _) => "give it the port",
            (false, Emulates::Http(_)) => "add a route",
            (false, Emulates::Smtp(_)) => "add the address to `accept`",
            (false, Emulates::Blackhole { .. } | Emulates::Image(_)) => "change it",
        })
        .collect();
    let allow: Vec<&str> = allow.into_iter().collect();
    format!(
        "if the package may do this, {} at {}; else it must not",
        allow.join(" and "),
        emulator.location
    )
}

/// Of a call that nobody serves.
fn is_udp(one: &Received) -> bool {
    one.note.ends_with("/udp")
}

/// Why what came is held against whoever caused it; `None` where it is not.
fn held_against(stage: Stage, emulator: &Emulator, received: &[Received]) -> Option<String> {
    let policy = match &emulator.does {
        Emulates::Http(http) => http.unmatched,
        Emulates::Smtp(smtp) => smtp.unmatched,
        Emulates::Blackhole { .. } | Emulates::Image(_) => Unmatched::Allow,
    };
    match policy {
        Unmatched::Allow => None,
        Unmatched::Fail => {
            let unmatched: Vec<&Received> = received.iter().filter(|one| !one.matched).collect();
            (!unmatched.is_empty()).then(|| named(stage, &unmatched))
        }
    }
}

/// The first few by name, each with who asked and why nothing fitted.
fn named(stage: Stage, requests: &[&Received]) -> String {
    let whoever = match stage == Stage::Baseline {
        true => "staging",
        false => "the package",
    };
    let shown: Vec<String> = requests
        .iter()
        .take(NAMED)
        .map(|one| match one.kind {
            Exchange::Smtp => format!("{} sent {}: {}", one.asker, one.summary(), one.note),
            Exchange::Tcp if one.is_unserved() => {
                let but = match is_udp(one) {
                    true => "emulators have no UDP, and",
                    false => "give it the port, or",
                };
                format!(
                    "{} called {}, where this emulator does not listen: {but} {whoever} must not call it",
                    one.asker, one.note
                )
            }
            Exchange::Http | Exchange::Https | Exchange::Tcp | Exchange::Tls => {
                format!("{} asked for {}: {}", one.asker, one.summary(), one.note)
            }
        })
        .collect();
    let more = match requests.len() - shown.len() {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    format!("{}{more}", shown.join("; "))
}

fn of_suite(case: Case) -> Case {
    Case {
        suite: SUITE.to_owned(),
        ..case
    }
}

/// `payments during the deploy`: unique in the suite, to which three stages add.
fn name(stage: Stage, emulator: &Emulator) -> String {
    let when = match stage {
        Stage::Baseline => "before the deploy",
        Stage::Deploy => "during the deploy",
        Stage::Verify => "after the deploy",
        Stage::Preflight
        | Stage::Provision
        | Stage::Isolate
        | Stage::Restore
        | Stage::Snapshot
        | Stage::WhatIf
        | Stage::Rollback
        | Stage::Teardown => stage.name(),
    };
    format!("{} {when}", emulator.name)
}

/// The case of one emulator. `mask` takes secrets out of texts, before they are cut.
fn case(
    stage: Stage,
    emulator: &Emulator,
    received: &[Received],
    why: Option<&str>,
    mask: impl Fn(String) -> String,
) -> Case {
    let handshakes: Vec<&Received> = received
        .iter()
        .filter(|one| one.kind == Exchange::Tls)
        .collect();
    let unserved = received.iter().filter(|one| one.is_unserved()).count();
    let asked = received.len() - handshakes.len() - unserved;
    let unmatched = received.iter().filter(|one| !one.matched).count() - unserved;
    let mut figure = match (&emulator.does, asked) {
        (Emulates::Smtp(_), 1) => "1 mail".to_owned(),
        (Emulates::Smtp(_), n) => format!("{n} mails"),
        (Emulates::Blackhole { .. }, 1) => "1 connection that hung".to_owned(),
        (Emulates::Blackhole { .. }, n) => format!("{n} connections that hung"),
        (Emulates::Http(_) | Emulates::Image(_), 1) => "1 request".to_owned(),
        (Emulates::Http(_) | Emulates::Image(_), n) => format!("{n} requests"),
    };
    if why.is_none() && unmatched > 0 {
        figure += &format!(", {unmatched} of them unmatched, which is allowed");
    }
    if why.is_none() {
        match unserved {
            0 => {}
            1 => figure += "; 1 call of a port where it does not listen, which is allowed",
            n => {
                figure +=
                    &format!("; {n} calls of ports where it does not listen, which is allowed");
            }
        }
    }
    let name = name(stage, emulator);
    let mut case = match (why, handshakes.first()) {
        (Some(why), _) => not_passed(stage, name, CaseStatus::Failed, 0.0, why),
        (None, None) => passed(stage, name, 0.0, Some(figure)),
        (None, Some(first)) => {
            let said = format!(
                "{figure}; {} asked for TLS and broke off the handshake ({}), {} in all: name it under `trust` if it is to trust the \
                 emulators' authority",
                first.asker,
                first.note,
                handshakes.len()
            );
            not_passed(stage, name, CaseStatus::Warned, 0.0, said)
        }
    };
    case.location = Some(emulator.location.to_string());
    let lines: Vec<String> = received.iter().take(LISTED).map(line).collect();
    case.output = (!lines.is_empty()).then(|| mask(lines.join("\n")));
    of_suite(case)
}

fn line(one: &Received) -> String {
    let status = one
        .status
        .map(|status| format!(" {status}"))
        .unwrap_or_default();
    // Of these the summary is made of the note.
    let told = matches!(one.kind, Exchange::Tcp | Exchange::Tls) || one.note.is_empty();
    let note = if told {
        String::new()
    } else {
        format!(" ({})", one.note)
    };
    format!("{}: {}{status}{note}", one.asker, one.summary())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::model::{HttpEmulator, Location, SmtpEmulator};

    fn emulator(does: Emulates) -> Emulator {
        Emulator {
            name: "payments".to_owned(),
            hosts: vec!["api.payments.example".to_owned()],
            does,
            location: Location {
                path: "rehearsal.yaml".into(),
                line: 7,
                column: 5,
            },
        }
    }

    fn http(unmatched: Unmatched) -> Emulator {
        emulator(Emulates::Http(HttpEmulator {
            ports: vec![80],
            tls: vec![],
            trust: vec![],
            routes: vec![],
            unmatched,
        }))
    }

    fn request(path: &str, matched: bool) -> Received {
        Received {
            asker: "bastion".to_owned(),
            method: "POST".to_owned(),
            path: path.to_owned(),
            matched,
            status: Some(if matched { 201 } else { 404 }),
            note: if matched { "" } else { "no route fits" }.to_owned(),
            ..Received::default()
        }
    }

    fn judged(emulator: &Emulator, received: &[Received]) -> Case {
        let why = held_against(Stage::Deploy, emulator, received);
        case(Stage::Deploy, emulator, received, why.as_deref(), |text| {
            text
        })
    }

    #[test]
    fn what_no_route_fits_is_failed_by_name_unless_it_is_allowed() {
        let received = [request("/charge", true), request("/refund", false)];
        let failed = judged(&http(Unmatched::Fail), &received);
        assert_eq!(failed.status, CaseStatus::Failed);
        assert_eq!(failed.suite, SUITE);
        assert_eq!(failed.name, "payments during the deploy");
        assert_eq!(
            failed.message.as_deref(),
            Some("bastion asked for POST /refund: no route fits")
        );
        assert!(
            failed
                .output
                .is_some_and(|out| out.contains("POST /charge 201"))
        );
        let allowed = judged(&http(Unmatched::Allow), &received);
        assert_eq!(allowed.status, CaseStatus::Passed);
        let figure = "2 requests, 1 of them unmatched, which is allowed";
        assert_eq!(allowed.message.as_deref(), Some(figure));
        let fine = judged(&http(Unmatched::Fail), &received[..1]);
        assert_eq!(
            (fine.status, fine.message.as_deref()),
            (CaseStatus::Passed, Some("1 request"))
        );
    }

    fn unserved(note: &str) -> Received {
        Received {
            kind: Exchange::Tcp,
            asker: "bastion".to_owned(),
            note: note.to_owned(),
            ..Received::default()
        }
    }

    #[test]
    fn a_call_of_a_port_where_nobody_listens_is_failed_and_is_no_request() {
        let post = |unmatched| {
            emulator(Emulates::Smtp(SmtpEmulator {
                ports: vec![25],
                accept: vec![],
                unmatched,
            }))
        };
        let called = [unserved("port 587"), unserved("port 123/udp")];
        let failed = judged(&post(Unmatched::Fail), &called);
        assert_eq!(failed.status, CaseStatus::Failed);
        assert_eq!(
            failed.message.as_deref(),
            Some(
                "bastion called port 587, where this emulator does not listen: give it the port, or the package must not call it; \
                 bastion called port 123/udp, where this emulator does not listen: emulators have no UDP, and the package must not call it"
            )
        );
        assert_eq!(
            failed.output.as_deref(),
            Some("bastion: call of unserved port 587\nbastion: call of unserved port 123/udp")
        );
        let before = held_against(Stage::Baseline, &http(Unmatched::Fail), &called[..1]);
        assert!(before.is_some_and(|why| why.ends_with("or staging must not call it")));
        let allowed = judged(&post(Unmatched::Allow), &called);
        assert_eq!(allowed.status, CaseStatus::Passed);
        assert_eq!(
            allowed.message.as_deref(),
            Some("0 mails; 2 calls of ports where it does not listen, which is allowed")
        );
        let far = emulator(Emulates::Blackhole { ports: vec![5432] });
        assert_eq!(
            judged(&far, &called[..1]).message.as_deref(),
            Some(
                "0 connections that hung; 1 call of a port where it does not listen, which is allowed"
            )
        );
    }

    #[test]
    fn the_help_names_all_that_would_allow_it() {
        let received = [
            request("/charge", true),
            request("/refund", false),
            unserved("port 443"),
        ];
        let http = http(Unmatched::Fail);
        assert_eq!(
            help(&http, &received),
            "if the package may do this, add a route and give it the port at rehearsal.yaml:7:5; else it must not"
        );
        assert!(help(&http, &received[2..]).contains("this, give it the port at"));
    }

    #[test]
    fn mail_to_a_stranger_is_failed_and_a_broken_handshake_only_told() {
        let mail = Received {
            kind: Exchange::Smtp,
            asker: "app".to_owned(),
            from: "shop@example.com".to_owned(),
            to: vec!["customer@example.org".to_owned()],
            subject: "Your order".to_owned(),
            matched: false,
            note: "customer@example.org may not be written to".to_owned(),
            ..Received::default()
        };
        let post = emulator(Emulates::Smtp(SmtpEmulator {
            ports: vec![25],
            accept: vec![],
            unmatched: Unmatched::Fail,
        }));
        let failed = judged(&post, &[mail]);
        assert_eq!(failed.status, CaseStatus::Failed);
        assert_eq!(
            failed.message.as_deref(),
            Some(
                "app sent mail from shop@example.com to customer@example.org: Your order: customer@example.org may not be written to"
            )
        );
        let handshake = Received {
            kind: Exchange::Tls,
            asker: "app".to_owned(),
            matched: true,
            note: "received fatal alert: UnknownCA".to_owned(),
            ..Received::default()
        };
        let told = judged(&http(Unmatched::Fail), &[handshake]);
        assert_eq!(told.status, CaseStatus::Warned);
        assert!(
            told.message
                .is_some_and(|said| said.starts_with("0 requests; app asked for TLS"))
        );
    }
}
