//! Whether the deploy needed anybody, or anything but the package: a suite of its own, from what was seen while it ran.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
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

/// How OpenSSH says that it asks for no terminal where there is none, which nobody minds.
const WITHOUT_TERMINAL: &str = "will not be allocated";

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

    /// True where the site asked for a name by itself. An asker of whom only the address is known may be any of it.
    fn know(&self, name: &str, asker: &str) -> bool {
        let mut names = self.names.iter();
        names.any(|(of, by)| of == name && (by == asker || is_address(asker)))
    }

    /// True where a caller called out by itself, or may have.
    fn know_caller(&self, caller: &str) -> bool {
        self.callers.contains(caller) || is_address(caller) && !self.callers.is_empty()
    }

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
        no_secret_was_told(deploy.watched),
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

fn says(rule: &Option<Regex>, line: &str) -> bool {
    rule.as_ref().is_some_and(|rule| rule.is_match(line))
}

/// The last line of a step, where it is a question.
fn question(step: &Seen) -> Option<&str> {
    let lines = step.lines.iter().map(|line| line.trim());
    let last = lines.rev().find(|line| !line.is_empty())?;
    says(&ASKS, last).then_some(last)
}

/// Input is at its end from the beginning, so a question is never answered. What the program writes shows that it asked,
/// and where the platform notes it, so does that it read. A question without a read is only a warning: within the step
/// something may have answered it (`yes | tool`), or it was asked of a terminal or by a program that did not wait.
fn nobody_was_asked(steps: &[Seen], watched: &Watched) -> Case {
    const NAME: &str = "no step asks a person";
    let asked = steps.iter().find_map(|step| {
        let may_read =
            watched.reads.contains(&step.name) || watched.unseen.contains(&step.name);
        let asks = question(step).filter(|_| may_read);
        let misses = || {
            let mut lines = step.lines.iter().map(String::as_str);
            lines.find(|line| {
                let plain = line.to_lowercase();
                let misses = says(&MISSES, line) && !plain.contains(WITHOUT_TERMINAL);
                misses || may_read && plain.contains(NO_TERMINAL)
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
    if let Some(why) = asked {
        return case(NAME, Err(why));
    }
    let unread = steps.iter().find_map(|step| Some((step, question(step)?)));
    if let Some((step, line)) = unread {
        let why = format!(
            "step `{}` ends with a question and did not read its input: nobody can see who was to answer: {line}",
            step.name
        );
        return Case {
            suite: SUITE.to_owned(),
            ..not_passed(Stage::Deploy, NAME, CaseStatus::Warned, 0.0, why)
        };
    }
    let runs = steps.iter().filter(|step| step.runs).count();
    let mut figure = format!("{runs} steps ran without input and terminal");
    if !watched.unseen.is_empty() {
        let unseen = watched.unseen.len();
        figure += &format!("; of {unseen} nobody can see whether they read their input");
    }
    case(NAME, Ok(Some(figure)))
}

/// Here it is masked; where the package is deployed in earnest nobody masks it, and it stays in a log.
fn no_secret_was_told(watched: &Watched) -> Case {
    let told: Vec<String> = watched
        .told
        .iter()
        .map(|step| format!("`{step}`"))
        .collect();
    let found = match told.as_slice() {
        [] => Ok(None),
        [one] => Err(format!("step {one} writes a secret to its output")),
        several => Err(format!(
            "steps {} write a secret to their output",
            several.join(", ")
        )),
    };
    case("no step shows a secret", found)
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

    /// Who has no name yet was made while a step ran, by that step.
    fn by_a_step(&self, who: &str) -> bool {
        who == "bastion" || self.0.contains(who) || is_address(who)
    }
}

/// True for who has no name yet: a container that is just being made.
fn is_address(who: &str) -> bool {
    who.parse::<IpAddr>().is_ok()
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
        if *stage == Stage::Deploy && !habits.know(name, asker) {
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
            if habits.know_caller(caller) {
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
mod tests;
