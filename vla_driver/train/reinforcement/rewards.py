# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""How good plans are: NAVSIM's score of a plan rolled forward among recorded others.

    reward = no collision * on the road * no red line * (5 time to collision + 2 comfort + 5 progress) / 12

after Dauner et al., "NAVSIM" (arXiv 2406.15349), whose factors are the first two; the red line is from its second
version (traffic light compliance).  The first 4 s of a plan are judged, as in NAVSIM: the last second is never driven,
and whoever answers for it slows down rather than steer better.  Unlike there, every 0.25 s instead of every 0.1 s; the
plan is what is driven, no controller follows it; progress is measured against the expert's plan, and more than that is
not better, for what the fastest safe plan does may be too fast for the street.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import numpy.typing as npt
import shapely

from vla_driver.geometry import se2
from vla_driver.sim.world import vehicle
from vla_driver.train.reinforcement.comfort import comfortable
from vla_driver.train.reinforcement.scene import Array, Plans, SceneState, ego_centres
from vla_driver.types import PLAN_DT_S

Bools = npt.NDArray[np.bool_]

#: So many steps of a plan are judged: 4 s.
HORIZON: Final = 16
#: Slower than this the ego stands.
STANDING_MPS: Final = 0.1
#: Less way than this is no yardstick: who stands may wait as well as creep (NAVSIM's threshold).
LEAST_WAY_M: Final = 5.0
#: Within these angles from the heading somebody is ahead, or behind (nuPlan's is_agent_ahead, is_agent_behind).
_AHEAD_RAD, _BEHIND_RAD = np.deg2rad(30.0), np.deg2rad(150.0)
#: So many steps ahead are looked at for the time to collision: 0.25, 0.5 and 0.75 s; NAVSIM looks up to 0.9 s.
_TTC_STEPS: Final = 3
#: A wheel over the edge for a moment is no fault, at two times in a row it is (`sim.scoring` has half a second).
_OFF_STEPS: Final = 2
#: Who begins beside the road must be back within so many steps.
_RETURN_STEPS: Final = 8
#: As `sim.scoring` has it: so far behind the line it counts as crossed.
_LINE_M: Final = 0.3


@dataclass(frozen=True)
class Scores:
    """Of G plans, each [G] from 0 to 1: the reward and what it is made of."""

    reward: Array
    no_collision: Array
    on_road: Array
    no_red: Array
    time_to_collision: Array
    comfort: Array
    progress: Array

    def rows(self, first: int, last: int) -> Scores:
        """Return the scores of plans `first` to `last`."""
        return Scores(*(getattr(self, name)[first:last] for name in NAMES))


#: The figures, in their order.
NAMES: Final = tuple(field.name for field in fields(Scores))


def judge(scene: SceneState, plans: Plans) -> Scores:
    """Return the scores of plans; the expert's plan is judged beside them, as the yardstick of progress."""
    every = plans.joined(scene.expert).until(HORIZON)
    centres = ego_centres(every)
    arcs = _arcs(scene, every.positions_m)
    no_collision, touching = _collisions(scene, every, centres)
    factors = [no_collision, _on_road(scene, every, centres), _no_red(scene, arcs)]
    passed = factors[0] & factors[1] & factors[2]
    ttc = _time_to_collision(scene, every, centres, touching)
    comfort = comfortable(every, scene.speed_mps)
    progress = _progress(np.maximum(arcs[:, -1] - arcs[:, 0], 0.0), passed)
    reward = passed * (5.0 * ttc + 2.0 * comfort + 5.0 * progress) / 12.0
    scores = Scores(
        reward=reward,
        no_collision=factors[0].astype(np.float64),
        on_road=factors[1].astype(np.float64),
        no_red=factors[2].astype(np.float64),
        time_to_collision=ttc.astype(np.float64),
        comfort=comfort.astype(np.float64),
        progress=progress,
    )
    return scores.rows(0, len(plans))


def overlap(centre: Array, yaw: Array, size: Array, centre2: Array, yaw2: Array, size2: Array) -> Bools:
    """Whether N pairs of boxes overlap: centres [N, 2], yaws [N], sizes [N, 2] length, width.

    By separating axes: on each side's direction the distance is less than half of both shadows (S. Gottschalk et al.,
    "OBBTree", SIGGRAPH 1996, in the plane).
    """
    away = centre2 - centre
    met = np.ones(len(away), bool)
    turn = yaw2 - yaw
    cos, sin = np.abs(np.cos(turn)), np.abs(np.sin(turn))
    for angle, own, other in ((yaw, size, size2), (yaw2, size2, size)):
        along = np.abs(away[:, 0] * np.cos(angle) + away[:, 1] * np.sin(angle))
        across = np.abs(-away[:, 0] * np.sin(angle) + away[:, 1] * np.cos(angle))
        met &= 2 * along <= own[:, 0] + other[:, 0] * cos + other[:, 1] * sin
        met &= 2 * across <= own[:, 1] + other[:, 0] * sin + other[:, 1] * cos
    return met


def _meets(scene: SceneState, centres: Array, yaw: Array, others: Array) -> Bools:
    """Whether boxes of the ego, centres [G, K, 2] and yaw [G, K], meet others [A, K, 3]: [G, A, K]."""
    ego = np.array([vehicle.LENGTH_M, vehicle.WIDTH_M])
    reach = 0.5 * (np.hypot(*ego) + np.hypot(scene.sizes[:, 0], scene.sizes[:, 1]))
    away_x, away_y = (centres[:, None, :, axis] - others[None, :, :, axis] for axis in (0, 1))
    near = away_x**2 + away_y**2 <= (reach**2)[None, :, None]
    g, a, k = np.nonzero(near)
    there = others[a, k]
    near[g, a, k] = overlap(
        centres[g, k], yaw[g, k], np.broadcast_to(ego, (len(g), 2)), there[:, :2], there[:, 2], scene.sizes[a]
    )
    return near


def _bearing(centres: Array, yaw: Array, others: Array) -> Array:
    """Return the angles [N], 0 to pi, at which others [N, 3] are seen from centres [N, 2], off the headings [N]."""
    away = others[:, :2] - centres
    return np.abs(se2.wrap(np.arctan2(away[:, 1], away[:, 0]) - yaw))


def _touching(scene: SceneState) -> Bools:
    """Whether each of the others [A] touches the ego already: no plan can help that, and none is blamed."""
    now = np.array([[[vehicle.CENTRE_M, 0.0]]])
    return _meets(scene, now, np.zeros((1, 1)), scene.others[:, :1])[0, :, 0]


def _collisions(scene: SceneState, plans: Plans, centres: Array) -> tuple[Bools, Bools]:
    """Return whether plans [G] meet nobody by their own fault, and whom they need not mind at all [A].

    Judged where a plan first meets somebody: who stands, and who is hit from behind, is not at fault.
    """
    touching = _touching(scene)
    others = scene.others[:, 1 : plans.yaw_rad.shape[1] + 1]
    met = _meets(scene, centres, plans.yaw_rad, others)
    first = met.argmax(axis=2)  # [G, A]
    stands = np.take_along_axis(plans.speed_mps, first, axis=1) < STANDING_MPS
    fault = met.any(axis=2) & ~stands & ~touching
    g, a = np.nonzero(fault)
    k = first[g, a]
    fault[g, a] = _bearing(centres[g, k], plans.yaw_rad[g, k], others[a, k]) < _BEHIND_RAD
    return np.asarray(~fault.any(axis=1)), touching


def _time_to_collision(scene: SceneState, plans: Plans, centres: Array, touching: Bools) -> Bools:
    """Whether plans [G], held straight on at their speed from any time, meet nobody ahead within 0.75 s."""
    heading = np.stack([np.cos(plans.yaw_rad), np.sin(plans.yaw_rad)], axis=-1)
    fine = np.ones(len(plans), bool)
    moves = plans.speed_mps > STANDING_MPS
    for ahead in range(1, _TTC_STEPS + 1):
        others = scene.others[:, 1 + ahead : 1 + ahead + plans.yaw_rad.shape[1]]
        moved = centres + (PLAN_DT_S * ahead) * plans.speed_mps[..., None] * heading
        met = _meets(scene, moved, plans.yaw_rad, others) & moves[:, None] & ~touching[None, :, None]
        g, a, k = np.nonzero(met)
        seen = _bearing(centres[g, k], plans.yaw_rad[g, k], others[a, k])
        fine[g[seen < _AHEAD_RAD]] = False
    return fine


def _on_road(scene: SceneState, plans: Plans, centres: Array) -> Bools:
    """Whether the footprints of plans [G] stay on the drivable area; who begins beside it has 2 s to come back."""
    half = 0.5 * np.array([vehicle.LENGTH_M, vehicle.WIDTH_M])
    cos, sin = np.cos(plans.yaw_rad)[..., None], np.sin(plans.yaw_rad)[..., None]
    x, y = half[0] * np.array([1.0, 1.0, -1.0, -1.0]), half[1] * np.array([1.0, -1.0, -1.0, 1.0])
    corners = centres[..., None, :] + np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)
    inside = _within(scene, corners).all(axis=-1)
    begun = vehicle.ego_rectangle(np.zeros(3))
    entered = np.logical_or.accumulate(inside, axis=1) | bool(_within(scene, begun).all())
    entered[:, _RETURN_STEPS:] = True
    off = ~inside & entered
    run = off[:, _OFF_STEPS - 1 :].copy()
    for shift in range(1, _OFF_STEPS):
        run &= off[:, _OFF_STEPS - 1 - shift : off.shape[1] - shift]
    return np.asarray(~run.any(axis=1))


def _within(scene: SceneState, points: Array) -> Bools:
    world = se2.points_to_global(scene.pose, points)
    return np.asarray(shapely.contains_xy(scene.area, world[..., 0], world[..., 1]))


def _arcs(scene: SceneState, positions_m: Array) -> Array:
    """Return the arc lengths of the rear axle, now and along plans [G, T, 2], on the route: [G, T + 1]."""
    # |p - r|^2 less |p|^2, which is the same for all points of the route.
    away = (scene.route**2).sum(axis=-1) - 2.0 * (positions_m @ scene.route.T)
    nearest = away.argmin(axis=-1).clip(max=len(scene.route) - 2)
    direction = scene.route[nearest + 1] - scene.route[nearest]
    length = np.hypot(direction[..., 0], direction[..., 1]).clip(min=1e-6)
    beyond = ((positions_m - scene.route[nearest]) * direction).sum(axis=-1) / length
    arcs = scene.route_m[nearest] + beyond
    return np.concatenate([np.full((len(arcs), 1), scene.progress_m), arcs], axis=1)


def _no_red(scene: SceneState, arcs: Array) -> Bools:
    """Whether the front bumpers of plans, rear axles at `arcs` [G, K + 1], cross no line while it shows red."""
    front = arcs + vehicle.FRONT_M
    line = scene.stop_m[1 : arcs.shape[1]] + _LINE_M
    return np.asarray(~((front[:, :-1] < line) & (front[:, 1:] >= line)).any(axis=1))


def _progress(way_m: Array, passed: Bools) -> Array:
    """Return progress [G] of plans, the expert's the last one: their way as a share of his, at most 1.

    Where his plan fails a factor, the longest way of those that pass takes its place.
    """
    wanted = way_m[-1] if passed[-1] else (way_m * passed).max()
    if wanted <= LEAST_WAY_M:
        return np.ones(len(way_m))
    return np.asarray(np.minimum(way_m / wanted, 1.0))
