#!/usr/bin/env bash
# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
#
# Builds the messages of others that vla_driver speaks (interfaces/) into ./.venv, beside the wheels' own: they are not
# on PyPI.  Where a ROS 2 distribution is sourced nothing is built: its packages, or none, are used.  Called by
# `make setup`.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -d .venv/share/ament_cmake ] || exit 0
. scripts/ros_env.sh

log=log/interfaces.txt
mkdir -p log
printf '\033[1m==> building messages of CARLA, Ackermann steering, Autoware and tf ...\033[0m\n'
# Two builds at once, each with one job: on two cores that is as fast as it gets.
if ! python -m colcon --log-base log/interfaces build --base-paths interfaces --merge-install --install-base .venv \
  --build-base build/interfaces --parallel-workers 2 --event-handlers console_direct- summary+ \
  --cmake-args -DPython3_EXECUTABLE="$PWD/.venv/bin/python" -DPython3_FIND_VIRTUALENV=ONLY >"$log" 2>&1 </dev/null; then
  tail -n 60 "$log" >&2
  echo "error: building interfaces/ failed; the whole output is in $log" >&2
  exit 1
fi
# What colcon writes to be sourced is of no use here: .venv is a prefix of its own (scripts/ros_env.sh).
rm -f .venv/setup.* .venv/local_setup.* .venv/_local_setup_util_* .venv/COLCON_IGNORE
tail -n 1 "$log"
python -c 'import ackermann_msgs.msg, autoware_planning_msgs.msg, carla_msgs.msg, tf2_msgs.msg' ||
  { echo "error: the messages were built but cannot be imported; see $log" >&2; exit 1; }
