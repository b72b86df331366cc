#!/bin/sh
# Writes docs/operations.md from framework/graph/ops.def: sh docs/operations.sh > docs/operations.md
cat <<'HEAD'
# Operations

Made by `docs/operations.sh` from `framework/graph/ops.def`. Gradient: VJP has a rule, DEC goes through the decomposition, ZERO has
none and passes nothing on, NONE is an error. Decomposes: the same bits can be had from primitives. Arithmetic: `docs/numerics.md`.

HEAD
awk '
/^\/\* [a-z].*\*\/$/ { title = $0; gsub(/^\/\* | \*\/$/, "", title)
    printf "%s## %s\n\n| operation | inputs | attribute | gradient | decomposes | note |\n|---|---|---|---|---|---|\n", n++ ? "\n" : "", title }
/^OP\(/ { row = $0; note = ""
    if (match(row, /\/\*.*\*\//)) { note = substr(row, RSTART + 3, RLENGTH - 6); row = substr(row, 1, RSTART - 1) }
    gsub(/\|/, "\\|", note); sub(/^OP\(/, "", row); split(row, f, /, */)
    printf "| `%s` | %s | %s | %s | %s | %s |\n", f[1], f[2] == f[3] ? f[2] : f[2] " to " f[3], f[4] == "none" ? "" : f[4], f[5], f[6] == "DEC" ? "yes" : "", note }
' "$(dirname "$0")/../framework/graph/ops.def"
