# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What a bag of ours knows about the drive itself: other road users, the road, and what the expert would drive."""

from __future__ import annotations

from typing import Any

import numpy as np

from vla_driver.observation.messages import stamp_seconds, yaw_of
from vla_driver.sim.world.scene import Actor, SemanticClass
from vla_driver.types import FloatArray, InvalidInput, Trajectory
from vla_driver.types.checks import finite

_CUBE, _LINE_STRIP, _ADD = 1, 4, 0


def agents_of(message: Any, logged_ns: int) -> tuple[float, list[Actor]]:
    """Return (stamp, the road users) of a visualization_msgs/MarkerArray of boxes (`bag.schema`)."""
    cubes = [marker for marker in message.markers if (marker.type, marker.action) == (_CUBE, _ADD)]
    stamp_s = stamp_seconds(message.markers[0]) if len(message.markers) else logged_ns * 1e-9
    return stamp_s, [_actor(marker) for marker in cubes]


def road_boundary_of(message: Any) -> tuple[FloatArray, ...]:
    """Return the lines [N, 2] of a visualization_msgs/MarkerArray of line strips (`bag.schema`), in metres.

    Raises InvalidInput for a line of fewer than two points, and for points that are not finite, naming the marker.
    """
    return tuple(_line(marker) for marker in message.markers if (marker.type, marker.action) == (_LINE_STRIP, _ADD))


def _line(marker: Any) -> FloatArray:
    what = f'road boundary: marker {marker.id}'
    if len(marker.points) < 2:
        raise InvalidInput(f'{what}: {len(marker.points)} points, expected two or more')
    return finite(what, [(point.x, point.y) for point in marker.points], (None, 2))


def _actor(marker: Any) -> Actor:
    try:
        kind = SemanticClass[marker.ns.upper()]
    except KeyError:
        kind = SemanticClass.UNLABELED
    try:
        speed_mps = float(marker.text or 0.0)
    except ValueError:
        speed_mps = 0.0
    position, size = marker.pose.position, marker.scale
    return Actor(
        actor_id=int(marker.id),
        kind=kind,
        x_m=float(position.x),
        y_m=float(position.y),
        yaw_rad=yaw_of(marker.pose.orientation, f'agent {marker.id}: orientation'),
        length_m=float(size.x),
        width_m=float(size.y),
        height_m=float(size.z),
        speed_mps=speed_mps,
    )


def trajectory_of_path(message: Any) -> Trajectory:
    """Return a nav_msgs/Path of stamped poses in base_link at its header's stamp as a trajectory.

    A Path holds no speeds: speed k is the mean speed of the step to pose k; acceleration and curvature follow from
    the differences of speed and yaw.  Raises InvalidInput unless the poses' stamps are evenly spaced.
    """
    t0 = stamp_seconds(message)
    times = np.array([stamp_seconds(pose) - t0 for pose in message.poses])
    if (
        len(times) == 0
        or not times[0] > 0
        or not np.allclose(times, times[0] * np.arange(1, len(times) + 1), atol=1e-5)
    ):
        raise InvalidInput(f'path: poses {times.tolist()} s after its own stamp, expected even steps from the first')
    dt_s = round(float(times[0]), 6)
    points = np.array([[p.pose.position.x, p.pose.position.y] for p in message.poses], dtype=np.float64)
    yaw = np.unwrap([0.0] + [yaw_of(p.pose.orientation, 'path: orientation') for p in message.poses])
    steps = np.diff(np.vstack([[0.0, 0.0], points]), axis=0)
    distance = np.hypot(steps[:, 0], steps[:, 1])
    speed = distance / dt_s
    curvature = np.divide(np.diff(yaw), distance, out=np.zeros_like(distance), where=distance > 0.05)
    acceleration = np.diff(speed, prepend=speed[0]) / dt_s
    return Trajectory(points, yaw[1:], speed, acceleration, curvature, dt_s)
