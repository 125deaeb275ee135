#!/usr/bin/env bash
# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
#
# Fast DDS 2.14.5 (rclpy 7.1.6, Jazzy): a process pays for the whole shared-memory segment when its node is made, before
# anything is sent: `segment_size` is written through, so all of it counts as resident memory.
#
# A profile with large segments, which raw pictures need, therefore costs every process that takes it, also those that
# send nothing.
#
# Seen (November 2026, Python 3.11, x86-64):
#   a segment of 1 MB: less than 8 MB of shared memory resident after a node is made
#   a segment of 128 MB: more than 120 MB of shared memory resident after a node is made
# Fails if either line changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/node.py" <<'PY'
import sys
from pathlib import Path

import rclpy

rclpy.init()
node = rclpy.create_node('bare', start_parameter_services=False, enable_rosout=False)
status = Path('/proc/self/status').read_text()
resident = int(next(line for line in status.splitlines() if line.startswith('RssShmem')).split()[1]) / 1024
size = int(sys.argv[1])
words = 'less than 8' if resident < 8 else f'more than {size - 8}' if resident > size - 8 else f'{resident:.0f}'
print(f'a segment of {size} MB: {words} MB of shared memory resident after a node is made')
node.destroy_node()
rclpy.shutdown()
PY
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check 'ros-rclpy[fastrtps]==7.1.6' 2>"$work/pip.txt" ||
  { cat "$work/pip.txt" >&2; exit 1; }
for size in 1 128; do
  cat >"$work/$size.xml" <<XML
<?xml version="1.0" encoding="UTF-8" ?>
<profiles xmlns="http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles">
  <transport_descriptors>
    <transport_descriptor>
      <transport_id>shm</transport_id><type>SHM</type><segment_size>$((size * 1048576))</segment_size>
    </transport_descriptor>
  </transport_descriptors>
  <participant profile_name="participant" is_default_profile="true">
    <rtps>
      <userTransports><transport_id>shm</transport_id></userTransports>
      <useBuiltinTransports>false</useBuiltinTransports>
    </rtps>
  </participant>
</profiles>
XML
  env -i PATH="$PATH" HOME="$work" ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST ROS_LOG_DIR="$work/log" \
    AMENT_PREFIX_PATH="$work/env" RMW_IMPLEMENTATION=rmw_fastrtps_cpp \
    FASTRTPS_DEFAULT_PROFILES_FILE="$work/$size.xml" "$work/env/bin/python" "$work/node.py" "$size"
done | tee "$work/seen.txt"
diff <(printf '%s\n' 'a segment of 1 MB: less than 8 MB of shared memory resident after a node is made' \
  'a segment of 128 MB: more than 120 MB of shared memory resident after a node is made') "$work/seen.txt"
