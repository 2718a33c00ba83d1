//! Repositories of restic and Borg, as far as they can be judged without their passwords.

use super::error::BackupError;
use super::folder::{Folder, FolderJudged};
use super::format::Format;
use super::read::Judged;
use super::stream::Stream;

/// Reads a restic repository. Source of the format: "Repository Format" in restic's design document: all files but
/// `config` are named by the SHA-256 of what is in them.
pub(super) fn restic(folder: &Folder) -> Result<FolderJudged, BackupError> {
    folder.need("config")?;
    for part in ["data", "index", "keys", "snapshots"] {
        if !folder.folders.contains(part) {
            return Err(folder.truncated(format!("expected the folder `{part}` in it")));
        }
    }
    let in_part = |part: &str| {
        let start = format!("{part}/");
        folder
            .files
            .keys()
            .filter(|name| name.starts_with(&start))
            .count()
    };
    if in_part("keys") == 0 {
        return Err(folder.truncated("its folder `keys` is empty: nobody can open it"));
    }
    if in_part("snapshots") == 0 {
        return Err(BackupError::empty(
            &folder.path,
            "a restic repository without snapshots",
        ));
    }
    for part in ["data", "index"] {
        if in_part(part) == 0 {
            return Err(folder.truncated(format!("its folder `{part}` is empty")));
        }
    }
    let contents = folder.digest_all()?;
    let mut held = 0;
    for (name, digest) in &contents.files {
        let last = name.rsplit('/').next().unwrap_or_default();
        let part = name.split('/').next().unwrap_or_default();
        let named = last.len() == 64 && last.bytes().all(|byte| byte.is_ascii_hexdigit());
        // A lock is deleted at any time, and says nothing of the backup.
        if !named || !matches!(part, "data" | "index" | "keys" | "snapshots") {
            continue;
        }
        if last != digest {
            return Err(folder.damaged(format!(
                "the content of `{name}` has the SHA-256 {digest}, expected the one that it is named by"
            )));
        }
        held += 1;
    }
    let complete = format!(
        "{held} files match the digests in their names; a missing one only `restic check` sees"
    );
    Ok((Judged::new(Format::Restic, complete), contents.sha256, None))
}

const SEGMENT: &[u8] = b"BORG_SEG";
/// Checksum, size and tag of a segment's entry.
const ENTRY: usize = 9;

/// Reads a Borg repository. Source of the format: "Repository" in Borg 1's "Data structures and file formats": segments
/// of entries, each with its size and its CRC-32.
pub(super) fn borg(folder: &Folder) -> Result<FolderJudged, BackupError> {
    let config = folder.text("config")?;
    if !config.lines().any(|line| line.trim() == "[repository]") {
        return Err(folder.damaged("its `config` has no section `[repository]`"));
    }
    folder.need("README")?;
    let segments = folder.files.keys().filter_map(|name| segment(name)).count();
    if segments == 0 {
        return Err(folder.truncated("expected segments in its folder `data`"));
    }
    // They name the last segment that was committed; without them Borg makes them anew.
    for name in folder.files.keys() {
        let number = ["index.", "hints.", "integrity."]
            .iter()
            .find_map(|start| name.strip_prefix(start))
            .and_then(|number| number.parse::<u64>().ok());
        if let Some(number) = number
            && !folder
                .files
                .keys()
                .any(|name| segment(name) == Some(number))
        {
            return Err(
                folder.truncated(format!("expected segment {number}, which `{name}` is for"))
            );
        }
    }
    let version_one = config.lines().any(|line| {
        line.split_once('=')
            .is_some_and(|(key, value)| (key.trim(), value.trim()) == ("version", "1"))
    });
    let contents = folder.read(|name, path| {
        let mut stream = Stream::raw(path)?;
        if version_one && segment(name).is_some() {
            entries(&mut stream)?;
        } else {
            stream.rest("inside it")?;
        }
        Ok((stream.meter, ()))
    })?;
    let complete = if version_one {
        format!(
            "{segments} segments, each entry's CRC-32 holds; a missing one only `borg check` sees"
        )
    } else {
        format!("{segments} segments; of this version of a repository only `borg check` sees more")
    };
    Ok((Judged::new(Format::Borg, complete), contents.sha256, None))
}

/// The number of a segment: `data/0/17`.
fn segment(name: &str) -> Option<u64> {
    let (_, number) = name.strip_prefix("data/")?.split_once('/')?;
    number.parse().ok()
}

/// Reads a segment entry by entry.
fn entries(stream: &mut Stream) -> Result<(), BackupError> {
    let mut magic = [0; 8];
    stream.exact(&mut magic, "inside its first bytes")?;
    if magic != SEGMENT {
        return Err(stream.damaged("expected a segment of a Borg repository"));
    }
    let mut at = 8_u64;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let inside = format!("inside the entry at byte {at}");
        let mut head = [0; ENTRY];
        match stream.fill(&mut head, &inside)? {
            0 => return Ok(()),
            ENTRY => {}
            _ => return Err(stream.truncated(format!("it ends {inside}"))),
        }
        let [c0, c1, c2, c3, s0, s1, s2, s3, tag] = head;
        let expected = u32::from_le_bytes([c0, c1, c2, c3]);
        let size = u64::from(u32::from_le_bytes([s0, s1, s2, s3]));
        // Entries for chunks without their own checksum (PUT2) are of repositories of version 2.
        if size < ENTRY as u64 || tag > 2 {
            return Err(stream.damaged(format!("the entry at byte {at} is none that Borg writes")));
        }
        let mut crc = flate2::Crc::new();
        crc.update(&head[4..]);
        let mut left = size - ENTRY as u64;
        while left > 0 {
            let step = buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            stream.exact(&mut buffer[..step], &inside)?;
            crc.update(&buffer[..step]);
            left -= step as u64;
        }
        if crc.sum() != expected {
            return Err(stream.damaged(format!(
                "the checksum of the entry at byte {at} does not hold"
            )));
        }
        at += size;
    }
}
