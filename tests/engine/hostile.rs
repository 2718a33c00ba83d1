//! Packages as they are handed over: packed in every way, and archives that no honest tool would make.

use std::io::{Cursor, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// A raw member of a tar: its name, the letter of its kind, where it links to, what is in it.
type Member<'a> = (&'a str, u8, &'a str, &'a [u8]);

const DEPLOY: Member<'_> = ("deploy.sh", b'0', "", b"true\n");

/// An archive by the name of its trick, with the name of its file.
pub(crate) fn made(trick: &str) -> (String, Vec<u8>) {
    let tar = |members: &[Member<'_>]| (format!("{trick}.tar"), raw_tar(members));
    let evil = b"#!/bin/sh\nexit 0\n";
    match trick {
        "tar-slip" => tar(&[DEPLOY, ("../evil.sh", b'0', "", evil)]),
        "absolute-path" => tar(&[DEPLOY, ("/etc/cron.d/evil", b'0', "", evil)]),
        "duplicate-names" => tar(&[DEPLOY, ("deploy.sh", b'0', "", b"false\n")]),
        "device" => tar(&[DEPLOY, ("null", b'3', "", b"")]),
        "link-that-leaves" => tar(&[DEPLOY, ("passwd", b'2', "../../../etc/passwd", b"")]),
        "hard-link-that-leaves" => tar(&[DEPLOY, ("shadow", b'1', "/etc/shadow", b"")]),
        "zip-slip" => {
            let zip = zip(&[("deploy.sh", 0o755, b"true\n"), ("../evil.sh", 0o755, evil)]);
            (format!("{trick}.zip"), zip)
        }
        "bomb" => {
            let zeros = vec![0; 128 << 20];
            let zip = zip(&[("deploy.sh", 0o755, b"true\n"), ("zeros", 0o644, &zeros)]);
            (format!("{trick}.zip"), zip)
        }
        "truncated" => {
            let noise: Vec<u8> = (0..20_000_u32)
                .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
                .collect();
            let mut whole = gzipped(&raw_tar(&[DEPLOY, ("data", b'0', "", &noise)]));
            whole.truncate(whole.len() / 2);
            (format!("{trick}.tar.gz"), whole)
        }
        "no-archive" => (format!("{trick}.tar"), b"not an archive\n".repeat(100)),
        other => panic!("nobody makes `{other}`"),
    }
}

/// A tar of these members, each exactly as given: the crate refuses to write names that leave.
fn raw_tar(members: &[Member<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, kind, link, content) in members {
        let mut header = tar::Header::new_gnu();
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name.as_bytes());
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        old.linkflag = [*kind];
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_size(content.len() as u64);
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

fn zip(members: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, mode, content) in members {
        let options = zip::write::SimpleFileOptions::default().unix_permissions(*mode);
        zip.start_file(*name, options).expect("an entry");
        zip.write_all(content).expect("memory");
    }
    zip.finish().expect("memory").into_inner()
}

/// Copies a folder with the execute bits of its files.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).expect("a copy");
        }
    }
}

/// A folder as a tar, below a folder of the package's name, as people pack.
pub(crate) fn tar_of(folder: &Path, name: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_dir_all(name, folder).expect("a tar");
    tar.into_inner().expect("memory")
}

pub(crate) fn gzipped(data: &[u8]) -> Vec<u8> {
    let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    zipped.write_all(data).expect("memory");
    zipped.finish().expect("memory")
}

/// A folder as a zip with everything at its top.
pub(crate) fn zip_of(folder: &Path) -> Vec<u8> {
    fn files(folder: &Path, below: &str, found: &mut Vec<(String, u32, Vec<u8>)>) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy();
            let name = format!("{below}{name}");
            if path.is_dir() {
                files(&path, &format!("{name}/"), found);
            } else {
                let mode = path.metadata().expect("a file").permissions().mode() & 0o777;
                found.push((name, mode, std::fs::read(&path).expect("a file")));
            }
        }
    }
    let mut found = Vec::new();
    files(folder, "", &mut found);
    let members: Vec<(&str, u32, &[u8])> = found
        .iter()
        .map(|(name, mode, content)| (name.as_str(), *mode, content.as_slice()))
        .collect();
    zip(&members)
}
