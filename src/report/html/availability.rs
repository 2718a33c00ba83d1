//! How the site stood the deploy.

use std::fmt::Write as _;

use super::esc;
use crate::report::record::Record;
use crate::report::text::seconds;

pub(super) fn render(page: &mut String, record: &Record) {
    if record.availability.is_empty() {
        return;
    }
    page.push_str(
        "<section><h2>Availability during the deploy</h2><table><tr><th>Target</th><th>Probes</th><th>Failed</th>\
         <th>Downtime</th><th>Longest</th><th>Slowest answer</th></tr>",
    );
    for target in &record.availability {
        let _ = write!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            esc(&target.target),
            target.probes,
            target.failed,
            seconds(target.downtime_seconds),
            seconds(target.longest_seconds),
            seconds(target.slowest_seconds)
        );
    }
    page.push_str("</table>");
    if !record.outages.is_empty() {
        page.push_str("<ul>");
        for outage in &record.outages {
            let _ = write!(
                page,
                "<li>{} <span class=\"dim\">{}</span></li>",
                esc(&crate::report::availability::outage(outage)),
                esc(&outage.from.strftime("%H:%M:%S%.3f UTC").to_string())
            );
        }
        page.push_str("</ul>");
    }
    page.push_str("</section>\n");
}
