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
from typing import Final

from vla_driver.commands.common import add_json_argument, add_policy_arguments, provenance, write_json
from vla_driver.commands.pruning_arguments import add_pruning_arguments, pruning_json, pruning_settings
from vla_driver.commands.reasoner_arguments import add_reasoner_arguments, reasoner_checkpoint
from vla_driver.commands.replaying import ReplayRequest, exit_status, replay, report_replay
from vla_driver.model.checkpoint import PRUNER_FOLDER, inspect_checkpoint, resolve_checkpoint
from vla_driver.policies.registry import checkpoint_of, merged_adapter
from vla_driver.settings.nodes.bag_player import BagPlayerParameters
from vla_driver.settings.options import add_options
from vla_driver.settings.pruning import NO_PRUNER, PruningParameters

#: A checkpoint's own pruners, the one that drives best first: what they are called, and the folder of each.
_PRUNERS: Final = {'plan': 'plan', 'recon': PRUNER_FOLDER}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        '--out', type=Path, default=Path('out/demo'), metavar='DIR', help='folder of the results (default: out/demo)'
    )
    add_policy_arguments(parser)
    add_pruning_arguments(parser)
    add_reasoner_arguments(parser)
    parser.add_argument(
        '--all-parts',
        action='store_true',
        help='where the checkpoint has both words and a pruner, let its own words be heard and half of its tokens be '
        'pruned; any other is driven as without this. --reasoner, --reasoner-checkpoint and --pruner come first',
    )
    add_options(parser, BagPlayerParameters, 'bag', 'rate', instead={'bag': 'the sample that comes along'})
    parser.add_argument('--verbose', action='store_true', help="show the nodes' own output")
    add_json_argument(parser)


def private_domain() -> dict[str, str]:
    """Return an environment in which the nodes meet nobody else's, unless the user chose a domain.

    Domains 1 to 100 are free of port conflicts on every system (ROS 2 documentation, "About ROS_DOMAIN_ID").
    """
    domain = os.environ.get('ROS_DOMAIN_ID') or str(1 + os.getpid() % 100)
    return {'ROS_DOMAIN_ID': domain, 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}


def switch_parts_on(args: argparse.Namespace) -> list[str]:
    """Change the arguments so that words are said and tokens pruned, as `--all-parts` says; return what was added.

    Nothing is changed where the checkpoint lacks words that it can be told, or a pruner.  Raises InvalidInput for a
    checkpoint that is not there.
    """
    checkpoint = checkpoint_of(args.policy, args.model)
    if args.policy != 'model' or checkpoint is None:
        return []
    folder = resolve_checkpoint(checkpoint)
    config = inspect_checkpoint(folder).config
    pruner = next((name for name, place in _PRUNERS.items() if (folder / place).is_dir()), None)
    if not (config.get('intent') and (config.get('words_config') or {}).get('grammar') and pruner):
        return []
    added = []
    if not (args.reasoner or args.reasoner_checkpoint):
        args.reasoner = True
        added.append('--reasoner')
    if args.pruner == NO_PRUNER:
        args.pruner = pruner
        if args.prune_ratio is None and not args.prune_count:
            args.prune_ratio = PruningParameters.prune_ratio
        added.append(f'--pruner {pruner}')
    return added


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from vla_driver.bag.sample import sample_bag_path

    if args.all_parts and (added := switch_parts_on(args)):
        print(f'with all parts of the model: {" ".join(added)}')
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
