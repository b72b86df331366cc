#!/bin/bash
# Training steps and sampling beside diffusers + PEFT: all sides asked in turn within one run, medians of ROUNDS, on the same threads.
# Three rows a piece of work: seconds, memory (peak resident bytes of the process), start of the process to the end of its first step.
# LoRA steps are held to the better of eager and torch.compile.
#   LK_THREADS (2; with 1 the times are the thread's own)  LK_PEERS=python with torch, diffusers, peft (or build/peers, made by tests/peers/setup.sh)  ROUNDS (3)  STEPS (5)
#   COMPILE=0 leaves torch.compile out (it compiles for minutes)  ONLY=PATTERN: works whose name matches
# A row: name, ours, peer, ratio ours/peer, target, then PASS, SHORT or SKIP (no peer found).
cd "$(dirname "$0")/../.." || exit 1
export LC_ALL=C                                            # decimal points
BUILD=${BUILD:-build}; ROUNDS=${ROUNDS:-3}; STEPS=${STEPS:-5}; ONLY=${ONLY:-.}; COMPILE=${COMPILE:-1}
threads=${LK_THREADS:-2}
bench=$BUILD/tests/bench/bench_step
mkdir -p "${bench%/*}"
${CC:-cc} -O3 -mavx2 -std=c17 -D_GNU_SOURCE -Iframework -I. $(pkg-config --cflags hdf5 jansson) tests/bench/bench_step.c "$BUILD/liblk.a" \
    $(pkg-config --libs hdf5 libpng libjpeg jansson gsl) -lhdf5_hl -lm -lpthread -o "$bench" || exit 1
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
mib() { awk -v b="$1" 'BEGIN { printf "%.1f", b / 1048576 }'; }
seconds() { awk -v a="$1" -v b="$2" 'BEGIN { print b - a }'; }

# ask FD_IN FD_OUT LINE: the answer, nothing if that side has ended
ask() { echo "$3" >&"$1" 2>/dev/null && read -r -t 900 line <&"$2" && echo "$line"; }

# work name, model and work as bench_step.c reads them, pictures, target of time, target of memory ("-": no row)
compare() {
    grep -qiE -- "$ONLY" <<<"step $1" || return 0
    local name=$1 model=$2 work=$3 batch=$4 target=$5 memory=$6 ours= eager= compiled= t0 first_ours first_peer=- rss_ours rss_peer=- planned pipes peer=- n=$STEPS t
    local args="$model $threads --work $work --batch $batch" with=
    [ -n "$python" ] && with=1
    [ "$work" = sample ] && n=1
    pipes=$(mktemp -d); mkfifo "$pipes"/{ours,peer,fast}.{in,out}
    t0=$EPOCHREALTIME
    "$bench" "$model" "$threads" "work=$work" "batch=$batch" <"$pipes/ours.in" >"$pipes/ours.out" & exec 3>"$pipes/ours.in" 4<"$pipes/ours.out"
    read -r line <&4 || { echo "$name: bench_step ended"; return 1; }
    first_ours=$(seconds "$t0" "$EPOCHREALTIME")
    if [ -n "$with" ]; then
        t0=$EPOCHREALTIME
        "$python" tests/bench/peer_step.py $args <"$pipes/peer.in" >"$pipes/peer.out" 2>/dev/null & exec 5>"$pipes/peer.in" 6<"$pipes/peer.out"
        read -r line <&6; first_peer=$(seconds "$t0" "$EPOCHREALTIME")
        if [ "$COMPILE$work" = 1lora ]; then
            "$python" tests/bench/peer_step.py $args --compile <"$pipes/fast.in" >"$pipes/fast.out" 2>/dev/null & exec 7>"$pipes/fast.in" 8<"$pipes/fast.out"
            read -r -t 900 line <&8 || echo "    torch.compile did not finish its first step"
        fi
    fi
    for ((round = 0; round <= ROUNDS; round++)); do
        t=$(ask 3 4 "$n"); [ "$round" -gt 0 ] && ours="$ours $t"
        [ -n "$with" ] || continue
        t=$(ask 5 6 "$n"); [ "$round" -gt 0 ] && eager="$eager $t"
        if { true >&7; } 2>/dev/null; then t=$(ask 7 8 "$n"); [ "$round" -gt 0 ] && compiled="$compiled $t"; fi
    done
    read -r planned rss_ours < <(ask 3 4 memory)
    if [ -n "$with" ]; then read -r line rss_peer < <(ask 5 6 memory); fi
    exec 3>&- 4<&- 5>&- 6<&- 7>&- 8<&-
    wait                                                   # their ends would share the next work's start
    rm -rf "$pipes"
    if [ -n "$with" ]; then
        peer=$(median "$eager"); rss_peer=$(mib "$rss_peer")
        [ "$COMPILE$work" = 1lora ] && printf '%-44s %10s %10s\n' "    peer eager, torch.compile, s" "$peer" "$(median "$compiled")"
        peer=$( { echo "$peer"; median "$compiled"; } | grep . | sort -g | head -n 1)
    fi
    row "$name, s" "$(median "$ours")" "$peer" "$target"
    [ "$memory" = - ] || row "$name, MiB resident" "$(mib "$rss_ours")" "$rss_peer" "$memory"
    row "$name, s to the first" "$first_ours" "$first_peer" 0.05
    printf '%-44s %10s\n' "    planned MiB, weights included" "$(mib "$planned")"
}
printf '%-44s %10s %10s %6s %6s  (%s threads)\n' name ours peer ratio target "$threads"
compare "LoRA step UNet 64,128,256" 64,128,256 lora 8 0.5 0.3
compare "LoRA step UNet 32,64,128" 32,64,128 lora 8 0.25 0.3
compare "LoRA step MMDiT 6x256" mmdit lora 8 0.5 0.3
compare "full step zoo UNet" zoo full 8 0.6 -
compare "20 DDIM steps zoo UNet" zoo sample 4 0.5 -
exit 0
