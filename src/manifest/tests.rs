//! Folders of inputs: each bad file beside all of its problems, each good one beside its plan.
//!
//! Paths are relative to the crate's folder, where cargo starts tests, so that snapshots are the same everywhere.

use std::path::{Path, PathBuf};

use super::*;
use crate::plan::{PackageFacts, model::Plan, resolve};

fn settings() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/manifests/snapshots"
    ));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings
}

fn listed(folder: &str) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.is_dir() && !path.is_symlink() || path.extension().is_some_and(|e| e == "yaml")
        })
        .collect();
    paths.sort();
    paths
}

#[test]
fn every_bad_file_is_refused_with_all_its_problems() {
    let paths = listed("tests/manifests/bad");
    assert!(paths.len() > 15);
    for path in paths {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let problems = check(&path).expect_err(&name);
        // Drawn for a terminal, every problem is still all there.
        let drawn = problems.render();
        for problem in &problems.0 {
            let title = problem.message.lines().next().unwrap();
            assert!(drawn.contains(title), "{title} in {drawn}");
        }
        settings().bind(|| insta::assert_snapshot!(format!("bad-{name}"), problems));
    }
}

fn plan(package: &str) -> Plan {
    let loaded = load(Path::new("tests/manifests/good/site/rehearsal.yaml"))
        .unwrap_or_else(|p| panic!("{p}"));
    let root = Path::new("tests/manifests/good/site").join(package);
    let manifest = load_package(&root, &root).unwrap_or_else(|p| panic!("{p}"));
    let facts = PackageFacts {
        source: root.clone(),
        root,
        digest: "sha256:00".to_owned(),
        files: 5,
        bytes: 100,
    };
    resolve(&loaded, Some((&manifest, facts))).unwrap_or_else(|p| panic!("{p}"))
}

#[test]
fn a_good_rehearsal_becomes_a_plan() {
    let plan = plan("package");
    settings().bind(|| insta::assert_json_snapshot!("good-site", plan));
}

#[test]
fn every_kind_of_restore_becomes_part_of_the_plan() {
    let loaded = load(Path::new("tests/manifests/good/restores/rehearsal.yaml"))
        .unwrap_or_else(|p| panic!("{p}"));
    let plan = resolve(&loaded, None).unwrap_or_else(|p| panic!("{p}"));
    settings().bind(|| insta::assert_json_snapshot!("good-restores", plan.restores));
    assert_eq!(plan.limits.restore_jobs, 4);
    assert_eq!(plan.limits.compare, 4 << 30);
}

#[test]
fn emulators_and_their_tests_become_part_of_the_plan() {
    let loaded = load(Path::new("tests/manifests/good/emulators/rehearsal.yaml"))
        .unwrap_or_else(|p| panic!("{p}"));
    let plan = resolve(&loaded, None).unwrap_or_else(|p| panic!("{p}"));
    let tests = plan.testplan.map(|plan| plan.tests);
    settings().bind(|| insta::assert_json_snapshot!("good-emulators", (plan.emulators, tests)));
    let answer = Path::new("tests/manifests/good/emulators/answer.json");
    let named = |(role, path): &(String, PathBuf)| role == "rehearsal" && path == answer;
    assert!(
        loaded.files().iter().any(named),
        "what is answered is digested"
    );
}

#[test]
fn runbooks_and_scripts_become_steps() {
    for package in ["runbook", "runbook-back", "script", "compose"] {
        let plan = plan(package);
        settings().bind(|| insta::assert_json_snapshot!(format!("good-{package}"), plan.package));
    }
}

#[test]
fn files_are_named_for_digesting() {
    let loaded = load(Path::new("tests/manifests/good/site/rehearsal.yaml")).unwrap();
    let files: Vec<_> = loaded
        .files()
        .into_iter()
        .map(|(role, path)| format!("{role}: {}", path.display()))
        .collect();
    settings().bind(|| insta::assert_snapshot!("good-files", files.join("\n")));
    assert_eq!(
        loaded.package_path(),
        Some("tests/manifests/good/site/package".into())
    );
}

#[test]
fn every_good_file_can_be_checked_alone() {
    let base = Path::new("tests/manifests/good/site");
    for (file, expected) in [
        (
            "rehearsal.yaml",
            "rehearsal site: 4 services, 2 restores, 2 components, 14 tests",
        ),
        ("docker/compose.yaml", "stack site: 4 services, 2 volumes"),
        ("testplan.yaml", "test plan site: 14 tests"),
        (
            "package",
            "package site: deploy.yaml, 2 components, 7 steps",
        ),
        (
            "package/deploy.yaml",
            "package site: deploy.yaml, 2 components, 7 steps",
        ),
        (
            "runbook",
            "package runbook: DEPLOY.md, 1 component, 3 steps",
        ),
        (
            "script/deploy.sh",
            "package script: deploy.sh, 1 component, 1 step",
        ),
        (
            "compose",
            "package shop: compose.yaml, 3 components, 3 steps",
        ),
    ] {
        let checked = check(&base.join(file)).unwrap_or_else(|p| panic!("{p}"));
        let said = format!(
            "{} {}: {}",
            checked.kind.name(),
            checked.name,
            checked.found.join(", ")
        );
        assert_eq!(said, expected);
    }
}

#[test]
fn what_is_not_there_is_said_once() {
    let problems = check(Path::new("tests/manifests/good/site/rehearsl.yaml")).unwrap_err();
    assert_eq!(
        problems.to_string().lines().collect::<Vec<_>>(),
        [
            "tests/manifests/good/site/rehearsl.yaml:1:1: error: cannot read `tests/manifests/good/site/rehearsl.yaml`: No such file or directory (os error 2)",
            "help: did you mean `rehearsal.yaml`?",
            "",
            "1 problem"
        ]
    );
}

#[test]
fn the_callers_environment_is_never_used() {
    // PATH is set for everybody who runs tests.
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("compose.yaml");
    std::fs::write(&file, "services: { a: { image: \"x:${PATH}\" } }\n").unwrap();
    let problems = check(&file).unwrap_err();
    assert!(
        problems.0[0].message.contains("`PATH` has no value"),
        "{problems}"
    );
}

/// The official image takes the password from a variable or from a file; a test that says none has the same one.
#[test]
fn sql_tests_know_the_password_that_the_image_reads_from_a_file() {
    use crate::check::model::Probe;
    let temp = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(temp.path().join(name), text).unwrap();
    write("secret", "from the secret\n");
    write("config", "from the config");
    write("file", "from the file\n\n");
    let services = [
        (
            "by-secret",
            "{ POSTGRES_PASSWORD_FILE: /run/secrets/pw }",
            "secrets: [pw]",
        ),
        (
            "by-target",
            "{ POSTGRES_PASSWORD_FILE: /pw }",
            "secrets: [{ source: pw, target: /pw }]",
        ),
        (
            "by-config",
            "{ POSTGRES_PASSWORD_FILE: /pw }",
            "configs: [pw]",
        ),
        (
            "by-file",
            "{ POSTGRES_PASSWORD_FILE: /etc/pw }",
            "volumes: [\"./file:/etc/pw:ro\"]",
        ),
        (
            "by-variable",
            "{ POSTGRES_PASSWORD: said }",
            "secrets: [pw]",
        ),
        (
            "elsewhere",
            "{ POSTGRES_PASSWORD_FILE: /in/the/image }",
            "secrets: [pw]",
        ),
        ("nothing-said", "{ A: b }", "secrets: [pw]"),
        (
            "other-role",
            "{ POSTGRES_USER: site, POSTGRES_PASSWORD_FILE: /run/secrets/pw }",
            "secrets: [pw]",
        ),
    ];
    let mut stack = "services:\n".to_owned();
    let mut tests = "testplan: x\ntests:\n".to_owned();
    for (name, environment, mounts) in services {
        stack += &format!(
            "  {name}:\n    image: postgres\n    environment: {environment}\n    {mounts}\n"
        );
        let user = if name == "other-role" {
            ", user: reader"
        } else {
            ""
        };
        tests += &format!(
            "  - name: {name}\n    sql: {{ service: {name}, database: x, query: select 1{user} }}\n    expect: {{ value: 1 }}\n"
        );
    }
    stack += "secrets: { pw: { file: secret } }\nconfigs: { pw: { file: config } }\n";
    write("compose.yaml", &stack);
    write("testplan.yaml", &tests);
    write(
        "rehearsal.yaml",
        "rehearsal: x\nstack: compose.yaml\ntestplan: testplan.yaml\n",
    );
    let loaded = load(&temp.path().join("rehearsal.yaml")).unwrap_or_else(|p| panic!("{p}"));
    let plan = resolve(&loaded, None).unwrap_or_else(|p| panic!("{p}"));
    let known: Vec<_> = plan
        .testplan
        .unwrap()
        .tests
        .into_iter()
        .map(|test| match test.probe {
            Probe::Sql(sql) => (sql.service, sql.password),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = [
        ("by-secret", Some("from the secret")),
        ("by-target", Some("from the secret")),
        ("by-config", Some("from the config")),
        ("by-file", Some("from the file")),
        ("by-variable", Some("said")),
        ("elsewhere", None),
        ("nothing-said", None),
        ("other-role", None),
    ]
    .map(|(service, password)| (service.to_owned(), password.map(str::to_owned)));
    assert_eq!(known, expected);
}

#[test]
fn a_sample_is_checked_at_once() {
    let file = Path::new("tests/manifests/good/site/rehearsal.yaml");
    let start = std::time::Instant::now();
    check(file).unwrap();
    // The promise is 50 ms; ten times that, because this is an unoptimised build beside other tests.
    assert!(start.elapsed() < std::time::Duration::from_millis(500));
}

/// Files come from strangers: whatever is cut off or doubled, there is an answer and no panic, and every position lies in the text.
#[test]
fn mutilated_files_are_answered() {
    use super::place::Source;
    use std::sync::Arc;
    let base = Path::new("tests/manifests/good/site");
    for name in ["docker/compose.yaml", "testplan.yaml", "rehearsal.yaml"] {
        let path = base.join(name);
        let whole = std::fs::read_to_string(&path).unwrap();
        let mut mutants: Vec<String> = Vec::new();
        for (at, c) in whole.char_indices().step_by(13) {
            let (head, tail) = whole.split_at(at);
            mutants.push(head.to_owned());
            mutants.push(format!("{head}\u{e9}{tail}"));
            mutants.push(format!("{head}{}", tail.trim_start_matches(c)));
            mutants.push(format!("{head}[{tail}"));
        }
        mutants.push(whole.replace('\n', "\r\n"));
        for text in mutants {
            let source = Arc::new(Source {
                path: path.clone(),
                text,
            });
            let mut p = Problems::new();
            if let Some(root) = load::tree(&source, &mut p) {
                let _ = stack::decode(&path, &root, &mut p);
                let _ = testplan::decode(&path, &root, &mut p);
                let _ = rehearsal::decode(&path, &root, &mut p);
            }
            assert!(!p.render().is_empty());
            for problem in &p.0 {
                let lines = source.text.lines().count().max(1);
                assert!(problem.location.line <= lines + 1, "{problem}");
            }
        }
    }
}

#[test]
fn a_stranger_writes_nothing_on_the_terminal() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("deploy.yaml");
    std::fs::write(
        &file,
        "package: \"\\e[31mred\\e]0;title\\a\" # \u{1b}[2J\ncomponents: []\n",
    )
    .unwrap();
    let problems = check(&file).unwrap_err();
    let said = problems.to_string();
    assert!(
        !said.contains(|c: char| c.is_control() && c != '\n'),
        "{said:?}"
    );
    // A package whose manifest is a link reads no file of the host.
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &file).unwrap();
    let said = check(temp.path()).unwrap_err().to_string();
    assert!(
        said.contains("`deploy.yaml` is a link out of the package"),
        "{said}"
    );
}

#[test]
fn carets_stand_under_what_is_wrong_in_any_script() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("t.yaml");
    std::fs::write(&file, "testplan: x\r\ntests:\r\n  - { name: \"Grüße aus Köln\", tpc: 1, tcp: db:1, expect: { open: yes } }\r\n").unwrap();
    let said = check(&file).unwrap_err().to_string();
    let said = said.replace(&temp.path().display().to_string(), "");
    let expected = r#"/t.yaml:3:31: error: unknown key `tpc` in the test `Grüße aus Köln`
  |   - { name: "Grüße aus Köln", tpc: 1, tcp: db:1, expect: { open: yes } }
  |                               ^^^
help: did you mean `tcp`?

/t.yaml:3:66: error: `yes` is not `true` or `false`
  |   - { name: "Grüße aus Köln", tpc: 1, tcp: db:1, expect: { open: yes } }
  |                                                                  ^^^

2 problems"#;
    assert_eq!(said, expected);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Every example of the reference is written where it says it belongs, among the files that it names, and read.
#[test]
fn every_example_in_the_docs_is_read() {
    use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag, TagEnd};
    let mut read = 0;
    for page in [
        "rehearsal",
        "backups",
        "stack",
        "package",
        "testplan",
        "emulators",
        "what-ifs",
    ] {
        let text = std::fs::read_to_string(format!("docs/{page}.md")).unwrap();
        let mut block: Option<(String, String)> = None;
        for event in Parser::new(&text) {
            match event {
                Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => {
                    block = Some((info.to_string(), String::new()));
                }
                Event::Text(text) => {
                    if let Some((_, body)) = &mut block {
                        body.push_str(&text);
                    }
                }
                Event::End(TagEnd::CodeBlock) => {
                    let (info, body) = block.take().unwrap();
                    let place = match info.trim_end_matches(" refused") {
                        "yaml rehearsal" => "rehearsals/example.yaml",
                        "yaml stack" => "docker/site/example.yaml",
                        "yaml package" => "packages/site-2.4/deploy.yaml",
                        "markdown package" => "packages/site-2.4/DEPLOY.md",
                        "yaml compose" => "packages/site-2.4/compose.yaml",
                        "yaml testplan" => "testplans/example.yaml",
                        "text" => continue,
                        other => panic!("docs/{page}.md: what is an example marked `{other}`?"),
                    };
                    example(page, place, &body, info.ends_with(" refused"));
                    read += 1;
                }
                _ => {}
            }
        }
    }
    assert!(read >= 16, "only {read} examples were found");
}

/// As little of what `docker save` writes as is an image archive.
fn save_archive(tag: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let manifest = format!(r#"[{{"Config":"c.json","RepoTags":["{tag}"],"Layers":[]}}]"#);
    for (name, content) in [("c.json", "{}"), ("manifest.json", manifest.as_str())] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, content.as_bytes())
            .unwrap();
    }
    tar.into_inner().unwrap()
}

fn example(page: &str, place: &str, body: &str, refused: bool) {
    let temp = tempfile::tempdir().unwrap();
    copy(Path::new("tests/manifests/docs"), temp.path());
    if !place.ends_with("deploy.yaml") && place.starts_with("packages") {
        std::fs::remove_file(temp.path().join("packages/site-2.4/deploy.yaml")).unwrap();
    }
    let path = temp.path().join(place);
    std::fs::write(&path, body).unwrap();
    // A Compose file by itself would be taken for a stack.
    let alone = if place == "packages/site-2.4/compose.yaml" {
        let folder = temp.path().join("packages/site-2.4");
        let image = save_archive("registry.example.com/site/app:2.4.0");
        std::fs::write(folder.join("images/app-2.4.0.tar"), image).unwrap();
        folder
    } else {
        path
    };
    let mut checked = vec![check(&alone)];
    // Alone, neither says whether its names fit the stack.
    let named = if place.starts_with("testplans") {
        Some("testplan: ../testplans/example.yaml")
    } else if place.starts_with("packages") {
        Some("package: ../packages/site-2.4\nbastion: { image: x }")
    } else {
        None
    };
    if let Some(named) = named {
        let rehearsal = temp.path().join("rehearsals/example.yaml");
        let given = if body.contains("emulator:") {
            "emulators:\n  - { name: payments, hosts: [api.example], http: {} }\n  - { name: mail, hosts: [smtp.example], smtp: {} }\n"
        } else if body.contains("secrets:") {
            "parameters: { SITE: shop.example }\nsecrets: { PAYMENT_TOKEN: { env: TOKEN } }\n"
        } else {
            ""
        };
        let text =
            format!("rehearsal: example\nstack: ../docker/site/compose.yaml\n{named}\n{given}");
        std::fs::write(&rehearsal, text).unwrap();
        checked.push(check(&rehearsal));
    }
    for result in checked {
        match result {
            Ok(_) => assert!(!refused, "docs/{page}.md: this should be refused:\n{body}"),
            Err(problems) => assert!(refused, "docs/{page}.md:\n{problems}\n{body}"),
        }
    }
}
