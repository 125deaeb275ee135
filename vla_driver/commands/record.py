# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Let the privileged expert drive in the simulator and write what the car saw as a ROS 2 bag (mcap).

In the bag: six CompressedImage with their CameraInfo, /odom, /route, /turn_command and, under /ground_truth/, the other
agents, the expert's trajectory, the road's boundary and semantic masks. `ros2 bag play` plays it, so does `vla_driver
replay`.

  vla_driver record --out bags/val0 --split val --seconds 30
  vla_driver record --out bags/mine --town my.net.xml --routes my.rou.xml
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vla_driver.commands.common import add_json_argument, positive_float, progress, provenance, write_json
from vla_driver.commands.scenario import add_scenario_arguments, scenario_of
from vla_driver.settings.nodes.simulator import SimulatorParameters
from vla_driver.settings.options import add_options
from vla_driver.sim.rollout import ticks_per_plan
from vla_driver.types import InvalidInput


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_scenario_arguments(parser, 'val')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='folder of the bag; must not exist yet')
    add_options(parser, SimulatorParameters, 'max_seconds', 'jpeg_quality', defaults={'max_seconds': 30.0})
    parser.add_argument(
        '--rate', type=positive_float, default=10.0, help='pictures per second: 10, 5, 2 or 1 (default: 10)'
    )
    parser.add_argument('--no-semantic', action='store_true', help='leave the semantic masks out (smaller)')
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    every = ticks_per_plan(args.rate)
    if args.out.exists():
        raise InvalidInput(f'{args.out} exists already; give another --out, or remove it')
    scenario = scenario_of(args)

    from vla_driver.data.recorded_drive import record_drive
    from vla_driver.sim.simulation import Simulation

    with Simulation(scenario) as simulation:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        with progress(args.max_seconds, 's', str(args.out)) as bar:
            result, ticks = record_drive(
                simulation,
                args.out,
                seconds=args.max_seconds,
                every=every,
                quality=args.jpeg_quality,
                semantic=not args.no_semantic,
                on_tick=lambda ticks: bar.update(min(0.1 * ticks, args.max_seconds) - bar.n),
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
