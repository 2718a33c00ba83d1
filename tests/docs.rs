//! What the docs say of the program, compared with the program.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use clap::{CommandFactory as _, ValueEnum as _};
use rehearsal::cli::{Cli, Format, run::KeepArgument};

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docs")
        .join(name);
    fs::read_to_string(&path).expect("the page is there")
}

/// The part of a page below one heading of the second level.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let start = format!("\n## {heading}\n");
    let from = page
        .find(&start)
        .unwrap_or_else(|| panic!("no heading `## {heading}`"))
        + start.len();
    let rest = &page[from..];
    rest.find("\n## ").map_or(rest, |end| &rest[..end])
}

/// A table's rows, split into cells; not its head.
fn rows(section: &str) -> Vec<Vec<String>> {
    section
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| {
            let cells = line.trim().trim_matches('|').split('|');
            cells.map(|cell| cell.trim().to_owned()).collect()
        })
        .filter(|cells: &Vec<String>| cells[0].starts_with('`') || cells[0].parse::<u8>().is_ok())
        .collect()
}

/// From an argument or option as usage writes it to its default, `required` or nothing.
fn documented(section: &str) -> BTreeMap<String, String> {
    rows(section)
        .into_iter()
        .map(|cells| {
            (
                cells[0].trim_matches('`').to_owned(),
                cells[1].trim_matches('`').to_owned(),
            )
        })
        .collect()
}

fn defined(command: &clap::Command) -> BTreeMap<String, String> {
    command
        .get_arguments()
        .filter(|argument| !argument.is_hide_set() && argument.get_id() != "help")
        .map(|argument| {
            let value = argument
                .get_action()
                .takes_values()
                .then(|| argument.get_value_names().expect("a value has a name")[0].to_string());
            let shown = match (argument.get_long(), value) {
                (Some(long), Some(value)) => format!("--{long} <{value}>"),
                (Some(long), None) => format!("--{long}"),
                (None, Some(value)) => format!("<{value}>"),
                (None, None) => panic!("an argument without a name"),
            };
            let default: Vec<String> = argument
                .get_default_values()
                .iter()
                .filter(|_| argument.get_action().takes_values())
                .map(|value| value.to_string_lossy().into_owned())
                .collect();
            let default = if argument.is_required_set() {
                "required".to_owned()
            } else {
                default.join(" ")
            };
            (shown, default)
        })
        .collect()
}

#[test]
fn every_command_is_documented_as_it_is() {
    let page = page("commands.md");
    let mut cli = Cli::command();
    cli.build();
    let commands: Vec<&clap::Command> = cli
        .get_subcommands()
        .filter(|command| !command.is_hide_set() && command.get_name() != "help")
        .collect();
    let headings = page
        .lines()
        .filter(|line| line.starts_with("## `rehearse "))
        .count();
    assert_eq!(headings, commands.len(), "a heading a command");
    for command in commands {
        let name = command.get_name();
        let section = section(&page, &format!("`rehearse {name}`"));
        let own = section.split("\n### ").next().expect("its beginning");
        expect_documented(own, command, name);
        for nested in command
            .get_subcommands()
            .filter(|nested| nested.get_name() != "help")
        {
            let name = format!("{name} {}", nested.get_name());
            let (_, part) = section
                .split_once(&format!("\n### `rehearse {name}`\n"))
                .unwrap_or_else(|| panic!("no heading `### `rehearse {name}``"));
            let part = part.split("\n### ").next().expect("its beginning");
            expect_documented(part, nested, &name);
        }
    }
}

/// Compares one command with the part of the page that is about it.
fn expect_documented(section: &str, command: &clap::Command, name: &str) {
    let mut documented = documented(section);
    let defined = defined(command);
    // Where clap knows no default, the page may say in words what happens.
    for (option, default) in &mut documented {
        if defined.get(option).is_some_and(String::is_empty) {
            default.clear();
        }
    }
    assert_eq!(documented, defined, "docs/commands.md, `rehearse {name}`");
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    assert!(
        section.contains(&format!("```text\n{usage}\n```")),
        "`{name}` is used as `{usage}`"
    );
}

#[test]
fn every_value_of_an_option_is_documented() {
    let page = page("commands.md");
    let run = section(&page, "`rehearse run`");
    for value in KeepArgument::value_variants() {
        let name = value
            .to_possible_value()
            .expect("not hidden")
            .get_name()
            .to_owned();
        assert!(run.contains(&format!("`{name}`")), "--keep {name}");
    }
    for value in Format::value_variants() {
        let name = value
            .to_possible_value()
            .expect("not hidden")
            .get_name()
            .to_owned();
        assert!(run.contains(&format!("`{name}`")), "--format {name}");
    }
}

#[test]
fn help_and_docs_know_the_same_exit_codes_and_variables() {
    let page = page("commands.md");
    let help = Cli::command()
        .get_after_long_help()
        .expect("help has examples")
        .to_string();
    let below = |heading: &str| -> Vec<String> {
        let (_, rest) = help.split_once(heading).expect(heading);
        rest.lines()
            .skip(1)
            .take_while(|line| !line.is_empty())
            .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
            .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
            .collect()
    };
    let codes: Vec<String> = rows(section(&page, "Exit codes"))
        .into_iter()
        .map(|cells| cells[0].clone())
        .collect();
    assert_eq!(codes, below("Exit codes:"));
    let variables = section(&page, "Environment");
    let named = below("Environment:");
    assert_eq!(named.len(), 5, "{named:?}");
    for name in named {
        assert!(variables.contains(&format!("`{name}`")), "{name}");
    }
}

/// A link to a page or heading that is not there sends the reader nowhere.
#[test]
fn links_between_pages_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages: Vec<_> = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "benches/README.md",
    ]
    .iter()
    .map(|page| root.join(page))
    .collect();
    for entry in fs::read_dir(root.join("docs")).expect("docs are there") {
        let path = entry.expect("docs can be listed").path();
        if path.extension().is_some_and(|ending| ending == "md") {
            pages.push(path);
        }
    }
    let mut followed = 0;
    for page in &pages {
        let text = fs::read_to_string(page).expect("pages are text");
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            if link.starts_with("http") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => page.clone(),
                file => page.parent().expect("a page lies somewhere").join(file),
            };
            assert!(target.exists(), "{}: ({link})", page.display());
            if !heading.is_empty() {
                let there = fs::read_to_string(&target).expect("a heading is in a page");
                let slugs = there
                    .lines()
                    .filter(|line| line.starts_with('#'))
                    .map(|line| {
                        let line = line
                            .trim_start_matches('#')
                            .trim()
                            .to_lowercase()
                            .replace(' ', "-");
                        line.chars()
                            .filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_'))
                            .collect::<String>()
                    });
                assert!(
                    slugs.into_iter().any(|slug| slug == heading),
                    "{}: ({link})",
                    page.display()
                );
            }
            followed += 1;
        }
    }
    assert!(followed > 20, "only {followed} links were found");
}
