# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Which meta-action a plan amounts to: the expert's plans become labels by it, and intents are compared with it."""

from __future__ import annotations

from typing import Final

import numpy as np

from vla_driver.types import PLAN_DT_S, FloatArray, MetaAction

#: Slower than this a vehicle stands.
STANDING_MPS: Final = 0.5
#: Who starts has this speed after `_SOON_S`.
_MOVING_MPS: Final = 1.0
#: A change of speed by this much is one.
_CHANGE_MPS: Final = 0.8
#: Within this time, speeds are compared; a stop may come later.
_SOON_S: Final = 2.5
_STOP_S: Final = 4.0
#: The speed after this time is what a plan aims at.
_TARGET_S: Final = 3.0


def meta_action(speed_mps: float, planned_mps: FloatArray, dt_s: float = PLAN_DT_S) -> MetaAction:
    """Return what planned speeds [T], every dt_s, do to a vehicle that drives at speed_mps."""
    soon = float(planned_mps[_index(planned_mps, _SOON_S, dt_s)])
    if speed_mps < STANDING_MPS:
        return MetaAction.START if soon > _MOVING_MPS else MetaAction.WAIT
    if float(np.min(planned_mps[: _index(planned_mps, _STOP_S, dt_s) + 1])) < STANDING_MPS:
        return MetaAction.STOP
    if soon - speed_mps > _CHANGE_MPS:
        return MetaAction.SPEED_UP
    return MetaAction.SLOW_DOWN if speed_mps - soon > _CHANGE_MPS else MetaAction.KEEP


def target_speed_mps(planned_mps: FloatArray, dt_s: float = PLAN_DT_S) -> float:
    """Return the speed that planned speeds [T], every dt_s, aim at."""
    return float(planned_mps[_index(planned_mps, _TARGET_S, dt_s)])


def _index(planned_mps: FloatArray, seconds: float, dt_s: float) -> int:
    return min(len(planned_mps), max(1, round(seconds / dt_s))) - 1
