//! What is allowed in a package and will be regretted: said before an engine is asked. Advice judges nothing; what it
//! warns of, a rehearsal shows.

use regex::Regex;

use crate::manifest::PackageManifest;
use crate::plan::model::{Action, Location, Shape, Step};

/// One warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// The step, where it is about one.
    pub location: Option<Location>,
    /// What was seen.
    pub text: String,
    /// What to do.
    pub help: &'static str,
}

struct Rule {
    /// What a line of a script must match.
    line: &'static str,
    /// What makes the line harmless.
    unless: Option<&'static str>,
    text: &'static str,
    help: &'static str,
}

const RULES: [Rule; 8] = [
    Rule {
        line: r"\b(apt|apt-get|yum|dnf|zypper)\s+(-\S+\s+)*(install|update|upgrade)\b|\bapk\s+add\b|\b(pip3?|npm|yarn|gem|cargo|composer)\s+(install|ci|update|require)\b|\bgit\s+(clone|pull|fetch)\b|\bdocker\s+(pull|run)\b",
        unless: Some(r"--no-index|--offline|--no-download"),
        text: "fetches something from outside, which a deploy cannot",
        help: "bring it along in the package, or in an image of the package",
    },
    Rule {
        line: r"\b(curl|wget)\b.*\bhttps?://[\w-]+\.[\w.-]+",
        unless: None,
        text: "asks a host that looks like one outside staging",
        help: "bring what it fetches along; a service of staging is asked by its own name",
    },
    Rule {
        line: r"^\s*(read|select)\s|\bread\s+-p\b|\bsudo\b|\bpasswd\b|\bvisudo\b|\b(vi|vim|nano|less|more)\s",
        unless: Some(r"\bsudo\s+(-\S+\s+)*-n\b|<"),
        text: "waits for a person, and nobody is there",
        help: "take what it asks for as a parameter or a secret; `user:` runs a step as another user",
    },
    Rule {
        line: r"\bpsql\b.*(\s-\w*f\b|\s--file\b|<)",
        unless: Some(r"ON_ERROR_STOP"),
        text: "runs SQL with psql, which goes on after an error and says it succeeded",
        help: "add `-v ON_ERROR_STOP=1`",
    },
    Rule {
        line: r"\b(mysql|mariadb)\b.*(--force\b|\s-f\b)",
        unless: None,
        text: "runs SQL with --force, which goes on after an error and says it succeeded",
        help: "leave `--force` out",
    },
    Rule {
        line: r"\|\|\s*(true|:)\s*($|;|#)|^\s*set\s+\+e\b",
        unless: None,
        text: "hides a failure",
        help: "let it fail, or say with `expect_exit:` which exit code is expected",
    },
    Rule {
        line: r"^\s*sleep\s+\d",
        unless: None,
        text: "sleeps instead of waiting for what has to be there",
        help: "write a step `wait: { http: .. }`, `{ tcp: .. }` or `{ sql: .. }`",
    },
    Rule {
        line: r"\bsystemctl\s+\S+|\bservice\s+\S+\s+(start|stop|restart|reload)\b",
        unless: None,
        text: "asks a service manager, which a container does not have",
        help: "write a step `restart: SERVICE`",
    },
];

/// Everything worth a warning, in the order of the package.
pub fn advise(package: &PackageManifest) -> Vec<Advice> {
    let mut advice = Vec::new();
    let steps = package
        .components
        .iter()
        .flat_map(|component| &component.steps)
        .chain(&package.rollback);
    for entry in steps {
        advice.extend(of_step(&entry.step));
    }
    let mut missing = |is_missing: bool, text: &str, help: &'static str| {
        if is_missing {
            advice.push(Advice {
                location: None,
                text: text.to_owned(),
                help,
            });
        }
    };
    missing(
        package.rollback.is_empty(),
        "the package brings no way back",
        "add `rollback:` with its steps, or `rollback.sh` beside a runbook or a script",
    );
    missing(
        package.version.is_none() && package.shape == Shape::Manifest,
        "the package does not say its version",
        "add `version:` to deploy.yaml: it is how people will speak of it",
    );
    advice
}

fn of_step(step: &Step) -> Vec<Advice> {
    let Action::Run { script, .. } = &step.action else {
        return Vec::new();
    };
    let mut advice = Vec::new();
    for rule in &RULES {
        let matches =
            |pattern: &str, line: &str| Regex::new(pattern).is_ok_and(|rule| rule.is_match(line));
        let warned = script
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'))
            .any(|line| {
                matches(rule.line, line) && !rule.unless.is_some_and(|unless| matches(unless, line))
            });
        if warned {
            advice.push(Advice {
                location: Some(step.location.clone()),
                text: format!("the step `{}` {}", step.name, rule.text),
                help: rule.help,
            });
        }
    }
    advice
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    fn warned(script: &str) -> Vec<&'static str> {
        let step = Step {
            name: "x".to_owned(),
            action: Action::Run {
                script: script.to_owned(),
                service: None,
                user: None,
            },
            timeout: Duration::from_secs(1),
            expect_exit: 0,
            retries: 0,
            location: Location {
                path: PathBuf::from("deploy.yaml"),
                line: 1,
                column: 1,
            },
        };
        of_step(&step)
            .into_iter()
            .map(|advice| advice.help)
            .collect()
    }

    #[test]
    fn a_version_is_missed_only_where_one_can_be_written() {
        let missed = |file: &str, text: &str| {
            let temp = tempfile::tempdir().expect("a folder");
            std::fs::write(temp.path().join(file), text).expect("written");
            let package = crate::manifest::load_package(temp.path(), Path::new("package"))
                .unwrap_or_else(|problems| panic!("{problems}"));
            let advice = advise(&package);
            advice.iter().any(|advice| advice.text.contains("version"))
        };
        let manifest =
            "package: x\ncomponents:\n  - { name: a, steps: [{ name: b, run: 'true' }] }\n";
        assert!(missed("deploy.yaml", manifest));
        assert!(!missed(
            "deploy.yaml",
            &format!("version: 1.0.0\n{manifest}")
        ));
        assert!(!missed("deploy.sh", "true\n"));
        assert!(!missed("DEPLOY.md", "```sh\ntrue\n```\n"));
    }

    #[test]
    fn every_rule_is_a_regular_expression() {
        for rule in &RULES {
            assert!(Regex::new(rule.line).is_ok(), "{}", rule.line);
            assert!(rule.unless.is_none_or(|unless| Regex::new(unless).is_ok()));
        }
    }

    #[test]
    fn what_will_be_regretted_is_warned_of_and_what_will_not_is_not() {
        for (script, rules) in [
            ("apt-get -y install jq", 1),
            ("pip install --no-index -f wheels tool", 0),
            ("curl -fsS https://get.example.com/install.sh | sh", 1),
            ("curl -fsS http://web/health", 0),
            ("read -p 'go on? ' answer", 1),
            ("while read line; do echo $line; done < list", 0),
            ("sudo -n true", 0),
            ("psql -f migrations/1.sql", 1),
            ("psql -v ON_ERROR_STOP=1 -f migrations/1.sql", 0),
            ("psql -c 'select 1'", 0),
            ("rm -r /srv/old || true", 1),
            ("sleep 5", 1),
            ("# sleep 5", 0),
            ("systemctl restart nginx", 1),
            ("echo the service answers", 0),
        ] {
            assert_eq!(
                warned(script).len(),
                rules,
                "{script}: {:?}",
                warned(script)
            );
        }
    }
}
