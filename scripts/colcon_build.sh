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
# A build folder remembers the place and the Python it was made with, and an installation with copies
# (a plain `colcon build`) cannot become one with links.  Those are made anew.
cache=build/vla_driver/CMakeCache.txt
init=$(python -c 'import sysconfig; print(sysconfig.get_path("purelib", vars={"base": "install/vla_driver"}))')/vla_driver/__init__.py
if [ -e "$cache" ] && ! { grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$PWD" "$cache" && grep -qF "$PWD/.venv/bin/python" "$cache"; } ||
  [ -e install/vla_driver ] && ! [ -L "$init" ]; then
  rm -rf build/vla_driver install/vla_driver
fi
if ! python -m colcon build --symlink-install --event-handlers console_direct- summary+ \
  --cmake-args -DPython3_EXECUTABLE="$PWD/.venv/bin/python" -DPython3_FIND_VIRTUALENV=ONLY \
  >"$log" 2>&1 </dev/null; then
  tail -n 60 "$log" >&2
  echo "error: colcon build failed; the whole output is in $log (try 'make clean' if the folder was moved)" >&2
  exit 1
fi
tail -n 1 "$log"

# The `vla_driver` command; the modules themselves stay in the source tree.
if ! python -m pip install --disable-pip-version-check --no-deps --no-build-isolation --editable . >>"$log" 2>&1 </dev/null; then
  tail -n 30 "$log" >&2
  echo "error: pip could not make the vla_driver command; the whole output is in $log" >&2
  exit 1
fi
python -c 'import vla_driver.msg' ||
  { echo "error: the messages were built but cannot be imported; see $log" >&2; exit 1; }
