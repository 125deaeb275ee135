# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Actors and traffic lights as instances: which body, where, how large, which colour, which label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely

from vla_driver.sim.render import actor_meshes
from vla_driver.sim.render.mesh import MeshArrays
from vla_driver.sim.render.road_surface import RoadSurface
from vla_driver.sim.render.town_mesh import CURB_HEIGHT_M
from vla_driver.sim.world.scene import Actor, SemanticClass, SignalHead
from vla_driver.types import FloatArray, InvalidInput

#: Per-instance attributes.  turn: cos yaw, sin yaw, swing angle, lit lamp.
INSTANCE = np.dtype(
    [('place', '<f4', 3), ('turn', '<f4', 4), ('scale', '<f4', 3), ('paint', '<f4', 3), ('label', '<u4', 2)]
)

#: Beyond this distance a body is drawn with fewer triangles.
DETAIL_REACH_M = 40.0
POLE_WIDTH_M = 0.16

#: Bodies in the order of their index; a coarse one follows its detailed twin.
_BODIES: tuple[tuple[str, MeshArrays], ...] = (
    ('sedan', actor_meshes.sedan()),
    ('sedan_far', actor_meshes.sedan(detailed=False)),
    ('hatchback', actor_meshes.hatchback()),
    ('hatchback_far', actor_meshes.hatchback(detailed=False)),
    ('van', actor_meshes.van()),
    ('van_far', actor_meshes.van(detailed=False)),
    ('truck', actor_meshes.truck()),
    ('truck_far', actor_meshes.truck(detailed=False)),
    ('bus', actor_meshes.bus()),
    ('bus_far', actor_meshes.bus(detailed=False)),
    ('bicycle', actor_meshes.bicycle()),
    ('pedestrian', actor_meshes.pedestrian()),
    ('signal', actor_meshes.signal_head()),
    ('post', actor_meshes.post()),
)
BODY_MESHES = tuple(mesh for _, mesh in _BODIES)
BODY_INDEX = {name: k for k, (name, _) in enumerate(_BODIES)}
_HAS_FAR = np.array([f'{name}_far' in BODY_INDEX for name, _ in _BODIES])

_CAR_PAINTS = np.array(
    [
        [0.86, 0.87, 0.88],
        [0.16, 0.16, 0.18],
        [0.55, 0.57, 0.60],
        [0.62, 0.10, 0.10],
        [0.13, 0.24, 0.50],
        [0.30, 0.34, 0.38],
        [0.72, 0.66, 0.54],
        [0.18, 0.36, 0.28],
        [0.80, 0.52, 0.14],
        [0.36, 0.56, 0.72],
    ]
)


@dataclass(frozen=True)
class Batch:
    """instances [N] of `INSTANCE`; bodies [N] index into `BODY_MESHES`; centres [N, 3], radii [N]; shadows [N] bool."""

    instances: npt.NDArray[np.void]
    bodies: npt.NDArray[np.intp]
    centres: FloatArray
    radii: FloatArray
    shadows: npt.NDArray[np.bool_]

    def bodies_at(self, chosen: npt.NDArray[np.intp], eye: FloatArray) -> npt.NDArray[np.intp]:
        """Return the bodies of the chosen instances, coarse ones where they are far from `eye`."""
        bodies = self.bodies[chosen]
        offset = self.centres[chosen] - eye
        far = np.einsum('ij,ij->i', offset, offset) > DETAIL_REACH_M**2
        return bodies + (far & _HAS_FAR[bodies])


class ActorBatcher:
    """Turns a tick's actors and signals into a `Batch`; remembers what stays the same (paint, poles)."""

    def __init__(self, surface: RoadSurface, seed: int) -> None:
        self._sidewalk, self._road = surface.sidewalk, surface.road
        shapely.prepare(self._sidewalk)
        shapely.prepare(self._road)
        self._seed = seed
        self._looks: dict[tuple[int, SemanticClass], tuple[int, FloatArray]] = {}
        self._poles: dict[tuple[float, float, float, float], npt.NDArray[np.void]] = {}

    def batch(self, actors: Sequence[Actor], signals: Sequence[SignalHead]) -> Batch:
        """Return the batch; raise `InvalidInput` for an actor id outside 1..65535 or a kind that has no body."""
        n = len(actors)
        instances = np.zeros(n, INSTANCE)
        bodies = np.zeros(n, np.intp)
        if n:
            table = np.array(
                [(a.x_m, a.y_m, a.yaw_rad, a.length_m, a.width_m, a.height_m, a.speed_mps, a.phase_rad) for a in actors]
            )
            if not np.isfinite(table).all():
                bad = actors[int(np.argwhere(~np.isfinite(table))[0, 0])]
                raise InvalidInput(f'actor {bad.actor_id}: a number is not finite: {bad}')
            if (table[:, 3:6] <= 0).any():
                bad = actors[int(np.argwhere(table[:, 3:6] <= 0)[0, 0])]
                raise InvalidInput(f'actor {bad.actor_id}: length_m, width_m and height_m must be positive: {bad}')
            on_foot = np.array([a.kind is SemanticClass.PEDESTRIAN for a in actors])
            raised = np.zeros(n, bool)
            raised[on_foot] = shapely.contains_xy(self._sidewalk, table[on_foot, :2])
            instances['place'][:, :2] = table[:, :2]
            instances['place'][:, 2] = np.where(raised, CURB_HEIGHT_M, 0.0)
            instances['turn'][:, 0], instances['turn'][:, 1] = np.cos(table[:, 2]), np.sin(table[:, 2])
            # Stride grows with speed: about 0.6 rad at a walking pace of 1.4 m/s.
            amplitude = np.clip(0.42 * np.abs(table[:, 6]), 0.0, 0.65)
            instances['turn'][:, 2] = amplitude * np.sin(table[:, 7])
            instances['scale'] = table[:, 3:6]
            for k, actor in enumerate(actors):
                bodies[k], instances['paint'][k] = self._look(actor)
                instances['label'][k] = actor.kind, actor.actor_id
        heads, head_bodies = self._signals(signals)
        everything = np.empty(n + len(heads), INSTANCE)
        everything[:n], everything[n:] = instances, heads
        scale = everything['scale'].astype(np.float64)
        scale[n:][head_bodies == BODY_INDEX['signal']] = 2.2
        centres = everything['place'].astype(np.float64)
        # Bodies stand on their place; a signal hangs around it.
        standing = np.concatenate([np.ones(n, bool), head_bodies == BODY_INDEX['post']])
        centres[:, 2] += np.where(standing, 0.5 * scale[:, 2], 0.0)
        radii = 0.55 * np.linalg.norm(scale, axis=1)
        all_bodies = np.concatenate([bodies, head_bodies])
        return Batch(everything, all_bodies, centres, radii, np.arange(len(everything)) < n)

    def _look(self, actor: Actor) -> tuple[int, FloatArray]:
        """Return the body and paint of an actor: the same in every tick of a run."""
        key = (actor.actor_id, actor.kind)
        if key in self._looks:
            return self._looks[key]
        if not 1 <= actor.actor_id <= 65535:
            raise InvalidInput(f'actor id {actor.actor_id}: instance labels have 16 bits, give an id in 1..65535')
        rng = np.random.default_rng((self._seed, 2, actor.actor_id))
        paint = rng.choice(_CAR_PAINTS) * rng.uniform(0.85, 1.1)
        if actor.kind is SemanticClass.CAR:
            name = 'van' if actor.height_m > 1.75 else str(rng.choice(['sedan', 'sedan', 'hatchback']))
        elif actor.kind is SemanticClass.TRUCK:
            name = str(rng.choice(['truck', 'bus'])) if actor.length_m < 10 else 'bus'
        elif actor.kind is SemanticClass.BICYCLE:
            name, paint = 'bicycle', rng.uniform(0.2, 0.95, 3)
        elif actor.kind is SemanticClass.PEDESTRIAN:
            name, paint = 'pedestrian', rng.uniform(0.15, 0.95, 3)
        else:
            raise InvalidInput(
                f'actor {actor.actor_id}: no body for {actor.kind!r}; give CAR, TRUCK, BICYCLE or PEDESTRIAN'
            )
        self._looks[key] = (BODY_INDEX[name], paint)
        return self._looks[key]

    def _signals(self, signals: Sequence[SignalHead]) -> tuple[npt.NDArray[np.void], npt.NDArray[np.intp]]:
        parts: list[bytes] = []
        bodies: list[int] = []
        for head in signals:
            key = (head.x_m, head.y_m, head.z_m, head.yaw_rad)
            if key not in self._poles:
                self._poles[key] = self._head_and_poles(head)
            instances = self._poles[key]
            instances['turn'][0, 3] = float(head.state)
            parts.append(instances.tobytes())
            bodies += [BODY_INDEX['signal']] + [BODY_INDEX['post']] * (len(instances) - 1)
        return np.frombuffer(b''.join(parts), INSTANCE), np.array(bodies, np.intp)

    def _head_and_poles(self, head: SignalHead) -> npt.NDArray[np.void]:
        """Return the head's instance, then its pole's; over a lane, a mast arm leads to the right-hand roadside."""
        cos, sin = np.cos(head.yaw_rad), np.sin(head.yaw_rad)
        behind = np.array([head.x_m, head.y_m]) - 0.35 * np.array([cos, sin])
        # The light shines against the traffic, so the driver's right is the light's left.
        right = np.array([-sin, cos])
        reach = self._reach(behind, right)
        instances = np.zeros(3 if reach > 0 else 2, INSTANCE)
        instances['turn'][:, 0], instances['turn'][:, 1] = cos, sin
        instances['label'][:] = SemanticClass.POLE, 0
        instances['label'][0] = SemanticClass.TRAFFIC_LIGHT, 0
        instances['place'][0] = head.x_m, head.y_m, head.z_m
        instances['scale'][0] = 1.0
        height = head.z_m + 0.5 * actor_meshes.HEAD_HEIGHT_M
        instances['place'][1] = *(behind + reach * right), 0.0
        instances['scale'][1] = POLE_WIDTH_M, POLE_WIDTH_M, height
        if reach > 0:
            instances['place'][2] = *(behind + 0.5 * reach * right), height - 0.25
            instances['scale'][2] = 0.8 * POLE_WIDTH_M, reach + POLE_WIDTH_M, 0.8 * POLE_WIDTH_M
        return instances

    def _reach(self, start: FloatArray, direction: FloatArray) -> float:
        """Return how far from `start` the road ends along `direction`: 0 off the road, at most 25 m."""
        steps = np.arange(0.0, 25.0, 0.25)
        on_road = shapely.contains_xy(self._road, start + steps[:, None] * direction)
        if not on_road[0]:
            return 0.0
        off = np.flatnonzero(~on_road)
        return float(steps[off[0]] + 0.4) if len(off) else 25.0
