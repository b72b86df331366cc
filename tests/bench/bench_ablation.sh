#!/bin/bash
# What fusing kernels is worth: a UNet's LoRA step and an autoencoder's decoding with no family fused, one alone, all of them, and all with Winograd's
# convolutions (backend=cpu-fast). Fused and unfused give the same bits (the digest column of the LoRA step), the fast tier others.
#   make bench ablation=1     table on stdout, $BUILD/bench/ablation.dat and ablation.png (gnuplot)
#   LK_THREADS (2)  ROUNDS (5)  STEPS (1)
# All variants of a work run in turn, one process each kept for all rounds; medians. change: of seconds against nothing fused.
cd "$(dirname "$0")/../.." || exit 1
BUILD=${BUILD:-build}; ROUNDS=${ROUNDS:-5}; STEPS=${STEPS:-1}; threads=${LK_THREADS:-2}
bench=$BUILD/tests/bench/bench_step out=$BUILD/bench
mkdir -p "${bench%/*}" "$out"
${CC:-cc} -O3 -mavx2 -std=c17 -D_GNU_SOURCE -Iframework -I. $(pkg-config --cflags hdf5 jansson) tests/bench/bench_step.c "$BUILD/liblk.a" \
    $(pkg-config --libs hdf5 libpng libjpeg jansson gsl) -lhdf5_hl -lm -lpthread -o "$bench" || exit 1
names=("nothing fused" "group norm + SiLU" "GEGLU, GELU" "attention" "all fused" "all, Winograd")
options=("apart=norm,geglu,attention" "apart=geglu,attention" "apart=norm,attention" "apart=norm,geglu" "apart=" "backend=cpu-fast")

# work NAME MODEL ARGUMENTS...
compare() {
    local name=$1 pipes i round t base; shift
    local -a in fd times
    pipes=$(mktemp -d)
    for i in "${!names[@]}"; do
        mkfifo "$pipes/in$i" "$pipes/out$i"
        "$bench" "$1" "$threads" "${@:2}" "${options[$i]}" <"$pipes/in$i" >"$pipes/out$i" &
        exec {t}>"$pipes/in$i"; in[i]=$t
        exec {t}<"$pipes/out$i"; fd[i]=$t
        read -r -u "${fd[$i]}" t || { echo "$name: bench_step ended"; exit 1; }
    done
    for ((round = 0; round <= ROUNDS; round++)); do
        for i in "${!names[@]}"; do
            echo "$STEPS" >&"${in[$i]}"; read -r -u "${fd[$i]}" t
            [ "$round" -gt 0 ] && times[i]="${times[i]} $t"
        done
    done
    printf '\n%s\n%-20s %9s %8s %12s %12s  %s\n' "$name" fused seconds change "planned MiB" "resident MiB" digest
    for i in "${!names[@]}"; do
        local planned resident digest=-
        t=$(tr ' ' '\n' <<<"${times[i]}" | grep . | sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }')
        echo memory >&"${in[$i]}"; read -r -u "${fd[$i]}" planned resident
        if [[ $name == *LoRA* ]]; then echo digest >&"${in[$i]}"; read -r -u "${fd[$i]}" digest; fi
        [ "$i" = 0 ] && base=$t
        awk -v n="${names[$i]}" -v t="$t" -v b="$base" -v p="$planned" -v r="$resident" -v d="${digest:0:12}" -v w="$name" -v dat="$out/ablation.dat" 'BEGIN {
            printf "%-20s %9.4f %7.1f%% %12.1f %12.1f  %s\n", n, t, 100 * (t / b - 1), p / 1048576, r / 1048576, d
            printf "\"%s\" \"%s\" %.6f %.2f %.2f %.2f\n", w, n, t, t / b, p / 1048576, r / 1048576 >> dat }'
        exec {in[$i]}>&- {fd[$i]}<&-
    done
    printf '\n\n' >>"$out/ablation.dat"
    wait
    rm -rf "$pipes"
}
: >"$out/ablation.dat"
echo "kernel ablation, $threads threads, median of $ROUNDS, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
compare "LoRA step, UNet 64/128/256, 8 x 16 x 16 latents" 64,128,256 work=lora batch=8
compare "VAE decode, zoo, 8 x 16 x 16 latents" models/zoo/vae/config.json work=decode batch=8 size=16
compare "VAE decode, zoo, 1 x 64 x 64 latents" models/zoo/vae/config.json work=decode batch=1 size=64
command -v gnuplot >/dev/null && gnuplot <<GP && echo "figure: $out/ablation.png"
set terminal pngcairo size 1100,420 font "sans,10"
set output "$out/ablation.png"
set style data histogram
set style fill solid 0.85 border -1
set boxwidth 0.9
set multiplot layout 1,2
set key outside top center horizontal
set grid y
set xtics rotate by -25
set ylabel "time, nothing fused = 1"
set yrange [0:*]
plot for [i=0:2] "$out/ablation.dat" index i using 4:xtic(2) title word("LoRA-step decode-64px decode-256px", i + 1)
set ylabel "planned memory, MiB"
plot for [i=0:2] "$out/ablation.dat" index i using 5:xtic(2) title word("LoRA-step decode-64px decode-256px", i + 1)
GP
exit 0
