//! A secret as it is, and with the escapes of SQL, percent-encoding, JSON, XML, and of a shell's `'...'`, `"..."`,
//! `$'...'` and `printf %q`.
//!
//! Which pieces are looked for is decided once, on the secret as it is, and holds for every escaped form: what has many
//! characters after it was escaped has no more of the secret in it.

use std::collections::BTreeSet;
use std::ops::Range;

/// The fewest characters of a secret that are looked for by themselves, if the secret has more,
const SHORTEST: usize = 8;
/// so many of which are different, or they would be found in any table;
const DIFFERENT: usize = 5;
/// and the fewest where they could be language, like the `https://` and `postgres` of a secret that is an address.
const LANGUAGE: usize = 12;
/// Where that much has too few different characters, only the whole is looked for.
const LONGEST: usize = 64;

/// Adds every form of a secret, in pieces; but no piece that is part of one of these words.
pub(super) fn add(forms: &mut BTreeSet<String>, secret: &str, words: &[&str]) {
    let words: Vec<String> = words
        .iter()
        .filter(|word| word.len() >= SHORTEST)
        .map(|word| word.to_lowercase())
        .collect();
    let chars: Vec<char> = secret.chars().collect();
    let pieces = pieces(&chars);
    let mut by_char = |escape: &dyn Fn(char) -> String| {
        let units: Vec<String> = chars.iter().copied().map(escape).collect();
        add_form(forms, &units, &pieces, &words);
    };
    by_char(&String::from);
    // As SQL and YAML write it in single quotes.
    by_char(&replacing("'", |_| "''".to_owned()));
    add_json(&mut by_char);
    add_shell(&mut by_char);
    add_xml(&mut by_char);
    add_by_byte(forms, secret.as_bytes(), &words);
}

/// The places of the pieces: at each character the shortest that is not there by chance, where there is one.
fn pieces(plain: &[char]) -> Vec<Range<usize>> {
    let known = address(plain);
    let is_known = |piece: &Range<usize>| {
        let within = |of: &Range<usize>| of.start <= piece.start && piece.end <= of.end;
        known.iter().any(within)
    };
    (0..plain.len())
        .filter_map(|start| {
            let longest = LONGEST.min(plain.len() - start);
            (SHORTEST..=longest)
                .map(|length| start..start + length)
                .find(|piece| tells(&plain[piece.clone()]))
        })
        .filter(|piece| !is_known(piece))
        .collect()
}

/// True where nobody but the secret would have written this.
fn tells(piece: &[char]) -> bool {
    let different: BTreeSet<&char> = piece.iter().collect();
    different.len() >= DIFFERENT && (!in_language(piece) || piece.len() >= LANGUAGE)
}

/// True for what could be words: letters of one case but for the first, and punctuation.
fn in_language(text: &[char]) -> bool {
    let of_words = |c: &char| c.is_alphabetic() || " -_.,:;/=?&@'\"".contains(*c);
    let mut behind = text.iter().skip(1).filter(|c| c.is_alphabetic());
    let lower = text.iter().any(|c| c.is_lowercase());
    text.iter().all(of_words) && !(lower && behind.any(|c| c.is_uppercase()))
}

/// The same of a text.
pub(super) fn language(text: &str) -> bool {
    in_language(&text.chars().collect::<Vec<char>>())
}

/// Of a secret that is an address, scheme and host: they are the site's own, and every page has them.
fn address(secret: &[char]) -> Vec<Range<usize>> {
    let separator: Vec<char> = "://".chars().collect();
    let at = secret
        .windows(3)
        .position(|window| *window == separator[..]);
    let Some(scheme) = at.map(|at| at + 3) else {
        return Vec::new();
    };
    let end = |from: usize| {
        let behind = secret.iter().skip(from).position(|c| "/?#".contains(*c));
        // With the character that ends it.
        behind.map_or(secret.len(), |length| from + length + 1)
    };
    let authority = scheme..end(scheme);
    let user = secret[authority.clone()].iter().rposition(|c| *c == '@');
    let host = user.map_or(0, |user| authority.start + user);
    vec![0..scheme, host..authority.end]
}

/// Adds the pieces of a form, and all of it where pieces do not make it up. A unit is what became of one character.
fn add_form(
    forms: &mut BTreeSet<String>,
    units: &[String],
    pieces: &[Range<usize>],
    words: &[String],
) {
    let mut covered = 0;
    for piece in pieces {
        let text = units[piece.clone()].concat();
        let lower = text.to_lowercase();
        if words.iter().any(|word| word.contains(&lower)) {
            continue;
        }
        if piece.start <= covered {
            covered = covered.max(piece.end);
        }
        forms.insert(text);
    }
    if covered < units.len() {
        forms.insert(units.concat());
    }
}

/// An escape of these characters alone.
fn replacing(special: &str, with: impl Fn(char) -> String) -> impl Fn(char) -> String {
    move |c| {
        if special.contains(c) {
            with(c)
        } else {
            c.to_string()
        }
    }
}

fn add_json(by_char: &mut impl FnMut(&dyn Fn(char) -> String)) {
    let json = |c: char| {
        let quoted = serde_json::to_string(&c).unwrap_or_default();
        let inner = quoted.strip_prefix('"').and_then(|q| q.strip_suffix('"'));
        inner.map_or_else(|| c.to_string(), str::to_owned)
    };
    let ascii = |c: char| c.is_ascii();
    let and_html = |c: char| c.is_ascii() && !matches!(c, '<' | '>' | '&');
    let and_quote = |c: char| c.is_ascii() && !matches!(c, '<' | '>' | '&' | '\'' | '+');
    let html = |c: char| !matches!(c, '<' | '>' | '&');
    let all = |_: char| true;
    for keeps in [
        &all as &dyn Fn(char) -> bool,
        &ascii,
        &and_html,
        &and_quote,
        &html,
    ] {
        by_char(&|c| unicode_escaped(&json(c), keeps));
        by_char(&|c| unicode_escaped(&json(c), keeps).replace('/', "\\/"));
    }
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

fn add_shell(by_char: &mut impl FnMut(&dyn Fn(char) -> String)) {
    for quote in ["'\\''", "'\"'\"'"] {
        by_char(&replacing("'", |_| quote.to_owned()));
    }
    for special in [
        "\\'",
        "\\\"$`",
        "\\\"$`!",
        " \\\"$`!'&()*;<>?[]{}|#~^=%,",
        " \\\"$`!'&()*;<>?[]{}|#~^",
        " \\\"$`!'&()*;<>?[]{}|^,",
    ] {
        by_char(&replacing(special, |c| format!("\\{c}")));
    }
}

fn add_xml(by_char: &mut impl FnMut(&dyn Fn(char) -> String)) {
    let entity = |c: char, double: &str, single: &str| match c {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '"' => double.to_owned(),
        _ => single.to_owned(),
    };
    by_char(&replacing("&<>", |c| entity(c, "", "")));
    for (double, single) in [
        ("&quot;", "&apos;"),
        ("&quot;", "&#39;"),
        ("&quot;", "&#x27;"),
        ("&quot;", "&#039;"),
        ("&#34;", "&#39;"),
        ("&#34;", "&#x27;"),
        ("&#34;", "&#039;"),
    ] {
        by_char(&replacing("&<>\"'", |c| entity(c, double, single)));
    }
}

/// The forms that escape a character of several bytes byte by byte.
fn add_by_byte(forms: &mut BTreeSet<String>, bytes: &[u8], words: &[String]) {
    let chars: Vec<char> = bytes.iter().copied().map(char::from).collect();
    let pieces = pieces(&chars);
    let mut by_byte = |escape: &dyn Fn(u8) -> String| {
        let units: Vec<String> = bytes.iter().copied().map(escape).collect();
        add_form(forms, &units, &pieces, words);
    };
    for keep in [
        "-_.~",
        "-_.~/",
        "-_.*",
        "-_.~!'()*",
        "-_.~:/?#[]@!$&'()*+,;=",
    ] {
        for lower in [false, true] {
            by_byte(&|byte| percent(byte, keep, lower));
            by_byte(&|byte| match byte {
                b' ' => "+".to_owned(),
                _ => percent(byte, keep, lower),
            });
        }
    }
    // What `printf %q` and `set -x` write where the locale is no UTF-8 one.
    by_byte(&|byte| match char::from(byte) {
        c @ ('\\' | '\'') => format!("\\{c}"),
        c if byte.is_ascii() && !c.is_control() => c.to_string(),
        _ => format!("\\{byte:03o}"),
    });
}

fn percent(byte: u8, keep: &str, lower: bool) -> String {
    match char::from(byte) {
        c if c.is_ascii_alphanumeric() || (byte.is_ascii() && keep.contains(c)) => c.to_string(),
        _ if lower => format!("%{byte:02x}"),
        _ => format!("%{byte:02X}"),
    }
}
