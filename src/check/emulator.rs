//! Judges what an emulator received.

use super::findings::Findings;
use super::model::{Count, EmulatorExpect, Observation, Received, Wanted};
use super::show;
use super::text::{Held, Text, asked, hold};
use crate::plan::model::fits;

/// Requests that a message names beside the number that was wanted.
const NAMED: usize = 3;

/// Whether a request is one of those that are counted.
enum Counts {
    Yes,
    No,
    /// What decides lies beyond what was read of its body.
    Perhaps,
}

pub(super) fn judge(expect: &EmulatorExpect, observation: &Observation, findings: &mut Findings) {
    let Observation::Emulator(received) = observation else {
        return findings.wrong_kind("emulator", observation);
    };
    let (mut sure, mut perhaps) = (0u64, 0u64);
    for request in received {
        match counts(&expect.received, request) {
            Counts::Yes => sure += 1,
            Counts::Perhaps => perhaps += 1,
            Counts::No => {}
        }
    }
    let Count { min, max } = expect.count;
    let most = sure + perhaps;
    if most < min || max.is_some_and(|max| sure > max) {
        let what = describe(&expect.received);
        return findings.differs(
            "requests",
            format!("{} {what}", number(expect.count)),
            told(sure, received),
        );
    }
    if sure < min || max.is_some_and(|max| most > max) {
        findings.unknown(format!(
            "the bodies of {perhaps} requests were too long to be read whole, and whether they are {} cannot be said",
            describe(&expect.received)
        ));
    }
}

fn counts(wanted: &Wanted, request: &Received) -> Counts {
    let method = wanted
        .method
        .as_ref()
        .is_none_or(|method| *method == request.method);
    let path = wanted
        .path
        .as_ref()
        .is_none_or(|path| fits(path, &request.path));
    let by = wanted.by.as_ref().is_none_or(|by| *by == request.asker);
    let holds = |condition, text: &str| matches!(hold(condition, Text::whole(text)), Held::True);
    let from = wanted.from.iter().all(|one| holds(one, &request.from));
    let to = wanted
        .to
        .iter()
        .all(|one| request.to.iter().any(|address| holds(one, address)));
    let subject = wanted
        .subject
        .iter()
        .all(|one| holds(one, &request.subject));
    if !(method && path && by && from && to && subject) {
        return Counts::No;
    }
    let body = Text {
        text: &request.body,
        cut: request.cut,
    };
    let mut counts = Counts::Yes;
    for condition in &wanted.body {
        match hold(condition, body) {
            Held::True => {}
            Held::False { .. } => return Counts::No,
            Held::Unknown(_) => counts = Counts::Perhaps,
        }
    }
    counts
}

fn number(count: Count) -> String {
    match (count.min, count.max) {
        (0, Some(0)) => "no".to_owned(),
        (min, Some(max)) if min == max => min.to_string(),
        (0, Some(max)) => format!("at most {max}"),
        (min, Some(max)) => format!("{min} to {max}"),
        (min, None) => format!("at least {min}"),
    }
}

/// What is counted, in words.
fn describe(wanted: &Wanted) -> String {
    let mut words: Vec<String> = wanted.method.iter().cloned().collect();
    words.extend(wanted.path.iter().cloned());
    if words.is_empty() {
        words.push("requests".to_owned());
    }
    words.extend(wanted.by.iter().map(|by| format!("by {by}")));
    for (what, conditions) in [
        ("from", &wanted.from),
        ("to", &wanted.to),
        ("subject", &wanted.subject),
        ("body", &wanted.body),
    ] {
        words.extend(
            conditions
                .iter()
                .map(|one| format!("with {what} {}", asked(one))),
        );
    }
    words.join(" ")
}

/// How many there were, and what else there was.
fn told(sure: u64, received: &[Received]) -> String {
    if received.is_empty() {
        return "none, and nothing else either".to_owned();
    }
    let shown: Vec<String> = received
        .iter()
        .take(NAMED)
        .map(|request| show::line(&request.summary()))
        .collect();
    let more = match received.len() - shown.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{sure}, of all it received: {}{more}", shown.join(", "))
}

/// True where any number of requests will do.
pub(super) const fn idle(expect: &EmulatorExpect) -> bool {
    expect.count.min == 0 && expect.count.max.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Judgement;
    use crate::check::model::TextMatch;
    use crate::event::Exchange;

    fn request(method: &str, path: &str, body: &str, cut: bool) -> Received {
        Received {
            asker: "bastion".to_owned(),
            method: method.to_owned(),
            path: path.to_owned(),
            body: body.to_owned(),
            cut,
            matched: true,
            ..Received::default()
        }
    }

    fn mail(to: &[&str], subject: &str) -> Received {
        Received {
            kind: Exchange::Smtp,
            asker: "app".to_owned(),
            from: "shop@example.com".to_owned(),
            to: to.iter().map(|to| (*to).to_owned()).collect(),
            subject: subject.to_owned(),
            ..Received::default()
        }
    }

    fn judged(wanted: Wanted, (min, max): (u64, Option<u64>), received: &[Received]) -> Judgement {
        let expect = EmulatorExpect {
            received: wanted,
            count: Count { min, max },
        };
        let mut findings = Findings::default();
        judge(
            &expect,
            &Observation::Emulator(received.to_vec()),
            &mut findings,
        );
        findings.into_judgement()
    }

    #[test]
    fn requests_are_counted_that_fit_everything() {
        let received = [
            request("POST", "/charge", "amount=100", false),
            request("GET", "/charge", "", false),
            request("POST", "/refund", "amount=100", false),
            mail(&["anna@x.example", "ben@y.example"], "Your order"),
        ];
        let wanted = |change: fn(&mut Wanted)| {
            let mut wanted = Wanted::default();
            change(&mut wanted);
            wanted
        };
        let contains = |text: &str| vec![TextMatch::Contains(text.to_owned())];
        for (wanted, number) in [
            (wanted(|_| ()), 4),
            (wanted(|w| w.method = Some("POST".to_owned())), 2),
            (wanted(|w| w.path = Some("/charge".to_owned())), 2),
            (wanted(|w| w.path = Some("/*".to_owned())), 3),
            (wanted(|w| w.by = Some("app".to_owned())), 1),
            (
                Wanted {
                    body: contains("=100"),
                    path: Some("/charge".to_owned()),
                    ..Wanted::default()
                },
                1,
            ),
            (
                Wanted {
                    to: contains("ben@"),
                    subject: contains("order"),
                    ..Wanted::default()
                },
                1,
            ),
            (
                Wanted {
                    to: contains("carl@"),
                    ..Wanted::default()
                },
                0,
            ),
            (
                Wanted {
                    from: contains("shop@"),
                    ..Wanted::default()
                },
                1,
            ),
        ] {
            let exactly = (number, Some(number));
            assert_eq!(
                judged(wanted.clone(), exactly, &received),
                Judgement::Passed,
                "{wanted:?}"
            );
            let more = judged(wanted.clone(), (number + 1, None), &received);
            assert!(
                matches!(more, Judgement::Failed { .. }),
                "{wanted:?}: {more:?}"
            );
        }
    }

    #[test]
    fn a_body_that_was_cut_decides_nothing_that_it_could_change() {
        let wanted = Wanted {
            body: vec![TextMatch::Contains("end".to_owned())],
            ..Wanted::default()
        };
        let received = [
            request("POST", "/", "the end", false),
            request("POST", "/", "the beg", true),
        ];
        let judged = |count| judged(wanted.clone(), count, &received);
        assert!(matches!(judged((1, Some(1))), Judgement::Error { .. }));
        assert!(matches!(judged((2, Some(2))), Judgement::Error { .. }));
        assert_eq!(judged((1, Some(2))), Judgement::Passed);
        assert_eq!(judged((1, None)), Judgement::Passed);
        assert!(matches!(judged((3, None)), Judgement::Failed { .. }));
        assert!(matches!(judged((0, Some(0))), Judgement::Failed { .. }));
    }

    #[test]
    fn a_failure_says_what_else_there_was() {
        let wanted = Wanted {
            method: Some("POST".to_owned()),
            path: Some("/charge".to_owned()),
            ..Wanted::default()
        };
        let received = [request("POST", "/refund", "", false), mail(&["a@b"], "hi")];
        let Judgement::Failed { message, .. } = judged(wanted.clone(), (1, Some(1)), &received)
        else {
            panic!("it has to fail");
        };
        assert_eq!(
            message,
            "requests: expected 1 POST /charge, seen 0, of all it received: POST /refund, mail from shop@example.com to a@b: hi"
        );
        let Judgement::Failed { message, .. } = judged(wanted, (1, None), &[]) else {
            panic!("it has to fail");
        };
        assert_eq!(
            message,
            "requests: expected at least 1 POST /charge, seen none, and nothing else either"
        );
    }
}
