//! Notifications.

use std::net::TcpListener;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use super::common::*;

#[test]
fn a_change_is_told_once_and_signed() {
    let place = Place::new();
    place.check(&[]);
    place.newest_passed();
    let before = place.entries().remove(0).run;
    // A receiver that is down for a moment is asked again.
    let (out, got) = receiving(
        &[
            "500 Internal Server Error",
            "503 Service Unavailable",
            "204 No Content",
        ],
        |url| place.check(&["--notify", url]),
    );
    assert!(!both(&out).contains("NOBODY"), "{}", both(&out));
    let message = got[2].message();
    for earlier in &got[..2] {
        assert_eq!(earlier.message(), message);
        assert_eq!(earlier.header("webhook-id"), got[2].header("webhook-id"));
    }
    let run = place.entries().remove(0).run;
    for (pointer, wanted) in [
        ("/version", Value::from(1)),
        ("/rehearsal", "small".into()),
        ("/run", run.as_str().into()),
        ("/previous/run", before.as_str().into()),
        ("/previous/verdict", "passed".into()),
        ("/verdict", "invalid".into()),
        ("/owner", "engine".into()),
    ] {
        assert_eq!(
            message.pointer(pointer),
            Some(&wanted),
            "{pointer}: {message:#}"
        );
    }
    // The same again is no news.
    receiving(&[], |url| place.check(&["--notify", url]));
    let notified: Vec<_> = place
        .entries()
        .into_iter()
        .map(|entry| entry.notified)
        .collect();
    assert_eq!(notified, [None, Some(true), None]);
    // Neither the secret nor the path of the address is anywhere.
    let mut seen = both(&out);
    for file in ["record.json", "events.jsonl", "report.html", "junit.xml"] {
        seen += &std::fs::read_to_string(place.path(".rehearse/runs").join(&run).join(file))
            .expect(file);
    }
    seen += &String::from_utf8_lossy(&std::fs::read(place.history()).expect("the history"));
    assert!(!seen.contains("geheim") && !seen.contains(&SECRET[6..]));
}

#[test]
fn a_message_that_was_refused_is_sent_by_the_next_run() {
    let place = Place::new();
    let (out, got) = receiving(&["400 Bad Request"], |url| place.check(&["--notify", url]));
    assert_eq!(got.len(), 1, "a refusal is not argued with");
    let said = both(&out);
    assert!(
        said.contains("NOBODY WAS NOTIFIED") && said.contains("400"),
        "{said}"
    );
    assert!(!said.contains("geheim"), "{said}");
    assert_eq!(place.entries()[0].notified, Some(false));
    assert!(place.told(&[]).contains("nobody could be notified"));
    // One that tells nobody does not make it up.
    place.check(&[]);
    let (_, got) = receiving(&["200 OK"], |url| place.check(&["--notify", url]));
    let message = got[0].message();
    assert_eq!(
        (&message["verdict"], &message["previous"]["verdict"]),
        (&"invalid".into(), &"invalid".into())
    );
    receiving(&[], |url| place.check(&["--notify", url]));
}

#[test]
fn nothing_is_sent_unsigned_and_no_run_starts_without_a_secret() {
    let place = Place::new();
    for (address, name, secret, word) in [
        (
            "http://127.0.0.1:9/",
            "REHEARSE_NOTIFY_SECRET",
            None,
            "`REHEARSE_NOTIFY_SECRET` is not set",
        ),
        ("http://127.0.0.1:9/", "OTHER", None, "`OTHER` is not set"),
        (
            "http://127.0.0.1:9/",
            "OTHER",
            Some(""),
            "`OTHER`: the secret is empty",
        ),
        (
            "http://127.0.0.1:9/",
            "OTHER",
            Some("whsec_geheim!"),
            "not base64",
        ),
        (
            "ftp://127.0.0.1/",
            "OTHER",
            Some("x"),
            "not an http:// or https:// URL",
        ),
        (
            "https://127.0.0.1:9/",
            "OTHER",
            Some("x"),
            "root certificates",
        ),
    ] {
        let mut command = place.rehearse(&["backup-check", "rehearsal.yaml"]);
        command.args(["--notify", address, "--notify-secret-env", name]);
        command.env_remove("REHEARSE_NOTIFY_SECRET");
        secret.map(|secret| command.env(name, secret));
        let out = command.output().expect("it starts");
        assert_eq!(out.status.code(), Some(64), "{}", both(&out));
        assert!(
            both(&out).contains(word) && !both(&out).contains("geheim"),
            "{}",
            both(&out)
        );
    }
    assert!(!place.path(".rehearse").exists(), "no run was started");
}

/// Certificate and key of a receiver on this machine, valid from 2020 to 2120; nothing else trusts them.
fn tls() -> Arc<ServerConfig> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let certificate = CertificateDer::from_pem_slice(include_bytes!("tls/receiver.pem"));
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/receiver.key"));
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.expect("a certificate")],
            key.expect("a key"),
        );
    Arc::new(config.expect("they belong together"))
}

/// Who cannot show a certificate of an authority that this machine knows gets no message, and is not asked again.
#[test]
fn a_certificate_that_nobody_vouches_for_takes_no_message() {
    let place = Place::new();
    let config = tls();
    for (root, trusted) in [("other.pem", false), ("receiver.pem", true)] {
        let root = format!("{}/tests/history/tls/{root}", env!("CARGO_MANIFEST_DIR"));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (out, got) = std::thread::scope(|scope| {
            let server = scope.spawn(|| {
                let (socket, _) = listener.accept().expect("a request");
                let connection = ServerConnection::new(Arc::clone(&config)).expect("a session");
                let mut stream = StreamOwned::new(connection, socket);
                let shaken = stream.conn.complete_io(&mut stream.sock);
                shaken.ok().map(|_| receive(stream, "204 No Content"))
            });
            let mut check = place.rehearse(&["backup-check", "rehearsal.yaml"]);
            let address = format!("https://127.0.0.1:{port}/hook/geheim");
            check
                .args(["--notify", &address])
                .env("SSL_CERT_FILE", root);
            check.env_remove("SSL_CERT_DIR");
            let out = check.output().expect("it starts");
            (out, server.join().expect("one request"))
        });
        let said = both(&out);
        assert_eq!(out.status.code(), Some(2), "{said}");
        assert_eq!(got.is_some(), trusted, "{said}");
        assert_eq!(said.contains("NOBODY WAS NOTIFIED"), !trusted, "{said}");
        assert_eq!(
            said.contains("its certificate is not to be trusted") && said.contains("(tries: 1)"),
            !trusted,
            "{said}"
        );
        assert!(!said.contains("geheim"), "{said}");
        assert_eq!(place.entries()[0].notified, Some(trusted));
        if let Some(got) = got {
            assert_eq!(got.message()["verdict"], "invalid");
        }
        listener.set_nonblocking(true).expect("a socket");
        assert!(listener.accept().is_err(), "one request too many");
    }
}
