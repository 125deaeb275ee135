# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Say what the driver finds in a bag: cameras used, missing and unused, odometry, route, calibration, rig.

Nothing is decoded and no node is started. The exit status is 0 when the bag can be replayed; otherwise the error says
what is missing, and how to name it. replay.launch.py asks this command, so that it finds what `vla_driver replay` does.

  vla_driver inspect my_bag
  vla_driver inspect my_bag --rig nuscenes --topics my_topics.yaml --json found.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vla_driver.bag.inventory import inventory, inventory_lines
from vla_driver.bag.matching import Matching
from vla_driver.bag.read import BagReader
from vla_driver.bag.topics import ARGUMENTS, OPTIONS
from vla_driver.bag.wiring import wire
from vla_driver.commands.common import (
    add_bag_arguments,
    add_json_argument,
    add_missing_cameras,
    bag_rig,
    bag_topics,
    write_json,
)
from vla_driver.geometry.rig import rig_to_yaml


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument('bag', type=Path, metavar='BAG', help='a rosbag2 folder, .mcap, .db3 or ROS 1 .bag file')
    add_bag_arguments(parser)
    add_missing_cameras(parser)
    parser.add_argument(
        '--for-launch', action='store_true', help='hints name the arguments of `ros2 launch` instead of options'
    )
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    naming = ARGUMENTS if args.for_launch else OPTIONS
    what = 'missing_cameras' if args.for_launch else '--missing-cameras'
    matching = Matching(tuple(args.missing_cameras or ()), what=what)
    reader = BagReader(args.bag, topics=bag_topics(args), rig=bag_rig(args), rectified=args.rectified, naming=naming)
    with reader as bag:
        inputs = bag.inputs()
        print(f'{args.bag}: {bag.duration_s:.1f} s')
        policies = matching.policies((*inputs.cameras, *inputs.missing))
        for line in inventory_lines(inventory(inputs, policies), naming):
            print(f'  {line}')
        wiring = wire(bag, matching)
        print(f'  rig: {wiring.rig.name}, {"given" if args.rig is not None else "of the bag"}')
        for camera, used in bag.calibration.items():
            print(f'  {camera}: {used.describe()}' + ''.join(f'; WARNING: {warning}' for warning in used.warnings))
    found = {
        'bag': str(args.bag),
        'seconds': wiring.seconds,
        'inputs': dict(wiring.inputs),
        'rig': rig_to_yaml(wiring.rig),
        'planner': {'parameters': dict(wiring.parameters), 'remappings': dict(wiring.remappings)},
        'bag_player': {
            'parameters': {'include': list(wiring.read), 'wait_for_subscribers': list(wiring.needed)},
            'remappings': dict(wiring.moved),
        },
    }
    write_json(args.json, found)
    return 0
