# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Routes over a SUMO network: the privileged centre line that the expert follows and the scorer measures on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_driver.geometry import se2
from vla_driver.types import FloatArray, InvalidInput, TurnCommand

SAMPLE_M = 0.5
#: Lateral acceleration the expert allows itself in curves.
CURVE_ACCELERATION_MPS2 = 1.8
_COMMANDS = {
    'l': TurnCommand.LEFT,
    'L': TurnCommand.LEFT,
    'r': TurnCommand.RIGHT,
    'R': TurnCommand.RIGHT,
    's': TurnCommand.STRAIGHT,
}


@dataclass(frozen=True)
class Manoeuvre:
    """One junction on the route: from start_m to end_m along it."""

    start_m: float
    end_m: float
    command: TurnCommand


@dataclass(frozen=True)
class StopLine:
    """A signal's stop line at s_m along the route; `link` indexes the light's state string."""

    s_m: float
    light: str
    link: int


class RoutePath:
    """A polyline sampled every SAMPLE_M with heading, curvature and a speed limit.

    points_m [N, 2], yaw_rad [N], curvature_per_m [N], speed_limit_mps [N] (legal and curve speed, with the
    braking distance before a curve already in it).
    """

    def __init__(
        self,
        points_m: FloatArray,
        legal_speed_mps: FloatArray,
        manoeuvres: tuple[Manoeuvre, ...],
        stop_lines: tuple[StopLine, ...],
        edges: tuple[str, ...],
    ) -> None:
        self.points_m = points_m
        self.manoeuvres = manoeuvres
        self.stop_lines = stop_lines
        self.edges = edges
        step = np.diff(points_m, axis=0)
        self._segment = np.maximum(np.hypot(step[:, 0], step[:, 1]), 1e-6)
        self.s_m = np.concatenate([[0.0], np.cumsum(self._segment)])
        heading = np.unwrap(np.arctan2(step[:, 1], step[:, 0]))
        self.yaw_rad = np.concatenate([heading, heading[-1:]])
        self.curvature_per_m = _smooth(np.gradient(self.yaw_rad, self.s_m), 3)
        curve = np.sqrt(CURVE_ACCELERATION_MPS2 / np.maximum(np.abs(self.curvature_per_m), 1e-3))
        limit = np.minimum(legal_speed_mps, np.maximum(curve, 2.5))
        # Brake for a curve before it: v^2 <= v_curve^2 + 2 a d, swept from the end.
        for k in range(len(limit) - 2, -1, -1):
            limit[k] = min(limit[k], np.sqrt(limit[k + 1] ** 2 + 2.0 * 1.3 * self._segment[k]))
        self.speed_limit_mps = limit

    @property
    def length_m(self) -> float:
        """The route's length."""
        return float(self.s_m[-1])

    def project(self, point_m: FloatArray, near_m: float | None = None, window_m: float = 15.0) -> tuple[float, float]:
        """Return (s, d): the arc length of the closest point and the signed offset (left positive).

        near_m: search only around this arc length, so that a route that crosses itself stays unambiguous.
        """
        low, high = 0, len(self.points_m)
        if near_m is not None:
            low = max(0, int((near_m - window_m) / SAMPLE_M))
            high = min(len(self.points_m), int((near_m + window_m) / SAMPLE_M) + 2)
            low = min(low, high - 2)
        delta = self.points_m[low:high] - point_m
        k = low + int(np.argmin(delta[:, 0] ** 2 + delta[:, 1] ** 2))
        cos, sin = np.cos(self.yaw_rad[k]), np.sin(self.yaw_rad[k])
        dx, dy = point_m - self.points_m[k]
        return float(self.s_m[k] + cos * dx + sin * dy), float(-sin * dx + cos * dy)

    def _index(self, s_m: float) -> tuple[int, float]:
        k = int(np.clip(np.searchsorted(self.s_m, s_m, side='right') - 1, 0, len(self._segment) - 1))
        return k, (s_m - self.s_m[k]) / self._segment[k]

    def at(self, s_m: float) -> FloatArray:
        """Return [3] the pose at arc length s_m, extended straight past the end."""
        k, share = self._index(s_m)
        point = self.points_m[k] + share * (self.points_m[k + 1] - self.points_m[k])
        return np.array([point[0], point[1], self.yaw_rad[k]])

    def limit_at(self, s_m: float) -> float:
        """Return the speed limit at arc length s_m."""
        return float(self.speed_limit_mps[self._index(s_m)[0]])

    def next_manoeuvre(self, s_m: float, within_m: float = 60.0) -> tuple[TurnCommand, float]:
        """Return the command of the next junction and the distance to it; FOLLOW beyond `within_m`."""
        for manoeuvre in self.manoeuvres:
            if s_m < manoeuvre.end_m:
                distance = max(0.0, manoeuvre.start_m - s_m)
                if distance <= within_m:
                    return manoeuvre.command, distance
                break
        return TurnCommand.FOLLOW, within_m

    def sparse_points(self, rng: np.random.Generator, start_m: float, noise_m: float = 1.0) -> FloatArray:
        """Return [M, 2] target points 30 to 50 m apart along the route, with Gaussian noise per axis."""
        s_values = [start_m + rng.uniform(28.0, 45.0)]
        while s_values[-1] + 55.0 < self.length_m:
            s_values.append(s_values[-1] + rng.uniform(30.0, 50.0))
        s_values.append(max(self.length_m, s_values[-1] + 28.0))
        points = np.array([self.at(s)[:2] for s in s_values])
        noisy: FloatArray = points + rng.normal(0.0, noise_m, points.shape)
        return noisy


def _smooth(values: FloatArray, half_width: int) -> FloatArray:
    kernel = np.hanning(2 * half_width + 3)[1:-1]
    padded = np.pad(values, half_width, mode='edge')
    smoothed: FloatArray = np.convolve(padded, kernel / kernel.sum(), mode='valid')
    return smoothed


def _resample(points: FloatArray, step_m: float) -> FloatArray:
    keep = np.concatenate([[True], np.hypot(*np.diff(points, axis=0).T) > 1e-3])
    points = points[keep]
    s = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    at = np.linspace(0.0, s[-1], max(2, round(s[-1] / step_m) + 1))
    return np.stack([np.interp(at, s, points[:, 0]), np.interp(at, s, points[:, 1])], axis=-1)


def _drivable(lane: Any) -> bool:
    return bool(lane.allows('passenger'))


def _lane_points(lane: Any) -> FloatArray:
    return np.array([point[:2] for point in lane.getShape()], dtype=np.float64)


def junction_lanes(network: Any, connection: Any) -> list[Any]:
    """Return the internal lanes from a connection's first one to its target lane."""
    lanes: list[Any] = []
    via = connection.getViaLaneID()
    while via:
        lane = network.getLane(via)
        lanes.append(lane)
        onward = [c for c in lane.getOutgoing() if c.getToLane() is connection.getToLane() or c.getViaLaneID()]
        via = onward[0].getViaLaneID() if onward else ''
        if len(lanes) > 8:
            break
    return lanes


def sample_route(network: Any, rng: np.random.Generator, length_m: float, tries: int = 400) -> RoutePath:
    """Return a random route of at least `length_m`, turning wherever it may; raise `InvalidInput`."""
    edges = [
        edge
        for edge in network.getEdges(withInternal=False)
        if edge.getLength() > 30.0 and any(_drivable(lane) for lane in edge.getLanes())
    ]
    if not edges:
        raise InvalidInput('the network has no edge that passenger vehicles may use and that is longer than 30 m')
    for _ in range(tries):
        route = _try_route(network, rng, edges[rng.integers(len(edges))], length_m)
        if route is not None:
            return route
    raise InvalidInput(f'no route of {length_m:.0f} m found in {tries} tries; ask for a shorter one or a larger town')


def _try_route(network: Any, rng: np.random.Generator, edge: Any, length_m: float) -> RoutePath | None:
    """Walk from `edge` along random connections until the route is long enough."""
    lanes = [lane for lane in edge.getLanes() if _drivable(lane)]
    lane = lanes[rng.integers(len(lanes))]
    pieces: list[FloatArray] = []
    speeds: list[FloatArray] = []
    marks: list[tuple[int, int, TurnCommand]] = []
    stops: list[tuple[int, str, int]] = []
    names = [edge.getID()]
    total, count = 0.0, 0

    def append(points: FloatArray, speed: float) -> None:
        nonlocal total, count
        points = _resample(points, SAMPLE_M)
        pieces.append(points)
        speeds.append(np.full(len(points), speed))
        count += len(points)
        total += float(np.hypot(*np.diff(points, axis=0).T).sum())

    while True:
        exits = _exit_lanes(edge, lane, rng)
        if not exits:
            return None
        exit_lane, connection = exits[0]
        append(_edge_points(lane, exit_lane), exit_lane.getSpeed())
        if total >= length_m:
            break
        junction_start = count
        branches = {c.getTo() for other in edge.getLanes() for c in other.getOutgoing() if c.getDirection() != 't'}
        light, link = connection.getTLSID(), connection.getTLLinkIndex()
        if light and link >= 0:
            stops.append((count - 1, light, link))
        for internal in junction_lanes(network, connection):
            append(_lane_points(internal), internal.getSpeed())
        lane = connection.getToLane()
        edge = lane.getEdge()
        if len(branches) > 1 or light:
            command = _COMMANDS.get(connection.getDirection(), TurnCommand.STRAIGHT)
            marks.append((junction_start, count, command))
        names.append(edge.getID())
        if len(names) > 40:
            return None
    return _finish(pieces, speeds, marks, stops, names)


def _exit_lanes(edge: Any, lane: Any, rng: np.random.Generator) -> list[tuple[Any, Any]]:
    """Return the (lane, connection) to leave the edge by, the chosen one first; turns are preferred."""
    candidates = [lane]
    if edge.getLength() > 75.0 and rng.random() < 0.5:
        index = lane.getIndex()
        candidates = [
            other for other in edge.getLanes() if _drivable(other) and abs(other.getIndex() - index) == 1
        ] or candidates
    options = [
        (candidate, c)
        for candidate in candidates
        for c in candidate.getOutgoing()
        if c.getDirection() != 't' and _drivable(c.getToLane()) and c.getTo().getLength() > 8.0
    ]
    if not options and candidates != [lane]:
        options = [(lane, c) for c in lane.getOutgoing() if c.getDirection() != 't' and _drivable(c.getToLane())]
    if not options:
        return []
    weights = np.array([1.0 if c.getDirection() == 's' else 1.4 for _, c in options])
    first = int(rng.choice(len(options), p=weights / weights.sum()))
    return [options[first]]


def _edge_points(entry: Any, leave: Any) -> FloatArray:
    """Return the points along an edge, blended from one lane to the other over at most 40 m."""
    start = _resample(_lane_points(entry), SAMPLE_M)
    if entry is leave:
        return start
    end = _resample(_lane_points(leave), SAMPLE_M)
    count = min(len(start), len(end))
    share = np.linspace(0.0, 1.0, count)
    s = share * count * SAMPLE_M
    begin = 0.3 * s[-1]
    t = np.clip((s - begin) / min(40.0, 0.5 * s[-1]), 0.0, 1.0)
    blend = (t * t * (3.0 - 2.0 * t))[:, None]
    pick = lambda points: points[np.round(share * (len(points) - 1)).astype(int)]  # noqa: E731
    blended: FloatArray = (1.0 - blend) * pick(start) + blend * pick(end)
    return blended


def _finish(
    pieces: list[FloatArray],
    speeds: list[FloatArray],
    marks: list[tuple[int, int, TurnCommand]],
    stops: list[tuple[int, str, int]],
    names: list[str],
) -> RoutePath:
    raw = np.concatenate(pieces)
    legal_raw = np.concatenate(speeds)
    keep = np.concatenate([[True], np.hypot(*np.diff(raw, axis=0).T) > 1e-3])
    raw_s = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(raw, axis=0).T))])
    points = _resample(raw[keep], SAMPLE_M)
    # Lane shapes are polylines: smooth their corners so that heading and curvature are continuous.
    points = np.stack([_smooth(points[:, 0], 4), _smooth(points[:, 1], 4)], axis=-1)
    points[0], points[-1] = raw[0], raw[-1]
    at = np.linspace(0.0, raw_s[-1], len(points))
    legal = np.interp(at, raw_s, legal_raw)
    last = len(raw) - 1
    return RoutePath(
        points,
        legal,
        tuple(Manoeuvre(float(raw_s[min(a, last)]), float(raw_s[min(b, last)]), c) for a, b, c in marks),
        tuple(StopLine(float(raw_s[k]), light, link) for k, light, link in stops),
        tuple(names),
    )


def ego_progress(path: RoutePath, pose: FloatArray, near_m: float) -> tuple[float, float, float]:
    """Return (s, d, heading error) of a pose on the path, searched around `near_m`."""
    s, d = path.project(pose[:2], near_m)
    return s, d, float(se2.wrap(pose[2] - path.at(s)[2]))
