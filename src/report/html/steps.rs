//! The steps of the deploy, each with the end of what it wrote; of a runbook with the words around them.

use std::fmt::Write as _;

use super::{esc, link};
use crate::event::{Event, EventKind, Part};
use crate::report::steps::{Step, steps};
use crate::report::text::{clip, seconds};

/// Characters of a stretch of a runbook that the page shows; a document is not a deploy.
const MOST_PROSE: usize = 4 * 1024;

pub(super) fn render(page: &mut String, events: &[Event]) {
    let steps = steps(events);
    let runbook = events.iter().find_map(|event| match &event.kind {
        EventKind::Runbook { component, parts } => Some((component, parts)),
        _ => None,
    });
    if steps.is_empty() && runbook.is_none() {
        return;
    }
    page.push_str("<section><h2>Steps of the deploy</h2>");
    match runbook {
        Some((component, parts)) => {
            for part in parts {
                render_part(page, component, part, &steps);
            }
        }
        None => {
            for step in &steps {
                render_one(page, step, &steps);
            }
        }
    }
    page.push_str("</section>\n");
}

fn render_part(page: &mut String, component: &str, part: &Part, steps: &[Step]) {
    let said = |page: &mut String, step: &str, why: &str| {
        let _ = write!(
            page,
            "<p>{} <span class=\"dim\">{why}</span></p>",
            esc(step)
        );
    };
    match part {
        Part::Prose { text } => {
            let text = esc(&clip(text, MOST_PROSE));
            let _ = write!(page, "<p class=\"prose\">{text}</p>");
        }
        Part::Shown { language, text } => {
            let what = if language.is_empty() {
                "a block"
            } else {
                language
            };
            let _ = write!(
                page,
                "<p class=\"dim\">{}, not run:</p><pre>{}</pre>",
                esc(what),
                esc(&clip(text, MOST_PROSE))
            );
        }
        Part::Step {
            step,
            rollback: true,
        } => said(page, step, "of the way back: not run by the deploy"),
        Part::Step {
            step,
            rollback: false,
        } => {
            let source = format!("{component}/{step}");
            match steps.iter().find(|step| step.source == source) {
                Some(step) => render_one(page, step, steps),
                None => said(page, step, "not reached"),
            }
        }
    }
}

fn render_one(page: &mut String, step: &Step, all: &[Step]) {
    let ended = match step.ended {
        Some((Some(code), secs)) => format!("exit code {code} after {}", seconds(secs)),
        Some((None, secs)) => format!("ended after {}", seconds(secs)),
        None => "was not seen to end".to_owned(),
    };
    // The last step is the one that failed, where one did.
    let is_last = all.last().is_some_and(|last| last.source == step.source);
    let open = if is_last { " open" } else { "" };
    let _ = write!(
        page,
        "<details{open}><summary>{} <span class=\"dim\">in {} · {ended}</span></summary>",
        esc(&step.source),
        esc(&step.target)
    );
    if step.output.is_empty() {
        page.push_str("<p class=\"dim\">It wrote nothing.</p>");
    } else {
        let _ = write!(page, "<pre>{}</pre>", esc(&step.output));
    }
    if let Some(log) = &step.log {
        link(page, log);
    }
    page.push_str("</details>");
}
