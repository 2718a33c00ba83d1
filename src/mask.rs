//! Keeps secrets out of everything that is shown or written: in the forms in which a shell or a log would show them.
//!
//! A secret is looked for as it is, each of its lines by itself, and in other forms: with the escapes of programs
//! (`escaped`), encoded (`encoded`), and in dumps (`dump`). Programs wrap what they encode, and reports cut what they
//! show; so it is the pieces of a form that are looked for, each as short as it can be without being there by chance.

mod dump;
mod encoded;
mod escaped;
mod lines;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, BuildError};
use serde_json::Value;

pub use lines::Lines;

/// What stands in the place of a secret.
pub const MASKED: &str = "***";

/// A secret shorter than this would mask half of every report, and its encodings would be found by chance.
pub const SHORTEST: usize = 4;

/// Whoever writes a secret shorter than this, or one that could be language and is shorter than that, may have meant
/// something else.
const CERTAIN: usize = 8;
const LANGUAGE: usize = 12;
/// A line of a secret with several lines is held against somebody from this length on: files have lines that are no secret.
const LINE: usize = 24;

/// The secrets that must not be shown.
#[derive(Clone, Default)]
pub struct Mask {
    /// All that is masked.
    forms: Option<Arc<Forms>>,
    /// Whole secrets.
    whole: Option<Arc<AhoCorasick>>,
    /// Those that somebody is held to.
    told: Option<Arc<AhoCorasick>>,
}

/// All that is looked for.
struct Forms {
    exact: AhoCorasick,
    in_any_case: AhoCorasick,
    dumps: dump::Dumps,
}

/// From where to where a text is masked, in bytes.
type Span = (usize, usize);

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let forms = self.forms.as_ref().map_or(0, |forms| forms.count());
        write!(f, "{forms} masked forms")
    }
}

impl Mask {
    /// Masks these values; of one of several lines also each line that is long enough.
    ///
    /// # Errors
    /// Where there are too many to be looked for at once.
    pub fn of<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        Self::sparing(secrets, &[])
    }

    /// As [`Mask::of`], but no piece of a secret is looked for that is part of one of these words. A secret that is part of
    /// one as a whole masks it all the same.
    ///
    /// # Errors
    /// Where there are too many to be looked for at once.
    pub fn sparing<'a>(
        secrets: impl IntoIterator<Item = &'a str>,
        words: &[&str],
    ) -> Result<Self, String> {
        let secrets: Vec<&str> = secrets.into_iter().collect();
        let parts: BTreeSet<&str> = secrets
            .iter()
            .copied()
            .flat_map(parts_of)
            .filter(|part| part.len() >= SHORTEST)
            .collect();
        if parts.is_empty() {
            return Ok(Self::default());
        }
        let cannot = |error: BuildError| error.to_string();
        let forms = Forms::of(&parts, words).map_err(cannot)?;
        Ok(Self {
            forms: Some(Arc::new(forms)),
            whole: whole(parts.iter().copied()).map_err(cannot)?,
            told: None,
        })
    }

    /// With those of its secrets to which is held who writes them.
    ///
    /// # Errors
    /// Where there are too many to be looked for at once.
    pub fn telling<'a>(self, secrets: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let certain = secrets.into_iter().flat_map(|secret| {
            let lines = secret.trim().contains('\n');
            parts_of(secret).into_iter().filter(move |part| {
                let could_be_language = escaped::language(part);
                match lines && !part.contains('\n') {
                    true => part.len() >= LINE && !could_be_language,
                    false => part.len() >= if could_be_language { LANGUAGE } else { CERTAIN },
                }
            })
        });
        let told = whole(certain).map_err(|error| error.to_string())?;
        Ok(Self { told, ..self })
    }

    /// True where nothing is masked.
    pub const fn is_empty(&self) -> bool {
        self.forms.is_none()
    }

    /// True where a text has a secret as a whole, as it is, in JSON, Base64 or hexadecimal.
    pub fn holds(&self, text: &str) -> bool {
        self.whole.as_ref().is_some_and(|all| all.is_match(text))
    }

    /// True where a text has one of those secrets to which is held who writes them, so that it can be no chance.
    pub fn tells(&self, text: &str) -> bool {
        self.told.as_ref().is_some_and(|told| told.is_match(text))
    }

    /// The text without the secrets.
    pub fn text(&self, text: String) -> String {
        let spans = self.spans(text.as_bytes());
        if spans.is_empty() {
            return text;
        }
        let masked = without(text.as_bytes(), &spans);
        String::from_utf8(masked)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
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

    /// Where secrets stand, in order. What overlaps or touches is one: two secrets may share letters, and pieces of one do.
    fn spans(&self, text: &[u8]) -> Vec<Span> {
        let mut found = Vec::new();
        if let Some(forms) = &self.forms {
            forms.find(text, &mut found);
        }
        found.sort_unstable();
        let mut spans: Vec<Span> = Vec::new();
        for (start, end) in found {
            match spans.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                Some(_) | None => spans.push((start, end)),
            }
        }
        spans
    }

    /// No more bytes than this belong together to be found.
    fn reach(&self) -> usize {
        const DUMPED: usize = 4096;
        let longest = self.forms.as_ref().map_or(0, |forms| forms.longest());
        longest.max(DUMPED)
    }
}

impl Forms {
    /// Everything to look for of these.
    fn of(parts: &BTreeSet<&str>, words: &[&str]) -> Result<Self, BuildError> {
        let mut exact = BTreeSet::new();
        let mut in_any_case = BTreeSet::new();
        for part in parts {
            escaped::add(&mut exact, part, words);
            encoded::add_base64(&mut exact, part.as_bytes());
            encoded::add_in_any_case(&mut in_any_case, part.as_bytes());
        }
        Ok(Self {
            exact: AhoCorasick::new(exact)?,
            in_any_case: AhoCorasick::builder()
                .ascii_case_insensitive(true)
                .build(in_any_case)?,
            dumps: dump::Dumps::of(parts)?,
        })
    }

    fn count(&self) -> usize {
        self.exact.patterns_len() + self.in_any_case.patterns_len()
    }

    fn longest(&self) -> usize {
        self.exact
            .max_pattern_len()
            .max(self.in_any_case.max_pattern_len())
    }

    fn find(&self, text: &[u8], found: &mut Vec<Span>) {
        for sought in [&self.exact, &self.in_any_case] {
            let hits = sought.find_overlapping_iter(text);
            found.extend(hits.map(|hit| (hit.start(), hit.end())));
        }
        self.dumps.find(text, found);
    }
}

/// Finds these as a whole; nothing where there are none.
fn whole<'a>(
    secrets: impl Iterator<Item = &'a str>,
) -> Result<Option<Arc<AhoCorasick>>, BuildError> {
    let mut forms = BTreeSet::new();
    for secret in secrets {
        forms.insert(secret.to_owned());
        let json = serde_json::to_string(secret).unwrap_or_default();
        forms.extend(json.get(1..json.len().saturating_sub(1)).map(str::to_owned));
        if secret.len() >= CERTAIN {
            encoded::add_whole(&mut forms, secret.as_bytes());
        }
    }
    forms.remove("");
    match forms.is_empty() {
        true => Ok(None),
        false => AhoCorasick::new(forms).map(|found| Some(Arc::new(found))),
    }
}

/// What is looked for of a secret: all of it, and each of its lines. The lines that say what kind of key follows are none.
fn parts_of(secret: &str) -> BTreeSet<&str> {
    let says_what_follows = |line: &str| line.starts_with("-----") && line.ends_with("-----");
    let mut parts = BTreeSet::new();
    let (mut begin, mut end) = (0, 0);
    for whole in secret.split_inclusive('\n') {
        let line = whole.trim();
        if says_what_follows(line) {
            parts.extend(secret.get(begin..end).map(str::trim_end));
            begin = end + whole.len();
        } else {
            parts.insert(line);
        }
        end += whole.len();
    }
    parts.extend(secret.get(begin..end));
    parts
}

/// The text with [`MASKED`] in the place of each span.
fn without(text: &[u8], spans: &[Span]) -> Vec<u8> {
    let mut masked = Vec::with_capacity(text.len());
    let mut shown = 0;
    for &(start, end) in spans {
        masked.extend_from_slice(text.get(shown..start).unwrap_or_default());
        masked.extend_from_slice(MASKED.as_bytes());
        shown = end;
    }
    masked.extend_from_slice(text.get(shown..).unwrap_or_default());
    masked
}
