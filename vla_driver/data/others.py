# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The others around the ego at a tick of an episode, and where they went: labels of forecasts (version 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from vla_driver.data.episode import Episode
from vla_driver.data.tracks import has_tracks
from vla_driver.geometry import se2
from vla_driver.model.tokens import AgentLabels
from vla_driver.sim.world.scene import SemanticClass
from vla_driver.types import PLAN_DT_S, PLAN_STEPS

#: How many others a tick names at most, nearest first, and how far away they may be.
MAX_OTHERS: Final = 16
REACH_M: Final = 60.0

Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Others:
    """The others at one tick, nearest first, at most `MAX_OTHERS` (A), in base_link at the tick.

    actor [A]; kind [A]: values of SemanticClass; pose [A, 3]; speed_mps [A]; size_m [A, 2]; future [A, T, 3] and
    valid [A, T]: where they went, every 0.25 s; pixels [A]: in the camera that shows each largest.
    """

    actor: npt.NDArray[np.uint16]
    kind: npt.NDArray[np.uint8]
    pose: Float32Array
    speed_mps: Float32Array
    size_m: Float32Array
    future: Float32Array
    valid: npt.NDArray[np.bool_]
    pixels: Float32Array


class OtherTracks:
    """The tracks of one episode, by actor."""

    def __init__(self, episode: Episode) -> None:
        """Read them; the episode must have them (`data.tracks.has_tracks`)."""
        self._episode = episode
        self._stamp = np.asarray(episode['step_stamp'])
        offsets = np.asarray(episode['step_offsets'])
        step_of = np.repeat(np.arange(len(self._stamp)), np.diff(offsets))
        actor, state = np.asarray(episode['step_actor']), np.asarray(episode['step_state'])
        order = np.argsort(actor, kind='stable')
        names, first = np.unique(actor[order], return_index=True)
        # Of each actor: at which steps it was near, and its states there.
        self._tracks = {
            int(name): (step_of[rows], state[rows])
            for name, rows in zip(names, np.split(order, first)[1:], strict=True)  # what is before the first is empty
        }
        self._offsets, self._actor, self._state = offsets, actor, state
        self._kind = dict(zip(episode['body_actor'].tolist(), episode['body_kind'].tolist(), strict=True))
        self._size = dict(zip(episode['body_actor'].tolist(), episode['body_size'].tolist(), strict=True))

    def kind(self, actor: int) -> SemanticClass | None:
        """Return what an actor is; None for one that was never near."""
        kind = self._kind.get(actor)
        return None if kind is None else SemanticClass(kind)

    def step(self, tick: int) -> int:
        """Return the step of the simulator at which a tick was recorded."""
        return int(np.abs(self._stamp - self._episode['stamp'][tick]).argmin())

    def distance_m(self, tick: int, actor: int) -> float:
        """Return how far an actor's centre is from the ego at a tick; inf where it is not near."""
        step = self.step(tick)
        rows = slice(*self._offsets[step : step + 2].tolist())
        place = np.flatnonzero(self._actor[rows] == actor)
        if not len(place):
            return float('inf')
        x, y = self._state[rows][place[0], :2] - np.asarray(self._episode['pose'][tick][:2])
        return float(np.hypot(x, y))

    def seen(self, tick: int) -> dict[int, tuple[int, float]]:
        """Return actor -> (camera, pixels) of the camera that shows it largest: a place in CAMERA_NAMES."""
        rows = slice(*self._episode['seen_offsets'][tick : tick + 2].tolist())
        largest: dict[int, tuple[int, float]] = {}
        for actor, camera, pixels in zip(
            self._episode['seen_actor'][rows].tolist(),
            self._episode['seen_camera'][rows].tolist(),
            self._episode['seen_pixels'][rows].tolist(),
            strict=True,
        ):
            if pixels > largest.get(actor, (0, 0.0))[1]:
                largest[actor] = (camera, pixels)
        return largest

    def at(self, tick: int, count: int = MAX_OTHERS) -> Others:
        """Return the others at a tick, at most `count`."""
        step, ego = self.step(tick), np.asarray(self._episode['pose'][tick], np.float64)
        rows = slice(*self._offsets[step : step + 2].tolist())
        actors, states = self._actor[rows], self._state[rows]
        away = np.hypot(states[:, 0] - ego[0], states[:, 1] - ego[1])
        near = np.argsort(away, kind='stable')[:count]
        near = near[away[near] <= REACH_M]
        actors, states = actors[near], states[near]
        seen = self.seen(tick)
        times = self._stamp[step] + PLAN_DT_S * np.arange(1, PLAN_STEPS + 1)
        future = np.zeros((len(actors), PLAN_STEPS, 3), np.float32)
        valid = np.zeros((len(actors), PLAN_STEPS), bool)
        for k, actor in enumerate(actors.tolist()):
            future[k], valid[k] = self._future(actor, step, times, ego)
        return Others(
            actor=actors,
            kind=np.array([self._kind[a] for a in actors.tolist()], np.uint8),
            pose=_local(ego, states[:, :3]),
            speed_mps=states[:, 3],
            size_m=np.array([self._size[a] for a in actors.tolist()], np.float32).reshape(-1, 2),
            future=future,
            valid=valid,
            pixels=np.array([seen.get(a, (0, 0.0))[1] for a in actors.tolist()], np.float32),
        )

    def _future(
        self, actor: int, step: int, times: npt.NDArray[np.float64], ego: npt.NDArray[np.float64]
    ) -> tuple[Float32Array, npt.NDArray[np.bool_]]:
        """Return [T, 3] where an actor is at `times`, and whether that is known."""
        steps, states = self._tracks[actor]
        first = int(np.searchsorted(steps, step))
        # Who leaves the neighbourhood and comes back has a gap, over which nothing is known.
        run = first + int(np.argmax(np.append(np.diff(steps[first:]) > 1, True))) + 1
        stamps, states = self._stamp[steps[first:run]], states[first:run].astype(np.float64)
        yaw = np.unwrap(states[:, 2])
        there = np.stack([np.interp(times, stamps, column) for column in (states[:, 0], states[:, 1], yaw)], axis=-1)
        return _local(ego, there), times <= stamps[-1] + 1e-6


def _local(ego: npt.NDArray[np.float64], poses: npt.NDArray[Any]) -> Float32Array:
    """Return poses [..., 3] of the world as seen from the ego's."""
    x, y = poses[..., 0] - ego[0], poses[..., 1] - ego[1]
    cos, sin = np.cos(ego[2]), np.sin(ego[2])
    yaw = se2.wrap(poses[..., 2] - ego[2])
    return np.stack([cos * x + sin * y, -sin * x + cos * y, yaw], axis=-1).astype(np.float32)


def agent_labels(found: Sequence[Others | None]) -> AgentLabels | None:
    """Return the others of a batch's rows; None in a row: nobody recorded them there.  None where no row has any."""
    if all(others is None for others in found):
        return None
    rows, steps = len(found), PLAN_STEPS
    present, person = np.zeros((rows, MAX_OTHERS), bool), np.zeros((rows, MAX_OTHERS), bool)
    pose, size = np.zeros((rows, MAX_OTHERS, 3), np.float32), np.ones((rows, MAX_OTHERS, 2), np.float32)
    speed, pixels = np.zeros((rows, MAX_OTHERS), np.float32), np.zeros((rows, MAX_OTHERS), np.float32)
    future = np.zeros((rows, MAX_OTHERS, steps, 3), np.float32)
    valid = np.zeros((rows, MAX_OTHERS, steps), bool)
    known = np.array([others is not None for others in found])
    for row, others in enumerate(found):
        if others is None:
            continue
        n = len(others.actor)
        present[row, :n], person[row, :n] = True, others.kind == SemanticClass.PEDESTRIAN
        pose[row, :n], speed[row, :n], size[row, :n] = others.pose, others.speed_mps, others.size_m
        future[row, :n], valid[row, :n], pixels[row, :n] = others.future, others.valid, others.pixels
    return AgentLabels(
        *(torch.from_numpy(x) for x in (known, present, person, pose, speed, size, future, valid, pixels))
    )


def other_tracks(episode: Episode) -> OtherTracks | None:
    """Return the tracks of an episode; None where it has none (version 1)."""
    return OtherTracks(episode) if has_tracks(episode) else None
