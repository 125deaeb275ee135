# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Compare the plans of an engine with those of torch: over all ticks of a bag, with lost cameras, with every pruner.

Every engine and precision drives through the bag in a process of its own. The table shows the largest distance of two
positions within the 5 s of a plan: to torch in float32, to torch in the same precision, and of torch itself in that
precision to its float32. With a pruner it also shows which share of the kept tokens is the same: where two tokens
score almost alike, the last place of a number decides. Exit status 1: a limit is broken (1 mm in float32, 6 cm in
bfloat16, both to torch in float32), and torch itself in that precision keeps it.

  vla_driver evaluate engines --json engines.json
  vla_driver evaluate engines --bag my_bag --precisions float32 --pruners recon early:1-head --ticks 40
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vla_driver.commands.common import add_json_argument, positive_int, progress, provenance, write_json
from vla_driver.settings.options import add_options
from vla_driver.settings.policy import PolicyParameters
from vla_driver.types import InvalidInput


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_options(parser, PolicyParameters, 'model', 'device', 'threads')
    parser.add_argument(
        '--engines', nargs='+', default=['onnx'], metavar='NAME', help='compared with torch (default: onnx)'
    )
    parser.add_argument(
        '--precisions',
        nargs='+',
        default=['float32', 'bfloat16'],
        choices=('float32', 'bfloat16'),
        help='compared with torch in float32 (default: both)',
    )
    parser.add_argument(
        '--pruners',
        nargs='+',
        metavar='NAME',
        help='which pruners, beside none; NAME@RATIO for another share (default: all, SparseVLM at 0.5)',
    )
    parser.add_argument(
        '--ratio', type=float, default=0.75, metavar='R', help='share of the tokens that is pruned (default: 0.75)'
    )
    parser.add_argument(
        '--full',
        action='store_true',
        help='lose each camera all the way with every pruner, too, and not another one at every tick alone',
    )
    parser.add_argument('--ticks', type=positive_int, metavar='N', help='only the first N ticks (default: all)')
    parser.add_argument('--bag', type=Path, metavar='BAG', help='what is driven through (default: the sample bag)')
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from vla_driver.bag.read import BagReader
    from vla_driver.bag.sample import sample_bag_path
    from vla_driver.evaluate.engines import PRUNERS, Job, drives_of, rows_of, run_jobs
    from vla_driver.model.checkpoint import QWEN_TYPES, checkpoint_kind, resolve_checkpoint
    from vla_driver.policies.registry import require_checkpoint
    from vla_driver.ros.base.openmp import wait_briefly

    model = require_checkpoint('model', args.model)
    assert model is not None
    if checkpoint_kind(resolve_checkpoint(model)) in QWEN_TYPES:
        raise InvalidInput(f'{model} is no native checkpoint: no other engine runs it, there is nothing to compare')
    path = args.bag if args.bag is not None else sample_bag_path()
    with BagReader(path) as bag:
        cameras = next(iter(bag.observations())).rig.names
    drives = tuple(drives_of(args.pruners or PRUNERS, args.ratio, cameras, full=args.full))
    job = Job(model, path, 'torch', drives, args.ticks, args.threads, args.device)
    wait_briefly()  # as in the planner; the processes inherit it
    results = {}
    jobs = run_jobs(job, args.engines, args.precisions)
    with progress(1 + len(args.precisions) * len(args.engines) + ('bfloat16' in args.precisions), 'engine', '') as bar:
        for engine, precision, driven in jobs:
            results[engine, precision] = driven
            bar.update()
            bar.set_postfix_str(f'{engine} {precision} done')
    rows = rows_of(drives, results, args.engines)
    _print(rows)
    judged = [row for row in rows if row['judged']]
    beyond = [row for row in judged if not row['ok']]
    broken = [row for row in beyond if not row['torch_breaks_it']]
    within, too = len(judged) - len(beyond), len(beyond) - len(broken)
    print(
        f'{within} of {len(judged)} drives ({sum(row["ticks"] for row in judged)} ticks) within their limit; '
        f'{len(beyond)} beyond it, in {too} of them torch itself is, too; {len(rows) - len(judged)} say nothing of the '
        'engine'
    )
    write_json(
        args.json,
        {
            'model': model,
            'bag': path.name,
            'judged': len(judged),
            'beyond_limit': len(beyond),
            'beyond_limit_alone': len(broken),
            'rows': rows,
            'provenance': provenance(),
        },
    )
    return 1 if broken else 0


def _print(rows: Sequence[Mapping[str, Any]]) -> None:
    print(
        f'{"pruner":<14}{"pruned":>6}  {"camera lost":<13}{"engine":<8}{"precision":<10}{"to torch f32":>14}'
        f'{"to torch":>11}{"torch itself":>14}{"same tokens":>13}{"limit":>11}'
    )
    told: set[str] = set()
    for row in rows:
        start = (
            f'{Path(row["pruner"]).name:<14}{row["prune_ratio"]:>6.0%}  {row["lost"]:<13}{row["engine"]:<8}'
            f'{row["precision"]:<10}'
        )
        if row['to_reference'] is None:
            print(f'{start}  refused{"" if row["ok"] else " by one engine alone"}: {row["refused"]}')
            continue
        apart = row['to_reference']
        shared = '' if row['pruner'] == 'none' else f'{apart["kept_shared_mean"]:.1%}'
        print(
            f'{start}{_length(apart["largest_m"]):>14}{_length(row["to_torch"]["largest_m"]):>11}'
            f'{_length(row["torch_to_reference"]["largest_m"]):>14}{shared:>13}{_verdict(row):>11}'
        )
        if row['judged'] and not row['ok'] and row['pruner'] != 'none' and apart['same_choice_ticks']:
            print(
                f'    {_length(apart["largest_m_same_choice"])} over the {apart["same_choice_ticks"]} of '
                f'{row["ticks"]} ticks in which both kept the same tokens'
            )
        asked = row['asked']
        if any(row[name] != asked[name] for name in asked):
            note = f'asked for {", ".join(asked.values())}: {row["note"] or "no reason given"}'
            if note not in told:
                print(f'    {note}')
            told.add(note)


def _verdict(row: Mapping[str, Any]) -> str:
    if row['engine'] != row['asked']['engine']:
        return f'{row["engine"]} ran'
    if not row['judged']:
        return 'drawn'
    return 'ok' if row['ok'] else 'torch too' if row['torch_breaks_it'] else 'BROKEN'


def _length(metres: float) -> str:
    return f'{1e6 * metres:.1f} um' if metres < 1e-4 else f'{1e3 * metres:.1f} mm'
