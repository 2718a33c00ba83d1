# What the benches share: the release program, a place to work, PostgreSQL containers of the sample's image.
# Sourced, not run. Everything that is made carries the label rehearse.bench and is removed at the end.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

need() {
    for tool in "$@"; do
        command -v "$tool" >/dev/null || { printf '%s: %s is missing\n' "$0" "$tool" >&2; exit 69; }
    done
}
say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

need cargo docker jq
cargo build --locked --release >&2
# The target folder's layout depends on the settings, so cargo is asked for the program's place.
program=$(cargo build --locked --release --message-format json 2>/dev/null |
    jq -r 'select(.reason == "compiler-artifact" and .target.name == "rehearse") | .executable | values')
"$program" demo --prepare >&2
image=rehearse-site/db:15
place=$(mktemp -d "${BENCH_DIR:-/var/tmp}/rehearse-bench.XXXXXX")
chmod 755 "$place" # the servers read and write below it

clean() {
    docker ps -aq --filter label=rehearse.bench | xargs -r docker rm -fv >/dev/null
    docker volume ls -q --filter label=rehearse.bench | xargs -r docker volume rm >/dev/null
    docker images -q rehearse-bench | sort -u | xargs -r docker rmi -f >/dev/null
    rm -rf -- "$place"
}
trap clean EXIT

volume() { docker volume create --label rehearse.bench "$1" >/dev/null; }
# server NAME VOLUME [docker run's options]: PostgreSQL as the stack of the benches runs it; returns when it answers.
server() {
    local name=$1 at=$2
    shift 2
    docker run -d --label rehearse.bench --name "$name" -v "$at:/var/lib/postgresql/data" --shm-size 256m \
        -e POSTGRES_USER=bench -e POSTGRES_PASSWORD=bench -e POSTGRES_INITDB_ARGS=--data-checksums "$@" "$image" >/dev/null
    # Over TCP: the server that runs during initialisation listens on the socket only.
    until docker exec "$name" pg_isready -q -h 127.0.0.1 -U bench; do sleep 0.05; done
}
stop() { docker stop -t 600 "$1" >/dev/null && docker rm -v "$1" >/dev/null; }
sql() { docker exec "$1" psql -X -q -v ON_ERROR_STOP=1 -U bench -d "$2" -c "$3" >/dev/null; }
# seconds COMMAND...: how long it took, with three decimals.
seconds() {
    local began
    began=$(date +%s%N)
    "$@" >&2 || return
    jq -n "(($(date +%s%N) - $began) / 1e6 | round) / 1000"
}
# figure EVENTS WHAT: a measured figure of a run; stage EVENTS STAGE: a stage's seconds.
figure() { jq -s --arg what "$2" 'map(select(.event == "measured" and .what == $what) | .seconds) | last | . * 1000 | round / 1000' "$1"; }
stage() { jq -s --arg stage "$2" 'map(select(.event == "stage-finished" and .stage == $stage) | .seconds) | last | . * 1000 | round / 1000' "$1"; }
events() { find "$1" -name events.jsonl | sort | tail -n 1; }
machine() {
    printf '\n%s; %d cores, %s of memory; engine %s; load %s; %s.\n' "$(uname -sr)" "$(nproc)" \
        "$(awk '/MemTotal/ { printf "%.0f GB", $2 / 1e6 }' /proc/meminfo)" \
        "$(docker version --format '{{.Server.Version}}'), $(docker info --format '{{.Driver}}')" \
        "$(cut -d' ' -f1-3 /proc/loadavg)" "$(date -u +%F)"
}

# The stack of the benches: one database, nothing else.
stack() {
    cat >"$place/stack.yaml" <<END
services:
  db:
    image: $image
    environment: { POSTGRES_USER: bench, POSTGRES_PASSWORD: bench, POSTGRES_INITDB_ARGS: --data-checksums }
    volumes: ["data:/var/lib/postgresql/data"]
    expose: ["5432"]
    shm_size: 256m
    healthcheck: { test: [CMD, pg_isready, -q, -h, 127.0.0.1, -U, bench], interval: 250ms, retries: 40, start_period: 60s }
volumes: { data: }
END
}
