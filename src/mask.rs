//! Keeps secrets out of everything that is shown or written: in the forms in which a shell or a log would show them.
//!
//! A secret is looked for as it is, each of its lines by itself, and encoded: Base64 (plain and URL-safe, at each of the
//! three positions that it can have in a longer text), hexadecimal, percent-encoded, and with the escapes of JSON, of
//! XML, and of a shell's `'...'`, `"..."`, `$'...'` and `printf %q`. Of a long form every piece of some length is looked
//! for: programs wrap what they encode, and reports cut what they show.

use std::collections::BTreeSet;

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::Value;

/// What stands in the place of a secret.
pub const MASKED: &str = "***";

/// A secret shorter than this would mask half of every report, and its encodings would be found by chance.
pub const SHORTEST: usize = 4;

/// A form this long is looked for in pieces too,
const LONG: usize = 24;
/// each of this length: short enough for a wrapped line, too long to be there by chance.
const PIECE: usize = 16;

/// The secrets that must not be shown.
#[derive(Clone, Default)]
pub struct Mask(Option<AhoCorasick>);

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let forms = self.0.as_ref().map_or(0, AhoCorasick::patterns_len);
        write!(f, "{forms} masked forms")
    }
}

impl Mask {
    /// Masks these values; of one of several lines also each line that is long enough.
    ///
    /// # Errors
    /// Where there are too many to be looked for at once.
    pub fn of<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut forms = BTreeSet::new();
        for secret in secrets {
            for part in std::iter::once(secret).chain(secret.lines().map(str::trim)) {
                if part.len() >= SHORTEST {
                    forms.extend(forms_of(part));
                }
            }
        }
        if forms.is_empty() {
            return Ok(Self::default());
        }
        let pieces: BTreeSet<String> = forms.iter().flat_map(|form| pieces_of(form)).collect();
        forms.extend(pieces);
        AhoCorasick::new(forms)
            .map(|found| Self(Some(found)))
            .map_err(|error| error.to_string())
    }

    /// True where nothing is masked.
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The text without the secrets.
    pub fn text(&self, text: String) -> String {
        let Some(found) = &self.0 else {
            return text;
        };
        // What overlaps or touches is one: two secrets may share letters, and pieces of one do.
        let mut spans: Vec<(usize, usize)> = Vec::new();
        for hit in found.find_overlapping_iter(&text) {
            let (mut start, end) = (hit.start(), hit.end());
            while let Some(last) = spans.pop_if(|last| last.1 >= start) {
                start = start.min(last.0);
            }
            spans.push((start, end));
        }
        if spans.is_empty() {
            return text;
        }
        let mut masked = String::with_capacity(text.len());
        let mut shown = 0;
        for (start, end) in spans {
            masked.push_str(text.get(shown..start).unwrap_or_default());
            masked.push_str(MASKED);
            shown = end;
        }
        masked.push_str(text.get(shown..).unwrap_or_default());
        masked
    }

    /// The document without the secrets, in values and in keys. The names of fields stay: they are what makes it a document.
    pub fn document(&self, document: Value) -> Value {
        match document {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(items) => items.into_iter().map(|item| self.document(item)).collect(),
            Value::Object(entries) => entries
                .into_iter()
                .map(|(key, value)| {
                    let is_field = key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
                    let key = if is_field { key } else { self.text(key) };
                    (key, self.document(value))
                })
                .collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) => document,
        }
    }
}

/// The pieces of a long form. One that is a line of the same few characters would be found in any table.
fn pieces_of(form: &str) -> Vec<String> {
    if form.len() < LONG {
        return Vec::new();
    }
    let starts = form.char_indices().map(|(at, _)| at);
    let pieces = starts.filter_map(|at| form.get(at..at + PIECE));
    pieces
        .filter(|piece| piece.chars().collect::<BTreeSet<char>>().len() >= 5)
        .map(str::to_owned)
        .collect()
}

/// Every form in which a secret may be shown.
fn forms_of(secret: &str) -> BTreeSet<String> {
    let bytes = secret.as_bytes();
    let mut forms = BTreeSet::from([secret.to_owned()]);
    let hex = crate::digest::hex(bytes);
    // As `xxd` and `od` write it: a blank after each byte, or after two.
    let digits: Vec<char> = hex.chars().collect();
    for group in [2, 4] {
        let words: Vec<String> = digits.chunks(group).map(String::from_iter).collect();
        forms.insert(words.join(" "));
    }
    // The same, of a secret that begins in the middle of two.
    if let Some((first, others)) = digits.split_at_checked(2) {
        let mut words = vec![String::from_iter(first)];
        words.extend(others.chunks(4).map(String::from_iter));
        forms.insert(words.join(" "));
    }
    forms.insert(hex.to_uppercase());
    forms.insert(hex);
    // As SQL and YAML write it in single quotes.
    forms.insert(secret.replace('\'', "''"));
    for alphabet in [&STANDARD, &URL_SAFE] {
        forms.extend((0..3).map(|before| {
            middle(
                &alphabet.encode(shifted(bytes, before)),
                bytes.len(),
                before,
            )
        }));
    }
    for keep in [
        "-_.~",
        "-_.~/",
        "-_.*",
        "-_.~!'()*",
        "-_.~:/?#[]@!$&'()*+,;=",
    ] {
        for lower in [false, true] {
            let form = percent(bytes, keep, lower);
            forms.insert(form.replace("%20", "+"));
            forms.insert(form);
        }
    }
    if let Ok(json) = serde_json::to_string(secret) {
        let json = &json[1..json.len() - 1];
        let plain = |c: char| c.is_ascii();
        let and_html = |c: char| c.is_ascii() && !matches!(c, '<' | '>' | '&');
        let and_quote = |c: char| c.is_ascii() && !matches!(c, '<' | '>' | '&' | '\'' | '+');
        let html = |c: char| !matches!(c, '<' | '>' | '&');
        for keeps in [
            &plain as &dyn Fn(char) -> bool,
            &and_html,
            &and_quote,
            &html,
        ] {
            let form = unicode_escaped(json, keeps);
            forms.insert(form.replace('/', "\\/"));
            forms.insert(form);
        }
        forms.insert(json.replace('/', "\\/"));
        forms.insert(json.to_owned());
    }
    let escaped = |special: &str, with: &dyn Fn(char) -> String| -> String {
        secret
            .chars()
            .map(|c| {
                if special.contains(c) {
                    with(c)
                } else {
                    c.to_string()
                }
            })
            .collect()
    };
    let backslash = |c: char| format!("\\{c}");
    forms.insert(secret.replace('\'', "'\\''"));
    forms.insert(secret.replace('\'', "'\"'\"'"));
    forms.insert(escaped("\\'", &backslash));
    forms.insert(escaped("\\\"$`", &backslash));
    forms.insert(escaped("\\\"$`!", &backslash));
    forms.insert(escaped(" \\\"$`!'&()*;<>?[]{}|#~^=%,", &backslash));
    forms.insert(escaped(" \\\"$`!'&()*;<>?[]{}|#~^", &backslash));
    forms.insert(escaped(" \\\"$`!'&()*;<>?[]{}|^,", &backslash));
    // What `printf %q` and `set -x` write where the locale is no UTF-8 one.
    let octal: String = bytes
        .iter()
        .map(|byte| match char::from(*byte) {
            c @ ('\\' | '\'') => format!("\\{c}"),
            c if byte.is_ascii() && !c.is_control() => c.to_string(),
            _ => format!("\\{byte:03o}"),
        })
        .collect();
    forms.insert(octal);
    let entity = |quote: &'static str| {
        move |c: char| match c {
            '&' => "&amp;".to_owned(),
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            '"' => "&quot;".to_owned(),
            _ => quote.to_owned(),
        }
    };
    forms.insert(escaped("&<>", &entity("&apos;")));
    forms.insert(escaped("&<>\"'", &entity("&apos;")));
    for quote in ["&#39;", "&#x27;", "&#039;"] {
        let form = escaped("&<>\"'", &entity(quote));
        forms.insert(form.replace("&quot;", "&#34;"));
        forms.insert(form);
    }
    forms.retain(|form| form.len() >= SHORTEST);
    forms
}

/// `\\u` and four digits for what is not kept, as JSON writes UTF-16.
fn unicode_escaped(text: &str, keeps: &dyn Fn(char) -> bool) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        if keeps(c) {
            escaped.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    escaped
}

fn shifted(bytes: &[u8], before: usize) -> Vec<u8> {
    let mut shifted = vec![0; before];
    shifted.extend_from_slice(bytes);
    shifted
}

/// The characters of a Base64 text that depend on the secret alone, whatever stands before and behind it.
fn middle(encoded: &str, length: usize, before: usize) -> String {
    let first = (before * 8).div_ceil(6);
    let last = (before + length) * 8 / 6;
    encoded.get(first..last).unwrap_or_default().to_owned()
}

fn percent(bytes: &[u8], keep: &str, lower: bool) -> String {
    bytes
        .iter()
        .map(|byte| match char::from(*byte) {
            c if c.is_ascii_alphanumeric() || (byte.is_ascii() && keep.contains(c)) => {
                c.to_string()
            }
            _ if lower => format!("%{byte:02x}"),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "p4ss w'o\"r$d/<&>+%~é";

    #[test]
    fn every_form_that_a_shell_or_a_log_shows_is_masked() {
        let mask = Mask::of([SECRET]).unwrap();
        let whole = |text: String| format!("before {text} behind");
        let base64 = |text: &str| STANDARD.encode(text);
        for shown in [
            SECRET.to_owned(),
            base64(SECRET),
            URL_SAFE.encode(SECRET),
            crate::digest::hex(SECRET.as_bytes()),
            "p4ss%20w%27o%22r%24d%2F%3C%26%3E%2B%25~%C3%A9".to_owned(),
            "p4ss+w%27o%22r%24d%2F%3C%26%3E%2B%25~%C3%A9".to_owned(),
            serde_json::to_string(SECRET).unwrap(),
            "'p4ss w'\\''o\"r$d/<&>+%~é'".to_owned(),
            "$'p4ss w\\'o\"r$d/<&>+%~é'".to_owned(),
            "\"p4ss w'o\\\"r\\$d/<&>+%~é\"".to_owned(),
            "p4ss\\ w\\'o\\\"r\\$d/\\<\\&\\>+%\\~é".to_owned(),
            "p4ss w&apos;o&quot;r$d/&lt;&amp;&gt;+%~é".to_owned(),
            "p4ss w'o\"r$d/&lt;&amp;&gt;+%~é".to_owned(),
            "p4ss w&#x27;o&quot;r$d/&lt;&amp;&gt;+%~é".to_owned(),
            "p4ss w&#39;o&#34;r$d/&lt;&amp;&gt;+%~é".to_owned(),
            "\"p4ss w'o\\\"r$d/\\u003c\\u0026\\u003e+%~\\u00e9\"".to_owned(),
            "\"p4ss w'o\\\"r$d\\/<&>+%~\\u00e9\"".to_owned(),
            "p4ss%20w'o%22r%24d%2F%3C%26%3E%2B%25~%C3%A9".to_owned(),
            "$'p4ss w\\'o\"r$d/<&>+%~\\303\\251'".to_owned(),
        ] {
            let masked = mask.text(whole(shown.clone()));
            assert!(masked.contains(MASKED), "{shown}");
            assert!(!masked.contains("r$d"), "{shown}: {masked}");
            assert!(
                masked.starts_with("before ") && masked.ends_with(" behind"),
                "{masked}"
            );
        }
    }

    #[test]
    fn in_base64_it_is_found_wherever_it_begins() {
        let mask = Mask::of(["hunter2-hunter2"]).unwrap();
        for before in ["", "u", "us", "use", "user:"] {
            let shown = STANDARD.encode(format!("{before}hunter2-hunter2:behind"));
            let masked = mask.text(shown.clone());
            assert!(masked.contains(MASKED), "{before}: {shown}");
            // What is left of it is less than a character on either side.
            let left = shown.len() - (masked.len() - MASKED.len());
            assert!(left >= 15 * 8 / 6 - 1, "{before}: {masked}");
        }
    }

    #[test]
    fn what_was_wrapped_cut_or_overlaps_is_masked_too() {
        let secret: String = (0..90u16)
            .map(|n| char::from(b'!' + (n * 7u16 % 90) as u8))
            .collect();
        let mask = Mask::of([secret.as_str(), "abcd1234", "1234wxyz-long"]).unwrap();
        for encoded in [
            STANDARD.encode(&secret),
            crate::digest::hex(secret.as_bytes()),
        ] {
            for width in [60, 64, 76] {
                for line in encoded.as_bytes().chunks(width) {
                    let line = String::from_utf8(line.to_vec()).unwrap();
                    let masked = mask.text(line.clone());
                    assert!(line.len() < PIECE || masked.len() < 16, "{line}: {masked}");
                }
            }
        }
        // A piece that a report cut out of it.
        assert_eq!(mask.text(secret[10..40].to_owned()), MASKED);
        assert_eq!(mask.text("<abcd1234wxyz-long>".to_owned()), "<***>");
    }

    #[test]
    fn lines_of_a_key_are_masked_and_what_is_short_or_not_there_is_left_alone() {
        let mask = Mask::of(["-----BEGIN KEY-----\nMIIBVgIBADAN\nab\n-----END KEY-----"]).unwrap();
        assert_eq!(mask.text("key: MIIBVgIBADAN ab".to_owned()), "key: *** ab");
        assert_eq!(mask.text("nothing here".to_owned()), "nothing here");
        assert!(Mask::of(["abc", ""]).unwrap().is_empty());
        assert_eq!(format!("{:?}", Mask::default()), "0 masked forms");
    }

    #[test]
    fn a_document_is_masked_in_depth() {
        let mask = Mask::of(["hunter22"]).unwrap();
        let document =
            serde_json::json!({ "hunter": ["x hunter22", 1, null], "of hunter22": true });
        let masked = serde_json::json!({ "hunter": ["x ***", 1, null], "of ***": true });
        assert_eq!(mask.document(document), masked);
        // A field's name is no place for a secret, and a document without it would not be read again.
        let field = serde_json::json!({ "hunter": 1 });
        assert_eq!(Mask::of(["hunter"]).unwrap().document(field.clone()), field);
    }
}
