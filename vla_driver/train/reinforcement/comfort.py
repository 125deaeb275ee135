# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Whether a plan is comfortable, by the bounds of nuPlan (H. Caesar et al., arXiv 2106.11810), which NAVSIM took over.

nuPlan smooths over 1.5 s before it differentiates (Savitzky-Golay).  Here controls are constant over steps of 0.25 s,
whose bare difference would call every beginning of braking a jerk: rates of change are taken over 1 s.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from vla_driver.train.reinforcement.scene import Array, Plans
from vla_driver.types import PLAN_DT_S

MIN_LONGITUDINAL_MPS2: Final = -4.05
MAX_LONGITUDINAL_MPS2: Final = 2.40
MAX_LATERAL_MPS2: Final = 4.89
MAX_YAW_RATE_RPS: Final = 0.95
MAX_YAW_ACCELERATION_RPS2: Final = 1.93
MAX_LONGITUDINAL_JERK_MPS3: Final = 4.13
MAX_JERK_MPS3: Final = 8.37
#: Steps over which a rate of change is taken.
_SPAN: Final = 4


def comfortable(plans: Plans, speed_mps: float) -> npt.NDArray[np.bool_]:
    """Whether plans [G] that begin at a speed stay within all bounds at all times."""
    speed = np.concatenate([np.full((len(plans), 1), speed_mps), plans.speed_mps], axis=1)
    longitudinal = np.diff(speed, axis=1) / PLAN_DT_S
    yaw_rate = plans.curvature_per_m * plans.speed_mps
    lateral = yaw_rate * plans.speed_mps
    jerk, sideways = _rate(longitudinal), _rate(lateral)
    bounds = (
        (longitudinal.clip(max=0.0), -MIN_LONGITUDINAL_MPS2),
        (longitudinal.clip(min=0.0), MAX_LONGITUDINAL_MPS2),
        (lateral, MAX_LATERAL_MPS2),
        (yaw_rate, MAX_YAW_RATE_RPS),
        (_rate(yaw_rate), MAX_YAW_ACCELERATION_RPS2),
        (jerk, MAX_LONGITUDINAL_JERK_MPS3),
        (np.hypot(jerk, sideways), MAX_JERK_MPS3),
    )
    fine = np.ones(len(plans), bool)
    for values, bound in bounds:
        fine &= (np.abs(values) <= bound + 1e-6).all(axis=1)
    return fine


def _rate(values: Array) -> Array:
    """Return the rate of change per second of values [G, T], over 1 s."""
    return np.asarray((values[:, _SPAN:] - values[:, :-_SPAN]) / (_SPAN * PLAN_DT_S))
