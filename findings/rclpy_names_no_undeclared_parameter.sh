#!/usr/bin/env bash
# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
#
# rclpy 7.1.6 (Jazzy) refuses parameters that a node does not have with a list from which the first of them is missing.
# With one unknown name, the usual case, `ros2 param set` and whoever calls the service read "undeclared parameter(s): []".
#
# The names are a generator; any() takes the first one out of it before the rest is put into the message.
#
# Seen (November 2026, Python 3.11, x86-64):
#   ['nobody'] -> Invalid access to undeclared parameter(s): []
#   ['nobody', 'neither'] -> Invalid access to undeclared parameter(s): ['neither']
# Fails if either line changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check 'ros-rclpy[fastrtps]==7.1.6' 2>"$work/pip.txt" ||
  { cat "$work/pip.txt" >&2; exit 1; }
cat >"$work/undeclared.py" <<'PY'
import rclpy
from rclpy.exceptions import ParameterNotDeclaredException
from rclpy.parameter import Parameter

rclpy.init()
node = rclpy.create_node('node')
for names in (['nobody'], ['nobody', 'neither']):
    try:
        node.set_parameters_atomically([Parameter(name, value=1) for name in names])
    except ParameterNotDeclaredException as error:
        print(names, '->', error)
rclpy.shutdown()
PY
env -i PATH="$PATH" HOME="$work" ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST ROS_LOG_DIR="$work/log" \
  AMENT_PREFIX_PATH="$work/env" RMW_IMPLEMENTATION=rmw_fastrtps_cpp \
  "$work/env/bin/python" "$work/undeclared.py" | tee "$work/seen.txt"
diff <(printf '%s\n' "['nobody'] -> Invalid access to undeclared parameter(s): []" \
  "['nobody', 'neither'] -> Invalid access to undeclared parameter(s): ['neither']") "$work/seen.txt"
