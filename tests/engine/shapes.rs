//! Every action of a step, seen after the deploy and gone after the rollback.

use rehearsal::digest::sha256;
use rehearsal::engine::EngineError;
use rehearsal::event::{CaseStatus, Owner, Stage};
use rehearsal::verdict::Outcome;

use crate::common::{BASE, IDLE, Place, REHEARSE, engine};

const ACTIONS: &str = "\
package: actions
version: 2.40
components:
  - name: last
    after: [first]
    steps:
      - { name: bring the tool, service: tool, image: images/tool.tar }
  - name: first
    steps:
      - { name: set, service: app, env: { COLOUR: green, UNWANTED: null } }
      - { name: push, service: app, copy: content/, to: /srv/site, owner: \"33:34\" }
      - { name: push one, service: app, copy: content/page.html, to: /srv/state/page.html }
      - { name: restart, restart: app }
      - { name: count, service: app, run: \"echo written >> /srv/state/log; cat /srv/state/page.html\" }
";

/// From a test's moments to its kind and expectation.
const TESTS: &str = "\
testplan: actions
tests:
  - { name: blue, when: [baseline, rollback], exec: { service: app, run: printenv COLOUR }, expect: { stdout: { equals: blue } } }
  - { name: green, when: verify, exec: { service: app, run: printenv COLOUR }, expect: { stdout: { equals: green } } }
  - { name: wanted, when: [baseline, rollback], exec: { service: app, run: printenv UNWANTED }, expect: { exit_code: 0 } }
  - { name: unset, when: verify, exec: { service: app, run: printenv UNWANTED }, expect: { exit_code: 1 } }
  - { name: pushed, when: verify, file: { service: app, path: /srv/site/page.html }, expect: { content: new, owner: \"33:34\" } }
  - { name: below, when: verify, file: { service: app, path: /srv/site/deep/er.html }, expect: { content: deeper } }
  - { name: not pushed, when: [baseline, rollback], file: { service: app, path: /srv/site/page.html }, expect: { exists: false } }
  - { name: in the volume, when: verify, file: { service: app, path: /srv/state/page.html }, expect: { content: new, owner: \"0:0\" } }
  - { name: not in the volume, when: [baseline, rollback], file: { service: app, path: /srv/state/log }, expect: { exists: false } }
  - { name: the old tool, when: [baseline, rollback], file: { service: tool, path: /marker }, expect: { exists: false } }
  - { name: the new tool, when: verify, file: { service: tool, path: /marker }, expect: { content: carried } }
";

/// What `docker save` writes of an image that holds this program and a marker.
pub(crate) fn image_archive(tag: &str) -> Vec<u8> {
    let file = |tar: &mut tar::Builder<Vec<u8>>, name: &str, mode: u32, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, content).expect("memory");
    };
    let mut layer = tar::Builder::new(Vec::new());
    let program = std::fs::read(REHEARSE).expect("the built program");
    file(&mut layer, "rehearse", 0o755, &program);
    file(&mut layer, "marker", 0o644, b"carried by the package\n");
    let layer = layer.into_inner().expect("memory");
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = serde_json::json!({
        "architecture": architecture,
        "os": "linux",
        "config": { "Entrypoint": ["/rehearse", "agent", "idle"], "Env": ["PATH=/"] },
        "rootfs": { "type": "layers", "diff_ids": [sha256(&layer)] },
    });
    let config = config.to_string();
    let name = format!("{}.json", sha256(&config).trim_start_matches("sha256:"));
    let manifest =
        serde_json::json!([{ "Config": name, "RepoTags": [tag], "Layers": ["layer.tar"] }]);
    let mut saved = tar::Builder::new(Vec::new());
    file(&mut saved, &name, 0o644, config.as_bytes());
    file(&mut saved, "layer.tar", 0o644, &layer);
    file(
        &mut saved,
        "manifest.json",
        0o644,
        manifest.to_string().as_bytes(),
    );
    saved.into_inner().expect("memory")
}

#[test]
fn every_action_is_done_and_undone_and_no_tag_of_the_host_is_moved() {
    let place = Place::small("actions", ACTIONS);
    place.write(
        "stack.yaml",
        format!(
            "services:\n  app:\n    image: {BASE}\n    command: {IDLE}\n    environment: {{ COLOUR: blue, UNWANTED: \"1\" }}\n    \
             volumes: [\"state:/srv/state\"]\n  tool: {{ image: \"rehearse-site/web:1.22\" }}\nvolumes: {{ state: }}\n"
        ),
    );
    place.write("testplan.yaml", TESTS);
    place.write("package/content/page.html", "new page\n");
    place.write("package/content/deep/er.html", "deeper\n");
    // The archive calls its image like one that this host uses.
    let tag = format!("rehearse-test/{}:1", place.name());
    place.write("package/images/tool.tar", image_archive(&tag));
    let id = |reference: &str| {
        let facts = engine(async |engine| engine.image(reference).await);
        facts.expect("the engine answers").map(|facts| facts.id)
    };
    let tagged = engine(async |engine| engine.tag(BASE, &tag).await);
    tagged.expect("the base image can be tagged");
    // With the fallback for engines that cannot mount overlays: everything is done and undone as well.
    let ran = place.run(&["--branches", "copy"]);
    let after = id(&tag);
    let removed =
        engine(async |engine| -> Result<(), EngineError> { engine.remove_image(&tag).await });
    removed.expect("the tag can be removed");

    ran.expect_passed();
    assert_eq!(after, id(BASE), "the host's tag was moved");
    let order: Vec<&str> = ran
        .cases()
        .filter(|(_, case)| case.suite == "deploy")
        .map(|(_, case)| case.name.as_str())
        .collect();
    assert_eq!(
        order,
        [
            "first / set",
            "first / push",
            "first / push one",
            "first / restart",
            "first / count",
            "last / bring the tool"
        ]
    );
    assert_eq!(ran.output_of("first/count"), ["new page"]);
    let branches = ran.record().engine.expect("an engine").branches;
    assert_eq!(branches, "copy");
    let package = ran.record().package.expect("a package");
    assert_eq!(
        (package.name.as_str(), package.version.as_deref()),
        ("actions", Some("2.40"))
    );
}

#[test]
fn what_a_step_breaks_is_the_packages_fault() {
    for (test, step, words) in [
        (
            "crash",
            "{ name: step, service: app, env: { COLOUR: null } }",
            "`app` did not get ready",
        ),
        (
            "read-only",
            "{ name: step, service: app, copy: deploy.yaml, to: /srv/page.yaml }",
            "read-only",
        ),
        (
            "exit",
            "{ name: step, run: \"echo cannot find the ledger >&2; exit 7\" }",
            "exit code 7: cannot find the ledger",
        ),
    ] {
        let package =
            format!("package: {test}\ncomponents:\n  - {{ name: app, steps: [{step}] }}\n");
        let place = Place::small(test, &package);
        let stack = std::fs::read_to_string(place.path("stack.yaml")).expect("the stack");
        // Without its colour it ends before its first health check.
        let stack = stack.replace("echo ready;", "test -n \\\"$$COLOUR\\\" || exit 4;");
        let check = "read_only: true\n    healthcheck: { test: [CMD, \"true\"], interval: 1s }\n    environment:";
        place.write("stack.yaml", stack.replace("environment:", check));
        let ran = place.run(&[]);
        ran.expect(1, Outcome::Failed, Some(Owner::Package))
            .expect_rolled_back();
        assert_eq!(ran.verdict().stage, Some(Stage::Deploy));
        let case = ran.case("deploy", "app / step");
        assert_eq!(case.status, CaseStatus::Failed);
        let said = case.message.as_deref().unwrap_or_default();
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_service_that_no_test_looks_at_must_stand_all_the_same() {
    let place = Place::small(
        "stands",
        "\
package: stands
components:
  - name: app
    steps:
      - name: stop the worker
        service: app
        run: touch /srv/state/stop; while getent hosts worker >/dev/null; do sleep 0.1; done
",
    );
    place.write(
        "stack.yaml",
        format!(
            "services:\n  app:\n    image: {BASE}\n    command: {IDLE}\n    volumes: [\"state:/srv/state\"]\n  worker:\n    \
             image: {BASE}\n    command: [sh, -c, \"until test -e /srv/state/stop; do sleep 0.1; done; exit 5\"]\n    \
             volumes: [\"state:/srv/state\"]\nvolumes: {{ state: }}\n"
        ),
    );
    let ran = place.run(&[]);
    ran.expect(1, Outcome::Failed, Some(Owner::Package))
        .expect_rolled_back();
    assert_eq!(ran.verdict().stage, Some(Stage::Verify));
    let case = ran.case("verify", "service `worker` still runs");
    assert_eq!(case.status, CaseStatus::Failed);
    assert!(
        ran.reason(Stage::Verify).contains("exit code 5"),
        "{}",
        ran.reason(Stage::Verify)
    );
}
