# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Replay a bag through the nodes over DDS: a player and the planner, each in its own process.

With --out, the plans are kept (plan.mcap) and shown (report.html, drive.webp). Topics keep their names, so RViz or
`ros2 topic echo` in the same ROS domain can watch; --loop plays until Ctrl-C. What an earlier run of these nodes
published (plans, controls, diagnostics) is left out; a recorded /path is a route only if named: --topic route=/path.

  vla_driver replay my_bag --out out/mine
  vla_driver replay my_bag --rig nuscenes --camera-topic front=/CAM_FRONT/image_rect_compressed --loop
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vla_driver.commands.common import (
    add_bag_arguments,
    add_json_argument,
    add_matching_arguments,
    add_policy_arguments,
    bag_rig,
    bag_topics,
    calibration_json,
    matching_of,
    provenance,
    write_json,
)
from vla_driver.commands.pruning_arguments import add_pruning_arguments, pruning_json, pruning_settings
from vla_driver.commands.reasoner_arguments import add_reasoner_arguments, reasoner_checkpoint
from vla_driver.commands.replaying import ReplayRequest, exit_status, replay, report_replay
from vla_driver.policies.registry import checkpoint_of, merged_adapter
from vla_driver.settings.nodes.bag_player import BagPlayerParameters
from vla_driver.settings.options import add_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument('bag', type=Path, metavar='BAG', help='a rosbag2 folder, .mcap, .db3 or ROS 1 .bag file')
    add_policy_arguments(parser)
    add_pruning_arguments(parser)
    add_reasoner_arguments(parser)
    add_options(parser, BagPlayerParameters, 'rate', 'loop')
    parser.add_argument(
        '--out', type=Path, metavar='DIR', help='write report.html, drive.webp, plan.mcap, metrics.json'
    )
    parser.add_argument('--verbose', action='store_true', help="show the nodes' own output")
    add_bag_arguments(parser)
    add_matching_arguments(parser)
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    request = ReplayRequest(
        bag=args.bag,
        policy=args.policy,
        model=args.model,
        device=args.device,
        pruning=pruning_settings(args),
        reasoner=reasoner_checkpoint(args),
        topics=bag_topics(args),
        rig=bag_rig(args),
        rectified=args.rectified,
        rate=args.rate,
        loop=args.loop,
        matching=matching_of(args),
        log=print if args.verbose else None,
    )
    replayed = replay(request)
    metrics = report_replay(request, replayed, args.out, f'Replay of {args.bag.name}')
    metrics |= {
        'policy': args.policy,
        'model': checkpoint_of(args.policy, args.model),
        'adapter': merged_adapter(checkpoint_of(args.policy, args.model)),
        'pruning': pruning_json(request.pruning),
        'reasoner': request.reasoner,
        'rate': args.rate,
        'calibration': calibration_json(replayed.wiring.calibration),
        'provenance': provenance(),
    }
    if args.out is not None:
        write_json(args.out / 'metrics.json', metrics)
    write_json(args.json, metrics)
    return exit_status(replayed.recording)
