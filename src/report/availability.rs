//! How a site stood its deploy, in words.

use crate::event::{Availability, Outage};
use crate::report::text::{clip, count, one_line, seconds};

/// `front page was down for 1.9 s during backend / roll the app: HTTP status 502`.
pub(super) fn outage(outage: &Outage) -> String {
    let during = match outage.steps.as_slice() {
        [] => String::new(),
        steps => format!(" during {}", steps.join(", ")),
    };
    let still = match outage.to {
        Some(_) => "",
        None => " and still was when the deploy had ended",
    };
    let said = format!(
        "{} was down for {}{during}{still}: {}",
        outage.target,
        seconds(outage.seconds),
        outage.reason
    );
    clip(&one_line(&said), 300)
}

/// `front page down 2.3 s, at most 1.9 s at once during backend / roll the app`, or that it was always there.
pub(super) fn target(target: &Availability, outages: &[Outage]) -> String {
    if target.outages == 0 {
        let asked = count(
            usize::try_from(target.probes).unwrap_or(usize::MAX),
            "probe",
        );
        return one_line(&format!("{} always there ({asked})", target.target));
    }
    let longest = outages
        .iter()
        .filter(|outage| outage.target == target.target)
        .max_by(|a, b| a.seconds.total_cmp(&b.seconds));
    let during = longest
        .filter(|outage| !outage.steps.is_empty())
        .map(|outage| format!(" during {}", outage.steps.join(", ")));
    one_line(&format!(
        "{} down {}, at most {} at once{}",
        target.target,
        seconds(target.downtime_seconds),
        seconds(target.longest_seconds),
        during.unwrap_or_default()
    ))
}
