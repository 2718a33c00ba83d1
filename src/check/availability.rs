//! Whether a site was there while it was being deployed: what is asked again and again, and what the answers add up to.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::model::{Observation, Probe, Unseen};

/// Windows that are told one by one; of more, only the figures are kept.
const MOST_WINDOWS: usize = 100;

/// Something that is asked at a fixed pace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// Unique in its test plan.
    pub name: String,
    /// `http` without a body, or `tcp`. Its timeout is how long an answer may take.
    pub probe: Probe,
    /// The statuses that count as there; none is any below 400.
    pub statuses: Vec<u16>,
    /// From the start of one question to that of the next.
    pub every: Duration,
}

/// What one question showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answered {
    /// It is there.
    Up,
    /// It is not, and why.
    Down(String),
    /// The asking itself went wrong.
    Unknown(String),
}

impl Target {
    /// What an answer says of the target.
    pub fn answered(&self, seen: &Result<Observation, Unseen>) -> Answered {
        match seen {
            Ok(Observation::Http { status, .. }) => {
                let there = match self.statuses.as_slice() {
                    [] => *status < 400,
                    wanted => wanted.contains(status),
                };
                match there {
                    true => Answered::Up,
                    false => Answered::Down(format!("HTTP status {status}")),
                }
            }
            Ok(
                Observation::Tcp { .. }
                | Observation::Sql { .. }
                | Observation::Exec { .. }
                | Observation::File(_)
                | Observation::Emulator(_),
            ) => Answered::Up,
            Err(Unseen::Unanswered(why)) => Answered::Down(why.clone()),
            Err(Unseen::Undetermined(why)) => Answered::Unknown(why.clone()),
        }
    }
}

/// A time in which the target was not there: from the start of the first question that failed to the start of the first
/// one that succeeded again. Times count from the start of the watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// The start of the first question that failed.
    pub from: Duration,
    /// The start of the first question that succeeded again; where it is still down, the end of the last question.
    pub to: Duration,
    /// The start of the last question that failed: until then it was surely not there.
    pub last: Duration,
    /// True where it was still down at the end of the watch.
    pub open: bool,
    /// How many questions failed.
    pub probes: u64,
    /// What the first of them said.
    pub reason: String,
}

/// What all answers of a target add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Questions.
    pub probes: u64,
    /// Questions that failed.
    pub failed: u64,
    /// Questions that could not be asked, and what the first of them said.
    pub unknown: Option<(u64, String)>,
    /// The longest that a good answer took.
    pub slowest: Duration,
    /// How many windows there were.
    pub count: u64,
    /// The first of them.
    pub windows: Vec<Window>,
    /// The sum of all windows.
    pub downtime: Duration,
    /// The longest window.
    pub longest: Option<Window>,
    /// True where it was down at the end of the watch.
    pub still_down: bool,
    /// The window that has not ended yet.
    #[serde(skip)]
    now: Option<Window>,
}

impl Tally {
    /// Adds one question: when it was asked, how long it took, and what it showed. Questions come in order.
    pub fn add(&mut self, asked: Duration, took: Duration, answered: Answered) {
        self.probes += 1;
        match answered {
            Answered::Up => {
                self.slowest = self.slowest.max(took);
                if let Some(window) = self.now.take() {
                    self.close(Window {
                        to: asked,
                        open: false,
                        ..window
                    });
                }
            }
            Answered::Down(reason) => {
                self.failed += 1;
                let window = self.now.get_or_insert(Window {
                    from: asked,
                    to: asked,
                    last: asked,
                    open: true,
                    probes: 0,
                    reason,
                });
                window.probes += 1;
                window.last = asked;
                window.to = asked + took;
            }
            Answered::Unknown(why) => self.unknown.get_or_insert((0, why)).0 += 1,
        }
    }

    /// For how long it was away in all, where it is away now.
    pub fn away(&self) -> Option<Duration> {
        let now = self.now.as_ref()?;
        Some(self.downtime + now.to.saturating_sub(now.from))
    }

    /// Nothing is asked any more.
    pub fn end(&mut self) {
        if let Some(window) = self.now.take() {
            self.close(window);
        }
    }

    fn close(&mut self, window: Window) {
        self.count += 1;
        self.still_down = window.open;
        let lasted = |window: &Window| window.to.saturating_sub(window.from);
        self.downtime += lasted(&window);
        let longer = self
            .longest
            .as_ref()
            .is_none_or(|longest| lasted(&window) > lasted(longest));
        if longer {
            self.longest = Some(window.clone());
        }
        if self.windows.len() < MOST_WINDOWS {
            self.windows.push(window);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Asked ten times a second, each answer after 5 ms: `.` is there, `x` is not, `?` could not be asked.
    fn tally(answers: &str) -> Tally {
        let mut tally = Tally::default();
        for (n, answer) in (0..).zip(answers.chars()) {
            let answered = match answer {
                '.' => Answered::Up,
                'x' => Answered::Down(format!("at {n}")),
                _ => Answered::Unknown("no file left".to_owned()),
            };
            tally.add(ms(100 * n), ms(5), answered);
        }
        tally.end();
        tally
    }

    #[test]
    fn a_window_goes_from_the_first_failure_to_the_first_success() {
        for (answers, downtime, longest, windows, still) in [
            ("", 0, 0, 0, false),
            ("....", 0, 0, 0, false),
            (".x..", 100, 100, 1, false),
            (".xxx.x.", 400, 300, 2, false),
            ("..xx", 105, 105, 1, true),
            (".x.x", 105, 100, 2, true),
            // What could not be asked neither begins nor ends anything.
            (".x?x.?.", 300, 300, 1, false),
        ] {
            let seen = tally(answers);
            let lasted = seen.longest.as_ref().map_or(ms(0), |w| w.to - w.from);
            assert_eq!(
                (seen.downtime, lasted, seen.count, seen.still_down),
                (ms(downtime), ms(longest), windows, still),
                "{answers}"
            );
            assert_eq!(seen.probes, answers.len() as u64);
            assert_eq!(seen.failed, answers.matches('x').count() as u64);
            let unknown = answers.matches('?').count() as u64;
            assert_eq!(seen.unknown.map_or(0, |(n, _)| n), unknown);
        }
        let seen = tally(".xx.");
        assert_eq!(seen.windows[0].reason, "at 1");
        assert_eq!((seen.windows[0].probes, seen.windows[0].last), (2, ms(200)));
        assert_eq!(seen.slowest, ms(5));
    }

    #[test]
    fn of_a_site_that_flaps_without_end_the_sums_are_right_and_the_list_is_short() {
        let seen = tally(&".x".repeat(1_000));
        assert_eq!((seen.count, seen.windows.len()), (1_000, MOST_WINDOWS));
        assert_eq!(seen.downtime, ms(100 * 999 + 5));
        assert!(seen.still_down);
    }

    #[test]
    fn there_is_what_answers_below_400_or_as_it_is_expected() {
        let http = |status| {
            Ok(Observation::Http {
                status,
                headers: Vec::new(),
                body: String::new(),
                truncated: false,
            })
        };
        let target = |statuses: &[u16]| Target {
            name: "front".to_owned(),
            probe: Probe::File(crate::check::model::FileProbe {
                service: String::new(),
                path: String::new(),
            }),
            statuses: statuses.to_vec(),
            every: ms(100),
        };
        for (statuses, seen, up) in [
            (&[][..], http(200), true),
            (&[], http(302), true),
            (&[], http(404), false),
            (&[], http(503), false),
            (&[200], http(302), false),
            (&[200, 404], http(404), true),
            (
                &[],
                Ok(Observation::Tcp {
                    banner: String::new(),
                }),
                true,
            ),
            (&[], Err(Unseen::Unanswered("refused".to_owned())), false),
        ] {
            let answered = target(statuses).answered(&seen);
            assert_eq!(answered == Answered::Up, up, "{statuses:?} {seen:?}");
        }
        let own = Err(Unseen::Undetermined("ours".to_owned()));
        assert_eq!(
            target(&[]).answered(&own),
            Answered::Unknown("ours".to_owned())
        );
    }
}
