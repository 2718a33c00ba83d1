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

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(seconds: f64, steps: &[&str], ended: bool) -> Outage {
        Outage {
            target: "front page".to_owned(),
            from: "2025-11-21T02:00:00Z".parse().unwrap(),
            to: ended.then(|| "2025-11-21T02:00:01Z".parse().unwrap()),
            seconds,
            probes: 3,
            reason: "HTTP status 502".to_owned(),
            steps: steps.iter().map(|step| (*step).to_owned()).collect(),
        }
    }

    #[test]
    fn an_outage_is_told_with_its_step_and_its_reason() {
        for (outage_seen, said) in [
            (
                seen(1.9, &["app / roll"], true),
                "front page was down for 1.90 s during app / roll: HTTP status 502",
            ),
            (
                seen(12.0, &[], false),
                "front page was down for 12.0 s and still was when the deploy had ended: HTTP status 502",
            ),
        ] {
            assert_eq!(outage(&outage_seen), said);
        }
    }

    #[test]
    fn a_target_is_told_with_its_sum_and_its_longest_outage() {
        let mut of = Availability {
            target: "front page".to_owned(),
            probes: 40,
            failed: 0,
            outages: 0,
            downtime_seconds: 0.0,
            longest_seconds: 0.0,
            slowest_seconds: 0.01,
        };
        assert_eq!(target(&of, &[]), "front page always there (40 probes)");
        of.outages = 2;
        of.downtime_seconds = 14.0;
        of.longest_seconds = 12.0;
        let outages = [seen(2.0, &[], true), seen(12.0, &["app / roll"], true)];
        assert_eq!(
            target(&of, &outages),
            "front page down 14.0 s, at most 12.0 s at once during app / roll"
        );
    }
}
