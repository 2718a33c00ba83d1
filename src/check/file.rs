//! Judges a file, or its absence.

use super::findings::Findings;
use super::model::{FileExpect, FileSeen, Observation, SEEN_LIMIT};
use super::show;
use super::text::Text;

/// Existence, content, digest, permissions, owner, baseline.
pub(super) fn judge(
    expect: &FileExpect,
    observation: &Observation,
    baseline: Option<&Observation>,
    findings: &mut Findings,
) {
    let Observation::File(seen) = observation else {
        return findings.wrong_kind("file", observation);
    };
    match seen {
        None => absent(expect, findings),
        Some(file) => present(expect, file, findings),
    }
    if expect.same_as_baseline {
        match baseline {
            None => findings.no_baseline(),
            Some(Observation::File(before)) => match (before, seen) {
                (None, None) => {}
                (Some(before), Some(now)) => same(before, now, findings),
                (None, Some(now)) => {
                    findings.differs("file", "as in the baseline: absent", describe(now));
                }
                (Some(before), None) => {
                    let before = describe(before);
                    findings.differs("file", format!("as in the baseline: {before}"), "absent");
                }
            },
            Some(other) => findings.wrong_kind("file", other),
        }
    }
}

/// Whatever is expected of a file's inside is false where there is none.
fn absent(expect: &FileExpect, findings: &mut Findings) {
    let asks = expect.exists == Some(true)
        || !expect.content.is_empty()
        || expect.sha256.is_some()
        || expect.mode.is_some()
        || expect.owner.is_some();
    if asks {
        findings.differs("file", "to be there", "absent");
    }
}

fn present(expect: &FileExpect, file: &FileSeen, findings: &mut Findings) {
    if expect.exists == Some(false) {
        findings.differs("file", "absent", describe(file));
    }
    for condition in &expect.content {
        match &file.text {
            Some(text) => findings.text("content", condition, content(file, text)),
            None if file.kind == "file" => {
                findings.unknown("content: it was not read");
            }
            None => findings.differs("content", "a file's content", describe(file)),
        }
    }
    if let Some(wanted) = &expect.sha256 {
        match &file.sha256 {
            Some(digest) if digest.eq_ignore_ascii_case(wanted) => {}
            Some(digest) => findings.differs("sha256", wanted, digest),
            None if file.kind == "file" => findings.unknown("sha256: it was not computed"),
            None => findings.differs("sha256", wanted, describe(file)),
        }
    }
    if let Some(wanted) = expect.mode
        && wanted != file.mode
    {
        findings.differs("mode", octal(wanted), octal(file.mode));
    }
    if let Some((uid, gid)) = expect.owner
        && (uid, gid) != (file.uid, file.gid)
    {
        findings.differs(
            "owner",
            format!("{uid}:{gid}"),
            format!("{}:{}", file.uid, file.gid),
        );
    }
}

/// A folder's size is its file system's affair and says nothing about what is in it.
fn same(before: &FileSeen, now: &FileSeen, findings: &mut Findings) {
    let mut compare = |what: &str, before: String, now: String| {
        if before != now {
            findings.differs(what, format!("as in the baseline: {before}"), now);
        }
    };
    compare("kind", before.kind.clone(), now.kind.clone());
    compare("mode", octal(before.mode), octal(now.mode));
    compare(
        "owner",
        format!("{}:{}", before.uid, before.gid),
        format!("{}:{}", now.uid, now.gid),
    );
    if before.kind != "file" || now.kind != "file" {
        if let (Some(before), Some(now)) = (&before.text, &now.text) {
            findings.same_text("content", Text::whole(before), Text::whole(now));
        }
        return;
    }
    match (&before.sha256, &now.sha256, &before.text, &now.text) {
        (Some(a), Some(b), _, _) if a == b => {}
        (_, _, Some(a), Some(b)) if a != b => {
            findings.same_text("content", content(before, a), content(now, b));
        }
        (Some(a), Some(b), _, _) => {
            findings.differs("content", format!("as in the baseline: sha256 {a}"), b);
        }
        (_, _, Some(a), Some(b)) => {
            findings.same_text("content", content(before, a), content(now, b));
        }
        (_, _, _, _) => findings.unknown("content: it was not read"),
    }
}

fn content<'a>(file: &FileSeen, text: &'a str) -> Text<'a> {
    Text {
        text,
        cut: usize::try_from(file.size).map_or(true, |size| size > SEEN_LIMIT),
    }
}

fn octal(mode: u32) -> String {
    format!("{mode:04o}")
}

fn describe(file: &FileSeen) -> String {
    format!("a {} of {} bytes", show::visible(&file.kind), file.size)
}
