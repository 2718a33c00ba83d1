//! PostgreSQL's dumps of many files: `pg_dump -Fd`, a folder, and `-Ft`, a tar.

use std::collections::BTreeMap;
use std::io::Write;

use super::error::BackupError;
use super::folder::{Folder, FolderJudged};
use super::format::{Compression, DumpFacts, Format};
use super::pgdump::{self, Item};
use super::read::{Judged, NEWER, dump_error};
use super::stream::{Stream, Tail};
use crate::archive::source::Meter;
use crate::archive::{self, ArchiveError, Bounds};

const CONTENTS: &str = "toc.dat";
/// A table's data, in COPY's format, ends with this and line feeds.
const COPY_END: &[u8] = b"\\.\n";
const TAIL: usize = 16;
/// No table of contents is larger.
const MAX_CONTENTS: u64 = 1 << 30;

/// What is kept of a file.
#[derive(Default)]
struct Seen {
    unpacked: u64,
    /// The last bytes; all of a list of large objects.
    tail: Vec<u8>,
    /// Compressed in a way that is not read here, so that `tail` says nothing.
    opaque: bool,
}

/// Reads a folder of `pg_dump -Fd`.
pub(super) fn judge_folder(folder: &Folder) -> Result<FolderJudged, BackupError> {
    let toc = folder.content(CONTENTS)?;
    let contents = folder.read(|name, path| {
        let keep = if is_list(name) { usize::MAX } else { TAIL };
        // By content: the name tells too, but content is what is restored.
        let mut stream = match Stream::open(path) {
            Ok(stream) => stream,
            // Nothing in it, or a compression that is not read here: the digest is of it as it is all the same.
            Err(error @ (BackupError::Empty { .. } | BackupError::Unsupported { .. })) => {
                let mut stream = Stream::raw(path)?;
                stream.rest("inside it")?;
                let seen = Seen {
                    unpacked: stream.count,
                    opaque: matches!(error, BackupError::Unsupported { .. }),
                    ..Seen::default()
                };
                return Ok((stream.meter, seen));
            }
            Err(error) => return Err(error),
        };
        // Data may look like a compression; then its name says so too.
        if stream.compression != Compression::None && name.ends_with(".dat") {
            stream = Stream::raw(path)?;
        }
        let tail = stream.tail(keep, "inside its data")?;
        let unpacked = stream.count;
        let opaque = false;
        Ok((
            stream.meter,
            Seen {
                unpacked,
                tail,
                opaque,
            },
        ))
    })?;
    let unpacked = contents.files.values().map(|seen| seen.unpacked).sum();
    let judged = judge(
        &folder.path,
        &Meter::default(),
        &toc,
        Format::PostgresDirectory,
        &contents.files,
    )?;
    Ok((judged, contents.sha256, Some(unpacked)))
}

/// Reads a tar of `pg_dump -Ft`.
pub(super) fn judge_tar(stream: &mut Stream) -> Result<Judged, BackupError> {
    let (path, meter) = (stream.path.clone(), stream.meter.clone());
    let mut toc = Vec::new();
    let mut files = BTreeMap::new();
    let walked = archive::walk_tar(stream, &meter, &Bounds::NONE, &mut |entry, content| {
        let name = archive::names::shown(&entry.path);
        if name == CONTENTS {
            if entry.size > MAX_CONTENTS {
                return Err(ArchiveError::Damaged(format!(
                    "its `{name}` has {} bytes",
                    entry.size
                )));
            }
            content.copy_to(&mut toc)?;
        }
        let keep = if is_list(&name) {
            MAX_CONTENTS as usize
        } else {
            TAIL
        };
        let mut tail = Tail::new(keep);
        content.copy_to(&mut tail as &mut dyn Write)?;
        let seen = Seen {
            unpacked: entry.size,
            tail: tail.kept,
            opaque: false,
        };
        files.insert(name, seen);
        Ok(())
    })
    .map_err(|error| BackupError::from_archive(&path, error))?;
    let judged = judge(&path, &meter, &toc, Format::PostgresTar, &files)?;
    Ok(Judged {
        entries: walked.entries,
        ..judged
    })
}

/// A list of large objects: `blobs.toc`, or since version 17 `blobs_1234.toc`.
fn is_list(name: &str) -> bool {
    name.starts_with("blobs") && name.ends_with(".toc")
}

/// Holds the files against the table of contents.
fn judge(
    path: &std::path::Path,
    meter: &Meter,
    toc: &[u8],
    format: Format,
    files: &BTreeMap<String, Seen>,
) -> Result<Judged, BackupError> {
    let (dump, items) =
        pgdump::table_of_contents(toc).map_err(|fault| match dump_error(path, meter, fault) {
            BackupError::Truncated { path, seen } => BackupError::Truncated {
                path,
                seen: format!("`{CONTENTS}`: {seen}"),
            },
            error => error,
        })?;
    let Some(items) = items else {
        return Ok(Judged {
            dump: Some(dump),
            ..Judged::unseen(format, NEWER)
        });
    };
    let mut promised = 0;
    let mut unread = 0;
    let mut objects = 0;
    for item in &items {
        if item.is_blobs() && format == Format::PostgresTar {
            continue;
        }
        promised += 1;
        let (name, seen) = find(path, files, &item.file, &item.name)?;
        if item.is_blobs() {
            continue;
        }
        if seen.opaque {
            unread += 1;
        } else {
            judge_end(path, &name, item, &seen.tail)?;
        }
    }
    if items.iter().any(Item::is_blobs) && !files.keys().any(|name| is_list(name)) {
        return Err(BackupError::truncated(
            path,
            "expected the list of large objects `blobs.toc` in it",
        ));
    }
    for (_, list) in files.iter().filter(|(name, _)| is_list(name)) {
        for line in String::from_utf8_lossy(&list.tail).lines() {
            let Some((_, name)) = line.split_once(' ') else {
                return Err(BackupError::damaged(
                    path,
                    format!("its list of large objects has the line `{line}`"),
                ));
            };
            find(path, files, name, "a large object")?;
            objects += 1;
        }
    }
    let mut complete = format!("table of contents: {promised} of {promised} data files");
    if objects > 0 {
        complete.push_str(&format!(
            ", {objects} large objects (of an uncompressed one the end cannot be seen)"
        ));
    }
    if unread > 0 {
        complete.push_str(&format!(
            "; the ends of {unread} files with lz4 cannot be seen here"
        ));
    }
    Ok(judged(format, dump, complete))
}

fn judged(format: Format, dump: DumpFacts, complete: String) -> Judged {
    Judged {
        dump: Some(dump),
        ..Judged::new(format, complete)
    }
}

/// A promised file, under its name or that of a compression.
fn find<'a>(
    path: &std::path::Path,
    files: &'a BTreeMap<String, Seen>,
    name: &str,
    what: &str,
) -> Result<(String, &'a Seen), BackupError> {
    let names = ["", ".gz", ".lz4", ".zst"].map(|suffix| format!("{name}{suffix}"));
    let found = names
        .into_iter()
        .find_map(|name| files.get(&name).map(|seen| (name, seen)));
    match found {
        // A large object may have no bytes, but a compression around none has some.
        Some((found, seen))
            if seen.unpacked == 0 && (found != name || !name.starts_with("blob_")) =>
        {
            Err(BackupError::truncated(
                path,
                format!("its file `{found}` with {what} is empty"),
            ))
        }
        Some(found) => Ok(found),
        None => Err(BackupError::truncated(
            path,
            format!(
                "the file `{name}` with {what}, which its table of contents promises, is missing"
            ),
        )),
    }
}

fn judge_end(
    path: &std::path::Path,
    name: &str,
    item: &Item,
    tail: &[u8],
) -> Result<(), BackupError> {
    let text = tail.trim_ascii_end();
    let whole = if item.copy {
        // `\.` is a line of its own.
        tail.ends_with(b"\n")
            && [text, b"\n"].concat().ends_with(COPY_END)
            && (text.len() == 2 || text[text.len() - 3] == b'\n')
    } else {
        !item.is_table() || tail.ends_with(b"\n\n")
    };
    if whole {
        return Ok(());
    }
    Err(BackupError::truncated(
        path,
        format!(
            "the file `{name}` with {} does not end as a table's data does",
            item.name
        ),
    ))
}
