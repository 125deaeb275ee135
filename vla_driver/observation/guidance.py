# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What a navigation device would say, made from a dense route alone: sparse target points and the next turn.

For simulators and stacks that hand over a line instead: egodriver's `submit_route`, CARLA's `waypoints`, the way that
nuScenes' vehicle drove.  A line knows no junctions, so a turn is where it bends as it does in one: STRAIGHT is never
said (what goes straight on is FOLLOW), and a sharp bend between junctions counts as a turn.  With a map the junctions
along the line take the place of its bends, and what somebody says who knows the whole way (CARLA's leaderboard) that of
both.

A route may be told anew at every tick, from where the vehicle is to somewhere ahead.  What continues the one before is
joined to it, so that target points stay where they are; what does not replaces it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from vla_driver.geometry import se2
from vla_driver.geometry.opendrive import JunctionMap
from vla_driver.types import FloatArray, InvalidInput, TurnCommand

#: Farther ahead nothing is said of a turn, as in the drives that policies are trained on.
WITHIN_M: Final = 60.0
#: Target points lie so far apart, about as in those drives (30 to 50 m).
TARGET_SPACING_M: Final = 35.0

_STEP_M: Final = 1.0
#: Headings are compared over so much of the way, which lane markings' corners and noise do not survive.
_WINDOW_M: Final = 6.0
#: A bend is tighter than this radius, turns by so much in all, and goes on after at most so much straight way.
_RADIUS_M: Final = 50.0
_TURN_RAD: Final = math.radians(35.0)
_GAP_M: Final = 5.0
#: Points of another route that lie no farther from the one before continue it.
_SAME_M: Final = 2.0
#: One that ends so far before the one before takes its place.
_SHORTER_M: Final = 10.0
#: A manoeuvre on the route begins no farther beside it, and about in its direction.
_NEAR_M: Final = 15.0
_DIRECTION_RAD: Final = math.radians(70.0)
_HALF_TURN_RAD: Final = math.radians(45.0)
_SIDES: Final = {TurnCommand.LEFT: 1, TurnCommand.RIGHT: -1}
#: So much of the way behind is kept: a turn that has begun goes on.
_KEPT_M: Final = 60.0
#: Of longer routes not every point is compared: a millisecond or two.
_MOST_PAIRS: Final = 300_000
#: How far ahead of, and behind, the last known place the vehicle is looked for.
_SEARCH_M: Final = 40.0


@dataclass(frozen=True)
class Turn:
    """A bend of the route, from start_m to end_m along it: LEFT or RIGHT."""

    start_m: float
    end_m: float
    command: TurnCommand


@dataclass(frozen=True)
class Manoeuvre:
    """What to do at a junction, told by where on the way it begins and ends: points [2] in the route's frame."""

    begin_m: FloatArray
    end_m: FloatArray
    command: TurnCommand


def turns_of(points_m: npt.ArrayLike) -> tuple[Turn, ...]:
    """Return the turns of a route [N, 2] (metres, driving order), in their order."""
    line = resampled(np.asarray(points_m, dtype=np.float64))
    if len(line) < 3:
        return ()
    heading = np.unwrap(np.arctan2(*np.diff(line, axis=0).T[::-1]))
    half = round(0.5 * _WINDOW_M / _STEP_M)
    s_m = _STEP_M * np.arange(len(heading))
    ahead, behind = (np.interp(s_m + shift, s_m, heading) for shift in (half * _STEP_M, -half * _STEP_M))
    bend = (ahead - behind) / _WINDOW_M  # [1/m]
    turns: list[Turn] = []
    for side, command in ((1.0, TurnCommand.LEFT), (-1.0, TurnCommand.RIGHT)):
        bends = np.flatnonzero(side * bend > 1.0 / _RADIUS_M)
        for run in np.split(bends, np.flatnonzero(np.diff(bends) > _GAP_M / _STEP_M) + 1):
            if len(run) and abs(heading[run[-1]] - heading[run[0]]) + 2.0 * half * _STEP_M / _RADIUS_M > _TURN_RAD:
                turns.append(Turn(float(s_m[run[0]]), float(s_m[run[-1]]) + _STEP_M, command))
    return tuple(sorted(turns, key=lambda turn: turn.start_m))


def turns_by_map(junctions: JunctionMap, points_m: npt.ArrayLike) -> tuple[Turn, ...]:
    """Return what is to be done at the junctions of a map along a route [N, 2], in order.

    Where the route ends within a junction nobody knows how it goes on, and nothing is said of that.
    """
    line = resampled(np.asarray(points_m, dtype=np.float64))
    commands = {1: TurnCommand.LEFT, 0: TurnCommand.STRAIGHT, -1: TurnCommand.RIGHT}
    known = [c for c in junctions.crossings(line) if c.last < len(line) - 1]
    return tuple(Turn(c.first * _STEP_M, c.last * _STEP_M, commands[c.side]) for c in known)


class RouteGuide:
    """Keeps a route that is told in pieces, and where the vehicle is on it; poses [3] and points in one fixed frame."""

    def __init__(self, junctions: JunctionMap | None = None) -> None:
        self._junctions = junctions
        self._line = np.empty((0, 2))
        self._turns: tuple[Turn, ...] = ()
        #: Whether turns are at a map's junctions: one of another place says nothing of this route.
        self.by_map = False
        self._told = False  # whether somebody told the manoeuvres of the present route
        self._begun_m = self._at_m = 0.0  # where the first target is counted from, and where the vehicle is

    def know(self, junctions: JunctionMap) -> None:
        """Take a map: from now on turns are at its junctions, but for a route whose manoeuvres were told."""
        self._junctions = junctions
        if not self._told:
            self._turns = self._found()

    def take(self, points_m: npt.ArrayLike, pose: npt.ArrayLike, told: Sequence[Manoeuvre] | None = None) -> None:
        """Take a route [N, 2] as it is known at a pose of the vehicle; one without points withdraws it.

        told: every manoeuvre on it, in driving order; None where only the line is known.  Raises InvalidInput for
        points that are none.
        """
        points, at = checked_route(points_m), np.asarray(pose, dtype=np.float64)
        self._locate(at)
        whole = told is not None or self._told
        beyond = None if whole else self._beyond(points)
        if beyond is None:
            self._line = resampled(points)
            self._begun_m = self._at_m = self._nearest_m(at)
        elif len(beyond):
            self._line = np.concatenate([self._line, resampled(np.vstack([self._line[-1:], beyond]))[1:]])
        else:
            return
        self._told = told is not None
        self.by_map = False
        self._turns = self._found() if told is None else self._places(told)

    def _found(self) -> tuple[Turn, ...]:
        """Return the turns from somewhat behind the vehicle on, by the map or by the bends."""
        first = max(0, int((self._at_m - _KEPT_M) / _STEP_M))
        shift_m, line = first * _STEP_M, self._line[first:]
        self.by_map = self._junctions is not None and self._junctions.is_near(self._line)
        turns = turns_by_map(self._junctions, line) if self._junctions and self.by_map else turns_of(line)
        return tuple(Turn(turn.start_m + shift_m, turn.end_m + shift_m, turn.command) for turn in turns)

    def _places(self, told: Sequence[Manoeuvre]) -> tuple[Turn, ...]:
        """Return where along the route manoeuvres are, each from the end of the one before on.

        One that the route does not come by in its direction is of another way, or passed, and left out.
        """
        if len(self._line) < 2:
            return ()
        heading = np.arctan2(*np.asarray(np.gradient(self._line, axis=0)).T[::-1])
        turns: list[Turn] = []
        at = 0
        for manoeuvre in told:
            along = manoeuvre.end_m - manoeuvre.begin_m
            if not np.any(along):
                continue
            # Whoever turns enters at half the turn to the other side of the line to the exit.
            entry_rad = math.atan2(along[1], along[0]) - _HALF_TURN_RAD * _SIDES.get(manoeuvre.command, 0)
            aligned = np.abs(se2.wrap(heading - entry_rad)) < _DIRECTION_RAD
            begin = self._first_stretch(manoeuvre.begin_m, at, aligned)
            end = None if begin is None else self._first_stretch(manoeuvre.end_m, begin)
            if begin is not None and end is not None and end > begin:
                turns.append(Turn(begin * _STEP_M, end * _STEP_M, manoeuvre.command))
                at = end
        return tuple(turns)

    def _first_stretch(self, point: FloatArray, first: int, where: npt.NDArray[np.bool_] | None = None) -> int | None:
        """Return which point from `first` on is nearest in the first stretch near `point`; None where there is none."""
        away_m = np.hypot(*(self._line[first:] - point).T)
        near = away_m <= _NEAR_M if where is None else (away_m <= _NEAR_M) & where[first:]
        if not near.any():
            return None
        begin = int(np.argmax(near))
        left = np.flatnonzero(~near[begin:])
        return first + begin + int(np.argmin(away_m[begin : begin + left[0] if len(left) else None]))

    def targets_m(self) -> FloatArray:
        """Return the target points ahead [M, 2]; the end of what is known stands in for those that are missing."""
        if not len(self._line):
            return np.empty((0, 2))
        length_m = (len(self._line) - 1) * _STEP_M
        passed = math.floor((self._at_m - self._begun_m) / TARGET_SPACING_M)
        at_m = np.arange(self._begun_m + (passed + 1) * TARGET_SPACING_M, length_m + 1e-6, TARGET_SPACING_M)
        points = self._line[np.round(at_m / _STEP_M).astype(int)]
        return points if len(points) > 1 else np.vstack([points, self._line[-1:]])

    def next_turn(self, pose: npt.ArrayLike) -> tuple[TurnCommand, float]:
        """Return the next turn and the distance to it in metres, 0 within it; FOLLOW beyond `WITHIN_M`."""
        gap_m = self._locate(np.asarray(pose, dtype=np.float64))
        for turn in self._turns:
            if self._at_m < turn.end_m:
                distance_m = max(0.0, turn.start_m - self._at_m) + gap_m
                if distance_m <= WITHIN_M:
                    return turn.command, distance_m
                break
        return TurnCommand.FOLLOW, WITHIN_M

    def _locate(self, pose: FloatArray) -> float:
        """Find the vehicle, no farther back than it was; return how far ahead of it the route begins, if it does."""
        if not len(self._line):
            return 0.0
        first = int(self._at_m / _STEP_M)
        window = self._line[first : first + int(_SEARCH_M / _STEP_M)]
        nearest = first + int(np.argmin(np.hypot(*(window - pose[:2]).T)))
        self._at_m = nearest * _STEP_M
        return max(0.0, float(se2.points_to_local(pose, self._line[0])[0])) if nearest == 0 else 0.0

    def _nearest_m(self, pose: FloatArray) -> float:
        """Return where a vehicle is of which nothing is known: at the first place that is about the nearest."""
        if not len(self._line):
            return 0.0
        return _first_nearest(self._line, pose[:2]) * _STEP_M

    def _beyond(self, points: FloatArray) -> FloatArray | None:
        """Return those of `points` that lie beyond the end of the route, None where they do not continue it."""
        return beyond_end(self._line[max(0, int((self._at_m - _SEARCH_M) / _STEP_M)) :], points)


def beyond_end(known: FloatArray, points: FloatArray) -> FloatArray | None:
    """Return those of a route's points that lie beyond the end of what is known of it; None for another route.

    known: [M, 2] a point every metre (`resampled`), from somewhat behind the vehicle on; points: [N, 2].  A route that
    ends clearly before what is known is another one: somebody wants the vehicle to stop there.
    """
    if len(known) < 2 or not len(points):
        return None
    stride = math.ceil(len(points) * len(known) / _MOST_PAIRS)
    looked_at = np.unique(np.append(np.arange(0, len(points), stride), len(points) - 1))
    away_m = np.hypot(*(points[looked_at, None] - known[None]).transpose(2, 0, 1))
    inside, nearest = away_m.min(axis=1) <= _SAME_M, away_m.argmin(axis=1)
    if not inside[0]:
        return None
    at_end = nearest >= len(known) - 2
    onward = known[-1] - known[max(0, len(known) - 4)]
    past = (points[looked_at] - known[-1]) @ onward > 0.0
    leaves = np.flatnonzero(~inside | (at_end & past))
    if not len(leaves):
        return points[:0] if (len(known) - 1 - nearest[-1]) * _STEP_M <= _SHORTER_M else None
    first = int(leaves[0])
    if stride == 1:
        return points[first:] if at_end[first] else None
    # It leaves somewhere behind the last point that was looked at and is inside.
    begin, end = looked_at[max(0, first - 1)], looked_at[first] + 1
    left = beyond_end(known[max(0, nearest[max(0, first - 1)] - 1) :], points[begin:end])
    return None if left is None or not len(left) else points[end - len(left) :]


def checked_route(points_m: npt.ArrayLike) -> FloatArray:
    """Return a route's points as [N, 2]; raise InvalidInput for some that are none."""
    points = np.asarray(points_m, dtype=np.float64).reshape(-1, 2)
    if not np.isfinite(points).all():
        row = int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])
        raise InvalidInput(f'route: point {row} is {points[row].tolist()}, expected finite numbers')
    return points


def _first_nearest(line: FloatArray, point: FloatArray) -> int:
    """Return which point of a line [N, 2] is the nearest, the first time that it comes by: it may do so twice."""
    away_m = np.hypot(*(line - point).T)
    near = away_m <= away_m.min() + _SAME_M
    first = int(np.argmax(near))
    left = np.flatnonzero(~near[first:])
    return first + int(np.argmin(away_m[first : first + left[0] if len(left) else None]))


def resampled(points: FloatArray) -> FloatArray:
    """Return a line [M, 2] with a point every `_STEP_M`, from its first point on."""
    points = points[np.concatenate([[True], np.hypot(*np.diff(points, axis=0).T) > 1e-6])] if len(points) else points
    if len(points) < 2:
        return points
    way = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    at = np.arange(0.0, way[-1] + 0.5 * _STEP_M, _STEP_M)
    return np.stack([np.interp(at, way, column) for column in points.T], axis=-1)
