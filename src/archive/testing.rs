//! Archives for tests, evil ones included: headers are written raw, because crates refuse to.

use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::source::Compression;

/// One raw tar member.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: u8,
    pub(crate) link: Vec<u8>,
    pub(crate) content: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) owner: (u64, u64),
    pub(crate) mtime: u64,
}

pub(crate) fn raw(
    name: impl AsRef<[u8]>,
    kind: u8,
    link: impl AsRef<[u8]>,
    content: impl AsRef<[u8]>,
) -> Raw {
    Raw {
        name: name.as_ref().to_vec(),
        kind,
        link: link.as_ref().to_vec(),
        content: content.as_ref().to_vec(),
        mode: if kind == b'5' { 0o755 } else { 0o644 },
        owner: (0, 0),
        mtime: 1_700_000_000,
    }
}

pub(crate) fn file(name: &str, content: &str) -> Raw {
    raw(name, b'0', "", content)
}

pub(crate) fn executable(name: &str, content: &str) -> Raw {
    Raw {
        mode: 0o755,
        ..file(name, content)
    }
}

pub(crate) fn folder(name: &str) -> Raw {
    raw(name, b'5', "", "")
}

pub(crate) fn link(name: &str, target: &str) -> Raw {
    raw(name, b'2', target, "")
}

pub(crate) fn hard(name: &str, target: &str) -> Raw {
    raw(name, b'1', target, "")
}

/// A PAX header with these records.
pub(crate) fn pax(kind: u8, records: &[(&str, &[u8])]) -> Raw {
    let mut content = Vec::new();
    for (key, value) in records {
        let body = key.len() + value.len() + 3;
        let length = (1..)
            .map(|digits| body + digits)
            .find(|total| total.to_string().len() + body == *total)
            .unwrap();
        content.extend_from_slice(format!("{length} {key}=").as_bytes());
        content.extend_from_slice(value);
        content.push(b'\n');
    }
    raw("pax", kind, "", content)
}

/// A tar of these members, each exactly as given.
pub(crate) fn tar(members: &[Raw]) -> Vec<u8> {
    let mut out = Vec::new();
    for member in members {
        let mut header = ::tar::Header::new_gnu();
        let old = header.as_old_mut();
        old.name[..member.name.len()].copy_from_slice(&member.name);
        old.linkname[..member.link.len()].copy_from_slice(&member.link);
        old.linkflag = [member.kind];
        header.set_mode(member.mode);
        header.set_uid(member.owner.0);
        header.set_gid(member.owner.1);
        header.set_mtime(member.mtime);
        header.set_size(member.content.len() as u64);
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(&member.content);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

pub(crate) fn compress(data: &[u8], compression: Compression) -> Vec<u8> {
    match compression {
        Compression::None => data.to_vec(),
        Compression::Gzip => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Zstd => {
            let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
            encoder.include_checksum(true).unwrap();
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Bzip2 => {
            let mut encoder =
                bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Xz => {
            let options = lzma_rust2::XzOptions::with_preset(1);
            let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        }
    }
}

/// A zip of the same members, as Info-ZIP would make it; folders by their slash, hard links as files.
pub(crate) fn zip(members: &[Raw]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for member in members {
        let name = String::from_utf8(member.name.clone()).unwrap();
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .unix_permissions(member.mode);
        match member.kind {
            b'5' => writer.add_directory(name, options).unwrap(),
            b'2' => writer
                .add_symlink(
                    name,
                    String::from_utf8(member.link.clone()).unwrap(),
                    options,
                )
                .unwrap(),
            b'1' => {
                let target = members
                    .iter()
                    .find(|other| other.name == member.link)
                    .unwrap();
                writer.start_file(name, options).unwrap();
                writer.write_all(&target.content).unwrap();
            }
            _ => {
                writer.start_file(name, options).unwrap();
                writer.write_all(&member.content).unwrap();
            }
        }
    }
    writer.finish().unwrap().into_inner()
}

/// A zip of stored entries, each name, mode (with its type) and content exactly as given.
pub(crate) fn raw_zip(entries: &[(&[u8], u32, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut directory = Vec::new();
    let number = |value: usize| u32::try_from(value).unwrap().to_le_bytes();
    let short = |value: usize| u16::try_from(value).unwrap().to_le_bytes();
    for (name, mode, content) in entries {
        let mut crc = flate2::Crc::new();
        crc.update(content);
        let common = [
            &[20, 0, 0, 8, 0, 0, 0, 0, 0x21, 0x58][..],
            &crc.sum().to_le_bytes(),
            &number(content.len()),
            &number(content.len()),
            &short(name.len()),
            &short(0),
        ]
        .concat();
        directory.extend_from_slice(b"PK\x01\x02\x1e\x03");
        directory.extend_from_slice(&common);
        directory.extend_from_slice(&[0; 6]);
        directory.extend_from_slice(&(mode << 16).to_le_bytes());
        directory.extend_from_slice(&number(out.len()));
        directory.extend_from_slice(name);
        out.extend_from_slice(b"PK\x03\x04");
        out.extend_from_slice(&common);
        out.extend_from_slice(name);
        out.extend_from_slice(content);
    }
    let start = out.len();
    out.extend_from_slice(&directory);
    out.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    out.extend_from_slice(&short(entries.len()));
    out.extend_from_slice(&short(entries.len()));
    out.extend_from_slice(&number(directory.len()));
    out.extend_from_slice(&number(start));
    out.extend_from_slice(&short(0));
    out
}

/// Those of [`hostile_tars`] and [`hostile_zips`] that only a package may not hold.
pub(crate) const ABSOLUTE_LINKS: [&str; 2] = ["absolute link", "pax link"];

/// Tars that no reader may accept, but for [`ABSOLUTE_LINKS`]: a name for the test, the members, the entry that must be named, and a part of
/// the reason.
pub(crate) fn hostile_tars() -> Vec<(&'static str, Vec<Raw>, &'static str, &'static str)> {
    vec![
        (
            "absolute",
            vec![file("/tmp/rehearsal-evil", "x")],
            "/tmp/rehearsal-evil",
            "absolute",
        ),
        (
            "parent",
            vec![file("../rehearsal-evil", "x")],
            "../rehearsal-evil",
            "`..`",
        ),
        (
            "parent inside",
            vec![file("a/../../rehearsal-evil", "x")],
            "a/../../rehearsal-evil",
            "`..`",
        ),
        (
            "long name",
            vec![
                raw("././@LongLink", b'L', "", "../rehearsal-evil\0"),
                file("ok", "x"),
            ],
            "../rehearsal-evil",
            "`..`",
        ),
        (
            "pax path",
            vec![
                pax(b'x', &[("path", b"../rehearsal-evil")]),
                file("ok", "x"),
            ],
            "../rehearsal-evil",
            "`..`",
        ),
        (
            "pax link",
            vec![pax(b'x', &[("linkpath", b"/etc/passwd")]), link("l", "ok")],
            "l",
            "leaves",
        ),
        (
            "global path",
            vec![pax(b'g', &[("path", b"a")]), file("b", "x")],
            "PAX header",
            "global",
        ),
        (
            "two paths",
            vec![pax(b'x', &[("path", b"a"), ("path", b"b")]), file("c", "x")],
            "PAX header",
            "two values",
        ),
        (
            "two kinds of long name",
            vec![
                pax(b'x', &[("path", b"a")]),
                raw("././@LongLink", b'L', "", "b\0"),
                file("c", "x"),
            ],
            "a",
            "two different names",
        ),
        (
            "absolute link",
            vec![link("l", "/etc/passwd")],
            "l",
            "leaves",
        ),
        (
            "absolute link up",
            vec![folder("a"), link("a/l", "/../x")],
            "a/l",
            "leaves",
        ),
        (
            "leaving link",
            vec![folder("a"), link("a/l", "../../x")],
            "a/l",
            "leaves",
        ),
        (
            "through a link",
            vec![folder("d"), link("d/up", ".."), link("l", "d/up/../../x")],
            "l",
            "`..` after a name",
        ),
        (
            "below a link",
            vec![folder("d"), link("l", "d"), file("l/x", "x")],
            "l/x",
            "below `l`",
        ),
        (
            "link over folder",
            vec![file("d/x", "x"), link("d", "e")],
            "d",
            "not a folder",
        ),
        (
            "hard link out",
            vec![hard("h", "/etc/passwd")],
            "h",
            "absolute",
        ),
        ("hard link up", vec![hard("h", "../x")], "h", "`..`"),
        (
            "hard link to nothing",
            vec![hard("h", "later"), file("later", "x")],
            "h",
            "does not come before",
        ),
        (
            "hard link to folder",
            vec![folder("d"), hard("h", "d")],
            "h",
            "not a file",
        ),
        (
            "character device",
            vec![raw("tty", b'3', "", "")],
            "tty",
            "device",
        ),
        (
            "block device",
            vec![raw("sda", b'4', "", "")],
            "sda",
            "device",
        ),
        ("fifo", vec![raw("pipe", b'6', "", "")], "pipe", "FIFO"),
        (
            "unknown kind",
            vec![raw("what", b'Z', "", "")],
            "what",
            "unknown kind",
        ),
        (
            "twice",
            vec![file("a", "x"), file("./a", "y")],
            "a",
            "twice",
        ),
        (
            "folder and file",
            vec![folder("a"), file("a", "y")],
            "a",
            "twice",
        ),
        (
            "link with content",
            vec![Raw {
                content: vec![0; 512],
                ..link("l", "a")
            }],
            "l",
            "content",
        ),
        (
            "overlay attribute",
            vec![
                pax(b'x', &[("SCHILY.xattr.trusted.overlay.opaque", b"y")]),
                folder("d"),
            ],
            "d",
            "overlay",
        ),
    ]
}

/// As [`hostile_tars`], for zips.
pub(crate) fn hostile_zips() -> Vec<(&'static str, Vec<u8>, &'static str, &'static str)> {
    let one = |name: &'static str, mode: u32, content: &'static str| {
        raw_zip(&[(name.as_bytes(), mode, content.as_bytes())])
    };
    vec![
        (
            "absolute",
            one("/tmp/rehearsal-evil", 0o100_644, "x"),
            "/tmp/rehearsal-evil",
            "absolute",
        ),
        (
            "parent",
            one("../rehearsal-evil", 0o100_644, "x"),
            "../rehearsal-evil",
            "`..`",
        ),
        (
            "backslash",
            one("..\\rehearsal-evil", 0o100_644, "x"),
            "..\\rehearsal-evil",
            "backslash",
        ),
        (
            "absolute link",
            one("l", 0o120_777, "/etc/passwd"),
            "l",
            "leaves",
        ),
        (
            "leaving link",
            one("a/l", 0o120_777, "../../x"),
            "a/l",
            "leaves",
        ),
        ("device", one("tty", 0o020_644, ""), "tty", "device"),
        ("socket", one("s", 0o140_644, ""), "s", "socket"),
        (
            "kind by name and mode",
            one("f/", 0o100_644, ""),
            "f",
            "of one kind",
        ),
        (
            "folder with content",
            one("f/", 0o040_755, "x"),
            "f",
            "content",
        ),
        (
            "twice",
            raw_zip(&[(b"a", 0o100_644, b"x"), (b"a", 0o100_644, b"y")]),
            "a",
            "twice",
        ),
        (
            "twice by spelling",
            raw_zip(&[(b"a", 0o100_644, b"x"), (b"./a", 0o100_644, b"y")]),
            "a",
            "twice",
        ),
        (
            "below a link",
            raw_zip(&[(b"l", 0o120_777, b"d"), (b"l/x", 0o100_644, b"x")]),
            "l/x",
            "below `l`",
        ),
    ]
}
