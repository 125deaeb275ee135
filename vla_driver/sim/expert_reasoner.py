# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The expert as the slow half: what it reacts to and what it does about it, from the state of the simulation.

An upper bound for a reasoner that has to look, and a slow half for checkpoints that have no words yet.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from vla_driver.geometry import se2
from vla_driver.geometry.projection import project
from vla_driver.planning.meta_action import meta_action, target_speed_mps
from vla_driver.sim.expert import Braking, Cause, WorldState, plan_ahead
from vla_driver.sim.world.scene import Actor, SemanticClass
from vla_driver.types import ANCHOR_CAMERA, CameraRig, HazardKind, InputNeeds, Intent, Observation

#: What the expert will react to within this many points of its plan (1.5 s) is what it reacts to (data/reasons.py).
_SOON: Final = 6
TTL_S: Final = 2.0


class ExpertReasoner:
    """A privileged `Reasoner`: it reads the simulation, never the pictures."""

    name = 'expert'

    def __init__(self, state: Callable[[], WorldState], ttl_s: float = TTL_S) -> None:
        self._state, self._ttl_s = state, ttl_s

    @property
    def needs(self) -> InputNeeds:
        """It looks at nothing."""
        return InputNeeds(cameras=())

    def reset(self) -> None:
        """The expert remembers nothing."""

    def reason(self, observation: Observation) -> Intent:
        """Return what the expert does at this instant of the simulation, and why."""
        state = self._state()
        answer = plan_ahead(state)
        planned = answer.trajectory.speed_mps
        action = meta_action(state.speed_mps, planned)
        why = next((one for one in answer.reactions[:_SOON] if one.cause is not Cause.NONE), Braking())
        hazard, camera, distance_m = HazardKind.NONE, '', math.nan
        if why.cause is Cause.SIGNAL:
            hazard, camera, distance_m = HazardKind.RED_LIGHT, ANCHOR_CAMERA, max(0.0, answer.red_light_m)
        elif why.cause is not Cause.NONE:
            actor = _named(state.actors, why.actor_id)
            hazard = _kind(why.cause, actor)
            if actor is not None:
                place = se2.relative(state.pose, actor.pose)
                camera, distance_m = showing(observation.rig, place), float(np.hypot(place[0], place[1]))
        target = target_speed_mps(planned)
        words = f'{hazard.value} {camera}: {action.value}' if hazard is not HazardKind.NONE else action.value
        pose, speed = observation.ego.pose, max(0.0, target)
        return Intent(observation.stamp_s, action, self._ttl_s, pose, speed, hazard, camera, distance_m, text=words)


def _named(actors: Sequence[Actor], number: int) -> Actor | None:
    return next((actor for actor in actors if actor.actor_id == number), None)


def _kind(cause: Cause, actor: Actor | None) -> HazardKind:
    if actor is not None and actor.kind is SemanticClass.PEDESTRIAN:
        return HazardKind.PERSON
    return HazardKind.VEHICLE_AHEAD if cause is Cause.LEAD else HazardKind.VEHICLE_CROSSING


def showing(rig: CameraRig, place: Sequence[float] | np.ndarray) -> str:
    """Return the camera that has a place (x, y in base_link) nearest to the middle of its picture; '' for none.

    What stands between is not looked at.
    """
    best, nearest = '', math.inf
    for camera in rig:
        pixels, _, visible = project(camera, np.array([[place[0], place[1], 1.0]]))
        off = abs(float(pixels[0, 0]) / camera.width - 0.5)
        if visible[0] and off < nearest:
            best, nearest = camera.name, off
    return best
