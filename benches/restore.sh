#!/usr/bin/env bash
# Restores a pgbench dump through rehearse and by bare pg_restore in turn, and prints the ratio:
#   benches/restore.sh [GB] [ROUNDS]      (default 2 GB of database, 3 rounds)
# Both start with an empty volume of the same kind and end with a server that has stopped cleanly.
gigabytes=${1:-2}
rounds=${2:-3}
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

jobs=$(nproc)
scale=$(jq -n "$gigabytes * 66.7 | round | if . < 1 then 1 else . end")
say "make a database of $gigabytes GB (pgbench scale $scale) and dump it"
volume rehearse-bench-source
server rehearse-bench-source rehearse-bench-source
docker exec rehearse-bench-source createdb -U bench pgbench
docker exec rehearse-bench-source pgbench -q -i -s "$scale" -U bench pgbench >&2
docker exec rehearse-bench-source pg_dump -U bench -Fc -f /tmp/pgbench.dump pgbench
docker cp -q rehearse-bench-source:/tmp/pgbench.dump "$place/pgbench.dump" 2>/dev/null ||
    docker cp rehearse-bench-source:/tmp/pgbench.dump "$place/pgbench.dump" >/dev/null
stop rehearse-bench-source
docker volume rm rehearse-bench-source >/dev/null

stack
cat >"$place/rehearsal.yaml" <<END
rehearsal: bench-restore
stack: stack.yaml
limits: { restore: 2h }
restore:
  - service: db
    postgres: { dump: pgbench.dump, database: pgbench, user: bench, jobs: $jobs }
END

bare() {
    volume rehearse-bench-bare
    server rehearse-bench-bare rehearse-bench-bare -v "$place:/dump:ro"
    docker exec rehearse-bench-bare createdb -U bench -T template0 pgbench
    docker exec rehearse-bench-bare pg_restore -U bench -d pgbench --exit-on-error -j "$jobs" /dump/pgbench.dump
    stop rehearse-bench-bare
}
forget() { "$program" bases --format json | jq -r '.[] | select(.rehearsal == "bench-restore") | .key' | xargs -r "$program" bases remove >&2; }
ours() { "$program" backup-check "$place/rehearsal.yaml" --report-dir "$place/reports" --format json >/dev/null; }

printf '| round | bare `pg_restore -j %d` | stage restore of rehearse | ratio |\n|---|---|---|---|\n' "$jobs"
for ((i = 1; i <= rounds; i++)); do
    b=$(seconds bare)
    docker volume rm rehearse-bench-bare >/dev/null
    forget
    ours || say "the backup check did not pass"
    # What the stage takes to examine the base comes after the restore and is not part of it.
    o=$(figure "$(events "$place/reports")" restore)
    printf '| %d | %s | %s | %s |\n' "$i" "$b" "$o" "$(jq -n "$o / $b * 1000 | round / 1000")"
done
forget
printf '\nSeconds. A database of %s GB, its dump of %s bytes; the whole of it: empty volume, initdb, restore, clean stop.\n' \
    "$gigabytes" "$(stat -c %s "$place/pgbench.dump")"
machine
