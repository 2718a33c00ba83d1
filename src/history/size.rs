//! Whether a backup's size is plausible beside those of earlier, passed runs.

/// How many earlier sizes a size is compared with.
pub const BESIDE: usize = 5;

/// Fewer earlier sizes than this say nothing.
pub const FEWEST: usize = 3;

/// Between which shares of the median a size is plausible, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Below it, the backup has shrunk.
    pub least: u32,
    /// Above it, the backup has grown so much that it is worth a word.
    pub most: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            least: 50,
            most: 300,
        }
    }
}

/// What a size looks like beside earlier ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SizeJudgement {
    /// There is too little to compare with. This is not plausible, and not a fault of the backup.
    NotJudged {
        /// Why, in one sentence.
        reason: String,
    },
    /// Within bounds.
    Plausible(Beside),
    /// Below them: data is missing, or the backup was cut.
    Shrunk(Beside),
    /// Above them: a figure to look at, no fault.
    Grown(Beside),
}

/// The figures of a judgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beside {
    /// The median of the earlier sizes, in bytes.
    pub median: u64,
    /// How many there were.
    pub runs: usize,
    /// The size in percent of the median, rounded down; the judgement itself is exact.
    pub percent: u64,
}

/// The median of the newest [`BESIDE`] sizes, and how many those were; `None` where there is none. `history` has the
/// newest first.
pub fn usual(history: &[u64]) -> Option<(u64, usize)> {
    let mut beside: Vec<u64> = history.iter().copied().take(BESIDE).collect();
    beside.sort_unstable();
    let runs = beside.len();
    let upper = beside.get(runs / 2)?;
    let lower = beside.get(runs.saturating_sub(1) / 2)?;
    Some((upper.midpoint(*lower), runs))
}

/// Compares a size with the median of the newest [`BESIDE`] earlier ones. `history` has the newest first, as
/// [`super::History::sizes`] gives it. A median is not moved by the one night on which something odd passed.
pub fn plausible(history: &[u64], size: u64, bounds: Bounds) -> SizeJudgement {
    let (median, runs) = usual(history).unwrap_or((0, 0));
    if runs < FEWEST {
        let runs = match runs {
            0 => "no passed run".to_owned(),
            1 => "only 1 passed run".to_owned(),
            n => format!("only {n} passed runs"),
        };
        return SizeJudgement::NotJudged {
            reason: format!("the history has {runs} to compare with; {FEWEST} are needed"),
        };
    }
    // In 128 bits nothing overflows: no size has more than 64, no bound more than 32.
    let (hundredfold, median_wide) = (u128::from(size) * 100, u128::from(median));
    let figures = Beside {
        median,
        runs,
        percent: hundredfold
            .checked_div(median_wide)
            .map_or(100, |percent| u64::try_from(percent).unwrap_or(u64::MAX)),
    };
    if hundredfold < median_wide * u128::from(bounds.least) {
        SizeJudgement::Shrunk(figures)
    } else if hundredfold > median_wide * u128::from(bounds.most) {
        SizeJudgement::Grown(figures)
    } else {
        SizeJudgement::Plausible(figures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_beside_their_history() {
        use SizeJudgement::{Grown, NotJudged, Plausible, Shrunk};
        let judge = |history: &[u64], size| plausible(history, size, Bounds::default());
        let beside = |median, runs, percent| Beside {
            median,
            runs,
            percent,
        };
        for history in [&[][..], &[100], &[100, 100]] {
            let seen = judge(history, 0);
            assert!(
                matches!(&seen, NotJudged { reason } if reason.contains("3 are needed")),
                "{seen:?}"
            );
        }
        for (history, size, wanted) in [
            (&[100, 100, 100][..], 50, Plausible(beside(100, 3, 50))),
            (&[100, 100, 100], 49, Shrunk(beside(100, 3, 49))),
            (&[100, 100, 100], 0, Shrunk(beside(100, 3, 0))),
            (&[100, 100, 100], 300, Plausible(beside(100, 3, 300))),
            (&[100, 100, 100], 301, Grown(beside(100, 3, 301))),
            // One odd night does not move the median.
            (&[1, 100, 100], 60, Plausible(beside(100, 3, 60))),
            (&[100, 200, 300, 400], 124, Shrunk(beside(250, 4, 49))),
            (&[100, 200, 300, 400], 125, Plausible(beside(250, 4, 50))),
            // Only the newest five count.
            (
                &[10, 10, 10, 10, 10, 900, 900, 900, 900, 900, 900],
                10,
                Plausible(beside(10, 5, 100)),
            ),
            // Exact to the byte, and no overflow.
            (&[201, 201, 201], 100, Shrunk(beside(201, 3, 49))),
            (
                &[u64::MAX; 3],
                u64::MAX,
                Plausible(beside(u64::MAX, 3, 100)),
            ),
            (&[1, 1, 1], u64::MAX, Grown(beside(1, 3, u64::MAX))),
            (&[0, 0, 0], 0, Plausible(beside(0, 3, 100))),
            (&[0, 0, 0], 1, Grown(beside(0, 3, 100))),
        ] {
            assert_eq!(judge(history, size), wanted, "{history:?} {size}");
        }
    }

    #[test]
    fn bounds_can_be_chosen() {
        let strict = Bounds {
            least: 90,
            most: 110,
        };
        assert!(matches!(
            plausible(&[100; 3], 89, strict),
            SizeJudgement::Shrunk(_)
        ));
        assert!(matches!(
            plausible(&[100; 3], 90, strict),
            SizeJudgement::Plausible(_)
        ));
        assert!(matches!(
            plausible(&[100; 3], 111, strict),
            SizeJudgement::Grown(_)
        ));
    }
}
