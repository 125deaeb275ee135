# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Knobs of what is done to a plan before it is driven."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vla_driver.settings.knob import parameter

#: All of them, as options of a command.
GUARDING: Final = ('freeze_s', 'collision_horizon_s', 'collision_existence')


@dataclass(frozen=True)
class GuardingParameters:
    """How far a plan keeps to the previous one, and when it is braked for somebody."""

    freeze_s: float = parameter(
        0.0,
        'a new plan keeps so much of the beginning of the previous one, but no more than has been driven of it since, '
        'so that plans do not jump; 0: nothing',
        low=0.0,
        high=2.0,
        live=True,
        launch=True,
    )
    collision_horizon_s: float = parameter(
        0.0,
        'brake a plan that would meet somebody whom the policy forecasts within so many seconds; 0: never',
        low=0.0,
        high=5.0,
        live=True,
        launch=True,
    )
    collision_existence: float = parameter(
        0.6, 'forecasts less likely than this are not braked for', low=0.0, high=1.0, live=True
    )
