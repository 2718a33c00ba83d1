//! The guard against tests that cannot fail.

use super::model::{Expect, TextMatch};
use super::text::compile;

/// A pattern that is found in every one of these is taken to be found in any text: in nothing at all, in characters
/// that no answer has, and in each that a keyboard has, which tells `.*` from `^[^<]*$`.
const UNLIKE: [&str; 3] = [
    "",
    "\u{e000}\u{16a0}\u{e001}",
    " !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~",
];

/// True where an expectation asserts nothing: no condition at all, or only conditions that any text meets.
pub fn vacuous(expect: &Expect) -> bool {
    let all = |conditions: &[TextMatch]| conditions.iter().all(idle);
    match expect {
        Expect::Http(http) => {
            http.status.is_empty()
                && http.headers.is_empty()
                && all(&http.body)
                && http.json.is_empty()
                && http.within.is_none()
                && !http.same_as_baseline
        }
        // Whether the port is open is asserted by its very type.
        Expect::Tcp(_) => false,
        Expect::Sql(sql) => {
            sql.rows.is_none()
                && sql.row_count.is_none()
                && sql.within.is_none()
                && !sql.same_as_baseline
        }
        Expect::Exec(exec) => {
            exec.exit_code.is_none()
                && all(&exec.stdout)
                && all(&exec.stderr)
                && exec.within.is_none()
                && !exec.same_as_baseline
        }
        Expect::Emulator(expect) => super::emulator::idle(expect),
        Expect::File(file) => {
            file.exists.is_none()
                && file.content.is_empty()
                && file.sha256.is_none()
                && file.mode.is_none()
                && file.owner.is_none()
                && !file.same_as_baseline
        }
    }
}

/// True where every text meets the condition. A condition on a header or on a file's content still asserts that
/// there is one, which is why those are not asked.
fn idle(condition: &TextMatch) -> bool {
    match condition {
        TextMatch::Contains(part) => part.is_empty(),
        // A pattern that is not sound is reported as that.
        TextMatch::Regex(source) => {
            compile(source).is_ok_and(|regex| UNLIKE.iter().all(|text| regex.is_match(text)))
        }
        TextMatch::Equals(_) | TextMatch::Lacks(_) => false,
    }
}
