#!/usr/bin/env bash
# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
#
# Runs the tests, with the arguments of pytest, as many at once as there are cores: first those that mind no company,
# then those of real nodes and several processes; those that look at the clock last, one by one.
# VLA_DRIVER_TEST_JOBS=1 runs all one by one.
set -uo pipefail
cd "$(dirname "$0")/.."

jobs=${VLA_DRIVER_TEST_JOBS:-$(nproc)}
if [ "$jobs" -lt 2 ]; then
  exec .venv/bin/python -m pytest "$@"
fi
VLA_DRIVER_TEST_SHARED=$(mktemp -d) && export VLA_DRIVER_TEST_SHARED
trap 'rm -rf "$VLA_DRIVER_TEST_SHARED"' EXIT
status=5 # nothing was run, as where an argument names files of another part
part() { # PYTEST_OPTION...
  .venv/bin/python -m pytest "$@"
  local ended=$?
  if [ "$status" -eq 5 ] || { [ "$status" -eq 0 ] && [ "$ended" -ne 5 ]; }; then
    status=$ended
  fi
}
together=(-n "$jobs" --dist worksteal)
# One thread each: two that share a core wait for each other's threads.
OMP_NUM_THREADS=1 part "${together[@]}" -m 'not processes and not clock' "$@"
part "${together[@]}" -m processes "$@"
part -m clock "$@"
exit "$status"
