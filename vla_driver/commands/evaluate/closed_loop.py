# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Drive held-out routes in the simulator and report success, safety and comfort.

Every policy drives the same routes (town and seed), so that two files can be compared route by route:

  vla_driver evaluate closed-loop --split test --scenarios 50 --policy model --json model.json
  vla_driver evaluate closed-loop --split test --scenarios 50 --policy blind --json blind.json
  vla_driver evaluate closed-loop --compare model.json blind.json

With --ros each route is driven by the nodes, as `drive --ros` does, one after the other; with --carla as well, on the
topics and in the manner of CARLA's ROS bridge (--carla leaderboard: of the leaderboard's sensors and plan).

success_rate: share of routes driven to their end without a collision, red light or time-out;
driving_score (0-100): route completion x penalties (pedestrian 0.5, vehicle 0.6, static or off-road 0.65,
red light 0.7); *_ci: 95 % bootstrap intervals over routes. ticks_per_s: simulated ticks (0.1 s; 0.05 s at 20 plans a
second) per second of the clock, over all workers; stages_ms: where a worker's time went.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vla_driver.commands.common import (
    add_json_argument,
    add_policy_arguments,
    positive_float,
    positive_int,
    progress,
    provenance,
    read_json,
    write_json,
)
from vla_driver.policies.registry import REMOTE, SIMULATED_POLICY_NAMES, merged_adapter, require_checkpoint
from vla_driver.settings.guarding import GUARDING, GuardingParameters
from vla_driver.settings.nodes.carla_bridge import WAYS
from vla_driver.settings.options import add_options
from vla_driver.settings.policy import PolicyParameters
from vla_driver.settings.scenario import ScenarioParameters
from vla_driver.sim.rollout import PLAN_RATES
from vla_driver.statistics import LEAST_UNITS, bracketed
from vla_driver.types import InvalidInput, PlanSource

_SHOWN = (
    ('success_rate', '', 3),
    ('route_completion', '', 3),
    ('driving_score', '', 1),
    ('collisions_per_km', '/km', 3),
    ('off_road_rate', '', 3),
    ('red_light_rate', '', 3),
    ('comfort', '', 3),
    ('plan_jump_m', ' m', 3),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_policy_arguments(parser, SIMULATED_POLICY_NAMES)
    add_options(parser, PolicyParameters, 'engine')
    add_options(parser, ScenarioParameters, 'split', 'seed')
    parser.add_argument('--scenarios', type=positive_int, default=50, metavar='N', help='routes (default: 50)')
    parser.add_argument('--plan-hz', type=positive_float, default=5.0, help=PLAN_RATES)
    parser.add_argument(
        '--jobs',
        type=positive_int,
        help='worker processes (default: 2; egodriver: 1, as many sessions as a server has; --ros: always 1)',
    )
    parser.add_argument('--ros', action='store_true', help='drive with the ROS 2 nodes, over DDS, route by route')
    parser.add_argument(
        '--carla',
        nargs='?',
        const=WAYS[0],
        choices=WAYS,
        help="with --ros: on the topics of CARLA's bridge, which is emulated; leaderboard: by its sensors and plan",
    )
    add_options(parser, GuardingParameters, *GUARDING)
    parser.add_argument(
        '--compare',
        nargs=2,
        type=Path,
        metavar=('A', 'B'),
        help='evaluate nothing; report A minus B, route by route, from two --json files',
    )
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from vla_driver.evaluate.closed_loop import compare, engine_of, run_scenarios, summarise, throughput

    if args.compare is not None:
        first, second = (read_json(path) for path in args.compare)
        answer = compare(first, second)
        print(f'{answer["first"]} minus {answer["second"]}, {answer["routes"]} paired routes')
        _print_table(answer, signed=True)
        write_json(args.json, answer)
        return 0

    from vla_driver.sim.world.scenario import scenarios

    if args.carla and not args.ros:
        raise InvalidInput("--carla emulates CARLA's ROS bridge: give --ros as well")
    checkpoint = require_checkpoint(args.policy, args.model)
    guarding = GuardingParameters(**{name: getattr(args, name) for name in GUARDING})
    chosen = scenarios(args.split, args.scenarios, seed=args.seed)
    jobs = 1 if args.ros else args.jobs or (1 if args.policy == REMOTE else 2)
    done = {'routes': 0, 'success': 0}
    started_s = time.monotonic()
    with progress(len(chosen), 'route', args.policy) as bar:

        def show(row: Mapping[str, Any]) -> None:
            done['routes'] += 1
            done['success'] += bool(row['success'])
            bar.update()
            bar.set_postfix_str(f'success {done["success"]}/{done["routes"]}', refresh=False)

        if args.ros:
            rows = _driven_by_nodes(args, show)
        else:
            rows = run_scenarios(
                chosen,
                args.policy,
                model=args.model,
                plan_hz=args.plan_hz,
                jobs=jobs,
                device=args.device,
                engine=args.engine,
                guarding=guarding,
                on_row=show,
            )
    summary = summarise(rows)
    speed = {} if args.ros else throughput(rows, time.monotonic() - started_s)
    print(f'{args.policy}: {len(rows)} routes, {summary["distance_km"]:.1f} km, split {args.split}')
    _print_table(summary)
    if told := _not_the_policys(summary['plans'], rows):
        print(f'  {told}')
    if speed:
        stages = ', '.join(f'{name} {median:.1f}' for name, median in speed['stages_ms'].items())
        print(f'  {speed["ticks_per_s"]:.1f} simulated ticks/s with {jobs} jobs; medians in ms: {stages}')
    if (engine := engine_of(rows)).engine:
        print(f'  computed by {engine.describe()}')
    evaluation = {
        'policy': args.policy,
        'model': checkpoint,
        'adapter': merged_adapter(checkpoint, args.policy),
        'split': args.split,
        'seed': args.seed,
        'plan_hz': args.plan_hz,
        'jobs': jobs,
        'ros': args.ros,
        'carla': args.carla,
        'guarding': asdict(guarding),
        'engine': asdict(engine),
        **summary,
        **speed,
        'rows': rows,
        'provenance': provenance(),
    }
    write_json(args.json, evaluation)
    return 0


def _driven_by_nodes(args: argparse.Namespace, on_row: Callable[[Mapping[str, Any]], None]) -> list[dict[str, Any]]:
    """Return a row of every route, each driven as `vla_driver drive --ros` drives it."""
    from vla_driver.commands import drive
    from vla_driver.commands.drive_ros import drive_over_dds

    parser = argparse.ArgumentParser()
    drive.add_arguments(parser)
    told = {'policy': args.policy, 'device': args.device, 'engine': args.engine, 'plan_hz': args.plan_hz}
    told |= {'split': args.split, 'seed': args.seed} | {name: getattr(args, name) for name in GUARDING}
    rows = []
    for index in range(args.scenarios):
        one = parser.parse_args(['--ros', '--index', str(index), *(['--carla', args.carla] if args.carla else [])])
        vars(one).update(told, model=args.model, threads=1)
        rows.append({'index': index, **drive_over_dds(one)})
        on_row(rows[-1])
    return rows


def _not_the_policys(plans: Mapping[str, int], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return in words how many plans the guard put in place of the policy's, and its commonest objections; or ''."""
    others = {source: count for source, count in plans.items() if source != PlanSource.POLICY.value}
    if not others:
        return ''
    why: Counter[str] = Counter()
    for row in rows:
        why.update(row.get('refusals', {}))
    objections = ', '.join(f'{count} "{text} ..."' for text, count in why.most_common(3))
    kinds = ', '.join(f'{count} {source}' for source, count in sorted(others.items()))
    words = f"{sum(others.values())} of {sum(plans.values())} plans were not the policy's: {kinds}"
    return f'{words}; because of {objections}' if objections else words


def _print_table(figures: Mapping[str, Any], *, signed: bool = False) -> None:
    sign = '+' if signed else ''
    for key, unit, digits in _SHOWN:
        if key in figures:
            spec = f'{sign}.{digits}f'
            value, interval = format(figures[key], spec), bracketed(figures[f'{key}_ci'], spec)
            print(f'  {key:<20}{value:>9}{unit:<4}{" 95 % CI" if interval else ""}{interval}'.rstrip())
    if figures['routes'] < LEAST_UNITS:
        print('  too few routes for an interval')
