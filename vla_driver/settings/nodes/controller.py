# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Knobs of the controller: the vehicle, and how a plan is followed."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from vla_driver.settings.knob import parameter
from vla_driver.settings.shared import NodeParameters, OdometryParameters


@dataclass(frozen=True)
class ControlConfig:
    """The follower's settings; the vehicle's own limits included."""

    wheelbase_m: float = parameter(2.8, 'distance between the axles', low=0.5, high=20.0, launch=True)
    max_steering_rad: float = parameter(
        0.6, 'the controller never asks for a larger front-wheel angle', low=0.05, high=1.4, launch=True
    )
    min_lookahead_m: float = parameter(3.0, 'pure pursuit looks at least this far', low=0.5)
    max_lookahead_m: float = parameter(10.0, 'pure pursuit looks at most this far', low=1.0)
    lookahead_s: float = parameter(0.9, 'look-ahead distance per speed', low=0.1, high=5.0)
    speed_horizon_s: float = parameter(0.5, 'the planned speed this much ahead is aimed at', low=0.1, high=3.0)
    # A learned plan never says quite zero, and a vehicle that followed it to the letter would creep over a stop line.
    standstill_mps: float = parameter(
        0.5, 'a plan that stays below this speed for `standstill_s` means to stand', low=0.0, high=2.0
    )
    standstill_s: float = parameter(2.0, 'for how long it must stay below', low=0.25, high=5.0)
    max_acceleration_mps2: float = parameter(2.5, 'largest acceleration that is asked for', low=0.1, high=10.0)
    max_braking_mps2: float = parameter(7.0, 'largest deceleration that is asked for', low=1.0, high=12.0)
    stale_braking_mps2: float = parameter(
        3.0, 'how hard the vehicle is braked without a fresh plan', low=0.5, high=10.0
    )


@dataclass(frozen=True)
class ControllerParameters(ControlConfig, OdometryParameters, NodeParameters):
    """What the vehicle says about itself, and when its odometry counts as lost."""

    carla_max_steer_rad: float = parameter(
        # The angle of `steer` = 1 where the vehicle does not say otherwise, as in the bridge's own
        # carla_ackermann_control.
        math.radians(70.0),
        "the largest angle of the vehicle's wheels, which CARLA's steer = 1 means (vehicle_info: max_steer_angle)",
        low=0.05,
        high=math.pi / 2,
        launch=True,
    )
    answer_once_s: float = parameter(
        0.0,
        'control goes out once for each odometry, when the plan of the same stamp is there, or after so long without '
        "it, as CARLA's leaderboard demands; 0: at once, and again when the plan comes",
        low=0.0,
        high=10.0,
        launch=True,
    )
    odometry_timeout_s: float = parameter(
        0.5, 'the controller stops when odometry is silent for this long', low=0.05, high=10.0, launch=True
    )

    def control_config(self) -> ControlConfig:
        """Return the follower's settings."""
        return ControlConfig(**{field.name: getattr(self, field.name) for field in fields(ControlConfig)})
