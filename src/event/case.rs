//! A test case and how it ended.

use serde::{Deserialize, Serialize};

/// The result of one test case, in the three words of the glossary and two more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CaseStatus {
    /// Every expectation was seen to be true.
    Passed,
    /// An expectation was false.
    Failed,
    /// It could not be determined.
    Error,
    /// It was not reached. Never counts as passed.
    Skipped,
    /// An expectation of a `severity: warn` test was false.
    Warned,
}

/// One expectation that did not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mismatch {
    /// What was looked at: `status`, `header content-type`, `body`, `exit code`, `rows`.
    pub what: String,
    /// What the file asked for.
    pub expected: String,
    /// What was seen, shortened to something a person can read.
    pub seen: String,
}

/// One test case, of the test plan or of a stage's own suite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// The suite it belongs to: a stage's name, or `<stage>.<test plan>`.
    pub suite: String,
    /// Unique within its suite.
    pub name: String,
    /// How it ended.
    pub status: CaseStatus,
    /// Seconds it took.
    pub seconds: f64,
    /// One line for failed, error, skipped and warned cases; for a passed one, an optional figure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The expectations that were false.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mismatches: Vec<Mismatch>,
    /// The component of the package that is the likely cause, where one can be named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// Where the case is written: `testplans/site.yaml:12:5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Output worth keeping beside the case (a step's last lines, a response's body).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Files of the run's folder that show more, relative to that folder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
}

/// Which of a process's two outputs a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}
