//! Judges a command that ended.

use std::time::Duration;

use super::findings::Findings;
use super::model::{ExecExpect, Observation, SEEN_LIMIT};
use super::text::Text;

/// Exit code, both outputs, time, baseline.
pub(super) fn judge(
    expect: &ExecExpect,
    observation: &Observation,
    elapsed: Duration,
    baseline: Option<&Observation>,
    findings: &mut Findings,
) {
    let Observation::Exec {
        exit_code,
        stdout,
        stderr,
    } = observation
    else {
        return findings.wrong_kind("exec", observation);
    };
    // The baseline brings its own exit code; everything else is expected of a command that succeeded.
    let wanted = match (expect.exit_code, expect.same_as_baseline) {
        (Some(code), _) => Some(code),
        (None, true) => None,
        (None, false) => Some(0),
    };
    if let Some(wanted) = wanted
        && wanted != *exit_code
    {
        let mut seen = exit_code.to_string();
        if let Some(last) = last_line(stderr).or_else(|| last_line(stdout)) {
            seen.push_str(&format!(", last line {}", super::show::quoted(last)));
        }
        findings.differs("exit code", wanted.to_string(), seen);
    }
    for condition in &expect.stdout {
        findings.text("stdout", condition, output(stdout));
    }
    for condition in &expect.stderr {
        findings.text("stderr", condition, output(stderr));
    }
    findings.within(expect.within, elapsed);
    if expect.same_as_baseline {
        match baseline {
            None => findings.no_baseline(),
            Some(Observation::Exec {
                exit_code: then,
                stdout: before,
                ..
            }) => {
                if then != exit_code {
                    findings.differs(
                        "exit code",
                        format!("as in the baseline: {then}"),
                        exit_code.to_string(),
                    );
                }
                findings.same_text("stdout", output(before), output(stdout));
            }
            Some(other) => findings.wrong_kind("exec", other),
        }
    }
}

/// An output that fills the limit is taken as cut there.
fn output(text: &str) -> Text<'_> {
    Text {
        text,
        cut: text.len() >= SEEN_LIMIT,
    }
}

fn last_line(text: &str) -> Option<&str> {
    text.lines()
        .map(str::trim_end)
        .rfind(|line| !line.is_empty())
}
