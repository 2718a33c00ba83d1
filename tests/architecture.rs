//! The invariants of `ARCHITECTURE.md` that can be read off the sources: who may know whom, who may do what.

use std::fs;
use std::path::Path;

/// What must not be written where.
struct Rule {
    /// The invariant.
    says: &'static str,
    /// Files or folders below `src/` that it is about; all of them where this is empty.
    within: &'static [&'static str],
    /// Files or folders that may do it.
    except: &'static [&'static str],
    /// Words of the language, as they are written.
    never: &'static [&'static str],
}

const PURE: &[&str] = &[
    "plan/",
    "check/",
    "verdict.rs",
    "verdict/",
    "event.rs",
    "event/",
];

const RULES: &[Rule] = &[
    Rule {
        says: "the engine API has one door",
        within: &[],
        except: &["engine/"],
        never: &["bollard"],
    },
    Rule {
        says: "plan, check and verdict do no I/O",
        within: PURE,
        except: &[],
        never: &[
            "std::fs",
            "fs::",
            "std::net::TcpStream",
            "std::net::UdpSocket",
            "tokio",
            "tempfile",
            "std::process",
            "std::thread",
            "canonicalize",
            "read_dir",
            "read_link",
            "metadata",
            "exists()",
            "is_file",
            "is_dir",
        ],
    },
    Rule {
        says: "plan, check, verdict and the gate are told the time",
        within: &[
            "plan/",
            "check/",
            "verdict.rs",
            "verdict/",
            "event.rs",
            "event/",
            "gate.rs",
        ],
        except: &[],
        never: &[
            "Timestamp::now",
            "Zoned::now",
            "Instant::now",
            "SystemTime",
            // A generator that is given its seed draws nothing by itself.
            "Rng::new",
            "Rng::default",
            "fastrand::bool",
            "fastrand::choice",
            "fastrand::choose",
            "fastrand::i",
            "fastrand::shuffle",
            "fastrand::u",
        ],
    },
    Rule {
        says: "plan, check and verdict know no engine and nothing that runs",
        within: PURE,
        except: &[],
        never: &[
            "crate::agent",
            "crate::engine",
            "crate::report",
            "crate::restore",
            "crate::stage",
            "crate::staging",
            "crate::state",
        ],
    },
    Rule {
        says: "reports, the verdict and the gate fold events: they know no stage and no engine",
        within: &[
            "report/",
            "verdict.rs",
            "verdict/",
            "gate.rs",
            "event.rs",
            "event/",
        ],
        except: &[],
        never: &[
            "crate::agent",
            "crate::engine",
            "crate::manifest",
            "crate::plan",
            "crate::restore",
            "crate::stage",
            "crate::staging",
            "crate::state",
        ],
    },
    Rule {
        says: "files can be checked without an engine",
        within: &["manifest/", "package/", "archive/", "backup/"],
        except: &[],
        never: &[
            "crate::agent",
            "crate::engine",
            "crate::report",
            "crate::stage",
            "crate::staging",
            "crate::state",
        ],
    },
    Rule {
        says: "the engine and the state know no stage",
        within: &["engine/", "state/", "agent/"],
        except: &[],
        never: &[
            "crate::report",
            "crate::stage",
            "crate::staging",
            "crate::verdict",
        ],
    },
    Rule {
        says: "what stages drive knows no stage",
        within: &["restore/", "staging/"],
        except: &[],
        never: &["crate::gate", "crate::stage", "crate::verdict"],
    },
    Rule {
        says: "the history and notifications know records: no stage and no engine",
        within: &["history/", "notify/"],
        except: &[],
        never: &[
            "crate::agent",
            "crate::engine",
            "crate::manifest",
            "crate::plan",
            "crate::restore",
            "crate::stage",
            "crate::staging",
            "crate::state",
        ],
    },
    Rule {
        says: "the history's database has one door, and others are only read at their source",
        within: &[],
        except: &["history/", "source/sqlite.rs"],
        never: &["rusqlite"],
    },
    Rule {
        says: "only the commands and the reports write to the terminal",
        within: &[],
        // The agent's standard output is its protocol.
        except: &["agent/", "cli/", "report/"],
        never: &[
            "println!",
            "print!",
            "eprintln!",
            "eprint!",
            "stdout()",
            "stderr()",
        ],
    },
    Rule {
        says: "only the commands read the environment",
        within: &[],
        except: &["cli/", "main.rs"],
        never: &[
            "std::env",
            "env::var",
            "env::args",
            "current_dir",
            "home_dir",
        ],
    },
    Rule {
        says: "no other program is started but the demo's script",
        within: &[],
        except: &["cli/sample.rs"],
        never: &["process::Command", "Command::new"],
    },
    Rule {
        says: "nothing of the library imports the commands",
        within: &[],
        except: &["cli/", "main.rs"],
        never: &["crate::cli"],
    },
    Rule {
        says: "imports from the crate's root stand alone, so that these rules can read them",
        within: &[],
        except: &[],
        never: &["crate::{", "crate::*"],
    },
];

/// The rules that a source breaks, as `file:line: rule`. Comments and tests may say what they like.
fn broken(file: &str, source: &str) -> Vec<String> {
    let is_in = |places: &[&str]| {
        places
            .iter()
            .any(|place| file == *place || (place.ends_with('/') && file.starts_with(place)))
    };
    let mut found = Vec::new();
    let mut lines = source.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        if line == "#[cfg(test)]"
            && lines
                .peek()
                .is_some_and(|(_, next)| next.starts_with("mod tests {"))
        {
            break;
        }
        if line.trim_start().starts_with("//") {
            continue;
        }
        for rule in RULES {
            if !(rule.within.is_empty() || is_in(rule.within)) || is_in(rule.except) {
                continue;
            }
            for word in rule.never.iter().filter(|word| holds(line, word)) {
                found.push(format!(
                    "src/{file}:{}: `{word}`: {}",
                    number + 1,
                    rule.says
                ));
            }
        }
    }
    found
}

/// Whether a word stands in a line, and is not part of a longer one.
fn holds(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    // A module can also be reached from beside it.
    let beside = word
        .strip_prefix("crate::")
        .filter(|module| module.starts_with(char::is_alphabetic))
        .map(|module| format!("super::{module}"));
    [Some(word.to_owned()), beside]
        .iter()
        .flatten()
        .any(|word| {
            line.match_indices(word.as_str()).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                let after = line[at + word.len()..].chars().next();
                let opens = word.starts_with(part) && before.is_some_and(part);
                let goes_on = word.ends_with(part) && after.is_some_and(part);
                !opens && !goes_on
            })
        })
}

fn sources(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).expect("the sources are there") {
        let path = entry.expect("the sources can be listed").path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if path.is_dir() {
            sources(&path, found);
        } else if name.ends_with(".rs") && name != "tests.rs" && name != "testing.rs" {
            found.push(path);
        }
    }
}

#[test]
fn the_sources_keep_the_invariants() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    files.sort();
    assert!(files.len() > 100, "only {} sources were found", files.len());
    let mut all = Vec::new();
    for path in &files {
        let file = path
            .strip_prefix(&root)
            .expect("below src")
            .to_str()
            .expect("plain names");
        all.extend(broken(
            file,
            &fs::read_to_string(path).expect("sources are text"),
        ));
    }
    assert!(
        all.is_empty(),
        "{} invariants are broken:\n{}",
        all.len(),
        all.join("\n")
    );
}

/// A rule about a folder that was renamed would hold for ever.
#[test]
fn every_rule_is_about_sources_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for rule in RULES {
        for place in rule.within.iter().chain(rule.except) {
            assert!(
                root.join(place).exists(),
                "`{}` names src/{place}",
                rule.says
            );
        }
        for module in rule
            .never
            .iter()
            .filter_map(|word| word.strip_prefix("crate::"))
        {
            let known = root.join(module).is_dir() || root.join(format!("{module}.rs")).is_file();
            assert!(
                known || !module.starts_with(char::is_alphabetic),
                "no module `{module}`"
            );
        }
    }
}

#[test]
fn a_broken_invariant_is_seen() {
    for (file, source, word) in [
        ("stage/deploy.rs", "use bollard::Docker;", Some("bollard")),
        ("engine/exec.rs", "use bollard::Docker;", None),
        (
            "plan/order.rs",
            "    let text = std::fs::read(path)?;",
            Some("std::fs"),
        ),
        ("verdict/judge.rs", "use tokio::time::sleep;", Some("tokio")),
        (
            "verdict.rs",
            "use crate::engine::Engine;",
            Some("crate::engine"),
        ),
        (
            "report/junit.rs",
            "use crate::stage::run::Run;",
            Some("crate::stage"),
        ),
        (
            "report/junit.rs",
            "use super::super::stage::run::Run;",
            Some("crate::stage"),
        ),
        ("report/junit.rs", "// as crate::stage::run says", None),
        (
            "report/junit.rs",
            "#[cfg(test)]\nmod tests {\nuse crate::stage::run::Run;",
            None,
        ),
        (
            "report/junit.rs",
            "#[cfg(test)]\nmod tests;\nuse crate::stage::run::Run;",
            Some("crate::stage"),
        ),
        ("report/plain.rs", "let out = io::stdout();", None),
        (
            "stage/deploy.rs",
            "    println!(\"{x}\");",
            Some("println!"),
        ),
        (
            "stage/deploy.rs",
            "outcome.stdout(), my_println!()",
            Some("stdout()"),
        ),
        (
            "stage/deploy.rs",
            "let home = std::env::var(\"HOME\");",
            Some("std::env"),
        ),
        (
            "cli/conduct.rs",
            "let home = std::env::var(\"HOME\");",
            None,
        ),
        (
            "stage/deploy.rs",
            "use crate::{engine, state};",
            Some("crate::{"),
        ),
        (
            "gate.rs",
            "let now = Timestamp::now();",
            Some("Timestamp::now"),
        ),
        ("staging/mod.rs", "use crate::stages::Run;", None),
        (
            "state/base.rs",
            "use crate::staging::Ground;",
            Some("crate::staging"),
        ),
    ] {
        let found = broken(file, source);
        match word {
            None => assert!(found.is_empty(), "{file}: {source}: {found:?}"),
            Some(word) => assert!(
                found.iter().any(|said| said.contains(&format!("`{word}`"))),
                "{file}: {source}: {found:?}"
            ),
        }
    }
}
