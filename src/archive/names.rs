//! Which names and links are safe, judged without touching a disk.

use std::collections::HashMap;

use super::{Entry, Kind, Mtime};

/// Each folder above an entry is remembered, so depth costs memory.
const MAX_DEPTH: usize = 256;

/// A name for output: invalid UTF-8 replaced, control characters escaped.
pub(crate) fn shown(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    if text.is_empty() {
        return ".".to_owned();
    }
    text.chars()
        .flat_map(|c| {
            if c.is_control() {
                c.escape_default().collect::<Vec<_>>()
            } else {
                vec![c]
            }
        })
        .collect()
}

/// `raw` without `.`, empty parts and a final slash; empty for the root itself.
///
/// # Errors
/// The reason for which it is refused, as the end of a sentence that begins with the entry.
pub(crate) fn clean(raw: &[u8]) -> Result<Vec<u8>, &'static str> {
    if raw.is_empty() {
        return Err("has no name");
    }
    if raw.contains(&0) {
        return Err("has a NUL in its name");
    }
    if raw.starts_with(b"/") {
        return Err("is an absolute path");
    }
    if raw.len() > 4095 {
        return Err("has a path longer than 4095 bytes");
    }
    let mut clean = Vec::with_capacity(raw.len());
    for part in raw.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => continue,
            b".." => return Err("leads out of the archive with `..`"),
            part if part.len() > 255 => return Err("has a name longer than 255 bytes"),
            part => {
                if !clean.is_empty() {
                    clean.push(b'/');
                }
                clean.extend_from_slice(part);
            }
        }
    }
    if clean.iter().filter(|byte| **byte == b'/').count() >= MAX_DEPTH {
        return Err("lies more than 256 folders deep");
    }
    Ok(clean)
}

/// Where symbolic links may lead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Links {
    /// Not out of the archive.
    #[default]
    Inside,
    /// As [`Links::Inside`], or to an absolute path: such a link endangers nobody where it is only written as a link,
    /// and [`Tree`] lets nothing be written through it.
    AlsoAbsolute,
    /// Wherever they like: nothing is written here, the archive is only read.
    Anywhere,
}

/// Judges the symbolic link at `path`.
///
/// `..` is allowed at the beginning of a target only, and not above the root. With [`Tree`]'s rule that nothing lies
/// below a link, a link's own folders are real ones, so those `..` mean on disk what they mean here; and what follows
/// them passes only through folders and links that were themselves judged.
///
/// # Errors
/// As [`clean`].
pub(crate) fn judge_link(path: &[u8], target: &[u8], links: Links) -> Result<(), String> {
    if target.is_empty() || target.contains(&0) {
        return Err("is a symbolic link without a usable target".to_owned());
    }
    if links == Links::Anywhere {
        return Ok(());
    }
    let leaves = || format!("is a symbolic link that leaves it: `{}`", shown(target));
    let mut depth = match (target.starts_with(b"/"), links) {
        (true, Links::Inside) => return Err(leaves()),
        // The engine refuses to go above the root here too.
        (true, Links::AlsoAbsolute | Links::Anywhere) => 0,
        (false, Links::Inside | Links::AlsoAbsolute | Links::Anywhere) => {
            path.iter().filter(|byte| **byte == b'/').count()
        }
    };
    let mut descended = false;
    for part in target.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => continue,
            b".." if descended => {
                return Err(format!(
                    "is a symbolic link with `..` after a name, which can lead out: `{}`",
                    shown(target)
                ));
            }
            b".." => depth = depth.checked_sub(1).ok_or_else(leaves)?,
            _ => descended = true,
        }
    }
    Ok(())
}

/// The paths seen so far.
#[derive(Default)]
pub(crate) struct Tree {
    seen: HashMap<Vec<u8>, Seen>,
    links: Links,
}

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// A folder that is only the parent of something.
    Implied,
    Directory,
    File(Attributes),
    Symlink(Vec<u8>),
}

/// What all names of one file share. A hard link gets its file's: who unpacks it applies them to the file again, and
/// the last one wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attributes {
    mode: Option<u32>,
    uid: u64,
    gid: u64,
    mtime: Option<Mtime>,
    xattrs: Vec<(String, Vec<u8>)>,
}

impl Attributes {
    fn of(entry: &Entry) -> Self {
        Self {
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            xattrs: entry.xattrs.clone(),
        }
    }

    fn put(&self, entry: &mut Entry) {
        entry.mode = self.mode;
        entry.uid = self.uid;
        entry.gid = self.gid;
        entry.mtime = self.mtime;
        entry.xattrs.clone_from(&self.xattrs);
    }
}

impl Tree {
    pub(crate) fn new(links: Links) -> Self {
        Self {
            seen: HashMap::new(),
            links,
        }
    }

    /// Entries, and the folders above them that have no entry.
    pub(crate) fn len(&self) -> u64 {
        self.seen.len() as u64
    }

    pub(crate) fn at(&self, path: &[u8]) -> Option<&Seen> {
        self.seen.get(path)
    }

    /// Adds an entry, links judged; a hard link is given what it shares with its file.
    ///
    /// # Errors
    /// As [`clean`].
    pub(crate) fn add(&mut self, entry: &mut Entry) -> Result<(), String> {
        let path = entry.path.as_slice();
        for (end, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            let parent = &path[..end];
            match self.seen.get(parent) {
                Some(Seen::Directory | Seen::Implied) => {}
                Some(Seen::File(_)) => {
                    return Err(format!("lies below `{}`, which is a file", shown(parent)));
                }
                Some(Seen::Symlink(_)) if self.links == Links::Anywhere => {}
                Some(Seen::Symlink(_)) => {
                    return Err(format!("lies below `{}`, which is a link", shown(parent)));
                }
                None => {
                    self.seen.insert(parent.to_vec(), Seen::Implied);
                }
            }
        }
        let new = match &entry.kind {
            Kind::Directory => Seen::Directory,
            Kind::File => Seen::File(Attributes::of(entry)),
            Kind::Symlink(target) => {
                judge_link(path, target, self.links)?;
                Seen::Symlink(target.clone())
            }
            Kind::Hardlink(target) => match self.seen.get(target) {
                Some(Seen::File(attributes)) => Seen::File(attributes.clone()),
                Some(Seen::Directory | Seen::Implied | Seen::Symlink(_)) => {
                    return Err(format!(
                        "is a hard link to `{}`, which is not a file",
                        shown(target)
                    ));
                }
                None => {
                    return Err(format!(
                        "is a hard link to `{}`, which does not come before it",
                        shown(target)
                    ));
                }
            },
        };
        if path.is_empty() && new != Seen::Directory {
            return Err("is no folder but stands for the whole archive".to_owned());
        }
        let is_folder = new == Seen::Directory;
        let path = path.to_vec();
        if let (Seen::File(shared), Kind::Hardlink(_)) = (&new, &entry.kind) {
            shared.put(entry);
        }
        match self.seen.insert(path, new) {
            None => Ok(()),
            Some(Seen::Implied) if is_folder => Ok(()),
            Some(Seen::Implied) => Err("has entries below it but is not a folder".to_owned()),
            Some(Seen::Directory | Seen::File(_) | Seen::Symlink(_)) => {
                Err("is there twice".to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        type Row<'a> = (&'a [u8], Result<&'a [u8], &'a str>);
        let table: &[Row<'_>] = &[
            (b"a", Ok(b"a")),
            (b"./a//b/./c/", Ok(b"a/b/c")),
            (b"./", Ok(b"")),
            (b"..a/b..", Ok(b"..a/b..")),
            (b"", Err("no name")),
            (b"/a", Err("absolute")),
            (b"a/../b", Err("`..`")),
            (b"..", Err("`..`")),
            (b"a\0b", Err("NUL")),
        ];
        for (raw, expected) in table {
            match (clean(raw), expected) {
                (Ok(seen), Ok(wanted)) => assert_eq!(seen, *wanted, "{}", shown(raw)),
                (Err(seen), Err(wanted)) => {
                    assert!(seen.contains(wanted), "{}: {seen}", shown(raw))
                }
                (seen, _) => panic!("{}: {seen:?}, expected {expected:?}", shown(raw)),
            }
        }
        assert!(clean(&[b'x'; 256]).is_err());
        assert!(clean(&b"x/".repeat(2500)).is_err());
        assert!(clean(&b"x/".repeat(256)).is_ok());
        assert!(clean(&b"x/".repeat(257)).is_err());
    }

    #[test]
    fn links() {
        let table: &[(&str, &str, bool)] = &[
            ("l", "a", true),
            ("l", "./a/b", true),
            ("a/b/l", "../../c", true),
            ("a/l", "..", true),
            ("l", "..", false),
            ("a/l", "../../etc/passwd", false),
            ("l", "/etc/passwd", false),
            ("l", "", false),
            // Through a link inside, `x/..` need not be where it seems to be.
            ("l", "x/../../etc", false),
            ("l", "x/..", false),
        ];
        for (path, target, allowed) in table {
            for links in [Links::Inside, Links::AlsoAbsolute] {
                let absolute = target.starts_with('/') && links == Links::AlsoAbsolute;
                assert_eq!(
                    judge_link(path.as_bytes(), target.as_bytes(), links).is_ok(),
                    *allowed || absolute,
                    "{path} -> {target} ({links:?})"
                );
            }
        }
        for target in ["/../x", "/a/../../x", "/./.."] {
            let judged = judge_link(b"d/l", target.as_bytes(), Links::AlsoAbsolute);
            assert!(judged.is_err(), "{target}");
        }
    }

    #[test]
    fn a_tree_refuses_what_hides_or_redirects() {
        let dir = || Kind::Directory;
        let file = || Kind::File;
        let link = |to: &str| Kind::Symlink(to.into());
        let hard = |to: &str| Kind::Hardlink(to.into());
        type Row<'a> = (&'a [(&'a str, Kind)], Option<&'a str>);
        let table: &[Row<'_>] = &[
            (&[("a", dir()), ("a/b", file()), ("a/c", hard("a/b"))], None),
            (&[("a/b", file()), ("a", dir())], None),
            (&[("a", file()), ("a", file())], Some("twice")),
            (&[("a", dir()), ("a", dir())], Some("twice")),
            (
                &[("a", link("b")), ("a/x", file())],
                Some("which is a link"),
            ),
            (
                &[("a/x", file()), ("a", link("b"))],
                Some("has entries below"),
            ),
            (&[("a", file()), ("a/x", file())], Some("which is a file")),
            (&[("c", hard("a/b"))], Some("does not come before")),
            (&[("d", dir()), ("c", hard("d"))], Some("not a file")),
            (&[("", file())], Some("whole archive")),
        ];
        for (entries, expected) in table {
            let mut tree = Tree::default();
            let seen = entries.iter().try_for_each(|(path, kind)| {
                tree.add(&mut Entry {
                    path: path.as_bytes().to_vec(),
                    kind: kind.clone(),
                    mode: None,
                    uid: 0,
                    gid: 0,
                    mtime: None,
                    size: 0,
                    xattrs: Vec::new(),
                })
            });
            match expected {
                None => assert_eq!(seen, Ok(()), "{entries:?}"),
                Some(reason) => assert!(
                    seen.clone().unwrap_err().contains(reason),
                    "{entries:?}: {seen:?}"
                ),
            }
        }
    }
}
