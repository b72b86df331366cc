#!/usr/bin/env bash
# Builds and runs every fuzz target (tests/fuzz/fuzz_*.c) under the address and undefined-behaviour sanitizers.
#   seconds=60   for each target      seed=1      only=PART of a target's name
# Inputs live on a memory disk (each is written before it is tried); a finding leaves its input in
# build/fuzz/TARGET.d and fails. Last line: "N passed, N failed".
cd "$(dirname "$0")/../.." || exit 1
dir=build/fuzz; passed=0; failed=0
flags="-std=c17 -D_GNU_SOURCE -g -O1 -Wall -Wextra -Wno-missing-field-initializers -Wno-format-truncation -Iframework -I. -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"
cflags=$(pkg-config --cflags hdf5 libpng libjpeg jansson); libs="$(pkg-config --libs hdf5 libpng libjpeg jansson) -lhdf5_hl -lz -lm -lpthread"
export ASAN_OPTIONS=allocator_may_return_null=1:detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1
mkdir -p $dir
for source in framework/base/*.c framework/io/*.c models/unicode.c models/unicode_tables.c models/clip_tokenizer.c tests/fuzz/mutate.c; do
    # shellcheck disable=SC2086
    ${CC:-cc} $flags $cflags -c "$source" -o "$dir/$(echo "$source" | tr / _).o" || exit 1
done
# Adapters' files without the graph they are used in: what only a built model calls stays unresolved and uncalled.
adapter="framework/graph/shapes.c models/lora_file.c models/lora_io.c models/lora_options.c models/lora_pattern.c models/lora_components.c models/lora_names.c models/lora_flux.c models/lora_lycoris.c models/lora_save.c models/lora_saved.c models/lora_algebra.c models/single_file.c"
for source in $adapter; do
    # shellcheck disable=SC2086
    ${CC:-cc} $flags $cflags -fno-pie -c "$source" -o "$dir/$(echo "$source" | tr / _).adapter.o" || exit 1
done
for source in tests/fuzz/fuzz_*.c; do
    name=$(basename "$source" .c)
    case $name in *"$only"*) ;; *) continue ;; esac
    rm -rf "${dir:?}/$name.d"
    work=$(mktemp -d -p "$([ -w /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")" lk-fuzz-XXXXXX) || exit 1
    extra=; [ $name != fuzz_adapter ] || extra="$(echo $dir/*.adapter.o) -no-pie -Wl,--unresolved-symbols=ignore-all"
    # shellcheck disable=SC2086
    if ${CC:-cc} $flags $cflags "$source" $dir/*.c.o $extra -o "$dir/$name" $libs && "$dir/$name" "$work" "${seconds:-60}" "${seed:-1}" >"$dir/$name.log" 2>&1
    then passed=$((passed + 1)); tail -n 1 "$dir/$name.log"
    else failed=$((failed + 1)); cp -r "$work" "$dir/$name.d"; tail -n 40 "$dir/$name.log"; echo "$name: FAILED; the input is in $dir/$name.d"
    fi
    rm -rf "$work"
done
echo "$passed passed, $failed failed"
[ $failed = 0 ] && [ $passed -gt 0 ]
