# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What a simulator says, in the shape of the ROS messages that `ObservationAssembler` reads.

So pictures, odometry and route of a served session are matched, checked and decoded as those of a vehicle are.
Times are whole microseconds, as egodriver has them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from vla_driver.types import TurnCommand

#: Of odometry and route: a session's own fixed frame.
LOCAL_FRAME = 'local'


@dataclass(frozen=True)
class Header:
    """std_msgs/Header."""

    stamp: Any
    frame_id: str = ''


def header(stamp_us: int, frame: str = '') -> Header:
    """Return a header of a time."""
    sec, rest_us = divmod(int(stamp_us), 1_000_000)
    return Header(SimpleNamespace(sec=sec, nanosec=1000 * rest_us), frame)


def picture(stamp_us: int, data: bytes) -> Any:
    """Return a file (JPEG, PNG) as a sensor_msgs/CompressedImage."""
    return SimpleNamespace(header=header(stamp_us), format='', data=np.frombuffer(data, np.uint8))


def odometry(stamp_us: int, pose: npt.ArrayLike, speed_mps: float, yaw_rate_rps: float) -> Any:
    """Return a pose [3] in the local frame, and how base_link moves, as a nav_msgs/Odometry."""
    x_m, y_m, yaw_rad = (float(value) for value in np.asarray(pose))
    linear = SimpleNamespace(x=speed_mps, y=0.0, z=0.0)
    return SimpleNamespace(
        header=header(stamp_us, LOCAL_FRAME),
        child_frame_id='base_link',
        pose=SimpleNamespace(pose=_pose(x_m, y_m, yaw_rad)),
        twist=SimpleNamespace(twist=SimpleNamespace(linear=linear, angular=SimpleNamespace(z=yaw_rate_rps))),
    )


def route(points_m: npt.NDArray[np.float64]) -> Any:
    """Return points [N, 2] in the local frame as a nav_msgs/Path."""
    poses = [SimpleNamespace(pose=_pose(float(x_m), float(y_m), 0.0)) for x_m, y_m in points_m]
    return SimpleNamespace(header=header(0, LOCAL_FRAME), poses=poses)


def turn_command(stamp_us: int, command: TurnCommand, distance_m: float) -> Any:
    """Return a vla_driver/TurnCommand."""
    return SimpleNamespace(header=header(stamp_us), command=int(command), distance_m=distance_m)


def _pose(x_m: float, y_m: float, yaw_rad: float) -> Any:
    return SimpleNamespace(
        position=SimpleNamespace(x=x_m, y=y_m, z=0.0),
        orientation=SimpleNamespace(x=0.0, y=0.0, z=math.sin(0.5 * yaw_rad), w=math.cos(0.5 * yaw_rad)),
    )
