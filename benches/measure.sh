#!/usr/bin/env bash
# Measures rehearse on the sample, by what its own events say: benches/measure.sh [RUNS] prints a table in Markdown.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

runs=${1:-5}
[[ $runs =~ ^[1-9][0-9]*$ ]] || { printf 'usage: %s [RUNS]\n' "$0" >&2; exit 64; }
for tool in cargo jq; do
    command -v "$tool" >/dev/null || { printf 'measure: %s is missing\n' "$tool" >&2; exit 69; }
done

cargo build --locked --release >&2
# The target folder's layout depends on the settings, so cargo is asked for the program's place.
program=$(cargo build --locked --release --message-format json 2>/dev/null |
    jq -r 'select(.reason == "compiler-artifact" and .target.name == "rehearse") | .executable | values')
"$program" demo --prepare >&2

reports=$(mktemp -d)
trap 'rm -rf -- "$reports"' EXIT
run() { "$program" run rehearsals/site.yaml --package packages/site-2.4 --report-dir "$1" --format json >/dev/null; }

printf 'measure: a run that restores, not counted, then %d runs\n' "$runs" >&2
run "$reports/first"
for ((i = 1; i <= runs; i++)); do
    run "$reports/counted"
    printf 'measure: %d of %d\n' "$i" "$runs" >&2
done

# One line a run and figure: name, tab, seconds.
figures() {
    jq -rs '
      def stage($name; $event): map(select(.event == $event and .stage == $name)) | first;
      def seconds($t): $t | capture("(?<whole>.*)\\.(?<part>[0-9]+)Z") | ((.whole + "Z") | fromdate) + (("0." + .part) | tonumber);
      (.[0].at | if test("\\.") then . else sub("Z$"; ".0Z") end) as $began
      | ["until the deploy begins", (seconds(stage("deploy"; "stage-started").at) - seconds($began))],
        (.[] | select(.event == "measured") | [.what, .seconds]),
        (.[] | select(.event == "stage-finished") | ["stage " + .stage, .seconds]),
        ["whole run", (.[] | select(.event == "run-finished") | .seconds)]
      | @tsv' "$1"
}
{
    for events in "$reports"/counted/runs/*/events.jsonl; do figures "$events"; done
    for ((i = 1; i <= runs; i++)); do
        # The program's own start, reading and checking of the sample's files.
        began=$(date +%s%N)
        "$program" check rehearsals/site.yaml >/dev/null
        printf 'rehearse check\t%s\n' "$(jq -n "($(date +%s%N) - $began) / 1e9")"
    done
} | jq -rRs --argjson runs "$runs" '
      split("\n") | map(select(. != "") | split("\t") | {what: .[0], seconds: (.[1] | tonumber)})
      # In the order in which they first came.
      | (reduce .[].what as $w ([]; if index([$w]) then . else . + [$w] end)) as $names
      | group_by(.what) | map({key: .[0].what, value: map(.seconds) | sort}) | from_entries as $all
      | "| what | target | min | median | max |", "|---|---|---|---|---|",
        ($names[] | . as $n | $all[$n]
          | ({"until the deploy begins": "≤ 5", "snapshot": "≤ 1", "rollback to healthy": "≤ 3", "rehearse check": "< 0.05"}[$n] // "") as $target
          | "| \($n) | \($target) | " + ([first, .[(length - 1) / 2 | floor], last] | map(. * 1000 | round / 1000 | tostring) | join(" | ")) + " |")'
printf '\nSeconds; %d runs; %s; %d cores, %s of memory; engine %s; load %s.\n' "$runs" \
    "$(uname -sr)" "$(nproc)" "$(awk '/MemTotal/ { printf "%.0f GB", $2 / 1e6 }' /proc/meminfo)" \
    "$(jq -r 'select(.event == "engine-found") | "\(.version), \(.storage), \(.branches)"' "$(find "$reports/counted" -name events.jsonl | head -n 1)")" \
    "$(cut -d' ' -f1-3 /proc/loadavg)"
