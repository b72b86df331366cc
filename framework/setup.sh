#!/bin/sh
# Finds what the build needs; installs it when root on Debian or Ubuntu, else prints the line that does.
need=""
command -v cc >/dev/null 2>&1 || command -v gcc >/dev/null 2>&1 || command -v clang >/dev/null 2>&1 || need="$need gcc libc6-dev"
if ! command -v pkg-config >/dev/null 2>&1; then need="$need pkg-config"; fi
has() { command -v pkg-config >/dev/null 2>&1 && pkg-config --exists "$1" 2>/dev/null || need="$need $2"; }
has hdf5 libhdf5-dev; has gsl libgsl-dev; has libpng libpng-dev; has libjpeg libjpeg62-turbo-dev
has jansson libjansson-dev; has openblas libopenblas-dev; has lapacke liblapacke-dev
command -v gnuplot >/dev/null 2>&1 || need="$need gnuplot-nox fonts-dejavu-core"
[ -e /usr/include/CUnit/CUnit.h ] || need="$need libcunit1-dev"
[ -z "$need" ] && exit 0
grep -qi ubuntu /etc/os-release 2>/dev/null && need=$(echo "$need" | sed 's/libjpeg62-turbo-dev/libjpeg-turbo8-dev/')
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing:$need" >&2
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086
    { apt-get install -y --no-install-recommends $need || { apt-get update && apt-get install -y --no-install-recommends $need; }; } >/tmp/lk-setup.$$ 2>&1 \
        || { tail -5 /tmp/lk-setup.$$ >&2; rm -f /tmp/lk-setup.$$; echo "apt-get could not install:$need" >&2; exit 1; }
    rm -f /tmp/lk-setup.$$
    exit 0
fi
echo "missing packages; install them with:  sudo apt-get install --no-install-recommends$need" >&2
exit 1
