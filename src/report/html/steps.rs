//! The steps of the deploy, each with the end of what it wrote.

use std::fmt::Write as _;

use super::{esc, link};
use crate::event::Event;
use crate::report::steps::steps;
use crate::report::text::seconds;

pub(super) fn render(page: &mut String, events: &[Event]) {
    let steps = steps(events);
    if steps.is_empty() {
        return;
    }
    page.push_str("<section><h2>Steps of the deploy</h2>");
    let count = steps.len();
    for (n, step) in steps.iter().enumerate() {
        let ended = match step.ended {
            Some((Some(code), secs)) => format!("exit code {code} after {}", seconds(secs)),
            Some((None, secs)) => format!("ended after {}", seconds(secs)),
            None => "was not seen to end".to_owned(),
        };
        // The last step is the one that failed, where one did.
        let open = if n + 1 == count { " open" } else { "" };
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
    page.push_str("</section>\n");
}
