//! One page for a person: no scripts, no other files, readable on a phone and in the dark.

mod availability;
mod paths;
mod steps;

use std::fmt::Write as _;

use crate::event::{Case, CaseStatus, Event, EventKind, Mode, Stage};
use crate::report::record::{ComeBack, Record};
use crate::report::text::{bytes, clean, count, one_line, seconds, tail};
use crate::report::{backups, lines};
use crate::verdict::{Rollback, StageEnd, stages_seen};

const STYLE: &str = include_str!("html.css");

/// Bytes of a step's or a case's output that the page shows; the whole lies in the run's folder.
const MOST_OUTPUT: usize = 8 * 1024;

/// Renders the events so far.
pub fn render(events: &[Event]) -> String {
    let mut page = String::new();
    match Record::of(events) {
        Some(record) => {
            head(
                &mut page,
                &format!("{}: {}", record.verdict.outcome.name(), record.rehearsal),
            );
            verdict(&mut page, &record);
            backup_check(&mut page, &record);
            timeline(&mut page, events, &record);
            paths::render(&mut page, events, &record);
            cases(&mut page, events);
            steps::render(&mut page, events);
            availability::render(&mut page, &record);
            outside(&mut page, &record);
            emulated(&mut page, &record);
            facts(&mut page, &record);
        }
        None => {
            head(&mut page, "invalid");
            page.push_str("<h1>invalid</h1><p>The run never started.</p>");
        }
    }
    page.push_str("</main></body></html>\n");
    page
}

/// Clean, and harmless between tags and inside quotes.
fn esc(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in clean(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Text in which `` `this` `` is code.
fn prose(text: &str) -> String {
    let text = esc(text);
    let parts: Vec<&str> = text.split('`').collect();
    let whole = parts.len() % 2 == 1;
    let mut out = String::new();
    for (n, part) in parts.iter().enumerate() {
        match (n % 2 == 1, whole) {
            (true, true) => out += &format!("<code>{part}</code>"),
            (_, true) => out += part,
            (_, false) if n > 0 => out += &format!("`{part}"),
            (_, false) => out += part,
        }
    }
    out
}

fn head(page: &mut String, title: &str) {
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{}</title><style>{STYLE}</style></head><body><main>\n",
        esc(title)
    );
}

fn verdict(page: &mut String, record: &Record) {
    let v = &record.verdict;
    let outcome = v.outcome.name();
    let what = match (&record.package, record.mode) {
        (Some(p), Mode::Rehearse) => format!("{} {}", p.name, p.version.as_deref().unwrap_or("")),
        (None, Mode::Rehearse) => record.rehearsal.clone(),
        (_, Mode::BackupCheck) => format!("the backup of {}", record.rehearsal),
    };
    let _ = write!(
        page,
        "<header class=\"{outcome}\"><p class=\"badge\">{outcome}</p><h1>{}</h1>",
        esc(&what)
    );
    let blame: Vec<String> = [
        v.owner
            .map(|owner| format!("the {} is at fault", owner.name())),
        v.stage.map(|stage| format!("in {stage}")),
        v.interrupted.then(|| "interrupted".to_owned()),
        record.assisted.then(|| "assisted".to_owned()),
        record
            .finished
            .is_none()
            .then(|| "the run is not over".to_owned()),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !blame.is_empty() {
        let _ = write!(page, "<p class=\"blame\">{}</p>", esc(&blame.join(" · ")));
    }
    let _ = write!(page, "<p>{}</p>", prose(&v.reason));
    if let Some(help) = &v.help {
        let _ = write!(page, "<p class=\"help\"><b>Next:</b> {}</p>", prose(help));
    }
    let rollback = match &v.rollback {
        Rollback::NotReached => {
            (record.mode == Mode::Rehearse).then(|| "Rollback was not reached.".to_owned())
        }
        Rollback::Proved { seconds: s } => Some(format!(
            "Rollback proved in {}: tests and fingerprints as before.",
            seconds(*s)
        )),
        Rollback::Stuck { reason } => Some(format!(
            "<b class=\"bad\">Rollback is stuck:</b> {}",
            prose(reason)
        )),
    };
    if let Some(rollback) = rollback {
        let _ = write!(page, "<p>{rollback}</p>");
    }
    page.push_str("</header>\n");
}

/// Could we come back, from what, and how long would it take?
fn backup_check(page: &mut String, record: &Record) {
    let Some(check) = &record.backup_check else {
        return;
    };
    let (word, why) = backups::come_back(check);
    let class = match check.come_back {
        ComeBack::Yes => "ok",
        ComeBack::No => "bad",
        ComeBack::Unknown => "doubt",
    };
    let _ = write!(
        page,
        "<section class=\"backups\"><h2>Could we come back? <span class=\"{class}\"><b class=\"mark\">{word}</b></span>\
         <span class=\"dim\">: {why}</span></h2>"
    );
    for seen in &check.backups {
        let _ = write!(
            page,
            "<table class=\"facts\"><caption>{}</caption>",
            esc(&backups::name(seen))
        );
        for (label, text) in backups::told(seen) {
            let _ = write!(page, "<tr><th>{label}</th><td>{}</td></tr>", esc(&text));
        }
        page.push_str("</table>");
    }
    page.push_str("</section>\n");
}

fn timeline(page: &mut String, events: &[Event], record: &Record) {
    let seen = stages_seen(events);
    let longest = record
        .stages
        .iter()
        .map(|s| s.seconds)
        .fold(0.001, f64::max);
    page.push_str("<section><h2>Stages</h2><ol class=\"stages\">");
    for facts in &record.stages {
        let (class, mark) = match &facts.end {
            StageEnd::Ok => ("ok", "✓"),
            StageEnd::Bad { .. } => ("bad", "✗"),
            StageEnd::Interrupted | StageEnd::Unfinished => ("doubt", "!"),
            StageEnd::Skipped { .. } | StageEnd::NotReached => ("none", "–"),
        };
        let said = match &facts.end {
            StageEnd::Ok => esc(&lines::done(events, facts.stage)),
            StageEnd::Bad {
                owner,
                reason,
                help,
            } => {
                // What to do about the verdict stands at the top.
                let help = help
                    .as_ref()
                    .filter(|_| record.verdict.stage != Some(facts.stage))
                    .map(|h| format!("<br><b>help:</b> {}", prose(h)))
                    .unwrap_or_default();
                format!("<b>{}</b>: {}{help}", owner.name(), prose(reason))
            }
            StageEnd::Interrupted => "interrupted".to_owned(),
            StageEnd::Unfinished => "began and was not seen to end".to_owned(),
            StageEnd::Skipped { reason } => format!("not reached: {}", prose(reason)),
            StageEnd::NotReached => "not reached".to_owned(),
        };
        let ran = seen
            .iter()
            .any(|s| s.stage == facts.stage && s.started.is_some());
        let time = if ran {
            seconds(facts.seconds)
        } else {
            String::new()
        };
        let width = if ran {
            (facts.seconds / longest * 100.0).clamp(0.5, 100.0)
        } else {
            0.0
        };
        let _ = write!(
            page,
            "<li class=\"{class}\"><span class=\"mark\">{mark}</span><span class=\"name\">{}</span>\
             <span class=\"time\">{time}</span><span class=\"bar\"><i style=\"width:{width:.1}%\"></i></span>\
             <span class=\"said\">{said}</span></li>",
            facts.stage
        );
    }
    page.push_str("</ol></section>\n");
}

/// Suites in the order in which they ran; those in which something is wrong are open.
fn cases(page: &mut String, events: &[Event]) {
    let all: Vec<(Stage, &Case)> = events
        .iter()
        .filter_map(|e| match &e.kind {
            EventKind::CaseFinished { stage, case } => Some((*stage, case)),
            _ => None,
        })
        .collect();
    let mut suites: Vec<&str> = Vec::new();
    for (_, case) in &all {
        if !suites.contains(&case.suite.as_str()) {
            suites.push(&case.suite);
        }
    }
    if suites.is_empty() {
        return;
    }
    page.push_str("<section><h2>Tests</h2>");
    for suite in suites {
        let of_suite = all.iter().filter(|(_, case)| case.suite == suite);
        let (rungs, of_suite): (Vec<_>, Vec<_>) =
            of_suite.partition(|(stage, case)| lines::is_rung_skipped(*stage, case));
        let good = of_suite
            .iter()
            .filter(|(_, case)| case.status == CaseStatus::Passed)
            .count();
        let open = if good == of_suite.len() { "" } else { " open" };
        let not_looked_at = match rungs.len() {
            0 => String::new(),
            n => format!(", {n} not looked at"),
        };
        let _ = write!(
            page,
            "<details{open}><summary>{} <span class=\"dim\">{good} of {} passed{not_looked_at}</span></summary>\
             <ul class=\"cases\">",
            esc(suite),
            of_suite.len()
        );
        for (stage, case) in of_suite {
            one_case(page, stage, case);
        }
        page.push_str("</ul>");
        if !rungs.is_empty() {
            let _ = write!(
                page,
                "<details><summary>{} not looked at, and why</summary><ul class=\"cases\">",
                count(rungs.len(), "rung")
            );
            for (stage, case) in rungs {
                one_case(page, stage, case);
            }
            page.push_str("</ul></details>");
        }
        page.push_str("</details>");
    }
    page.push_str("</section>\n");
}

fn one_case(page: &mut String, stage: Stage, case: &Case) {
    let (class, mark, word) = match case.status {
        CaseStatus::Passed => ("ok", "✓", ""),
        CaseStatus::Failed => ("bad", "✗", "failed"),
        CaseStatus::Error => ("doubt", "!", "could not be determined"),
        CaseStatus::Skipped => ("none", "–", lines::skipped(stage)),
        CaseStatus::Warned => ("doubt", "~", "warns"),
    };
    // Many checks of a backup take no time of their own: a column of noughts says nothing.
    let time = if case.seconds > 0.0 {
        seconds(case.seconds)
    } else {
        String::new()
    };
    let _ = write!(
        page,
        "<li class=\"{class}\"><span class=\"mark\">{mark}</span> <b>{}</b> <span class=\"dim\">{word} {time}</span>",
        esc(&case.name),
    );
    let mut row = |label: &str, text: Option<&str>| {
        if let Some(text) = text {
            let _ = write!(page, "<div class=\"dim\">{label} {}</div>", esc(text));
        }
    };
    row("", case.message.as_deref());
    row("component", case.component.as_deref());
    row("written at", case.location.as_deref());
    if !case.mismatches.is_empty() {
        page.push_str("<table><tr><th></th><th>expected</th><th>seen</th></tr>");
        for m in &case.mismatches {
            let _ = write!(
                page,
                "<tr><th>{}</th><td><pre>{}</pre></td><td><pre>{}</pre></td></tr>",
                esc(&m.what),
                esc(&m.expected),
                esc(&m.seen)
            );
        }
        page.push_str("</table>");
    }
    if let Some(output) = &case.output {
        let _ = write!(
            page,
            "<details><summary>output</summary><pre>{}</pre></details>",
            esc(&tail(output, MOST_OUTPUT))
        );
    }
    for file in &case.evidence {
        link(page, file);
    }
    page.push_str("</li>");
}

/// A file of the run's folder. Anything that is not a plain relative path is shown and not linked.
fn link(page: &mut String, file: &str) {
    let plain = file
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "/._-~".contains(c))
        && !file.starts_with('/')
        && !file.split('/').any(|part| part == "..");
    let shown = esc(file);
    let _ = if plain {
        write!(page, "<div><a href=\"./{shown}\">{shown}</a></div>")
    } else {
        write!(page, "<div><code>{shown}</code></div>")
    };
}

fn outside(page: &mut String, record: &Record) {
    if record.outside_names.is_empty() && record.outside_calls.is_empty() {
        return;
    }
    page.push_str("<section><h2>Asked for from outside, and refused</h2><ul>");
    for o in &record.outside_names {
        let (name, asker, times) = (esc(&o.name), esc(&o.asker), count(o.times, "time"));
        let _ = write!(
            page,
            "<li><code>{name}</code> by {asker} in {}, {times}</li>",
            o.stage
        );
    }
    for o in &record.outside_calls {
        let (caller, times) = (esc(&o.caller), count(o.times, "time"));
        let _ = write!(
            page,
            "<li>an address, without a name, by {caller} in {}, at least {times}</li>",
            o.stage
        );
    }
    page.push_str("</ul></section>\n");
}

fn emulated(page: &mut String, record: &Record) {
    if record.emulated.is_empty() {
        return;
    }
    page.push_str("<section><h2>Asked of emulators</h2>");
    match record.mails_to_strangers() {
        0 => {}
        1 => page.push_str("<p><b class=\"bad\">1 mail would have gone to customers.</b></p>"),
        n => {
            let _ = write!(
                page,
                "<p><b class=\"bad\">{n} mails would have gone to customers.</b></p>"
            );
        }
    }
    page.push_str("<ul>");
    for asked in &record.emulated {
        let but = match asked.matched {
            true => "",
            false => " <b class=\"bad\">unmatched</b>",
        };
        let status = asked
            .status
            .map(|status| format!(" {status}"))
            .unwrap_or_default();
        let _ = write!(
            page,
            "<li><b>{}</b>: <code>{}</code>{status} by {} in {}, {}{but}</li>",
            esc(&asked.emulator),
            esc(&asked.summary),
            esc(&asked.asker),
            asked.stage,
            count(asked.times, "time")
        );
    }
    page.push_str("</ul></section>\n");
}

fn facts(page: &mut String, record: &Record) {
    page.push_str("<section><h2>Facts</h2><table class=\"facts\">");
    let mut row = |label: &str, value: &str| {
        let _ = write!(
            page,
            "<tr><th>{}</th><td>{}</td></tr>",
            esc(label),
            esc(value)
        );
    };
    row("run", &record.run);
    row(
        "rehearsal",
        &format!("{} ({})", record.rehearsal, record.file),
    );
    row("began", &lines::minute(record.started));
    row("took", &seconds(record.seconds));
    if let Some(code) = record.exit_code {
        row("exit code", &code.to_string());
    }
    if let Some(p) = &record.package {
        row(
            "package",
            &format!(
                "{} {}\n{}",
                p.name,
                p.version.as_deref().unwrap_or(""),
                p.digest
            ),
        );
    }
    if let Some(e) = &record.engine {
        row(
            "engine",
            &format!(
                "{}, API {}, {}, branches by {}",
                e.version, e.api, e.storage, e.branches
            ),
        );
    }
    row("rehearse", &record.version);
    let mut measured: Vec<(&str, Vec<String>)> = Vec::new();
    for m in &record.measured {
        match measured.iter_mut().find(|(what, _)| *what == m.what) {
            Some((_, times)) => times.push(seconds(m.seconds)),
            None => measured.push((&m.what, vec![seconds(m.seconds)])),
        }
    }
    for (what, times) in measured {
        row(what, &times.join(", "));
    }
    for b in &record.bases {
        row(
            "base",
            &format!(
                "{} {} {}",
                b.volume,
                if b.reused { "reused" } else { "restored" },
                b.key
            ),
        );
    }
    for (of, parts) in &record.fingerprints {
        for (part, digest) in parts {
            row(&format!("fingerprint, {of}"), &format!("{part}\n{digest}"));
        }
    }
    for a in &record.artefacts {
        row(
            &a.role,
            &format!("{} ({})\n{}", one_line(&a.path), bytes(a.size), a.digest),
        );
    }
    for left in &record.leftovers {
        row("left behind", &format!("{}: {}", left.what, left.reason));
    }
    if let Some(kept) = &record.kept {
        row("staging is up until", &lines::minute(kept.expires));
        for (service, container) in &kept.containers {
            row(&format!("container of {service}"), container);
        }
    }
    page.push_str("</table></section>\n");
}
