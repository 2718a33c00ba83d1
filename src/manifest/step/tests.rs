use super::*;
use crate::manifest::load_package;

/// The one step of a package that has a page, a folder to build from, and nothing else.
fn step(written: &str) -> Result<StepEntry, Problems> {
    let temp = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| std::fs::write(temp.path().join(name), text).unwrap();
    std::fs::create_dir(temp.path().join("image")).unwrap();
    std::fs::create_dir_all(temp.path().join("hollow/inner")).unwrap();
    put("image/Dockerfile", "FROM scratch\n");
    put("page.html", "hello\n");
    put(
        "deploy.yaml",
        &format!(
            "package: x\ncomponents:\n  - name: app\n    steps:\n      - {{ name: s, {written} }}\n"
        ),
    );
    let manifest = load_package(temp.path(), Path::new("package"))?;
    Ok(manifest.components[0].steps[0].clone())
}

/// The message of the one thing that is wrong with a step.
fn wrong(written: &str) -> String {
    let problems = step(written).unwrap_err();
    assert_eq!(problems.0.len(), 1, "{written}: {problems}");
    problems.0[0].message.clone()
}

const CHANGING: [&str; 4] = [
    "copy: page.html, to: /srv/page.html",
    "image: image",
    "env: { A: b }",
    "files: [{ template: page.html, to: /srv/page.html }]",
];

#[test]
fn target_is_another_spelling_of_service() {
    for action in CHANGING.into_iter().chain(["run: x"]) {
        let service = step(&format!("{action}, service: web")).unwrap();
        let target = step(&format!("{action}, target: web")).unwrap();
        assert_eq!(target.step.action, service.step.action, "{action}");
        let named = target.service.unwrap();
        assert_eq!(named.value, "web", "{action}");
        assert_eq!(named.place.location().line, 5, "{action}");
        assert_eq!(
            wrong(&format!("{action}, service: web, target: app")),
            "the step has both `service` and `target`"
        );
    }
}

#[test]
fn a_step_that_changes_a_service_names_one() {
    for action in CHANGING {
        assert_eq!(wrong(action), "the step `s` has no `service`");
        assert_eq!(
            wrong(&format!("{action}, target: bastion")),
            "only a `run` step can have the bastion as its target"
        );
    }
    assert_eq!(
        wrong("restart: web, target: web"),
        "unknown key `target` in the step `s`"
    );
}

#[test]
fn what_the_digest_does_not_cover_is_not_copied() {
    assert_eq!(
        wrong("copy: hollow/, service: web, to: /srv"),
        "the folder `hollow/` has no file in it"
    );
}

#[test]
fn a_script_runs_where_its_target_says_as_its_user() {
    let entry = step("run: cms warm, target: app, user: cms").unwrap();
    assert_eq!(
        entry.step.action,
        Action::Run {
            script: "cms warm".to_owned(),
            service: Some("app".to_owned()),
            user: Some("cms".to_owned()),
        }
    );
    let entry = step("run: psql, target: bastion, user: postgres").unwrap();
    assert_eq!(
        entry.step.action,
        Action::Run {
            script: "psql".to_owned(),
            service: None,
            user: Some("postgres".to_owned()),
        }
    );
    assert!(entry.service.is_none());
}
