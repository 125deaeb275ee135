# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What a policy answers: where to drive, and where the others will."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from vla_driver.types.checks import FloatArray, finite, finite_number
from vla_driver.types.errors import InvalidInput
from vla_driver.types.intent import MetaAction
from vla_driver.types.observation import EgoState

#: The plan's horizon: 20 waypoints at 4 Hz, 5 s (MindVLA-U1, arXiv 2605.12624).
PLAN_STEPS = 20
PLAN_DT_S = 0.25


class AgentKind(str, enum.Enum):
    """Who else is on the road."""

    VEHICLE = 'vehicle'
    PERSON = 'person'

    __str__ = str.__str__


@dataclass(frozen=True)
class Forecast:
    """Where somebody else will be, in base_link at t0.  Point k is reached at (k + 1) * dt_s, as in `Trajectory`.

    pose [3]: x, y, yaw of the body's centre at t0; speed_mps at t0; length_m, width_m of the body; positions_m [T, 2];
    yaw_rad [T]; existence: 0 to 1, how likely somebody is there at all.
    """

    kind: AgentKind
    pose: FloatArray
    speed_mps: float
    length_m: float
    width_m: float
    positions_m: FloatArray
    yaw_rad: FloatArray
    existence: float = 1.0
    dt_s: float = PLAN_DT_S

    def __post_init__(self) -> None:
        object.__setattr__(self, 'kind', AgentKind(self.kind))
        steps = len(self.positions_m)
        object.__setattr__(self, 'pose', finite('forecast: pose', self.pose, (3,)))
        object.__setattr__(self, 'positions_m', finite('forecast: positions_m', self.positions_m, (steps, 2)))
        object.__setattr__(self, 'yaw_rad', finite('forecast: yaw_rad', self.yaw_rad, (steps,)))
        finite_number('forecast: speed_mps', self.speed_mps)
        if not (self.length_m > 0 and self.width_m > 0):
            raise InvalidInput(f'forecast: a body of {self.length_m} x {self.width_m} m, expected positive sizes')
        if not 0.0 <= self.existence <= 1.0:
            raise InvalidInput(f'forecast: existence is {self.existence}, expected 0 to 1')


@dataclass(frozen=True)
class Trajectory:
    """A path with times in base_link at t0.  Point k is reached at (k + 1) * dt_s; t0 itself is left out.

    positions_m [T, 2] (x forward, y left), yaw_rad [T], speed_mps [T], acceleration_mps2 [T] and
    curvature_per_m [T], the last two being the unicycle controls held during the step to point k.
    """

    positions_m: FloatArray
    yaw_rad: FloatArray
    speed_mps: FloatArray
    acceleration_mps2: FloatArray
    curvature_per_m: FloatArray
    dt_s: float = PLAN_DT_S

    def __post_init__(self) -> None:
        steps = len(self.positions_m)
        if steps < 1 or not self.dt_s > 0:
            raise InvalidInput(f'trajectory: {steps} points every {self.dt_s} s, expected at least one and dt_s > 0')
        object.__setattr__(self, 'positions_m', finite('trajectory: positions_m', self.positions_m, (steps, 2)))
        for name in ('yaw_rad', 'speed_mps', 'acceleration_mps2', 'curvature_per_m'):
            object.__setattr__(self, name, finite(f'trajectory: {name}', getattr(self, name), (steps,)))

    def __len__(self) -> int:
        return len(self.positions_m)

    @property
    def times_s(self) -> FloatArray:
        """[T] seconds after t0."""
        return self.dt_s * np.arange(1, len(self) + 1, dtype=np.float64)


class PlanSource(str, enum.Enum):
    """Where a plan comes from: the policy itself, or a named fallback of the plan guard.

    An enum.StrEnum, which the Python of ROS 2 Humble (3.10) does not have yet.
    """

    POLICY = 'policy'
    BRAKED = 'braked'
    SHIFTED = 'shifted_previous'
    STOP = 'stop'

    __str__ = str.__str__


@dataclass(frozen=True)
class HeededIntent:
    """What became of an intent in a plan.

    meta_action: what was wanted; age_s: of its pictures; weight: how much it counted, 1 fresh to 0; agreement: how well
    the plan does what was wanted, 1 to 0 (`planning/agreement.py`).
    """

    meta_action: MetaAction
    age_s: float
    weight: float
    agreement: float


@dataclass(frozen=True)
class Plan:
    """A policy's answer to one observation, stamped with the observation's t0.

    ego: the state the trajectory starts from (so that a follower can move it by odometry);
    ttl_s: the plan must not be acted on later than stamp_s + ttl_s; forecasts: where others will be, as far as the
    policy says;
    timing_ms: stage -> milliseconds; reason: why this source, empty for an undisturbed policy plan;
    uncertainty: 0 to 1, how undecided the policy was between courses of speed, NaN unknown; wants_words: 0 to 1, how
    much the slow half is worth asking, NaN unknown; heeded: what became of the intent, None where there was none.
    """

    stamp_s: float
    trajectory: Trajectory
    ego: EgoState
    policy: str
    source: PlanSource = PlanSource.POLICY
    reason: str = ''
    ttl_s: float = 1.0
    timing_ms: Mapping[str, float] = field(default_factory=dict)
    forecasts: tuple[Forecast, ...] = ()
    uncertainty: float = math.nan
    wants_words: float = math.nan
    heeded: HeededIntent | None = None

    def __post_init__(self) -> None:
        finite_number('plan: stamp_s', self.stamp_s)
        if not self.ttl_s > 0:
            raise InvalidInput(f'plan: ttl_s is {self.ttl_s}, expected a positive number')
        object.__setattr__(self, 'timing_ms', MappingProxyType(dict(self.timing_ms)))

    def is_fresh(self, now_s: float) -> bool:
        """Whether the plan may be acted on at `now_s` (a plan from the future may not, either)."""
        return -0.5 <= now_s - self.stamp_s <= self.ttl_s
