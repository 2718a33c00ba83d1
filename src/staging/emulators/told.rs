//! What is said of a request.

use std::net::IpAddr;
use std::sync::PoisonError;

use crate::check::model::Received;
use crate::event::{EventKind, Exchange};
use crate::staging::Ground;

/// Characters of headers and body that an event shows.
const DETAIL: usize = 2000;

/// Longer than any secret is: so much of the end of a body that was cut may be the beginning of one.
const SECRET: usize = 4096;

/// The name behind an address, where it is one and known.
pub(super) fn named(ground: &Ground, asker: &str) -> String {
    let known = ground
        .addresses
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let address = asker.parse::<IpAddr>().ok();
    address
        .and_then(|address| known.get(&address).cloned())
        .unwrap_or_else(|| asker.to_owned())
}

/// The event of a request.
pub(super) fn event(ground: &Ground, emulator: &str, received: &Received) -> EventKind {
    let mut detail = String::new();
    for (name, value) in &received.headers {
        detail += &format!("{name}: {value}\n");
    }
    if !received.query.is_empty() {
        detail += &format!("query: {}\n", received.query);
    }
    if !received.note.is_empty() && received.kind != Exchange::Tcp {
        detail += &format!("({})\n", received.note);
    }
    if !received.body.is_empty() {
        detail += &format!("\n{}", received.body);
    }
    let detail = shortened(ground, detail, received.cut, DETAIL);
    EventKind::EmulatorRequest {
        stage: ground.current_stage(),
        emulator: emulator.to_owned(),
        asker: named(ground, &received.asker),
        kind: received.kind,
        summary: shortened(ground, received.summary(), false, 400),
        matched: received.matched,
        status: received.status,
        detail: Some(detail).filter(|detail| !detail.trim().is_empty()),
    }
}

/// Without secrets, and then without what is too long. Of a text that was cut already the end is left out: it may be
/// the beginning of a secret, which nothing would find.
fn shortened(ground: &Ground, text: String, cut: bool, most: usize) -> String {
    let text = ground.mask.text(text);
    let safe = match cut && !ground.mask.is_empty() {
        true => text.chars().count().saturating_sub(SECRET),
        false => usize::MAX,
    };
    let short: String = text.chars().take(most.min(safe)).collect();
    if short.len() < text.len() || cut {
        format!("{short}…")
    } else {
        short
    }
}
