#!/usr/bin/env bash
# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
#
# Runs the tests, with the arguments of pytest: first those that mind no company, as many at once as there are cores;
# then, one by one, those marked `alone`, which run several processes themselves or look at the clock.
# VLA_DRIVER_TEST_JOBS=1 runs all one by one.
set -uo pipefail
cd "$(dirname "$0")/.."

jobs=${VLA_DRIVER_TEST_JOBS:-$(nproc)}
if [ "$jobs" -lt 2 ]; then
  exec .venv/bin/python -m pytest "$@"
fi
# One thread each: two that share a core wait for each other's threads.
OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n "$jobs" --dist loadfile -m 'not alone' "$@"
together=$?
.venv/bin/python -m pytest -m alone "$@"
alone=$?
# 5: there was nothing to run, as where an argument names one file.
if [ "$together" -eq 5 ] && [ "$alone" -eq 5 ]; then
  exit 5
fi
for status in "$together" "$alone"; do
  if [ "$status" -ne 0 ] && [ "$status" -ne 5 ]; then
    exit "$status"
  fi
done
