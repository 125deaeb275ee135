# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Follow a sparse route: which two target points are next, as a navigation device would say."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vla_driver.geometry import se2
from vla_driver.types import EgoState, FloatArray, InvalidInput, Navigation, TurnCommand

#: A target point counts as passed within this distance ...
REACHED_M = 8.0
#: ... or when it lies behind the vehicle and no farther away than this.
PASSED_M = 20.0
#: Target points lie at least so far apart along the route: what policies are told and trained with.
SPACING_M = 25.0
#: A route with steps as long as this, half of them or more, is one of target points and is taken as it came.
_SPARSE_M = 20.0


def is_dense(points_m: npt.ArrayLike) -> bool:
    """Whether a route [N, 2] is a line, not one of target points."""
    points = np.asarray(points_m, dtype=np.float64)
    return len(points) > 2 and bool(np.median(np.hypot(*np.diff(points, axis=0).T)) < _SPARSE_M)


def target_points(points_m: npt.ArrayLike) -> FloatArray:
    """Return the sparse target points of a route [N, 2] (metres, driving order) that may be a dense line.

    Planners publish their way every metre or two (CARLA's bridge does), but a policy's targets are sparse: told the
    next two metres of a centre line, it would see what it has never seen.  Of a dense route the first point stays,
    each next one that is SPACING_M of path farther on, and the last one (in place of a nearer one just before it).
    A sparse route comes back as it is.
    """
    points = np.asarray(points_m, dtype=np.float64)
    if not is_dense(points):
        return points
    steps = np.hypot(*np.diff(points, axis=0).T)
    way = np.concatenate([[0.0], np.cumsum(steps)])
    kept = [0]
    for k in range(1, len(points) - 1):
        if way[k] - way[kept[-1]] >= SPACING_M:
            kept.append(k)
    if len(kept) > 1 and way[-1] - way[kept[-1]] < SPACING_M:
        kept.pop()
    return points[[*kept, len(points) - 1]]


class RouteTracker:
    """Hands out the next two target points of a sparse route.

    points_m: [N, 2] in the odometry frame, in driving order, N >= 1.  Progress never runs backwards and goes on at
    the first leg that fits, so that a route that crosses itself cannot jump ahead; `reset` starts over (after a clock
    jump).  A point that went by unseen (a gap in the images, a start amid the route) does not hold it up.
    number: `Navigation.route`.
    """

    def __init__(self, points_m: npt.ArrayLike, number: int = 0) -> None:
        self._points = self._checked(points_m)
        self._number = number
        self._next = 0

    @staticmethod
    def _checked(points_m: npt.ArrayLike) -> FloatArray:
        points = np.asarray(points_m, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 2 or len(points) == 0 or not np.isfinite(points).all():
            raise InvalidInput(
                f'route: points of shape {points.shape}, expected [N, 2] finite numbers with N >= 1; publish a '
                'nav_msgs/Path with at least one pose on the route topic'
            )
        return points

    def go_on(self, points_m: npt.ArrayLike) -> None:
        """Take the same route as more of it is known: points as before, but for the last one, and more behind them."""
        self._points = self._checked(points_m)
        self._next = min(self._next, len(self._points))

    @property
    def finished(self) -> bool:
        """Whether the last point was passed."""
        return self._next >= len(self._points)

    def reset(self) -> None:
        """Start over from the first point."""
        self._next = 0

    def navigation(self, ego: EgoState, command: TurnCommand, distance_m: float) -> Navigation:
        """Return what the driver is told at `ego`; after the last point, that point twice."""
        while self._next < len(self._points):
            local = se2.points_to_local(ego.pose, self._points[self._next])
            distance = float(np.hypot(*local))
            if distance > REACHED_M and not (local[0] < 0.0 and distance < PASSED_M):
                later = self._later_leg(ego) if local[0] < 0.0 else None
                if later is None:
                    break
                self._next = later
                continue
            self._next += 1
        last = len(self._points) - 1
        pair = self._points[[min(self._next, last), min(self._next + 1, last)]]
        return Navigation(command, distance_m, se2.points_to_local(ego.pose, pair), self._number)

    def _later_leg(self, ego: EgoState) -> int | None:
        """Return the end of the first leg beyond the next point that ego drives along; None while on the way to it."""
        if self._next > 0 and self._follows_leg(ego, self._next):
            return None
        legs = range(self._next + 1, len(self._points))
        return next((end for end in legs if self._follows_leg(ego, end)), None)

    def _follows_leg(self, ego: EgoState, end: int) -> bool:
        """Whether ego is within PASSED_M of the leg that ends in point `end`, and not against its direction."""
        begins, ends = se2.points_to_local(ego.pose, self._points[[end - 1, end]])
        leg = ends - begins
        share = np.clip(-(begins @ leg) / max(float(leg @ leg), 1e-9), 0.0, 1.0)
        return bool(leg[0] >= 0.0 and np.hypot(*(begins + share * leg)) < PASSED_M)
