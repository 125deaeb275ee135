# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Where the junctions of an OpenDRIVE map are along a route: what a navigation device knows and a line does not say.

ASAM OpenDRIVE: roads with a `junction` other than -1 connect others within it; their `planView` is made of pieces with
a start (x, y, hdg) each: lines, arcs, clothoids (spiral), and cubic polynomials (poly3, paramPoly3).  Of a map only
these are read.  Its frame is x east and y north, as CARLA's is once mirrored.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from vla_driver.geometry import se2
from vla_driver.types import FloatArray, InvalidInput

_STEP_M = 1.0
#: A route that is on a connecting road is as close to its reference line, which may run some lanes beside it, ...
_BESIDE_M = 12.0
#: ... not before its start or after its end, and has its direction.
_ALONG_M = 0.75
_DIRECTION_RAD = math.radians(30.0)
#: Shorter pieces of a route between two of one junction belong to it, too.
_GAP_M = 3.0
#: A map whose junctions are farther from a route is of another place, or in another frame.
_WITHIN_M = 100.0
#: No piece of a road is longer.
_LONGEST_M = 100_000.0
#: What may stand beside the shape of a piece.
_NO_SHAPE = ('userData', 'include', 'dataQuality')
#: CARLA's own route planner calls a change of direction by so much a turn (GlobalRoutePlanner).
_TURN_RAD = math.radians(35.0)


@dataclass(frozen=True)
class Crossing:
    """A junction that a route goes through: from point `first` to point `last`, turning by turn_rad (left positive)."""

    first: int
    last: int
    turn_rad: float

    @property
    def side(self) -> int:
        """1: to the left, -1: to the right, 0: straight on."""
        return 0 if abs(self.turn_rad) < _TURN_RAD else int(math.copysign(1.0, self.turn_rad))


class JunctionMap:
    """The roads within the junctions of a map; making it takes seconds for a large town."""

    def __init__(self, opendrive: str) -> None:
        """Read a map; raise InvalidInput for text that is no OpenDRIVE."""
        try:
            root = ElementTree.fromstring(opendrive)
        except (ElementTree.ParseError, ValueError) as error:
            raise InvalidInput(
                f'map: {len(opendrive)} characters that are no XML ({error}), expected OpenDRIVE'
            ) from error
        if _name(root) != 'OpenDRIVE':
            raise InvalidInput(f'map: the root element is {_name(root)!r}, expected OpenDRIVE')
        names: list[str] = []
        pieces: list[FloatArray] = []
        for road in root.iterfind('{*}road'):
            junction = road.get('junction', '-1')
            if junction == '-1':
                continue
            points = np.vstack([np.empty((0, 3)), *_plan_view(road)])
            names += [junction] * len(points)
            pieces.append(points)
        poses = np.vstack([np.empty((0, 3)), *pieces])  # x, y, heading; by x, so that a strip is a slice
        by_x = np.argsort(poses[:, 0], kind='stable')
        self._poses, self._junctions = poses[by_x], np.array(names)[by_x]

    def is_near(self, points_m: npt.ArrayLike) -> bool:
        """Return whether a junction is within 100 m of a route [N, 2] with a point about every metre."""
        route = np.asarray(points_m, dtype=np.float64).reshape(-1, 2)[:: round(0.5 * _WITHIN_M / _STEP_M)]
        places = self._poses[:, :2]
        return any(bool((np.abs(places - point).max(axis=1) <= _WITHIN_M).any()) for point in route)

    def crossings(self, points_m: npt.ArrayLike) -> tuple[Crossing, ...]:
        """Return the junctions along a route [N, 2] with a point about every metre, in its order."""
        route = np.asarray(points_m, dtype=np.float64)
        if not len(self._poses) or len(route) < 3:
            return ()
        heading = np.unwrap(np.arctan2(*np.gradient(route, axis=0).T[::-1]))
        within = [self._junction_at(np.array([*point, yaw])) for point, yaw in zip(route, heading, strict=True)]
        found: list[tuple[str, int, int]] = []
        for k, name in enumerate(within):
            if not name:
                continue
            if found and found[-1][0] == name and k - found[-1][2] <= _GAP_M / _STEP_M:
                found[-1] = (name, found[-1][1], k)
            else:
                found.append((name, k, k))
        # A route that begins or ends at a junction's edge is not within it.
        through = [(first, last) for _, first, last in found if last - first > 1]
        return tuple(Crossing(first, last, float(heading[last] - heading[first])) for first, last in through)

    def _junction_at(self, pose: FloatArray) -> str:
        """Return the junction of the nearest road that a pose [3] can be on, '' where there is none."""
        reach_m = math.hypot(_BESIDE_M, _ALONG_M)
        first, last = np.searchsorted(self._poses[:, 0], [pose[0] - reach_m, pose[0] + reach_m])
        near = first + np.flatnonzero(np.abs(self._poses[first:last, 1] - pose[1]) <= reach_m)
        local = se2.relative(self._poses[near], np.broadcast_to(pose, (len(near), 3)))
        direction = np.abs(se2.wrap(local[:, 2]))
        # A road may be driven against the way its reference line runs.
        aligned = np.minimum(direction, math.pi - direction) < _DIRECTION_RAD
        fits = np.flatnonzero((np.abs(local[:, 0]) <= _ALONG_M) & (np.abs(local[:, 1]) <= _BESIDE_M) & aligned)
        if not len(fits):
            return ''
        best = fits[np.argmin(np.abs(local[fits, 1]))]
        return str(self._junctions[near[best]])


def _name(element: ElementTree.Element) -> str:
    """Return an element's name without the namespace that newer maps have."""
    return element.tag.rpartition('}')[2]


def _plan_view(road: ElementTree.Element) -> Iterator[FloatArray]:
    """Yield the poses [K, 3] about every metre of a road's pieces; raise InvalidInput for what cannot be read."""
    for piece in road.iterfind('{*}planView/{*}geometry'):
        try:
            start = np.array([_number(piece, name) for name in ('x', 'y', 'hdg')])
            length_m = _number(piece, 'length')
            if not 0.0 <= length_m <= _LONGEST_M:
                raise ValueError(f'length {length_m}, expected 0 to {_LONGEST_M:.0f} m')
            shape = next((child for child in piece if _name(child) not in _NO_SHAPE), None)
            local = _shape(ElementTree.Element('line') if shape is None else shape, length_m)
            yield se2.compose(np.broadcast_to(start, local.shape), local)
        except ValueError as error:
            raise InvalidInput(f'map: road {road.get("id")}: its planView cannot be read: {error}') from error


def _number(element: ElementTree.Element, name: str, default: str | None = None) -> float:
    text = element.get(name, default)
    if text is None:
        raise ValueError(f'{_name(element)} has no {name}')
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f'{name} is {text}, expected a finite number')
    return value


def _count(length_m: float) -> int:
    return max(2, math.ceil(length_m / _STEP_M) + 1)


def _shape(shape: ElementTree.Element, length_m: float) -> FloatArray:
    """Return [K, 3] the poses of a piece from its start on, evenly spaced in what it is a function of."""
    s = np.linspace(0.0, length_m, _count(length_m))

    kind = _name(shape)
    if kind in ('line', 'arc', 'spiral'):
        names = {'line': (), 'arc': ('curvature', 'curvature'), 'spiral': ('curvStart', 'curvEnd')}[kind]
        first, last = (_number(shape, name) for name in names) if names else (0.0, 0.0)
        # Curvature is linear in the way, so heading is a parabola; the way is its cosine and sine, added up finely.
        fine = np.linspace(0.0, length_m, 10 * (len(s) - 1) + 1)
        yaw = first * fine + (last - first) * fine**2 / (2.0 * max(length_m, 1e-9))
        middle = 0.5 * (yaw[1:] + yaw[:-1])
        steps = np.diff(fine)[:, None] * np.column_stack([np.cos(middle), np.sin(middle)])
        way = np.vstack([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
        return np.column_stack([way, yaw])[::10]
    if kind == 'poly3':
        cubic = np.polynomial.Polynomial([_number(shape, name, '0') for name in 'abcd'])
        # It is a function of u, the way ahead; the length is that of the curve.
        fine = np.linspace(0.0, length_m, 10 * (len(s) - 1) + 1)
        way = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(fine), np.diff(cubic(fine))))])
        ahead = np.interp(s, way, fine)
        return np.column_stack([ahead, cubic(ahead), np.arctan(cubic.deriv()(ahead))])
    if kind == 'paramPoly3':
        p = s if shape.get('pRange') == 'arcLength' else np.linspace(0.0, 1.0, len(s))
        u, v = (np.polynomial.Polynomial([_number(shape, f'{name}{axis}', '0') for name in 'abcd']) for axis in 'UV')
        return np.column_stack([u(p), v(p), np.arctan2(v.deriv()(p), u.deriv()(p))])
    raise ValueError(f'shape {kind!r}, expected line, arc, spiral, poly3 or paramPoly3')
