# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What the renderer is told: the vocabulary between the simulated world and its pictures."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np


class SemanticClass(enum.IntEnum):
    """Labels of the semantic image (uint8)."""

    UNLABELED = 0
    ROAD = 1
    LANE_MARKING = 2
    CROSSWALK = 3
    SIDEWALK = 4
    TERRAIN = 5
    VEGETATION = 6
    BUILDING = 7
    SKY = 8
    CAR = 9
    TRUCK = 10
    PEDESTRIAN = 11
    BICYCLE = 12
    TRAFFIC_LIGHT = 13
    POLE = 14
    TRAFFIC_SIGN = 15
    BARRIER = 16


class SignalState(enum.IntEnum):
    """What a traffic-light head shows."""

    OFF = 0
    GREEN = 1
    AMBER = 2
    RED = 3


@dataclass(frozen=True)
class Actor:
    """A moving body.  (x_m, y_m) is its centre on the ground in the world frame.

    actor_id: 1..65535, stable over a run (the instance label); phase_rad: the gait of a walking person.
    """

    actor_id: int
    kind: SemanticClass
    x_m: float
    y_m: float
    yaw_rad: float
    length_m: float
    width_m: float
    height_m: float
    speed_mps: float = 0.0
    phase_rad: float = 0.0

    @property
    def pose(self) -> np.ndarray:
        """[3]: x, y, yaw."""
        return np.array([self.x_m, self.y_m, self.yaw_rad])


@dataclass(frozen=True)
class SignalHead:
    """A traffic-light head: centre of its box, facing `yaw_rad` (the direction its light shines)."""

    x_m: float
    y_m: float
    z_m: float
    yaw_rad: float
    state: SignalState


@dataclass(frozen=True)
class Look:
    """The randomised appearance of one run: light, haze, colours, house and tree placement."""

    seed: int = 0
    sun_azimuth_rad: float = 2.3
    sun_elevation_rad: float = 0.8
    brightness: float = 1.0
    haze: float = 1.0
    warmth: float = 0.0

    @staticmethod
    def sample(seed: int) -> Look:
        """Return a random look: from dim and hazy to bright and clear."""
        rng = np.random.default_rng(seed)
        return Look(
            seed=seed,
            sun_azimuth_rad=float(rng.uniform(-np.pi, np.pi)),
            sun_elevation_rad=float(rng.uniform(0.35, 1.2)),
            brightness=float(rng.uniform(0.75, 1.2)),
            haze=float(rng.uniform(0.4, 2.0)),
            warmth=float(rng.uniform(-0.5, 0.5)),
        )
