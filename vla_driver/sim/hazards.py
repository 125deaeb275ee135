# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What stands in the expert's way: leaders, crossing road users and signals, placed along its route.

Privileged: it reads the simulation's state.  Vehicles ahead in the ego's lane are predicted along the route;
everybody else straight on, but not past a red signal of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vla_driver.geometry import se2
from vla_driver.sim.world import vehicle
from vla_driver.sim.world.road import RoutePath
from vla_driver.sim.world.scene import Actor, SemanticClass, SignalState
from vla_driver.types import FloatArray

HORIZON_S = 4.0
_STEP_S = 0.25
_AHEAD_M = 60.0
_VEHICLE_MARGIN_M = 0.35
_PERSON_MARGIN_M = 0.7


@dataclass(frozen=True)
class Lead:
    """A body in the ego's lane: the gap from the ego's front bumper and its speed along the route."""

    gap_m: float
    speed_mps: float
    kind: SemanticClass
    actor_id: int


@dataclass(frozen=True)
class Crossing:
    """A body that will be on the route between s_m[0] and s_m[1] from t_s[0] to t_s[1]."""

    s_m: tuple[float, float]
    t_s: tuple[float, float]
    kind: SemanticClass
    actor_id: int


@dataclass(frozen=True)
class Hazards:
    """Everything the ego must not drive into, at one instant.  stop_m: where the front bumper must stop, or inf."""

    leads: tuple[Lead, ...]
    crossings: tuple[Crossing, ...]
    stop_m: float

    @property
    def nearest_lead(self) -> Lead | None:
        """The closest body in the lane."""
        return min(self.leads, key=lambda lead: lead.gap_m, default=None)


def find_hazards(
    path: RoutePath,
    progress_m: float,
    speed_mps: float,
    actors: Sequence[Actor],
    travel_limit_m: Mapping[int, float],
    signals: Sequence[tuple[float, SignalState]],
) -> Hazards:
    """Place actors and signals along the route.

    progress_m: arc length of the ego's rear axle; travel_limit_m: how far a vehicle may still go before a red
    signal of its own; signals: (arc length of the stop line, what it shows).
    """
    low = int(np.clip(np.searchsorted(path.s_m, progress_m - 8.0), 0, len(path.s_m) - 2))
    high = int(np.searchsorted(path.s_m, progress_m + _AHEAD_M + 10.0))
    window = slice(low, max(high, low + 2), 2)
    route, route_s, route_yaw = path.points_m[window], path.s_m[window], path.yaw_rad[window]
    front_m = progress_m + vehicle.FRONT_M
    leads: list[Lead] = []
    crossings: list[Crossing] = []
    times = np.arange(0.0, HORIZON_S + 1e-6, _STEP_S)
    for actor in actors:
        margin = _PERSON_MARGIN_M if actor.kind is SemanticClass.PEDESTRIAN else _VEHICLE_MARGIN_M
        reach = 0.5 * vehicle.WIDTH_M + margin
        outline = _outline(actor)
        now = _occupied(outline[None], route, route_s, route_yaw, reach)[0]
        near = int(np.argmin(((route - actor.pose[:2]) ** 2).sum(axis=1)))
        turn = abs(float(se2.wrap(actor.yaw_rad - route_yaw[near])))
        if np.isfinite(now[0]):
            if now[1] < front_m:
                continue  # beside or behind
            along = actor.speed_mps * float(np.cos(turn))
            if turn < 1.05 or actor.speed_mps < 0.3:
                leads.append(Lead(now[0] - front_m, max(0.0, along), actor.kind, actor.actor_id))
                continue
        if actor.speed_mps < 0.2:
            continue
        limit_s = HORIZON_S if turn < 2.1 else 1.5
        travel = np.minimum(actor.speed_mps * times[times <= limit_s], travel_limit_m.get(actor.actor_id, np.inf))
        direction = np.array([np.cos(actor.yaw_rad), np.sin(actor.yaw_rad)])
        if float(((route - actor.pose[:2]) ** 2).sum(axis=1).min()) > (travel[-1] + 6.0) ** 2:
            continue
        spans = _occupied(outline[None] + travel[:, None, None] * direction, route, route_s, route_yaw, reach)
        inside = np.isfinite(spans[:, 0]) & (spans[:, 1] > front_m - 1.0)
        if inside.any():
            when = times[: len(travel)][inside]
            crossings.append(
                Crossing(
                    (float(spans[inside, 0].min()), float(spans[inside, 1].max())),
                    (float(when[0]), float(when[-1]) + _STEP_S),
                    actor.kind,
                    actor.actor_id,
                )
            )
    return Hazards(tuple(leads), tuple(crossings), _stop(front_m, speed_mps, signals))


def _stop(front_m: float, speed_mps: float, signals: Sequence[tuple[float, SignalState]]) -> float:
    """Return where to stop for the next signal; amber counts when there is room to brake at 3 m/s^2."""
    for s_m, state in signals:
        distance = s_m - front_m
        if distance < -0.3 or distance > _AHEAD_M:
            continue
        if state is SignalState.RED:
            return s_m
        if state is SignalState.AMBER and distance > speed_mps**2 / (2.0 * 3.0):
            return s_m
    return float('inf')


def _outline(actor: Actor) -> FloatArray:
    """Return [8, 2] corners and side middles of an actor's box."""
    corners = vehicle.rectangle(actor.x_m, actor.y_m, actor.yaw_rad, actor.length_m, actor.width_m)
    return np.concatenate([corners, 0.5 * (corners + np.roll(corners, -1, axis=0))])


def _occupied(
    points: FloatArray, route: FloatArray, route_s: FloatArray, route_yaw: FloatArray, reach_m: float
) -> FloatArray:
    """Return [T, 2] the stretch (s from, s to) of the route that outlines [T, 8, 2] lie on; inf where none."""
    delta = points[:, :, None, :] - route
    nearest = (delta**2).sum(axis=-1).argmin(axis=-1)
    offset = np.take_along_axis(delta, nearest[:, :, None, None], axis=2)[:, :, 0]
    cos, sin = np.cos(route_yaw[nearest]), np.sin(route_yaw[nearest])
    along = cos * offset[..., 0] + sin * offset[..., 1]
    across = -sin * offset[..., 0] + cos * offset[..., 1]
    inside = (np.abs(across) <= reach_m) & (np.abs(along) <= 1.5)
    s = route_s[nearest] + along
    first = np.where(inside, s, np.inf).min(axis=1)
    last = np.where(inside, s, -np.inf).max(axis=1)
    return np.stack([first, np.where(np.isfinite(first), last, np.inf)], axis=-1)
