# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Judge a drive: collisions by class, off-road, red lights, progress, comfort, and the driving score.

Score = route completion x product of penalties (pedestrian 0.5, vehicle 0.6, static or off-road 0.65, red light
0.7), the factors of CARLA's leaderboard 2.0.  Comfort limits: NAVSIM's (docs/metrics.md in its repository).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from shapely import contains_xy, prepare
from shapely.geometry import LineString, MultiLineString, Polygon
from shapely.ops import unary_union

from vla_driver.sim.world import vehicle
from vla_driver.sim.world.road import RoutePath
from vla_driver.sim.world.scene import Actor, SemanticClass, SignalState
from vla_driver.types import FloatArray, InvalidInput
from vla_driver.types.checks import finite

PENALTIES = {'pedestrian': 0.5, 'vehicle': 0.6, 'off_road': 0.65, 'red_light': 0.7}
_MAX_LONGITUDINAL_MPS2 = 2.40
_MIN_LONGITUDINAL_MPS2 = -4.05
_MAX_LATERAL_MPS2 = 4.89
_MAX_JERK_MPS3 = 8.37
_MAX_YAW_RATE_RPS = 0.95
#: Off the road for this long, or this far from the route, ends the drive.
_MAX_OFF_ROAD_S = 4.0
_MAX_DEVIATION_M = 9.0
_BLOCKED_S = 120.0
#: The road's boundary is told so far to the sides of a way: farther than a plan strays from it.
BOUNDARY_WITHIN_M = 80.0


@dataclass
class RouteResult:
    """The outcome of one scenario.  Shares are 0..1, driving_score is 0..100."""

    town: str
    seed: int
    success: bool
    route_completion: float
    driving_score: float
    distance_m: float
    duration_s: float
    collisions: dict[str, int] = field(default_factory=dict)
    off_road_events: int = 0
    off_road_fraction: float = 0.0
    red_lights: int = 0
    timed_out: bool = False
    comfort: float = 1.0
    ended_by: str = ''

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def drivable_area(network: Any) -> Any:
    """Return the shapely area of lanes and junctions that vehicles may use."""
    parts = []
    for edge in network.getEdges(withInternal=True):
        for lane in edge.getLanes():
            if lane.allows('passenger') and len(lane.getShape()) > 1:
                line = LineString([p[:2] for p in lane.getShape()])
                parts.append(line.buffer(0.5 * lane.getWidth() + 0.05, cap_style='square'))
    for node in network.getNodes():
        if len(node.getShape()) > 2:
            parts.append(Polygon([p[:2] for p in node.getShape()]).buffer(0.05))
    return unary_union(parts)


def road_boundary(area: Any, near: npt.ArrayLike, *, tolerance_m: float = 0.05) -> tuple[FloatArray, ...]:
    """Return the lines [N, 2] that bound a shapely area, those around its holes included, near a way.

    near: points [M, 2] of the way in the area's frame, M >= 2; what lies farther than `BOUNDARY_WITHIN_M` from it is
    cut off.  tolerance_m: points are left out where the line moves no more than that.  A ring that is near as a whole
    repeats its first point.  Raises InvalidInput for a way that is none.
    """
    way = finite('way along the boundary', near, (None, 2))
    if len(way) < 2:
        raise InvalidInput(f'way along the boundary: {len(way)} points, expected two or more')
    zone = LineString(way).buffer(BOUNDARY_WITHIN_M)
    lines: list[FloatArray] = []
    for ring in shapely.get_parts(shapely.boundary(area)):
        pieces = shapely.get_parts(shapely.intersection(ring, zone))
        # A ring may touch the zone in a point; one that begins in the middle of a piece gives it in two.
        lasting = [piece for piece in pieces if piece.geom_type == 'LineString' and not piece.is_empty]
        simple = shapely.simplify(shapely.get_parts(shapely.line_merge(MultiLineString(lasting))), tolerance_m)
        lines.extend(shapely.get_coordinates(line) for line in simple)
    return tuple(lines)


class Scorer:
    """Watches a drive tick by tick."""

    def __init__(self, area: Any, path: RoutePath, start_m: float, time_limit_s: float, dt_s: float) -> None:
        self._area, self._path, self._dt = area, path, dt_s
        prepare(self._area)
        self._start_m, self._limit_s = start_m, time_limit_s
        self._collisions: dict[str, int] = {}
        self._off_ticks = self._off_run = self._off_events = 0
        self._red: set[int] = set()
        self._comfortable = self._ticks = 0
        self._standing_s = 0.0
        self._distance_m = 0.0
        self._last_acceleration = 0.0
        self._last_front_m: float | None = None
        self._best_m = start_m
        self.ended_by = ''

    def observe(
        self,
        ego: vehicle.Bicycle,
        progress_m: float,
        deviation_m: float,
        actors: Sequence[Actor],
        signals: Sequence[tuple[float, SignalState]],
    ) -> None:
        """Judge one tick of `dt_s`.  signals: (arc length of a stop line on the route, what it shows)."""
        self._ticks += 1
        self._distance_m += ego.speed_mps * self._dt
        self._best_m = max(self._best_m, progress_m)
        self._collide(ego, actors)
        corners = vehicle.ego_rectangle(ego.pose)
        self._off_road(not bool(contains_xy(self._area, corners[:, 0], corners[:, 1]).all()))
        self._signals(progress_m + vehicle.FRONT_M, signals)
        self._comfort(ego)
        self._standing_s = self._standing_s + self._dt if ego.speed_mps < 0.1 else 0.0
        if not self.ended_by:
            if progress_m + vehicle.FRONT_M >= self._path.length_m - 2.0:
                self.ended_by = 'finished'
            elif abs(deviation_m) > _MAX_DEVIATION_M:
                self.ended_by = 'left the route'
            elif self._off_run * self._dt > _MAX_OFF_ROAD_S:
                self.ended_by = 'off road'
            elif self._standing_s > _BLOCKED_S:
                self.ended_by = 'blocked'
            elif self._ticks * self._dt > self._limit_s:
                self.ended_by = 'timeout'

    def _collide(self, ego: vehicle.Bicycle, actors: Sequence[Actor]) -> None:
        footprint = vehicle.ego_rectangle(ego.pose)
        centre = footprint.mean(axis=0)
        for actor in actors:
            if np.hypot(actor.x_m - centre[0], actor.y_m - centre[1]) > 0.6 * actor.length_m + 3.5:
                continue
            other = vehicle.rectangle(actor.x_m, actor.y_m, actor.yaw_rad, actor.length_m, actor.width_m)
            if not vehicle.rectangles_overlap(footprint, other):
                continue
            kind = 'pedestrian' if actor.kind is SemanticClass.PEDESTRIAN else 'vehicle'
            self._collisions[kind] = self._collisions.get(kind, 0) + 1
            self.ended_by = f'collision with a {kind}'
            return

    def _off_road(self, outside: bool) -> None:
        if outside:
            self._off_ticks += 1
            self._off_run += 1
            # A wheel over the edge for a moment is no event; half a second is.
            if self._off_run == max(1, round(0.5 / self._dt)):
                self._off_events += 1
        else:
            self._off_run = 0

    def _signals(self, front_m: float, signals: Sequence[tuple[float, SignalState]]) -> None:
        last, self._last_front_m = self._last_front_m, front_m
        if last is None:
            return
        for k, (s_m, state) in enumerate(signals):
            if last < s_m + 0.3 <= front_m and state is SignalState.RED:
                self._red.add(k)

    def _comfort(self, ego: vehicle.Bicycle) -> None:
        jerk = (ego.acceleration_mps2 - self._last_acceleration) / self._dt
        self._last_acceleration = ego.acceleration_mps2
        lateral = ego.speed_mps * ego.yaw_rate_rps
        self._comfortable += bool(
            _MIN_LONGITUDINAL_MPS2 <= ego.acceleration_mps2 <= _MAX_LONGITUDINAL_MPS2
            and abs(lateral) <= _MAX_LATERAL_MPS2
            and abs(jerk) <= _MAX_JERK_MPS3
            and abs(ego.yaw_rate_rps) <= _MAX_YAW_RATE_RPS
        )

    def result(self, town: str, seed: int) -> RouteResult:
        """Return the verdict so far."""
        whole = max(self._path.length_m - 2.0 - self._start_m - vehicle.FRONT_M, 1.0)
        completion = float(np.clip((self._best_m - self._start_m) / whole, 0.0, 1.0))
        if self.ended_by == 'finished':
            completion = 1.0
        factor = 1.0
        for name, count in (*self._collisions.items(), ('off_road', self._off_events), ('red_light', len(self._red))):
            factor *= PENALTIES[name] ** count
        clean = not self._collisions and not self._off_events and not self._red
        return RouteResult(
            town, seed, self.ended_by == 'finished' and clean, completion, 100.0 * completion * factor,
            self._distance_m, self._ticks * self._dt, dict(self._collisions), self._off_events,
            self._off_ticks / max(self._ticks, 1), len(self._red), self.ended_by in ('timeout', 'blocked'),
            self._comfortable / max(self._ticks, 1), self.ended_by or 'running',
        )  # fmt: skip
