# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Time the native model's tick: engines, precisions, threads, pruners and builds beside each other, in one run.

One observation of a bag goes through the model again and again.  Every combination is a process of its own; in every
round each of them makes one tick while the others wait, so that whatever slows the machine slows all of them.  Ratios
are medians of the ratios within a round, above 1 where it is faster.  A pruner's own time is part of the tick.

  vla_driver evaluate tick-time --engines torch onnx --threads 1 2 --precisions float32 bfloat16 --json tick.json
  vla_driver evaluate tick-time --pruners recon early:1-head --ratios 0.5 0.75 --rounds 300
  vla_driver evaluate tick-time --engines torch onnx --against ../before    # another checkout, with its own .venv
  vla_driver evaluate tick-time --engines onnx --other-model MY_CHECKPOINT
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vla_driver.commands.common import add_json_argument, positive_int, progress, provenance, write_json
from vla_driver.settings.options import add_options
from vla_driver.settings.policy import PolicyParameters
from vla_driver.statistics import bracketed
from vla_driver.types import InvalidInput


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_options(parser, PolicyParameters, 'model', 'device')
    parser.add_argument(
        '--engines',
        nargs='+',
        default=['torch', 'onnx'],
        metavar='NAME',
        help='torch, onnx (default: both); torch always is',
    )
    parser.add_argument(
        '--precisions',
        nargs='+',
        default=['auto'],
        metavar='NAME',
        help="float32, bfloat16 or both (default: auto, this machine's)",
    )
    parser.add_argument(
        '--threads',
        nargs='+',
        type=int,
        default=[0],
        metavar='N',
        help="threads of arithmetic, several to compare (default: 0, the engine's own choice)",
    )
    parser.add_argument(
        '--pruners',
        nargs='+',
        default=['none'],
        metavar='NAME',
        help='which pruners are timed; none always is (default: none)',
    )
    parser.add_argument(
        '--ratios',
        nargs='+',
        type=float,
        default=[0.75],
        metavar='R',
        help='shares of the tokens that are pruned (default: 0.75)',
    )
    parser.add_argument(
        '--forecasts',
        action='store_true',
        help='others are forecast at every tick, as while somebody listens (default: nobody asks)',
    )
    parser.add_argument(
        '--against', type=Path, metavar='DIR', help='another checkout of this package, whose torch is timed as well'
    )
    parser.add_argument(
        '--other-model', default='', metavar='CKPT', help='another checkpoint, timed in the same rounds and engines'
    )
    parser.add_argument('--rounds', type=positive_int, default=200, help='ticks of each combination (default: 200)')
    parser.add_argument(
        '--bag', type=Path, metavar='BAG', help='bag whose first pictures are seen (default: the sample bag)'
    )
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from vla_driver.bag.read import BagReader
    from vla_driver.bag.sample import sample_bag_path
    from vla_driver.evaluate.cost.tick_time import Bench, cases_of, commit_of, tick_times
    from vla_driver.model.checkpoint import QWEN_TYPES, checkpoint_kind, resolve_checkpoint
    from vla_driver.policies.registry import require_checkpoint
    from vla_driver.resources import resource
    from vla_driver.ros.base.openmp import wait_briefly

    model = require_checkpoint('model', args.model)
    assert model is not None
    if checkpoint_kind(resolve_checkpoint(model)) in QWEN_TYPES:
        raise InvalidInput(
            f'{model} is no native checkpoint, which tick-time is for; evaluate efficiency times vision-language models'
        )
    for count in args.threads:
        if not 0 <= count <= 256:
            raise InvalidInput(f'--threads {count}: expected 0 (the engine chooses) to 256')
    prunings = [(pruner, ratio) for pruner in args.pruners for ratio in args.ratios]
    against, other = args.against is not None, require_checkpoint('model', args.other_model or None)
    cases = cases_of(
        args.engines, args.precisions, args.threads, prunings, against=against, other=bool(args.other_model)
    )
    path = args.bag if args.bag is not None else sample_bag_path()
    with BagReader(path) as bag:
        observation = next(iter(bag.observations()))
    wait_briefly()  # as in the planner; the workers inherit it
    bench = Bench(model, observation, args.rounds, args.device, args.against, None, args.forecasts, other or '')
    with progress(args.rounds * len(cases), 'tick', f'{len(cases)} combinations') as bar:
        rows = tick_times(bench, cases, on_tick=bar.update, tell=lambda text: bar.write(f'note: {text}'))
    _print(rows)
    builds = {'this': commit_of(resource('vla_driver').parent)}
    if args.against is not None:
        builds['against'] = commit_of(args.against)
    write_json(
        args.json,
        {
            'model': model,
            'bag': path.name,
            'rounds': args.rounds,
            'forecasts': args.forecasts,
            'other_model': args.other_model,
            'builds': builds,
            'rows': rows,
            'provenance': provenance(),
        },
    )
    return 0


def _print(rows: Sequence[Mapping[str, Any]]) -> None:
    print(
        f'{"engine":<20}{"precision":<10}{"threads":>7}  {"pruner":<14}{"pruned":>6}{"tokens":>7}{"median":>10}'
        f'{"p99":>10}{"to torch":>10}{"to build":>10}{"unpruned":>10}{"to other":>10}{"start":>8}{"memory":>8}'
    )
    told: set[str] = set()
    for row in rows:
        other = ' (other)' if row['build'] == 'against' else ' (other model)' if row['other_model'] else ''
        engine = row['engine'] + other
        tokens = 'all' if row['tokens'] is None else str(row['tokens'])
        ratios = (row[f'ratio_to_{name}'] for name in ('torch', 'build', 'unpruned', 'other'))
        print(
            f'{engine:<20}{row["precision"]:<10}{row["threads"]:>7}  {Path(row["pruner"]).name:<14}'
            f'{row["prune_ratio"]:>6.0%}{tokens:>7}{row["median_ms"]:>7.1f} ms{row["p99_ms"]:>7.1f} ms'
            + ''.join(f'{"":>10}' if ratio is None else f'{"x" + format(ratio, ".2f"):>10}' for ratio in ratios)
            + f'{row["start_to_first_plan_s"]:>6.1f} s{row["resident_mb"]:>5.0f} MB'
        )
        note = f'asked for {row["asked"]["engine"]}, {row["asked"]["precision"]}: {row["note"]}'
        if row['note'] and note not in told:
            told.add(note)
            print(f'    {note}')
    for name, meaning in (
        ('torch', 'torch with the same precision, threads and pruner'),
        ('build', "the other build's torch, likewise"),
        ('unpruned', 'the same without a pruner'),
        ('other', 'the other model in the same engine, likewise'),
    ):
        compared = [row for row in rows if row[f'ratio_to_{name}'] is not None]
        if compared:
            label = 'to ' + name if name != 'unpruned' else name
            print(f'{label}: against {meaning}; {_widest([row[f"ratio_to_{name}_ci"] for row in compared])}')


def _widest(intervals: Sequence[Sequence[float] | None]) -> str:
    """Return the widest of the intervals in words."""
    widest = max((one for one in intervals if one is not None), key=lambda one: one[1] - one[0], default=None)
    return 'too few rounds for an interval' if widest is None else f'widest 95 % interval{bracketed(widest, ".2f")}'
