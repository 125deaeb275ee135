# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""One closed-loop drive: SUMO traffic, the ego, six rendered cameras, the scorer and the expert, step by step."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from vla_driver.geometry import se2
from vla_driver.geometry.rig import load_rig
from vla_driver.observation.route import RouteTracker
from vla_driver.planning.control import ControlCommand
from vla_driver.sim.expert import CRUISE_MPS, ExpertAnswer, ExpertPolicy, WorldState, plan_ahead
from vla_driver.sim.expert_reasoner import ExpertReasoner
from vla_driver.sim.scoring import RouteResult, Scorer, drivable_area
from vla_driver.sim.world import vehicle
from vla_driver.sim.world.road import RoutePath, ego_progress, sample_route
from vla_driver.sim.world.scenario import Scenario
from vla_driver.sim.world.scene import Actor, Look, SignalState
from vla_driver.sim.world.towns import load_network, map_name
from vla_driver.sim.world.traffic import STEP_S, Traffic
from vla_driver.types import CameraFrame, CameraRig, EgoState, FloatArray, Image, Observation

if TYPE_CHECKING:
    from vla_driver.sim.render.renderer import CameraRender, Renderer

_START_M = 14.0
#: How far the way ahead is handed out, and how densely.
ROUTE_AHEAD_M, ROUTE_STEP_M = 100.0, 2.0


@lru_cache(maxsize=8)
def _area(path: Path) -> Any:
    return drivable_area(load_network(path))


class Simulation:
    """A drive that advances by `step_s` with every `step`.  Only one may be open in a process.

    render=False leaves the cameras out, until `start_rendering`: every one is then named in `Observation.missing`,
    which is all the expert and the blind controls need.  The odometry frame is the world frame.  Steps of
    another length make another drive of the same scenario: SUMO draws its drivers' moods at every one.
    """

    def __init__(
        self, scenario: Scenario, *, rig: CameraRig | None = None, render: bool = True, step_s: float = STEP_S
    ) -> None:
        self.scenario, self.step_s = scenario, step_s
        self.rig = rig or load_rig('sim')
        path = scenario.network_path
        self._network = load_network(path)
        rng = np.random.default_rng(scenario.seed)
        self.path: RoutePath = sample_route(self._network, rng, scenario.length_m)
        self.target_points_m: FloatArray = self.path.sparse_points(rng, _START_M)
        self._route = RouteTracker(self.target_points_m)
        start = self.path.at(_START_M)
        self._bicycle = vehicle.Bicycle(float(start[0]), float(start[1]), float(start[2]))
        self._bicycle.speed_mps = float(rng.uniform(0.0, min(7.0, self.path.limit_at(_START_M))))
        self._progress_m, self._deviation_m = _START_M, 0.0
        self._ticks = 0
        self._renderer: Renderer | None = None
        self._pictures: tuple[int, bool, dict[str, CameraRender]] | None = None
        self._traffic = Traffic(
            self._network, path, scenario.seed, scenario.density_per_km, scenario.people_per_km, scenario.routes, step_s
        )
        try:
            self._traffic.place_ego(self.path.edges, self._bicycle.pose)
            if render:
                self.start_rendering()
        except BaseException:
            self.close()
            raise
        # Twice the time an undisturbed drive takes, and two minutes for lights and queues.
        limit_s = 120.0 + 2.0 * self.path.length_m / (0.6 * CRUISE_MPS)
        #: The shapely area that vehicles may use.
        self.area: Any = _area(path)
        self._scorer = Scorer(self.area, self.path, _START_M, limit_s, step_s)
        self._refresh()

    def __enter__(self) -> Simulation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the drive and free SUMO and the renderer."""
        self._traffic.close()
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def start_rendering(self) -> None:
        """Draw pictures from now on: a policy that is made from this drive may turn out to look at them."""
        from vla_driver.sim.render.renderer import Renderer

        if self._renderer is None:
            self._renderer = Renderer(self._network, self.rig, Look.sample(self.scenario.seed))

    # ---- what is there now ----------------------------------------------------------------------

    @property
    def time_s(self) -> float:
        """Seconds since the start of the drive."""
        return self._ticks * self.step_s

    @property
    def done(self) -> bool:
        """Whether the drive has ended."""
        return bool(self._scorer.ended_by)

    @property
    def ego(self) -> EgoState:
        """The ego in the odometry frame."""
        b = self._bicycle
        return EgoState(self.time_s, b.x_m, b.y_m, b.yaw_rad, b.speed_mps, b.yaw_rate_rps, b.acceleration_mps2)

    def actors(self) -> list[Actor]:
        """The other road users near the ego."""
        return list(self._actors)

    def _signals(self) -> list[tuple[float, SignalState]]:
        return [(stop.s_m, self._traffic.signal(stop.light, stop.link)) for stop in self.path.stop_lines]

    def world_state(self) -> WorldState:
        """What the expert sees."""
        return WorldState(
            self._bicycle.pose, self._bicycle.speed_mps, self._progress_m, self.path, self._actors,
            self._traffic.travel_limits(), self._signals_now,
        )  # fmt: skip

    def expert(self) -> ExpertPolicy:
        """The privileged policy of this drive."""
        return ExpertPolicy(self.world_state)

    def expert_reasoner(self) -> ExpertReasoner:
        """The privileged slow half of this drive."""
        return ExpertReasoner(self.world_state)

    def expert_answer(self) -> ExpertAnswer:
        """The expert's plan with the labels it rests on."""
        return plan_ahead(self.world_state())

    def pictures(self, labels: bool = True) -> Mapping[str, CameraRender]:
        """The six pictures at this instant, drawn once; labels cost a third more."""
        if self._renderer is None:
            return {}
        if self._pictures is None or self._pictures[:2] < (self._ticks, labels):
            heads = self._traffic.heads(self._bicycle.pose[:2])
            drawn = self._renderer.render(self._bicycle.pose, self._actors, heads, labels)
            self._pictures = (self._ticks, labels, drawn)
        return self._pictures[2]

    @property
    def world(self) -> str:
        """The name of the town's map."""
        return map_name(self.scenario.network_path)

    @property
    def progress_m(self) -> float:
        """How far along the route's path the ego is."""
        return self._progress_m

    def turn_command(self) -> tuple[int, float]:
        """The navigation's command for the next junction and the distance to it."""
        command, distance = self.path.next_manoeuvre(self._progress_m)
        return int(command), distance

    def route_ahead(self, length_m: float = ROUTE_AHEAD_M) -> FloatArray:
        """Return the middle of the lane ahead [N, 2] in the odometry frame: what other simulators hand to a driver.

        Our own policies are never told it (`Navigation`).
        """
        end_m = min(self._progress_m + length_m, self.path.length_m)
        at_m = np.arange(self._progress_m, max(end_m, self._progress_m + 1.0) + 1e-6, ROUTE_STEP_M)
        return np.array([self.path.at(float(s))[:2] for s in at_m])

    def observe(self) -> Observation:
        """Return what a policy may see at this instant."""
        return self._observe({name: view.rgb for name, view in self.pictures(labels=False).items()})

    def observe_blind(self) -> Observation:
        """Return the observation without pictures (nothing is drawn): enough for the expert and blind controls."""
        return self._observe({})

    def _observe(self, images: Mapping[str, Image]) -> Observation:
        now, ego = self.time_s, self.ego
        frames = {name: CameraFrame(name, now, image) for name, image in images.items()}
        command, distance = self.path.next_manoeuvre(self._progress_m)
        navigation = self._route.navigation(ego, command, distance)
        missing = tuple(name for name in self.rig.names if name not in frames)
        return Observation(now, frames, self.rig, ego, navigation, missing)

    # ---- what happens next ----------------------------------------------------------------------

    def step(self, command: ControlCommand) -> None:
        """Drive `step_s` under one command."""
        self._bicycle.step(command.steering_rad, command.acceleration_mps2, self.step_s)
        self._traffic.step(self._bicycle.pose, self._bicycle.speed_mps)
        self._ticks += 1
        self._refresh()
        self._scorer.observe(self._bicycle, self._progress_m, self._deviation_m, self._actors, self._signals_now)

    def disturb(self, lateral_m: float = 0.0, yaw_rad: float = 0.0, speed_mps: float = 0.0) -> None:
        """Push the ego sideways, turn it and change its speed at once (to record recoveries)."""
        b = self._bicycle
        b.x_m -= lateral_m * float(np.sin(b.yaw_rad))
        b.y_m += lateral_m * float(np.cos(b.yaw_rad))
        b.yaw_rad = float(se2.wrap(b.yaw_rad + yaw_rad))
        b.speed_mps = max(0.0, b.speed_mps + speed_mps)
        self._pictures = None
        self._refresh()

    def _refresh(self) -> None:
        pose = self._bicycle.pose
        self._actors = self._traffic.actors(pose[:2])
        self._signals_now = self._signals()
        s, self._deviation_m, _ = ego_progress(self.path, pose, self._progress_m)
        self._progress_m = max(self._progress_m - 2.0, s)

    def result(self) -> RouteResult:
        """Return the verdict so far."""
        return self._scorer.result(self.scenario.town, self.scenario.seed)
