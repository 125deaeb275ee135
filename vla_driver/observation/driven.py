# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""How far the vehicle has driven since the newest turn command said how far its junction is."""

from __future__ import annotations

import itertools

from vla_driver.observation.history import History
from vla_driver.types import EgoState


class WayDriven:
    """The way since a stamp, from odometry's speeds, summed up from one set of images to the next.

    Speeds, not positions: their noise does not add up to metres while the vehicle stands at a light.
    """

    def __init__(self) -> None:
        self._since_s: float | None = None
        self._until_s = 0.0
        self._metres = 0.0

    def reset(self) -> None:
        """Forget the stamp (time has jumped)."""
        self._since_s = None

    def metres(self, since_s: float, ego: EgoState, odometry: History[EgoState]) -> float:
        """Return the way from `since_s` to `ego` in metres, backwards counted off; never below 0.

        Ask for every set of images, with stamps that do not fall: between two questions `odometry` must not have
        forgotten anything.  A stamp of 0 is one that nobody filled in; the way then counts from the first question.
        """
        if since_s != self._since_s:
            self._since_s, self._metres = since_s, 0.0
            self._until_s = since_s if since_s > 0.0 else ego.stamp_s
        if ego.stamp_s > self._until_s:
            states = [*odometry.between(self._until_s, ego.stamp_s), ego]
            first = odometry.at(self._until_s, after_s=0.0)
            start_s, speed_mps = states[0].stamp_s, states[0].speed_mps
            if first is not None:
                start_s, speed_mps = self._until_s, first[1].speed_mps
            stamps = [start_s, *(state.stamp_s for state in states)]
            speeds = [speed_mps, *(state.speed_mps for state in states)]
            for (a_s, b_s), (a_mps, b_mps) in zip(itertools.pairwise(stamps), itertools.pairwise(speeds), strict=True):
                self._metres += (b_s - a_s) * 0.5 * (a_mps + b_mps)
            self._until_s = ego.stamp_s
        return max(0.0, self._metres)
