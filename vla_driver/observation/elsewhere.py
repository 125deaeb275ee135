# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Whether a vehicle can have driven from one pose to another: a respawn, or a localisation found again, cannot be."""

from __future__ import annotations

import math

from vla_driver.types import EgoState


def fastest_mps(before: EgoState, after: EgoState, change_mps2: float) -> float:
    """Return how fast the vehicle may have been between two states, in m/s.

    change_mps2: how much faster it may have become than both states say.
    """
    passed_s = max(0.0, after.stamp_s - before.stamp_s)
    return max(abs(before.speed_mps), abs(after.speed_mps)) + 0.5 * change_mps2 * passed_s


def jumped_m(before: EgoState, after: EgoState, change_mps2: float, plausible_m: float) -> float:
    """Return how far apart two poses are, in metres; 0 where a vehicle can have driven there.

    plausible_m: so much farther than it drives counts as driven, for odometry drifts and is corrected.
    """
    passed_s = max(0.0, after.stamp_s - before.stamp_s)
    moved_m = math.hypot(after.x_m - before.x_m, after.y_m - before.y_m)
    return moved_m if moved_m > fastest_mps(before, after, change_mps2) * passed_s + plausible_m else 0.0
