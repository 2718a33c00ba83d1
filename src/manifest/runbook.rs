//! Packages without a manifest: a runbook whose fenced shell blocks are the steps, or a bare script.

mod manual;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use manual::Html;
use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Parser, Tag, TagEnd};

use crate::event::Part;
use crate::manifest::package::{ComponentEntry, PackageManifest, StepEntry};
use crate::manifest::place::{At, Place, Source};
use crate::manifest::problem::{Problems, printable};
use crate::manifest::step::{self, TIMEOUT};
use crate::manifest::suggest;
use crate::manifest::units;
use crate::plan::model::{Action, Shape, Step};

/// Fences with these languages are run.
const SHELLS: [&str; 3] = ["sh", "bash", "shell"];
/// What a fence may say after its language.
const KEYS: [&str; 5] = ["name", "service", "target", "user", "timeout"];
/// The word that makes a block a part of the way back.
const ROLLBACK: &str = "rollback";

/// What a fence's info string says.
struct Info {
    bash: bool,
    name: Option<String>,
    service: Option<At<String>>,
    user: Option<String>,
    timeout: Duration,
    rollback: bool,
}

/// A code block that is being read.
struct Block {
    /// `None` where it is not run.
    info: Option<Info>,
    language: String,
    place: Place,
    text: String,
}

/// Reads `DEPLOY.md`.
pub(crate) fn decode(
    source: &Arc<Source>,
    root: &Path,
    name: &str,
    p: &mut Problems,
) -> PackageManifest {
    let mut steps: Vec<StepEntry> = Vec::new();
    let mut rollback: Vec<StepEntry> = Vec::new();
    let mut document = Vec::new();
    let mut heading = String::new();
    let mut in_heading = false;
    // The level of the heading below which everything is about the way back.
    let mut back: Option<HeadingLevel> = None;
    let mut block: Option<Block> = None;
    let mut manual = Vec::new();
    let mut html = Html::default();
    let mut read_to = 0;
    for (event, range) in Parser::new(&source.text).into_offset_iter() {
        match event {
            Event::Start(Tag::Heading { level, .. }) => {
                heading.clear();
                in_heading = true;
                back = back.filter(|above| level > *above);
            }
            Event::End(TagEnd::Heading(level)) => {
                in_heading = false;
                if back.is_none() && is_about_the_way_back(&heading) {
                    back = Some(level);
                }
            }
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => {
                prose(&mut document, source.text.get(read_to..range.start));
                read_to = range.end;
                let fence = source.text.get(range.start..).unwrap_or_default();
                let end = range.start + fence.find('\n').unwrap_or(fence.len());
                let place = Place::of_range(source, range.start, end);
                block = Some(Block {
                    info: read_info(&info, &place, p),
                    language: info
                        .split_whitespace()
                        .next()
                        .unwrap_or_default()
                        .to_owned(),
                    place,
                    text: String::new(),
                });
            }
            Event::End(TagEnd::CodeBlock) => {
                let Some(Block {
                    info,
                    language,
                    place,
                    text,
                }) = block.take()
                else {
                    continue;
                };
                let Some(info) = info else {
                    document.push(Part::Shown { language, text });
                    continue;
                };
                let is_back = info.rollback || back.is_some();
                let list = if is_back { &mut rollback } else { &mut steps };
                if let Some(step) = add(list, info, place, text, &heading, p) {
                    document.push(Part::Step {
                        step,
                        rollback: is_back,
                    });
                }
            }
            Event::Text(text) => {
                if let Some(block) = &mut block {
                    block.text.push_str(&text);
                } else if in_heading {
                    heading.push_str(&text);
                }
            }
            Event::Html(text) => html.add(&text, range.start),
            Event::End(TagEnd::HtmlBlock) => {
                manual.extend(std::mem::take(&mut html).asked(source));
            }
            Event::InlineHtml(text) => {
                let mut html = Html::default();
                html.add(&text, range.start);
                manual.extend(html.asked(source));
            }
            Event::Code(text) if in_heading => heading.push_str(&text),
            _ => {}
        }
    }
    prose(&mut document, source.text.get(read_to..));
    if steps.is_empty() {
        p.push(
            Place::top(source)
                .problem("the runbook has no step")
                .help("its steps are the fenced code blocks marked `sh`, `bash` or `shell`"),
        );
    }
    let mut made = manifest(Shape::Runbook, name, steps, root, source);
    if let (Some(own), Some(script)) = (rollback.first(), made.rollback.first()) {
        p.push(
            own.place
                .problem(format!(
                    "the runbook says how to go back, and there is a `{}`",
                    script.step.name
                ))
                .help("keep one of them, so that it is clear which is the way back"),
        );
    }
    made.rollback.extend(rollback);
    PackageManifest {
        manual,
        document,
        ..made
    }
}

/// What is written between two blocks. Comments are for the author.
fn prose(document: &mut Vec<Part>, written: Option<&str>) {
    let mut rest = written.unwrap_or_default();
    let mut text = String::new();
    while let Some((before, comment)) = rest.split_once("<!--") {
        text.push_str(before);
        rest = comment.split_once("-->").map_or("", |(_, after)| after);
    }
    text.push_str(rest);
    // The signs of a quotation stand before the fence in it.
    let mut text = text.trim_end();
    while let Some(before) = text.strip_suffix("\n>") {
        text = before.trim_end();
    }
    let text = text.trim_start();
    if !text.is_empty() {
        document.push(Part::Prose {
            text: text.to_owned(),
        });
    }
}

/// `## Rollback`, `## 5. Rolling back`, `### Roll back the schema`; not `## Roll backend`, nor `## Rollback point: ..`.
fn is_about_the_way_back(heading: &str) -> bool {
    let words = heading.trim_start_matches(|c: char| !c.is_alphabetic());
    let words = words.to_lowercase();
    ["rollback", "roll back", "roll-back", "rolling back"]
        .iter()
        .filter_map(|start| words.strip_prefix(start))
        .any(|rest| {
            let inside = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
            let next = rest.split_whitespace().next().unwrap_or_default();
            !rest.starts_with(inside)
                && !matches!(
                    next.trim_end_matches(|c: char| !c.is_alphabetic()),
                    "point" | "points"
                )
        })
}

/// The language of a fence, as it is compared: ```` ```Bash,linenums ```` is `bash`.
fn language_of(info: &str) -> String {
    let word = info.split_whitespace().next().unwrap_or_default();
    let language = word.split([',', '{']).next().unwrap_or_default();
    language.to_lowercase()
}

/// Reads `deploy.sh`, which is one step.
pub(crate) fn script(source: &Arc<Source>, root: &Path, name: &str) -> PackageManifest {
    let step = run(
        "deploy.sh".to_owned(),
        start(root, "deploy.sh"),
        Place::top(source),
    );
    manifest(Shape::Script, name, vec![step], root, source)
}

pub(crate) fn manifest(
    shape: Shape,
    name: &str,
    steps: Vec<StepEntry>,
    root: &Path,
    source: &Arc<Source>,
) -> PackageManifest {
    let back = root.join("rollback.sh").is_file();
    let rollback = back.then(|| {
        let shown_as = source.path.with_file_name("rollback.sh");
        run(
            "rollback.sh".to_owned(),
            start(root, "rollback.sh"),
            Place::unread(&shown_as),
        )
    });
    PackageManifest {
        name: name.to_owned(),
        version: None,
        shape,
        parameters: Vec::new(),
        secrets: Vec::new(),
        components: vec![ComponentEntry {
            name: At::new(name.to_owned(), Place::top(source)),
            after: Vec::new(),
            steps,
        }],
        rollback: rollback.into_iter().collect(),
        manual: Vec::new(),
        document: Vec::new(),
        declares_schema: Vec::new(),
        declares: Default::default(),
        rollback_leaves: Vec::new(),
    }
}

/// A script that may be executed is, by its own first line; any other is read by `sh`.
fn start(root: &Path, script: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let executable = std::fs::metadata(root.join(script))
        .is_ok_and(|meta| meta.permissions().mode() & 0o100 != 0);
    if executable {
        format!("./{script}")
    } else {
        format!("sh ./{script}")
    }
}

fn run(name: String, script: String, place: Place) -> StepEntry {
    StepEntry {
        step: Step {
            name,
            action: Action::Run {
                script,
                service: None,
                user: None,
            },
            timeout: TIMEOUT,
            expect_exit: 0,
            retries: 0,
            location: place.location(),
        },
        service: None,
        host: None,
        uses: Vec::new(),
        default_user: false,
        place,
    }
}

/// `None` where the block is not a step.
fn read_info(info: &str, place: &Place, p: &mut Problems) -> Option<Info> {
    let language = language_of(info);
    if !SHELLS.contains(&language.as_str()) {
        return None;
    }
    let mut read = Info {
        bash: language == "bash",
        name: None,
        service: None,
        user: None,
        timeout: TIMEOUT,
        rollback: false,
    };
    let (mut service, mut target) = (None, None);
    let Some(words) = shlex::split(info) else {
        p.push(place.problem("the quotes behind this fence do not match"));
        return Some(read);
    };
    for word in words.into_iter().skip(1) {
        if word == ROLLBACK {
            read.rollback = true;
            continue;
        }
        let (key, value) = word.split_once('=').unwrap_or((&word, ""));
        if KEYS.contains(&key) && value.trim().is_empty() {
            p.push(place.problem(format!("`{key}` has no value")));
            continue;
        }
        match key {
            "name" => read.name = Some(value.trim().to_owned()),
            "service" => service = Some(At::new(value.to_owned(), place.clone())),
            "target" => target = Some(At::new(value.to_owned(), place.clone())),
            "user" => read.user = Some(value.to_owned()),
            "timeout" => match units::duration(value).filter(|d| !d.is_zero()) {
                Some(timeout) => read.timeout = timeout,
                None => p.push(place.problem(format!(
                    "`{value}` is not a duration such as `30s` or `10m`"
                ))),
            },
            ROLLBACK => p.push(place.problem(format!("`{ROLLBACK}` stands alone"))),
            other => p.push(
                place
                    .problem(format!("`{other}` means nothing behind a fence"))
                    .maybe_help(suggest::help(
                        other,
                        KEYS.into_iter().chain([ROLLBACK]).collect::<Vec<_>>(),
                        "known",
                    )),
            ),
        }
    }
    if service.is_some() && target.is_some() {
        p.push(step::both(place));
    }
    read.service = step::runs_in(service, target);
    Some(read)
}

/// Adds a step and returns its name; `None` where there is nothing in it.
fn add(
    steps: &mut Vec<StepEntry>,
    info: Info,
    place: Place,
    script: String,
    heading: &str,
    p: &mut Problems,
) -> Option<String> {
    if script.trim().is_empty() {
        p.push(place.problem("this block is empty"));
        return None;
    }
    let base = match (&info.name, heading.trim()) {
        (Some(name), _) => name.clone(),
        (None, "") => format!("step {}", steps.len() + 1),
        (None, heading) => heading.to_owned(),
    };
    let base = printable(&base);
    let taken = |name: &str| steps.iter().any(|s| s.step.name == name);
    if info.name.is_some() && taken(&base) {
        p.push(place.problem(format!("a second step is called `{base}`")));
    }
    let name = std::iter::once(base.clone())
        .chain((2..).map(|n| format!("{base} ({n})")))
        .find(|name| !taken(name))
        .unwrap_or(base);
    // The admin would paste a `bash` block into bash; `sh` may be another shell.
    let script = match shlex::try_quote(&script) {
        Ok(quoted) if info.bash => format!("exec bash -e -c {quoted}"),
        _ => script,
    };
    let mut step = run(name.clone(), script, place);
    step.step.timeout = info.timeout;
    step.step.action = match step.step.action {
        Action::Run { script, .. } => Action::Run {
            script,
            service: info.service.as_ref().map(|s| s.value.clone()),
            user: info.user,
        },
        other => other,
    };
    step.service = info.service;
    steps.push(step);
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: impl Into<String>) -> (PackageManifest, Problems) {
        let source = Arc::new(Source {
            path: "DEPLOY.md".into(),
            text: text.into(),
        });
        let mut p = Problems::new();
        let root = tempfile::tempdir().unwrap();
        let manifest = decode(&source, root.path(), "x", &mut p);
        (manifest, p)
    }

    #[test]
    fn a_block_runs_where_its_target_says_as_its_user() {
        for (fence, service) in [
            ("sh target=app user=cms", Some("app")),
            ("sh service=app user=cms", Some("app")),
            ("sh target=bastion user=cms", None),
        ] {
            let (manifest, p) = read(format!("```{fence}\ncms warm\n```\n"));
            assert_eq!(p, Problems::new(), "{fence}");
            let entry = &manifest.components[0].steps[0];
            assert_eq!(
                entry.step.action,
                Action::Run {
                    script: "cms warm\n".to_owned(),
                    service: service.map(str::to_owned),
                    user: Some("cms".to_owned()),
                },
                "{fence}"
            );
            let named = entry.service.as_ref().map(|at| at.value.as_str());
            assert_eq!(named, service, "{fence}");
        }
        let (_, p) = read("```sh service=app target=web\ntrue\n```\n");
        let said = p.to_string();
        assert_eq!(p.0.len(), 1, "{said}");
        assert!(
            said.contains("DEPLOY.md:1:1: error: the step has both `service` and `target`"),
            "{said}"
        );
    }

    #[test]
    fn what_a_person_is_asked_may_stand_in_several_lines() {
        let table: &[(&str, &[(usize, &str)])] = &[
            (
                "<!-- rehearse:manual tell the warehouse -->\n",
                &[(5, "tell the warehouse")],
            ),
            (
                "<!-- rehearse:manual tell the\nwarehouse -->\n",
                &[(5, "tell the warehouse")],
            ),
            (
                "<!--\nrehearse:manual\n  tell the\n\n  warehouse\n-->\n",
                &[(5, "tell the warehouse")],
            ),
            (
                "> <!-- rehearse:manual: tell\r\n> the warehouse\r\n> -->\r\n",
                &[(5, "tell the warehouse")],
            ),
            (
                "Then <!-- rehearse:manual tell\nthe warehouse --> go on.\n",
                &[(5, "tell the warehouse")],
            ),
            (
                "<!-- rehearse:manual one --> <!-- rehearse:manual two -->\n\n<!-- rehearse:manual -->\n",
                &[(5, "one"), (5, "two"), (7, "something that is not said")],
            ),
            (
                "<div>\n<!-- rehearse:manual tell\nthe warehouse -->\n</div>\n",
                &[(6, "tell the warehouse")],
            ),
            ("<!-- a remark\nabout nothing -->\n", &[]),
        ];
        for (written, expected) in table {
            let (manifest, p) = read(format!("```sh\ntrue\n```\n\n{written}"));
            assert_eq!(p, Problems::new(), "{written}");
            let asked: Vec<(usize, &str)> = manifest
                .manual
                .iter()
                .map(|asked| (asked.place.location().line, asked.value.as_str()))
                .collect();
            assert_eq!(asked, *expected, "{written}");
        }
    }

    #[test]
    fn a_heading_is_the_way_back_by_whole_words() {
        for (heading, is_back) in [
            ("Rollback", true),
            ("5. Rolling back", true),
            ("Roll back the schema", true),
            ("Rollback: if it fails", true),
            ("Rollback (if it fails)", true),
            ("Roll-back plan", true),
            ("Roll backend", false),
            ("Rolling backups", false),
            ("Rollback-safe migration", false),
            ("Rollback point: before the migration", false),
            ("Roll the app", false),
        ] {
            assert_eq!(is_about_the_way_back(heading), is_back, "{heading}");
        }
    }

    #[test]
    fn the_language_of_a_fence_is_read_as_it_is_written_elsewhere() {
        for (info, language) in [
            ("bash", "bash"),
            ("Bash name=x", "bash"),
            ("bash,linenums", "bash"),
            ("sh{1,3}", "sh"),
            ("console", "console"),
            ("{.bash}", ""),
            ("", ""),
        ] {
            assert_eq!(language_of(info), language, "{info}");
        }
    }
}
