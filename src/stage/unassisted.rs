//! Whether the deploy needed anybody, or anything but the package: a suite of its own, from what was seen while it ran.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::time::Duration;

use regex::Regex;

use super::run::{not_passed, passed};
use super::step::LATE;
use super::surrounded::Watched;
use crate::event::{Case, CaseStatus, Event, EventKind, Stage};

/// The suite's name.
pub(super) const SUITE: &str = "unassisted";

/// How a program asks a person, as the last thing that it writes.
static ASKS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"(?i)(\[y(es)?/n(o)?\]|\(y(es)?/n(o)?\)|pass(word|phrase)[^:]*:\s*$|login:\s*$|username[^:]*:\s*$|press (any key|enter|return)|are you sure[^.]*\?|(continue|proceed|go on|overwrite)[^.]*\?\s*$)",
    )
    .ok()
});

/// What a program says that wanted to ask and found nobody.
static MISSES: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"(?i)(EOFError|EOF when reading a line|end of file on (stdin|standard input)|(stdin|standard input|input device) is not a (tty|terminal)|a terminal is required|no tty present|open /dev/tty: |: /dev/tty: (no such device|device not configured)|could not read (username|password) for|unable to read (the )?password)",
    )
    .ok()
});

/// What a program says that found no terminal, and may only have wanted to know its name.
const NO_TERMINAL: &str = "inappropriate ioctl for device";

/// What is known of a deploy that ended by itself.
pub(super) struct Deploy<'a> {
    /// Everything so far.
    pub events: &'a [Event],
    /// How long all steps took.
    pub took: Duration,
    /// `limits.deploy`.
    pub limit: Duration,
    /// What the package's document asks a person to do.
    pub manual: &'a [String],
    /// The package's digest, which was taken again after the last step.
    pub digest: &'a str,
    /// What surrounded the steps.
    pub watched: &'a Watched,
    /// What the site does by itself, as was seen elsewhere.
    pub habits: &'a Habits,
    /// `Err` where not every question for an outside name can have been heard.
    pub heard: Result<(), String>,
    /// True where a call to an outside address is heard on this engine's networks.
    pub hears_calls: bool,
}

/// What a site asked for outside before any deploy. A path, and a run that tries again, do not ask all that makes it do so.
#[derive(Clone, Debug, Default)]
pub(crate) struct Habits {
    /// A name, and who asked for it.
    pub names: BTreeSet<(String, String)>,
    /// Who called an address.
    pub callers: BTreeSet<String>,
}

impl Habits {
    /// None that is known.
    pub(super) const NONE: Self = Self {
        names: BTreeSet::new(),
        callers: BTreeSet::new(),
    };

    /// With what these events show of the time before the deploy.
    #[must_use]
    pub(super) fn with(self, events: &[Event]) -> Self {
        self.with_those(events, |stage| stage < Stage::Deploy)
    }

    /// With all that these events show.
    #[must_use]
    pub(super) fn with_all(self, events: &[Event]) -> Self {
        self.with_those(events, |_| true)
    }

    fn with_those(mut self, events: &[Event], counts: impl Fn(Stage) -> bool) -> Self {
        for event in events {
            if let EventKind::OutsideName { stage, name, asker } = &event.kind
                && counts(*stage)
            {
                self.names.insert((name.clone(), asker.clone()));
            } else if let EventKind::OutsideCall { stage, caller } = &event.kind
                && counts(*stage)
            {
                self.callers.insert(caller.clone());
            }
        }
        self
    }
}

/// One step as it was seen.
struct Seen {
    name: String,
    runs: bool,
    lines: Vec<String>,
    late: bool,
}

/// The suite.
pub(super) fn cases(deploy: &Deploy<'_>) -> Vec<Case> {
    let steps = steps(deploy.events);
    let calls = deploy
        .hears_calls
        .then(|| nothing_outside_was_called(deploy));
    [
        nobody_was_asked(&steps, deploy.watched),
        nobody_is_needed(deploy),
        nothing_outside_was_asked_for(deploy),
    ]
    .into_iter()
    .chain(calls)
    .chain([
        nothing_else_was_used(deploy.watched),
        unchanged(deploy),
        in_time(deploy, &steps),
    ])
    .collect()
}

fn steps(events: &[Event]) -> Vec<Seen> {
    let mut steps: Vec<Seen> = Vec::new();
    for event in events {
        if let EventKind::StepStarted {
            component, step, ..
        } = &event.kind
        {
            steps.push(Seen {
                name: format!("{component}/{step}"),
                runs: false,
                lines: Vec::new(),
                late: false,
            });
            continue;
        }
        let Some(step) = steps.last_mut() else {
            continue;
        };
        if let EventKind::OutputLine { source, line, .. } = &event.kind
            && *source == step.name
        {
            step.lines.push(line.clone());
        } else if let EventKind::StepFinished { exit_code, .. } = &event.kind {
            step.runs = exit_code.is_some();
        } else if let EventKind::CaseFinished { stage, case } = &event.kind
            && *stage == Stage::Deploy
            && case.message.as_ref().is_some_and(|why| why.contains(LATE))
        {
            step.late = true;
        }
    }
    steps
}

fn case(name: &str, found: Result<Option<String>, String>) -> Case {
    let case = match found {
        Ok(figure) => passed(Stage::Deploy, name, 0.0, figure),
        Err(why) => not_passed(Stage::Deploy, name, CaseStatus::Failed, 0.0, why),
    };
    Case {
        suite: SUITE.to_owned(),
        ..case
    }
}

/// Input is at its end from the beginning, so a question is never answered. What the program writes shows that it asked,
/// and where the platform notes it, so does that it read.
fn nobody_was_asked(steps: &[Seen], watched: &Watched) -> Case {
    let says =
        |rule: &Option<Regex>, line: &str| rule.as_ref().is_some_and(|rule| rule.is_match(line));
    let asked = steps.iter().find_map(|step| {
        let last = step.lines.iter().rev().find(|line| !line.trim().is_empty());
        let asks = last.filter(|line| says(&ASKS, line));
        let may_read =
            watched.reads.contains(&step.name) || watched.unseen.contains(&step.name);
        let misses = || {
            step.lines.iter().find(|line| {
                let no_terminal = || line.to_lowercase().contains(NO_TERMINAL);
                says(&MISSES, line) || may_read && no_terminal()
            })
        };
        if let Some(line) = asks.or_else(misses) {
            return Some(format!(
                "step `{}` waits for a person: {}",
                step.name,
                line.trim()
            ));
        }
        watched.reads.contains(&step.name).then(|| {
            format!(
                "step `{}` reads its input, where a person would have to answer (`< /dev/null`, or `ssh -n`, says that nobody has to)",
                step.name
            )
        })
    });
    let runs = steps.iter().filter(|step| step.runs).count();
    let mut figure = format!("{runs} steps ran without input and terminal");
    if !watched.unseen.is_empty() {
        let unseen = watched.unseen.len();
        figure += &format!("; of {unseen} nobody can see whether they read their input");
    }
    case("no step asks a person", asked.map_or(Ok(Some(figure)), Err))
}

/// What differs here was given by us, and is held against nobody.
fn nothing_else_was_used(watched: &Watched) -> Case {
    const NAME: &str = "nothing but the package is used";
    if !watched.deviations.is_empty() {
        let found: Vec<&str> = watched.deviations.iter().map(String::as_str).collect();
        let case = not_passed(
            Stage::Deploy,
            NAME,
            CaseStatus::Error,
            0.0,
            found.join("; "),
        );
        return Case {
            suite: SUITE.to_owned(),
            ..case
        };
    }
    let seen: Vec<&str> = watched.containers.values().map(String::as_str).collect();
    let figure = if seen.is_empty() {
        "no step ran a command".to_owned()
    } else {
        seen.join("; ")
    };
    case(NAME, Ok(Some(figure)))
}

/// Where the document hands something to a person, the package is not deployed unassisted, whatever its steps did.
fn nobody_is_needed(deploy: &Deploy<'_>) -> Case {
    let found = match deploy.manual {
        [] => Ok(None),
        [one] => Err(format!("a person has to do something: {one}")),
        [first, others @ ..] => Err(format!(
            "a person has to do {} things, first: {first}",
            others.len() + 1
        )),
    };
    case("no person is part of the deploy", found)
}

/// Where steps have worked so far: what a service does that was given another image, new files or a restart is what the
/// package made it do.
#[derive(Default)]
struct Touched<'a>(BTreeSet<&'a str>);

impl<'a> Touched<'a> {
    fn learn(&mut self, event: &'a Event) {
        if let EventKind::StepStarted { target, .. } = &event.kind {
            self.0.insert(target);
        }
    }

    fn by_a_step(&self, who: &str) -> bool {
        who == "bastion" || self.0.contains(who)
    }
}

/// A name that the same asker asked for before the deploy is the site's own affair.
fn nothing_outside_was_asked_for(deploy: &Deploy<'_>) -> Case {
    const NAME: &str = "no step asks for anything outside staging";
    if let Err(why) = &deploy.heard {
        let case = not_passed(Stage::Deploy, NAME, CaseStatus::Error, 0.0, why.clone());
        return Case {
            suite: SUITE.to_owned(),
            ..case
        };
    }
    let habits = deploy.habits.clone().with(deploy.events);
    let mut theirs = Vec::new();
    let mut others = BTreeSet::new();
    let mut touched = Touched::default();
    for event in deploy.events {
        touched.learn(event);
        let EventKind::OutsideName { stage, name, asker } = &event.kind else {
            continue;
        };
        let is_new = !habits.names.contains(&(name.clone(), asker.clone()));
        if *stage == Stage::Deploy && is_new {
            if touched.by_a_step(asker) {
                theirs.push(format!("{asker} asked for {name}"));
            } else {
                others.insert(format!("{asker} asked for {name}"));
            }
        }
    }
    theirs.dedup();
    if !theirs.is_empty() {
        return case(NAME, Err(format!("{}: it was refused", theirs.join("; "))));
    }
    let figure = (!others.is_empty()).then(|| {
        let others: Vec<String> = others.into_iter().collect();
        format!(
            "of the services, which no step had touched: {}",
            others.join("; ")
        )
    });
    case(NAME, Ok(figure))
}

/// A program that knows an address asks for no name. What it called is not known, only that it looked for the way out.
fn nothing_outside_was_called(deploy: &Deploy<'_>) -> Case {
    const NAME: &str = "no step calls an address outside staging";
    let habits = deploy.habits.clone().with(deploy.events);
    let mut theirs: BTreeMap<&str, usize> = BTreeMap::new();
    let mut others = BTreeSet::new();
    let mut either = BTreeSet::new();
    let mut touched = Touched::default();
    for event in deploy.events {
        touched.learn(event);
        let EventKind::OutsideCall { stage, caller } = &event.kind else {
            continue;
        };
        if *stage == Stage::Deploy {
            let of_step = touched.by_a_step(caller);
            if habits.callers.contains(caller) {
                if of_step {
                    either.insert(caller.as_str());
                }
            } else if of_step {
                *theirs.entry(caller).or_default() += 1;
            } else {
                others.insert(caller.as_str());
            }
        }
    }
    let said: Vec<String> = theirs
        .iter()
        .map(|(caller, times)| match times {
            1 => format!("{caller} called an address outside"),
            n => format!("{caller} called addresses outside, at least {n} times"),
        })
        .collect();
    if said.is_empty() && !either.is_empty() {
        let callers: Vec<&str> = either.into_iter().collect();
        let why = format!(
            "{} called outside before the deploy and during it: its calls cannot be told from the step's",
            callers.join(", ")
        );
        return Case {
            suite: SUITE.to_owned(),
            ..not_passed(Stage::Deploy, NAME, CaseStatus::Warned, 0.0, why)
        };
    }
    let found = match (said.is_empty(), others.is_empty()) {
        (false, _) => Err(format!("{}: nobody answered", said.join("; "))),
        (true, true) => Ok(None),
        (true, false) => Ok(Some(format!(
            "of the services, which no step had touched, these called one: {}",
            others.into_iter().collect::<Vec<_>>().join(", ")
        ))),
    };
    case(NAME, found)
}

/// A package that changed ends the stage as invalid; where this case is written it was compared and is the same.
fn unchanged(deploy: &Deploy<'_>) -> Case {
    case(
        "the package is as it was handed over",
        Ok(Some(format!("{} before and after", deploy.digest))),
    )
}

fn in_time(deploy: &Deploy<'_>, steps: &[Seen]) -> Case {
    let seconds = deploy.took.as_secs_f64();
    let late = steps.iter().find(|step| step.late);
    let found = match late {
        Some(step) => Err(format!("step `{}` {LATE}", step.name)),
        None => Ok(Some(format!(
            "{seconds:.1} s of {} s (limits.deploy)",
            deploy.limit.as_secs()
        ))),
    };
    case("every step ends inside its time", found)
}

#[cfg(test)]
mod tests {
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
        let deploy = Deploy {
            events: &events,
            took: Duration::from_secs(2),
            limit: Duration::from_secs(60),
            manual: &[],
            digest: "sha256:00",
            watched: &Watched::new(),
            habits: &Habits::NONE,
            heard: Ok(()),
            hears_calls: true,
        };
        cases(&deploy).into_iter().map(|case| case.status).collect()
    }

    #[test]
    fn a_question_to_a_person_is_found_by_what_was_written() {
        use CaseStatus::{Failed, Passed};
        for (lines, status) in [
            (&["migrated"][..], Passed),
            (&["Do you want to continue? [Y/n] "], Failed),
            (&["Do you want to continue? [Y/n] ", "done"], Passed),
            (&["Password: "], Failed),
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
        let seen = |habits: &Habits| {
            cases(&Deploy {
                events: &events,
                took: Duration::from_secs(2),
                limit: Duration::from_secs(60),
                manual: &[],
                digest: "sha256:00",
                watched: &Watched::new(),
                habits,
                heard: Ok(()),
                hears_calls: true,
            })[2]
                .status
        };
        assert_eq!(seen(&Habits::NONE), Failed);
        // What was seen of the site elsewhere counts as seen.
        let elsewhere = self::events(vec![outside(Stage::Baseline, "web")]);
        assert_eq!(seen(&habits(&elsewhere)), Passed);
    }

    #[test]
    fn a_silent_read_is_a_question_and_what_we_gave_too_much_is_nobodys_failure() {
        let events = events(step("bastion", &["migrated"]));
        let mut watched = Watched::new();
        let cases_with = |watched: &Watched| {
            cases(&Deploy {
                events: &events,
                took: Duration::from_secs(2),
                limit: Duration::from_secs(60),
                manual: &[],
                digest: "sha256:00",
                watched,
                heard: Ok(()),
                hears_calls: true,
                habits: &Habits::NONE,
            })
        };
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
        assert_eq!(told[4].status, CaseStatus::Error);
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
        let deploy = Deploy {
            events: &events,
            took: Duration::from_secs(2),
            limit: Duration::from_secs(60),
            manual: &[],
            digest: "sha256:00",
            watched: &Watched::new(),
            habits: &Habits::NONE,
            heard: Err("the agent is deaf".to_owned()),
            hears_calls: false,
        };
        let cases = cases(&deploy);
        assert_eq!(cases[2].status, CaseStatus::Error);
        assert_eq!(cases[5].status, CaseStatus::Failed);
    }
}
