# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What a policy is given: pictures, the state of the ego, and where to go."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from vla_driver.types.cameras import CameraFrame, CameraRig
from vla_driver.types.checks import FloatArray, finite, finite_number
from vla_driver.types.errors import InvalidInput


class TurnCommand(enum.IntEnum):
    """What the navigation says about the next junction (the values of msg/TurnCommand.msg)."""

    FOLLOW = 0
    LEFT = 1
    STRAIGHT = 2
    RIGHT = 3


@dataclass(frozen=True)
class EgoState:
    """Where the vehicle is and how it moves, in an odometry frame that never jumps (REP-105)."""

    stamp_s: float
    x_m: float
    y_m: float
    yaw_rad: float
    speed_mps: float
    yaw_rate_rps: float = 0.0
    acceleration_mps2: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            finite_number(f'odometry: {name}', value)

    @property
    def pose(self) -> FloatArray:
        """[3]: x, y, yaw."""
        return np.array([self.x_m, self.y_m, self.yaw_rad])


@dataclass(frozen=True)
class Navigation:
    """What a driver gets from a navigation device: never a lane's centre line, map or signal state.

    target_points_m: [2, 2] the next two sparse route points, x forward and y left of base_link, at
    least 25 m apart along the route and noisy (as in CARLA's leaderboard).  route: another number for another route.
    """

    command: TurnCommand
    distance_m: float
    target_points_m: FloatArray
    route: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, 'command', TurnCommand(self.command))
        finite_number('navigation: distance_m', self.distance_m)
        object.__setattr__(self, 'target_points_m', finite('navigation: target_points_m', self.target_points_m, (2, 2)))


@dataclass(frozen=True)
class Observation:
    """Everything one tick of a policy may see.  `stamp_s` (t0) is the anchor camera's stamp.

    frames: camera name -> frame; a camera of the rig that has none is named in `missing`.
    trail: states of the ego in the seconds before `stamp_s`, oldest first, where odometry was collected; a policy that
    is slower than its history is fine-grained cannot collect them itself.
    """

    stamp_s: float
    frames: Mapping[str, CameraFrame]
    rig: CameraRig
    ego: EgoState
    navigation: Navigation
    missing: tuple[str, ...] = ()
    trail: tuple[EgoState, ...] = ()

    def __post_init__(self) -> None:
        finite_number('observation: stamp_s', self.stamp_s)
        unknown = sorted(set(self.frames) - set(self.rig.names))
        if unknown:
            raise InvalidInput(f'observation: frames of {unknown}, but the rig has only {list(self.rig.names)}')
        absent = sorted(set(self.rig.names) - set(self.frames) - set(self.missing))
        if absent:
            raise InvalidInput(f'observation: no frame of {absent}, and `missing` does not name them')
        object.__setattr__(self, 'frames', MappingProxyType(dict(self.frames)))

    @property
    def unseen(self) -> tuple[str, ...]:
        """The cameras of the rig that show nothing: those without a frame, and those whose frame is blank."""
        return tuple(
            name for name in self.rig.names if name in self.missing or (name in self.frames and self.frames[name].blank)
        )
