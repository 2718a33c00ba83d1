#!/usr/bin/env bash
# What ten other paths of the sample's deploy cost beside its restore and its deploys, and how soon a retry deploys:
# benches/paths.sh [ROUNDS] prints two tables in Markdown.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

rounds=${1:-3}
[[ $rounds =~ ^[1-9][0-9]*$ ]] || { printf 'usage: %s [ROUNDS]\n' "$0" >&2; exit 64; }
package=packages/site-2.4

# The sample's rehearsal with eleven deploys: the one of every run, and ten more, each from the snapshot.
sed -e "s#\.\./#$PWD/#g" -e '/^what_if:/d' rehearsals/site.yaml >"$place/site.yaml"
printf 'what_if: [{ path: again, times: 11 }]\n' >>"$place/site.yaml"

ended() { jq -s --arg stage "$2" 'map(select(.event == "stage-finished" and .stage == $stage and .outcome == "ok")) | length' "$1"; }

printf '| round | restore | deploy and verify | ten paths | restore and ten deploys | ratio | MB written by the ten |\n|---|---|---|---|---|---|---|\n'
for ((round = 1; round <= rounds; round++)); do
    # A base that is there already would make the restore look like nothing.
    "$program" sweep --bases >&2
    at=$place/paths-$round
    "$program" run "$place/site.yaml" --package "$package" --jobs 2 --report-dir "$at" --format json >/dev/null
    log=$(events "$at")
    [[ $(ended "$log" what-if) == 1 ]] || { say "the paths did not end well: see $log"; exit 1; }
    jq -rs --arg round "$round" '
        def stage($name): map(select(.event == "stage-finished" and .stage == $name) | .seconds) | last;
        def rounded: . * 100 | round / 100;
        (stage("deploy") + stage("verify")) as $deploy
        | (stage("restore") + 10 * $deploy) as $bound
        | (map(select(.event == "path-ended") | .bytes // 0) | add / 1e6) as $written
        | "| \($round) | \(stage("restore") | rounded) | \($deploy | rounded) | \(stage("what-if") | rounded) | \($bound | rounded) | \(stage("what-if") / $bound | rounded) | \($written | rounded) |"' "$log"
done
printf '\nSeconds; two paths at a time. Target: a ratio of at most 1.\n'

printf '\n| round | retry: until the first step | of it until the deploy stage | until the verdict |\n|---|---|---|---|\n'
at=$place/kept
"$program" run rehearsals/site.yaml --package "$package" --no-what-if --keep always --report-dir "$at" --format json >/dev/null
run=$(basename "$(dirname "$(events "$at")")")
for ((round = 1; round <= rounds; round++)); do
    began=$(date +%s.%N)
    "$program" retry "$run" --package "$package" --report-dir "$at" --format json >"$place/retry.jsonl"
    jq -rs --arg round "$round" --argjson began "$began" '
        def seconds: capture("(?<whole>[^.Z]*)(\\.(?<part>[0-9]+))?Z") | ((.whole + "Z") | fromdate) + (("0." + (.part // "0")) | tonumber);
        def at(f): (map(select(f)) | first | .at | seconds) - $began | . * 100 | round / 100;
        "| \($round) | \(at(.event == "step-started")) | \(at(.event == "stage-started" and .stage == "deploy")) | \(at(.event == "judged")) |"' "$place/retry.jsonl"
    run=$(jq -r 'select(.event == "run-started") | .run' "$place/retry.jsonl")
done
"$program" down "$run" --report-dir "$at" >&2
printf '\nSeconds from the command. Target: at most 3 until the first step.\n'
machine
