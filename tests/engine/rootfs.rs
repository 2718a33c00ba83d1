//! A server's root filesystem that becomes a service's image.

use std::io::Read as _;
use std::sync::OnceLock;

use rehearsal::event::{CaseStatus, Owner};
use rehearsal::verdict::Outcome;
use tempfile::TempDir;

use crate::common::{BASE, Place, engine, prepare};

/// The whole filesystem of a container of the sample's web server, as a backup program would pack it, with a file of
/// its own.
fn source() -> &'static TempDir {
    static SOURCE: OnceLock<TempDir> = OnceLock::new();
    SOURCE.get_or_init(|| {
        prepare();
        crate::workshop::made(
            "rootfs",
            "rehearse-site/web:1.22",
            &[],
            "echo 'the page of a server' > /usr/share/nginx/html/server.html\n\
             printf 'events {}\\nhttp { server { listen 80; root /usr/share/nginx/html; } }\\n' > /etc/nginx/nginx.conf\n\
             mknod -m 0666 /srv/device c 1 3\nchmod 4755 /usr/bin/env\n\
             tar --numeric-owner --one-file-system --exclude=./proc --exclude=./sys --exclude=./dev --exclude=./out \
             --exclude=./usr/share/doc --exclude=./usr/share/locale --exclude=./var/lib/apt --exclude=./var/cache -C / -cf /out/server.tar . || test $? = 1\n\
             gzip -1 -k /out/server.tar\n",
        )
    })
}

fn place(test: &str, file: &str) -> Place {
    source();
    let place = Place::new(test);
    place.write(
        "stack.yaml",
        format!(
            "services:\n  legacy:\n    image: {BASE}\n    command: [nginx, -g, daemon off;]\n    stop_signal: SIGQUIT\n    expose: [\"80\"]\n"
        ),
    );
    place.write(
        "rehearsal.yaml",
        format!(
            "rehearsal: {}\nstack: stack.yaml\ntestplan: testplan.yaml\nrestore:\n  - service: legacy\n    rootfs: {file}\n    max_age: 26h\n",
            place.name()
        ),
    );
    place.write(
        "testplan.yaml",
        "testplan: server\ntests:\n  - { name: page, http: { get: \"http://legacy/server.html\" }, expect: { status: 200, body: the page of a server } }\n  \
         - { name: modes, exec: { service: legacy, run: stat -c %a%F /usr/bin/env /srv/device }, expect: { stdout: \"4755regular file\\n666character special file\" } }\n",
    );
    place
}

#[test]
fn a_servers_backup_becomes_a_service_once() {
    let place = place("rootfs", "server.tar.gz");
    let from = crate::workshop::out(source(), "server.tar.gz");
    std::fs::copy(&from, place.path("server.tar.gz")).expect("a copy");
    let ran = place.backup_check();
    ran.expect(0, Outcome::Passed, None).expect_nothing_left();
    for name in [
        "restores without errors",
        "the server starts and recovers",
        "the data is fresh",
    ] {
        let case = ran.case("restore", &format!("legacy: {name}"));
        assert_eq!(case.status, CaseStatus::Passed, "{case:?}");
    }
    let again = place.backup_check();
    again.expect(0, Outcome::Passed, None);
    let case = again.case("restore", "legacy: restores without errors");
    assert!(
        case.message
            .as_deref()
            .is_some_and(|said| said.contains("used again")),
        "{case:?}"
    );
    let restored = &again.record().restores[0];
    assert!(restored.reused, "{restored:?}");

    // Damaged in ways that the file itself shows: nothing is imported.
    let whole = std::fs::read(&from).expect("it was made");
    let plain = crate::workshop::out(source(), "server.tar");
    let plain = std::fs::read(plain).expect("it was made");
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x40;
    for (what, content) in [
        ("cut", whole[..middle].to_vec()),
        ("its last byte missing", whole[..whole.len() - 1].to_vec()),
        ("empty", Vec::new()),
        ("a flipped byte", flipped),
        ("half a tar", plain[..plain.len() / 2].to_vec()),
        ("something else", b"not a tar".to_vec()),
    ] {
        place.write("server.tar.gz", content);
        let ran = place.backup_check();
        let verdict = ran.verdict();
        assert_eq!(
            (ran.code, verdict.owner),
            (Some(1), Some(Owner::Backup)),
            "{what}: {verdict:?}"
        );
        ran.expect_nothing_left();
    }

    // A whole tar of half a server: its program is there and does not run.
    let mut archive = tar::Archive::new(plain.as_slice());
    let mut left = tar::Builder::new(Vec::new());
    let mut missing = 0;
    for entry in archive.entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let path = entry.path_bytes().into_owned();
        if path.windows(7).any(|part| part == b"libpcre") {
            missing += 1;
            continue;
        }
        let mut header = entry.header().clone();
        if let Some(link) = entry.link_name_bytes() {
            let link = String::from_utf8_lossy(&link).into_owned();
            let path = String::from_utf8_lossy(&path).into_owned();
            left.append_link(&mut header, path, link).expect("memory");
            continue;
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("memory");
        let path = String::from_utf8_lossy(&path).into_owned();
        left.append_data(&mut header, path, content.as_slice())
            .expect("memory");
    }
    assert!(missing > 0, "the library was there");
    place.write("server.tar.gz", left.into_inner().expect("memory"));
    std::fs::copy(place.path("server.tar.gz"), place.path("lame.tar")).expect("a copy");
    let lame = place.backup_check();
    assert_ne!(lame.code, Some(0));
    assert_eq!(
        lame.case("restore", "legacy: the server starts and recovers")
            .status,
        CaseStatus::Error,
        "the loader's exit code is that of a program that is not there"
    );

    // A command that is not in it cannot be told from a mistake of the stack.
    place.write("server.tar.gz", &whole);
    let stack = std::fs::read_to_string(place.path("stack.yaml")).expect("it was written");
    place.write(
        "stack.yaml",
        stack.replace("[nginx, -g, daemon off;]", "[no-such-server]"),
    );
    let ran = place.backup_check();
    ran.expect(2, Outcome::Invalid, Some(Owner::Staging));
    // And without one nothing could run.
    place.write(
        "stack.yaml",
        stack.replace("    command: [nginx, -g, daemon off;]\n", ""),
    );
    let checked = crate::common::rehearse()
        .arg("check")
        .arg(place.path("rehearsal.yaml"))
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&checked.stderr).into_owned()
        + &String::from_utf8_lossy(&checked.stdout);
    assert_eq!(checked.status.code(), Some(64), "{said}");
    assert!(said.contains("says no `command`"), "{said}");

    // What was imported here is nobody's cache.
    engine(async |engine| {
        for path in [from.as_path(), place.path("lame.tar").as_path()] {
            let facts =
                rehearsal::backup::inspect(path, rehearsal::backup::Wanted::Rootfs).expect("a tar");
            engine
                .remove_image(&rehearsal::restore::rootfs::reference(&facts))
                .await
                .expect("nothing uses it");
        }
    });
}
