#!/bin/sh
# Runs test programs one after another; the last line sums them. A program that dies, or ends without its
# count, is one failure more. Prints only what failed or was skipped, and each program's count and seconds.
[ $# -gt 0 ] || { echo "no test program matches"; exit 1; }
passed=0; failed=0; skipped=0; log=$(mktemp)
for t in $(printf '%s\n' "$@" | sort -u); do
    start=$(date +%s)
    "$t" >"$log" 2>&1; rc=$?
    last=$(tail -n 1 "$log")
    case $last in
        [0-9]*" passed, "[0-9]*" failed, "[0-9]*" skipped") set -- $last; p=$1; f=$3; s=$5 ;;
        *) p=0; f=1; s=0; last="died (status $rc) before its count" ;;
    esac
    [ $rc -ne 0 ] && [ "$f" = 0 ] && f=1
    [ "$f" != 0 ] && grep -v '^  ok ' "$log" | tail -n 60
    [ "$f" = 0 ] && grep '^  SKIP' "$log"
    echo "${t#"$BUILD"/tests/}: $last ($(($(date +%s) - start)) s)"
    passed=$((passed + p)); failed=$((failed + f)); skipped=$((skipped + s))
done
rm -f "$log"
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ] && [ $passed -gt 0 ]
