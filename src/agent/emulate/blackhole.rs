//! A system that does not answer.

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::Log;
use crate::check::model::Received;
use crate::event::Exchange;

/// Takes a connection, tells of it, and never says a word. The kernel completes the connection itself, before any program
/// is asked whether it wants it.
pub(super) async fn swallow(log: Log, mut stream: TcpStream, asker: String, port: u16) {
    let told = log.write(Received {
        kind: Exchange::Tcp,
        asker,
        matched: true,
        note: format!("port {port}"),
        ..Received::default()
    });
    if told.is_err() {
        return;
    }
    // Until the other side gives up.
    let mut sink = [0; 4096];
    while matches!(stream.read(&mut sink).await, Ok(1..)) {}
}
