//! What a tool or a server says itself, without what it repeats of the data: what stands there is nobody's trouble.

/// How PostgreSQL begins the lines in which it repeats statements and rows, or says more of the line before.
const REPEATED: [&str; 5] = ["CONTEXT", "DETAIL", "STATEMENT", "HINT", "QUERY"];

/// How PostgreSQL begins its messages, behind whatever its log or its client writes before them.
const SEVERITIES: [&str; 7] = [
    "ERROR:  ",
    "FATAL:  ",
    "PANIC:  ",
    "WARNING:  ",
    "LOG:  ",
    "NOTICE:  ",
    "INFO:  ",
];

/// What the system says where there is no room or memory. Of a single file it stands behind the last colon.
const SYSTEM: [&str; 3] = [
    "no space left on device",
    "disk quota exceeded",
    "cannot allocate memory",
];

/// The lines that are a program's own words, in lower case.
pub(super) fn own(text: &str) -> Vec<String> {
    let mut own = Vec::new();
    // Values go on in the next line where they have line breaks.
    let mut repeats = false;
    for line in text.lines() {
        if line.starts_with('\t') || (repeats && !begins(line)) {
            continue;
        }
        if is_repeated(line) {
            repeats = true;
            continue;
        }
        if line.starts_with('{') && line.contains("\"message_type\"") {
            own.extend(of_json(line));
            continue;
        }
        if let Some(complaint) = line.strip_prefix("ignoring error for ") {
            own.extend(of_file(complaint));
            continue;
        }
        let severity = SEVERITIES
            .iter()
            .filter_map(|severity| Some(line.find(severity)? + severity.len()))
            .min();
        repeats = false;
        own.push(match severity {
            Some(at) => {
                let (said, open) = around(&line[at..], '"');
                repeats = open;
                format!("{} {said}", unquoted(&line[..at])).to_lowercase()
            }
            None if is_of_mysql(line) => unquoted(&around(line, '\'').0).to_lowercase(),
            None => unquoted(line).to_lowercase(),
        });
    }
    own
}

/// What a complaint about a single file says of the system: all else may be the file's name.
fn of_file(complaint: &str) -> Option<String> {
    let lower = complaint.trim().to_lowercase();
    let last = lower.rsplit(": ").next().unwrap_or_default();
    SYSTEM.contains(&last).then(|| last.to_owned())
}

/// True for a line that begins a message of its own, and is not the rest of a value.
fn begins(line: &str) -> bool {
    let tool = line.split(':').next().unwrap_or_default();
    let is_tool = tool.len() < line.len()
        && !tool.is_empty()
        && tool
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-' | '/'));
    is_tool || is_repeated(line) || SEVERITIES.iter().any(|severity| line.contains(severity))
}

/// True for a line that repeats what is in the data, or that the data wrote itself (`RAISE NOTICE`).
fn is_repeated(line: &str) -> bool {
    let repeated = REPEATED.iter().any(|word| {
        let short = line
            .strip_prefix(word)
            .is_some_and(|rest| rest.starts_with(": "));
        short || line.contains(&format!("{word}:  "))
    });
    // With `log_statement` and its like.
    let logged = line.split_once("LOG:  ").is_some_and(|(_, said)| {
        said.starts_with("execute ") || said.contains("statement: ") || said.contains(" execute ")
    });
    let position = line
        .strip_prefix("LINE ")
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let of_tool = line.split_once(": ").is_some_and(|(tool, said)| {
        !tool.contains(' ') && (said.starts_with("detail: ") || said.starts_with("hint: "))
    });
    repeated
        || logged
        || position
        || of_tool
        || line.contains("NOTICE:  ")
        || line.contains("INFO:  ")
        || line.trim_start().starts_with("Command was: ")
}

/// `ERROR 1366 (22007) at line 5: Incorrect integer value: 'x' for column ..`
fn is_of_mysql(line: &str) -> bool {
    line.strip_prefix("ERROR ")
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// What stands before the first and behind the last quote: values are not escaped, so a quote between them may be the
/// value's own. True where the value does not end in this line.
fn around(line: &str, quote: char) -> (String, bool) {
    let open = line.matches(quote).count() % 2 == 1;
    let Some((before, _)) = line.split_once(quote) else {
        return (line.to_owned(), false);
    };
    // An apostrophe is a quote as well, so what stands behind is kept for MySQL, whose values have no line breaks.
    let behind = match line.rsplit_once(quote) {
        Some((_, behind)) if !open || quote == '\'' => behind,
        Some(_) | None => "",
    };
    (format!("{before} {behind}"), open && quote == '"')
}

/// Without what stands between double quotes; but `error 28 "No space left on device"` is what the system says.
pub(super) fn unquoted(line: &str) -> String {
    let mut own = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('"') {
        own.push_str(before);
        let Some((value, behind)) = after.split_once('"') else {
            rest = after;
            break;
        };
        let mut last = own.chars().rev();
        if last.next() == Some(' ') && last.next().is_some_and(|c| c.is_ascii_digit()) {
            own.push_str(value);
        }
        rest = behind;
    }
    own.push_str(rest);
    own
}

/// The message of a line of restic's: the names of files stand beside it.
fn of_json(line: &str) -> Option<String> {
    let told: serde_json::Value = serde_json::from_str(line).ok()?;
    if told["message_type"] == "error" {
        return of_file(told["error"]["message"].as_str()?);
    }
    Some(told["message"].as_str()?.trim().to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_not_a_programs_own_word() {
        for (text, expected) in [
            ("plain", vec!["plain"]),
            (
                "ERROR:  bad value: \"{\"a\": \"x y\"}\"\nLINE 1: z",
                vec!["error:   bad value:  "],
            ),
            // What goes on in the next lines does so until something else is said.
            (
                "ERROR:  bad value: \"x\ny\nz\"\npsql: error: lost",
                vec!["error:   bad value:  ", "psql: error: lost"],
            ),
            (
                "DETAIL:  Key (a)=(x\ny) exists\nERROR:  next",
                vec!["error:   next"],
            ),
            (
                "ERROR 1062 (23000) at line 3: Duplicate entry 'it's x' for key",
                vec!["error 1062 (23000) at line 3: duplicate entry   for key"],
            ),
            ("got error 28 \"x\" from it", vec!["got error 28 x from it"]),
            ("ignoring error for /a: b: disk full.txt", vec![]),
            (
                "ignoring error for /a: write /a: no space left on device",
                vec!["no space left on device"],
            ),
            (
                r#"{"message_type":"status","current_files":["/disk full"]}"#,
                vec![],
            ),
        ] {
            assert_eq!(own(text), expected, "{text}");
        }
    }
}
