//! SQLite databases.
//!
//! Source of the format: "Database File Format" of the SQLite documentation, section 1.3.

use std::ffi::OsString;
use std::path::PathBuf;

use super::error::BackupError;
use super::folder::Lines;
use super::format::{BackupFacts, Format};
use super::read::Judged;
use super::stream::Stream;
use crate::archive::source;

/// Reads a database to its end.
pub(super) fn judge(stream: &mut Stream) -> Result<Judged, BackupError> {
    let mut header = [0; 100];
    stream.exact(&mut header, "inside its header of 100 bytes")?;
    stream.rest("inside a page")?;
    let number = |at: usize| {
        header[at..at + 4]
            .iter()
            .fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte))
    };
    let page = match u64::from(header[16]) << 8 | u64::from(header[17]) {
        1 => 65536,
        size if size.is_power_of_two() && (512..=32768).contains(&size) => size,
        size => return Err(stream.damaged(format!("its header gives a page size of {size}"))),
    };
    if !matches!(header[18], 1 | 2)
        || !matches!(header[19], 1 | 2)
        || header[21..24] != [64, 32, 32]
    {
        return Err(stream.damaged("its header has values that no SQLite writes"));
    }
    let (changes, pages, valid_for) = (number(24), number(28), number(92));
    let size = stream.count;
    if pages == 0 || changes != valid_for {
        // Written by SQLite before 3.7, which did not keep the number of pages.
        if !size.is_multiple_of(page) {
            return Err(stream.truncated(format!(
                "its {size} bytes are no whole number of pages of {page} bytes"
            )));
        }
        return Ok(Judged::unseen(
            Format::Sqlite,
            "its header does not vouch for the number of pages; they are whole",
        ));
    }
    let seen = format!("its header promises {pages} pages of {page} bytes, it has {size} bytes");
    match size.cmp(&(pages * page)) {
        std::cmp::Ordering::Less => Err(stream.truncated(seen)),
        std::cmp::Ordering::Greater => Err(stream.damaged(seen)),
        std::cmp::Ordering::Equal => Ok(Judged::new(
            Format::Sqlite,
            format!("header: all {pages} pages of {page} bytes"),
        )),
    }
}

/// The files beside a database that belong to it: without them it lacks what was committed last, or cannot roll back
/// what was not.
pub(super) fn journals(path: &std::path::Path) -> Vec<PathBuf> {
    ["-journal", "-shm", "-wal"]
        .into_iter()
        .map(|suffix| {
            let mut name = OsString::from(path);
            name.push(suffix);
            PathBuf::from(name)
        })
        .filter(|path| path.is_file())
        .collect()
}

/// Adds the journals beside a database to its facts.
pub(super) fn with_journals(facts: BackupFacts) -> Result<BackupFacts, BackupError> {
    let journals = journals(&facts.path);
    if journals.is_empty() {
        return Ok(facts);
    }
    let mut lines = Lines::default();
    // Relative to the database: the same files under another name are the same backup.
    lines.file(b"", facts.size, &facts.sha256);
    let mut size = facts.size;
    let mut names = Vec::new();
    for path in journals {
        let unreadable = |source| BackupError::unreadable(&path, source);
        let (mut source, meter) = source::Source::open(&path).map_err(unreadable)?;
        std::io::copy(&mut source, &mut std::io::sink()).map_err(unreadable)?;
        let name = path.to_string_lossy().into_owned();
        let suffix = name.rsplit_once('-').map_or("", |(_, suffix)| suffix);
        lines.file(suffix.as_bytes(), meter.bytes(), &meter.sha256());
        size += meter.bytes();
        names.push(format!("-{suffix}"));
    }
    Ok(BackupFacts {
        sha256: lines.digest(),
        size,
        complete: format!("{}; with {}", facts.complete, names.join(", ")),
        ..facts
    })
}
