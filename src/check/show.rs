//! Turning what was seen into something a person can read on one line: short, and with nothing invisible in it.

use std::fmt::Write as _;
use std::time::Duration;

/// Characters of a text that a message shows.
const WIDTH: usize = 120;
/// Characters shown before the place that matters.
const LEAD: usize = 30;

/// The text with characters that move a cursor, hide themselves or are forbidden in XML written as escapes.
pub(super) fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if hidden(c) => {
                // Writing into a string cannot fail.
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// Controls, direction marks (they reorder what a terminal shows) and noncharacters.
fn hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}')
        || matches!(c, '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// A reason as one visible line, shortened.
pub(super) fn line(text: &str) -> String {
    let text = text.trim();
    let end = text
        .char_indices()
        .nth(WIDTH * 4)
        .map_or(text.len(), |(at, _)| at);
    let mut out = visible(&text[..end]);
    if end < text.len() {
        out.push('…');
    }
    out
}

/// A text in quotes, shortened to its beginning, with its length where something was left out.
pub(super) fn quoted(text: &str) -> String {
    around(text, 0)
}

/// A text in quotes, shortened to what surrounds the byte offset `at` (which lies between two characters).
pub(super) fn around(text: &str, at: usize) -> String {
    if text.is_empty() {
        return "nothing".to_owned();
    }
    let start = match text.char_indices().nth(WIDTH) {
        None => 0,
        Some(_) => text[..at]
            .char_indices()
            .rev()
            .nth(LEAD - 1)
            .map_or(0, |(at, _)| at),
    };
    let end = text[start..]
        .char_indices()
        .nth(WIDTH)
        .map_or(text.len(), |(length, _)| start + length);
    let mut out = String::new();
    out.push('"');
    out.push_str(if start > 0 { "…" } else { "" });
    out.push_str(&visible(&text[start..end]));
    out.push_str(if end < text.len() { "…" } else { "" });
    out.push('"');
    if start > 0 || end < text.len() {
        // Writing into a string cannot fail.
        let _ = write!(out, " ({} characters)", text.chars().count());
    }
    out
}

/// Two unequal texts, both shortened to what surrounds their first difference.
pub(super) fn difference(expected: &str, seen: &str) -> (String, String) {
    let at = expected
        .char_indices()
        .zip(seen.chars())
        .find(|((_, a), b)| a != b)
        .map_or_else(|| expected.len().min(seen.len()), |((at, _), _)| at);
    (around(expected, at), around(seen, at))
}

/// How long something took, as test plans write it. Rounded up, so that what is over a limit looks it.
pub(super) fn duration(duration: Duration) -> String {
    let tenths = u64::try_from(duration.as_nanos().div_ceil(100_000)).unwrap_or(u64::MAX);
    format!("{:?}", Duration::from_micros(tenths.saturating_mul(100)))
}
