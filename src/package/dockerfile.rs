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
}

/// Every image and remote source of a Dockerfile (its reference documentation, `FROM`, `ADD`, `COPY --from`); build
/// stages of its own are not images.
pub fn references(text: &str) -> Vec<Reference> {
    let mut found = Vec::new();
    let mut arguments: BTreeMap<String, String> = BTreeMap::new();
    let mut stages: Vec<String> = Vec::new();
    let mut stage_count = 0_usize;
    for instruction in instructions(text) {
        let (word, rest) = instruction
            .split_once(char::is_whitespace)
            .unwrap_or((instruction.as_str(), ""));
        let rest = rest.trim();
        match word.to_ascii_uppercase().as_str() {
            "ARG" if stage_count == 0 => {
                for pair in rest.split_whitespace() {
                    if let Some((name, value)) = pair.split_once('=') {
                        let value = value.trim_matches(['"', '\'']);
                        arguments.insert(name.to_owned(), value.to_owned());
                    }
                }
            }
            "FROM" => {
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
            // A variable may hold a URL, so it counts as one.
            "ADD" if ["://", "$", "git@"].iter().any(|mark| rest.contains(mark)) => {
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

fn image_reference(
    image: &str,
    arguments: &BTreeMap<String, String>,
    stages: &[String],
) -> Option<Reference> {
    let mut name = image.trim_matches(['"', '\'']).to_owned();
    for (argument, value) in arguments {
        name = name.replace(&format!("${{{argument}}}"), value);
        name = name.replace(&format!("${argument}"), value);
    }
    if name.contains('$') {
        return Some(Reference::Unknown(image.to_owned()));
    }
    if name == "scratch" || stages.contains(&name.to_lowercase()) {
        return None;
    }
    Some(Reference::Image(name))
}

/// The instructions, with continued lines joined and comments left out.
fn instructions(text: &str) -> Vec<String> {
    // The one directive that changes how lines are read.
    let escape = text
        .lines()
        .take_while(|line| line.trim_start().starts_with('#'))
        .find_map(|line| {
            let (name, value) = line.trim_start_matches(['#', ' ', '\t']).split_once('=')?;
            (name.trim().eq_ignore_ascii_case("escape")).then(|| value.trim().to_owned())
        })
        .unwrap_or_else(|| "\\".to_owned());
    let mut found = Vec::new();
    let mut current = String::new();
    for line in text.lines() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.strip_suffix(escape.as_str()) {
            Some(start) => {
                current.push_str(start);
                current.push(' ');
            }
            None => {
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

#[cfg(test)]
mod tests {
    use super::{Reference, references};

    #[test]
    fn what_would_be_fetched_is_found() {
        let image = |name: &str| Reference::Image(name.to_owned());
        let remote = |text: &str| Reference::Remote(text.to_owned());
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
                vec![image("a:1")],
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
                vec![image("a"), remote("ADD --chown=1:1  https://h/x /x")],
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
        ] {
            assert_eq!(references(text), expected, "{text}");
        }
    }
}
