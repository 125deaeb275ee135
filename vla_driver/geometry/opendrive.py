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
#: What is near a place lies in its cell or in one of the eight around it.
_CELL_M = math.hypot(_BESIDE_M, _ALONG_M)
#: Shorter pieces of a route between two of one junction belong to it, too.
_GAP_M = 3.0
#: A map whose junctions are farther from a route is of another place, or in another frame.
_WITHIN_M = 100.0
#: No piece of a road is longer.
_LONGEST_M = 100_000.0
#: No place is farther from the map's origin (a northing is up to 10,000 km).
_FARTHEST_M = 1e8
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
        poses = np.vstack([np.empty((0, 3)), *pieces])  # x, y, heading
        # By cells, column by column, so that what is near a place is three slices.
        self._corner = poses[:, :2].min(axis=0) if len(poses) else np.zeros(2)
        cells = self._cells(poses)
        self._shape = cells.max(axis=0) + 1 if len(poses) else np.zeros(2, int)
        keys = self._keys_of(cells)
        by_key = np.argsort(keys, kind='stable')
        self._keys, self._poses, self._junctions = keys[by_key], poses[by_key], np.array(names)[by_key]

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
        within = self._junctions_at(np.column_stack([route, heading]))
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

    def _cells(self, poses: FloatArray) -> npt.NDArray[np.int64]:
        """Return the cells [N, 2] (column, row) that poses [N, 3] lie in."""
        return np.floor((poses[:, :2] - self._corner) / _CELL_M).astype(np.int64)

    def _keys_of(self, cells: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return numbers [...] of cells [..., 2], which may lie two beyond the map's: column by column."""
        return np.asarray((cells[..., 0] + 2) * (self._shape[1] + 4) + cells[..., 1] + 2)

    def _junctions_at(self, poses: FloatArray) -> list[str]:
        """Return for each pose [N, 3] the junction of the nearest road that it can be on, '' where there is none."""
        # Whoever is beyond the map's edge looks at its edge, where nothing is near enough.
        cells = np.clip(self._cells(poses), -1, self._shape)[:, None]
        columns = np.array([[-1, 0], [0, 0], [1, 0]])
        first = np.searchsorted(self._keys, self._keys_of(cells + columns - [0, 1]), 'left').ravel()
        counts = np.searchsorted(self._keys, self._keys_of(cells + columns + [0, 1]), 'right').ravel() - first
        near = np.arange(counts.sum()) + np.repeat(first - (np.cumsum(counts) - counts), counts)
        whose = np.repeat(np.repeat(np.arange(len(poses)), len(columns)), counts)
        local = se2.relative(self._poses[near], poses[whose])
        direction = np.abs(se2.wrap(local[:, 2]))
        # A road may be driven against the way its reference line runs.
        aligned = np.minimum(direction, math.pi - direction) < _DIRECTION_RAD
        beside_m = np.abs(local[:, 1])
        fits = np.flatnonzero((np.abs(local[:, 0]) <= _ALONG_M) & (beside_m <= _BESIDE_M) & aligned)
        nearest_first = fits[np.lexsort([beside_m[fits], whose[fits]])]
        places, best = np.unique(whose[nearest_first], return_index=True)
        found = [''] * len(poses)
        for place, name in zip(places.tolist(), self._junctions[near[nearest_first[best]]].tolist(), strict=True):
            found[place] = name
        return found


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
            placed = se2.compose(np.broadcast_to(start, local.shape), local)
            if not (np.abs(placed[:, :2]) <= _FARTHEST_M).all():
                x, y = placed[np.argmax(np.abs(placed[:, :2]).max(axis=1)), :2]
                raise ValueError(f'it comes to ({x:g}, {y:g}), expected at most {_FARTHEST_M:g} m from the origin')
            yield placed
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
