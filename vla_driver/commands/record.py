# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Let the privileged expert drive in the simulator and write what the car saw as a ROS 2 bag (mcap).

In the bag: six CompressedImage with their CameraInfo, /odom, /route, /turn_command and, under /ground_truth/, the other
agents, the expert's trajectory and semantic masks. `ros2 bag play` plays it, so does `vla_driver replay`.

  vla_driver record --out bags/val0 --split val --seconds 30
  vla_driver record --out bags/mine --town my.net.xml --routes my.rou.xml
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_driver.commands.common import add_json_argument, positive_float, progress, provenance, write_json
from vla_driver.commands.scenario import add_scenario_arguments, chosen_scenario
from vla_driver.evaluate.rollout import Tick, drive_route, ticks_per_plan
from vla_driver.types import InvalidInput

if TYPE_CHECKING:
    from vla_driver.bag.write import BagWriter
    from vla_driver.sim.simulation import Simulation

#: Stamp of the first tick: zero would read as "no stamp" in ROS.
START_S = 100.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_scenario_arguments(parser, 'val')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='folder of the bag; must not exist yet')
    parser.add_argument('--seconds', type=positive_float, default=30.0, help='length, at most the route (default: 30)')
    parser.add_argument(
        '--rate', type=positive_float, default=10.0, help='pictures per second: 10, 5, 2 or 1 (default: 10)'
    )
    parser.add_argument('--jpeg-quality', type=int, default=90, metavar='Q', help='1 to 100 (default: 90)')
    parser.add_argument('--no-semantic', action='store_true', help='leave the semantic masks out (smaller)')
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    every = ticks_per_plan(args.rate)
    if not 1 <= args.jpeg_quality <= 100:
        raise InvalidInput(f'--jpeg-quality {args.jpeg_quality}: expected 1 to 100')
    if args.out.exists():
        raise InvalidInput(f'{args.out} exists already; give another --out, or remove it')
    scenario = chosen_scenario(args)

    from vla_driver.bag.write import BagWriter
    from vla_driver.sim.simulation import Simulation

    ticks = 0
    with Simulation(scenario) as simulation:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        with (
            BagWriter(args.out, simulation.rig, jpeg_quality=args.jpeg_quality) as bag,
            progress(args.seconds, 's', str(args.out)) as bar,
        ):
            bag.write_route(START_S, simulation.target_points_m)

            def watch(tick: Tick) -> None:
                nonlocal ticks
                _write_tick(bag, simulation, tick, pictures=ticks % every == 0, semantic=not args.no_semantic)
                ticks += 1
                bar.update(min(0.1 * ticks, args.seconds) - bar.n)

            # The expert replans on every tick: the recorded trajectory is the one it is driving.
            result, _ = drive_route(
                simulation, simulation.expert(), plan_hz=10.0, max_seconds=args.seconds, on_tick=watch
            )
    size = sum(path.stat().st_size for path in args.out.rglob('*') if path.is_file())
    figures: dict[str, Any] = {
        'bag': str(args.out),
        'town': scenario.town,
        'seed': scenario.seed,
        'seconds': ticks / 10.0,
        'pictures_per_camera': -(-ticks // every),
        'megabytes': size / 1e6,
        'ended_by': result.ended_by,
        'distance_m': result.distance_m,
    }
    print(
        f'{args.out}: {figures["seconds"]:.1f} s in {scenario.town}, {figures["distance_m"]:.0f} m, '
        f'{figures["pictures_per_camera"]} pictures per camera, {figures["megabytes"]:.1f} MB'
    )
    write_json(args.json, {**figures, 'provenance': provenance()})
    return 0


def _write_tick(bag: BagWriter, simulation: Simulation, tick: Tick, *, pictures: bool, semantic: bool) -> None:
    stamp_s = START_S + tick.time_s
    bag.write_odometry(dataclasses.replace(simulation.ego, stamp_s=stamp_s))
    bag.write_agents(stamp_s, simulation.actors())
    bag.write_expert(stamp_s, tick.plan.trajectory)
    observation = tick.observation
    if not pictures or observation is None:
        return
    # A player sends in this order; what a planner needs beside the pictures must be there when they come.
    bag.write_turn_command(stamp_s, observation.navigation.command, observation.navigation.distance_m)
    for name, view in simulation.pictures().items():
        bag.write_camera(name, stamp_s, view.rgb)
        if semantic and view.semantic is not None:
            bag.write_semantic(name, stamp_s, view.semantic)
