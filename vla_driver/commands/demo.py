# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Replay the sample bag through the real nodes over DDS and write a report of what they planned.

Needs neither GPU nor OpenGL. Writes into --out: report.html (open it in a browser), drive.webp (animated),
plan.mcap (RViz, Foxglove) and metrics.json.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from vla_driver.commands.common import add_json_argument, add_policy_arguments, provenance, write_json
from vla_driver.commands.pruning_arguments import add_pruning_arguments, pruning_json, pruning_settings
from vla_driver.commands.reasoner_arguments import add_reasoner_arguments, reasoner_checkpoint
from vla_driver.commands.replaying import ReplayRequest, exit_status, replay, report_replay
from vla_driver.policies.registry import checkpoint_of, merged_adapter
from vla_driver.settings.bag_player import BagPlayerParameters
from vla_driver.settings.options import add_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        '--out', type=Path, default=Path('out/demo'), metavar='DIR', help='folder of the results (default: out/demo)'
    )
    add_policy_arguments(parser)
    add_pruning_arguments(parser)
    add_reasoner_arguments(parser)
    add_options(parser, BagPlayerParameters, 'bag', 'rate', instead={'bag': 'the sample that comes along'})
    parser.add_argument('--verbose', action='store_true', help="show the nodes' own output")
    add_json_argument(parser)


def private_domain() -> dict[str, str]:
    """Return an environment in which the nodes meet nobody else's, unless the user chose a domain.

    Domains 1 to 100 are free of port conflicts on every system (ROS 2 documentation, "About ROS_DOMAIN_ID").
    """
    domain = os.environ.get('ROS_DOMAIN_ID') or str(1 + os.getpid() % 100)
    return {'ROS_DOMAIN_ID': domain, 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from vla_driver.bag.sample import sample_bag_path

    request = ReplayRequest(
        bag=Path(args.bag) if args.bag is not None else sample_bag_path(),
        policy=args.policy,
        model=args.model,
        device=args.device,
        pruning=pruning_settings(args),
        reasoner=reasoner_checkpoint(args),
        rate=args.rate,
        exclude=('/ground_truth',),
        environment=private_domain(),
        log=print if args.verbose else None,
    )
    replayed = replay(request)
    metrics = report_replay(request, replayed, args.out, 'vla_driver: six cameras to a planned path')
    metrics |= {
        'policy': args.policy,
        'model': checkpoint_of(args.policy, args.model),
        'adapter': merged_adapter(checkpoint_of(args.policy, args.model)),
        'pruning': pruning_json(request.pruning),
        'reasoner': request.reasoner,
        'bag': request.bag.name,
        'provenance': provenance(),
    }
    write_json(args.out / 'metrics.json', metrics)
    write_json(args.json, metrics)
    return exit_status(replayed.recording)
