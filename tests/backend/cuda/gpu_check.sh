#!/bin/bash
# make gpu-check: everything about backend/cuda that only a GPU can show, into one report (build/gpu-report.txt) to send back.
#   operations and training steps on the device against backend/cpu, bit for bit; fast tiers within their tolerances, own bits twice;
#   exact digests: lora_rank_sweep tiny against the host's, and N of the published ones; LoRA steps of SD1.5 and SDXL shapes.
# Asks first whether there is a driver and a device: one line if not, and nothing is written.
#   emulated=1    the same over the emulated runtime (minutes; no times worth reading)      n=3    published runs executed again
#   LK_PEERS      a python with torch (CUDA), diffusers, peft, for the peer's rows (or build/peers)
cd "$(dirname "$0")/../../.." || exit 1
build=${BUILD:-build} cuda=${CUDA_BUILD:-$build/cuda} n=${n:-3}
if [ "$emulated" = 1 ]; then tests=$build/tests/backend/cuda program=$tests/exp-lora_rank_sweep word=emulated
else tests=$cuda/tests/backend/cuda program=$cuda/bin/exp-lora_rank_sweep word=device; fi
first=$("$tests/bench_lora" tests/golden/models/unet_sd15/config.json size=64 steps=1 tier=cuda 2>&1) || { echo "${first##*$'\n'}"; exit 1; }
report=$build/gpu-report.txt
results=$(mktemp -d); trap 'rm -rf "$results"' EXIT
failed=0
say() { echo "$@" | tee -a "$report"; }
part() { say; say "== $* =="; }
# runs a command into the report; its status counts
must() { "$@" > >(tee -a "$report") 2>&1; local rc=$?; wait; [ $rc = 0 ] || { failed=$((failed + 1)); say "FAILED ($rc): $*"; }; }

: >"$report"
say "likeness gpu-check ($word), $(date -u +%Y-%m-%dT%H:%MZ), commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown)$(git diff --quiet HEAD 2>/dev/null || echo ', with local changes')"
if [ "$emulated" = 1 ]; then say "EMULATED on the host: no device was used"; else nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit --format=csv 2>&1 | tee -a "$report"; fi
part "operations and steps against backend/cpu, bit for bit"
for t in test_ops test_step test_fast; do say "$t"; must "$tests/$t"; done

[ "$emulated" = 1 ] || { part "vectors of other implementations"; must "$cuda/bin/lk-golden" tests/golden backend=cuda; }

part "digests of lora_rank_sweep, exact tier"
export LK_RESULTS=$results
LK_PUBLISHED=$results/published must "$build/bin/exp-lora_rank_sweep" run profile=tiny
LK_PUBLISHED=$results/published must "$build/bin/exp-lora_rank_sweep" publish profile=tiny
say "the same runs on the $word:"
LK_PUBLISHED=$results/published must "$program" verify published=1 n=all profile=tiny backend=cuda
[ "$emulated" = 1 ] || must "$program" verify published=1 "n=$n" backend=cuda

part "LoRA training step, random weights"
if [ "$emulated" = 1 ]; then rows=("tests/golden/models/unet_sd15/config.json 64"); tiers="cuda cuda-fp32 cuda-tf32 cuda-bf16" steps=1
else rows=("models/configs/sd15_unet.json 512" "models/configs/sdxl_unet.json 1024"); tiers="cuda cuda-fp32 cuda-tf32 cuda-bf16" steps=10; fi
for python in "$LK_PEERS" build/peers/bin/python ""; do [ -n "$python" ] && "$python" -c 'import torch' 2>/dev/null && break; done
for row in "${rows[@]}"; do
    read -r config size <<<"$row"
    for tier in $tiers; do must "$tests/bench_lora" "$config" size="$size" tier="$tier" steps="$steps"; done
    [ "$emulated" = 1 ] && continue
    for precision in fp32 tf32 bf16; do
        if [ -n "$python" ]; then "$python" tests/backend/cuda/peer_lora.py "$config" "$size" 1 16 $precision $steps 2>/dev/null | tee -a "$report"; else say "SKIP the peer's $precision row: no python with torch (tests/peers/setup.sh makes one)"; fi
    done
done
say
say "$([ $failed = 0 ] && echo "all passed" || echo "$failed parts FAILED"); $report"
[ $failed = 0 ]
