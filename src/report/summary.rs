//! The verdict block: what a tired person reads when the run is over.

use std::fmt::Write as _;

use crate::check::ladder::{Rung, SEEN_TO_BE_BAD};
use crate::event::{Case, CaseStatus, Event, Exchange, Mode, Stage};
use crate::report::paint::Paint;
use crate::report::record::{BackupCheck, CaseFacts, ComeBack, Record};
use crate::report::steps::steps;
use crate::report::text::{clean, clip, count, one_line, seconds, wrap};
use crate::report::{availability, backups, lines, paths};
use crate::verdict::{Outcome, Rollback, StageEnd};

/// Wide enough for a sentence, narrow enough for a console.
const WIDTH: usize = 76;
/// Where the text of a labelled line begins.
const INDENT: usize = 14;
/// More cases than this are in the report; nobody reads them in a terminal.
const MOST_CASES: usize = 12;
/// Lines of one expected or seen text.
const MOST_LINES: usize = 8;

/// Last lines of the step at which the deploy stopped.
const STEP_LINES: usize = 6;

/// The block, ending with a newline; nothing where the run never started.
pub(super) fn block(events: &[Event], paint: Paint) -> String {
    let Some(record) = Record::of(events) else {
        return String::new();
    };
    let mut out = String::from("\n");
    head(&mut out, &record, paint);
    if record
        .stages
        .iter()
        .any(|s| s.stage == Stage::Deploy && s.end != StageEnd::Ok)
    {
        last_step(&mut out, events, paint);
    }
    wrong(&mut out, &record, paint);
    if let Some(what_ifs) = &record.what_ifs {
        paths::table(&mut out, what_ifs, paint);
    }
    facts(&mut out, &record, paint);
    out
}

/// What the step wrote at which the deploy stopped: most often the answer stands there.
fn last_step(out: &mut String, events: &[Event], paint: Paint) {
    let steps = steps(events);
    let Some((step, log)) = steps
        .last()
        .and_then(|step| Some((step, step.log.as_ref()?)))
    else {
        return;
    };
    let lines: Vec<&str> = step.output.lines().collect();
    let _ = writeln!(
        out,
        "   {}",
        paint.dim(&format!(
            "the last lines of step `{}`",
            one_line(&step.source)
        ))
    );
    for line in &lines[lines.len().saturating_sub(STEP_LINES)..] {
        let _ = writeln!(out, "     {} {}", paint.dim("│"), clip(&clean(line), 200));
    }
    let _ = writeln!(out, "     {}\n", paint.dim(&format!("all of them: {log}")));
}

fn head(out: &mut String, record: &Record, paint: Paint) {
    let verdict = &record.verdict;
    let mut title = format!(
        "{} {}",
        paint.badge(verdict.outcome),
        paint.bold(&subject(record))
    );
    let blame = match (verdict.outcome, verdict.owner, verdict.stage) {
        (Outcome::Passed, _, _) => String::new(),
        (_, Some(owner), Some(stage)) => format!("the {} is at fault, in {stage}", owner.name()),
        (_, None, Some(stage)) => format!("in {stage}"),
        (_, Some(owner), None) => format!("the {} is at fault", owner.name()),
        (_, None, None) => String::new(),
    };
    if !blame.is_empty() {
        title += &format!(" {} {blame}", paint.dim("·"));
    }
    if verdict.interrupted {
        title += &format!(" {} {}", paint.dim("·"), paint.doubt("interrupted"));
    }
    let _ = writeln!(out, " {title}\n");
    let _ = writeln!(out, "   {}\n", wrap(&one_line(&verdict.reason), WIDTH, 3));
}

/// What was judged: `site 2.4.0`, or the rehearsal where there is no package.
fn subject(record: &Record) -> String {
    match (&record.package, record.mode) {
        (Some(package), Mode::Rehearse) => {
            let version = package
                .version
                .as_deref()
                .map(|v| format!(" {v}"))
                .unwrap_or_default();
            one_line(&format!("{}{version}", package.name))
        }
        (None, Mode::Rehearse) => one_line(&record.rehearsal),
        (_, Mode::BackupCheck) => one_line(&format!("the backup of {}", record.rehearsal)),
    }
}

/// Everything that is not as it should be, worst first.
fn wrong(out: &mut String, record: &Record, paint: Paint) {
    let rank = |status| match status {
        CaseStatus::Failed => 0,
        CaseStatus::Error => 1,
        CaseStatus::Skipped => 2,
        CaseStatus::Warned => 3,
        CaseStatus::Passed => 4,
    };
    // The table of paths says all that their cases say.
    let (rungs, mut cases): (Vec<&CaseFacts>, Vec<&CaseFacts>) = record
        .cases
        .iter()
        .filter(|facts| facts.stage != Stage::WhatIf)
        .partition(|facts| lines::is_rung_skipped(facts.stage, &facts.case));
    cases.sort_by_key(|c| rank(c.case.status));
    for facts in cases.iter().take(MOST_CASES) {
        // What decided stands above already.
        let said = facts.case.message.as_deref();
        let said = said.is_some_and(|why| record.verdict.reason.contains(why));
        one_case(out, &facts.case, said, paint);
    }
    if cases.len() > MOST_CASES {
        let more = cases.len() - MOST_CASES;
        let _ = writeln!(
            out,
            "   {}\n",
            paint.dim(&format!("and {} more in report.html", count(more, "case")))
        );
    }
    not_looked_at(out, &rungs, paint);
    // The stage that decided stands above; any other that went wrong must not be overlooked.
    for stage in &record.stages {
        let decided = record.verdict.stage == Some(stage.stage);
        if let (
            StageEnd::Bad {
                owner,
                reason,
                help,
            },
            false,
        ) = (&stage.end, decided)
        {
            let said = format!("{} ({}): {}", stage.stage, owner.name(), one_line(reason));
            let _ = writeln!(out, "   {} {}", paint.bad("✗"), wrap(&said, WIDTH, 5));
            if let Some(help) = help {
                let _ = writeln!(
                    out,
                    "     {} {}",
                    paint.dim("help"),
                    wrap(&one_line(help), WIDTH, 10)
                );
            }
            out.push('\n');
        }
    }
}

/// How many rungs were not looked at in each backup, and which, by the names of `require:`; then the damages that could
/// not be tried on it. The reasons are in the report.
fn not_looked_at(out: &mut String, rungs: &[&CaseFacts], paint: Paint) {
    #[derive(Default)]
    struct Of<'a> {
        rungs: Vec<&'a str>,
        damages: Vec<&'a str>,
    }
    let mut of: Vec<(&str, Of<'_>)> = Vec::new();
    for facts in rungs {
        let name = facts.case.name.as_str();
        let (restore, rung) = name.rsplit_once(": ").unwrap_or((name, "all of it"));
        let at = of.iter().position(|(known, _)| *known == restore);
        let at = at.unwrap_or_else(|| {
            of.push((restore, Of::default()));
            of.len() - 1
        });
        let known = Rung::ALL.into_iter().find(|known| known.says() == rung);
        match rung.strip_suffix(SEEN_TO_BE_BAD) {
            Some(damage) => of[at].1.damages.push(damage),
            None => of[at]
                .1
                .rungs
                .push(known.map_or(rung, |known| known.name())),
        }
    }
    let mut line = |said: &str| {
        let wrapped = wrap(&one_line(said), WIDTH, 5);
        let _ = writeln!(out, "   {} {}", paint.doubt("–"), paint.dim(&wrapped));
    };
    for (restore, of) in of {
        if !of.rungs.is_empty() {
            let many = count(of.rungs.len(), "rung");
            line(&format!(
                "{restore}: {many} not looked at: {}",
                of.rungs.join(", ")
            ));
        }
        if !of.damages.is_empty() {
            line(&format!("{restore}: not tried: {}", of.damages.join(", ")));
        }
    }
    if !rungs.is_empty() {
        let _ = writeln!(out, "     {}\n", paint.dim("why stands in report.html"));
    }
}

fn one_case(out: &mut String, case: &Case, said: bool, paint: Paint) {
    let (mark, word) = match case.status {
        CaseStatus::Failed => (paint.bad("✗"), "failed"),
        CaseStatus::Error => (paint.doubt("!"), "could not be determined"),
        CaseStatus::Skipped => (paint.doubt("–"), "was not reached"),
        CaseStatus::Warned => (paint.doubt("~"), "only warns"),
        CaseStatus::Passed => (paint.good("✓"), "passed"),
    };
    let _ = writeln!(
        out,
        "   {mark} {} {}",
        paint.bold(&one_line(&case.name)),
        paint.dim(word)
    );
    let mut row = |label: &str, text: &str| {
        let mut lines = clean(text)
            .lines()
            .map(|line| clip(line, 200))
            .collect::<Vec<_>>();
        if lines.len() > MOST_LINES {
            let more = lines.len() - MOST_LINES;
            lines.truncate(MOST_LINES);
            lines.push(format!("… and {}", count(more, "line")));
        }
        let text = lines.join(&format!("\n{:18}", ""));
        let _ = writeln!(out, "     {} {text}", paint.dim(&format!("{label:<12}")));
    };
    let place = [Some(case.suite.as_str()), case.location.as_deref()]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>();
    row("where", &one_line(&place.join(", ")));
    if let Some(component) = &case.component {
        row("component", &one_line(component));
    }
    if let (Some(message), true, false) = (&case.message, case.mismatches.is_empty(), said) {
        row("why", message);
    }
    for mismatch in &case.mismatches {
        row(
            &clip(&one_line(&mismatch.what), 40),
            &format!("expected {}", mismatch.expected),
        );
        row("", &format!("seen     {}", mismatch.seen));
    }
    if !case.evidence.is_empty() {
        row("see", &one_line(&case.evidence.join(", ")));
    }
    out.push('\n');
}

fn facts(out: &mut String, record: &Record, paint: Paint) {
    let mut row = |label: &str, text: &str| labelled(out, label, text, paint);
    let wrapped = |text: &str| wrap(&one_line(text), WIDTH - INDENT, INDENT);
    if let (Some(package), Mode::Rehearse) = (&record.package, record.mode) {
        row("package", &clip(&one_line(&package.digest), 40));
    }
    match &record.verdict.rollback {
        Rollback::Proved { seconds: secs } => {
            row(
                "rollback",
                &format!(
                    "{} in {}: tests and fingerprints as before",
                    paint.good("proved"),
                    seconds(*secs)
                ),
            );
        }
        Rollback::Stuck { reason } => row(
            "rollback",
            &format!("{}: {}", paint.bad("STUCK"), wrapped(reason)),
        ),
        Rollback::NotReached => {
            if record.mode == Mode::Rehearse {
                row("rollback", &paint.doubt("not reached"));
            }
        }
    }
    // Of a backup check the restores stand below, each beside its limit.
    let measured = record
        .measured
        .iter()
        .filter(|m| record.mode == Mode::Rehearse && lines::is_for_everybody(&m.what))
        .map(|m| format!("{} {}", m.what, seconds(m.seconds)));
    let all = match record.mode {
        Mode::Rehearse => format!("all {}", seconds(record.seconds)),
        Mode::BackupCheck => seconds(record.seconds),
    };
    let measured = measured.chain([all]).collect::<Vec<_>>();
    row("time", &wrapped(&measured.join(" · ")));
    for (n, target) in record.availability.iter().enumerate() {
        let said = availability::target(target, &record.outages);
        row(if n == 0 { "downtime" } else { "" }, &wrapped(&said));
    }
    for outside in &record.outside_calls {
        let said = format!(
            "{} called an address outside in {}, at least {}: nobody answered",
            outside.caller,
            outside.stage,
            count(outside.times, "time")
        );
        row("outside", &wrapped(&said));
    }
    for outside in &record.outside_names {
        let times = if outside.times > 1 {
            format!(", {} times", outside.times)
        } else {
            String::new()
        };
        let said = format!(
            "{} asked for {} in {}{times}: refused",
            outside.asker, outside.name, outside.stage
        );
        row("outside", &wrapped(&said));
    }
    for said in emulated(record) {
        row("emulators", &wrapped(&said));
    }
    for left in &record.leftovers {
        row(
            "leftover",
            &wrapped(&format!(
                "{}: {}; `rehearse sweep` removes it",
                left.what, left.reason
            )),
        );
    }
    if let Some(taken_over) = &record.taken_over {
        let run = one_line(&taken_over.run);
        row("again", &wrapped(&format!("in the staging of run {run}")));
    }
    if let Some(kept) = &record.kept {
        let containers = kept
            .containers
            .iter()
            .map(|(service, name)| format!("{service} = {name}"));
        let containers = containers.collect::<Vec<_>>().join(", ");
        row(
            "kept",
            &wrapped(&format!(
                "staging is up until {}: {containers}",
                lines::minute(kept.expires)
            )),
        );
    }
    let dir = one_line(&record.dir);
    row("evidence", &format!("{dir}/report.html"));
    row(
        "",
        &paint.dim("record.json, junit.xml, events.jsonl and logs/ lie beside it"),
    );
    let next = next(record);
    if let Some(check) = &record.backup_check {
        backup_check(out, check, paint);
    }
    if let Some(next) = next {
        labelled(out, "next", &paint.bold(&wrapped(&next)), paint);
    }
    out.push('\n');
}

/// What would have left for the outside: mails first, then what nothing fitted, then how much there was in all.
fn emulated(record: &Record) -> Vec<String> {
    let mut said = Vec::new();
    match record.mails_to_strangers() {
        0 => {}
        1 => said.push("1 mail would have gone to customers".to_owned()),
        n => said.push(format!("{n} mails would have gone to customers")),
    }
    let unmatched = record.emulated.iter().filter(|asked| !asked.matched);
    said.extend(unmatched.take(MOST_CASES).map(|asked| {
        let times = match asked.times {
            1 => String::new(),
            n => format!(", {n} times"),
        };
        let (asker, summary) = (&asked.asker, clip(&asked.summary, 160));
        format!(
            "{}: {asker}: {summary} in {}{times}: unmatched",
            asked.emulator, asked.stage
        )
    }));
    // A call of a port where nobody listens is none.
    let requests = record.emulated.iter();
    let requests = requests.filter(|asked| asked.matched || asked.kind != Exchange::Tcp);
    let all: usize = requests.map(|asked| asked.times).sum();
    if all > 0 {
        said.push(format!("{} in all", count(all, "request")));
    }
    said
}

fn labelled(out: &mut String, label: &str, text: &str, paint: Paint) {
    let _ = writeln!(out, "   {} {text}", paint.dim(&format!("{label:<10}")));
}

/// What somebody asks who has to come back from these backups, the answer last.
fn backup_check(out: &mut String, check: &BackupCheck, paint: Paint) {
    out.push('\n');
    for seen in &check.backups {
        labelled(out, "backup", &paint.bold(&backups::name(seen)), paint);
        for (label, text) in backups::told(seen) {
            let text = wrap(&one_line(&text), WIDTH - INDENT, INDENT);
            let _ = writeln!(out, "     {} {text}", paint.dim(&format!("{label:<8}")));
        }
    }
    let (word, why) = backups::come_back(check);
    let word = match check.come_back {
        ComeBack::Yes => paint.good(word),
        ComeBack::No => paint.bad(word),
        ComeBack::Unknown => paint.doubt(word),
    };
    labelled(out, "come back", &format!("{word}: {why}"), paint);
}

/// The verdict's own help; after a pass, the gate. Of a package that was not judged it says neither that it may be
/// deployed nor that it must not be: the way back stands in a row of its own.
fn next(record: &Record) -> Option<String> {
    let gate = || {
        let package = record.artefacts.iter().find(|a| a.role == "package")?;
        Some(format!(
            "`rehearse gate --package {}` lets exactly this package through",
            package.path
        ))
    };
    match (
        record.verdict.outcome,
        record.mode,
        &record.verdict.rollback,
    ) {
        (Outcome::Passed | Outcome::Failed, _, Rollback::Stuck { .. }) => {
            let then = record
                .verdict
                .help
                .as_ref()
                .map(|h| format!("; then: {h}"))
                .unwrap_or_default();
            Some(format!("do not deploy: nobody has seen the way back{then}"))
        }
        (Outcome::Passed, Mode::Rehearse, Rollback::Proved { .. }) => gate(),
        (Outcome::Passed, _, _) => None,
        (Outcome::Failed | Outcome::Invalid, _, _) => {
            let service = record
                .kept
                .as_ref()
                .and_then(|kept| kept.containers.keys().next());
            let run = &record.run;
            match service {
                Some(service) => Some(format!(
                    "`rehearse open {run} {service}` looks inside, `rehearse retry {run}` tries again, `rehearse down {run}` removes it"
                )),
                None => record.verdict.help.clone(),
            }
        }
    }
}
