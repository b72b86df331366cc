#!/bin/sh
# The zoo again. `train` trains all of it into build/zoo (about an hour on 2 cores) and compares every file with models/zoo, models/student and models/id_adapter, which it
# never overwrites; interrupted, it goes on where it was. `check` replays the first steps of each model and compares weight digests.
set -e
BUILD=${BUILD:-build}
case $1 in
train)
    for m in autoencoder clip unet; do echo "$m: see $BUILD/zoo/$m.log"; "$BUILD/bin/zoo-$m" out="$BUILD/zoo"; done
    echo "student: see $BUILD/zoo/student/student.log"; "$BUILD/bin/zoo-student" out="$BUILD/zoo/student"
    echo "id_adapter: see $BUILD/zoo/id_adapter/id_adapter.log"; "$BUILD/bin/zoo-id_adapter" out="$BUILD/zoo/id_adapter"
    differ=0
    for f in student/adapter.safetensors student/trace.json id_adapter/adapter.safetensors id_adapter/trace.json; do
        if cmp -s "$BUILD/zoo/$f" "models/$f"; then echo "identical  $f"; else echo "DIFFERENT  $f"; differ=1; fi
    done
    for f in vae/diffusion_pytorch_model.safetensors clip/model.safetensors unet/diffusion_pytorch_model.safetensors tokenizer/tokenizer.json trace.json; do
        if cmp -s "$BUILD/zoo/$f" "models/zoo/$f"; then echo "identical  $f"; else echo "DIFFERENT  $f"; differ=1; fi
    done
    exit $differ ;;
check)
    out=$BUILD/zoo-check
    "$BUILD/bin/zoo-autoencoder" out="$out" until=5 compare=models/zoo/trace.json
    "$BUILD/bin/zoo-clip" out="$out" until=20 compare=models/zoo/trace.json
    "$BUILD/bin/zoo-unet" out="$out" until=5 from=models/zoo compare=models/zoo/trace.json
    "$BUILD/bin/zoo-student" out="$out/student" until=5 compare=models/student/trace.json
    "$BUILD/bin/zoo-id_adapter" out="$out/id_adapter" until=5 compare=models/id_adapter/trace.json ;;
*) echo "usage: zoo.sh train|check" >&2; exit 2 ;;
esac
