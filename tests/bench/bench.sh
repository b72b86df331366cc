#!/bin/bash
# Contractions on the zoo's shapes beside PyTorch (oneDNN, MKL): both sides asked in turn within one run, best of ROUNDS.
#   make bench            every row; LK_THREADS threads on both sides; ONLY=PATTERN: rows whose line matches
# A row: name, ours and peer in GFLOP/s, ratio, target, then PASS, SHORT or SKIP (no peer found). Rows marked * join the geometric
# mean of their kind (12 matmuls, and dense 3 x 3 convolutions, of the zoo and SD1.5), which has a target of its own.
# The peer's python: LK_PEERS=path of a python that has torch, or build/peers (made by tests/peers/setup.sh).
cd "$(dirname "$0")/../.." || exit 1
BUILD=${BUILD:-build}; ROUNDS=${ROUNDS:-3}; TARGET=${TARGET:-0.70}; MEAN=${MEAN:-0.90}; ONLY=${ONLY:-.}
threads=${LK_THREADS:-$(nproc)}
bench=$BUILD/tests/bench/bench_contract
mkdir -p "${bench%/*}"
${CC:-cc} -O2 -std=c17 -D_GNU_SOURCE -Iframework -I. tests/bench/bench_contract.c "$BUILD/liblk.a" \
    $(pkg-config --libs hdf5 libpng libjpeg jansson gsl) -lm -lpthread -o "$bench" || exit 1
for python in "$LK_PEERS" build/peers/bin/python ""; do
    [ -n "$python" ] && "$python" -c 'import torch' 2>/dev/null && break
done

# kind, then the shape as bench_contract.c reads it; * in front: joins the mean of its kind
shapes() {
    local k
    for k in conv conv_dx conv_dw; do sed "s/KIND/$k/" <<'LIST'
*KIND 8 64 16 16 64 3 1 1 1
*KIND 8 128 8 8 128 3 1 1 1
*KIND 8 256 4 4 256 3 1 1 1
*KIND 8 96 16 16 96 3 1 1 1
*KIND 16 32 32 32 32 3 1 1 1
*KIND 8 48 32 32 48 3 1 1 1
*KIND 8 16 64 64 16 3 1 1 1
*KIND 1 320 64 64 320 3 1 1 1
*KIND 1 640 32 32 640 3 1 1 1
*KIND 1 1280 16 16 1280 3 1 1 1
LIST
    done
    cat <<'LIST'
conv_frozen 8 64 16 16 64 3 1 1 1
conv_frozen 8 256 4 4 256 3 1 1 1
conv 8 32 64 64 3 3 1 1 1
conv 8 3 64 64 32 3 1 1 1
conv 8 64 32 32 64 3 2 1 1
conv_dx 8 64 32 32 64 3 2 1 1
conv 8 128 16 16 64 1 1 0 1
conv 8 64 28 28 64 3 1 1 64
conv_dx 8 64 28 28 64 3 1 1 64
*nn 2048 64 64
*nn 512 128 128
*nt 2048 64 512
*nn 128 1024 256
*nt 16 320 320
*tn 64 2048 64
*tn 320 2048 320
*nt 4096 320 320
*nt 4096 320 2560
*nt 1024 640 640
*nt 256 1280 1280
*nt 77 768 320
nt 1024 1024 1024
nn 2048 64 512
nt 2048 320 8
nt 2048 8 320
tn 8 2048 320
sdpa 8 4 256 256 16
sdpa 8 8 256 256 8
sdpa 8 4 1024 1024 24
LIST
}
flops() {   # of one line
    set -- ${1#\*}
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
ratios=$(mktemp); trap 'rm -rf "$pipes" "$ratios"' EXIT
shapes | grep -E -- "$ONLY" | while read -r line; do
    ours=; peer=; mark=${line%%[!*]*}; line=${line#\*}
    for ((round = 0; round < ROUNDS; round++)); do
        echo "$line" >&3; read -r t <&4; ours="$ours $t"
        if [ -n "$python" ]; then echo "$line" >&5; read -r t <&6; peer="$peer $t"; fi
    done
    awk -v name="$mark$line" -v flops="$(flops "$line")" -v ours="$ours" -v peer="$peer" -v target="$TARGET" -v ratios="$ratios" '
        function best(list, a, n, i, m) { n = split(list, a, " "); m = a[1]; for (i = 2; i <= n; i++) if (a[i] < m) m = a[i]; return m }
        BEGIN {
            o = flops / best(ours) / 1e9
            if (peer == "") { printf "%-36s %9.1f %9s %6s %6.2f  SKIP\n", name, o, "-", "-", target; exit }
            p = flops / best(peer) / 1e9
            if (name ~ /^\*/) print (name ~ /^.conv/ ? substr(name, 2, index(name, " ") - 2) : "matmul"), o / p >> ratios
            printf "%-36s %9.1f %9.1f %6.2f %6.2f  %s\n", name, o, p, o / p, target, (o >= target * p ? "PASS" : "SHORT")
        }'
done
awk -v target="$MEAN" '{ n[$1]++; sum[$1] += log($2) } END { for (k in n) { r = exp(sum[k] / n[k])
    printf "%-36s %9s %9s %6.2f %6.2f  %s\n", "geometric mean of " n[k] " " k, "", "", r, target, (r >= target ? "PASS" : "SHORT") } }' "$ratios"
case $ONLY in .|*[uU][nN]et*|*step*|*MMDiT*) bash tests/bench/bench_step.sh ;; esac
