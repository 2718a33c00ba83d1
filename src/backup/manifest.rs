//! PostgreSQL's `backup_manifest`, and the WAL that a base backup needs.
//!
//! Source of the format: "Backup Manifest Format" of PostgreSQL's documentation, and `parse_manifest.c`. Checksums of
//! the content are left to `pg_verifybackup`; here each file must be there with its size.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::pgdump::Fault;
use crate::archive::names;
use crate::archive::source::hex;

/// What a manifest says.
#[derive(Deserialize)]
pub(super) struct Manifest {
    #[serde(rename = "Files")]
    files: Vec<File>,
    #[serde(rename = "WAL-Ranges")]
    ranges: Vec<Range>,
}

#[derive(Deserialize)]
struct File {
    #[serde(rename = "Path")]
    path: Option<String>,
    /// In hex, of a path that is no UTF-8.
    #[serde(rename = "Encoded-Path")]
    encoded: Option<String>,
    #[serde(rename = "Size")]
    size: u64,
}

#[derive(Deserialize)]
struct Range {
    #[serde(rename = "Timeline")]
    timeline: u32,
    #[serde(rename = "Start-LSN")]
    start: String,
    #[serde(rename = "End-LSN")]
    end: String,
}

/// Files that may change after a backup without harming it; `pg_verifybackup` ignores the same.
const MAY_DIFFER: [&str; 4] = [
    "backup_manifest",
    "postgresql.auto.conf",
    "recovery.signal",
    "standby.signal",
];

impl Manifest {
    /// Reads a manifest and verifies its own checksum, which covers all lines but the last.
    pub(super) fn parse(data: &[u8]) -> Result<Self, Fault> {
        let cut =
            || Fault::Truncated("its `backup_manifest` does not end with its checksum".to_owned());
        let start = data
            .strip_suffix(b"\n")
            .and_then(|data| data.iter().rposition(|byte| *byte == b'\n'))
            .ok_or_else(cut)?
            + 1;
        let (covered, last) = data.split_at(start);
        let expected = std::str::from_utf8(last)
            .ok()
            .and_then(|line| line.trim_end().strip_prefix("\"Manifest-Checksum\": \""))
            .and_then(|line| line.strip_suffix("\"}"))
            .ok_or_else(cut)?;
        let seen = hex(&Sha256::digest(covered));
        if !expected.eq_ignore_ascii_case(&seen) {
            return Err(Fault::Damaged(
                "the checksum of its `backup_manifest` does not hold".to_owned(),
            ));
        }
        serde_json::from_slice(data).map_err(|error| {
            Fault::Damaged(format!("its `backup_manifest` cannot be read: {error}"))
        })
    }

    /// Holds files and their sizes against the manifest; the figure for what was seen.
    pub(super) fn judge(&self, files: &BTreeMap<String, u64>) -> Result<String, Fault> {
        let mut count = 0_usize;
        for file in &self.files {
            let name = file.name()?;
            if MAY_DIFFER.contains(&name.as_str()) {
                continue;
            }
            match files.get(&name) {
                None => {
                    return Err(Fault::Truncated(format!(
                        "the file `{name}`, which its `backup_manifest` lists, is missing"
                    )));
                }
                Some(size) if *size < file.size => {
                    return Err(Fault::Truncated(format!(
                        "its file `{name}` has {size} bytes, its `backup_manifest` lists {}",
                        file.size
                    )));
                }
                Some(size) if *size > file.size => {
                    return Err(Fault::Damaged(format!(
                        "its file `{name}` has {size} bytes, its `backup_manifest` lists {}",
                        file.size
                    )));
                }
                Some(_) => count += 1,
            }
        }
        let wal = Wal::of(files)?;
        let mut figures = Vec::new();
        for range in &self.ranges {
            let (start, end) = (lsn(&range.start)?, lsn(&range.end)?);
            wal.has(range.timeline, start, end, &range.start)?;
            figures.push(format!("{}-{}", range.start, range.end));
        }
        if figures.is_empty() {
            return Err(Fault::Damaged(
                "its `backup_manifest` lists no WAL".to_owned(),
            ));
        }
        Ok(format!(
            "backup_manifest: {count} files, WAL {}",
            figures.join(", ")
        ))
    }
}

impl File {
    fn name(&self) -> Result<String, Fault> {
        let bad = || Fault::Damaged("its `backup_manifest` has a file without a path".to_owned());
        match (&self.path, &self.encoded) {
            (Some(path), _) => Ok(names::shown(path.as_bytes())),
            (None, Some(encoded)) => (0..encoded.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(encoded.get(at..at + 2)?, 16).ok())
                .collect::<Option<Vec<u8>>>()
                .map(|bytes| names::shown(&bytes))
                .ok_or_else(bad),
            (None, None) => Err(bad()),
        }
    }
}

/// A place in the WAL: `0/2000028`.
fn lsn(text: &str) -> Result<u64, Fault> {
    text.split_once('/')
        .and_then(|(high, low)| {
            let (high, low) = (u32::from_str_radix(high, 16), u32::from_str_radix(low, 16));
            Some(u64::from(high.ok()?) << 32 | u64::from(low.ok()?))
        })
        .ok_or_else(|| Fault::Damaged(format!("expected a place in the WAL, found `{text}`")))
}

/// The segments that are there.
pub(super) struct Wal {
    size: u64,
    segments: BTreeSet<String>,
}

const FOLDER: &str = "pg_wal/";
const SIZES: std::ops::RangeInclusive<u64> = 1 << 20..=1 << 30;

impl Wal {
    pub(super) fn of(files: &BTreeMap<String, u64>) -> Result<Self, Fault> {
        let segments: BTreeMap<&str, u64> = files
            .iter()
            .filter_map(|(name, size)| Some((name.strip_prefix(FOLDER)?, *size)))
            .filter(|(name, _)| {
                name.len() == 24
                    && name
                        .bytes()
                        .all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'))
            })
            .collect();
        // All are of one size, so that one which was cut is smaller than the others, or of no possible size.
        let size = segments.values().copied().max().unwrap_or(0);
        let possible = size.is_power_of_two() && SIZES.contains(&size);
        if let Some((name, seen)) = segments
            .iter()
            .find(|(_, seen)| **seen != size || !possible)
        {
            return Err(Fault::Truncated(format!(
                "its WAL segment `{name}` has {seen} bytes, which is no whole segment"
            )));
        }
        Ok(Self {
            size,
            segments: segments.into_keys().map(str::to_owned).collect(),
        })
    }

    /// True where the segment with this name is there.
    pub(super) fn has_segment(&self, name: &str) -> bool {
        self.segments.contains(name)
    }

    /// Checks that no segment from `start` up to `end` is missing.
    fn has(&self, timeline: u32, start: u64, end: u64, shown: &str) -> Result<(), Fault> {
        if self.segments.is_empty() {
            return Err(Fault::Truncated(format!(
                "expected its WAL from {shown} on, found no segment; make it with `pg_basebackup -X stream` or `-X fetch`"
            )));
        }
        if end <= start {
            return Err(Fault::Damaged(
                "its `backup_manifest` lists WAL that ends before it begins".to_owned(),
            ));
        }
        let segments = 0x1_0000_0000 / self.size;
        for number in start / self.size..=(end - 1) / self.size {
            let name = format!(
                "{timeline:08X}{:08X}{:08X}",
                number / segments,
                number % segments
            );
            if !self.segments.contains(&name) {
                return Err(Fault::Truncated(format!(
                    "its WAL segment `{name}` is missing"
                )));
            }
        }
        Ok(())
    }

    /// The first gap between the segment with this name and the last one of its timeline.
    pub(super) fn gap(&self, from: &str) -> Option<String> {
        let timeline = &from[..8];
        let segments = 0x1_0000_0000 / self.size.max(1);
        let number = |name: &str| {
            let high = u64::from_str_radix(name.get(8..16)?, 16).ok()?;
            let low = u64::from_str_radix(name.get(16..24)?, 16).ok()?;
            Some(high * segments + low)
        };
        let last = self
            .segments
            .iter()
            .filter(|name| name.starts_with(timeline))
            .filter_map(|name| number(name))
            .max()?;
        (number(from)?..=last)
            .map(|number| {
                format!(
                    "{timeline}{:08X}{:08X}",
                    number / segments,
                    number % segments
                )
            })
            .find(|name| !self.segments.contains(name))
    }
}
