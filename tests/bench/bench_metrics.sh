#!/bin/bash
# Metrics beside the packages that own their variants: both asked in turn within one run, medians of ROUNDS, LK_THREADS threads on both
# sides. A row: name, seconds of ours and of the peer, ratio, the most it may be, then PASS, SHORT or SKIP (no peer found).
#   make bench            every row; ONLY=PATTERN: rows whose line matches
# The last row is memory: MiB after 50,000 samples of 2048 features beside that after 10,000.
cd "$(dirname "$0")/../.." || exit 1
BUILD=${BUILD:-build}; ROUNDS=${ROUNDS:-3}; ONLY=${ONLY:-.}
threads=${LK_THREADS:-$(nproc)}
bench=$BUILD/tests/bench/bench_metrics
mkdir -p "${bench%/*}"
${CC:-cc} -O2 -std=c17 -D_GNU_SOURCE -Iframework -I. $(pkg-config --cflags jansson) tests/bench/bench_metrics.c "$BUILD/liblk.a" \
    $(pkg-config --libs hdf5 libpng libjpeg jansson gsl) -lm -lpthread -o "$bench" || exit 1
for python in "$LK_PEERS" build/peers/bin/python ""; do
    [ -n "$python" ] && "$python" -c 'import torch' 2>/dev/null && break
done
export OPENBLAS_NUM_THREADS=$threads OMP_NUM_THREADS=$threads MKL_NUM_THREADS=$threads

# the most ours may take of the peer's time, the rounds, our row, the peer's row
rows() { cat <<'LIST'
0.10 5 ssim/skimage 1024          | ssim/skimage 1024
0.10 3 ssim/wang04 1024           | ssim/wang04 1024
0.10 3 ms-ssim/pytorch_msssim 1024 | ms-ssim/pytorch_msssim 1024
0.10 3 ms-ssim/torchmetrics 1024  | ms-ssim/torchmetrics 1024
0.10 3 ms-ssim/piq 1024           | ms-ssim/piq 1024
0.60 1 frechet/n5000 5000 2048    | frechet/eigvals 5000 2048
0.25 1 frechet/n5000 5000 2048    | frechet/sqrtm 5000 2048
0.10 3 frechet/n600 600 2048      | frechet/eigvals 600 2048
0.10 3 frechet/n600 600 2048      | frechet/sqrtm 600 2048
0.30 1 kid 5000 2048 100 1000     | kid 5000 2048 100 1000
1.00 3 inception 8                | inception 8
0.25 3 lpips_pairs 16 128         | lpips_pairs 16 128
LIST
}
pipes=$(mktemp -d); trap 'rm -rf "$pipes"' EXIT
mkfifo "$pipes"/{ours,peer}.{in,out}
"$bench" "$threads" <"$pipes/ours.in" >"$pipes/ours.out" & exec 3>"$pipes/ours.in" 4<"$pipes/ours.out"
if [ -n "$python" ]; then "$python" tests/bench/peer_metrics.py "$threads" <"$pipes/peer.in" >"$pipes/peer.out" 2>/dev/null & exec 5>"$pipes/peer.in" 6<"$pipes/peer.out"; fi

printf '%-52s %9s %9s %6s %6s  (seconds, %s threads)\n' name ours peer ratio most "$threads"
rows | grep -E -- "$ONLY" | while read -r most rounds row; do
    ours=; peer=; [ "$ROUNDS" -lt "$rounds" ] && rounds=$ROUNDS
    echo "${row%|*}" >&3; read -r t <&4                                # once to warm up, not counted
    for ((round = 0; round < rounds; round++)); do
        echo "${row%|*}" >&3; read -r t <&4; ours="$ours $t"
        if [ -n "$python" ]; then echo "${row#*|}" >&5; read -r t <&6; peer="$peer $t"; fi
    done
    awk -v name="$(echo ${row%|*} / ${row#*|})" -v ours="$ours" -v peer="$peer" -v most="$most" '
        function median(list, a, n, i, j, t) { n = split(list, a, " "); for (i = 1; i <= n; i++) for (j = i + 1; j <= n; j++) if (a[j] + 0 < a[i] + 0) { t = a[i]; a[i] = a[j]; a[j] = t } return (a[int((n + 1) / 2)] + a[int(n / 2) + 1]) / 2 }
        BEGIN {
            o = median(ours); p = peer == "" ? -1 : median(peer)
            if (p <= 0) { printf "%-52s %9.4f %9s %6s %6.2f  SKIP\n", name, o, "-", "-", most; exit }
            printf "%-52s %9.4f %9.4f %6.3f %6.2f  %s\n", name, o, p, o / p, most, (o <= most * p ? "PASS" : "SHORT")
        }'
done
exec 3>&- 5>&-
case $ONLY in .|*memory*)
    small=$(echo "memory 10000 2048" | "$bench" "$threads"); large=$(echo "memory 50000 2048" | "$bench" "$threads")
    awk -v s="$small" -v l="$large" 'BEGIN { printf "%-52s %9.0f %9.0f %6.3f %6.2f  %s\n", "memory of moments, MiB: 50000 beside 10000 samples", l, s, l / s, 1.25, (l <= 1.25 * s ? "PASS" : "SHORT") }' ;;
esac
