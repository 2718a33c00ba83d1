//! HTTPS: the certificates of the run's own authority.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Log;
use crate::agent::protocol::Identity;
use crate::check::model::Received;
use crate::event::Exchange;

/// For one handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What makes the handshakes of an emulator.
pub(super) fn acceptor(identity: &Identity) -> Result<TlsAcceptor, String> {
    let unsound =
        |error: &dyn std::fmt::Display| format!("the certificates are not sound: {error}");
    let certificates: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(identity.certificates.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| unsound(&error))?;
    let key =
        PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).map_err(|error| unsound(&error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder
                .with_no_client_auth()
                .with_single_cert(certificates, key)
        })
        .map_err(|error| unsound(&error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Makes the handshake. One that fails is told: nearly always the asker does not trust the run's authority.
pub(super) async fn accept(
    acceptor: &TlsAcceptor,
    log: &Log,
    stream: TcpStream,
    asker: &str,
) -> Option<TlsStream<TcpStream>> {
    // A connection that says nothing is somebody who looks whether the port is open.
    if !matches!(stream.peek(&mut [0]).await, Ok(1)) {
        return None;
    }
    let under_way = log.under_way();
    let why = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("it did not end within {} s", HANDSHAKE.as_secs()),
    };
    // Whether this is still heard changes nothing for a connection that is over.
    let _ = log.write(Received {
        kind: Exchange::Tls,
        asker: asker.to_owned(),
        matched: true,
        note: why,
        ..Received::default()
    });
    drop(under_way);
    None
}
