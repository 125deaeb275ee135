# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What the slow half is worth: the same routes driven by the fast half alone, with a slow half, and with a broken one.

Arms: `fast` (alone), `fast_slow`, `stopped` (the slow half dies in mid-run), `late` (what it says comes 5 s late),
`nonsense` (it says something at random). In simulated time the slow half looks --slow-hz times a second and is heard
--slow-latency-s later, whatever the machine takes, so that figures are the same everywhere. `hard`: the routes in the
seven-armed web with two lanes, `rest`: the others. Differences are to `fast`, route by route, with 95 % intervals.

Then, in real time: `tick_p99_ratio`, the 99th percentile of the fast half's tick beside a slow half that thinks in a
process of its own at lower priority, over that beside one that waits, in alternating blocks of one run.

  vla_driver evaluate fast-slow --split test --scenarios 50 --json fast_slow.json
  vla_driver evaluate fast-slow --scenarios 20 --reasoner expert     # the simulator's knowledge: an upper bound
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vla_driver.commands.common import (
    add_json_argument,
    positive_float,
    positive_int,
    progress,
    provenance,
    write_json,
)
from vla_driver.policies.registry import require_checkpoint
from vla_driver.settings.nodes.planner import PlannerParameters
from vla_driver.settings.nodes.reasoner import ReasonerParameters
from vla_driver.settings.options import add_options
from vla_driver.settings.policy import PolicyParameters
from vla_driver.settings.scenario import ScenarioParameters
from vla_driver.statistics import bracketed
from vla_driver.types import InvalidInput

_ARMS = ('fast', 'fast_slow', 'stopped', 'late', 'nonsense')
_SHOWN = (('driving_score', 1), ('success_rate', 3), ('red_light_rate', 3), ('collision_rate', 3))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_options(parser, PolicyParameters, 'model', 'device', 'engine')
    add_options(parser, PlannerParameters, 'guidance')
    parser.add_argument(
        '--reasoner',
        default='',
        metavar='WHO',
        help="who thinks: a checkpoint that speaks, or expert, the simulator's knowledge (default: the model itself)",
    )
    add_options(parser, ReasonerParameters, 'prompt')
    add_options(parser, ScenarioParameters, 'split', 'seed')
    parser.add_argument('--scenarios', type=positive_int, default=50, metavar='N', help='routes (default: 50)')
    parser.add_argument(
        '--arms', nargs='+', choices=_ARMS, default=list(_ARMS), help='which are driven; fast always is (default: all)'
    )
    parser.add_argument(
        '--slow-hz', type=positive_float, default=2.0, help='looks of the slow half per second (default: 2)'
    )
    parser.add_argument(
        '--slow-latency-s', type=positive_float, default=0.3, help='how much later it is heard (default: 0.3)'
    )
    parser.add_argument(
        '--stops-s', type=positive_float, default=20.0, help='when it dies in the arm `stopped` (default: 20)'
    )
    parser.add_argument('--plan-hz', type=positive_float, default=5.0, help='plans per second: 10, 5, 2 or 1')
    parser.add_argument('--jobs', type=positive_int, default=2, help='worker processes (default: 2)')
    parser.add_argument(
        '--blocks',
        type=int,
        default=10,
        metavar='N',
        help='pairs of blocks of 40 ticks for tick_p99_ratio; 0: leave it out (default: 10)',
    )
    add_options(parser, ReasonerParameters, 'nice', 'threads')
    parser.add_argument(
        '--bag',
        type=Path,
        metavar='BAG',
        help='whose first pictures are seen for tick_p99_ratio (default: the sample)',
    )
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from vla_driver.evaluate.closed_loop import Job
    from vla_driver.evaluate.fast_slow.arms import EXPERT, SlowArm, arms
    from vla_driver.evaluate.fast_slow.driving import HARD_TOWNS, drive_arms, report
    from vla_driver.policies.registry import make_policy
    from vla_driver.sim.slow_half import Pace
    from vla_driver.sim.world.scenario import scenarios

    if args.blocks < 0:
        raise InvalidInput(f'--blocks {args.blocks}: expected 0 or more')
    model = require_checkpoint('model', args.model)
    assert model is not None
    who = args.reasoner or model
    policy = make_policy('model', model, device=args.device, engine=args.engine, guidance=args.guidance)
    if not policy.needs.intents:
        raise InvalidInput(
            f'--model {model}: it can be told no intent ({policy.engine.describe()}); choose a checkpoint that was '
            'trained with intents'
        )
    if who != EXPERT:
        from vla_driver.policies.reasoners import load_reasoner

        load_reasoner(who, args.prompt, args.device)  # what is wrong with it is said before anything is driven
    slow = SlowArm(who, Pace(args.slow_hz, args.slow_latency_s), args.prompt, args.device)
    chosen = {name: arm for name, arm in arms(slow, args.stops_s).items() if name == 'fast' or name in args.arms}
    routes = scenarios(args.split, args.scenarios, seed=args.seed)
    with progress(len(routes) * len(chosen), 'route', 'fast and slow') as bar:
        job = Job(
            0,
            None,
            'model',
            model,
            args.plan_hz,
            device=args.device,
            engine=args.engine,
            guidance=args.guidance,
        )
        driven = drive_arms(routes, chosen, job, args.jobs, on_row=lambda arm, row: bar.update())
    found = report(driven)
    _print(found)
    tick = _tick(args, model, who) if args.blocks and who != EXPERT else None
    if tick is None:
        print(f'tick_p99_ratio: left out ({"--blocks 0" if args.blocks == 0 else "the expert computes no network"})')
    else:
        print(
            f'tick p99 {tick["tick_p99_ms"]:.1f} ms beside the slow half, {tick["tick_p99_alone_ms"]:.1f} ms alone: '
            f'x{tick["tick_p99_ratio"]:.2f}{bracketed(tick["tick_p99_ratio_ci"], ".2f")}, {tick["thoughts"]} thoughts'
        )
    write_json(
        args.json,
        {
            'model': model,
            'reasoner': who,
            'guidance': args.guidance,
            'split': args.split,
            'seed': args.seed,
            'scenarios': args.scenarios,
            'slow_hz': args.slow_hz,
            'slow_latency_s': args.slow_latency_s,
            'stops_s': args.stops_s,
            'hard_towns': list(HARD_TOWNS),
            **found,
            'tick_p99_ratio': None if tick is None else tick['tick_p99_ratio'],
            'tick': tick,
            'rows': driven,
            'provenance': provenance(),
        },
    )
    return 0


def _tick(args: argparse.Namespace, model: str, who: str) -> dict[str, Any]:
    """Return how much the slow half slows the fast one."""
    from vla_driver.bag.read import BagReader
    from vla_driver.bag.sample import sample_bag_path
    from vla_driver.evaluate.cost.worker_process import write_observation
    from vla_driver.evaluate.fast_slow.interference import Rounds, interference
    from vla_driver.evaluate.fast_slow.slow_process import SlowJob, SlowProcess
    from vla_driver.policies.registry import make_policy
    from vla_driver.ros.base.openmp import wait_briefly

    wait_briefly()  # as in the nodes
    with BagReader(args.bag if args.bag is not None else sample_bag_path()) as bag:
        observation = next(iter(bag.observations()))
    policy = make_policy('model', model, device=args.device, engine=args.engine, guidance=args.guidance)
    with tempfile.TemporaryDirectory() as folder:
        seen = Path(folder) / 'observation.npz'
        write_observation(seen, observation)
        nice, threads = args.nice, args.threads
        job = SlowJob(who, args.prompt, args.device, str(seen), args.slow_hz, nice, threads)
        with SlowProcess(job) as slow, progress(args.blocks, 'block', 'ticks') as bar:
            return interference(policy, observation, slow, Rounds(args.blocks), on_block=bar.update)


def _print(found: Mapping[str, Any]) -> None:
    columns = ''.join(f'{key:>18}{"to fast, 95 % CI":>24}' for key, _ in _SHOWN)
    print(f'{"arm":<11}{"routes":<14}{columns}   told  agree')
    for name, figures in found.items():
        for part in ('all', 'hard', 'rest'):
            row = figures if part == 'all' else figures.get(part)
            if row is None:
                continue
            line = f'{name if part == "all" else "":<11}{part + " " + str(row["routes"]):<14}'
            for key, digits in _SHOWN:
                spec = f'+.{digits}f'
                line += f'{row[key]:>18.{digits}f}'
                interval = bracketed(row[f'{key}_difference_ci'], spec)
                line += f'{row[f"{key}_difference"]:{spec}}{interval}'.rjust(24)
            agree = '-' if row['agreement'] is None else f'{row["agreement"]:.2f}'
            print(f'{line}{row["told_share"]:>7.0%}{agree:>7}')
