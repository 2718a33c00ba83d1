//! `${VAR}` in a stack, and the `.env` files that give the variables their values.
//!
//! The caller's own environment is never asked: staging must not depend on who starts it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::manifest::place::{Place, Source};
use crate::manifest::problem::{Problem, Problems};

/// Variables by name.
pub(crate) type Vars = BTreeMap<String, String>;

/// What went wrong in a text: message and help.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    message: String,
    help: String,
}

impl Fault {
    pub(crate) fn at(self, place: &Place) -> Problem {
        place.problem(self.message).help(self.help)
    }
}

/// Compose's interpolation: `$V`, `${V}`, `${V:-default}`, `${V-default}`, `${V:?message}`, `${V?message}`,
/// `${V:+other}`, `${V+other}`, `$$`; defaults may hold variables themselves.
///
/// # Errors
/// A variable that has no value and no default, or a `$` that begins nothing.
pub(crate) fn expand(text: &str, vars: &Vars) -> Result<String, Fault> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(tail) = rest.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some(tail) = rest.strip_prefix('{') {
            let end = closing(tail).ok_or_else(|| Fault {
                message: "`${` without its `}`".to_owned(),
                help: "close it, or write `$$` for a dollar sign".to_owned(),
            })?;
            out.push_str(&braced(&tail[..end], vars)?);
            rest = &tail[end + 1..];
        } else {
            let name = name_at(rest);
            if name.is_empty() {
                return Err(Fault {
                    message: "a `$` that begins no variable".to_owned(),
                    help: "write `$$` for a dollar sign".to_owned(),
                });
            }
            out.push_str(vars.get(name).ok_or_else(|| unset(name))?);
            rest = &rest[name.len()..];
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn unset(name: &str) -> Fault {
    Fault {
        message: format!("the variable `{name}` has no value"),
        help: format!(
            "set it in the `.env` file beside this file, or write `${{{name}:-default}}`; the caller's environment is never used"
        ),
    }
}

/// The index of the `}` that closes, minding braces of variables inside.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 1;
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '{' if before == '$' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
        before = c;
    }
    None
}

fn name_at(text: &str) -> &str {
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .unwrap_or(text.len());
    if starts { &text[..end] } else { "" }
}

fn braced(inner: &str, vars: &Vars) -> Result<String, Fault> {
    let name = name_at(inner);
    let tail = &inner[name.len()..];
    let value = vars.get(name);
    let filled = value.filter(|value| !value.is_empty());
    if name.is_empty() {
        return Err(Fault {
            message: format!("`${{{inner}}}` begins with no variable"),
            help: "write `${NAME}`, `${NAME:-default}` or `${NAME:?message}`".to_owned(),
        });
    }
    let required = |message: &str| Fault {
        message: if message.is_empty() {
            format!("the variable `{name}` is required")
        } else {
            format!("the variable `{name}` is required: {message}")
        },
        help: "set it in the `.env` file beside this file".to_owned(),
    };
    if tail.is_empty() {
        value.cloned().ok_or_else(|| unset(name))
    } else if let Some(other) = tail.strip_prefix(":-") {
        filled.map_or_else(|| expand(other, vars), |v| Ok(v.clone()))
    } else if let Some(other) = tail.strip_prefix('-') {
        value.map_or_else(|| expand(other, vars), |v| Ok(v.clone()))
    } else if let Some(message) = tail.strip_prefix(":?") {
        filled.cloned().ok_or_else(|| required(message))
    } else if let Some(message) = tail.strip_prefix('?') {
        value.cloned().ok_or_else(|| required(message))
    } else if let Some(other) = tail.strip_prefix(":+") {
        filled.map_or(Ok(String::new()), |_| expand(other, vars))
    } else if let Some(other) = tail.strip_prefix('+') {
        value.map_or(Ok(String::new()), |_| expand(other, vars))
    } else {
        Err(Fault {
            message: format!("`${{{inner}}}` is no form of interpolation"),
            help: "write `${NAME}`, `${NAME:-default}` or `${NAME:?message}`".to_owned(),
        })
    }
}

/// Reads a dotenv file: `NAME=value` lines, `#` comments, `export` in front, single quotes literal, double
/// quotes with escapes; unquoted and double-quoted values may use variables of `known` and of lines above.
pub(crate) fn read_env(
    path: &Path,
    shown_as: &Path,
    known: &Vars,
    p: &mut Problems,
) -> std::io::Result<Vars> {
    let source = Arc::new(Source {
        path: shown_as.to_path_buf(),
        text: crate::manifest::load::read_text(path)?,
    });
    Ok(parse_env(&source, known, p))
}

fn parse_env(source: &Arc<Source>, known: &Vars, p: &mut Problems) -> Vars {
    let mut own = Vars::new();
    let mut scope = known.clone();
    let mut start = 0;
    for line in source.text.split_inclusive('\n') {
        let at = start;
        start += line.len();
        let text = line.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        let place = Place::of_range(source, at + indent, at + indent + text.len());
        let text = text.strip_prefix("export ").unwrap_or(text).trim_start();
        let Some((name, value)) = text.split_once('=') else {
            p.push(
                place
                    .problem("this line is not `NAME=value`")
                    .help("a name without a value would be taken from the caller's environment, which is never used"),
            );
            continue;
        };
        let name = name.trim();
        if name.is_empty() || name.contains(char::is_whitespace) {
            p.push(place.problem(format!("`{name}` is not a variable's name")));
            continue;
        }
        match env_value(value.trim(), &scope) {
            Ok(value) => {
                scope.insert(name.to_owned(), value.clone());
                own.insert(name.to_owned(), value);
            }
            Err(fault) => p.push(fault.at(&place)),
        }
    }
    own
}

fn env_value(written: &str, scope: &Vars) -> Result<String, Fault> {
    let unclosed = |quote: char| Fault {
        message: format!("the value begins with {quote} and does not end with it"),
        help: "close the quotes on the same line; values over several lines are not supported"
            .to_owned(),
    };
    let after = |rest: &str| -> Result<(), Fault> {
        let rest = rest.trim_start();
        if rest.is_empty() || rest.starts_with('#') {
            return Ok(());
        }
        Err(Fault {
            message: format!("`{rest}` follows the closing quote"),
            help: "remove it, or quote the whole value".to_owned(),
        })
    };
    if let Some(inner) = written.strip_prefix('\'') {
        let (value, rest) = inner.split_once('\'').ok_or_else(|| unclosed('\''))?;
        after(rest)?;
        return Ok(value.to_owned());
    }
    if let Some(inner) = written.strip_prefix('"') {
        let mut value = String::new();
        let mut chars = inner.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    after(&inner[at + 1..])?;
                    return expand(&value, scope);
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, 't')) => value.push('\t'),
                    Some((_, 'r')) => value.push('\r'),
                    // `$$` is the dollar sign that expansion leaves alone.
                    Some((_, '$')) => value.push_str("$$"),
                    Some((_, c)) => value.push(c),
                    None => return Err(unclosed('"')),
                },
                c => value.push(c),
            }
        }
        return Err(unclosed('"'));
    }
    let bare = written
        .find(" #")
        .map_or(written, |at| &written[..at])
        .trim_end();
    expand(bare, scope)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars() -> Vars {
        [("A", "a"), ("EMPTY", ""), ("B", "b")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into()
    }

    #[test]
    fn every_form_expands_as_compose_does() {
        for (text, expected) in [
            ("plain", "plain"),
            ("$A-$B", "a-b"),
            ("${A}x", "ax"),
            ("$$A", "$A"),
            ("${A:-d}", "a"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${NONE-d}", "d"),
            ("${NONE:-${B}-${NONE:-z}}", "b-z"),
            ("${A:+set}", "set"),
            ("${EMPTY:+set}", ""),
            ("${EMPTY+set}", "set"),
            ("${A:?m}", "a"),
            ("ü$A", "üa"),
        ] {
            assert_eq!(expand(text, &vars()).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_has_no_value_is_refused() {
        for (text, message) in [
            ("$NONE", "the variable `NONE` has no value"),
            ("${NONE}", "the variable `NONE` has no value"),
            (
                "${EMPTY:?say it}",
                "the variable `EMPTY` is required: say it",
            ),
            ("${NONE?}", "the variable `NONE` is required"),
            ("${A", "`${` without its `}`"),
            ("cost: 5$", "a `$` that begins no variable"),
            ("${A!}", "`${A!}` is no form of interpolation"),
            ("${}", "`${}` begins with no variable"),
        ] {
            let fault = expand(text, &vars()).unwrap_err();
            assert_eq!(fault.message, message, "{text}");
        }
    }

    #[test]
    fn env_files() {
        let source = Arc::new(Source {
            path: "x.env".into(),
            text: "# c\nexport ONE=1\nTWO = two words # c\nQ='$A # '\nD=\"a\\tb ${ONE} \\$A\"\nBAD\nE=\n"
                .to_owned(),
        });
        let mut problems = Problems::new();
        let read = parse_env(&source, &vars(), &mut problems);
        let expected = [
            ("ONE", "1"),
            ("TWO", "two words"),
            ("Q", "$A # "),
            ("D", "a\tb 1 $A"),
            ("E", ""),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
        assert_eq!(read, expected);
        assert_eq!(problems.0.len(), 1);
        assert_eq!(problems.0[0].location.line, 6);
    }
}
