#!/bin/sh
# Refuses an unknown experiment, naming the ones there are. usage: need_exp.sh NAME KNOWN...
name=$1; shift
for k in "$@"; do [ "$k" = "$name" ] && exit 0; done
if [ -z "$name" ]; then echo "which experiment? make exp=NAME run, NAME one of: $*" >&2
else echo "no experiment named '$name' in experiments/; there are: $*" >&2; fi
exit 2
