# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Plans and controls in the messages of Autoware and of Ackermann steering, where their packages are installed."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time

from vla_driver.geometry import se2
from vla_driver.planning.control import ControlCommand
from vla_driver.ros.wire.conversions import to_duration, to_pose
from vla_driver.types import Plan


def trajectory_types() -> tuple[Any, Any] | None:
    """Return autoware_planning_msgs/Trajectory and TrajectoryPoint, or None where they are not installed."""
    try:
        messages = importlib.import_module('autoware_planning_msgs.msg')
    except ImportError:
        return None
    return messages.Trajectory, messages.TrajectoryPoint


def ackermann_type() -> Any | None:
    """Return ackermann_msgs/AckermannDrive, or None where it is not installed."""
    try:
        return importlib.import_module('ackermann_msgs.msg').AckermannDrive
    except ImportError:
        return None


def to_trajectory(types: tuple[Any, Any], plan: Plan, stamp: Time, frame: str) -> Any:
    """Return a plan as autoware_planning_msgs/Trajectory in the odometry's frame; types: `trajectory_types`.

    The first point is the vehicle itself at t0, with the speed that it has; the others follow at their times.  Angles
    of wheels are left at 0: whoever follows a trajectory knows the vehicle's axles, the planner does not.
    """
    message, point_type = types[0](), types[1]
    message.header.stamp, message.header.frame_id = stamp, frame
    t = plan.trajectory
    poses = se2.compose(plan.ego.pose, np.column_stack([t.positions_m, t.yaw_rad]))
    rows = [(0.0, plan.ego.pose, plan.ego.speed_mps, float(t.acceleration_mps2[0]), plan.ego.yaw_rate_rps)]
    rates = t.curvature_per_m * t.speed_mps
    rows += list(zip(t.times_s, poses, t.speed_mps, t.acceleration_mps2, rates, strict=True))
    for after_s, pose, speed_mps, acceleration_mps2, yaw_rate_rps in rows:
        point = point_type()
        point.time_from_start = to_duration(float(after_s))
        point.pose = to_pose(*map(float, pose))
        point.longitudinal_velocity_mps = float(speed_mps)
        point.acceleration_mps2 = float(acceleration_mps2)
        point.heading_rate_rps = float(yaw_rate_rps)
        message.points.append(point)
    return message


def to_ackermann(drive_type: Any, command: ControlCommand, speed_mps: float) -> Any:
    """Return a command as ackermann_msgs/AckermannDrive; speed_mps: what is aimed at, 0 to stand."""
    message = drive_type()
    message.steering_angle = float(command.steering_rad)
    message.acceleration = float(command.acceleration_mps2)
    message.speed = float(speed_mps)
    return message
