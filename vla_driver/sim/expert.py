# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The privileged expert: sees route, signals and road users as the simulation knows them, and plans 5 s ahead.

Speed: the Intelligent Driver Model (Treiber, Hennecke, Helbing, Phys. Rev. E 62, 2000).  Steering: pure pursuit
of the route.  The plan is a roll-out of both on the ego's own kinematics, so that any state, a perturbed one or
one that a learner drove into, has a label (DAgger, Ross et al. 2011).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vla_driver.geometry import se2, unicycle
from vla_driver.sim.hazards import Hazards, find_hazards
from vla_driver.sim.world import vehicle
from vla_driver.sim.world.road import RoutePath
from vla_driver.sim.world.scene import Actor, SemanticClass, SignalState
from vla_driver.types import (
    NO_ENGINE,
    NO_PICTURES,
    PLAN_DT_S,
    PLAN_STEPS,
    FloatArray,
    Intent,
    Observation,
    Plan,
    Trajectory,
)

_SUBSTEPS = 2
_ACCELERATION_MPS2 = 1.8
_BRAKING_MPS2 = 2.4
_HARDEST_MPS2 = 7.0
_HEADWAY_S = 1.2
_GAP_M = 2.5
CRUISE_MPS = 8.5
#: What takes less than this off the acceleration of a free road is nothing that is reacted to.
_REACTION_MPS2 = 0.4


class Cause(enum.IntEnum):
    """Why the expert brakes, as recorded beside the training data."""

    NONE = 0
    SIGNAL = 1
    LEAD = 2
    CROSSING = 3


@dataclass(frozen=True)
class WorldState:
    """What the expert sees at one instant (world frame)."""

    pose: FloatArray
    speed_mps: float
    progress_m: float
    path: RoutePath
    actors: Sequence[Actor]
    travel_limit_m: Mapping[int, float]
    signals: Sequence[tuple[float, SignalState]]


@dataclass(frozen=True)
class Braking:
    """What sets the expert's acceleration: why, by whom (an actor's id, 0: nobody), and how much it costs, m/s^2."""

    cause: Cause = Cause.NONE
    actor_id: int = 0
    cost_mps2: float = 0.0


@dataclass(frozen=True)
class ExpertAnswer:
    """The plan and what it rests on (labels for training).

    cause: of the acceleration now, however little it costs; reactions: one for each point of the plan, `Cause.NONE`
    where nothing costs as much as a driver would notice.
    """

    trajectory: Trajectory
    hazards: Hazards
    cause: Cause
    red_light_m: float
    reactions: tuple[Braking, ...]


def intelligent_driver(
    speed: float, wanted: float, gap: float, lead_speed: float, headway_s: float, gap0: float
) -> float:
    """Return the IDM acceleration; `gap` inf for a free road."""
    if speed <= wanted:
        free = _ACCELERATION_MPS2 * (1.0 - (speed / max(wanted, 0.1)) ** 4)
    else:
        free = -_BRAKING_MPS2 * min(1.0, (speed - wanted) / 1.0)
    if not np.isfinite(gap):
        return free
    closing = speed * (speed - lead_speed) / (2.0 * np.sqrt(_ACCELERATION_MPS2 * _BRAKING_MPS2))
    desired = gap0 + max(0.0, speed * headway_s + closing)
    return float(max(free - _ACCELERATION_MPS2 * (desired / max(gap, 0.2)) ** 2, -_HARDEST_MPS2))


def plan_ahead(state: WorldState) -> ExpertAnswer:
    """Roll the expert out over the plan's horizon from any state."""
    hazards = find_hazards(
        state.path, state.progress_m, state.speed_mps, state.actors, state.travel_limit_m, state.signals
    )
    dt = PLAN_DT_S / _SUBSTEPS
    pose, speed, s = state.pose.copy(), state.speed_mps, state.progress_m
    accelerations, curvatures = np.empty(PLAN_STEPS * _SUBSTEPS), np.empty(PLAN_STEPS * _SUBSTEPS)
    reactions: list[Braking] = []
    for k in range(len(accelerations)):
        acceleration, why = _acceleration(hazards, state.path, s, state.progress_m, speed, k * dt)
        if k % _SUBSTEPS == 0:
            reactions.append(why)
        curvature = _pursue(state.path, pose, s, speed)
        after = max(0.0, speed + acceleration * dt)
        distance = 0.5 * (speed + after) * dt
        middle = pose[2] + 0.5 * curvature * distance
        pose = pose + np.array([distance * np.cos(middle), distance * np.sin(middle), curvature * distance])
        accelerations[k], curvatures[k] = (after - speed) / dt, curvature
        speed = after
        if distance > 1e-4:
            s = max(s, state.path.project(pose[:2], near_m=s, window_m=6.0)[0])
    trajectory = unicycle.integrate(
        state.speed_mps,
        accelerations.reshape(-1, _SUBSTEPS).mean(axis=1),
        curvatures.reshape(-1, _SUBSTEPS).mean(axis=1),
    )
    red_light_m = hazards.stop_m - state.progress_m - vehicle.FRONT_M
    noticed = tuple(why if why.cost_mps2 >= _REACTION_MPS2 else Braking() for why in reactions)
    return ExpertAnswer(trajectory, hazards, reactions[0].cause, red_light_m, noticed)


def _acceleration(
    hazards: Hazards, path: RoutePath, s: float, start: float, speed: float, t: float
) -> tuple[float, Braking]:
    """Return the acceleration at arc length s, t seconds after the vehicle was at `start`, and what sets it."""
    front = s + vehicle.FRONT_M
    wanted = min(CRUISE_MPS, path.limit_at(s + 0.5 * speed))
    free = best = intelligent_driver(speed, wanted, np.inf, 0.0, _HEADWAY_S, _GAP_M)
    cause, actor = Cause.NONE, 0
    if np.isfinite(hazards.stop_m):
        value = intelligent_driver(speed, wanted, hazards.stop_m - front, 0.0, 0.4, 0.8)
        if value < best:
            best, cause = value, Cause.SIGNAL
    for lead in hazards.leads:
        gap = start + vehicle.FRONT_M + lead.gap_m + lead.speed_mps * t - front
        value = intelligent_driver(speed, wanted, gap, lead.speed_mps, _HEADWAY_S, _GAP_M)
        if value < best:
            best, actor = value, lead.actor_id
            cause = Cause.CROSSING if lead.kind is SemanticClass.PEDESTRIAN else Cause.LEAD
    for crossing in hazards.crossings:
        gap = crossing.s_m[0] - front
        begin, end = crossing.t_s[0] - t, crossing.t_s[1] - t
        if gap < -1.0 or end <= 0.0:
            continue
        arrive = max(0.0, gap) / max(speed, 1.0)
        leave = (crossing.s_m[1] - front + vehicle.LENGTH_M) / max(speed, 2.0)
        if arrive < end + 0.6 and leave > begin - 1.0:
            value = intelligent_driver(speed, wanted, gap, 0.0, 0.4, 2.0)
            if value < best:
                best, cause, actor = value, Cause.CROSSING, crossing.actor_id
    return best, Braking(cause, actor, free - best)


def _pursue(path: RoutePath, pose: FloatArray, s: float, speed: float) -> float:
    """Return the curvature towards the route ahead."""
    target = path.at(s + float(np.clip(0.75 * speed, 3.2, 8.0)))
    local = se2.points_to_local(pose, target[:2])
    curvature = 2.0 * local[1] / max(float(local @ local), 1.0)
    bound = np.tan(vehicle.MAX_STEERING_RAD) / vehicle.WHEELBASE_M
    return float(np.clip(curvature, -bound, bound))


class ExpertPolicy:
    """The expert behind the `Policy` seam; it reads the simulation, never the pictures."""

    name = 'expert'
    needs = NO_PICTURES
    engine = NO_ENGINE

    def __init__(self, state: Callable[[], WorldState]) -> None:
        self._state = state

    def reset(self) -> None:
        """The expert remembers nothing."""

    def plan(self, observation: Observation, intent: Intent | None = None) -> Plan:
        """Return the expert's plan for the simulation's present state, stamped as the observation."""
        return Plan(observation.stamp_s, plan_ahead(self._state()).trajectory, observation.ego, self.name)
