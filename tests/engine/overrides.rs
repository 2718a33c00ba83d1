//! Compose files as packages: every change is there after the deploy, all at once, and gone after the rollback.

use rehearsal::event::{CaseStatus, Owner};
use rehearsal::verdict::Outcome;

use crate::common::{BASE, IDLE, Place};
use crate::shapes::image_archive;

const TESTS: &str = "\
testplan: overrides
tests:
  - { name: blue, when: [baseline, rollback], exec: { service: app, run: 'echo $COLOUR $KEPT' }, expect: { stdout: { equals: blue yes } } }
  - { name: green, when: verify, exec: { service: app, run: 'echo $COLOUR $KEPT $RELEASE' }, expect: { stdout: { equals: green yes 2.4 } } }
  - { name: old settings, when: [baseline, rollback], file: { service: app, path: /etc/app.conf }, expect: { content: old } }
  - { name: new settings, when: verify, file: { service: app, path: /etc/app.conf }, expect: { content: new, mode: '0644', owner: '0:0' } }
  - { name: a folder, when: verify, file: { service: app, path: /srv/site/deep/page.html }, expect: { content: page } }
  - { name: no folder, when: [baseline, rollback], file: { service: app, path: /srv/site }, expect: { exists: false } }
  - { name: a script, when: verify, exec: { service: app, run: /srv/site/run.sh }, expect: { stdout: ran } }
  - { name: what was written stays, when: verify, file: { service: app, path: /srv/state/written }, expect: { exists: true } }
  - { name: at its start, when: verify, exec: { service: app, run: cat /srv/state/seen-at-start }, expect: { stdout: { equals: new green } } }
  - { name: the old tool, when: [baseline, rollback], file: { service: tool, path: /marker }, expect: { exists: false } }
  - { name: the new tool, when: verify, file: { service: tool, path: /marker }, expect: { content: carried } }
";

#[test]
fn a_compose_file_changes_its_services_at_once_in_the_order_of_the_stack() {
    let place = Place::small("overrides", "");
    std::fs::remove_file(place.path("package/deploy.yaml")).expect("the manifest");
    place.write("old.conf", "old\n");
    // It writes down what it sees when it starts: a file that comes later would be too late.
    let start = "touch /srv/state/written; echo $$(cat /etc/app.conf) $$COLOUR > /srv/state/seen-at-start; \
                 trap 'exit 0' TERM; while :; do sleep 3600 & wait $$!; done";
    place.write(
        "stack.yaml",
        format!(
            "services:\n  tool:\n    image: {BASE}\n    command: {IDLE}\n    depends_on: [app]\n  app:\n    image: {BASE}\n    \
             command: [sh, -c, \"{start}\"]\n    environment: {{ COLOUR: blue, KEPT: \"yes\" }}\n    \
             volumes: [\"state:/srv/state\", \"./old.conf:/etc/app.conf:ro\"]\nvolumes: {{ state: }}\n"
        ),
    );
    place.write("testplan.yaml", TESTS);
    place.write(
        "package/compose.yaml",
        "services:\n  tool:\n    image: registry.example.com/tool:2.4\n    command: []\n  app:\n    env_file: release.env\n    \
         environment: { COLOUR: green }\n    volumes: [\"./site:/srv/site:ro\"]\n    \
         configs: [{ source: settings, target: /etc/app.conf, mode: 0644 }]\nconfigs: { settings: { file: ./new.conf } }\n",
    );
    place.write("package/release.env", "RELEASE=2.4\nCOLOUR=red\n");
    place.write("package/new.conf", "new\n");
    place.write("package/site/deep/page.html", "page\n");
    let script = place.write("package/site/run.sh", "#!/bin/sh\necho ran\n");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(script, mode).expect("a mode");
    place.write(
        "package/images/tool.tar",
        image_archive("registry.example.com/tool:2.4"),
    );
    let ran = place.run(&[]);
    ran.expect_passed();
    let order: Vec<&str> = ran
        .cases()
        .filter(|(_, case)| case.suite == "deploy")
        .map(|(_, case)| case.name.as_str())
        .collect();
    assert_eq!(order, ["app / recreate", "tool / recreate"]);
}

#[test]
fn a_service_that_does_not_stand_its_changes_is_the_packages_fault() {
    let place = Place::small("override-falls", "");
    std::fs::remove_file(place.path("package/deploy.yaml")).expect("the manifest");
    place.write(
        "package/compose.yaml",
        "services:\n  app:\n    command: [sh, -c, \"echo no settings >&2; exit 4\"]\n",
    );
    let ran = place.run(&[]);
    ran.expect(1, Outcome::Failed, Some(Owner::Package))
        .expect_rolled_back();
    let case = ran.case("deploy", "app / recreate");
    assert_eq!(case.status, CaseStatus::Failed);
    let said = format!("{case:?}");
    assert!(
        said.contains("did not get ready") && said.contains("no settings"),
        "{said}"
    );
}
