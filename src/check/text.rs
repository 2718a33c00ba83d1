//! Conditions on text, and what remains of them when the text was cut.

use regex::Regex;

use super::model::TextMatch;
use super::show;

/// A text that was seen.
#[derive(Clone, Copy)]
pub(super) struct Text<'a> {
    /// What was read of it.
    pub(super) text: &'a str,
    /// True where there was more than was read.
    pub(super) cut: bool,
}

impl<'a> Text<'a> {
    /// A text of which everything was read.
    pub(super) const fn whole(text: &'a str) -> Self {
        Self { text, cut: false }
    }
}

/// Whether a condition holds.
pub(super) enum Held {
    True,
    False { expected: String, seen: String },
    Unknown(String),
}

/// Compiles the regular expression of a [`TextMatch::Regex`] as the judgement will.
///
/// # Errors
/// The compiler's explanation, on one line.
pub fn compile(source: &str) -> Result<Regex, String> {
    Regex::new(source).map_err(|error| match error {
        regex::Error::Syntax(text) => text
            .lines()
            .next_back()
            .unwrap_or_default()
            .trim_start_matches("error: ")
            .to_owned(),
        other => other.to_string(),
    })
}

/// What a condition asks for, in words.
pub(super) fn asked(condition: &TextMatch) -> String {
    match condition {
        TextMatch::Contains(part) => format!("to contain {}", show::quoted(part)),
        TextMatch::Lacks(part) => format!("to lack {}", show::quoted(part)),
        TextMatch::Equals(whole) => format!("to equal {}", show::quoted(whole.trim_end())),
        TextMatch::Regex(source) => format!("to match /{}/", show::visible(source)),
    }
}

/// Judges one condition. What the unread rest of a cut text could still change is unknown, and nothing else is.
pub(super) fn hold(condition: &TextMatch, seen: Text<'_>) -> Held {
    let Text { text, cut } = seen;
    let unknown = || {
        Held::Unknown(format!(
            "cannot be seen {}: only its first {} bytes were read",
            asked(condition),
            text.len()
        ))
    };
    let differs = |at: usize| Held::False {
        expected: asked(condition),
        seen: show::around(text, at),
    };
    match condition {
        TextMatch::Contains(part) => match text.contains(part.as_str()) {
            true => Held::True,
            false if cut => unknown(),
            false => differs(0),
        },
        TextMatch::Lacks(part) => match text.find(part.as_str()) {
            Some(at) => differs(at),
            None if cut => unknown(),
            None => Held::True,
        },
        TextMatch::Equals(whole) => {
            let (whole, read) = (whole.trim_end(), text.trim_end());
            if cut && whole.starts_with(read) {
                unknown()
            } else if whole == read {
                Held::True
            } else {
                let (expected, seen) = show::difference(whole, read);
                Held::False { expected, seen }
            }
        }
        TextMatch::Regex(source) => match compile(source) {
            Err(error) => Held::Unknown(format!(
                "the regular expression /{}/ is not sound: {error}",
                show::visible(source)
            )),
            // A match that touches the cut may be one of an end that is not there.
            Ok(regex) => match regex.find(text) {
                Some(found) if !cut || found.end() < text.len() => Held::True,
                None if !cut => differs(0),
                Some(_) | None => unknown(),
            },
        },
    }
}
