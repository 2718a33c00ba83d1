//! What a package leaves open, and what it may not know: parameters, secrets, templates; waiting and trying again.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use rehearsal::event::{CaseStatus, Owner};
use rehearsal::verdict::Outcome;

use crate::common::{Place, Ran, rehearse};
use crate::kept::Tidy;

const TOKEN: &str = "s3cr&t /to'ken";

const PACKAGE: &str = "\
package: handed-over
version: 1.0.0
parameters:
  SITE: { pattern: '[a-z.]+', about: the site's name }
  COLOUR: { default: blue }
secrets: [TOKEN]
components:
  - name: app
    steps:
      - name: write the configuration
        service: app
        files:
          - { template: app.conf.j2, to: /srv/state/app.conf, mode: '0640', owner: '33:33' }
      - name: give it the token
        service: app
        env: { TOKEN: { secret: TOKEN }, SITE: { parameter: SITE } }
      - name: say too much
        run: |
          echo \"the token is $TOKEN\"
          printf %s \"$TOKEN\" | base64
          printf 'user:%s' \"$TOKEN\" | base64 >&2
          printf %s \"$TOKEN\" | od -An -tx1 | tr -d ' \\n'; echo
          test \"$SITE-$COLOUR\" = shop.example-green
      - { name: take it back, run: 'printf \"%s\\rdone\\n\" \"$TOKEN\"' }
      - { name: a second try, run: 'test -e /tmp/tried || { touch /tmp/tried; exit 3; }', retries: 2 }
      - { name: come up, wait: { tcp: app:8000 }, timeout: 30s }
rollback:
  steps: [{ name: nothing, run: 'true' }]
";

fn place(test: &str, package: &str) -> Place {
    let place = Place::small(test, package);
    // It shows its token, and listens.
    let says = "echo my token is $$TOKEN; exec python3 -m http.server 8000";
    place.write(
        "stack.yaml",
        format!(
            "services:\n  app:\n    image: rehearse-site/cms:2.3\n    entrypoint: [sh, -c, \"{says}\"]\n    \
             volumes: [\"state:/srv/state\"]\nvolumes: {{ state: }}\n"
        ),
    );
    place.write(
        "package/app.conf.j2",
        "site = {{ SITE }}\ncolour = {{ COLOUR }}\ntoken = {{ TOKEN }}\n",
    );
    place.write(
        "testplan.yaml",
        "testplan: small\ntests:\n  - name: the configuration\n    when: [verify]\n    \
         file: { service: app, path: /srv/state/app.conf }\n    \
         expect: { content: \"site = shop.example\\ncolour = green\\ntoken = s3cr&t /to'ken\", mode: '0640', owner: '33:33' }\n  \
         - name: the variables\n    when: [verify]\n    exec: { service: app, run: 'echo $SITE $TOKEN' }\n    \
         expect: { stdout: \"shop.example s3cr&t /to'ken\" }\n",
    );
    place.rehearsal("parameters: { SITE: shop.example }\nsecrets: { TOKEN: { env: THE_TOKEN } }\n");
    place
}

fn run(place: &Place, more: &[&str], token: &str) -> Ran {
    let mut command = place.command("run", &place.path("rehearsal.yaml"));
    command.args(more).env("THE_TOKEN", token);
    crate::common::Live::start(command).finish()
}

/// Every file below a folder that holds one of these texts.
fn holding(folder: &Path, texts: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)
        .expect("the run's folder")
        .flatten()
    {
        let path = entry.path();
        if path.is_dir() {
            found.extend(holding(&path, texts));
            continue;
        }
        let content = String::from_utf8_lossy(&std::fs::read(&path).expect("a file")).into_owned();
        let shown = texts.iter().filter(|text| content.contains(**text));
        found.extend(shown.map(|text| format!("{}: {text}", path.display())));
    }
    found
}

#[test]
fn parameters_and_secrets_reach_their_places_and_no_report() {
    let place = place("handed", PACKAGE);
    let ran = run(&place, &["--set", "COLOUR=green"], TOKEN);
    // Everything else about it is sound.
    ran.expect(1, Outcome::Failed, Some(Owner::Package))
        .expect_rolled_back();
    assert_eq!(ran.failed_cases(), ["no step shows a secret"]);
    let case = ran.case("unassisted", "no step shows a secret");
    assert_eq!(
        case.message.as_deref(),
        Some("steps `app/say too much`, `app/take it back` write a secret to their output")
    );
    assert_eq!(ran.output_of("app/take it back"), ["done"]);
    let tried = ran.case("deploy", "app / a second try");
    assert_eq!(
        tried.message.as_deref(),
        Some("at try 2 of 3: the package declares retries")
    );
    let said = ran.output_of("app/say too much");
    assert!(said.contains(&"the token is ***"), "{said:?}");
    assert!(said.len() >= 4, "{said:?}");
    let log = std::fs::read_to_string(ran.dir().join("logs/deploy-app.log")).expect("its log");
    assert!(log.contains("my token is ***"), "{log}");
    // As it is, in Base64 (alone and behind `user:`), in hexadecimal, in XML.
    let shown = [
        TOKEN,
        "czNjciZ0IC90bydrZW4",
        "zM2NyJnQgL3RvJ2tlb",
        "733363722674202f746f276b656e",
        "s3cr&amp;t /to",
    ];
    assert_eq!(holding(&ran.dir(), &shown), Vec::<String>::new());
}

#[test]
fn what_does_not_come_up_or_never_succeeds_is_the_packages_fault() {
    for (name, step, words) in [
        (
            "come up",
            "{ name: come up, wait: { tcp: app:8001 }, timeout: 2s }",
            "it did not end within its timeout of 2 s; at last: cannot connect",
        ),
        (
            "try",
            "{ name: try, run: exit 3, retries: 2 }",
            "(at try 3 of 3)",
        ),
    ] {
        let package = format!(
            "package: handed-over\nparameters: {{ SITE: , COLOUR: {{ default: green }} }}\nsecrets: [TOKEN]\n\
             components:\n  - name: app\n    steps:\n      - {step}\n"
        );
        let place = place("not-up", &package);
        let ran = run(&place, &[], TOKEN);
        ran.expect(1, Outcome::Failed, Some(Owner::Package))
            .expect_rolled_back();
        let case = ran.case("deploy", &format!("app / {name}"));
        assert_eq!(case.status, CaseStatus::Failed);
        let why = case.message.as_deref().unwrap_or_default();
        assert!(why.contains(words), "{why}");
    }
}

fn refused(command: &mut Command) -> String {
    let out = command.output().expect("the built program can be started");
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(64), "{text}");
    text
}

#[test]
fn what_is_not_given_or_cannot_be_hidden_is_refused_before_anything_is_begun() {
    let place = place("not-given", PACKAGE);
    let command = || place.command("run", &place.path("rehearsal.yaml"));
    for (token, set, words) in [
        (None, None, "cannot be read"),
        (Some("abc"), None, "fewer than 4"),
        (Some("ab\ncd\nef"), None, "fewer than 4"),
        (
            Some("pass"),
            None,
            "the secret `TOKEN` is part of a name or word",
        ),
        (
            Some("handed"),
            None,
            "the secret `TOKEN` is part of a name or word",
        ),
        (Some(TOKEN), Some("SITE=Shop"), "is no value for `SITE`"),
        (Some(TOKEN), Some("SIDE=x"), "has no parameter `SIDE`"),
    ] {
        let mut command = command();
        command.env_remove("THE_TOKEN");
        command.envs(token.map(|token| ("THE_TOKEN", token)));
        command.args(set.map(|set| ["--set", set]).into_iter().flatten());
        let said = refused(&mut command);
        assert!(
            said.contains(words) && said.contains("help:"),
            "{words}: {said}"
        );
    }
    place.rehearsal("");
    let said = refused(&mut command());
    for words in [
        "the parameter `SITE` (the site's name) has no value",
        "nobody says where the secret `TOKEN` comes from",
        "deploy.yaml:4:3",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn a_package_is_looked_at_without_an_engine() {
    let place = place("lint", &PACKAGE.replace("exit 3", "apt-get install jq"));
    let package = place.path("package");
    let said = |arguments: &[&str]| {
        let out = rehearse()
            .arg("package")
            .args(arguments)
            .arg(&package)
            .env("DOCKER_HOST", "unix:///nowhere")
            .output()
            .expect("the built program can be started");
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        (
            out.status.code(),
            text + &String::from_utf8_lossy(&out.stderr),
        )
    };
    let (code, text) = said(&["lint"]);
    assert_eq!(code, Some(0), "{text}");
    for words in [
        "handed-over 1.0.0: deploy.yaml, 2 files, sha256:",
        "wants SITE: the site's name",
        "wants the secret TOKEN",
        "the step `a second try` fetches something from outside",
        "has no `SHA256SUMS`",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert_eq!(said(&["lint", "--deny-warnings"]).0, Some(1));
    let (_, document) = said(&["lint", "--format", "json"]);
    let document: serde_json::Value = serde_json::from_str(&document).expect("one document");
    let (code, digest) = said(&["digest"]);
    let expected = format!(
        "{}  {}\n",
        document["digest"].as_str().unwrap(),
        package.display()
    );
    assert_eq!((code, digest), (Some(0), expected));
    place.write("package/deploy.yaml", "package: x\ncomponents: []\n");
    assert_eq!(said(&["lint"]).0, Some(64));
}

#[test]
fn a_log_that_is_followed_shows_no_secret() {
    let place = place("followed", PACKAGE);
    let ran = run(
        &place,
        &["--set", "COLOUR=green", "--keep", "on-failure"],
        TOKEN,
    );
    let _tidy = Tidy(vec![ran.run().to_owned()]);
    let follow = || {
        let mut command = rehearse();
        command.args(["logs", "--follow", "--report-dir"]);
        command.arg(place.path("reports")).args([ran.run(), "app"]);
        command
    };
    // Whoever cannot say what the secret is sees nothing.
    let said = refused(follow().env_remove("THE_TOKEN"));
    assert!(
        said.contains("`TOKEN`") && said.contains("`THE_TOKEN`"),
        "{said}"
    );
    let mut followed = follow()
        .env("THE_TOKEN", TOKEN)
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let lines = BufReader::new(followed.stdout.take().expect("it is piped")).lines();
    let token = lines
        .map_while(Result::ok)
        .find(|line| line.contains("my token is"));
    // It would go on for as long as the service does.
    followed.kill().expect("it runs");
    followed.wait().expect("it ended");
    assert_eq!(token.as_deref(), Some("my token is ***"));
}
