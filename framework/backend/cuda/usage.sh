#!/bin/sh
# make cuda-usage: registers, shared memory and spilled bytes of each kernel and architecture, from what ptxas -v said when
# kernels.cu was compiled. Exits 1 if a kernel takes more shared memory or registers than every architecture named offers
# (48 KiB a block, 255 a thread; registers by block are held to __launch_bounds__ by ptxas). Spills are shown, not refused.
report=$(mktemp); trap 'rm -f "$report"' EXIT
awk '
/Compiling entry function/ { split($0, q, "\047"); name = q[2]; arch = q[4]; sub(/^_Z[0-9]+lk_cuda_/, "", name); sub(/[0-9]+lk_[a-z]+_args$/, "", name) }
/spill stores/ { for (i = 1; i <= NF; i++) if ($i == "bytes" && $(i+1) == "spill" && $(i+2) ~ /^stores/) spill = $(i-1) }
/Used [0-9]+ registers/ {
    for (i = 1; i <= NF; i++) { if ($i == "Used") regs = $(i+1); if ($i == "bytes" && $(i+1) ~ /^smem/) smem = $(i-1) }
    if (!header++) printf "%-16s %-8s %9s %12s %6s\n", "kernel", "arch", "registers", "shared bytes", "spills"
    printf "%-16s %-8s %9d %12d %6d\n", name, arch, regs, smem, spill
    if (smem > 49152 || regs > 255) bad++
    smem = spill = 0
}
END { if (!header) { print "no ptxas report: run make cuda first"; exit 1 } if (bad) { print bad " do not fit"; exit 1 } }' "$1" >"$report"; rc=$?
head -n 1 "$report"; tail -n +2 "$report" | sort
exit $rc
