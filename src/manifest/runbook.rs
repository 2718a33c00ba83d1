//! Packages without a manifest: a runbook whose fenced shell blocks are the steps, or a bare script.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag, TagEnd};

use crate::manifest::package::{ComponentEntry, PackageManifest, StepEntry};
use crate::manifest::place::{At, Place, Source};
use crate::manifest::problem::{Problems, printable};
use crate::manifest::step::TIMEOUT;
use crate::manifest::suggest;
use crate::manifest::units;
use crate::plan::model::{Action, Shape, Step};

/// Fences with these languages are run.
const SHELLS: [&str; 3] = ["sh", "bash", "shell"];
/// What a fence may say after its language.
const KEYS: [&str; 5] = ["name", "service", "target", "user", "timeout"];

/// What a fence's info string says.
struct Info {
    bash: bool,
    name: Option<String>,
    service: Option<At<String>>,
    user: Option<String>,
    timeout: Duration,
}

/// Reads `DEPLOY.md`.
pub(crate) fn decode(
    source: &Arc<Source>,
    root: &Path,
    name: &str,
    p: &mut Problems,
) -> PackageManifest {
    let mut steps: Vec<StepEntry> = Vec::new();
    let mut heading = String::new();
    let mut in_heading = false;
    let mut block: Option<(Info, Place, String)> = None;
    let mut manual = Vec::new();
    for (event, range) in Parser::new(&source.text).into_offset_iter() {
        match event {
            Event::Start(Tag::Heading { .. }) => {
                heading.clear();
                in_heading = true;
            }
            Event::End(TagEnd::Heading(_)) => in_heading = false,
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => {
                let fence = source.text.get(range.start..).unwrap_or_default();
                let end = range.start + fence.find('\n').unwrap_or(fence.len());
                let place = Place::of_range(source, range.start, end);
                block = read_info(&info, &place, p).map(|info| (info, place, String::new()));
            }
            Event::End(TagEnd::CodeBlock) => {
                if let Some((info, place, script)) = block.take() {
                    add(&mut steps, info, place, script, &heading, p);
                }
            }
            Event::Text(text) => {
                if let Some((.., script)) = &mut block {
                    script.push_str(&text);
                } else if in_heading {
                    heading.push_str(&text);
                }
            }
            Event::Html(text) | Event::InlineHtml(text) => {
                let place = Place::of_range(source, range.start, range.end);
                manual.extend(asked(&text).map(|what| At::new(what, place)));
            }
            Event::Code(text) if in_heading => heading.push_str(&text),
            _ => {}
        }
    }
    if steps.is_empty() {
        p.push(
            Place::top(source)
                .problem("the runbook has no step")
                .help("its steps are the fenced code blocks marked `sh`, `bash` or `shell`"),
        );
    }
    PackageManifest {
        manual,
        ..manifest(Shape::Runbook, name, steps, root, source)
    }
}

/// `<!-- rehearse:manual tell the warehouse -->`: what a person is asked to do, where nothing else can do it.
fn asked(comment: &str) -> Option<String> {
    let (_, what) = comment.split_once("rehearse:manual")?;
    let what = what.split("-->").next().unwrap_or_default();
    let what = printable(what.trim_matches(|c: char| c.is_whitespace() || c == ':'));
    Some(if what.is_empty() {
        "something that is not said".to_owned()
    } else {
        what
    })
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

fn manifest(
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
        declares_schema: Vec::new(),
        max_rollback: None,
        rollback_leaves: Vec::new(),
    }
}

/// A script that may be executed is, by its own first line; any other is read by `sh`.
fn start(root: &Path, script: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let executable = std::fs::metadata(root.join(script))
        .is_ok_and(|meta| meta.permissions().mode() & 0o111 != 0);
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
    let language = info.split_whitespace().next().unwrap_or_default();
    if !SHELLS.contains(&language) {
        return None;
    }
    let mut read = Info {
        bash: language == "bash",
        name: None,
        service: None,
        user: None,
        timeout: TIMEOUT,
    };
    let Some(words) = shlex::split(info) else {
        p.push(place.problem("the quotes behind this fence do not match"));
        return Some(read);
    };
    for word in words.into_iter().skip(1) {
        let (key, value) = word.split_once('=').unwrap_or((&word, ""));
        if KEYS.contains(&key) && value.trim().is_empty() {
            p.push(place.problem(format!("`{key}` has no value")));
            continue;
        }
        match key {
            "name" => read.name = Some(value.trim().to_owned()),
            "service" | "target" => read.service = Some(At::new(value.to_owned(), place.clone())),
            "user" => read.user = Some(value.to_owned()),
            "timeout" => match units::duration(value).filter(|d| !d.is_zero()) {
                Some(timeout) => read.timeout = timeout,
                None => p.push(place.problem(format!(
                    "`{value}` is not a duration such as `30s` or `10m`"
                ))),
            },
            other => p.push(
                place
                    .problem(format!("`{other}` means nothing behind a fence"))
                    .maybe_help(suggest::help(other, KEYS, "known")),
            ),
        }
    }
    Some(read)
}

fn add(
    steps: &mut Vec<StepEntry>,
    info: Info,
    place: Place,
    script: String,
    heading: &str,
    p: &mut Problems,
) {
    if script.trim().is_empty() {
        p.push(place.problem("this block is empty"));
        return;
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
    let mut step = run(name, script, place);
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
}
