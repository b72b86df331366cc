#!/bin/bash
# The harness's own cost. On 10,000 runs of the synthetic experiment: a plan (identities and all) in under 2 s, status in under 1 s.
# A logged row, everything a command does shared out over its rows: under 2 ms. A run of 10 s with a checkpoint every 2 s: at most 1 %
# of the command's time is not the experiment's own. run.h5 with 100,000 rows of 16 metrics, fsync included: under 50 ms.
# Best of ROUNDS (3; the run of 10 s twice). A row: name, what was measured, bound, then PASS or SHORT.
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
row() { awk -v name="$1" -v s="$2" -v most="$3" -v unit="${4:-s}" 'BEGIN { printf "%-28s %8.3f %-2s (at most %g %s)  %s\n", name, s, unit, most, unit, s <= most ? "PASS" : "SHORT" }'; }
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

# rows: one run of 20,000 steps that compute next to nothing
rm -rf "$place"/{runs,sweeps}
one=(profile=tiny "set=control=none rank=1 subject=s01 steps=20000")
many() { rm -rf "$place/runs"; "$fixture" run "${one[@]}"; }
row "a logged row" "$(awk -v s="$(best many)" 'BEGIN { print 1000 * s / 20000 }')" 2 ms
grep -q '1 done' "$place/said" || { echo "the run was not done:"; cat "$place/said"; exit 1; }

# share: what the command took, less what the run spent outside the harness. The note in the state file has the run's seconds,
# the report's checklist the part of them that was the harness's.
one=(profile=tiny "set=control=none rank=1 subject=s01 steps=1000")
least=100
for i in 1 2; do
    rm -rf "$place"/{runs,sweeps}
    start=$(date +%s%N); FIXTURE_STEP_US=10000 LK_CHECKPOINT_S=2 "$fixture" run "${one[@]}" > "$place/said" 2>&1; took=$(( $(date +%s%N) - start ))
    "$fixture" report "${one[@]}" >> "$place/said" 2>&1
    seconds=$(awk 'NR == 2 { print $4 }' "$place"/runs/*/*/state.done); own=$(grep -oE '[0-9.e-]+ % of it the harness' "$place"/sweeps/*/report.html | cut -d' ' -f1)
    [ -n "$seconds" ] && [ -n "$own" ] || { echo "the run was not done:"; cat "$place/said"; exit 1; }
    least=$(awk -v t=$took -v s="$seconds" -v o="$own" -v l="$least" 'BEGIN { x = 100 * (t / 1e9 - s * (1 - o / 100)) / (t / 1e9); print x < l ? x : l }')
done
row "share of a 10 s run" "$least" 1 %

saved=$("$BUILD/tests/io/test_runfile" 2>&1 | sed -n 's/.*x 16 metrics: \([0-9.]*\) ms/\1/p')
[ -n "$saved" ] || { echo "tests/io/test_runfile timed nothing"; exit 1; }
row "100,000 rows x 16 metrics" "$saved" 50 ms
