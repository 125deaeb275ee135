# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Time the native model's tick (encode, prune, prefill, act, decode) without pruning and with, in one paired run.

One observation of a bag goes through the model again and again; every round runs each variant once, so that whatever
slows the machine slows all of them. The pruner's own time is part of the tick.

  vla_driver evaluate tick-time --pruners recon uniform --ratios 0.5 0.75 --rounds 300 --json tick.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vla_driver.commands.common import add_json_argument, positive_int, progress, provenance, write_json
from vla_driver.policies.pruning_settings import PruningSettings
from vla_driver.settings.options import add_options
from vla_driver.settings.policy import PolicyParameters
from vla_driver.types import InvalidInput


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_options(parser, PolicyParameters, 'model', 'threads')
    parser.add_argument(
        '--pruners', nargs='+', default=['recon'], metavar='NAME', help='which pruners are timed (default: recon)'
    )
    parser.add_argument(
        '--ratios',
        nargs='+',
        type=float,
        default=[0.5, 0.75],
        metavar='R',
        help='shares of the tokens that are pruned (default: 0.5 0.75)',
    )
    parser.add_argument('--rounds', type=positive_int, default=200, help='ticks of each variant (default: 200)')
    parser.add_argument(
        '--bag', type=Path, metavar='BAG', help='bag whose first pictures are seen (default: the sample bag)'
    )
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    import torch

    from vla_driver.bag.read import BagReader
    from vla_driver.bag.sample import sample_bag_path
    from vla_driver.evaluate.cost.tick_time import tick_times
    from vla_driver.policies.native import NativePolicy
    from vla_driver.policies.registry import make_policy, require_checkpoint

    model = require_checkpoint('model', args.model)
    assert model is not None
    variants = [PruningSettings()]
    variants += [PruningSettings(pruner, ratio) for pruner in args.pruners for ratio in args.ratios]
    if args.threads:
        torch.set_num_threads(args.threads)
    policy = make_policy('model', model, engine='torch')
    if not isinstance(policy, NativePolicy):
        raise InvalidInput(
            f'{model} is no native checkpoint, which tick-time is for; evaluate efficiency times vision-language models'
        )
    path = args.bag if args.bag is not None else sample_bag_path()
    with BagReader(path) as bag:
        observation = next(iter(bag.observations()))
    with progress(args.rounds, 'round', f'{len(variants)} variants') as bar:
        rows = tick_times(policy.model, observation, variants, model, args.rounds, on_round=bar.update)
    print(
        f'{"pruner":<14}{"pruned":>7}{"tokens":>8}{"median":>10}{"p99":>10}{"pruner":>10}{"speed-up":>10}   faster by'
    )
    for row in rows:
        scoring = row['stages_ms'].get('pruner', {'p50': 0.0})['p50']
        low, high = row['faster_ms_ci']
        tokens = 'all' if row['tokens'] is None else str(row['tokens'])
        print(
            f'{Path(row["pruner"]).name:<14}{row["ratio"]:>7.0%}{tokens:>8}{row["tick_ms"]["p50"]:>7.1f} ms'
            f'{row["tick_ms"]["p99"]:>7.1f} ms{scoring:>7.2f} ms{row["speedup"]:>10.2f}   '
            f'{row["faster_ms"]:.1f} ms, 95 % CI [{low:.1f}, {high:.1f}]'
        )
    write_json(
        args.json,
        {
            'model': model,
            'bag': path.name,
            'rounds': args.rounds,
            'threads': torch.get_num_threads(),
            'rows': rows,
            'provenance': provenance(),
        },
    )
    return 0
