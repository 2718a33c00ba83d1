//! Opening what was handed over.

mod damaged;
mod hostile;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::*;
use crate::archive::source::Compression;
use crate::archive::testing::{self, Raw, compress, executable, file, folder, hard, link, raw};

const COMPRESSIONS: [Compression; 3] = [Compression::None, Compression::Gzip, Compression::Zstd];

fn sample() -> Vec<Raw> {
    vec![
        file("deploy.yaml", "package: site\n"),
        executable("bin/roll", "#!/bin/sh\n"),
        folder("content"),
        file("content/index.html", "<h1>hello</h1>\n"),
        file("content/ü ñ.txt", "words\n"),
        link("content/home.html", "index.html"),
        link("run", "./bin/roll"),
        hard("content/copy.html", "content/index.html"),
    ]
}

fn wrapped(members: &[Raw], wrapper: &str) -> Vec<Raw> {
    let under = |name: &[u8]| [wrapper.as_bytes(), b"/", name].concat();
    let mut all = vec![folder(&format!("{wrapper}/"))];
    all.extend(members.iter().cloned().map(|member| Raw {
        name: under(&member.name),
        link: if member.kind == b'1' {
            under(&member.link)
        } else {
            member.link.clone()
        },
        ..member
    }));
    all
}

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// The name deliberately says nothing about the content.
    fn put(&self, name: &str, data: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, data).unwrap();
        path
    }

    fn folder(&self, name: &str, members: &[Raw]) -> PathBuf {
        let root = self.0.path().join(name);
        for member in members {
            let path = root.join(std::str::from_utf8(&member.name).unwrap());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let target = std::str::from_utf8(&member.link).unwrap();
            match member.kind {
                b'5' => fs::create_dir_all(&path).unwrap(),
                b'2' => symlink(target, &path).unwrap(),
                b'1' => fs::hard_link(root.join(target), &path).unwrap(),
                _ => {
                    fs::write(&path, &member.content).unwrap();
                    fs::set_permissions(&path, fs::Permissions::from_mode(member.mode)).unwrap();
                }
            }
        }
        root
    }
}

fn opened(path: &Path) -> Result<OpenedPackage, OpenError> {
    open(path, &OpenLimits::default())
}

/// Why an archive is not unpacked. By then nothing of it was written.
fn refused(path: &Path, limits: &OpenLimits) -> OpenError {
    let root = tempfile::tempdir().unwrap();
    let error = unpack::Judged::of(path, limits)
        .and_then(|judged| judged.unpack(root.path()))
        .unwrap_err();
    let written: Vec<_> = fs::read_dir(root.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(written.is_empty(), "{error}: {written:?}");
    error
}

#[test]
fn one_digest_for_a_folder_and_all_its_archives() {
    let place = Place::new();
    let folder = opened(&place.folder("folder", &sample())).unwrap();
    let mut seen = vec![(
        "folder".to_owned(),
        folder.digest.clone(),
        folder.listing.clone(),
    )];
    for (shape, members) in [
        ("plain", sample()),
        ("wrapped", wrapped(&sample(), "site-2.4")),
        (
            "wrapped twice",
            wrapped(&wrapped(&sample(), "site-2.4"), "out"),
        ),
        ("dotted", wrapped(&sample(), ".")),
    ] {
        for compression in COMPRESSIONS {
            let path = place.put(
                "package.bin",
                &compress(&testing::tar(&members), compression),
            );
            let package = opened(&path).unwrap();
            assert!(package.root.join("deploy.yaml").is_file());
            seen.push((
                format!("{shape} {}", compression.name()),
                package.digest.clone(),
                package.listing.clone(),
            ));
        }
        if shape != "dotted" {
            let package = opened(&place.put("package.bin", &testing::zip(&members))).unwrap();
            seen.push((
                format!("{shape} zip"),
                package.digest.clone(),
                package.listing.clone(),
            ));
        }
    }
    let wrapped = opened(&place.folder("outer", &wrapped(&sample(), "inner"))).unwrap();
    assert!(wrapped.root.ends_with("outer/inner"));
    seen.push((
        "wrapped folder".to_owned(),
        wrapped.digest.clone(),
        wrapped.listing.clone(),
    ));

    assert_eq!(seen.len(), 17);
    for (name, digest, listing) in &seen {
        assert_eq!((digest, listing), (&seen[0].1, &seen[0].2), "{name}");
    }
    assert_eq!((folder.files, folder.bytes), (7, 14 + 10 + 15 + 6 + 15));
    insta::assert_snapshot!(folder.digest, @"sha256:185ba5ab5b2d0b179f0f073d62ac0f4e21d7e412a7aaed3f9f0aa4150ce2d2d2");
    insta::assert_debug_snapshot!(
        folder
            .listing
            .iter()
            .map(|f| (&*f.path, f.size, f.executable, f.link.as_deref()))
            .collect::<Vec<_>>()
    );
}

#[test]
fn the_digest_tells_every_difference_it_promises_to() {
    let place = Place::new();
    let base = vec![file("a", "1"), file("b", "2"), link("l", "a")];
    let variants: [(&str, Vec<Raw>); 7] = [
        ("as it is", base.clone()),
        (
            "content",
            vec![file("a", "9"), file("b", "2"), link("l", "a")],
        ),
        ("name", vec![file("c", "1"), file("b", "2"), link("l", "a")]),
        (
            "executable",
            vec![executable("a", "1"), file("b", "2"), link("l", "a")],
        ),
        (
            "link target",
            vec![file("a", "1"), file("b", "2"), link("l", "b")],
        ),
        ("kind", vec![file("a", "1"), file("b", "2"), file("l", "a")]),
        (
            "contents swapped",
            vec![file("a", "2"), file("b", "1"), link("l", "a")],
        ),
    ];
    let digests: std::collections::BTreeSet<String> = variants
        .iter()
        .map(|(name, members)| opened(&place.folder(name, members)).unwrap().digest)
        .collect();
    assert_eq!(digests.len(), variants.len());

    let mut same = base;
    same.push(folder("empty"));
    same[0].mode = 0o600;
    same[0].mtime = 1;
    let same = opened(&place.put("same", &testing::tar(&same))).unwrap();
    assert!(digests.contains(&same.digest));
    // It was unpacked with it, and is deployed without it.
    assert!(same.root.join("empty").is_dir());
    let options = TarOptions {
        as_digested: true,
        ..TarOptions::default()
    };
    let deployed = tar_folder(&same.root, Vec::new(), &options).unwrap();
    let mut archive = tar::Archive::new(deployed.as_slice());
    let entries = archive.entries().unwrap();
    let deployed: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path().unwrap().into_owned())
        .collect();
    assert_eq!(deployed, ["a", "b", "l"].map(PathBuf::from));
}

#[test]
fn what_is_no_package_is_said_to_be_none() {
    let place = Place::new();
    fs::create_dir_all(place.0.path().join("hollow/inner")).unwrap();
    let gz = compress(b"select 1;\n", Compression::Gzip);
    let table: &[(PathBuf, &str)] = &[
        (place.put("empty", b""), "holds no files"),
        (
            place.put("text", b"hello"),
            "found a file of 5 bytes that is none of them",
        ),
        (place.put("gz", &gz), "compressed file that is no tar"),
        (
            place.put("xz", b"\xfd7zXZ\0rest"),
            "xz, which is not supported yet",
        ),
        (place.put("tar", &testing::tar(&[])), "holds no files"),
        (
            place.put("folders", &testing::tar(&[folder("a")])),
            "holds no files",
        ),
        (place.put("zip", &testing::raw_zip(&[])), "holds no files"),
        (place.0.path().join("hollow"), "holds no files"),
        (place.0.path().join("absent"), "cannot read package"),
        (
            place.put(
                "two",
                &[
                    testing::tar(&[file("a", "")]),
                    testing::tar(&[file("b", "")]),
                ]
                .concat(),
            ),
            "something follows its end",
        ),
    ];
    for (path, expected) in table {
        let error = opened(path).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(
            error.is_package_fault(),
            !path.ends_with("absent"),
            "{error}"
        );
    }
}

#[test]
fn sums_are_enforced_and_every_deviation_is_named() {
    let place = Place::new();
    let sum = |text: &str| {
        crate::archive::source::hex(&sha2::Digest::finalize(
            <sha2::Sha256 as sha2::Digest>::new_with_prefix(text),
        ))
    };
    let (one, two) = (sum("1"), sum("2"));
    let members = |sums: &str| {
        vec![
            file("a", "1"),
            file("d/b", "2"),
            link("l", "a"),
            file("SHA256SUMS", sums),
            file("SHA256SUMS.asc", "sig"),
        ]
    };
    let good = format!(
        "# sums\n{one}  ./a\n{} *d/b\n{one}  l\n",
        two.to_uppercase()
    );
    assert!(opened(&place.folder("good", &members(&good))).is_ok());
    assert!(
        opened(&place.put("good.tar", &testing::tar(&wrapped(&members(&good), "site")))).is_ok()
    );

    let bad = format!("{two}  a\n{one}  gone\n{one}  gone\nnonsense\n{one}  ../a\n");
    for path in [
        place.folder("bad", &members(&bad)),
        place.put("bad.tar", &testing::tar(&members(&bad))),
    ] {
        let OpenError::Sums { problems, .. } = opened(&path).unwrap_err() else {
            panic!("{}", path.display())
        };
        let expected = [
            format!("`a` has changed: {one} instead of {two}"),
            "`d/b` is not listed".to_owned(),
            "`gone` is listed but missing".to_owned(),
            "`gone` is listed twice".to_owned(),
            "`l` is not listed".to_owned(),
            "line 4 is not `<sha256>  <file>`, as `sha256sum` writes it without `--tag`".to_owned(),
            "line 5 is not `<sha256>  <file>`, as `sha256sum` writes it without `--tag`".to_owned(),
        ];
        assert_eq!(problems, expected);
    }
}

#[test]
fn an_edited_folder_is_noticed_and_a_temporary_one_goes() {
    let place = Place::new();
    let root = place.folder("folder", &sample());
    let package = opened(&root).unwrap();
    package.verify_unchanged().unwrap();
    fs::write(root.join("deploy.yaml"), "package: evil\n").unwrap();
    let error = package.verify_unchanged().unwrap_err();
    assert!(
        matches!(&error, OpenError::Changed { file, .. } if file == "deploy.yaml"),
        "{error}"
    );
    drop(package);
    assert!(root.exists());

    let package = opened(&place.put("tar", &testing::tar(&sample()))).unwrap();
    assert!(package.is_unpacked());
    let unpacked = package.root.clone();
    let facts = fs::metadata(unpacked.join("bin/roll")).unwrap();
    assert_eq!(facts.permissions().mode() & 0o777, 0o755);
    assert_eq!(
        facts.modified().unwrap(),
        std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000)
    );
    drop(package);
    assert!(!unpacked.exists());
}

#[test]
fn a_folder_streams_as_the_tar_it_is() {
    let place = Place::new();
    let root = place.folder("folder", &sample());
    let options = TarOptions {
        prefix: "package".to_owned(),
        owner: Some((10, 20)),
        ..TarOptions::default()
    };
    let first = tar_folder(&root, Vec::new(), &options).unwrap();
    assert_eq!(first, tar_folder(&root, Vec::new(), &options).unwrap());
    let mut archive = tar::Archive::new(first.as_slice());
    let entries: Vec<_> = archive
        .entries()
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let header = entry.header();
            assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (10, 20));
            let target = entry
                .link_name()
                .unwrap()
                .map(|target| target.display().to_string())
                .unwrap_or_default();
            format!(
                "{} {:o} {target}",
                entry.path().unwrap().display(),
                header.mode().unwrap()
            )
        })
        .collect();
    insta::assert_snapshot!(entries.join("\n"));
    let again = opened(&place.put("tar", &first)).unwrap();
    assert_eq!(again.digest, opened(&root).unwrap().digest);

    let one = tar_folder(
        &root.join("run"),
        Vec::new(),
        &TarOptions {
            file_mode: Some(0o600),
            ..TarOptions::default()
        },
    )
    .unwrap();
    let mut archive = tar::Archive::new(one.as_slice());
    let entry = archive.entries().unwrap().next().unwrap().unwrap();
    assert_eq!(
        (
            entry.path().unwrap().as_ref(),
            entry.header().mode().unwrap()
        ),
        (Path::new("run"), 0o600)
    );

    // Bits that the digest does not cover make no difference.
    let normal = TarOptions {
        as_digested: true,
        ..options.clone()
    };
    let digest = opened(&root).unwrap().digest;
    let before = tar_folder(&root, Vec::new(), &normal).unwrap();
    for (path, mode) in [
        ("bin", 0o2777),
        ("bin/roll", 0o4711),
        ("deploy.yaml", 0o666),
        ("content/index.html", 0o600),
    ] {
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    assert_eq!(opened(&root).unwrap().digest, digest);
    assert_ne!(tar_folder(&root, Vec::new(), &options).unwrap(), first);
    assert_eq!(tar_folder(&root, Vec::new(), &normal).unwrap(), before);
    let modes: Vec<u32> = tar::Archive::new(before.as_slice())
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().header().mode().unwrap())
        .collect();
    // As they were, since the sample's modes are normal ones.
    let sampled: Vec<u32> = tar::Archive::new(first.as_slice())
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().header().mode().unwrap())
        .collect();
    assert_eq!(modes, sampled);

    // Nor do folders that it does not cover.
    for folder in ["bin-empty", "content/a/b", "z/y"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::write(root.join("z/file"), "").unwrap();
    let names = |options: &TarOptions| {
        let packed = tar_folder(&root, Vec::new(), options).unwrap();
        let mut archive = tar::Archive::new(packed.as_slice());
        let names = archive.entries().unwrap().map(|entry| {
            let path = entry.unwrap().path().unwrap().into_owned();
            let name = path.to_str().unwrap().trim_end_matches('/').to_owned();
            name.strip_prefix("package/").unwrap_or(&name).to_owned()
        });
        names.collect::<Vec<String>>()
    };
    let covered = [
        "package",
        "bin",
        "bin/roll",
        "content",
        "content/copy.html",
        "content/home.html",
        "content/index.html",
        "content/ü ñ.txt",
        "deploy.yaml",
        "run",
        "z",
        "z/file",
    ];
    assert_eq!(names(&normal), covered);
    let mut all = names(&options);
    all.retain(|name| !covered.contains(&name.as_str()));
    assert_eq!(all, ["bin-empty", "content/a", "content/a/b", "z/y"]);

    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    assert!(matches!(
        tar_folder(&root, Vec::new(), &options),
        Err(TarError::Special { .. })
    ));
}

fn nothing_outside() {
    for place in [
        std::env::temp_dir(),
        PathBuf::from("/tmp"),
        PathBuf::from(".."),
        PathBuf::from("."),
    ] {
        assert!(
            !place.join("rehearsal-evil").exists(),
            "{}",
            place.display()
        );
    }
}
