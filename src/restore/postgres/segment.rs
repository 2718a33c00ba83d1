//! Which WAL segments recovery needs of an archive, by their names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Bytes of a segment where nothing says otherwise.
pub(super) const DEFAULT_SIZE: u64 = 16 << 20;

/// What is fetched.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Needed {
    /// Segments, in order.
    pub(super) segments: Vec<String>,
    /// Timelines' histories.
    pub(super) histories: Vec<String>,
    /// The first segment that is missing while later ones are there, or that the backup itself needs.
    pub(super) gap: Option<String>,
    /// Whether the backup itself needs the missing one.
    pub(super) before_stop: bool,
}

/// A segment's timeline and number, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Segment {
    timeline: u32,
    number: u64,
}

impl Segment {
    fn of(name: &str, size: u64) -> Option<Self> {
        let hex = |part: &str| u32::from_str_radix(part, 16).ok();
        if name.len() != 24 || !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let (timeline, log, low) = (hex(&name[..8])?, hex(&name[8..16])?, hex(&name[16..])?);
        Some(Self {
            timeline,
            number: u64::from(log) * per_log(size) + u64::from(low),
        })
    }

    fn name(self, size: u64) -> String {
        let per_log = per_log(size);
        format!(
            "{:08X}{:08X}{:08X}",
            self.timeline,
            self.number / per_log,
            self.number % per_log
        )
    }
}

/// Segments of one size in 4 GiB of WAL.
fn per_log(size: u64) -> u64 {
    (1 << 32) / size.clamp(1 << 20, 1 << 30)
}

/// Of an archive's names, what recovery needs that begins at `start`; the backup needs all to `stop`. `None` where
/// `start` is no segment's name.
pub(super) fn needed(names: &[String], start: &str, stop: &str, size: u64) -> Option<Needed> {
    let (start, stop) = (Segment::of(start, size)?, Segment::of(stop, size)?);
    let mut timelines: BTreeMap<u32, BTreeSet<u64>> = BTreeMap::new();
    let mut needed = Needed::default();
    for name in names {
        if let Some(timeline) = name.strip_suffix(".history") {
            if timeline.len() == 8 && timeline.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                needed.histories.push(name.clone());
            }
            continue;
        }
        // `<segment>-<sha1>[.gz]`; a segment's beginning (`.partial`) and a backup's label (`.backup`) are no segments.
        let Some(segment) = name
            .split_once('-')
            .and_then(|(segment, _)| Segment::of(segment, size))
        else {
            continue;
        };
        if segment.timeline >= start.timeline && segment.number >= start.number {
            timelines
                .entry(segment.timeline)
                .or_default()
                .insert(segment.number);
        }
    }
    timelines.entry(start.timeline).or_default();
    for (timeline, numbers) in timelines {
        let own = timeline == start.timeline;
        let last = numbers.last().copied().unwrap_or(start.number);
        let (first, last) = if own {
            (
                start.number,
                if stop.timeline == timeline {
                    last.max(stop.number)
                } else {
                    last
                },
            )
        } else {
            (numbers.first().copied().unwrap_or(start.number), last)
        };
        for number in first..=last {
            let segment = Segment { timeline, number };
            if !numbers.contains(&number) {
                if needed.gap.is_none() {
                    needed.gap = Some(segment.name(size));
                    needed.before_stop = own && number <= stop.number;
                }
                break;
            }
            needed.segments.push(segment.name(size));
        }
    }
    needed.histories.sort();
    Some(needed)
}

/// The names of all files in a folder and the folders in it.
pub(super) fn names_below(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            // An archive that is not there holds nothing.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(segments: &[&str]) -> Vec<String> {
        let sha1 = "0460895209a032169054884055d46e612c17ed77";
        segments
            .iter()
            .map(|name| format!("{name}-{sha1}.gz"))
            .collect()
    }

    const A: [&str; 4] = [
        "0000000100000000000000FE",
        "0000000100000000000000FF",
        "000000010000000100000000",
        "000000010000000100000001",
    ];

    #[test]
    fn segments_follow_each_other_over_the_end_of_a_log() {
        let found = needed(&archive(&A), A[1], A[2], DEFAULT_SIZE).expect("names");
        assert_eq!(found.segments, &A[1..]);
        assert_eq!(found.gap, None);
        // 1 GiB segments: four in 4 GiB.
        let large = ["000000010000000000000003", "000000010000000100000000"];
        let found = needed(&archive(&large), large[0], large[1], 1 << 30).expect("names");
        assert_eq!((found.segments.len(), found.gap), (2, None));
    }

    #[test]
    fn a_missing_segment_is_named() {
        for (there, start, stop, gap, before_stop) in [
            (vec![A[0], A[1], A[3]], A[0], A[1], Some(A[2]), false),
            (vec![A[0], A[1], A[3]], A[0], A[3], Some(A[2]), true),
            (vec![A[1], A[2]], A[0], A[0], Some(A[0]), true),
            (vec![A[0]], A[0], A[1], Some(A[1]), true),
            (vec![], A[0], A[0], Some(A[0]), true),
            // What was written before the backup matters to nobody.
            (vec![A[0], A[2], A[3]], A[2], A[2], None, false),
        ] {
            let found = needed(&archive(&there), start, stop, DEFAULT_SIZE).expect("names");
            assert_eq!(found.gap.as_deref(), gap, "{there:?}");
            assert_eq!(found.before_stop, before_stop, "{there:?}");
        }
        assert_eq!(needed(&[], "", "", DEFAULT_SIZE), None);
    }

    #[test]
    fn later_timelines_are_taken_with_their_histories() {
        let mut names = archive(&[
            A[0],
            A[1],
            "0000000200000000000000FF",
            "000000020000000100000000",
        ]);
        names.push("00000002.history".to_owned());
        names.push(format!("{}.00000028.backup", A[0]));
        names.push(format!(
            "{}.partial-0460895209a032169054884055d46e612c17ed77.gz",
            A[2]
        ));
        let found = needed(&names, A[0], A[0], DEFAULT_SIZE).expect("names");
        assert_eq!(found.histories, ["00000002.history"]);
        assert_eq!(found.segments.len(), 4);
        assert_eq!(found.gap, None);
    }
}
