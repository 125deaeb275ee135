# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Read the driver's input messages: pure functions over any object with a ROS message's fields.

The nodes hand in rclpy's messages and the bag reader those of rosbags, and both get the same values.
Everything is checked here; `InvalidInput` names the field and its value.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from vla_driver.observation.guidance import Manoeuvre
from vla_driver.types import EgoState, FloatArray, InvalidInput, TurnCommand

#: carla_msgs/CarlaRoute's options that are about junctions; lane changes and lanes are followed.
_ROAD_OPTIONS: Final = {1: TurnCommand.LEFT, 2: TurnCommand.RIGHT, 3: TurnCommand.STRAIGHT}


def stamp_of(message: Any) -> Any:
    """Return the stamp (builtin_interfaces/Time) of a message: its header's; Foxglove's have a `timestamp` instead."""
    return message.timestamp if hasattr(message, 'timestamp') else message.header.stamp


def stamp_seconds(message: Any) -> float:
    """Return the message's stamp in seconds (exact to about 0.2 microseconds for today's dates)."""
    stamp = stamp_of(message)
    return float(stamp.sec) + float(stamp.nanosec) * 1e-9


def stamp_nanoseconds(message: Any) -> int:
    """Return the message's stamp in whole nanoseconds."""
    stamp = stamp_of(message)
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def stamp_problem(stamp_s: float, newest_s: float, jump_s: float) -> str:
    """Return what is wrong with a stamp of 0 where time has come farther than `jump_s`; '' if nothing is.

    Taken for a time, a stamp that nobody filled in would be a jump to 1970; a clock may begin at 0 all the same.
    """
    if stamp_s != 0.0 or newest_s <= jump_s:
        return ''
    return 'its stamp is 0; the driver that publishes it must fill in header.stamp, by the clock that stamps the rest'


def frame_of(message: Any) -> str:
    """Return the header's frame_id; '' where nobody filled it in.  A leading slash, as ROS 1 had it, says nothing."""
    return str(message.header.frame_id).removeprefix('/')


def frame_problem(route_frame: str, odometry_frame: str) -> str:
    """Return what is wrong with a route and odometry of these frames; '' if nothing is, or one of them is unnamed."""
    if not route_frame or not odometry_frame or route_frame == odometry_frame:
        return ''
    return (
        f'route: its points are in frame {route_frame!r}, the odometry is in {odometry_frame!r}; '
        "publish the route in the odometry's frame"
    )


def yaw_of(quaternion: Any, what: str) -> float:
    """Return the heading of a quaternion; `what` names it in errors.

    Refuses what is not of about unit length: the all-zero quaternion of a message nobody filled in
    must not pass for "no rotation".
    """
    x, y, z, w = (float(getattr(quaternion, axis)) for axis in 'xyzw')
    norm = math.sqrt(x * x + y * y + z * z + w * w)
    if not 0.99 < norm < 1.01:  # also false for NaN
        raise InvalidInput(
            f'{what}: quaternion ({x:g}, {y:g}, {z:g}, {w:g}) has length {norm:g}, expected 1; '
            'fill in the orientation (w = 1 for none)'
        )
    return math.atan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))


def read_odometry(message: Any) -> EgoState:
    """Return nav_msgs/Odometry as an ego state (the twist is in base_link, as the message demands)."""
    pose, twist = message.pose.pose, message.twist.twist
    return EgoState(
        stamp_s=stamp_seconds(message),
        x_m=float(pose.position.x),
        y_m=float(pose.position.y),
        yaw_rad=yaw_of(pose.orientation, 'odometry: orientation'),
        speed_mps=float(twist.linear.x),
        yaw_rate_rps=float(twist.angular.z),
    )


def read_route(message: Any) -> FloatArray:
    """Return the points [N, 2] of a nav_msgs/Path, N >= 1, in its frame."""
    points = np.array([[p.pose.position.x, p.pose.position.y] for p in message.poses], dtype=np.float64)
    if len(points) == 0:
        raise InvalidInput('route: a path without poses; publish at least one pose, in the odometry frame')
    if not np.isfinite(points).all():
        row = int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])
        raise InvalidInput(f'route: pose {row} is {points[row].tolist()}, expected finite numbers')
    return points


def read_goal(message: Any) -> FloatArray:
    """Return the point [2] of a geometry_msgs/PoseStamped; raise InvalidInput for what is not finite."""
    position = message.pose.position
    point = np.array([position.x, position.y], dtype=np.float64)
    if not np.isfinite(point).all():
        raise InvalidInput(f'goal: {point.tolist()}, expected finite numbers')
    return point


def read_global_plan(message: Any) -> tuple[FloatArray, tuple[Manoeuvre, ...]]:
    """Return the poses' points [N, 2] of a carla_msgs/CarlaRoute and what is to be done at its junctions.

    A junction begins at the first pose that says left, right or straight, and ends at the first that says otherwise.
    Only positions count: the leaderboard's orientations are made of degrees that were taken for radians.  Raises
    InvalidInput for one without poses, for another number of options than poses and for what is not finite.
    """
    options = [_ROAD_OPTIONS.get(int(option), TurnCommand.FOLLOW) for option in message.road_options]
    points = np.array([[pose.position.x, pose.position.y] for pose in message.poses], dtype=np.float64)
    if len(points) == 0 or len(options) != len(points):
        raise InvalidInput(
            f'global plan: {len(points)} poses and {len(options)} road options, expected as many, one or more'
        )
    if not np.isfinite(points).all():
        row = int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])
        raise InvalidInput(f'global plan: pose {row} is {points[row].tolist()}, expected finite numbers')
    told: list[Manoeuvre] = []
    begin = 0
    for k in range(1, len(options) + 1):
        if k == len(options) or options[k] is not options[begin]:
            if options[begin] is not TurnCommand.FOLLOW:
                told.append(Manoeuvre(points[begin], points[min(k, len(points) - 1)], options[begin]))
            begin = k
    return points, tuple(told)


def read_turn_command(message: Any) -> tuple[TurnCommand, float]:
    """Return (command, distance to its junction in metres) of a vla_driver/TurnCommand."""
    try:
        command = TurnCommand(int(message.command))
    except ValueError:
        allowed = ', '.join(f'{c.value} ({c.name})' for c in TurnCommand)
        raise InvalidInput(f'turn command {message.command}, allowed: {allowed}') from None
    distance_m = float(message.distance_m)
    if not math.isfinite(distance_m) or distance_m < 0.0:
        raise InvalidInput(f'turn command: distance_m is {distance_m}, expected 0 or more metres')
    return command, distance_m


def ego_at(ego: EgoState, stamp_s: float) -> EgoState:
    """Return the ego state moved to `stamp_s` by its own speed and yaw rate (midpoint rule; exact for no time)."""
    dt_s = stamp_s - ego.stamp_s
    heading = ego.yaw_rad + 0.5 * ego.yaw_rate_rps * dt_s
    return EgoState(
        stamp_s=stamp_s,
        x_m=ego.x_m + ego.speed_mps * dt_s * math.cos(heading),
        y_m=ego.y_m + ego.speed_mps * dt_s * math.sin(heading),
        yaw_rad=ego.yaw_rad + ego.yaw_rate_rps * dt_s,
        speed_mps=ego.speed_mps,
        yaw_rate_rps=ego.yaw_rate_rps,
        acceleration_mps2=ego.acceleration_mps2,
    )
