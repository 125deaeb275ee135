# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What CARLA's ROS bridge says and hears, where its messages (`carla_msgs`) are installed.

Written from the bridge's sources (carla-simulator/ros-bridge) and its message definitions; not run against CARLA.
"""

from __future__ import annotations

import array
import importlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry, Path
from sensor_msgs.msg import Image as ImageMessage
from sensor_msgs.msg import Imu, NavSatFix

from vla_driver.geometry.carla import satellite_position
from vla_driver.planning.control import ControlCommand
from vla_driver.ros.wire.conversions import to_pose
from vla_driver.settings.nodes.controller import ControlConfig, ControllerParameters
from vla_driver.types import EgoState, FloatArray, Image, InvalidInput, TurnCommand

#: The bridge's fixed frame.
MAP_FRAME: Final = 'map'
#: What CarlaRoute calls what is to be done.
ROAD_OPTIONS: Final = {TurnCommand.LEFT: 1, TurnCommand.RIGHT: 2, TurnCommand.STRAIGHT: 3, TurnCommand.FOLLOW: 4}
_NOT_INSTALLED: Final = 'carla_msgs is not installed; source the workspace of the CARLA ROS bridge'
#: A vehicle's name, a part of topics.
_ROLE: Final = re.compile(r'[A-Za-z_]\w*(/[A-Za-z_]\w*)*', re.ASCII)

#: The front-wheel angle of `steer` = 1 where the vehicle does not say otherwise.
MAX_STEER_RAD: Final = ControllerParameters.carla_max_steer_rad


def pedals(
    command: ControlCommand, config: ControlConfig, max_steer_rad: float = MAX_STEER_RAD
) -> tuple[float, float, float]:
    """Return (throttle 0..1, brake 0..1, steer -1..1 with positive to the RIGHT) of a command.

    Linear in the follower's own limits: what full throttle really gives depends on the vehicle, and
    the speed loop closes over the difference.  A command that holds the vehicle keeps it on the brake, as firmly as a
    stop without a plan.

    max_steer_rad: the vehicle's own largest wheel angle, of which `steer` is a share; the bridge's vehicle_info has it
    (wheels: max_steer_angle).  The follower's limit, max_steering_rad, is about what may be asked, not about this.
    """
    acceleration = command.acceleration_mps2
    if command.hold:
        acceleration = min(acceleration, -config.stale_braking_mps2)
    throttle = min(1.0, max(0.0, acceleration / config.max_acceleration_mps2))
    brake = min(1.0, max(0.0, -acceleration / config.max_braking_mps2))
    steer = -command.steering_rad / max_steer_rad
    return throttle, brake, min(1.0, max(-1.0, steer))


def control_message_type() -> Any | None:
    """Return carla_msgs/CarlaEgoVehicleControl, or None where carla_msgs is not installed."""
    return found_type('CarlaEgoVehicleControl')


def found_type(name: str) -> Any | None:
    """Return a type of carla_msgs, or None where that is not installed or has none of this name.

    The bridge's own carla_msgs has neither CarlaRoute nor CarlaSpeedometer; that of the leaderboard's branch has both.
    """
    try:
        return getattr(importlib.import_module('carla_msgs.msg'), name, None)
    except ImportError:
        return None


def message_type(name: str) -> Any:
    """Return a type of carla_msgs; raise InvalidInput where that is not installed, or has none of this name."""
    found = found_type(name)
    if found is None and found_type('CarlaEgoVehicleControl') is not None:
        raise InvalidInput(
            f"the carla_msgs that is installed has no {name}; source the one of the leaderboard's branch "
            '(carla-simulator/ros-carla-msgs, leaderboard-2.0)'
        )
    if found is None:
        raise InvalidInput(_NOT_INSTALLED)
    return found


def to_control(
    command: ControlCommand, config: ControlConfig, stamp: Time, max_steer_rad: float = MAX_STEER_RAD
) -> Any:
    """Return the bridge's message; CARLA's leaderboard accepts only the present tick's stamp.

    max_steer_rad: as in `pedals`.  Raises InvalidInput where carla_msgs is not installed.
    """
    message_type = control_message_type()
    if message_type is None:
        raise InvalidInput(_NOT_INSTALLED)
    message = message_type()
    message.header.stamp = stamp
    message.throttle, message.brake, message.steer = pedals(command, config, max_steer_rad)
    return message


def topic(role: str, name: str) -> str:
    """Return the bridge's name of a topic of a vehicle.  Raises InvalidInput for a role that no topic can have."""
    if not _ROLE.fullmatch(role):
        raise InvalidInput(
            f"role_name {role!r}: expected letters, digits and '_', with no digit first, such as hero: it is a part of "
            'the names of topics'
        )
    return f'/carla/{role}/{name}'


@dataclass(frozen=True)
class Driveline:
    """What pedals and steering do to the vehicle of the emulator: a middling car, not the follower's idea of one.

    full_mps2: of full throttle at a standstill, fading to none at top_mps; braking_mps2: of the full brake; rolling and
    drag: what slows it down by itself, in m/s^2 and per (m/s)^2.
    """

    full_mps2: float = 3.2
    top_mps: float = 50.0
    braking_mps2: float = 8.0
    rolling_mps2: float = 0.12
    drag_per_m: float = 4e-4
    max_steer_rad: float = MAX_STEER_RAD

    def command(self, throttle: float, brake: float, steer: float, speed_mps: float) -> ControlCommand:
        """Return what the vehicle does: the inverse of `pedals` in kind, not in numbers."""
        engine = self.full_mps2 * throttle * max(0.0, 1.0 - speed_mps / self.top_mps)
        resistance = (self.rolling_mps2 + self.drag_per_m * speed_mps**2) if speed_mps > 0.01 else 0.0
        return ControlCommand(-steer * self.max_steer_rad, engine - self.braking_mps2 * brake - resistance)


def to_bridge_image(frame: str, image: Image, stamp: Time) -> ImageMessage:
    """Return an RGB picture [H, W, 3] as the bridge sends it: raw, bgra8."""
    height, width = image.shape[:2]
    message = ImageMessage(height=height, width=width, encoding='bgra8', step=4 * width)
    message.header.stamp, message.header.frame_id = stamp, frame
    opaque = np.full((height, width, 1), 255, np.uint8)
    message.data = array.array('B', np.concatenate([image[..., ::-1], opaque], axis=-1).tobytes())
    return message


def to_bridge_odometry(ego: EgoState, role: str, centre_m: float, stamp: Time) -> Odometry:
    """Return odometry as the bridge sends it: of CARLA's origin of the vehicle, in frame `map`, twist in the body's.

    centre_m: how far that origin lies before the rear axle.
    """
    message = Odometry()
    message.header.stamp, message.header.frame_id, message.child_frame_id = stamp, MAP_FRAME, role
    cos, sin = math.cos(ego.yaw_rad), math.sin(ego.yaw_rad)
    message.pose.pose = to_pose(ego.x_m + centre_m * cos, ego.y_m + centre_m * sin, ego.yaw_rad)
    message.twist.twist.linear.x = float(ego.speed_mps)
    message.twist.twist.linear.y = float(ego.yaw_rate_rps * centre_m)
    message.twist.twist.angular.z = float(ego.yaw_rate_rps)
    return message


def to_imu(ego: EgoState, frame: str, noise: np.random.Generator, stamp: Time) -> Imu:
    """Return the leaderboard's IMU: the true heading, and a yaw rate with its noise of 0.001 rad/s."""
    message = Imu()
    message.header.stamp, message.header.frame_id = stamp, frame
    message.orientation = to_pose(0.0, 0.0, ego.yaw_rad).orientation
    message.angular_velocity.z = float(ego.yaw_rate_rps + noise.normal(0.0, 0.001))
    message.linear_acceleration.x = float(ego.acceleration_mps2 + noise.normal(0.0, 0.001))
    message.linear_acceleration.y = float(ego.speed_mps * ego.yaw_rate_rps + noise.normal(0.0, 0.001))
    message.linear_acceleration.z = float(9.81 + noise.normal(0.0, 0.015))
    return message


def to_fix(ego: EgoState, centre_m: float, frame: str, noise: np.random.Generator, stamp: Time) -> NavSatFix:
    """Return a satellite position of CARLA's origin of the vehicle, with the leaderboard's noise of 5e-6 degrees."""
    cos, sin = math.cos(ego.yaw_rad), math.sin(ego.yaw_rad)
    latitude_deg, longitude_deg = satellite_position(ego.x_m + centre_m * cos, ego.y_m + centre_m * sin)
    message = NavSatFix()
    message.header.stamp, message.header.frame_id = stamp, frame
    message.latitude = latitude_deg + noise.normal(0.0, 5e-6)
    message.longitude = longitude_deg + noise.normal(0.0, 5e-6)
    return message


def to_waypoints(points_m: FloatArray) -> Path:
    """Return a dense route [N, 2] as the bridge's waypoints: frame `map`, poses without stamps and frames."""
    message = Path()
    message.header.frame_id = MAP_FRAME
    heading = np.arctan2(*np.diff(points_m, axis=0).T[::-1])
    for (x_m, y_m), yaw_rad in zip(points_m, [*heading, heading[-1]], strict=True):
        message.poses.append(PoseStamped(pose=to_pose(float(x_m), float(y_m), float(yaw_rad))))
    return message


def to_global_plan(places: Sequence[tuple[FloatArray, TurnCommand]]) -> Any:
    """Return a route of points [2] and what is to be done from each on as the leaderboard tells it: header left empty.

    Raises InvalidInput where carla_msgs is not installed, or is not of the leaderboard's branch.
    """
    message = message_type('CarlaRoute')()
    message.road_options = [ROAD_OPTIONS[command] for _, command in places]
    message.poses = [to_pose(float(point[0]), float(point[1]), 0.0) for point, _ in places]
    return message


def to_vehicle_info(role: str, max_steer_rad: float) -> Any:
    """Return the bridge's CarlaEgoVehicleInfo; raise InvalidInput where carla_msgs is not installed."""
    info = message_type('CarlaEgoVehicleInfo')(id=1, type='vehicle.vla_driver.emulated', rolename=role)
    wheel = message_type('CarlaEgoVehicleInfoWheel')
    info.wheels = [wheel(max_steer_angle=angle, radius=0.33) for angle in (max_steer_rad, max_steer_rad, 0.0, 0.0)]
    return info


def to_vehicle_status(ego: EgoState, control: Any, stamp: Time) -> Any:
    """Return the bridge's CarlaEgoVehicleStatus under a control; InvalidInput as above."""
    status = message_type('CarlaEgoVehicleStatus')(velocity=float(ego.speed_mps))
    status.header.stamp, status.header.frame_id = stamp, MAP_FRAME
    status.acceleration.linear.x = float(ego.acceleration_mps2)
    status.orientation = to_pose(0.0, 0.0, ego.yaw_rad).orientation
    status.control = control
    return status
