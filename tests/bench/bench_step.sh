#!/bin/bash
# Training steps beside diffusers + PEFT: both sides asked in turn within one run, medians of ROUNDS, on the same threads.
# Three rows a model: seconds a step, memory (peak resident bytes of the process), start of the process to the end of its first step.
#   LK_THREADS (2; with 1 the times are the thread's own)  LK_PEERS=python with torch, diffusers, peft (or build/peers, made by tests/peers/setup.sh)  ROUNDS (3)  STEPS (5)
# A row: name, ours, peer, ratio ours/peer, target, then PASS, SHORT or SKIP (no peer found).
cd "$(dirname "$0")/../.." || exit 1
BUILD=${BUILD:-build}; ROUNDS=${ROUNDS:-3}; STEPS=${STEPS:-5}; ONLY=${ONLY:-.}
threads=${LK_THREADS:-2}
bench=$BUILD/tests/bench/bench_step
mkdir -p "${bench%/*}"
${CC:-cc} -O2 -std=c17 -D_GNU_SOURCE -Iframework -I. $(pkg-config --cflags hdf5 jansson) tests/bench/bench_step.c "$BUILD/liblk.a" \
    $(pkg-config --libs hdf5 libpng libjpeg jansson gsl lapacke openblas) -lhdf5_hl -lm -lpthread -o "$bench" || exit 1
for python in "$LK_PEERS" build/peers/bin/python ""; do
    [ -n "$python" ] && "$python" -c 'import torch, diffusers, peft' 2>/dev/null && break
done

# one row: name ours peer target ("-" without a peer)
row() {
    awk -v name="$1" -v ours="$2" -v peer="$3" -v target="$4" 'BEGIN {
        if (peer == "-") { printf "%-44s %10.3f %10s %6s %6.2f  SKIP\n", name, ours, "-", "-", target; exit }
        r = ours / peer
        printf "%-44s %10.3f %10.3f %6.3f %6.2f  %s\n", name, ours, peer, r, target, (r <= target ? "PASS" : "SHORT") }'
}
median() { tr ' ' '\n' <<<"$*" | grep . | sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
now() { date +%s.%N; }
seconds() { awk -v a="$1" -v b="$2" 'BEGIN { print b - a }'; }

# name, model as bench_step.c reads it, target of time; memory is held to 0.3, the start to 0.05
compare() {
    local kind=unet channels=$2 ours= peer=- t0 first_ours first_peer=- rss_ours rss_peer=- planned pipes
    [ "$channels" = mmdit ] && kind=mmdit
    pipes=$(mktemp -d); mkfifo "$pipes"/{ours,peer}.{in,out}
    t0=$(now)
    "$bench" "$channels" "$threads" <"$pipes/ours.in" >"$pipes/ours.out" & exec 3>"$pipes/ours.in" 4<"$pipes/ours.out"
    read -r line <&4; first_ours=$(seconds "$t0" "$(now)")
    if [ -n "$python" ]; then
        peer=; t0=$(now)
        "$python" tests/bench/peer_step.py "$kind" "$channels" "$threads" <"$pipes/peer.in" >"$pipes/peer.out" 2>/dev/null & exec 5>"$pipes/peer.in" 6<"$pipes/peer.out"
        read -r line <&6; first_peer=$(seconds "$t0" "$(now)")
    fi
    for ((round = 0; round <= ROUNDS; round++)); do
        echo "$STEPS" >&3; read -r t <&4; [ "$round" -gt 0 ] && ours="$ours $t"
        if [ -n "$python" ]; then echo "$STEPS" >&5; read -r t <&6; [ "$round" -gt 0 ] && peer="$peer $t"; fi
    done
    echo memory >&3; read -r planned rss_ours <&4; exec 3>&- 4<&-
    if [ -n "$python" ]; then echo memory >&5; read -r line rss_peer <&6; exec 5>&- 6<&-; fi
    rm -rf "$pipes"
    [ "$peer" = - ] || { peer=$(median "$peer"); rss_peer=$(awk -v b="$rss_peer" 'BEGIN { print b / 1048576 }'); }
    row "LoRA step $1 $channels, s" "$(median "$ours")" "$peer" "$3"
    row "LoRA step $1 $channels, MiB resident" "$(awk -v b="$rss_ours" 'BEGIN { print b / 1048576 }')" "$rss_peer" 0.3
    row "LoRA step $1 $channels, s to first step" "$first_ours" "$first_peer" 0.05
    awk -v b="$planned" 'BEGIN { printf "%-44s %10.3f\n", "    planned MiB, weights included", b / 1048576 }'
}
printf '%-44s %10s %10s %6s %6s  (%s threads)\n' name ours peer ratio target "$threads"
grep -qE -- "$ONLY" <<<"step unet 64,128,256" && compare UNet 64,128,256 0.5
grep -qE -- "$ONLY" <<<"step unet 32,64,128" && compare UNet 32,64,128 0.25
grep -qE -- "$ONLY" <<<"step mmdit" && compare MMDiT mmdit 0.5
exit 0
