#!/usr/bin/env bash
# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
#
# rclpy 9.1.2 (Kilted) calls destroy_node() on a node whose own __init__ has raised, when its context ends.
# rclpy 7.1.6 (Jazzy) does not.
#
# A class that overrides destroy_node(), as the documentation invites to, then meets an object that lacks what the rest
# of __init__ would have made: an AttributeError out of the context's end, in place of the error that made the node fail.
#
# Seen (November 2026, Python 3.11, x86-64):
#   rclpy 7.1.6: destroy_node called 0 times, the caller sees RuntimeError
#   rclpy 9.1.2: destroy_node called 1 times, the caller sees AttributeError
# Fails if either line changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/half_made.py" <<'PY'
import importlib.metadata

import rclpy
from rclpy.node import Node

calls = 0


class HalfMade(Node):
    def __init__(self):
        super().__init__('half_made')
        raise RuntimeError('a parameter is missing')

    def destroy_node(self):
        global calls
        calls += 1
        self.made_after_that.close()
        super().destroy_node()


said = ''
rclpy.init()
try:
    try:
        HalfMade()
    finally:
        rclpy.shutdown()
except Exception as error:
    said = type(error).__name__
print(f'rclpy {importlib.metadata.version("ros-rclpy")}: destroy_node called {calls} times, the caller sees {said}')
PY
for version in 7.1.6 9.1.2; do
  python3 -m venv "$work/$version"
  "$work/$version/bin/pip" install --quiet --disable-pip-version-check "ros-rclpy[fastrtps]==$version" 2>"$work/pip.txt" ||
    { cat "$work/pip.txt" >&2; exit 1; }
  env -i PATH="$PATH" HOME="$work" ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST ROS_LOG_DIR="$work/log" \
    AMENT_PREFIX_PATH="$work/$version" RMW_IMPLEMENTATION=rmw_fastrtps_cpp \
    "$work/$version/bin/python" "$work/half_made.py"
done | tee "$work/seen.txt"
diff <(printf '%s\n' 'rclpy 7.1.6: destroy_node called 0 times, the caller sees RuntimeError' \
  'rclpy 9.1.2: destroy_node called 1 times, the caller sees AttributeError') "$work/seen.txt"
