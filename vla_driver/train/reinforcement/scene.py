# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What is needed to judge a plan from one tick of a recorded drive: where everybody went, the road, the red line.

The others do not react: they go where they were recorded, whatever the plan does, as in NAVSIM (arXiv 2406.15349).
Where the recording of one ends, because it left the neighbourhood or the drive was over, it goes on straight ahead at
its last speed: dropped, it would leave room that it most likely did not leave.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import shapely

from vla_driver.data.episode import Episode
from vla_driver.data.others import Others, OtherTracks
from vla_driver.geometry import se2
from vla_driver.geometry.unicycle import integrate
from vla_driver.sim.world import vehicle
from vla_driver.types import PLAN_DT_S, PLAN_STEPS

Array = npt.NDArray[np.float64]

#: So many of the others are looked at, nearest first.
MAX_OTHERS: Final = 48
#: Of the route, so much behind and ahead of the ego is kept: farther than anybody drives in 5 s.
_BEHIND_M, _AHEAD_M = 15.0, 130.0


@dataclass(frozen=True)
class Plans:
    """G plans from one tick, in base_link there, at the end of each of T steps.

    positions_m [G, T, 2]; yaw_rad, speed_mps, curvature_per_m [G, T].
    """

    positions_m: Array
    yaw_rad: Array
    speed_mps: Array
    curvature_per_m: Array

    def __len__(self) -> int:
        return len(self.positions_m)

    def joined(self, others: Plans) -> Plans:
        """Return these plans and others behind them."""
        return Plans(
            *(np.concatenate([mine, theirs]) for mine, theirs in zip(_parts(self), _parts(others), strict=True))
        )

    def until(self, steps: int) -> Plans:
        """Return the first `steps` steps."""
        return Plans(*(part[:, :steps] for part in _parts(self)))


def _parts(plans: Plans) -> tuple[Array, Array, Array, Array]:
    return plans.positions_m, plans.yaw_rad, plans.speed_mps, plans.curvature_per_m


@dataclass(frozen=True)
class SceneState:
    """One tick, in base_link there; times are the tick's and the T of a plan, so that arrays begin with "now".

    pose [3] of base_link in the world; speed_mps; others [A, T + 1, 3]: poses of the centres; sizes [A, 2]: length and
    width; stop_m [T + 1]: arc length of the red line ahead (inf: none); route [R, 2] with its arc lengths route_m [R];
    progress_m: arc length of the rear axle; area: where vehicles may be, in the world, prepared; expert: one plan.
    """

    pose: Array
    speed_mps: float
    others: Array
    sizes: Array
    stop_m: Array
    route: Array
    route_m: Array
    progress_m: float
    area: Any
    expert: Plans


class SceneReader:
    """The scenes of one episode of version 2."""

    def __init__(self, episode: Episode) -> None:
        """Read what its ticks share; the episode must have tracks (`data.tracks.has_tracks`)."""
        self._episode, self._tracks = episode, OtherTracks(episode)
        self._area = shapely.from_wkb(np.asarray(episode['drivable']).tobytes())
        shapely.prepare(self._area)
        self._stamp = np.asarray(episode['step_stamp'], np.float64)
        self._stop = np.asarray(episode['step_stop'], np.float64)
        self._route = np.asarray(episode['route'], np.float64)

    def at(self, tick: int) -> SceneState:
        """Return the scene at a tick."""
        episode = self._episode
        pose, speed = np.asarray(episode['pose'][tick], np.float64), float(episode['speed'][tick])
        progress = float(episode['route_progress'][tick])
        first = max(0, min(int(progress - _BEHIND_M), len(self._route) - 2))
        last = max(first + 2, int(progress + _AHEAD_M))
        route = self._route[first:last]
        times = float(episode['stamp'][tick]) + PLAN_DT_S * np.arange(PLAN_STEPS + 1)
        # Of the step that has begun by then; after the drive, its last one.
        steps = np.clip(np.searchsorted(self._stamp, times + 1e-6) - 1, 0, len(self._stamp) - 1)
        others = self._tracks.at(tick, MAX_OTHERS)
        return SceneState(
            pose=pose,
            speed_mps=speed,
            others=_followed(others),
            sizes=others.size_m.astype(np.float64),
            stop_m=self._stop[steps],
            route=_seen_from(pose, route),
            route_m=first + np.arange(len(route), dtype=np.float64),
            progress_m=progress,
            area=self._area,
            expert=_expert(episode, tick, speed),
        )


def _followed(others: Others) -> Array:
    """Return the others' poses [A, T + 1, 3], now and later; behind the end of a recording at constant velocity."""
    poses = np.concatenate([others.pose[:, None], others.future], axis=1).astype(np.float64)
    known = others.valid.sum(axis=1)  # a recording has no gaps: from now until it ends
    for a in np.flatnonzero(known < PLAN_STEPS):
        last = poses[a, known[a]]
        speed = float(others.speed_mps[a])
        if known[a]:
            speed = float(np.hypot(*(last - poses[a, known[a] - 1])[:2])) / PLAN_DT_S
        way = speed * PLAN_DT_S * np.arange(1, PLAN_STEPS + 1 - known[a])
        poses[a, known[a] + 1 :, 0] = last[0] + way * np.cos(last[2])
        poses[a, known[a] + 1 :, 1] = last[1] + way * np.sin(last[2])
        poses[a, known[a] + 1 :, 2] = last[2]
    return poses


def _seen_from(pose: Array, points: Array) -> Array:
    """Return points [..., 2] of the world as seen from a pose [3]."""
    return np.asarray(se2.points_to_local(pose, points), np.float64)


def _expert(episode: Episode, tick: int, speed_mps: float) -> Plans:
    curvature = np.asarray(episode['expert_curvature'][tick], np.float64)
    driven = integrate(speed_mps, np.asarray(episode['expert_acceleration'][tick], np.float64), curvature)
    return Plans(driven.positions_m[None], driven.yaw_rad[None], driven.speed_mps[None], curvature[None])


def ego_centres(plans: Plans) -> Array:
    """Return the centres of the ego's footprint along plans [G, T, 2]."""
    heading = np.stack([np.cos(plans.yaw_rad), np.sin(plans.yaw_rad)], axis=-1)
    return plans.positions_m + vehicle.CENTRE_M * heading
