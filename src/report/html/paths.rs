//! The paths of what-ifs: the table, and what happened on each.

use std::fmt::Write as _;

use super::{esc, link, one_case, prose};
use crate::event::{CaseStatus, Event, EventKind};
use crate::report::files::LogNames;
use crate::report::paths::{by_what_if, happened, left_out};
use crate::report::record::{PathFacts, Record};
use crate::report::text::{bytes, seconds};
use crate::report::{files, lines};
use crate::verdict::PathEnd;

pub(super) fn render(page: &mut String, events: &[Event], record: &Record) {
    let Some(what_ifs) = &record.what_ifs else {
        return;
    };
    page.push_str("<section><h2>What-ifs</h2><p class=\"dim\">");
    let told: Vec<String> = by_what_if(what_ifs)
        .into_iter()
        .map(|(name, said)| format!("{name}: {said}"))
        .collect();
    let _ = write!(page, "{}</p><ul class=\"cases\">", esc(&told.join(" · ")));
    for path in &what_ifs.paths {
        one(page, events, path);
    }
    page.push_str("</ul>");
    if let Some(left) = left_out(what_ifs) {
        let _ = write!(page, "<p class=\"dim\">{}</p>", prose(&left));
    }
    page.push_str("</section>\n");
}

fn one(page: &mut String, events: &[Event], path: &PathFacts) {
    let (class, mark) = match (path.end, path.advisory) {
        (PathEnd::Passed, _) => ("ok", "✓"),
        (PathEnd::Failed, false) => ("bad", "✗"),
        (PathEnd::Failed, true) => ("doubt", "~"),
        (PathEnd::Invalid | PathEnd::Unfinished, _) => ("doubt", "!"),
        (PathEnd::NotTried, _) => ("none", "–"),
    };
    let mut figures = vec![path.end.says().to_owned()];
    if path.advisory {
        figures.push("advisory".to_owned());
    }
    if path.end != PathEnd::NotTried {
        figures.push(seconds(path.seconds));
    }
    figures.extend(path.bytes.map(|n| format!("{} written", bytes(n))));
    let _ = write!(
        page,
        "<li class=\"{class}\"><span class=\"mark\">{mark}</span> <b>{}</b> <span class=\"dim\">{}</span>",
        esc(&path.path),
        esc(&figures.join(" · "))
    );
    if let Some(reason) = &path.reason {
        let _ = write!(page, "<div>{}</div>", prose(reason));
    }
    steps(page, events, path);
    page.push_str("</li>");
}

/// The steps with their logs, and every case that did not pass there. On a path that was killed they are what was to be
/// expected.
fn steps(page: &mut String, events: &[Event], path: &PathFacts) {
    let mut told = String::new();
    for kind in happened(events, &path.path) {
        match kind {
            EventKind::StepFinished {
                component,
                step,
                exit_code,
                seconds: secs,
            } => {
                let code = exit_code.map_or_else(String::new, |code| format!(", exit code {code}"));
                let _ = write!(
                    told,
                    "<div class=\"dim\">step {} ended after {}{code}</div>",
                    esc(&format!("{component}/{step}")),
                    seconds(*secs)
                );
            }
            EventKind::CaseFinished { stage, case }
                if !matches!(case.status, CaseStatus::Passed | CaseStatus::Skipped)
                    && !lines::is_rung_skipped(*stage, case) =>
            {
                told.push_str("<ul class=\"cases\">");
                one_case(&mut told, *stage, case);
                told.push_str("</ul>");
            }
            _ => {}
        }
    }
    for log in logs(events, &path.path) {
        link(&mut told, &log);
    }
    if !told.is_empty() {
        let _ = write!(
            page,
            "<details><summary>what happened</summary>{told}</details>"
        );
    }
}

/// The logs of what was written on a path, named as the folder names them: in the order of all sources.
fn logs(events: &[Event], wanted: &str) -> Vec<String> {
    let mut names = LogNames::default();
    let mut found = Vec::new();
    for event in events {
        match &event.kind {
            EventKind::OutputLine { source, .. } => {
                names.of(source);
            }
            EventKind::OnPath { path, happened } => {
                if let EventKind::OutputLine { source, .. } = happened.as_ref() {
                    let name = format!("logs/{}", names.of(&files::on_path(path, source)));
                    if path == wanted && !found.contains(&name) {
                        found.push(name);
                    }
                }
            }
            _ => {}
        }
    }
    found
}
