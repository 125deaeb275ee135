#!/usr/bin/env bash
# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
#
# carla-driver-interface 2.3.1: a plan is laid from where the vehicle was last seen, and stamped with another time.
#
# `DriveContext.time_now_us` says "the pose at this instant anchors the returned plan".  The servicer takes the newest
# pose that was submitted, whatever its stamp.  A runtime that has sent egomotion up to 0.1 s when it asks for 0 s (it
# runs ahead, or asks twice) gets a first pose that is stamped 0 s and lies where the vehicle is at 0.1 s, and the whole
# plan is as far ahead: 0.8 m at 8 m/s.  Where a driver and its runtime keep step, nothing is to be seen.
#
# Seen (November 2026, Python 3.11):
#   asked at 0.0 s, vehicle then at x = 0.0 m: first pose at 0.0 s is x = 0.8 m
# Fails if the first pose is that of the time that was asked for.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check carla-driver-interface==2.3.1 2>"$work/pip.txt" ||
  { cat "$work/pip.txt" >&2; exit 1; }
cat >"$work/ask.py" <<'PY'
from carla_driver_interface.contract import contract_metadata
from carla_driver_interface.driver import BaseDriver, DriveResult
from carla_driver_interface.geometry import Pose, Trajectory
from carla_driver_interface.inprocess import in_process_channel
from carla_driver_interface.protocol import (
    DriveRequest,
    DriveSessionRequest,
    EgodriverServiceStub,
    RolloutEgoTrajectory,
)
from carla_driver_interface.testing import FakeCamera


class Straight(BaseDriver):
    name = 'straight'

    def drive(self, ctx):
        ahead = [Pose.from_xyz_yaw(4.0 * k, 0.0, 0.0, 0.0) for k in (1, 2)]
        return DriveResult(Trajectory([ctx.time_now_us + 500_000 * k for k in (1, 2)], ahead))


stub = EgodriverServiceStub(in_process_channel(Straight()))
request = DriveSessionRequest(session_uuid='s')
request.rollout_spec.vehicle.available_cameras.append(FakeCamera().available_camera())
stub.start_session(request, metadata=contract_metadata(2))
moved = RolloutEgoTrajectory(session_uuid='s')
poses = [Pose.from_xyz_yaw(x, 0.0, 0.0, 0.0) for x in (0.0, 0.8)]
moved.trajectory.CopyFrom(Trajectory([0, 100_000], poses).to_proto())
stub.submit_egomotion_observation(moved)
answer = stub.drive(DriveRequest(session_uuid='s', time_now_us=0, time_query_us=100_000))
first = answer.trajectory.poses[0]
print(
    f'asked at 0.0 s, vehicle then at x = 0.0 m: first pose at {first.timestamp_us * 1e-6:.1f} s '
    f'is x = {first.pose.vec.x:.1f} m'
)
raise SystemExit(not (first.timestamp_us == 0 and abs(first.pose.vec.x - 0.8) < 1e-6))
PY
"$work/env/bin/python" "$work/ask.py"
