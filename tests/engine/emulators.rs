//! Systems outside, under their real names, inside: what they are asked for is seen, and judged.

use rehearsal::event::{Case, CaseStatus, EventKind, Exchange, Owner, Stage};
use rehearsal::verdict::Outcome;

use crate::common::{IDLE, Place, Ran};

/// Has `curl`, which speaks HTTP and SMTP.
const TOOLS: &str = "rehearse-site/bastion:1";

/// A payment service, a mail server, and a system that is far away.
const EMULATORS: &str = "\
emulators:
  - name: payments
    hosts: [api.payments.example]
    http:
      tls: true
      trust: [app, bastion]
      routes:
        - { path: /charge, method: POST, status: 201, headers: { content-type: application/json }, body: '{\"paid\": \"{{ request.json.id }}\"}' }
        - { path: /files/*, file: answer.json, delay: 50ms }
        - { path: /status, body: \"up, {{ request.query.who }}\" }
  - name: mail
    hosts: [smtp.example.com]
    smtp: { ports: [25, 587], accept: [\"*@staging.example\"] }
  - name: far away
    hosts: [slow.example.com]
    blackhole: { ports: [5432] }
";

/// A service and a bastion with the tools, these emulators, this test plan (the tests alone) and these steps.
fn place(test: &str, emulators: &str, tests: &str, steps: &str) -> Place {
    let place = Place::small(
        test,
        &format!("package: {test}\ncomponents:\n  - name: shop\n    steps:\n{steps}"),
    );
    place.write(
        "stack.yaml",
        format!("services:\n  app:\n    image: {TOOLS}\n    command: {IDLE}\n    volumes: [\"state:/srv/state\"]\nvolumes: {{ state: }}\n"),
    );
    place.write(
        "testplan.yaml",
        format!(
            "testplan: small\ntests:\n  - name: the app answers\n    exec: {{ service: app, run: echo up }}\n    \
             expect: {{ stdout: up }}\n{tests}"
        ),
    );
    place.write("answer.json", "{\"from\": \"a file\"}");
    let name = place.name().to_owned();
    place.write(
        "rehearsal.yaml",
        format!(
            "rehearsal: {name}\nstack: stack.yaml\npackage: package\ntestplan: testplan.yaml\n\
             bastion: {{ image: \"{TOOLS}\" }}\n{emulators}"
        ),
    );
    place
}

/// Everything that an emulator was asked for: stage, asker, how, what, and whether something fitted.
fn asked<'a>(ran: &'a Ran, wanted: &str) -> Vec<(Stage, &'a str, Exchange, &'a str, bool)> {
    let events = ran.events.iter().filter_map(|event| match &event.kind {
        EventKind::EmulatorRequest {
            stage,
            emulator,
            asker,
            kind,
            summary,
            matched,
            ..
        } if emulator == wanted => {
            Some((*stage, asker.as_str(), *kind, summary.as_str(), *matched))
        }
        _ => None,
    });
    events.collect()
}

/// The one case of the suite that is not passed.
fn only_bad(ran: &Ran, status: CaseStatus) -> &Case {
    let bad: Vec<&Case> = ran
        .cases()
        .map(|(_, case)| case)
        .filter(|case| case.suite == "emulators" && case.status != CaseStatus::Passed)
        .collect();
    match bad.as_slice() {
        [case] if case.status == status => case,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_a_deploy_asks_for_is_answered_recorded_and_asserted_on() {
    let place = place(
        "emulated",
        EMULATORS,
        "  - name: the app trusts the authority, in every generation of it
    exec: { service: app, run: \"curl -fsS 'https://api.payments.example/status?who=app'\" }
    expect: { stdout: { equals: \"up, app\" } }
  - name: one card was charged, by the bastion
    emulator: { name: payments, received: { method: post, path: /charge, by: bastion, body: '/\"id\": ?\"x-1\"/', count: 1 } }
  - name: nothing was refunded
    emulator: { name: payments, received: { path: /refund*, count: 0 } }
  - name: the app asked before there was a deploy
    when: [baseline, verify]
    emulator: { name: payments, since: start, received: { by: app, path: /status, count: { min: 1, max: 9 } } }
  - name: the tester was told
    emulator: { name: mail, received: { from: shop@example.com, to: anna@staging.example, subject: Your order, body: /thank you/, count: 1 } }
",
        "      - name: charge
        run: |
          curl -fsS --json '{\"id\": \"x-1\"}' https://api.payments.example/charge
          echo
      - { name: download, run: curl -fsS http://api.payments.example/files/a/b }
      - name: tell the tester
        run: |
          printf 'Subject: Your order\\r\\nTo: anna@staging.example\\r\\n\\r\\nthank you\\r\\n' > /tmp/mail
          curl -sS smtp://smtp.example.com:587 --user shop:secret --mail-from shop@example.com --mail-rcpt anna@staging.example -T /tmp/mail
",
    );
    let ran = place.run(&[]);
    ran.expect_passed();
    assert_eq!(ran.output_of("shop/charge"), ["{\"paid\": \"x-1\"}"]);
    assert_eq!(ran.output_of("shop/download"), ["{\"from\": \"a file\"}"]);
    let payments = asked(&ran, "payments");
    for wanted in [
        (Stage::Baseline, "app", Exchange::Https, "GET /status", true),
        (
            Stage::Deploy,
            "bastion",
            Exchange::Https,
            "POST /charge",
            true,
        ),
        (
            Stage::Deploy,
            "bastion",
            Exchange::Http,
            "GET /files/a/b",
            true,
        ),
        (Stage::Verify, "app", Exchange::Https, "GET /status", true),
        (Stage::Rollback, "app", Exchange::Https, "GET /status", true),
    ] {
        assert!(payments.contains(&wanted), "{wanted:?}: {payments:?}");
    }
    assert_eq!(
        asked(&ran, "mail"),
        [(
            Stage::Deploy,
            "bastion",
            Exchange::Smtp,
            "mail from shop@example.com to anna@staging.example: Your order",
            true
        )]
    );
    assert_eq!(
        ran.case("emulators", "payments during the deploy")
            .message
            .as_deref(),
        Some("2 requests")
    );
    assert_eq!(
        ran.case("emulators", "far away after the deploy").status,
        CaseStatus::Passed
    );
    assert_eq!(
        ran.record().outside_names,
        [],
        "an emulated name is no outside one"
    );
    assert_eq!(ran.record().mails_to_strangers(), 0);
    // Trust that is put into a container is nothing that it changed itself.
    let committed = ran.events.iter().any(|event| {
        matches!(&event.kind, EventKind::Note { text, .. } if text.contains("changed its own filesystem"))
    });
    assert!(!committed);
    // The authority's key is in no file of the run.
    let events = std::fs::read_to_string(ran.dir().join("events.jsonl")).expect("the events");
    assert!(
        !events.contains("PRIVATE KEY") && !events.contains("c2hvcA"),
        "keys and passwords"
    );
}

#[test]
fn what_no_emulator_answers_fails_the_deploy_by_name() {
    let place = place(
        "unmatched",
        EMULATORS,
        "",
        "      - { name: refund, run: \"curl -s -X POST http://api.payments.example/refund\" }\n",
    );
    let ran = place.run(&[]);
    ran.expect(1, Outcome::Failed, Some(Owner::Package))
        .expect_rolled_back();
    let case = only_bad(&ran, CaseStatus::Failed);
    assert_eq!(case.name, "payments during the deploy");
    assert_eq!(
        case.message.as_deref(),
        Some("bastion asked for POST /refund: no route fits")
    );
    let reason = &ran.verdict().reason;
    assert!(reason.contains("POST /refund"), "{reason}");
    assert_eq!(
        ran.case("deploy", "shop / refund").status,
        CaseStatus::Passed
    );
}

#[test]
fn what_is_allowed_is_told_and_a_count_that_is_wrong_fails() {
    let emulators = EMULATORS.replace(
        "      tls: true\n",
        "      tls: true\n      unmatched: allow\n",
    );
    let tests = "  - name: one refund
    emulator: { name: payments, received: { path: /refund, count: COUNT } }
";
    let step =
        "      - { name: refund, run: \"curl -s -X POST http://api.payments.example/refund\" }\n";
    let first = place("allowed", &emulators, &tests.replace("COUNT", "1"), step);
    let ran = first.run(&[]);
    ran.expect_passed();
    let case = ran.case("emulators", "payments during the deploy");
    assert_eq!(
        case.message.as_deref(),
        Some("1 request, 1 of them unmatched, which is allowed")
    );
    first.write(
        "testplan.yaml",
        format!(
            "testplan: small\ntests:\n  - name: the app answers\n    exec: {{ service: app, run: echo up }}\n    \
             expect: {{ stdout: up }}\n{}",
            tests.replace("COUNT", "2")
        ),
    );
    let ran = first.run(&[]);
    ran.expect(1, Outcome::Failed, Some(Owner::Package))
        .expect_rolled_back();
    let case = ran.case("verify.small", "one refund");
    assert_eq!(case.status, CaseStatus::Failed);
    let why = &case.mismatches[0];
    assert_eq!(
        (why.what.as_str(), why.expected.as_str()),
        ("requests", "2 /refund")
    );
    assert_eq!(why.seen, "1, of all it received: POST /refund");
}

#[test]
fn a_deploy_that_mails_a_customer_is_seen() {
    let place = place(
        "mails",
        EMULATORS,
        "",
        "      - name: tell everybody
        run: |
          printf 'Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\\r\\n\\r\\nhello\\r\\n' > /tmp/mail
          curl -sS smtp://smtp.example.com --mail-from shop@example.com --mail-rcpt anna@staging.example \\
            --mail-rcpt customer@example.org -T /tmp/mail
",
    );
    let ran = place.run(&[]);
    ran.expect(1, Outcome::Failed, Some(Owner::Package))
        .expect_rolled_back();
    let case = only_bad(&ran, CaseStatus::Failed);
    assert_eq!(case.name, "mail during the deploy");
    let why = case.message.as_deref().unwrap_or_default();
    assert!(
        why.contains("bastion sent mail from shop@example.com")
            && why.contains("Grüße")
            && why.ends_with("customer@example.org may not be written to"),
        "{why}"
    );
    assert_eq!(ran.record().mails_to_strangers(), 1);
    let page = std::fs::read_to_string(ran.dir().join("report.html")).expect("the page");
    assert!(page.contains("1 mail would have gone to customers"));
}

#[test]
fn mail_to_a_port_where_nobody_listens_fails_the_deploy_though_it_goes_on() {
    let emulators = EMULATORS.replace("ports: [25, 587]", "ports: [25]");
    let place = place(
        "other-port",
        &emulators,
        "",
        "      - name: tell the tester
        run: |
          printf 'Subject: hi\\r\\n\\r\\nhello\\r\\n' > /tmp/mail
          curl -sS smtp://smtp.example.com:587 --mail-from shop@example.com --mail-rcpt anna@staging.example -T /tmp/mail || true
",
    );
    let ran = place.run(&[]);
    ran.expect(1, Outcome::Failed, Some(Owner::Package))
        .expect_rolled_back();
    let case = only_bad(&ran, CaseStatus::Failed);
    assert_eq!(case.name, "mail during the deploy");
    assert_eq!(
        case.message.as_deref(),
        Some(
            "bastion called port 587, where this emulator does not listen: give it the port, or the package must not call it"
        )
    );
    let step = ran.case("deploy", "shop / tell the tester");
    assert_eq!(step.status, CaseStatus::Passed);
    assert_eq!(
        asked(&ran, "mail"),
        [(
            Stage::Deploy,
            "bastion",
            Exchange::Tcp,
            "call of unserved port 587",
            false
        )]
    );
    assert_eq!(ran.record().mails_to_strangers(), 0);
}

#[test]
fn https_that_an_emulator_does_not_speak_fails_the_deploy_though_it_goes_on() {
    let emulators = EMULATORS.replace("      tls: true\n      trust: [app, bastion]\n", "");
    let place = place(
        "without-tls",
        &emulators,
        "",
        "      - { name: refund, run: \"curl -s -X POST https://api.payments.example/refund || true\" }\n",
    );
    let ran = place.run(&[]);
    ran.expect(1, Outcome::Failed, Some(Owner::Package))
        .expect_rolled_back();
    let case = only_bad(&ran, CaseStatus::Failed);
    assert_eq!(case.name, "payments during the deploy");
    assert_eq!(
        case.message.as_deref(),
        Some(
            "bastion called port 443, where this emulator does not listen: give it the port, or the package must not call it"
        )
    );
    let help = ran.verdict().help.as_deref().unwrap_or_default();
    assert!(help.contains("give it the port at"), "{help}");
}

#[test]
fn a_call_of_another_port_is_no_mail_and_what_a_test_calls_itself_is_nobodys_fault() {
    let emulators = EMULATORS.replace("ports: [25, 587]", "unmatched: allow, ports: [25]");
    let place = place(
        "calls-allowed",
        &emulators,
        "  - name: no mail was sent
    emulator: { name: mail, received: { count: 0 } }
  - name: the payments have no other port
    tcp: api.payments.example:8443
    expect: { open: false }
",
        "      - name: calls
        run: |
          curl -s smtp://smtp.example.com:587 --mail-rcpt anna@staging.example -T /etc/hostname || true
          bash -c 'echo hello > /dev/udp/smtp.example.com/123'
          bash -c 'echo hello > /dev/udp/slow.example.com/123'
",
    );
    let ran = place.run(&[]);
    ran.expect_passed();
    let said = |case| ran.case("emulators", case).message.as_deref();
    assert_eq!(
        said("mail during the deploy"),
        Some("0 mails; 2 calls of ports where it does not listen, which is allowed")
    );
    assert_eq!(
        said("far away during the deploy"),
        Some(
            "0 connections that hung; 1 call of a port where it does not listen, which is allowed"
        )
    );
    let summaries: Vec<&str> = asked(&ran, "mail").iter().map(|one| one.3).collect();
    assert_eq!(
        summaries,
        ["call of unserved port 587", "call of unserved port 123/udp"]
    );
    assert_eq!(asked(&ran, "payments"), []);
}

#[test]
fn a_service_that_does_not_trust_is_told_and_a_blackhole_makes_a_step_late() {
    let emulators = EMULATORS.replace("trust: [app, bastion]", "trust: [bastion]");
    let place = place(
        "distrusts",
        &emulators,
        "",
        "      - { name: ask, service: app, run: \"curl -sS https://api.payments.example/status\", expect_exit: 60 }
      - { name: hang, run: \"curl -s http://slow.example.com:5432/\", timeout: 2s }
",
    );
    let ran = place.run(&[]);
    ran.expect(1, Outcome::Failed, Some(Owner::Package))
        .expect_rolled_back();
    assert_eq!(ran.case("deploy", "shop / ask").status, CaseStatus::Passed);
    let hang = ran.case("deploy", "shop / hang");
    assert_eq!(hang.status, CaseStatus::Failed);
    assert!(
        hang.message
            .as_deref()
            .is_some_and(|why| why.contains("timeout of 2 s")),
        "{hang:?}"
    );
    let told = only_bad(&ran, CaseStatus::Warned);
    let why = told.message.as_deref().unwrap_or_default();
    assert!(
        why.contains("app asked for TLS") && why.contains("`trust`"),
        "{why}"
    );
    let far = asked(&ran, "far away");
    assert_eq!(
        far,
        [(
            Stage::Deploy,
            "bastion",
            Exchange::Tcp,
            "connection to port 5432",
            true
        )]
    );
}

#[test]
fn what_staging_itself_asks_for_in_vain_is_not_the_packages_fault() {
    let place = place(
        "lacking",
        EMULATORS,
        "  - name: the app asks
    exec: { service: app, run: \"curl -s -o /dev/null http://api.payments.example/rates; echo asked\" }
    expect: { stdout: asked }
",
        "      - { name: nothing, run: \"true\" }\n",
    );
    let ran = place.run(&[]);
    ran.expect(2, Outcome::Invalid, Some(Owner::Staging))
        .expect_nothing_left();
    let case = only_bad(&ran, CaseStatus::Failed);
    assert_eq!(case.name, "payments before the deploy");
    assert!(
        ran.reason(Stage::Baseline)
            .contains("app asked for GET /rates")
    );
    assert!(ran.stage(Stage::Deploy).is_none());
}

#[test]
fn an_image_can_stand_in_and_says_that_nothing_is_recorded() {
    let place = place(
        "image",
        "\
emulators:
  - name: search
    hosts: [search.example.com]
    image:
      image: rehearse-site/cms:2.3
      environment: { GREETING: hello }
      command: [sh, -c, 'mkdir /tmp/w && cd /tmp/w && echo \"$GREETING\" > index.html && exec python3 -m http.server 80']
",
        "",
        "      - { name: search, run: \"curl -fsS --retry 30 --retry-delay 1 --retry-connrefused http://search.example.com/\" }\n",
    );
    let ran = place.run(&[]);
    ran.expect_passed();
    assert_eq!(ran.output_of("shop/search").last(), Some(&"hello"));
    assert_eq!(asked(&ran, "search"), []);
    let said = ran.events.iter().any(|event| {
        matches!(&event.kind, EventKind::Note { text, .. } if text.contains("what it is asked for is not recorded"))
    });
    assert!(said);
}
