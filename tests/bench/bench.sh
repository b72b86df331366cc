#!/bin/bash
# Contractions on the zoo's shapes beside PyTorch (oneDNN, MKL): both sides asked in turn within one run, best of ROUNDS.
#   make bench            every row; LK_THREADS threads on both sides; ONLY=PATTERN: rows whose line matches
# A row: name, ours and peer in GFLOP/s, ratio, target, then PASS, SHORT or SKIP (no peer found).
# The peer's python: LK_PEERS=path of a python that has torch, or build/peers (made by tests/peers/setup.sh).
cd "$(dirname "$0")/../.." || exit 1
BUILD=${BUILD:-build}; ROUNDS=${ROUNDS:-3}; TARGET=${TARGET:-0.80}; ONLY=${ONLY:-.}
threads=${LK_THREADS:-$(nproc)}
bench=$BUILD/tests/bench/bench_contract
mkdir -p "${bench%/*}"
${CC:-cc} -O2 -std=c17 -D_GNU_SOURCE -Iframework -I. tests/bench/bench_contract.c "$BUILD/liblk.a" \
    $(pkg-config --libs hdf5 libpng libjpeg jansson gsl lapacke openblas) -lm -lpthread -o "$bench" || exit 1
for python in "$LK_PEERS" build/peers/bin/python ""; do
    [ -n "$python" ] && "$python" -c 'import torch' 2>/dev/null && break
done

# kind, then the shape as bench_contract.c reads it
shapes() { cat <<'LIST'
conv         8 64 16 16 64 3 1 1 1
conv_frozen  8 64 16 16 64 3 1 1 1
conv_dx      8 64 16 16 64 3 1 1 1
conv_dw      8 64 16 16 64 3 1 1 1
conv         8 128 8 8 128 3 1 1 1
conv_dx      8 128 8 8 128 3 1 1 1
conv_dw      8 128 8 8 128 3 1 1 1
conv         8 96 16 16 96 3 1 1 1
conv_dx      8 96 16 16 96 3 1 1 1
conv_dw      8 96 16 16 96 3 1 1 1
conv         16 32 32 32 32 3 1 1 1
conv_dx      16 32 32 32 32 3 1 1 1
conv_dw      16 32 32 32 32 3 1 1 1
conv         8 16 64 64 16 3 1 1 1
conv_dx      8 16 64 64 16 3 1 1 1
conv_dw      8 16 64 64 16 3 1 1 1
conv         8 48 32 32 48 3 1 1 1
conv_dx      8 48 32 32 48 3 1 1 1
conv_dw      8 48 32 32 48 3 1 1 1
conv         8 32 64 64 3 3 1 1 1
conv         8 3 64 64 32 3 1 1 1
conv         8 64 32 32 64 3 2 1 1
conv_dx      8 64 32 32 64 3 2 1 1
conv         8 128 16 16 64 1 1 0 1
conv         8 64 28 28 64 3 1 1 64
conv_dx      8 64 28 28 64 3 1 1 64
nn           2048 64 64
nn           512 128 128
nt           2048 64 512
nn           2048 64 512
nn           128 1024 256
nt           1024 1024 1024
nt           16 320 320
nt           2048 320 8
nt           2048 8 320
tn           64 2048 64
tn           320 2048 320
tn           8 2048 320
sdpa         8 4 256 256 16
sdpa         8 4 1024 1024 24
LIST
}
flops() {   # of one line
    set -- $1
    case $1 in
        conv*) shift; local out=$(( ($3 + 2 * $8 - $6) / $7 + 1 )); echo $(( 2 * $1 * out * out * $5 * $2 / $9 * $6 * $6 )) ;;
        sdpa)  echo $(( 4 * $2 * $3 * $4 * $5 * $6 )) ;;
        *)     echo $(( 2 * $2 * $3 * $4 )) ;;
    esac
}
pipes=$(mktemp -d); trap 'rm -rf "$pipes"' EXIT
mkfifo "$pipes"/{ours,peer}.{in,out}
"$bench" "$threads" <"$pipes/ours.in" >"$pipes/ours.out" & exec 3>"$pipes/ours.in" 4<"$pipes/ours.out"
if [ -n "$python" ]; then "$python" tests/bench/peer_contract.py "$threads" <"$pipes/peer.in" >"$pipes/peer.out" & exec 5>"$pipes/peer.in" 6<"$pipes/peer.out"; fi

printf '%-36s %9s %9s %6s %6s  (GFLOP/s, %s threads)\n' name ours peer ratio target "$threads"
shapes | grep -E -- "$ONLY" | while read -r line; do
    ours=; peer=
    for ((round = 0; round < ROUNDS; round++)); do
        echo "$line" >&3; read -r t <&4; ours="$ours $t"
        if [ -n "$python" ]; then echo "$line" >&5; read -r t <&6; peer="$peer $t"; fi
    done
    awk -v name="$(echo $line)" -v flops="$(flops "$line")" -v ours="$ours" -v peer="$peer" -v target="$TARGET" '
        function best(list, a, n, i, m) { n = split(list, a, " "); m = a[1]; for (i = 2; i <= n; i++) if (a[i] < m) m = a[i]; return m }
        BEGIN {
            o = flops / best(ours) / 1e9
            if (peer == "") { printf "%-36s %9.1f %9s %6s %6.2f  SKIP\n", name, o, "-", "-", target; exit }
            p = flops / best(peer) / 1e9
            printf "%-36s %9.1f %9.1f %6.2f %6.2f  %s\n", name, o, p, o / p, target, (o >= target * p ? "PASS" : "SHORT")
        }'
done
case $ONLY in .|*unet*|*step*) bash tests/bench/bench_step.sh ;; esac
