#!/usr/bin/env bash
# The long form of the kill test: 300 SIGKILLs at moments drawn from the clock. make soak [kills=1000]
set -euo pipefail
LK_KILLS=${kills:-300} "${BUILD:-build}/tests/harness/test_kill"
