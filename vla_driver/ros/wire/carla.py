# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The same control for the CARLA bridge, where its messages (`carla_msgs`) are installed.

Written from the bridge's message definitions; not run against CARLA by this project's tests.
"""

from __future__ import annotations

import importlib
from typing import Any, Final

from builtin_interfaces.msg import Time

from vla_driver.planning.control import ControlCommand
from vla_driver.settings.controller import ControlConfig, ControllerParameters
from vla_driver.types import InvalidInput

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
    try:
        return importlib.import_module('carla_msgs.msg').CarlaEgoVehicleControl
    except ImportError:
        return None


def to_control(
    command: ControlCommand, config: ControlConfig, stamp: Time, max_steer_rad: float = MAX_STEER_RAD
) -> Any:
    """Return the bridge's message; CARLA's leaderboard accepts only the present tick's stamp.

    max_steer_rad: as in `pedals`.  Raises InvalidInput where carla_msgs is not installed.
    """
    message_type = control_message_type()
    if message_type is None:
        raise InvalidInput('carla_msgs is not installed; source the workspace of the CARLA ROS bridge')
    message = message_type()
    message.header.stamp = stamp
    message.throttle, message.brake, message.steer = pedals(command, config, max_steer_rad)
    return message
