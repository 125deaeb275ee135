# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Knobs of drivers that other simulators call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vla_driver.settings.knob import parameter

#: What the simulator on the other end is: autoware_carla_scenario and its like, or AlpaSim itself.
SERVING_MODES: Final = ('carla', 'alpasim')


@dataclass(frozen=True)
class ServingParameters:
    """How a simulator's sessions are served."""

    mode: str = parameter(
        'carla',
        'the simulator: carla (autoware-carla-scenario, and whoever speaks carla-driver-interface) or alpasim',
        choices=SERVING_MODES,
    )
    sessions: int = parameter(1, 'how many rollouts may run at once; each has a policy of its own', low=1, high=64)
    answer_within_s: float = parameter(
        0.1,
        'every `drive` is answered within this time, by a named fallback where the plan is late',
        low=0.01,
        high=60.0,
    )
    max_age_s: float = parameter(0.6, 'older images are dropped, never planned from', low=0.02, high=10.0)
    max_skew_s: float = parameter(0.15, 'farthest a frame may lie from the front image in time', low=0.0, high=1.0)
    map_dir: str = parameter(
        '',
        "the simulator's maps (a copy of its driver.map_dir): turns are at their junctions",
        unset='turns are made of the route alone',
        metavar='DIR',
    )
    camera: tuple[str, ...] = parameter(
        ('',),
        "NAME=ID: which of the simulator's cameras is the policy's NAME",
        unset='the one that looks that way',
        repeat=True,
        metavar='NAME=ID',
    )
