# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Measure pruners of visual tokens on the native model: open loop, closed loop, and what each of them keeps.

Every pruner sees the same ticks and drives the same routes. The ticks are the expert's drives through the split's
towns, recorded once into --work; the routes are those of `evaluate closed-loop`. What was driven stays in --work, so
an interrupted evaluation goes on where it was. The controls none, random (several seeds) and uniform belong to it.
Recorded ticks are planned by torch, routes are driven by --engine; `engine` of a row says what it came to.

  vla_driver evaluate pruning --split test --ratios 0.25 0.5 0.75 --json out/pruning.json --report out/pruning
  vla_driver evaluate pruning --bags my_bag --rig nuscenes --pruners uniform recon --ratios 0.5 --json F

l2_m, collision_pct, off_road_pct: protocol -> 1s, 2s, 3s, mean ("UniAD": at the time; "ST-P3/VAD": mean up to it; a
step counts only where the driven car's own box is clear; driven_*: how often it is not). foreground_recall: share kept
of the tokens of which at least 25 % of the pixels are people, road, lane marks, vehicles, signs, lights or barriers;
small_foreground_recall: the same without road and marks, from 2 % of the pixels on. *_ci: 95 % bootstrap intervals
over stretches of 10 s, or routes; *_difference: to no pruning, paired. scoring_ms: median time of the pruner itself.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vla_driver.commands.common import (
    add_bag_arguments,
    add_json_argument,
    bag_rig,
    bag_topics,
    positive_float,
    positive_int,
    progress,
    provenance,
    write_json,
)
from vla_driver.commands.pruning_arguments import add_sharing_arguments, sharing_settings
from vla_driver.policies.pruning_settings import PruningSettings
from vla_driver.settings.options import add_options
from vla_driver.settings.policy import PolicyParameters
from vla_driver.settings.pruning import NO_PRUNER
from vla_driver.settings.scenario import ScenarioParameters
from vla_driver.types import InvalidInput

if TYPE_CHECKING:
    from vla_driver.evaluate.pruning.comparison import Variant
    from vla_driver.evaluate.pruning.open_loop import OpenLoopJob, ShownTick

#: One recorded drive: long enough for two stretches of 10 s, short enough for many of them.
_DRIVE_S: Final = 24.0
#: How much of it is scored, from the start: the last 3 s have no future, and a drive may end early.
_TAKEN_S: Final = 20.0
_SHOWN: Final = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_options(parser, PolicyParameters, 'model', 'engine')
    add_options(parser, ScenarioParameters, 'split', 'seed')
    parser.add_argument(
        '--pruners', nargs='+', metavar='NAME', help='names or folders (default: every pruner that the model can run)'
    )
    parser.add_argument(
        '--ratios',
        nargs='+',
        type=float,
        default=[0.25, 0.5, 0.75],
        metavar='R',
        help='shares of the tokens that are pruned (default: 0.25 0.5 0.75)',
    )
    parser.add_argument(
        '--random-seeds',
        type=positive_int,
        default=3,
        metavar='N',
        help='how many draws of the pruner random (default: 3)',
    )
    add_sharing_arguments(parser)
    parser.add_argument(
        '--ticks',
        type=int,
        default=1000,
        metavar='N',
        help='recorded ticks, of each bag or in all (default: 1000; 0: none)',
    )
    parser.add_argument('--bags', nargs='+', type=Path, metavar='BAG', help='recorded drives instead of the simulator')
    parser.add_argument(
        '--scenarios', type=int, metavar='N', help='routes of the closed loop (default: 50, with --bags 0; 0: none)'
    )
    parser.add_argument('--plan-hz', type=positive_float, default=5.0, help='plans per second: 10, 5, 2 or 1')
    parser.add_argument('--jobs', type=positive_int, default=2, help='worker processes (default: 2)')
    parser.add_argument(
        '--work',
        type=Path,
        default=Path('out/pruning_work'),
        metavar='DIR',
        help='folder in which recorded ticks and driven routes are kept (default: out/pruning_work)',
    )
    parser.add_argument('--report', type=Path, metavar='DIR', help='write report.html with pictures of what was kept')
    add_bag_arguments(parser)
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from vla_driver.evaluate.pruning.comparison import make_variants, refusals
    from vla_driver.policies.registry import merged_adapter, require_checkpoint
    from vla_driver.sim.rollout import ticks_per_plan

    ticks_per_plan(args.plan_hz)
    if args.scenarios is None:
        args.scenarios = 0 if args.bags else 50
    if args.ticks < 0 or args.scenarios < 0:
        raise InvalidInput(f'--ticks {args.ticks}, --scenarios {args.scenarios}: expected 0 or more')
    if not args.ticks and not args.scenarios:
        raise InvalidInput('nothing to evaluate: give --ticks or --scenarios')
    if args.report is not None and not args.ticks:
        raise InvalidInput('--report shows recorded ticks: give --ticks, too')
    model = require_checkpoint('model', args.model)
    assert model is not None
    base = sharing_settings(args)
    pruners = args.pruners or _all_pruners(model)
    variants = make_variants(pruners, args.ratios, random_seeds=args.random_seeds, base=base)
    refused = refusals(variants, model)
    for index, reason in refused.items():
        print(f'note: {variants[index].pruner} at {variants[index].ratio:.0%} is left out: {reason}', file=sys.stderr)
    possible = [variant for index, variant in enumerate(variants) if index not in refused]
    figures: dict[tuple[str, float], dict[str, Any]] = {(v.pruner, v.ratio): {} for v in variants}
    shown = _open_loop(args, model, possible, figures) if args.ticks else []
    if args.scenarios:
        _closed_loop(args, model, possible, figures)
    rows = [
        {
            'pruner': variant.pruner,
            'ratio': variant.ratio,
            'seeds': len(variant.settings),
            'refused': refused.get(index),
            **figures[variant.pruner, variant.ratio],
        }
        for index, variant in enumerate(variants)
    ]
    _print(rows)
    about = {
        'model': model,
        'adapter': merged_adapter(model),
        'split': args.split if args.scenarios or not args.bags else None,
        'bags': [str(bag) for bag in args.bags or ()],
        'seed': args.seed,
        'plan_hz': args.plan_hz,
        'scope': base.scope,
        'floor': base.floor,
        'weights': dict(base.weights),
    }
    if args.report is not None:
        _report(args, about, possible, rows, shown)
    write_json(args.json, {**about, 'rows': rows, 'provenance': provenance()})
    return 0


def _all_pruners(model: str) -> list[str]:
    """Return every pruner by name; 'recon' and 'plan' only where the checkpoint has them."""
    from vla_driver.model.checkpoint import PRUNER_FOLDER, resolve_checkpoint
    from vla_driver.model.pruning.registry import PLAN_FOLDER, PRUNER_NAMES

    names = [name for name in PRUNER_NAMES if name != NO_PRUNER]
    if not (resolve_checkpoint(model) / PRUNER_FOLDER).is_dir():
        print(f'note: checkpoint {model} has no ReconPruner of its own; name a folder in --pruners', file=sys.stderr)
        names.remove('recon')
    if not (resolve_checkpoint(model) / PLAN_FOLDER).is_dir():
        names.remove('plan')
    return names


def _open_loop(
    args: argparse.Namespace, model: str, variants: Sequence[Variant], figures: dict[tuple[str, float], dict[str, Any]]
) -> list[ShownTick]:
    from vla_driver.evaluate.pruning.comparison import measure_open_loop, open_loop_figures, scores_of
    from vla_driver.evaluate.pruning.open_loop import OpenLoopResult

    settings = tuple(each for variant in variants for each in variant.settings)
    jobs = _jobs(args, model, settings)
    with progress(len(jobs), 'bag', f'open loop, {len(settings)} variants') as bar:

        def done(index: int, result: OpenLoopResult) -> None:
            bar.update()
            bar.set_postfix_str(f'{len(result.scores[0].stamp_s)} ticks in {jobs[index].bag.name}', refresh=False)

        measured, shown = measure_open_loop(jobs, workers=args.jobs, on_done=done)
    unpruned = scores_of(variants[0], measured)
    for variant in variants:
        figures[variant.pruner, variant.ratio] |= open_loop_figures(scores_of(variant, measured), unpruned)
    return shown


def _jobs(args: argparse.Namespace, model: str, settings: tuple[PruningSettings, ...]) -> list[OpenLoopJob]:
    """Return the bags' jobs, having recorded what was not there."""
    from vla_driver.evaluate.pruning.open_loop import OpenLoopJob

    if args.bags:
        pictured = _spread(len(args.bags)) if args.report is not None else set()
        topics, rig = bag_topics(args), bag_rig(args)
        return [
            OpenLoopJob(bag, model, settings, None, topics, rig, args.rectified, limit=args.ticks, show=k in pictured)
            for k, bag in enumerate(args.bags)
        ]
    from vla_driver.data.recorded_drive import record_scenarios
    from vla_driver.sim.rollout import ticks_per_plan
    from vla_driver.sim.world.scenario import scenarios

    every, taken = ticks_per_plan(args.plan_hz), round(_TAKEN_S * args.plan_hz)
    drives = scenarios(args.split, -(-args.ticks // taken), seed=args.seed)
    with progress(len(drives), 'drive', 'recording ticks') as bar:
        bags = record_scenarios(
            drives, args.work / 'ticks', seconds=_DRIVE_S, every=every, jobs=args.jobs, on_done=bar.update
        )
    limits = [min(taken, args.ticks - k * taken) for k in range(len(bags))]
    pictured = _spread(len(bags)) if args.report is not None else set()
    return [
        OpenLoopJob(bag, model, settings, drive.network_path, limit=limit, show=k in pictured)
        for k, (bag, drive, limit) in enumerate(zip(bags, drives, limits, strict=True))
    ]


def _spread(count: int) -> set[int]:
    """Return the indices of at most _SHOWN of `count` bags, evenly spread."""
    return {round(k * (count - 1) / max(1, min(_SHOWN, count) - 1)) for k in range(min(_SHOWN, count))}


def _closed_loop(
    args: argparse.Namespace, model: str, variants: Sequence[Variant], figures: dict[tuple[str, float], dict[str, Any]]
) -> None:
    from vla_driver.evaluate.pruning.comparison import closed_loop_figures
    from vla_driver.evaluate.pruning.route_cache import RouteCache
    from vla_driver.sim.world.scenario import scenarios

    chosen = scenarios(args.split, args.scenarios, seed=args.seed)
    cache = RouteCache(args.work / 'routes')
    unpruned: list[dict[str, Any]] = []
    with progress(len(chosen) * sum(len(v.settings) for v in variants), 'route', 'closed loop') as bar:
        for variant in variants:
            drives = []
            for settings in variant.settings:
                bar.set_postfix_str(settings.describe(), refresh=False)
                rows = cache.drive(
                    chosen,
                    settings,
                    model=model,
                    plan_hz=args.plan_hz,
                    jobs=args.jobs,
                    engine=args.engine,
                    on_row=lambda row: bar.update(),
                )
                drives.append(rows)
            unpruned = unpruned or drives[0]
            figures[variant.pruner, variant.ratio] |= closed_loop_figures(drives, unpruned)


def _report(
    args: argparse.Namespace,
    about: Mapping[str, Any],
    variants: Sequence[Variant],
    rows: Sequence[Mapping[str, Any]],
    shown: Sequence[ShownTick],
) -> None:
    from vla_driver.evaluate.pruning.report import reading_notes, write_pruning_report

    first = rows[0]
    parts = [f'checkpoint {Path(about["model"]).name}', f'{first["ticks"]} recorded ticks']
    if 'routes' in first:
        parts.append(f'{first["routes"]} routes of split {args.split}')
    path = args.report / 'report.html'
    write_pruning_report(
        path,
        variants,
        rows,
        shown,
        title='Pruning of visual tokens',
        subtitle='; '.join(parts),
        notes=reading_notes(first),
    )
    print(f'  {path}')


def _print(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print one line for each row."""
    print(f'{"pruner":<14}{"pruned":>7}{"tokens":>8}{"score":>8}{"diff":>17}{"fg":>7}{"small":>7}{"L2":>7}{"ms":>7}')

    def text(value: float | None, digits: int, width: int) -> str:
        return f'{"-" if value is None else f"{value:.{digits}f}":>{width}}'

    for row in rows:
        if row['refused']:
            continue
        ci = row.get('driving_score_difference_ci')
        l2 = row['l2_m']['ST-P3/VAD']['mean'] if 'l2_m' in row else None
        print(
            f'{Path(row["pruner"]).name:<14}{row["ratio"]:>7.0%}'
            + text(row.get('tokens'), 0, 8)
            + text(row.get('driving_score'), 1, 8)
            + f'{"-" if ci is None else f"[{ci[0]:+.1f}, {ci[1]:+.1f}]":>17}'
            + text(row.get('foreground_recall'), 3, 7)
            + text(row.get('small_foreground_recall'), 3, 7)
            + text(l2, 3, 7)
            + text(row.get('scoring_ms'), 2, 7)
        )
