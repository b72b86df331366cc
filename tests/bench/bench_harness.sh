#!/bin/bash
# The harness's own cost on 10,000 runs of the synthetic experiment: a plan (identities and all) in under 2 s, status in under 1 s.
# Best of ROUNDS (3). A row: name, seconds, bound, then PASS or SHORT.
cd "$(dirname "$0")/../.." || exit 1
BUILD=${BUILD:-build}; ROUNDS=${ROUNDS:-3}; fixture=$BUILD/tests/harness/exp-fixture
[ -x "$fixture" ] || { echo "$fixture is not built: make bench builds it"; exit 1; }
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
export LK_RESULTS=$place FIXTURE_NO_FIGURE=1 LK_THREADS=1
sweep=(profile=paper "set=control=none rank=0,1,2,4,8 subject=s01..s10 seed=0..199")

best() {                                                   # seconds of the quickest of ROUNDS
    local i least=1000000000
    for i in $(seq "$ROUNDS"); do
        local start=$(date +%s%N); "$@" > "$place/said" 2>&1; local took=$(( $(date +%s%N) - start ))
        [ $took -lt $least ] && least=$took
    done
    awk -v n=$least 'BEGIN { printf "%.3f", n / 1e9 }'
}
row() { awk -v name="$1" -v s="$2" -v most="$3" 'BEGIN { printf "%-28s %8.3f s  (at most %g s)  %s\n", name, s, most, s <= most ? "PASS" : "SHORT" }'; }
row "plan of 10,000 runs" "$(best "$fixture" plan "${sweep[@]}")" 2
grep -q '^10000 runs' "$place/said" || { echo "not 10,000 runs:"; head -n 3 "$place/said"; exit 1; }

# the frozen plan by starting the sweep for a moment; then every run a directory, nine of ten done and the rest interrupted
FIXTURE_STEP_US=1000000 "$fixture" run "${sweep[@]}" > "$place/said" 2>&1 & pid=$!
until ls "$place"/runs/*/*/state.running >/dev/null 2>&1 || ! kill -0 $pid 2>/dev/null; do sleep 0.1; done
kill -TERM $pid; wait $pid
grep -oE '"run_id": ?"[0-9a-f]{64}"' "$place"/sweeps/*/plan.json | grep -oE '[0-9a-f]{64}' |
    awk -v top="$place/runs" '{ print top "/" substr($1, 1, 2) "/" $1 "/state." (NR % 10 ? "done" : "interrupted") }' > "$place/files"
rm -rf "$place/runs"; sed 's|/state[^/]*$||' "$place/files" | xargs mkdir -p; xargs touch < "$place/files"
row "status of 10,000 runs" "$(best "$fixture" status "${sweep[@]}")" 1
grep -q '9000 done, 1000 interrupted' "$place/said" || { echo "status did not see them:"; tail -n 1 "$place/said"; exit 1; }
