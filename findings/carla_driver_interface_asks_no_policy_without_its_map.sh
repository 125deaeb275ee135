#!/usr/bin/env bash
# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
#
# carla-driver-interface 2.3.1: a driver that names a `map_dir` is not asked at all where one map is missing.
#
# `DriveContext.map` is documented as None "when the policy sets no `map_dir` or the runtime wrote no map".  But the
# servicer opens the map before it calls `drive`, and does not catch what that raises.  So where the runtime names a map
# whose folder has not been copied yet (or lacks the driver's `map_format`), every `drive` ends with status UNKNOWN, and
# a policy that would do without the map never runs: no plan, and no fallback of the policy's own.
#
# Seen (November 2026, Python 3.11):
#   no map_dir: answered, the policy was asked 1 times
#   map_dir without that map: UNKNOWN, the policy was asked 0 times
# Fails if the policy is asked with `ctx.map` None.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check carla-driver-interface==2.3.1 2>"$work/pip.txt" ||
  { cat "$work/pip.txt" >&2; exit 1; }
mkdir "$work/maps"
cat >"$work/ask.py" <<'PY'
import logging
import sys

import grpc
from carla_driver_interface.contract import contract_metadata, negotiate
from carla_driver_interface.driver import BaseDriver, DriveResult
from carla_driver_interface.geometry import Pose, Trajectory
from carla_driver_interface.protocol import (
    CarlaRendererData,
    DriveRequest,
    DriveSessionRequest,
    EgodriverServiceStub,
    RolloutEgoTrajectory,
    pack_renderer_data,
)
from carla_driver_interface.server import serving

logging.disable(logging.CRITICAL)  # the servicer's traceback


class Straight(BaseDriver):
    name = 'straight'

    def __init__(self, map_dir):
        self.map_dir, self.asked = map_dir, 0

    def drive(self, ctx):
        self.asked += 1
        ahead = [Pose.from_xyz_yaw(4.0 * k, 0.0, 0.0, 0.0) for k in (1, 2)]
        return DriveResult(Trajectory([ctx.time_now_us + 500_000 * k for k in (1, 2)], ahead))


def ask(map_dir):
    driver = Straight(map_dir)
    with serving(driver, port=0, host='127.0.0.1') as port, grpc.insecure_channel(f'127.0.0.1:{port}') as channel:
        stub = EgodriverServiceStub(channel)
        _, revision = negotiate(stub, timeout=20.0)
        stub.start_session(DriveSessionRequest(session_uuid='s'), metadata=contract_metadata(revision))
        moved = RolloutEgoTrajectory(session_uuid='s')
        moved.trajectory.CopyFrom(Trajectory([0], [Pose.from_xyz_yaw(0.0, 0.0, 0.0, 0.0)]).to_proto())
        stub.submit_egomotion_observation(moved)
        request = DriveRequest(session_uuid='s', time_now_us=0, time_query_us=100_000)
        request.renderer_data = pack_renderer_data(CarlaRendererData(map_id='Town01'))
        try:
            stub.drive(request, timeout=20.0)
            return 'answered', driver.asked
        except grpc.RpcError as error:
            return error.code().name, driver.asked


without, missing = ask(None), ask(sys.argv[1])
print(f'no map_dir: {without[0]}, the policy was asked {without[1]} times')
print(f'map_dir without that map: {missing[0]}, the policy was asked {missing[1]} times')
raise SystemExit((without, missing) != (('answered', 1), ('UNKNOWN', 0)))
PY
"$work/env/bin/python" "$work/ask.py" "$work/maps"
