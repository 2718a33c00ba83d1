//! Every kind of expectation, true, false and undeterminable, in one table; their words in one snapshot.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::model::*;
use super::{Judgement, judge, vacuous};
use crate::plan::model::Location;

/// What a row of the table wants.
enum Want {
    Passed,
    /// Failed, with exactly these things looked at and found false.
    Failed(&'static [&'static str]),
    Error,
}
use Want::{Error, Failed, Passed};

struct Row {
    name: &'static str,
    expect: Expect,
    seen: Result<Observation, Unseen>,
    elapsed: Duration,
    baseline: Option<Observation>,
    want: Want,
}

fn row(
    name: &'static str,
    expect: Expect,
    seen: Result<Observation, Unseen>,
    baseline: Option<Observation>,
    want: Want,
) -> Row {
    let elapsed = Duration::from_millis(80);
    Row {
        name,
        expect,
        seen,
        elapsed,
        baseline,
        want,
    }
}

fn test(expect: Expect) -> Test {
    Test {
        name: "a test".to_owned(),
        probe: Probe::File(FileProbe {
            service: "web".to_owned(),
            path: "/".to_owned(),
        }),
        expect,
        when: vec![When::Verify],
        retry: None,
        tags: vec![],
        severity: Severity::Fail,
        location: Location {
            path: PathBuf::from("plan.yaml"),
            line: 1,
            column: 1,
        },
    }
}

fn http(change: impl FnOnce(&mut HttpExpect)) -> Expect {
    let mut expect = HttpExpect::default();
    change(&mut expect);
    Expect::Http(expect)
}

fn sql(change: impl FnOnce(&mut SqlExpect)) -> Expect {
    let mut expect = SqlExpect::default();
    change(&mut expect);
    Expect::Sql(expect)
}

fn exec(change: impl FnOnce(&mut ExecExpect)) -> Expect {
    let mut expect = ExecExpect::default();
    change(&mut expect);
    Expect::Exec(expect)
}

fn file(change: impl FnOnce(&mut FileExpect)) -> Expect {
    let mut expect = FileExpect::default();
    change(&mut expect);
    Expect::File(expect)
}

fn tcp(open: bool, banner: Option<TextMatch>, within: Option<u64>) -> Expect {
    Expect::Tcp(TcpExpect {
        open,
        banner,
        within: within.map(Duration::from_millis),
    })
}

fn page(status: u16, body: &str) -> Observation {
    Observation::Http {
        status,
        headers: vec![
            (
                "content-type".to_owned(),
                "text/html; charset=utf-8".to_owned(),
            ),
            ("set-cookie".to_owned(), "a=1".to_owned()),
            ("set-cookie".to_owned(), "b=2".to_owned()),
        ],
        body: body.to_owned(),
        truncated: false,
    }
}

fn cut(body: &str) -> Observation {
    Observation::Http {
        status: 200,
        headers: vec![],
        body: body.to_owned(),
        truncated: true,
    }
}

fn banner(text: &str) -> Observation {
    Observation::Tcp {
        banner: text.to_owned(),
    }
}

fn table(columns: &[&str], rows: &[&[Option<&str>]]) -> Observation {
    Observation::Sql {
        columns: columns.iter().map(|&name| name.to_owned()).collect(),
        rows: cells(rows),
    }
}

fn cells(rows: &[&[Option<&str>]]) -> Vec<Vec<Option<String>>> {
    rows.iter()
        .map(|row| row.iter().map(|cell| cell.map(str::to_owned)).collect())
        .collect()
}

fn ended(exit_code: i64, stdout: &str, stderr: &str) -> Observation {
    Observation::Exec {
        exit_code,
        stdout: stdout.to_owned(),
        stderr: stderr.to_owned(),
    }
}

fn there(text: &str, mode: u32) -> Observation {
    Observation::File(Some(FileSeen {
        kind: "file".to_owned(),
        size: text.len() as u64,
        mode,
        uid: 0,
        gid: 33,
        sha256: Some(format!("{:064x}", text.len())),
        text: Some(text.to_owned()),
    }))
}

fn folder(size: u64) -> Observation {
    Observation::File(Some(FileSeen {
        kind: "directory".to_owned(),
        size,
        mode: 0o755,
        uid: 0,
        gid: 0,
        sha256: None,
        text: None,
    }))
}

fn contains(text: &str) -> TextMatch {
    TextMatch::Contains(text.to_owned())
}
fn equals(text: &str) -> TextMatch {
    TextMatch::Equals(text.to_owned())
}
fn lacks(text: &str) -> TextMatch {
    TextMatch::Lacks(text.to_owned())
}
fn regex(text: &str) -> TextMatch {
    TextMatch::Regex(text.to_owned())
}
fn unanswered<T>(reason: &str) -> Result<T, Unseen> {
    Err(Unseen::Unanswered(reason.to_owned()))
}
fn undetermined<T>(reason: &str) -> Result<T, Unseen> {
    Err(Unseen::Undetermined(reason.to_owned()))
}
fn header(name: &str, condition: TextMatch) -> Expect {
    http(|e| e.headers = vec![(name.to_owned(), condition)])
}
fn body(condition: TextMatch) -> Expect {
    http(|e| e.body = vec![condition])
}
fn path(path: &str, value: serde_json::Value) -> Expect {
    http(|e| e.json = vec![(path.to_owned(), value)])
}

#[rustfmt::skip] // One row a line.
fn http_rows() -> Vec<Row> {
    let ok = || Ok(page(200, "<h1>Welcome</h1>\n"));
    let doc = || {
        Ok(page(
            200,
            r#"{"n":3,"tags":["a","b"],"big":9007199254740993,"s":"x"}"#,
        ))
    };
    let long = format!("{}Willkommen{}", "x".repeat(400), "y".repeat(400));
    let wanted = format!("{}Welcome{}", "x".repeat(400), "y".repeat(400));
    vec![
        row("status", http(|e| e.status = vec![200, 204]), ok(), None, Passed),
        row("status, another", http(|e| e.status = vec![200, 204]), Ok(page(503, "")), None, Failed(&["status"])),
        row("header", header("content-type", contains("html")), ok(), None, Passed),
        row("header, another", header("content-type", contains("json")), ok(), None, Failed(&["header content-type"])),
        row("header, absent", header("x-frame-options", equals("DENY")), ok(), None, Failed(&["header x-frame-options"])),
        row("header, absent, any", header("x-frame-options", regex(".*")), ok(), None, Failed(&["header x-frame-options"])),
        row("header, absent lacks all", header("server", lacks("nginx/1")), ok(), None, Passed),
        row("header, one of several", header("set-cookie", equals("b=2")), ok(), None, Passed),
        row("header, none of several", header("set-cookie", equals("c=3")), ok(), None, Failed(&["header set-cookie"])),
        row("header, one of several has it", header("set-cookie", lacks("b=2")), ok(), None, Failed(&["header set-cookie"])),
        row("body contains", body(contains("Welcome")), ok(), None, Passed),
        row("body contains not", body(contains("Willkommen")), ok(), None, Failed(&["body"])),
        row("body contains not, empty", body(contains("Welcome")), Ok(page(200, "")), None, Failed(&["body"])),
        row("body equals but for white space", body(equals("<h1>Welcome</h1>")), ok(), None, Passed),
        row("body equals not", body(equals(&wanted)), Ok(page(200, &long)), None, Failed(&["body"])),
        row("body lacks", body(lacks("Traceback")), ok(), None, Passed),
        row("body lacks not", body(lacks("Willkommen")), Ok(page(200, &long)), None, Failed(&["body"])),
        row("body matches", body(regex("Wel+come")), ok(), None, Passed),
        row("body matches not", body(regex("^Welcome$")), Ok(page(500, "\u{1b}[31mno\tway\u{7}\r\n")), None, Failed(&["body"])),
        row("body, unsound regex", body(regex("(")), ok(), None, Error),
        row("cut body contains", body(contains("abc")), Ok(cut("abc")), None, Passed),
        row("cut body contains perhaps", body(contains("xyz")), Ok(cut("abc")), None, Error),
        row("cut body lacks perhaps", body(lacks("xyz")), Ok(cut("abc")), None, Error),
        row("cut body lacks not", body(lacks("b")), Ok(cut("abc")), None, Failed(&["body"])),
        row("cut body equals perhaps", body(equals("abc")), Ok(cut("abc")), None, Error),
        row("cut body equals not", body(equals("xyz")), Ok(cut("abc")), None, Failed(&["body"])),
        row("cut body matches", body(regex("ab")), Ok(cut("abc")), None, Passed),
        row("cut body matches up to the cut", body(regex("abc$")), Ok(cut("abc")), None, Error),
        row("cut body matches perhaps", body(regex("xyz")), Ok(cut("abc")), None, Error),
        row("cut body, json", path("$.n", json!(3)), Ok(cut(r#"{"n":3}"#)), None, Error),
        row("json", path("$.n", json!(3.0)), doc(), None, Passed),
        row("json, list", path("$.tags", json!(["a", "b"])), doc(), None, Passed),
        row("json, another", path("$.s", json!("y")), doc(), None, Failed(&["json $.s"])),
        row("json, text is no number", path("$.n", json!("3")), doc(), None, Failed(&["json $.n"])),
        row("json, neighbours beyond floats", path("$.big", json!(9_007_199_254_740_992_u64)), doc(), None, Failed(&["json $.big"])),
        row("json, no match", path("$.m", json!(null)), doc(), None, Failed(&["json $.m"])),
        row("json, several matches", path("$.tags[*]", json!("a")), doc(), None, Failed(&["json $.tags[*]"])),
        row("json, not a document", path("$.n", json!(3)), ok(), None, Failed(&["body"])),
        row("json, unsound path", path("$[", json!(3)), doc(), None, Error),
        row("within", http(|e| e.within = Some(Duration::from_millis(80))), ok(), None, Passed),
        row("within not", http(|e| e.within = Some(Duration::from_millis(79))), ok(), None, Failed(&["time"])),
        row("baseline", http(|e| e.same_as_baseline = true), ok(), ok().ok(), Passed),
        row("baseline, another", http(|e| e.same_as_baseline = true), Ok(page(500, "oops")), ok().ok(), Failed(&["status", "body"])),
        row("baseline, none", http(|e| e.same_as_baseline = true), ok(), None, Error),
        row("baseline, of another kind", http(|e| e.same_as_baseline = true), ok(), Some(banner("")), Error),
        row("baseline, both cut", http(|e| e.same_as_baseline = true), Ok(cut("abc")), Some(cut("abc")), Error),
        row("baseline, one cut", http(|e| e.same_as_baseline = true), Ok(cut("abc")), Some(page(200, "abc")), Failed(&["body"])),
        row(
            "all at once",
            http(|e| {
                e.status = vec![201];
                e.headers = vec![("location".to_owned(), regex("^/papers/"))];
                e.body = vec![contains("Welcome"), lacks("Welcome")];
                e.json = vec![("$.id".to_owned(), json!(1))];
                e.within = Some(Duration::from_millis(1));
                e.same_as_baseline = true;
            }),
            ok(),
            None,
            Failed(&["status", "header location", "body", "body", "time"]),
        ),
        row("http unanswered", http(|e| e.status = vec![503]), unanswered("connection refused"), None, Failed(&["answer"])),
        row("http undetermined", http(|e| e.status = vec![503]), undetermined("the agent is gone"), None, Error),
        row("http, an answer of another kind", http(|e| e.status = vec![200]), Ok(banner("")), None, Error),
        row("http asserts nothing", http(|_| ()), ok(), None, Error),
    ]
}

#[rustfmt::skip] // One row a line.
fn tcp_rows() -> Vec<Row> {
    let ssh = || Ok(banner("SSH-2.0-OpenSSH_9.2\r\n"));
    vec![
        row("open", tcp(true, None, None), ssh(), None, Passed),
        row("open not", tcp(true, None, None), unanswered("timed out after 5 s"), None, Failed(&["answer"])),
        row("open undetermined", tcp(true, None, None), undetermined("too many open files"), None, Error),
        row("closed", tcp(false, None, None), unanswered("connection refused"), None, Passed),
        row("closed not", tcp(false, None, None), ssh(), None, Failed(&["connection"])),
        row("closed undetermined", tcp(false, None, None), undetermined("too many open files"), None, Error),
        row("banner", tcp(true, Some(regex("^SSH-2")), Some(80)), ssh(), None, Passed),
        row("banner, another, and late", tcp(true, Some(equals("220 mail")), Some(79)), ssh(), None, Failed(&["banner", "time"])),
        row("tcp, an answer of another kind", tcp(false, None, None), Ok(page(200, "")), None, Error),
    ]
}

#[rustfmt::skip] // One row a line.
fn sql_rows() -> Vec<Row> {
    let totals = || table(&["count", "sum"], &[&[Some("412"), Some("2328.60")]]);
    let two = || {
        table(
            &["id", "note"],
            &[&[Some("1"), None], &[Some("2"), Some("null")]],
        )
    };
    let turned = || {
        table(
            &["id", "note"],
            &[&[Some("2"), Some("null")], &[Some("1"), None]],
        )
    };
    let rows = |rows: &[&[Option<&str>]]| {
        let rows = cells(rows);
        sql(|e| e.rows = Some(rows))
    };
    let same = || sql(|e| e.same_as_baseline = true);
    vec![
        row("rows", rows(&[&[Some("412"), Some("2328.60")]]), Ok(totals()), None, Passed),
        row("rows, another", rows(&[&[Some("412"), Some("2328.61")]]), Ok(totals()), None, Failed(&["rows"])),
        row("rows, none expected", rows(&[]), Ok(two()), None, Failed(&["rows"])),
        row("rows, none seen", rows(&[&[Some("1")]]), Ok(table(&["id"], &[])), None, Failed(&["rows"])),
        row("rows, NULL is not a text", rows(&[&[Some("1"), Some("NULL")], &[Some("2"), Some("null")]]), Ok(two()), None, Failed(&["rows"])),
        row("rows, another order", rows(&[&[Some("1"), None], &[Some("2"), Some("null")]]), Ok(turned()), None, Failed(&["rows"])),
        row("row count", sql(|e| e.row_count = Some(2)), Ok(two()), None, Passed),
        row("row count, another", sql(|e| e.row_count = Some(3)), Ok(two()), None, Failed(&["row count"])),
        row("query within", sql(|e| e.within = Some(Duration::from_secs(1))), Ok(two()), None, Passed),
        row("query within not", sql(|e| e.within = Some(Duration::from_micros(79_950))), Ok(two()), None, Failed(&["time"])),
        row("rows as in the baseline", same(), Ok(totals()), Some(totals()), Passed),
        row("rows not as in the baseline", same(), Ok(totals()), Some(two()), Failed(&["columns", "rows"])),
        row("rows without a baseline", same(), Ok(totals()), None, Error),
        row("sql unanswered", same(), unanswered("ERROR 42P01: relation \"invoice\" does not exist"), Some(totals()), Failed(&["answer"])),
        row("sql undetermined", same(), undetermined("the result is too large"), Some(totals()), Error),
        row("sql, an answer of another kind", same(), Ok(banner("")), Some(totals()), Error),
        row("sql asserts nothing", sql(|_| ()), Ok(totals()), None, Error),
    ]
}

#[rustfmt::skip] // One row a line.
fn exec_rows() -> Vec<Row> {
    let same = || exec(|e| e.same_as_baseline = true);
    let full = "x".repeat(SEEN_LIMIT);
    vec![
        row("exit code", exec(|e| e.exit_code = Some(3)), Ok(ended(3, "", "")), None, Passed),
        row("exit code, another", exec(|e| e.exit_code = Some(0)), Ok(ended(1, "", "warming up\nno space left\n")), None, Failed(&["exit code"])),
        row("stdout", exec(|e| e.stdout = vec![equals("ok"), lacks("no")]), Ok(ended(0, "ok\n", "")), None, Passed),
        row("stdout, another", exec(|e| e.stdout = vec![equals("ok")]), Ok(ended(0, "ko\n", "")), None, Failed(&["stdout"])),
        row("stdout of a command that failed", exec(|e| e.stdout = vec![equals("ok")]), Ok(ended(2, "ok\n", "")), None, Failed(&["exit code"])),
        row("stdout, cut", exec(|e| e.stdout = vec![lacks("y")]), Ok(ended(0, &full, "")), None, Error),
        row("stderr", exec(|e| e.stderr = vec![regex("^$")]), Ok(ended(0, "", "")), None, Passed),
        row("stderr, another", exec(|e| e.stderr = vec![equals("")]), Ok(ended(0, "", "warning")), None, Failed(&["stderr"])),
        row("command within", exec(|e| e.within = Some(Duration::from_secs(1))), Ok(ended(0, "", "")), None, Passed),
        row("command within not", exec(|e| e.within = Some(Duration::from_millis(1))), Ok(ended(0, "", "")), None, Failed(&["time"])),
        row("output as in the baseline", same(), Ok(ended(1, "a", "b")), Some(ended(1, "a", "c")), Passed),
        row("output not as in the baseline", same(), Ok(ended(1, "a", "")), Some(ended(0, "b", "")), Failed(&["exit code", "stdout"])),
        row("output without a baseline", same(), Ok(ended(0, "", "")), None, Error),
        row("exec unanswered", same(), unanswered("timed out after 30 s"), None, Failed(&["answer"])),
        row("exec undetermined", same(), undetermined("the container is gone"), None, Error),
        row("exec, an answer of another kind", same(), Ok(banner("")), None, Error),
        row("exec asserts nothing", exec(|_| ()), Ok(ended(0, "", "")), None, Error),
        row("exec asserts no more than nothing", exec(|e| e.stdout = vec![contains(""), regex("")]), Ok(ended(0, "", "")), None, Error),
    ]
}

#[rustfmt::skip] // One row a line.
fn file_rows() -> Vec<Row> {
    let gone = || Observation::File(None);
    let same = || file(|e| e.same_as_baseline = true);
    let huge = |text: &str| {
        let mut seen = there(text, 0o644);
        if let Observation::File(Some(file)) = &mut seen {
            file.size = SEEN_LIMIT as u64 + 1;
            file.sha256 = None;
        }
        seen
    };
    vec![
        row("exists", file(|e| e.exists = Some(true)), Ok(there("a", 0o644)), None, Passed),
        row("exists not", file(|e| e.exists = Some(true)), Ok(gone()), None, Failed(&["file"])),
        row("absent", file(|e| e.exists = Some(false)), Ok(gone()), None, Passed),
        row("absent not", file(|e| e.exists = Some(false)), Ok(there("a", 0o644)), None, Failed(&["file"])),
        row("content", file(|e| e.content = vec![equals("a")]), Ok(there("a", 0o644)), None, Passed),
        row("content, another", file(|e| e.content = vec![equals("b"), lacks("a")]), Ok(there("a", 0o644)), None, Failed(&["content", "content"])),
        row("content of nothing", file(|e| e.content = vec![lacks("b")]), Ok(gone()), None, Failed(&["file"])),
        row("content of a folder", file(|e| e.content = vec![lacks("b")]), Ok(folder(4096)), None, Failed(&["content"])),
        row("content, cut", file(|e| e.content = vec![lacks("b")]), Ok(huge("a")), None, Error),
        row("sha256", file(|e| e.sha256 = Some(format!("{:064X}", 1))), Ok(there("a", 0o644)), None, Passed),
        row("sha256, another", file(|e| e.sha256 = Some("00".to_owned())), Ok(there("a", 0o644)), None, Failed(&["sha256"])),
        row("sha256 of a folder", file(|e| e.sha256 = Some("00".to_owned())), Ok(folder(4096)), None, Failed(&["sha256"])),
        row("sha256, not computed", file(|e| e.sha256 = Some("00".to_owned())), Ok(huge("a")), None, Error),
        row("mode", file(|e| e.mode = Some(0o644)), Ok(there("a", 0o644)), None, Passed),
        row("mode, another", file(|e| e.mode = Some(0o600)), Ok(there("a", 0o644)), None, Failed(&["mode"])),
        row("owner", file(|e| e.owner = Some((0, 33))), Ok(there("a", 0o644)), None, Passed),
        row("owner, another", file(|e| e.owner = Some((33, 33))), Ok(there("a", 0o644)), None, Failed(&["owner"])),
        row("file as in the baseline", same(), Ok(there("a", 0o644)), Some(there("a", 0o644)), Passed),
        row("file not as in the baseline", same(), Ok(there("bb", 0o600)), Some(there("a", 0o644)), Failed(&["mode", "content"])),
        row("file came", same(), Ok(there("a", 0o644)), Some(gone()), Failed(&["file"])),
        row("file went", same(), Ok(gone()), Some(there("a", 0o644)), Failed(&["file"])),
        row("absent as in the baseline", same(), Ok(gone()), Some(gone()), Passed),
        row("folder as in the baseline", same(), Ok(folder(4096)), Some(folder(8192)), Passed),
        row("folder became a file", same(), Ok(there("a", 0o755)), Some(folder(0)), Failed(&["kind", "owner"])),
        row("file as in the baseline as far as read", same(), Ok(huge("a")), Some(huge("a")), Error),
        row("file without a baseline", same(), Ok(gone()), None, Error),
        row("file unanswered", same(), unanswered("permission denied"), Some(gone()), Failed(&["answer"])),
        row("file undetermined", same(), undetermined("the engine is gone"), Some(gone()), Error),
        row("file, an answer of another kind", same(), Ok(banner("")), Some(gone()), Error),
        row("file asserts nothing", file(|_| ()), Ok(gone()), None, Error),
    ]
}

#[test]
fn every_expectation_is_judged_as_the_table_says() {
    let mut said = String::new();
    for rows in [
        http_rows(),
        tcp_rows(),
        sql_rows(),
        exec_rows(),
        file_rows(),
    ] {
        for row in rows {
            let name = row.name;
            let judgement = judge(
                &test(row.expect),
                &row.seen,
                row.elapsed,
                row.baseline.as_ref(),
            );
            match (&judgement, row.want) {
                (Judgement::Passed, Want::Passed) => {}
                (Judgement::Failed { mismatches, .. }, Want::Failed(whats)) => {
                    let seen: Vec<&str> = mismatches.iter().map(|m| m.what.as_str()).collect();
                    assert_eq!(seen, whats, "{name}");
                }
                (Judgement::Error { .. }, Want::Error) => {}
                (other, _) => panic!("{name}: {other:?}"),
            }
            // Writing into a string cannot fail.
            let _ = match judgement {
                Judgement::Passed => writeln!(said, "{name}: passed"),
                Judgement::Error { message } => writeln!(said, "{name}: error: {message}"),
                Judgement::Failed {
                    message,
                    mismatches,
                } => {
                    let _ = writeln!(said, "{name}: failed: {message}");
                    mismatches.iter().try_for_each(|m| {
                        writeln!(said, "    {} | {} | {}", m.what, m.expected, m.seen)
                    })
                }
            };
        }
    }
    assert!(
        !said.contains(|c: char| c.is_control() && c != '\n'),
        "a control character got through"
    );
    insta::assert_snapshot!(said);
}

#[test]
fn an_expectation_that_any_answer_meets_is_vacuous() {
    let idle = [
        http(|_| ()),
        body(contains("")),
        body(regex("")),
        sql(|_| ()),
        exec(|_| ()),
        file(|_| ()),
    ];
    assert!(idle.iter().all(vacuous));
    let telling = [
        http(|e| e.within = Some(Duration::from_secs(1))),
        body(equals("")),
        tcp(true, None, None),
        sql(|e| e.rows = Some(vec![])),
        exec(|e| e.stderr = vec![lacks("error")]),
        file(|e| e.content = vec![contains("")]),
    ];
    assert!(!telling.iter().any(vacuous));
}

#[test]
fn a_pattern_that_is_found_in_any_text_is_vacuous() {
    for source in [
        ".*", "(?s).*", "(?s)^.*$", "^.*$", "^", "$", "a?", "a*", "()", "x|", r"[\s\S]*", r"\A",
        "[^a]*", "\\w{0,3}",
    ] {
        assert!(vacuous(&body(regex(source))), "/{source}/");
        assert!(
            vacuous(&exec(|e| e.stdout = vec![regex(source)])),
            "/{source}/"
        );
        // Another condition beside it asserts enough.
        assert!(!vacuous(&http(|e| {
            e.body = vec![regex(source)];
            e.status = vec![200];
        })));
    }
    for source in [
        "^$", ".", ".+", "(?s).+", "^[^<]*$", r"^\s*$", r"\d", "ok", "(", "^(ok)?$",
    ] {
        assert!(!vacuous(&body(regex(source))), "/{source}/");
    }
}
