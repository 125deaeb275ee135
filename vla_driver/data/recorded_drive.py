# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The expert's drive through a scenario as a bag: what `vla_driver record` and `evaluate pruning` write."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vla_driver import __version__
from vla_driver.bag.write import BagWriter
from vla_driver.observation.ready import Observed
from vla_driver.planning.control import TrajectoryController
from vla_driver.planning.tick import Planner
from vla_driver.types import Navigation, Plan
from vla_driver.workers import run_isolated, share_cores

if TYPE_CHECKING:  # needs SUMO and GL
    from vla_driver.sim.scoring import RouteResult
    from vla_driver.sim.simulation import Simulation
    from vla_driver.sim.world.scenario import Scenario

#: Stamp of the first tick: zero would read as "no stamp" in ROS.
START_S: Final = 100.0


def record_drive(
    simulation: Simulation,
    out: Path,
    *,
    seconds: float,
    every: int = 1,
    quality: int = 90,
    semantic: bool = True,
    on_tick: Callable[[int], None] | None = None,
) -> tuple[RouteResult, int]:
    """Let the expert drive `seconds` at most and write the bag `out`; return the verdict and the number of ticks.

    every: pictures on every so many ticks of 0.1 s; odometry, agents and the expert's trajectory on all of them.
    on_tick: called with the ticks so far.  The same scenario gives the same bag.
    """
    from vla_driver.sim.scoring import road_boundary

    planner, controller = Planner(simulation.expert()), TrajectoryController()
    ticks = 0
    with BagWriter(out, simulation.rig, jpeg_quality=quality) as bag:
        bag.write_route(START_S, simulation.target_points_m)
        bag.write_road_boundary(START_S, road_boundary(simulation.area, simulation.path.points_m))
        while not simulation.done and simulation.time_s < seconds:
            # The expert replans on every tick: the recorded trajectory is the one it is driving.  It needs no
            # pictures, so those between two recorded ones are not drawn.
            observation = simulation.observe_blind()
            plan = planner.answer(Observed(observation)).plan
            assert plan is not None  # an observation has odometry, and the world waits
            _write_state(bag, simulation, plan)
            if ticks % every == 0:
                _write_pictures(bag, simulation, observation.navigation, semantic=semantic)
            simulation.step(controller.command(plan, simulation.ego, simulation.time_s))
            ticks += 1
            if on_tick is not None:
                on_tick(ticks)
    return simulation.result(), ticks


def record_scenario(scenario: Scenario, out: Path, *, seconds: float, every: int) -> Path:
    """Write the bag of a scenario into the folder `out`, whole or not at all; one that is there stays.

    For a process of its own: SUMO allows one simulation in each.
    """
    from vla_driver.sim.simulation import Simulation

    if out.exists():
        return out
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f'.{out.name}.{os.getpid()}')
    try:
        with Simulation(scenario) as simulation:
            record_drive(simulation, partial, seconds=seconds, every=every)
        partial.replace(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out


@dataclass(frozen=True)
class RecordingJob:
    """A scenario for one worker."""

    scenario: Any
    out: Path
    seconds: float
    every: int


def _run_job(job: RecordingJob) -> None:
    record_scenario(job.scenario, job.out, seconds=job.seconds, every=job.every)


def record_scenarios(
    scenarios: Sequence[Scenario],
    folder: Path,
    *,
    seconds: float,
    every: int,
    jobs: int,
    on_done: Callable[[], object] | None = None,
) -> list[Path]:
    """Return the bags of all scenarios in order, recording in `jobs` processes those that are not in `folder` yet.

    A bag's name says all that it depends on beside the version of the simulator.
    """
    bags = [
        folder / f'{Path(s.town).name}_{s.seed}_{s.length_m:g}m_{seconds:g}s_every{every}_v{__version__}'
        for s in scenarios
    ]
    todo = [RecordingJob(s, out, seconds, every) for s, out in zip(scenarios, bags, strict=True) if not out.exists()]
    for _ in range(len(bags) - len(todo)):
        if on_done is not None:
            on_done()
    for _ in run_isolated(_run_job, todo, jobs=jobs, environment=share_cores(jobs)):
        if on_done is not None:
            on_done()
    return bags


def _write_state(bag: BagWriter, simulation: Simulation, plan: Plan) -> None:
    stamp_s = START_S + simulation.time_s
    bag.write_odometry(dataclasses.replace(simulation.ego, stamp_s=stamp_s))
    bag.write_agents(stamp_s, simulation.actors())
    bag.write_expert(stamp_s, plan.trajectory)


def _write_pictures(bag: BagWriter, simulation: Simulation, navigation: Navigation, *, semantic: bool) -> None:
    stamp_s = START_S + simulation.time_s
    # A player sends in this order; what a planner needs beside the pictures must be there when they come.
    bag.write_turn_command(stamp_s, navigation.command, navigation.distance_m)
    for name, view in simulation.pictures(labels=semantic).items():
        bag.write_camera(name, stamp_s, view.rgb)
        if view.semantic is not None:
            bag.write_semantic(name, stamp_s, view.semantic)
