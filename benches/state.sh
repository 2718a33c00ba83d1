#!/usr/bin/env bash
# What snapshot, branch and rollback cost at several sizes, beside what else copies a database, and what they take on disk:
#   benches/state.sh [GB...]      (default 0.1 1 5 10; needs about five times the largest as free space)
# dslr (PyPI) is measured where pip can install it.
sizes=("$@")
[[ ${#sizes[@]} -gt 0 ]] || sizes=(0.1 1 5 10)
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

dslr=""
if command -v python3 >/dev/null && python3 -m venv "$place/venv" >/dev/null 2>&1 &&
    "$place/venv/bin/pip" -q install 'DSLR[psycopg2-binary]' >&2; then
    dslr=$place/venv/bin/dslr
fi

# A package that does nothing, one that reads every row, and one that changes a hundredth of them.
packages=(nothing read hundredth)
for package in "${packages[@]}"; do
    mkdir -p "$place/$package"
    case $package in
        nothing) work='select 1' ;;
        read) work='select count(*) from filler' ;;
        hundredth) work='update filler set pad = upper(pad) where id % 100 = 0' ;;
    esac
    cat >"$place/$package/deploy.yaml" <<END
package: $package
components:
  - name: db
    steps: [{ name: work, service: db, timeout: 30m, run: "psql -X -q -v ON_ERROR_STOP=1 -U bench -d bench -c '$work' -c checkpoint" }]
END
done
stack
cat >"$place/testplan.yaml" <<'END'
testplan: bench
tests:
  - name: the database answers
    sql: { service: db, database: bench, user: bench, query: "select 1" }
    expect: { value: 1 }
END

# make GB: a base backup of a database of that size.
make() {
    local rows
    rows=$(jq -n "$1 * 900000 | floor")
    volume rehearse-bench-source
    server rehearse-bench-source rehearse-bench-source -v "$place:/out"
    sql rehearse-bench-source bench "create table filler (id bigint primary key, pad char(1000) not null)"
    sql rehearse-bench-source bench "insert into filler select n, md5(n::text) from generate_series(1, $rows) n"
    sql rehearse-bench-source bench "vacuum analyze filler"
    sql rehearse-bench-source bench checkpoint
    docker exec -u 0 rehearse-bench-source sh -c "rm -rf /out/base && install -d -o postgres /out/base"
    docker exec -u postgres rehearse-bench-source pg_basebackup -U bench -D /out/base -Ft -X stream -c fast
    docker exec -u 0 rehearse-bench-source chmod -R a+rX /out/base
    stop rehearse-bench-source
}

own() { # own RUN: kilobytes that the deploy's branch of a kept run has written, and nothing else.
    docker volume ls -q --filter "name=rehearse-$1-" | grep -E -- '-own$' | tail -n 1 | {
        read -r name
        docker run --rm --label rehearse.bench -v "$name:/v:ro" --entrypoint du "$image" -sk /v | cut -f1
    }
}

rehearse() { "$program" run "$place/rehearsal.yaml" --package "$place/$1" --report-dir "$place/reports" --format json "${@:2}" >/dev/null; }
until_restored() { # from the first event to the end of the restore stage
    jq -s 'def s($t): $t | capture("(?<w>.*?)(?<p>\\.[0-9]+)?Z$") | ((.w + "Z") | fromdate) + (("0" + (.p // ".0")) | tonumber);
        (map(select(.event == "stage-finished" and .stage == "restore")) | first) as $last
        | (s($last.at) - s(.[0].at)) * 1000 | round / 1000' "$1"
}

{
    printf '| GB | first restore | second: until restored | branch | snapshot | rollback to healthy | `cp -a` | `docker commit` | `createdb -T` | dslr snapshot | dslr restore | idle branch | branch after a read | branch after 1 %% |\n'
    printf '|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n'
} >"$place/table"
for size in "${sizes[@]}"; do
    say "$size GB: make a base backup"
    make "$size"
    cat >"$place/rehearsal.yaml" <<END
rehearsal: bench-state
stack: stack.yaml
limits: { restore: 2h, rollback: 10m, start: 10m }
restore:
  - service: db
    postgres: { base_backup: base, database: bench, user: bench }
testplan: testplan.yaml
END
    say "$size GB: rehearse"
    sleep 3 # A backup that was written a moment ago is not remembered.
    rehearse nothing || say "the first rehearsal did not pass"
    first=$(figure "$(events "$place/reports")" restore)
    rehearse nothing || say "the second rehearsal did not pass"
    e=$(events "$place/reports")
    second=$(until_restored "$e") branch=$(figure "$e" branch) snapshot=$(figure "$e" snapshot)
    rollback=$(figure "$e" "rollback to healthy")
    space=()
    for package in "${packages[@]}"; do
        rehearse "$package" --keep always || true
        run=$(jq -rs 'map(select(.event == "run-started")) | first | .run' "$(events "$place/reports")")
        space+=("$(own "$run")")
        docker ps -aq --filter "label=rehearse.run=$run" | xargs -r docker rm -f >/dev/null
        docker volume ls -q --filter "label=rehearse.run=$run" | xargs -r docker volume rm >/dev/null
        docker network ls -q --filter "label=rehearse.run=$run" | xargs -r docker network rm >/dev/null
    done

    say "$size GB: what else copies a database"
    volume rehearse-bench-copy
    cp_a=$(seconds docker run --rm --label rehearse.bench -v rehearse-bench-source:/from:ro -v rehearse-bench-copy:/to \
        --entrypoint sh "$image" -c 'cp -a /from/. /to/ && sync -f /to')
    server rehearse-bench-copy rehearse-bench-copy
    # PostgreSQL 15 sometimes gives up on a large one ("buffer is pinned in InvalidateBuffer").
    template=$(seconds docker exec rehearse-bench-copy createdb -U bench -T bench copied) || template=failed
    sql rehearse-bench-copy postgres "drop database if exists copied"
    taken=- restored=-
    if [[ -n $dslr ]]; then
        address=$(docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' rehearse-bench-copy)
        url=postgresql://bench:bench@$address:5432/bench
        taken=$(seconds "$dslr" --url "$url" snapshot bench) || taken=failed
        restored=$(seconds "$dslr" --url "$url" restore bench) || restored=failed
    fi
    stop rehearse-bench-copy
    docker volume rm rehearse-bench-copy >/dev/null
    docker run --label rehearse.bench --name rehearse-bench-layer -v rehearse-bench-source:/from:ro --entrypoint sh "$image" \
        -c 'cp -a /from /copied' >/dev/null
    commit=$(seconds docker commit rehearse-bench-layer rehearse-bench)
    docker rm -v rehearse-bench-layer >/dev/null
    docker rmi rehearse-bench >/dev/null
    docker volume rm rehearse-bench-source >/dev/null
    printf '| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s kB | %s kB | %s kB |\n' "$size" "$first" "$second" "$branch" \
        "$snapshot" "$rollback" "$cp_a" "$commit" "$template" "$taken" "$restored" "${space[@]}" >>"$place/table"
    "$program" bases --format json | jq -r '.[] | select(.rehearsal == "bench-state") | .key' | xargs -r "$program" bases remove >&2
    tail -n 1 "$place/table" >&2
done
cat "$place/table"
printf '\nSeconds. The database is one table of rows of 1 kB with its primary key; the backup a base backup in tar form.\n'
machine
