//! Judges an HTTP answer.

use std::time::Duration;

use serde_json::Value;
use serde_json_path::JsonPath;

use super::findings::Findings;
use super::model::{HttpExpect, Observation, TextMatch};
use super::show;
use super::text::{Held, Text, asked, hold};

/// Status, headers, body, JSON, time, baseline: in the order in which they are documented.
pub(super) fn judge(
    expect: &HttpExpect,
    observation: &Observation,
    elapsed: Duration,
    baseline: Option<&Observation>,
    findings: &mut Findings,
) {
    let Observation::Http {
        status,
        headers,
        body,
        truncated,
    } = observation
    else {
        return findings.wrong_kind("http", observation);
    };
    let text = Text {
        text: body,
        cut: *truncated,
    };
    if !expect.status.is_empty() && !expect.status.contains(status) {
        let codes: Vec<String> = expect.status.iter().map(u16::to_string).collect();
        findings.differs("status", codes.join(" or "), status.to_string());
    }
    for (name, condition) in &expect.headers {
        header(name, condition, headers, findings);
    }
    for condition in &expect.body {
        findings.text("body", condition, text);
    }
    if !expect.json.is_empty() {
        json(&expect.json, text, findings);
    }
    findings.within(expect.within, elapsed);
    if expect.same_as_baseline {
        match baseline {
            None => findings.no_baseline(),
            Some(Observation::Http {
                status: then,
                body: before,
                truncated: cut,
                ..
            }) => {
                if then != status {
                    findings.differs(
                        "status",
                        format!("as in the baseline: {then}"),
                        status.to_string(),
                    );
                }
                let before = Text {
                    text: before,
                    cut: *cut,
                };
                findings.same_text("body", before, text);
            }
            Some(other) => findings.wrong_kind("http", other),
        }
    }
}

/// A header may come more than once: one of its values must meet the condition, or all must lack something.
fn header(
    name: &str,
    condition: &TextMatch,
    headers: &[(String, String)],
    findings: &mut Findings,
) {
    let mut values = headers
        .iter()
        .filter(|(seen, _)| seen.eq_ignore_ascii_case(name))
        .map(|(_, value)| Text::whole(value))
        .peekable();
    let what = format!("header {}", show::visible(name));
    let lacks = matches!(condition, TextMatch::Lacks(_));
    if values.peek().is_none() {
        // A header that is not there lacks everything, and meets no other condition.
        if !lacks {
            findings.differs(what, asked(condition), "no such header");
        }
        return;
    }
    let mut first_false = None;
    for value in values {
        match (hold(condition, value), lacks) {
            (Held::True, false) => return,
            (Held::True, true) => {}
            (Held::Unknown(reason), _) => return findings.unknown(format!("{what}: {reason}")),
            (Held::False { expected, seen }, _) => {
                first_false.get_or_insert((expected, seen));
            }
        }
    }
    if let Some((expected, seen)) = first_false {
        findings.differs(what, expected, seen);
    }
}

fn json(wanted: &[(String, Value)], body: Text<'_>, findings: &mut Findings) {
    if body.cut {
        return findings.unknown(format!(
            "json: the body is longer than the {} bytes that were read",
            body.text.len()
        ));
    }
    let document: Value = match serde_json::from_str(body.text) {
        Ok(document) => document,
        Err(error) => {
            return findings.differs(
                "body",
                "a JSON document",
                format!("{} ({error})", show::quoted(body.text)),
            );
        }
    };
    for (source, value) in wanted {
        let path = match JsonPath::parse(source) {
            Ok(path) => path,
            Err(error) => {
                findings.unknown(format!(
                    "the JSONPath `{}` is not sound: {error}",
                    show::visible(source)
                ));
                continue;
            }
        };
        let matches = path.query(&document).all();
        let what = format!("json {}", show::visible(source));
        let expected = compact(value);
        match matches.as_slice() {
            [one] if same(one, value) => {}
            [one] => findings.differs(what, expected, compact(one)),
            [] => findings.differs(what, expected, "no match"),
            many => {
                let list: Vec<String> = many.iter().take(3).map(|one| compact(one)).collect();
                findings.differs(
                    what,
                    expected,
                    format!("{} matches: {}", many.len(), list.join(", ")),
                );
            }
        }
    }
}

/// Equality as a reader of JSON understands it: 3 and 3.0 are one number, members have no order.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => {
            // Whole numbers are compared exactly: beyond 2^53 floating point would confuse neighbours.
            match (whole(x), whole(y)) {
                (Some(x), Some(y)) => x == y,
                _ => x.as_f64() == y.as_f64(),
            }
        }
        (Value::Array(x), Value::Array(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(x, y))
        }
        (Value::Object(x), Value::Object(y)) => {
            x.len() == y.len()
                && x.iter()
                    .all(|(key, x)| y.get(key).is_some_and(|y| same(x, y)))
        }
        _ => a == b,
    }
}

fn whole(number: &serde_json::Number) -> Option<i128> {
    number
        .as_i64()
        .map(i128::from)
        .or_else(|| number.as_u64().map(i128::from))
}

fn compact(value: &Value) -> String {
    let text = value.to_string();
    let mut shown: String = text.chars().take(120).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    show::visible(&shown)
}
