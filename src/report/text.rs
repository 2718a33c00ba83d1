//! Words and figures for people, out of texts that nobody here wrote.

use std::fmt::Write as _;

/// A text without what could drive a terminal or break a file: ANSI sequences, control characters but newline and tab,
/// marks that turn the direction of writing, and the two code points that XML forbids.
///
/// It works line by line, so that a sequence somebody forgot to end hides one line and not the rest.
pub(super) fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (n, line) in text.split('\n').enumerate() {
        if n > 0 {
            out.push('\n');
        }
        let line = line.strip_suffix('\r').unwrap_or(line);
        for piece in anstream::adapter::strip_str(line) {
            out.extend(piece.chars().filter(|c| is_harmless(*c)));
        }
    }
    out
}

fn is_harmless(c: char) -> bool {
    let turns =
        matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{200E}' | '\u{200F}');
    let forbidden = matches!(c, '\u{FFFE}' | '\u{FFFF}');
    c == '\t' || !(c.is_control() || turns || forbidden)
}

/// The same on one line.
pub(super) fn one_line(text: &str) -> String {
    let mut out = String::new();
    for word in clean(text).split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

/// At most `most` characters, the last of them an ellipsis where something was left out.
pub(super) fn clip(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => {
            let mut short: String = text.chars().take(most.saturating_sub(1)).collect();
            short.push('…');
            short
        }
    }
}

/// The last `most` bytes of a text, from a line's start where possible, led by a word on what was left out.
pub(super) fn tail(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let mut from = text.len() - most;
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let from = text[from..]
        .find('\n')
        .map_or(from, |newline| from + newline + 1);
    format!("[{} left out]\n{}", bytes(from as u64), &text[from..])
}

/// `0.42 s`, `12.3 s`, `2 min 05 s`, `1 h 02 min`.
pub(super) fn seconds(secs: f64) -> String {
    // An infinite or negative figure is a defect elsewhere; a report still has to be written.
    let secs = if secs.is_finite() { secs.max(0.0) } else { 0.0 };
    let whole = secs.round() as u64;
    match whole {
        _ if secs < 9.995 => format!("{secs:.2} s"),
        0..60 => format!("{secs:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
    }
}

/// `812 B`, `40 KiB`, `1.2 GiB`.
pub(crate) fn bytes(n: u64) -> String {
    let mut value = n as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            let digits = usize::from(unit != "B" && value < 10.0);
            return format!("{value:.digits$} {unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// How long ago something was: `40 s`, `5 min`, `7 h`, `2 d 7 h`.
pub(crate) fn age(age: jiff::SignedDuration) -> String {
    match age.as_secs() {
        // Another clock may be ahead of this one.
        seconds @ ..60 => format!("{} s", seconds.max(0)),
        seconds @ 60..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// `1 test`, `2 tests`.
pub(super) fn count(n: usize, noun: &str) -> String {
    if n == 1 {
        format!("1 {noun}")
    } else {
        format!("{n} {noun}s")
    }
}

/// Breaks at spaces so that no line is longer than `width`; every line but the first starts with `indent` spaces.
pub(super) fn wrap(text: &str, width: usize, indent: usize) -> String {
    let mut out = String::new();
    let mut column = 0;
    for word in text.split_whitespace() {
        let len = word.chars().count();
        if column > 0 && column + 1 + len > width {
            let _ = write!(out, "\n{:indent$}", "");
            column = 0;
        } else if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += len;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_loses_what_could_do_harm() {
        let rows = [
            ("\u{1b}[31mred\u{1b}[0m", "red"),
            ("\u{1b}]0;title\u{7}text", "text"),
            ("a\0b\u{8}c\u{7f}d\u{9b}31me", "abcd31me"),
            ("one\r\ntwo\u{1b}]never ended\nthree", "one\ntwo\nthree"),
            ("\u{202e}gnp.exe\u{fffe}\u{ffff}\u{fffd}", "gnp.exe\u{fffd}"),
            (
                "tab\tstays, ]]> and <b>&amp; too",
                "tab\tstays, ]]> and <b>&amp; too",
            ),
        ];
        for (given, wanted) in rows {
            assert_eq!(clean(given), wanted, "{given:?}");
        }
        assert_eq!(one_line(" a\n\n b\tc "), "a b c");
    }

    #[test]
    fn figures() {
        let told: Vec<String> = [
            0.0,
            0.417,
            9.994,
            12.34,
            59.4,
            59.96,
            125.0,
            3725.0,
            f64::NAN,
            -1.0,
        ]
        .map(seconds)
        .into();
        assert_eq!(
            told,
            [
                "0.00 s",
                "0.42 s",
                "9.99 s",
                "12.3 s",
                "59.4 s",
                "1 min 00 s",
                "2 min 05 s",
                "1 h 02 min",
                "0.00 s",
                "0.00 s"
            ]
        );
        let told: Vec<String> = [0, 812, 1024, 40_960, 1_288_490_189, 5 << 40]
            .map(bytes)
            .into();
        assert_eq!(
            told,
            ["0 B", "812 B", "1.0 KiB", "40 KiB", "1.2 GiB", "5.0 TiB"]
        );
    }

    #[test]
    fn lengths() {
        assert_eq!(clip("äöüß", 4), "äöüß");
        assert_eq!(clip("äöüß!", 4), "äöü…");
        assert_eq!(tail("one\ntwo\nthree\n", 8), "[8 B left out]\nthree\n");
        assert_eq!(tail("ääää", 3), "[6 B left out]\nä");
        assert_eq!(wrap("one two three four", 9, 2), "one two\n  three\n  four");
    }
}
