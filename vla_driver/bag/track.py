# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Where the vehicle really went: odometry as a curve over time, the ground truth of open-loop measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vla_driver.geometry import se2
from vla_driver.types import PLAN_DT_S, PLAN_STEPS, EgoState, FloatArray, InvalidInput

#: Between odometry messages farther apart than this nothing is known.
MAX_GAP_S = 0.5

#: A pose jumps if it moves farther than this from one message to the next, and so many times as far as it drives.
JUMP_M, _JUMP_TIMES = 1.0, 3.0

#: Stamps closer than this are the same.
_SAME_S = 1e-6

#: So many jumps are named.
_NAMED = 3


@dataclass(frozen=True)
class Break:
    """Two odometry messages between which nobody knows the way: too far apart in time, or the pose jumps.

    jumps: the latter; what lies on one side of it says nothing of the other, for the frame has moved.
    """

    begin_s: float
    end_s: float
    moved_m: float
    jumps: bool

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.end_s - self.begin_s


def gaps_text(breaks: Sequence[Break]) -> str:
    """Return in words how many gaps there are, how long the longest is and how long one may be."""
    gaps = [one.seconds for one in breaks if not one.jumps]
    many = 's' if len(gaps) != 1 else ''
    return f'{len(gaps)} gap{many} of up to {max(gaps):.2f} s in the odometry, where {MAX_GAP_S} s are allowed'


def jumps_text(breaks: Sequence[Break]) -> str:
    """Return in words how far the odometry jumps, and when."""
    jumps = [one for one in breaks if one.jumps]
    named = ', '.join(f'by {one.moved_m:.1f} m at {one.end_s:.2f} s' for one in jumps[:_NAMED])
    more = len(jumps) - _NAMED
    return f'the odometry jumps {named}' + (f' and {more} more' if more > 0 else '')


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
        self._moved_m: FloatArray = np.hypot(*np.diff(poses[:, :2], axis=0).T)
        self._gap, self._jump = self._broken()

    def _broken(self) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Return [M - 1] twice: between which messages there is a gap, and between which the pose jumps."""
        seconds, moved_m = np.diff(self.stamps_s), self._moved_m
        gap = seconds > MAX_GAP_S + _SAME_S
        # The speed before the jump: that after it may have been taken from the poses.  Where a twist knows nothing, a
        # pose that moves as fast on both sides drives.
        paces = np.concatenate([[np.inf], moved_m / seconds, [np.inf]])
        around = np.minimum(paces[:-2], paces[2:])
        speeds = np.maximum(np.abs(self.speeds_mps[:-1]), np.where(np.isfinite(around), around, 0.0))
        return gap, ~gap & (moved_m > JUMP_M) & (moved_m > _JUMP_TIMES * speeds * seconds)

    def breaks(self, begin_s: float, end_s: float) -> list[Break]:
        """Return the gaps and jumps of which some lies between two times."""
        inside = (self.stamps_s[1:] > begin_s + _SAME_S) & (self.stamps_s[:-1] < end_s - _SAME_S)
        return [
            Break(float(self.stamps_s[k]), float(self.stamps_s[k + 1]), float(self._moved_m[k]), bool(self._jump[k]))
            for k in np.flatnonzero(inside & (self._gap | self._jump))
        ]

    def at(self, stamps_s: npt.ArrayLike) -> FloatArray:
        """Return poses [N, 3] at stamps [N]; NaN outside the record, inside gaps of more than MAX_GAP_S and jumps.

        Poses on two sides of a jump do not belong together: see `breaks`.
        """
        wanted = np.atleast_1d(np.asarray(stamps_s, dtype=np.float64))
        out = np.stack([np.interp(wanted, self.stamps_s, self.poses[:, i]) for i in range(3)], axis=-1)
        out[:, 2] = se2.wrap(out[:, 2])
        right = np.clip(np.searchsorted(self.stamps_s, wanted - _SAME_S), 0, len(self.stamps_s) - 1)
        exact = np.abs(self.stamps_s[right] - wanted) <= _SAME_S
        inside = (wanted >= self.stamps_s[0] - _SAME_S) & (wanted <= self.stamps_s[-1] + _SAME_S)
        broken = np.concatenate([[False], self._gap | self._jump])[right]
        out[~inside | (broken & ~exact)] = np.nan
        return out

    def future_poses(self, stamp_s: float, dt_s: float = PLAN_DT_S, steps: int = PLAN_STEPS) -> FloatArray:
        """Return [steps, 3]: the poses driven at stamp_s + (k + 1) dt_s, seen from base_link at stamp_s.

        NaN from where the record ends or the pose jumps.
        """
        origin = self.at(stamp_s)[0]
        times_s = stamp_s + dt_s * np.arange(1, steps + 1)
        future = self.at(times_s)
        for jump in (one for one in self.breaks(stamp_s, float(times_s[-1])) if one.jumps):
            future[times_s > jump.begin_s + _SAME_S] = np.nan
        return se2.relative(origin, future)
