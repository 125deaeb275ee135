# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Where the vehicle really went: odometry as a curve over time, the ground truth of open-loop measures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vla_driver.geometry import se2
from vla_driver.types import PLAN_DT_S, PLAN_STEPS, EgoState, FloatArray, InvalidInput

#: Between odometry messages farther apart than this nothing is known.
MAX_GAP_S = 0.5


class OdometryTrack:
    """Poses between the recorded ones, by linear interpolation (yaw along the shorter way)."""

    def __init__(self, states: Sequence[EgoState]) -> None:
        if not states:
            raise InvalidInput('odometry track: no odometry')
        order = np.argsort([state.stamp_s for state in states], kind='stable')
        stamps = np.array([states[i].stamp_s for i in order])
        keep = np.concatenate([[True], np.diff(stamps) > 0.0])
        kept = [states[i] for i, k in zip(order, keep, strict=True) if k]
        #: [M] rising stamps, [M, 3] poses (yaw unwrapped), [M] speeds.
        self.stamps_s: FloatArray = stamps[keep]
        poses = np.array([state.pose for state in kept])
        poses[:, 2] = np.unwrap(poses[:, 2])
        self.poses: FloatArray = poses
        self.speeds_mps: FloatArray = np.array([state.speed_mps for state in kept])

    def at(self, stamps_s: npt.ArrayLike) -> FloatArray:
        """Return poses [N, 3] at stamps [N]; NaN outside the record and inside gaps of more than MAX_GAP_S."""
        wanted = np.atleast_1d(np.asarray(stamps_s, dtype=np.float64))
        out = np.stack([np.interp(wanted, self.stamps_s, self.poses[:, i]) for i in range(3)], axis=-1)
        out[:, 2] = se2.wrap(out[:, 2])
        right = np.clip(np.searchsorted(self.stamps_s, wanted - 1e-6), 0, len(self.stamps_s) - 1)
        left = np.clip(right - 1, 0, None)
        exact = np.abs(self.stamps_s[right] - wanted) <= 1e-6
        inside = (wanted >= self.stamps_s[0] - 1e-6) & (wanted <= self.stamps_s[-1] + 1e-6)
        gap = self.stamps_s[right] - self.stamps_s[left] > MAX_GAP_S
        out[~inside | (gap & ~exact)] = np.nan
        return out

    def future_poses(self, stamp_s: float, dt_s: float = PLAN_DT_S, steps: int = PLAN_STEPS) -> FloatArray:
        """Return [steps, 3]: the poses driven at stamp_s + (k + 1) dt_s, seen from base_link at stamp_s.

        NaN from where the record ends.
        """
        origin = self.at(stamp_s)[0]
        future = self.at(stamp_s + dt_s * np.arange(1, steps + 1))
        return se2.relative(origin, future)
