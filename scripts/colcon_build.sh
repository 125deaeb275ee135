#!/usr/bin/env bash
# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
#
# Builds the messages and installs the nodes into ./install with the Python of ./.venv, then makes
# the `vla_driver` command.  Called by `make setup`.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/ros_env.sh

log=log/colcon_build.txt
mkdir -p log
printf '\033[1m==> colcon build (messages and nodes) ...\033[0m\n'
# A build folder remembers the paths and the Python it was made with; another place needs another one.
if [ -f build/vla_driver/CMakeCache.txt ] &&
  ! { grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$PWD" build/vla_driver/CMakeCache.txt &&
    grep -qF "$PWD/.venv/bin/python" build/vla_driver/CMakeCache.txt; }; then
  rm -rf build/vla_driver install/vla_driver
fi
if ! python -m colcon build --symlink-install --event-handlers console_direct- summary+ \
  --cmake-args -DPython3_EXECUTABLE="$PWD/.venv/bin/python" -DPython3_FIND_VIRTUALENV=ONLY -DBUILD_TESTING=OFF \
  >"$log" 2>&1 </dev/null; then
  tail -n 60 "$log" >&2
  echo "error: colcon build failed; the whole output is in $log (try 'make clean' if the folder was moved)" >&2
  exit 1
fi
tail -n 1 "$log"

python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable . </dev/null
python -c 'import vla_driver.msg' ||
  { echo "error: the messages were built but cannot be imported; see $log" >&2; exit 1; }
