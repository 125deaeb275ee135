# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Drive one route in the simulator, in closed loop.

Without --ros the simulator waits for the policy, as in `evaluate closed-loop`, and the same scenario gives the same
drive; a reasoner then looks twice a second of simulated time and is heard 0.3 s later. With --ros the nodes simulator,
planner, controller and reasoner run as processes of their own and speak over DDS, with --carla on the topics and in the
manner of CARLA's ROS bridge, with --carla leaderboard by the sensors and the plan that CARLA's leaderboard gives.

  vla_driver drive --video out/drive.mp4
  vla_driver drive --town my.net.xml --routes my.rou.xml --policy expert
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vla_driver.commands.common import (
    add_json_argument,
    add_policy_arguments,
    positive_float,
    progress,
    provenance,
    write_json,
)
from vla_driver.commands.pruning_arguments import add_pruning_arguments, pruning_json, pruning_settings
from vla_driver.commands.reasoner_arguments import add_reasoner_arguments, reasoner_checkpoint
from vla_driver.commands.scenario import add_scenario_arguments, scenario_of
from vla_driver.policies.reasoners import load_reasoner
from vla_driver.policies.registry import SIMULATED_POLICY_NAMES, checkpoint_of, make_policy, merged_adapter
from vla_driver.settings.guarding import GUARDING, GuardingParameters
from vla_driver.settings.nodes.carla_bridge import WAYS
from vla_driver.settings.nodes.planner import PlannerParameters
from vla_driver.settings.nodes.simulator import SimulatorParameters
from vla_driver.settings.options import add_options
from vla_driver.settings.policy import PolicyParameters
from vla_driver.sim.rollout import PLAN_RATES, Tick, drive_route, step_for, ticks_per_plan
from vla_driver.sim.slow_half import SlowHalf
from vla_driver.types import EngineReport, InvalidInput

if TYPE_CHECKING:
    from vla_driver.show.film import FilmWriter
    from vla_driver.sim.simulation import Simulation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_policy_arguments(parser, SIMULATED_POLICY_NAMES)
    add_options(parser, PolicyParameters, 'engine', 'threads')
    add_options(parser, PlannerParameters, 'guidance')
    add_options(parser, GuardingParameters, *GUARDING)
    add_pruning_arguments(parser)
    add_reasoner_arguments(parser)
    add_scenario_arguments(parser, 'test')
    parser.add_argument('--plan-hz', type=positive_float, default=5.0, help=PLAN_RATES)
    add_options(parser, SimulatorParameters, 'max_seconds')
    parser.add_argument('--video', type=Path, metavar='FILE', help='film the drive (.mp4, .webp, .gif)')
    parser.add_argument('--ros', action='store_true', help='drive with the ROS 2 nodes, over DDS')
    parser.add_argument(
        '--carla',
        nargs='?',
        const=WAYS[0],
        choices=WAYS,
        help="with --ros: on the topics of CARLA's bridge, which is emulated; leaderboard: by its sensors and plan",
    )
    parser.add_argument('--verbose', action='store_true', help="with --ros: show the nodes' own output")
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    ticks_per_plan(args.plan_hz, step_for(args.plan_hz))
    if args.carla and not args.ros:
        raise InvalidInput("--carla emulates CARLA's ROS bridge: give --ros as well")
    checkpoint = checkpoint_of(args.policy, args.model)
    pruning, reasoner = pruning_settings(args), reasoner_checkpoint(args)
    if args.ros:
        from vla_driver.commands.drive_ros import drive_over_dds

        result = drive_over_dds(args)
    else:
        result = _drive(args, reasoner)
    print(
        f'{"success" if result["success"] else "no success"}: {result["ended_by"]}; route completion '
        f'{100 * result["route_completion"]:.0f} %, driving score {result["driving_score"]:.1f}, '
        f'{result["distance_m"]:.0f} m in {result["duration_s"]:.1f} s'
    )
    if result['engine']['engine']:
        print(f'computed by {EngineReport(**result["engine"]).describe()}')
    about = {
        'policy': args.policy,
        'model': checkpoint,
        'adapter': merged_adapter(checkpoint, args.policy),
        'pruning': pruning_json(pruning),
        'reasoner': reasoner,
    }
    write_json(args.json, {**about, **result, 'provenance': provenance()})
    return 0


def _drive(args: argparse.Namespace, reasoner: str | None) -> dict[str, Any]:
    from vla_driver.show.film import FilmWriter
    from vla_driver.sim.simulation import Simulation

    film = FilmWriter(args.video, args.plan_hz) if args.video is not None else None
    scenario = scenario_of(args)
    started = time.perf_counter()
    with Simulation(scenario, render=False, step_s=step_for(args.plan_hz)) as simulation:
        policy = make_policy(
            args.policy,
            args.model,
            expert=simulation.expert,
            pruning=pruning_settings(args),
            device=args.device,
            engine=args.engine,
            threads=args.threads,
            guidance=args.guidance,
            route=simulation.route_ahead,
            world=simulation.world,
        )
        slow = None if reasoner is None else SlowHalf(load_reasoner(reasoner, device=args.device))
        if policy.needs.pictures or film is not None or slow is not None:
            simulation.start_rendering()
        with progress(None, 'tick', f'{scenario.town} {scenario.seed}') as bar:

            def watch(tick: Tick) -> None:
                bar.update()
                bar.set_postfix_str(f'{tick.time_s:.0f} s, {simulation.ego.speed_mps:.1f} m/s', refresh=False)
                if film is not None and tick.observation is not None:
                    _film_tick(film, simulation, tick)

            try:
                result, statistics = drive_route(
                    simulation,
                    policy,
                    plan_hz=args.plan_hz,
                    max_seconds=args.max_seconds or math.inf,
                    on_tick=watch,
                    slow=slow,
                    guarding=GuardingParameters(**{name: getattr(args, name) for name in GUARDING}),
                )
            finally:
                policy.reset()  # whoever keeps something for this drive elsewhere lets it go
                if film is not None:
                    film.close()
    if film is not None:
        print(f'{film.path}: {film.count} pictures')
    return {
        **result.as_dict(),
        'plans': dict(statistics.plans),
        'refusals': dict(statistics.reasons),
        'ticks': statistics.ticks,
        'stages_ms': statistics.medians_ms(),
        'plan_ms': float(np.median(statistics.plan_ms)),
        'engine': asdict(policy.engine),
        'words': statistics.words() if slow is not None else None,
        'wall_s': time.perf_counter() - started,
    }


def _film_tick(film: FilmWriter, simulation: Simulation, tick: Tick) -> None:
    from vla_driver.geometry import se2
    from vla_driver.show.drawing import Scene
    from vla_driver.show.film import tick_picture
    from vla_driver.show.words import hazard_place, word_lines

    observation = tick.observation
    if observation is None:
        raise InvalidInput('film: this tick has no observation')
    boxes = np.array([[a.x_m, a.y_m, a.yaw_rad, a.length_m, a.width_m] for a in simulation.actors()])
    if len(boxes):
        boxes[:, :3] = se2.relative(observation.ego.pose, boxes[:, :3])
    navigation = observation.navigation
    lines = (
        f'{observation.ego.speed_mps:4.1f} m/s   {tick.plan.policy}'
        + (f': {tick.plan.source.value}' if tick.plan.reason else ''),
        f'{navigation.command.name.lower()} in {navigation.distance_m:.0f} m',
    )
    scene = Scene(
        agents=boxes.reshape(-1, 5),
        targets_m=navigation.target_points_m,
        hazards_m=hazard_place(tick.told, observation.rig),
        lines=(*word_lines(tick.told, tick.plan), *lines),
    )
    film.add(tick_picture(observation, tick.plan, scene))
