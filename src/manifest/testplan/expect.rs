//! The expectations: what must be seen.

use std::sync::Arc;

use crate::check;
use crate::check::model::{
    ExecExpect, Expect, FileExpect, HttpExpect, SqlExpect, TcpExpect, TextMatch,
};
use crate::manifest::decode::{
    Fields, any_text, boolean, duration, entries, json, list, mode, number, one_or_more, owner,
    text, word,
};
use crate::manifest::place::Place;
use crate::manifest::problem::Problems;
use crate::manifest::tree::{Kind, Node};

use super::Hints;

/// What a test expects and, where it compares with the baseline, the place that says so.
type Expected = (Expect, Option<Place>);

/// `node` is missing where a limit inside the kind is all that is expected.
pub(super) fn decode(
    kind: &str,
    node: Option<&Arc<Node>>,
    hints: &Hints,
    place: &Place,
    p: &mut Problems,
) -> Option<Expected> {
    let Some(node) = node else {
        let within = hints.within?;
        return Some((
            Expect::Http(HttpExpect {
                within: Some(within),
                ..HttpExpect::default()
            }),
            None,
        ));
    };
    let mut f = Fields::of(node, format!("`expect` of {} test", article(kind)), p)?;
    f.place = if f.has_keys() {
        f.place.clone()
    } else {
        place.clone()
    };
    let baseline_place = f.key_place("same_as").cloned();
    let before = p.0.len();
    let (expect, asserts) = match kind {
        "http" => http(&mut f, hints, p),
        "tcp" => tcp(&mut f, p),
        "sql" => sql(&mut f, p),
        "exec" => exec(&mut f, p),
        "file" => file(&mut f, p),
        // Only the kinds of the list of kinds come here.
        _ => return None,
    };
    let nothing = !f.has_keys();
    let at = f.place.clone();
    f.finish(p);
    // Where something was wrong, that is what has to be mended first.
    let sound = p.0.len() == before;
    if !nothing && sound && asserts && check::vacuous(&expect) {
        p.push(
            at.problem("the test expects nothing: every text fits what it asks for")
                .help("a pattern like `/.*/` and an empty text are found in any answer; say what must be seen"),
        );
    } else if nothing || (!asserts && sound) {
        p.push(
            at.problem("the test expects nothing")
                .help("a test that asserts nothing can only pass; say what must be seen"),
        );
    }
    Some((expect, baseline_place))
}

fn article(kind: &str) -> String {
    match kind {
        "http" | "sql" | "exec" => format!("an `{kind}`"),
        _ => format!("a `{kind}`"),
    }
}

fn baseline(f: &mut Fields<'_>, p: &mut Problems) -> bool {
    f.opt("same_as", p, |node, p| word(node, p, &[("baseline", ())]))
        .is_some()
}

fn http(f: &mut Fields<'_>, hints: &Hints, p: &mut Problems) -> (Expect, bool) {
    let within_place = f.key_place("within").cloned();
    let mut expect = HttpExpect {
        status: f
            .opt("status", p, |node, p| one_or_more(node, p, status))
            .unwrap_or_default(),
        headers: f.opt("header", p, headers).unwrap_or_default(),
        body: f.opt("body", p, texts).unwrap_or_default(),
        json: f.opt("json", p, json_paths).unwrap_or_default(),
        within: f.opt("within", p, duration),
        same_as_baseline: baseline(f, p),
    };
    if let (Some(place), Some(_)) = (within_place, hints.within) {
        p.push(place.problem("`within` is written twice, here and in `http`"));
    }
    expect.within = expect.within.or(hints.within);
    let asserts = !expect.status.is_empty()
        || !expect.headers.is_empty()
        || !expect.body.is_empty()
        || !expect.json.is_empty()
        || expect.within.is_some()
        || expect.same_as_baseline;
    (Expect::Http(expect), asserts)
}

pub(super) fn status(node: &Arc<Node>, p: &mut Problems) -> Option<u16> {
    let status = number::<u16>(node, p)?;
    if (100..=599).contains(&status) {
        return Some(status);
    }
    p.push(
        node.place
            .problem(format!("`{status}` is not an HTTP status")),
    );
    None
}

fn headers(node: &Arc<Node>, p: &mut Problems) -> Option<Vec<(String, TextMatch)>> {
    let mut headers = Vec::new();
    for entry in entries(node, p)? {
        for condition in texts(&entry.value, p).unwrap_or_default() {
            headers.push((entry.key.value.to_lowercase(), condition));
        }
    }
    Some(headers)
}

fn json_paths(node: &Arc<Node>, p: &mut Problems) -> Option<Vec<(String, serde_json::Value)>> {
    let mut paths = Vec::new();
    for entry in entries(node, p)? {
        match serde_json_path::JsonPath::parse(&entry.key.value) {
            Ok(_) => paths.push((entry.key.value.clone(), json(&entry.value))),
            Err(error) => p.push(
                entry
                    .key
                    .place
                    .problem(format!("`{}` is not a JSONPath: {error}", entry.key.value))
                    .help("paths begin with `$`: `\"$.items[0].name\": x`"),
            ),
        }
    }
    Some(paths)
}

fn tcp(f: &mut Fields<'_>, p: &mut Problems) -> (Expect, bool) {
    let open = f.opt("open", p, boolean);
    let banner_place = f.key_place("banner").cloned();
    let banner = f.opt("banner", p, |node, p| {
        let mut conditions = texts(node, p)?;
        if conditions.len() > 1 {
            p.push(
                node.head()
                    .problem("`banner` takes one condition")
                    .help("use a regular expression: `/a.*b/`"),
            );
        }
        conditions.pop()
    });
    let within = f.opt("within", p, duration);
    if let (Some(false), Some(place)) = (open, &banner_place) {
        p.push(place.problem("a connection that must not be made has no banner"));
    }
    let asserts = open.is_some() || banner.is_some() || within.is_some();
    let expect = TcpExpect {
        open: open.unwrap_or(true),
        banner,
        within,
    };
    (Expect::Tcp(expect), asserts)
}

fn sql(f: &mut Fields<'_>, p: &mut Problems) -> (Expect, bool) {
    let value_place = f.key_place("value").cloned();
    let rows = f.opt("rows", p, |node, p| {
        list(node, p, |row, p| {
            list(row, p, |cell, p| Some(cell_of(cell, p)))
        })
    });
    // A null is a value here, so it is not asked for as other keys are.
    let value = f.raw("value").map(|node| vec![vec![cell_of(node, p)]]);
    if let (Some(place), Some(_)) = (value_place, &rows) {
        p.push(
            place
                .problem("`value` and `rows` say the same thing twice")
                .help("keep one"),
        );
    }
    let expect = SqlExpect {
        rows: rows.or(value),
        row_count: f.opt("row_count", p, number),
        same_as_baseline: baseline(f, p),
        within: f.opt("within", p, duration),
    };
    let asserts = expect.rows.is_some()
        || expect.row_count.is_some()
        || expect.same_as_baseline
        || expect.within.is_some();
    (Expect::Sql(expect), asserts)
}

/// A value as the server writes it: the text as written in the file, or NULL.
fn cell_of(node: &Arc<Node>, p: &mut Problems) -> Option<String> {
    match &node.kind {
        Kind::Null => None,
        Kind::Empty => {
            p.push(
                node.place
                    .problem("this value is empty")
                    .help("write `null` for NULL or `\"\"` for an empty text"),
            );
            None
        }
        Kind::Scalar { text, .. } => Some(text.clone()),
        Kind::List(_) | Kind::Map(_) => {
            p.push(node.head().problem(format!(
                "a value of a row is text or `null`, this is {}",
                node.what()
            )));
            None
        }
    }
}

fn exec(f: &mut Fields<'_>, p: &mut Problems) -> (Expect, bool) {
    let mut expect = ExecExpect {
        exit_code: f.opt("exit_code", p, number),
        stdout: f.opt("stdout", p, texts).unwrap_or_default(),
        stderr: f.opt("stderr", p, texts).unwrap_or_default(),
        same_as_baseline: baseline(f, p),
        within: f.opt("within", p, duration),
    };
    let asserts = expect.exit_code.is_some()
        || !expect.stdout.is_empty()
        || !expect.stderr.is_empty()
        || expect.same_as_baseline
        || expect.within.is_some();
    // A command that failed has not shown what its output seems to show, unless the baseline's code counts.
    if expect.exit_code.is_none() && !expect.same_as_baseline {
        expect.exit_code = Some(0);
    }
    (Expect::Exec(expect), asserts)
}

fn file(f: &mut Fields<'_>, p: &mut Problems) -> (Expect, bool) {
    let mode_place = f.place.clone();
    let expect = FileExpect {
        exists: f.opt("exists", p, boolean),
        content: f.opt("content", p, texts).unwrap_or_default(),
        sha256: f.opt("sha256", p, sha256),
        mode: f.opt("mode", p, mode),
        owner: f.opt("owner", p, owner),
        same_as_baseline: baseline(f, p),
    };
    let more = !expect.content.is_empty()
        || expect.sha256.is_some()
        || expect.mode.is_some()
        || expect.owner.is_some();
    if expect.exists == Some(false) && (more || expect.same_as_baseline) {
        p.push(mode_place.problem("a file that must not exist has nothing else to expect"));
    }
    let asserts = more || expect.exists.is_some() || expect.same_as_baseline;
    (Expect::File(expect), asserts)
}

fn sha256(node: &Arc<Node>, p: &mut Problems) -> Option<String> {
    let written = text(node, p)?;
    let hex = written
        .value
        .strip_prefix("sha256:")
        .unwrap_or(&written.value)
        .to_lowercase();
    if hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Some(hex);
    }
    p.push(written.place.problem(format!(
        "`{}` is not a sha256: 64 hexadecimal digits",
        written.value
    )));
    None
}

/// Text, `/regular expression/`, a mapping of conditions, or a list of any of these.
pub(super) fn texts(node: &Arc<Node>, p: &mut Problems) -> Option<Vec<TextMatch>> {
    if let Kind::List(items) = &node.kind {
        if items.is_empty() {
            p.push(node.place.problem("this list is empty"));
        }
        return Some(
            items
                .iter()
                .filter_map(|item| texts(item, p))
                .flatten()
                .collect(),
        );
    }
    let Kind::Map(_) = node.kind else {
        let written = text(node, p)?;
        let inner = written
            .value
            .strip_prefix('/')
            .and_then(|rest| rest.strip_suffix('/'))
            .filter(|inner| !inner.is_empty());
        return match inner {
            Some(inner) => Some(vec![regex(inner, &written.place, p)?]),
            None => Some(vec![TextMatch::Contains(written.value)]),
        };
    };
    let mut f = Fields::of(node, "a condition on text", p)?;
    let mut conditions = Vec::new();
    for (key, make) in [
        ("contains", TextMatch::Contains as fn(String) -> TextMatch),
        ("equals", TextMatch::Equals),
        ("lacks", TextMatch::Lacks),
    ] {
        // Everything contains nothing; only `equals` may be empty.
        let read = if key == "equals" { any_text } else { text };
        let values = f
            .opt(key, p, |node, p| one_or_more(node, p, read))
            .unwrap_or_default();
        conditions.extend(values.into_iter().map(|at| make(at.value)));
    }
    let patterns = f
        .opt("matches", p, |node, p| one_or_more(node, p, text))
        .unwrap_or_default();
    for pattern in patterns {
        let inner = pattern
            .value
            .strip_prefix('/')
            .and_then(|rest| rest.strip_suffix('/'))
            .unwrap_or(&pattern.value);
        conditions.extend(regex(inner, &pattern.place, p));
    }
    f.finish(p);
    Some(conditions)
}

fn regex(pattern: &str, place: &Place, p: &mut Problems) -> Option<TextMatch> {
    match check::compile(pattern) {
        Ok(_) => Some(TextMatch::Regex(pattern.to_owned())),
        Err(error) => {
            p.push(
                place
                    .problem(format!(
                        "`/{pattern}/` is not a regular expression: {error}"
                    ))
                    .help("to look for the text itself write `{ contains: \"..\" }`"),
            );
            None
        }
    }
}
