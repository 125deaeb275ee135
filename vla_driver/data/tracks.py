# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What happened around the ego during a drive, step by step: who was where, which signal said stop, what cameras saw.

Members that these add to an episode, from version 2 of the format on (S steps of the simulator, T ticks):
    step_stamp [S] s; step_ego [S, 4] x, y, yaw, speed of the ego; step_stop [S] arc length of the route's next line at
        which a signal showed red (inf: none)
    step_offsets [S + 1] int64; step_actor [M] uint16, step_state [M, 4] x, y, yaw, speed of the bodies' centres:
        step k holds entries step_offsets[k] to step_offsets[k + 1]
    body_actor [K] uint16; body_kind [K] uint8 (values of SemanticClass); body_size [K, 2] length, width
    route [R, 2] every metre, from arc length 0 on; route_limit [R] m/s; route_progress [T] arc length of the rear axle
    drivable uint8: well-known binary of the area that vehicles may use, within 40 m of the route
    seen_offsets [T + 1] int64; seen_actor uint16, seen_camera uint8 (places in types.CAMERA_NAMES), seen_pixels
        float32: how much of a body a camera shows, in pixels of the stored picture; light_pixels [T, C] float32: the
        same of all traffic lights together
    reaction_cause [T, 20] uint8 (values of sim.expert.Cause), reaction_actor [T, 20] uint16 (0: nobody): what the
        expert reacts to at each point of its plan
Places are in the world's frame, metres and radians.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import shapely

from vla_driver.data.episode import Episode, stored_size
from vla_driver.sim.expert import ExpertAnswer
from vla_driver.sim.render.renderer import CameraRender
from vla_driver.sim.simulation import Simulation
from vla_driver.sim.world import vehicle
from vla_driver.sim.world.scene import SemanticClass, SignalState
from vla_driver.types import CAMERA_NAMES, FloatArray

#: Bodies farther from the ego than this are left out, and so is drivable area farther from the route.
REACH_M: Final = 70.0
_AREA_M: Final = 40.0


class TrackRecorder:
    """Follows one drive: `step` at every step of the simulator, `tick` at every recorded tick, `members` at its end."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._stamps: list[float] = []
        self._ego: list[FloatArray] = []
        self._stops: list[float] = []
        self._states: list[npt.NDArray[np.float32]] = []
        self._actors: list[npt.NDArray[np.uint16]] = []
        self._bodies: dict[int, tuple[int, float, float]] = {}
        self._seen: list[tuple[npt.NDArray[Any], ...]] = []
        self._lights: list[npt.NDArray[np.float32]] = []
        self._progress: list[float] = []
        self._causes: list[list[int]] = []
        self._culprits: list[list[int]] = []

    def step(self) -> None:
        """Note where everybody is now."""
        ego = self._simulation.ego
        near = [a for a in self._simulation.actors() if np.hypot(a.x_m - ego.x_m, a.y_m - ego.y_m) <= REACH_M]
        self._stamps.append(ego.stamp_s)
        self._ego.append(np.array([ego.x_m, ego.y_m, ego.yaw_rad, ego.speed_mps]))
        self._stops.append(self._stop_line())
        self._actors.append(np.array([a.actor_id for a in near], np.uint16))
        states = np.array([[a.x_m, a.y_m, a.yaw_rad, a.speed_mps] for a in near], np.float32)
        self._states.append(states.reshape(-1, 4))
        for actor in near:
            self._bodies[actor.actor_id] = (int(actor.kind), actor.length_m, actor.width_m)

    def _stop_line(self) -> float:
        """Return the arc length of the next line ahead of the bumper whose signal is red; inf for none."""
        state = self._simulation.world_state()
        front_m = state.progress_m + vehicle.FRONT_M
        return min((s for s, shown in state.signals if s > front_m and shown is SignalState.RED), default=float('inf'))

    def tick(self, pictures: Mapping[str, CameraRender], answer: ExpertAnswer) -> None:
        """Note what the cameras show and what the expert reacts to."""
        actors, cameras, pixels = [], [], []
        lights = np.zeros(len(CAMERA_NAMES), np.float32)
        for index, name in enumerate(CAMERA_NAMES):
            view = pictures.get(name)
            if view is None or view.instance is None or view.semantic is None:
                continue
            width, height = stored_size(name)
            share = width * height / view.instance.size
            counts = np.bincount(view.instance.ravel())
            counts[:1] = 0
            there = np.flatnonzero(counts)
            actors.append(there.astype(np.uint16))
            cameras.append(np.full(len(there), index, np.uint8))
            pixels.append((counts[there] * share).astype(np.float32))
            lights[index] = share * float((view.semantic == SemanticClass.TRAFFIC_LIGHT).sum())
        self._seen.append(
            (
                np.concatenate([*actors, np.zeros(0, np.uint16)]),
                np.concatenate([*cameras, np.zeros(0, np.uint8)]),
                np.concatenate([*pixels, np.zeros(0, np.float32)]),
            )
        )
        self._lights.append(lights)
        self._progress.append(self._simulation.world_state().progress_m)
        self._causes.append([int(why.cause) for why in answer.reactions])
        self._culprits.append([why.actor_id for why in answer.reactions])

    def members(self) -> dict[str, npt.NDArray[Any]]:
        """Return what the drive adds to its episode."""
        path = self._simulation.path
        arcs = np.arange(0.0, path.length_m, 1.0)
        route = np.array([path.at(s)[:2] for s in arcs])
        area = shapely.intersection(self._simulation.area, shapely.LineString(route).buffer(_AREA_M))
        return {
            'step_stamp': np.array(self._stamps),
            'step_ego': np.array(self._ego),
            'step_stop': np.array(self._stops, np.float32),
            'step_offsets': np.cumsum([0, *(len(actors) for actors in self._actors)]),
            'step_actor': np.concatenate(self._actors),
            'step_state': np.concatenate(self._states),
            'body_actor': np.array(list(self._bodies), np.uint16),
            'body_kind': np.array([kind for kind, _, _ in self._bodies.values()], np.uint8),
            'body_size': np.array([size for _, *size in self._bodies.values()], np.float32).reshape(-1, 2),
            'route': route.astype(np.float32),
            'route_limit': np.array([path.limit_at(s) for s in arcs], np.float32),
            'route_progress': np.array(self._progress, np.float32),
            'drivable': np.frombuffer(shapely.to_wkb(area), np.uint8),
            'seen_offsets': np.cumsum([0, *(len(seen[0]) for seen in self._seen)]),
            'seen_actor': np.concatenate([seen[0] for seen in self._seen]),
            'seen_camera': np.concatenate([seen[1] for seen in self._seen]),
            'seen_pixels': np.concatenate([seen[2] for seen in self._seen]),
            'light_pixels': np.stack(self._lights),
            'reaction_cause': np.array(self._causes, np.uint8),
            'reaction_actor': np.array(self._culprits, np.uint16),
        }


def has_tracks(episode: Episode) -> bool:
    """Whether an episode says who was where (version 2)."""
    return 'step_stamp' in episode


#: Metres of the route before and behind a place in which its nearest point is looked for.
_REACH_M: Final = 6


def off_route_m(episode: Episode) -> npt.NDArray[np.float64]:
    """Return [T]: how far the rear axle is from the route's line, m, to either side; the episode must have tracks."""
    route, place = np.asarray(episode['route'], np.float64), np.asarray(episode['pose'], np.float64)[:, None, :2]
    near = np.rint(np.asarray(episode['route_progress'])).astype(int)[:, None] + np.arange(-_REACH_M, _REACH_M)
    start = route[near.clip(0, len(route) - 2)]
    way = route[near.clip(0, len(route) - 2) + 1] - start
    share = ((place - start) * way).sum(-1) / np.maximum((way * way).sum(-1), 1e-9)
    nearest = start + share.clip(0.0, 1.0)[..., None] * way
    return np.asarray(np.linalg.norm(place - nearest, axis=-1).min(axis=1))
