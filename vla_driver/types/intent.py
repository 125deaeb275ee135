# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What the slow half says."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from vla_driver.types.checks import FloatArray, finite, finite_number
from vla_driver.types.errors import InvalidInput


class MetaAction(str, enum.Enum):
    """What to do next along the road, in one word; where to turn is the navigation's to say."""

    KEEP = 'keep'  # hold the speed
    SPEED_UP = 'speed_up'
    SLOW_DOWN = 'slow_down'  # and go on
    STOP = 'stop'  # come to a stand
    WAIT = 'wait'  # stand, and stay
    START = 'start'  # stand, and go

    __str__ = str.__str__


class HazardKind(str, enum.Enum):
    """What a driver reacts to."""

    NONE = 'none'
    RED_LIGHT = 'red_light'  # or amber that leaves room to stop
    VEHICLE_AHEAD = 'vehicle_ahead'  # in the own lane
    VEHICLE_CROSSING = 'vehicle_crossing'
    PERSON = 'person'

    __str__ = str.__str__


@dataclass(frozen=True)
class Intent:
    """What the slow half asks of the fast one, worth acting on for `ttl_s` after `stamp_s`, the pictures' stamp.

    pose [3]: x, y, yaw of the vehicle at `stamp_s` in the odometry frame; None where nobody knows it.
    target_speed_mps: NaN for none named.  hazard: what it reacts to; hazard_camera: which camera shows it, '' for none;
    hazard_m: how far away, NaN unknown.  confidence: 0 to 1.  text: the words that it was said in.
    """

    stamp_s: float
    meta_action: MetaAction
    ttl_s: float
    pose: FloatArray | None = None
    target_speed_mps: float = math.nan
    hazard: HazardKind = HazardKind.NONE
    hazard_camera: str = ''
    hazard_m: float = math.nan
    confidence: float = 1.0
    text: str = ''

    def __post_init__(self) -> None:
        finite_number('intent: stamp_s', self.stamp_s)
        for name, kind in (('meta_action', MetaAction), ('hazard', HazardKind)):
            try:
                object.__setattr__(self, name, kind(getattr(self, name)))
            except ValueError:
                allowed = ', '.join(kind)
                raise InvalidInput(f'intent: {name} {getattr(self, name)!r}, allowed: {allowed}') from None
        if not (self.ttl_s > 0 and math.isfinite(self.ttl_s)):
            raise InvalidInput(f'intent: ttl_s is {self.ttl_s}, expected a positive number')
        if self.target_speed_mps < 0 or math.isinf(self.target_speed_mps):
            raise InvalidInput(
                f'intent: target_speed_mps is {self.target_speed_mps}, expected 0 or more, or NaN for none'
            )
        if self.hazard_m < 0 or math.isinf(self.hazard_m):
            raise InvalidInput(f'intent: hazard_m is {self.hazard_m}, expected 0 or more, or NaN for unknown')
        if not 0.0 <= self.confidence <= 1.0:
            raise InvalidInput(f'intent: confidence is {self.confidence}, expected 0 to 1')
        if self.pose is not None:
            object.__setattr__(self, 'pose', finite('intent: pose', self.pose, (3,)))
