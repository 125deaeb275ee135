# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Knobs of the localiser for CARLA's leaderboard."""

from __future__ import annotations

from dataclasses import dataclass

from vla_driver.settings.knob import parameter
from vla_driver.settings.nodes.carla_bridge import CENTRE, ROLE
from vla_driver.settings.shared import NodeParameters


@dataclass(frozen=True)
class CarlaLocalizerParameters(NodeParameters):
    """How the vehicle is called, and how good its sensors are."""

    role_name: str = parameter(ROLE, 'name of the vehicle in its topics, /carla/<role_name>/...', launch=True)
    centre_m: float = parameter(
        CENTRE[0], "how far CARLA's origin of the vehicle lies before its rear axle", low=-5.0, high=5.0
    )
    fix_sigma_m: float = parameter(
        0.56, "standard deviation of a satellite position: the leaderboard's 5e-6 degrees", low=0.01, high=100.0
    )
