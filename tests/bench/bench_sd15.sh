#!/bin/bash
# One LoRA step (rank 8) of SD1.5's UNet at its own size, 64 x 64 latents, batch 1, drawn weights: beside diffusers + PEFT, one process after the
# other, alternating; never both at once. Seconds a step, resident memory at the peak, and how far that is from the plan's bytes.
#   LK_THREADS (2)  LK_PEERS=python with torch, diffusers, peft (or build/peers)  ROUNDS (2)  STORES ("fp32 fp16 bf16")  LK_SCRATCH=folder for 3.4 GB (build)
# A row: name, ours, peer, ratio, target, then PASS, SHORT or SKIP (no peer, or under 14 GB of memory free).
cd "$(dirname "$0")/../.." || exit 1
BUILD=${BUILD:-build}; ROUNDS=${ROUNDS:-2}; threads=${LK_THREADS:-2}; config=models/configs/sd15_unet.json
free=$(awk '/MemAvailable/ { print int($2 / 1048576) }' /proc/meminfo)
[ "$free" -ge 14 ] || { printf '%-44s %s\n' "LoRA step SD1.5" "SKIP ($free GiB of memory free, 14 wanted)"; exit 0; }
bench=$BUILD/tests/bench/bench_step
mkdir -p "${bench%/*}"
${CC:-cc} -O3 -mavx2 -std=c17 -D_GNU_SOURCE -Iframework -I. $(pkg-config --cflags hdf5 jansson) tests/bench/bench_step.c "$BUILD/liblk.a" \
    $(pkg-config --libs hdf5 libpng libjpeg jansson gsl) -lhdf5_hl -lm -lpthread -o "$bench" || exit 1
for python in "$LK_PEERS" build/peers/bin/python ""; do
    [ -n "$python" ] && "$python" -c 'import torch, diffusers, peft, safetensors' 2>/dev/null && break
done
file=$(mktemp "${LK_SCRATCH:-$BUILD}/sd15.XXXXXX"); trap 'rm -f "$file"' EXIT
row() {   # name ours peer target
    awk -v name="$1" -v ours="$2" -v peer="$3" -v target="$4" 'BEGIN {
        if (peer == "-") { printf "%-44s %10.3f %10s %6s %6.2f  SKIP\n", name, ours, "-", "-", target; exit }
        r = ours / peer
        printf "%-44s %10.3f %10.3f %6.3f %6.2f  %s\n", name, ours, peer, r, target, (r <= target ? "PASS" : "SHORT") }'
}
best() { tr ' ' '\n' <<<"$*" | grep . | sort -g | head -1; }
for store in ${STORES:-fp32 fp16 bf16}; do
    "$BUILD/bin/lk-model" random $config "$file" store=$store || exit 1
    ours= peer=- rss_peer=-
    [ -n "$python" ] && [ $store = fp32 ] && peer=
    for ((round = 0; round < ROUNDS; round++)); do
        { read -r _; read -r t; read -r planned rss; } < <(printf '1\nmemory\n' | "$bench" $config "$threads" batch=1 size=64 weights="$file")
        ours="$ours $t"
        [ "$peer" = - ] && continue
        { read -r _; read -r t; read -r _ rss_peer; } < <(printf '1\nmemory\n' | "$python" tests/bench/peer_step.py $config "$threads" --batch 1 --size 64 --weights "$file" 2>/dev/null)
        peer="$peer $t"
    done
    [ "$peer" = - ] || { peer=$(best "$peer"); rss_peer=$(awk -v b="$rss_peer" 'BEGIN { print b / 1048576 }'); }
    row "LoRA step SD1.5 $store, s" "$(best "$ours")" "$peer" 1.0
    row "LoRA step SD1.5 $store, MiB resident" "$(awk -v b="$rss" 'BEGIN { print b / 1048576 }')" "$rss_peer" 1.0
    awk -v p="$planned" -v r="$rss" 'BEGIN { d = r / p - 1; printf "%-44s %10.3f  resident %+.1f %%  %s\n", "    planned MiB, weights included", p / 1048576, 100 * d, (d < 0.1 && d > -0.1 ? "PASS" : "SHORT") }'
done
exit 0
