//! What a stack says is what its containers are, seen from inside.

use rehearsal::event::EventKind;
use rehearsal::verdict::Outcome;

use crate::common::{BASE, IDLE, Place, engine};

/// Every supported key that can be seen from inside, once.
fn stack(name: &str) -> String {
    format!(
        "name: {name}
services:
  app:
    image: {BASE}
    command: {IDLE}
    user: \"1000:1000\"
    working_dir: /srv
    hostname: counter
    init: true
    env_file: app.env
    environment: {{ WORD: \"${{WORD}}\", OTHER: \"${{OTHER:-fallback}}\", PRICE: 5$$ }}
    volumes:
      - data:/srv/data
      - ./rules.txt:/etc/rules.txt:ro
    tmpfs: [\"/scratch:size=1m,mode=1777\"]
    secrets: [token]
    configs: [{{ source: settings, target: /etc/settings.ini }}]
    mem_limit: 64m
    cpus: 0.5
    shm_size: 8m
    networks: {{ back: {{ aliases: [till] }} }}
    depends_on:
      migrate: {{ condition: service_completed_successfully }}
      slow: {{ condition: service_healthy }}
  migrate:
    image: {BASE}
    command: [sh, -c, \"getent hosts slow && test -e /srv/data/ready && date +%s%N > /srv/data/migrated && chmod 644 /srv/data/migrated\"]
    volumes: [\"data:/srv/data\"]
    depends_on: {{ slow: {{ condition: service_healthy }} }}
  slow:
    image: {BASE}
    entrypoint: [sh, -c]
    command: [\"sleep 1; touch /srv/data/ready; trap 'exit 0' TERM; while :; do sleep 3600 & wait $$!; done\"]
    volumes: [\"data:/srv/data\"]
    networks: [front, back]
    container_name: legacy-name
    read_only: true
    healthcheck: {{ test: test -e /srv/data/ready, interval: 200ms, retries: 50 }}
  made:
    build: {{ context: made, args: {{ MADE: by hand }} }}
    command: {IDLE}
    ports: []
volumes: {{ data: }}
networks: {{ front: , back: }}
secrets: {{ token: {{ file: token.txt }} }}
configs: {{ settings: {{ file: settings.ini }} }}
"
    )
}

/// A test's name, its service, its command and what it must print.
const SEEN: [(&str, &str, &str, &str); 20] = [
    ("user", "app", "id -u; id -g", "1000\\n1000"),
    ("working_dir", "app", "pwd", "/srv"),
    ("hostname", "app", "hostname", "counter"),
    ("env_file", "app", "printenv FROM_FILE", "yes, it is"),
    ("variable of .env", "app", "printenv WORD", "staging"),
    ("default of a variable", "app", "printenv OTHER", "fallback"),
    ("escaped dollar", "app", "printenv PRICE", "5$"),
    (
        "file of the stack",
        "app",
        "cat /etc/rules.txt",
        "no ball games",
    ),
    (
        "tmpfs",
        "app",
        "touch /scratch/x && stat -f -c %T /scratch",
        "tmpfs",
    ),
    ("secret", "app", "cat /run/secrets/token", "t0ken"),
    ("config", "app", "cat /etc/settings.ini", "depth=3"),
    (
        "memory limit",
        "app",
        "cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes",
        "67108864",
    ),
    (
        "shared memory",
        "app",
        "df --output=size /dev/shm | tail -1 | tr -d ' '",
        "8192",
    ),
    (
        "alias",
        "slow",
        "getent hosts till >/dev/null && echo known",
        "known",
    ),
    (
        "container_name",
        "app",
        "getent hosts legacy-name >/dev/null && echo known",
        "known",
    ),
    (
        "one-shot before its dependant",
        "app",
        "test -s /srv/data/migrated && echo done",
        "done",
    ),
    (
        "read-only root",
        "slow",
        "touch /x 2>/dev/null || echo refused",
        "refused",
    ),
    ("build argument", "made", "cat /made", "by hand"),
    (
        "no new privileges",
        "app",
        "grep NoNewPrivs /proc/self/status | tr -dc 0-9",
        "1",
    ),
    ("init", "app", "cat /proc/1/comm", "docker-init"),
];

#[test]
fn what_the_stack_says_is_seen_from_inside() {
    let place = Place::new("stack");
    let name = place.name().to_owned();
    place.write("stack.yaml", stack(&name));
    place.write(".env", "WORD=staging\n");
    place.write("app.env", "FROM_FILE=yes, it is\n");
    place.write("rules.txt", "no ball games\n");
    place.write("token.txt", "t0ken");
    place.write("settings.ini", "depth=3\n");
    place.write(
        "made/Dockerfile",
        format!("FROM {BASE}\nARG MADE\nRUN echo \"$MADE\" > /made\n"),
    );
    let mut testplan = "testplan: stack\ntests:\n".to_owned();
    for (name, service, command, seen) in SEEN {
        testplan += &format!(
            "  - name: {name}\n    exec: {{ service: {service}, run: '{}' }}\n    expect: {{ stdout: {{ equals: \"{seen}\" }} }}\n",
            command.replace('\'', "''")
        );
    }
    place.write("testplan.yaml", testplan);
    place.write("backup.tar", crate::backup::archive(&name));
    place.rehearsal("restore: [{ volume: data, archive: backup.tar }]\n");
    let mut command = place.command("backup-check", &place.path("rehearsal.yaml"));
    // What whoever runs it has in the environment is none of staging's business.
    command
        .env("OTHER", "of the caller")
        .env("WORD", "of the caller");
    let ran = crate::common::Live::start(command).finish();
    let image = format!("rehearse-{name}-made");
    let removed = engine(async |engine| engine.remove_image(&image).await);
    ran.expect(0, Outcome::Passed, None).expect_nothing_left();
    removed.expect("the image that the stack asked for was built");
    let built = ran.events.iter().any(|event| {
        matches!(&event.kind, EventKind::Note { text, .. } if text == &format!("built {image}"))
    });
    assert!(built, "no word of the build");
    crate::common::forget_bases_of(ran.run());
}
