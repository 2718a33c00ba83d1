//! How long tables were locked against readers or writers, from samples of the locks that were held.

use std::collections::BTreeMap;
use std::time::Duration;

/// A lock that keeps others out: which of PostgreSQL's modes, the weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Writers wait: `create index`.
    Share,
    /// Writers wait: `create trigger`, `add foreign key`.
    ShareRowExclusive,
    /// Writers wait: `refresh materialized view concurrently`.
    Exclusive,
    /// Readers and writers wait: most of `alter table`, `truncate`, `vacuum full`.
    AccessExclusive,
}

impl Mode {
    /// By the name that `pg_locks` has for it, without its `Lock`.
    pub fn named(name: &str) -> Option<Self> {
        let all = [
            Self::Share,
            Self::ShareRowExclusive,
            Self::Exclusive,
            Self::AccessExclusive,
        ];
        all.into_iter().find(|mode| mode.name() == name)
    }

    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Share => "Share",
            Self::ShareRowExclusive => "ShareRowExclusive",
            Self::Exclusive => "Exclusive",
            Self::AccessExclusive => "AccessExclusive",
        }
    }
}

/// A time in which others could not read or write a table: from the first sample with a lock to the first one without.
/// Whoever held it, and however many transactions took it one behind the other: what waits sees one long lock.
#[derive(Clone, Debug, PartialEq)]
pub struct Lock {
    /// `orders`, or `archive.orders` outside the schema `public`.
    pub table: String,
    /// The strongest that was seen.
    pub mode: Mode,
    /// Seconds since 1970 by the server's clock.
    pub from: f64,
    /// Likewise.
    pub to: f64,
    /// The last sample with it, likewise.
    pub last: f64,
}

impl Lock {
    /// How long it was held.
    pub fn lasted(&self) -> Duration {
        Duration::try_from_secs_f64(self.to - self.from).unwrap_or_default()
    }
}

/// Samples in order.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// How many samples there were.
    pub samples: u64,
    /// The longest lock that has ended.
    longest: Option<Lock>,
    held: BTreeMap<String, Lock>,
}

impl Ledger {
    /// Adds what was held at one moment.
    pub fn add(&mut self, at: f64, held: Vec<(String, Mode)>) {
        self.samples += 1;
        let mut still = BTreeMap::new();
        for (table, mode) in held {
            let known = still.remove(&table).or_else(|| self.held.remove(&table));
            let lock = match known {
                Some(lock) => Lock {
                    mode: mode.max(lock.mode),
                    to: at,
                    last: at,
                    ..lock
                },
                None => Lock {
                    table: table.clone(),
                    mode,
                    from: at,
                    to: at,
                    last: at,
                },
            };
            still.insert(table, lock);
        }
        let gone = std::mem::replace(&mut self.held, still);
        for (_, lock) in gone {
            self.keep(Lock { to: at, ..lock });
        }
    }

    /// The server went away, and all locks with it: they ended at the latest when it came back.
    pub fn lost(&mut self) {
        for (_, lock) in std::mem::take(&mut self.held) {
            self.keep(lock);
        }
    }

    /// The longest lock, also where it is still held.
    pub fn longest(&self) -> Option<Lock> {
        self.held
            .values()
            .chain(&self.longest)
            .max_by(|a, b| a.lasted().cmp(&b.lasted()))
            .cloned()
    }

    fn keep(&mut self, lock: Lock) {
        let longer = self
            .longest
            .as_ref()
            .is_none_or(|longest| lock.lasted() > longest.lasted());
        if longer {
            self.longest = Some(lock);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A letter is a table that is locked, ten samples a second.
    fn longest(samples: &[&str]) -> Option<(String, Duration)> {
        let mut ledger = Ledger::default();
        for (n, held) in samples.iter().enumerate() {
            let held = held.chars().map(|c| (c.to_string(), Mode::AccessExclusive));
            ledger.add(1_000.0 + n as f64 / 8.0, held.collect());
        }
        let lock = ledger.longest()?;
        Some((lock.table.clone(), lock.lasted()))
    }

    #[test]
    fn a_lock_lasts_from_the_first_sample_with_it_to_the_first_without() {
        let eighths = |n: u32| Duration::from_millis(125) * n;
        for (samples, expected) in [
            (&["", ""][..], None),
            (&["", "a", ""], Some(("a", 1))),
            (&["a", "a", "b", "b", "b", ""], Some(("b", 3))),
            // Two transactions one behind the other, and two at once, keep others out as one.
            (&["aa", "a", "aa", ""], Some(("a", 3))),
            (&["a", "", "a", ""], Some(("a", 1))),
            (&["", "ab", "b", "b"], Some(("b", 2))),
        ] {
            let expected = expected.map(|(table, n)| (table.to_owned(), eighths(n)));
            assert_eq!(longest(samples), expected, "{samples:?}");
        }
    }

    #[test]
    fn the_strongest_mode_is_told_and_the_names_are_those_of_the_server() {
        let mut ledger = Ledger::default();
        ledger.add(1.0, vec![("a".to_owned(), Mode::AccessExclusive)]);
        ledger.add(2.0, vec![("a".to_owned(), Mode::Share)]);
        ledger.add(3.0, Vec::new());
        let lock = ledger.longest().unwrap();
        assert_eq!(
            (lock.mode, lock.lasted()),
            (Mode::AccessExclusive, Duration::from_secs(2))
        );
        assert_eq!(
            Mode::named("ShareRowExclusive"),
            Some(Mode::ShareRowExclusive)
        );
        assert_eq!(Mode::named("RowExclusive"), None);
    }

    #[test]
    fn a_server_that_went_away_holds_no_locks() {
        let mut ledger = Ledger::default();
        ledger.add(1.0, vec![("a".to_owned(), Mode::Exclusive)]);
        ledger.add(1.5, vec![("a".to_owned(), Mode::Exclusive)]);
        ledger.lost();
        ledger.add(9.0, vec![("a".to_owned(), Mode::Exclusive)]);
        ledger.add(9.25, Vec::new());
        assert_eq!(
            ledger.longest().unwrap().lasted(),
            Duration::from_millis(500)
        );
    }
}
