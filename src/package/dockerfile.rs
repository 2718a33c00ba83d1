//! What a Dockerfile would have fetched: an unassisted deploy brings everything along.
//!
//! A build without a network keeps `RUN` inside, but `ADD` of a URL, and images that are not present, are fetched by
//! the engine itself, from wherever the engine's host can reach.

use std::collections::BTreeMap;

/// Something that a Dockerfile refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// An image that has to be present already.
    Image(String),
    /// A source that only a network gives: the instruction as written.
    Remote(String),
    /// An image whose name depends on something that is not in the file.
    Unknown(String),
    /// An instruction that says a platform: for another one than the engine's own an image is fetched, also where one of
    /// its name is present.
    Platform(String),
    /// An instruction with a here-document, of which engines disagree where it ends.
    Heredoc(String),
}

/// Every image and remote source of a Dockerfile (its reference documentation, `FROM`, `ADD`, `COPY --from`); build
/// stages of its own are not images.
pub fn references(text: &str) -> Vec<Reference> {
    let mut found = Vec::new();
    let mut arguments: BTreeMap<String, String> = BTreeMap::new();
    let mut stages: Vec<String> = Vec::new();
    let mut stage_count = 0_usize;
    for instruction in instructions(text) {
        let (mut word, mut rest) = first_word(&instruction);
        // What is to be done when another image is built on this one, which a later stage of the file may be.
        while word.eq_ignore_ascii_case("ONBUILD") {
            (word, rest) = first_word(rest);
        }
        let word = word.to_ascii_uppercase();
        if matches!(word.as_str(), "RUN" | "COPY" | "ADD") && has_heredoc(rest) {
            found.push(Reference::Heredoc(instruction.clone()));
        }
        match word.as_str() {
            "ARG" if stage_count == 0 => {
                for pair in rest.split_whitespace() {
                    if let Some((name, value)) = pair.split_once('=') {
                        let value = value.trim_matches(['"', '\'']);
                        arguments.insert(name.to_owned(), value.to_owned());
                    }
                }
            }
            "FROM" => {
                // `--platform` is the only one that there is, and an escape may hide its name.
                if rest.starts_with("--") {
                    found.push(Reference::Platform(instruction.clone()));
                }
                let mut words = rest.split_whitespace().filter(|w| !w.starts_with("--"));
                let image = words.next().unwrap_or_default();
                found.extend(image_reference(image, &arguments, &stages));
                if words
                    .next()
                    .is_some_and(|word| word.eq_ignore_ascii_case("as"))
                {
                    stages.extend(words.next().map(str::to_lowercase));
                }
                stage_count += 1;
            }
            "ADD" if may_be_remote(rest) => {
                found.push(Reference::Remote(instruction.clone()));
            }
            "COPY" => {
                let from = rest
                    .split_whitespace()
                    .find_map(|word| word.strip_prefix("--from="));
                if let Some(image) = from
                    && image.parse::<usize>().is_err()
                {
                    found.extend(image_reference(image, &arguments, &stages));
                }
            }
            _ => {}
        }
    }
    found
}

fn first_word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim())
}

/// `<<EOF`, `<<-EOF`, `<<"EOF"`; not a number shifted in shell arithmetic.
fn has_heredoc(text: &str) -> bool {
    text.match_indices("<<").any(|(at, mark)| {
        let word = text.get(at + mark.len()..).unwrap_or_default();
        let word = word.strip_prefix('-').unwrap_or(word);
        let word = word.trim_start_matches(['"', '\'']);
        word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
    })
}

/// A variable may hold a URL, so it counts as one; so does what JSON may hide behind an escape.
fn may_be_remote(sources: &str) -> bool {
    let plain: String = sources
        .chars()
        .filter(|c| !matches!(c, '"' | '\'' | '\\' | '`'))
        .collect();
    let hidden = sources.starts_with('[') && sources.contains('\\');
    hidden || ["://", "$", "git@"].iter().any(|mark| plain.contains(mark))
}

/// The text with the variables' values in place of their names; a `$` that is left is one of another.
fn substituted(text: &str, arguments: &BTreeMap<String, String>) -> String {
    let mut done = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        done.push_str(before);
        let braced = after
            .strip_prefix('{')
            .and_then(|after| after.split_once('}'));
        let end = after
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(after.len());
        let (name, left) = braced.unwrap_or_else(|| after.split_at(end));
        match arguments.get(name) {
            Some(value) => {
                done.push_str(value);
                rest = left;
            }
            None => {
                done.push('$');
                rest = after;
            }
        }
    }
    done + rest
}

fn image_reference(
    image: &str,
    arguments: &BTreeMap<String, String>,
    stages: &[String],
) -> Option<Reference> {
    let name = substituted(image.trim_matches(['"', '\'']), arguments);
    if name.contains('$') {
        return Some(Reference::Unknown(image.to_owned()));
    }
    if name == "scratch" || stages.contains(&name.to_lowercase()) {
        return None;
    }
    Some(Reference::Image(name))
}

/// The instructions, as the engine reads them: continued lines are joined with nothing between, comments and empty lines
/// left out.
fn instructions(text: &str) -> Vec<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let escape = escape(text);
    let mut found = Vec::new();
    let mut current = String::new();
    for line in text.lines() {
        // Between two lines that are one, blanks count.
        let start = line.trim_start();
        if start.is_empty() || start.starts_with('#') {
            continue;
        }
        let line = match current.is_empty() {
            true => start,
            false => line,
        };
        let line = line.trim_end_matches([' ', '\t', '\r']);
        match line.strip_suffix(escape) {
            // One that is itself escaped continues nothing.
            Some(start) if !start.ends_with(escape) => current.push_str(start),
            Some(_) | None => {
                current.push_str(line);
                found.push(std::mem::take(&mut current).trim().to_owned());
            }
        }
    }
    if !current.trim().is_empty() {
        found.push(current.trim().to_owned());
    }
    found
}

/// The character that continues a line. It may be said by a directive, and directives end with the first line that is none.
fn escape(text: &str) -> char {
    let directives = text.lines().map_while(|line| {
        let (name, value) = line.trim_start().strip_prefix('#')?.split_once('=')?;
        let (name, value) = (name.trim(), value.trim());
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && !value.is_empty();
        is_name.then(|| (name.to_ascii_lowercase(), value))
    });
    let said = directives
        .filter(|(name, _)| name == "escape")
        .find_map(|(_, value)| value.chars().next());
    said.unwrap_or('\\')
}

#[cfg(test)]
mod tests {
    use super::{Reference, references};

    #[test]
    fn what_would_be_fetched_is_found() {
        let image = |name: &str| Reference::Image(name.to_owned());
        let remote = |text: &str| Reference::Remote(text.to_owned());
        let platform = |text: &str| Reference::Platform(text.to_owned());
        for (text, expected) in [
            ("FROM a:1\nCOPY x /x\nADD y.tar /y\n", vec![image("a:1")]),
            (
                "# FROM no\nfrom a as Build\nFROM scratch\nCOPY --from=build /x /x\n",
                vec![image("a")],
            ),
            (
                "FROM a\nFROM b\nCOPY --from=0 /x /x\nCOPY --from=c:2 /x /x",
                vec![image("a"), image("b"), image("c:2")],
            ),
            (
                "ARG BASE=\"a:1\"\nFROM --platform=linux/amd64 ${BASE}\n",
                vec![
                    platform("FROM --platform=linux/amd64 ${BASE}"),
                    image("a:1"),
                ],
            ),
            (
                "FROM a AS one\nFROM --pl\\atform=$BUILDPLATFORM one",
                vec![image("a"), platform("FROM --pl\\atform=$BUILDPLATFORM one")],
            ),
            (
                "ARG BASE\nFROM $BASE\n",
                vec![Reference::Unknown("$BASE".to_owned())],
            ),
            (
                "FROM a\nADD http://h/x /x",
                vec![image("a"), remote("ADD http://h/x /x")],
            ),
            (
                "FROM a\nADD --chown=1:1 \\\n  # why\n  https://h/x /x",
                vec![image("a"), remote("ADD --chown=1:1   https://h/x /x")],
            ),
            (
                "FROM a\nADD [\"https://h/x\", \"/x\"]",
                vec![image("a"), remote("ADD [\"https://h/x\", \"/x\"]")],
            ),
            (
                "FROM a\nENV U=http://h\nADD $U /x",
                vec![image("a"), remote("ADD $U /x")],
            ),
            (
                "FROM a\nADD git@h:r.git /x",
                vec![image("a"), remote("ADD git@h:r.git /x")],
            ),
            (
                "# escape=`\nFROM a\nADD `\n http://h/x /x",
                vec![image("a"), remote("ADD  http://h/x /x")],
            ),
            // A directive after a comment is a comment.
            (
                "# why\n# escape=`\nFROM a\nADD \\\n http://h/x /x",
                vec![image("a"), remote("ADD  http://h/x /x")],
            ),
            ("FRO\\\nM b", vec![image("b")]),
            (
                "FROM a\nADD http:\\\n//h/x /x",
                vec![image("a"), remote("ADD http://h/x /x")],
            ),
            (
                "FROM a\nADD ht\"tp:/\"/h/x /x",
                vec![image("a"), remote("ADD ht\"tp:/\"/h/x /x")],
            ),
            (
                "FROM a\nADD [\"http:\\u002f/h/x\", \"/x\"]",
                vec![image("a"), remote("ADD [\"http:\\u002f/h/x\", \"/x\"]")],
            ),
            ("\u{feff}FROM b\n", vec![image("b")]),
            (
                "FROM a\nRUN true \\\\\nADD http://h/x /x",
                vec![image("a"), remote("ADD http://h/x /x")],
            ),
            (
                "FROM a\nRUN true \\\u{a0}\nADD http://h/x /x",
                vec![image("a"), remote("ADD http://h/x /x")],
            ),
            (
                "# x=\n# escape=`\nFROM a\nRUN true `\nADD http://h/x /x",
                vec![image("a"), remote("ADD http://h/x /x")],
            ),
            (
                "#1=x\n# escape=`\nFROM a\nRUN true `\nADD http://h/x /x",
                vec![image("a"), remote("ADD http://h/x /x")],
            ),
            (
                "FROM a\nRUN <<E\nFROM scratch AS x/y\nE\nFROM x/y",
                vec![image("a"), Reference::Heredoc("RUN <<E".to_owned())],
            ),
            ("FROM a\nRUN echo $((1<<2)) 1<<2", vec![image("a")]),
            (
                "FROM a\nRUN set -e; \\\n    # why\n    true; \\\r\n    false\nCOPY --from=b \\\n    /x /x",
                vec![image("a"), image("b")],
            ),
            (
                "FROM a AS one\nONBUILD ADD http://h/x /x\nFROM one",
                vec![image("a"), remote("ONBUILD ADD http://h/x /x")],
            ),
            (
                "ARG A=postgres:\nARG A15=b\nFROM $A15\nFROM ${A}15\nFROM $A15x",
                vec![
                    image("b"),
                    image("postgres:15"),
                    Reference::Unknown("$A15x".to_owned()),
                ],
            ),
        ] {
            assert_eq!(references(text), expected, "{text}");
        }
    }
}
