# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Closed-loop evaluation: a policy drives held-out routes; rates with confidence intervals; paired comparison.

SUMO allows one simulation per process, so scenarios run in worker processes, many in each, one after the other: a
model is loaded once.  Everything that could differ between two runs is fixed (seeds, one thread per worker, a policy
that is reset), so figures do not depend on `jobs`.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from vla_driver.evaluate.fast_slow.arms import SlowArm
from vla_driver.policies.pruning_settings import PruningSettings
from vla_driver.policies.registry import REMOTE, make_policy, require_checkpoint
from vla_driver.settings.guarding import GuardingParameters
from vla_driver.sim.rollout import drive_route, step_for, ticks_per_plan
from vla_driver.statistics import mean_ci, ratio_ci, wilson_ci
from vla_driver.types import EngineReport, InvalidInput, Policy
from vla_driver.workers import run_isolated, share_cores

if TYPE_CHECKING:
    from vla_driver.sim.simulation import Simulation

Row = dict[str, Any]

#: Figures that are plain means over routes: key -> value of a row.
_MEANS: Final[Mapping[str, Callable[[Row], float]]] = {
    'success_rate': lambda row: float(row['success']),
    'route_completion': lambda row: row['route_completion'],
    'driving_score': lambda row: row['driving_score'],
    'off_road_rate': lambda row: float(row['off_road_events'] > 0),
    'red_light_rate': lambda row: float(row['red_lights'] > 0),
    'timeout_rate': lambda row: float(row['timed_out']),
    'comfort': lambda row: row['comfort'],
    'plan_jump_m': lambda row: row.get('plan_jump_m', 0.0),
}


#: A worker drives so many routes before a new one takes its place, which ends whatever a library may leak.
ROUTES_PER_PROCESS: Final = 25


@dataclass(frozen=True)
class Job:
    """One route for one worker.  `scenario` is a sim.scenario.Scenario."""

    index: int
    scenario: Any
    policy: str
    model: str | None
    plan_hz: float
    pruning: PruningSettings | None = None
    device: str = 'auto'
    engine: str = 'auto'
    slow: SlowArm | None = None
    guidance: float = 1.0
    max_seconds: float = math.inf
    guarding: GuardingParameters | None = None


#: What this worker drives with: the part of a `Job` that says it, and the policy.
_loaded: list[tuple[Job, Policy]] = []


def _policy(job: Job, simulation: Simulation) -> Policy:
    """Return the job's policy, the one of this process's last job where a checkpoint would be loaded again."""
    same = replace(job, index=0, scenario=None, slow=None, guarding=None)
    if _loaded and _loaded[0][0] == same:
        return _loaded[0][1]
    policy = make_policy(
        job.policy,
        job.model,
        simulation.expert,
        job.pruning,
        device=job.device,
        engine=job.engine,
        threads=1,
        guidance=job.guidance,
        route=simulation.route_ahead,
        world=simulation.world,
    )
    # Experts and servers are asked from within one simulation.
    _loaded[:] = [(same, policy)] if job.model is not None and job.policy != REMOTE else []
    return policy


def run_job(job: Job) -> Row:
    """Drive one scenario in this process and return its row (plain JSON values)."""
    from vla_driver.sim.simulation import Simulation

    started = time.perf_counter()
    with Simulation(job.scenario, render=False, step_s=step_for(job.plan_hz)) as simulation:
        policy = _policy(job, simulation)
        slow = None if job.slow is None else job.slow.make(simulation.expert_reasoner, job.scenario.seed)
        if policy.needs.pictures or (slow is not None and slow.reasoner.needs.pictures):
            simulation.start_rendering()
        if (torch := sys.modules.get('torch')) is not None:  # graphs drive without it
            # Reductions depend on the number of threads; one thread makes figures independent of `jobs`.
            torch.set_num_threads(1)
            torch.manual_seed(0)
        ready = time.perf_counter()
        result, statistics = drive_route(
            simulation,
            policy,
            plan_hz=job.plan_hz,
            max_seconds=job.max_seconds,
            slow=slow,
            guarding=job.guarding,
            forecast=False,
        )
        policy.reset()  # whoever keeps something for this drive elsewhere lets it go
    return {
        'index': job.index,
        **result.as_dict(),
        'plans': dict(statistics.plans),
        'refusals': dict(statistics.reasons),
        'ticks': statistics.ticks,
        'stages_ms': statistics.medians_ms(),
        'plan_ms': statistics.medians_ms()['plan'],
        'engine': asdict(policy.engine),
        'words': statistics.words(),
        'plan_jump_m': float(np.mean(statistics.jumps_m)) if statistics.jumps_m else 0.0,
        'start_s': ready - started,
        'wall_s': time.perf_counter() - started,
    }


def run_scenarios(
    scenarios: Sequence[Any],
    policy: str,
    *,
    model: str | None = None,
    plan_hz: float = 5.0,
    jobs: int = 1,
    pruning: PruningSettings | None = None,
    device: str = 'auto',
    engine: str = 'auto',
    slow: SlowArm | None = None,
    guidance: float = 1.0,
    max_seconds: float = math.inf,
    guarding: GuardingParameters | None = None,
    on_row: Callable[[Row], None] | None = None,
) -> list[Row]:
    """Drive every scenario in `jobs` worker processes and return the rows in the scenarios' order.

    device, engine: where the model runs and what computes it (`load_policy`); every row names what did, at one thread.
    slow: who speaks to the policy beside each drive; guidance: how strongly it heeds that; max_seconds: of simulated
    time, after which a drive ends undecided; guarding: what is done to its plans before they are driven.
    on_row: called with each row as it arrives, in any order.
    Raises WorkerError naming the scenario if one could not be driven: a figure over the rest would hide the failure.
    """
    ticks_per_plan(plan_hz, step_for(plan_hz))
    checkpoint = require_checkpoint(policy, model)
    work = [
        Job(k, scenario, policy, checkpoint, plan_hz, pruning, device, engine, slow, guidance, max_seconds, guarding)
        for k, scenario in enumerate(scenarios)
    ]
    return run_jobs(work, jobs, on_row)


def run_jobs(work: Sequence[Job], jobs: int, on_row: Callable[[Row], None] | None = None) -> list[Row]:
    """Drive routes, numbered from 0 on, in `jobs` worker processes and return their rows in order.

    Raises WorkerError naming the scenario if one could not be driven: a figure over the rest would hide the failure.
    """
    if jobs < 1:
        raise InvalidInput(f'jobs is {jobs}, expected at least 1')
    if not work:
        raise InvalidInput('no scenarios to drive, expected at least one')
    rows: dict[int, Row] = {}
    answers = run_isolated(run_job, work, jobs=jobs, environment=share_cores(jobs), per_process=ROUTES_PER_PROCESS)
    for index, row in answers:
        rows[index] = row
        if on_row is not None:
            on_row(row)
    return [rows[k] for k in range(len(work))]


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the figures of an evaluation with their 95 % bootstrap intervals (routes drawn whole).

    off_road_rate, red_light_rate, timeout_rate: share of routes with at least one such event; plan_jump_m: how far
    apart consecutive plans are at the same times, over the next second;
    collisions_per_km: all collisions over all kilometres.
    """
    if not rows:
        raise InvalidInput('no routes to summarise, expected at least one')
    summary: dict[str, Any] = {'routes': len(rows)}
    for key, value in _MEANS.items():
        values = [value(row) for row in rows]
        summary[key] = float(np.mean(values))
        summary[f'{key}_ci'] = mean_ci(values)
    summary['success_rate_wilson_ci'] = list(wilson_ci(sum(bool(row['success']) for row in rows), len(rows)))
    collisions = [sum(row['collisions'].values()) for row in rows]
    kilometres = [row['distance_m'] / 1000.0 for row in rows]
    total_km = float(np.sum(kilometres))
    summary['distance_km'] = total_km
    summary['collisions_per_km'] = float(np.sum(collisions)) / total_km if total_km > 0 else 0.0
    summary['collisions_per_km_ci'] = ratio_ci(collisions, kilometres)
    by_class: dict[str, int] = {}
    for row in rows:
        for kind, count in row['collisions'].items():
            by_class[kind] = by_class.get(kind, 0) + count
    summary['collisions'] = by_class
    plans: dict[str, int] = {}
    for row in rows:
        for source, count in row['plans'].items():
            plans[source] = plans.get(source, 0) + count
    summary['plans'] = plans
    return summary


def throughput(rows: Sequence[Row], wall_s: float) -> dict[str, Any]:
    """Return how fast an evaluation ran that took `wall_s`, starting its workers included.

    ticks_per_s: simulated ticks (of 0.1 s, or 0.05 s at 20 plans a second) over all workers per second; stages_ms: of
    each stage the median over routes of its median (observe and plan run at the plan's rate, the others at every tick);
    start_s: the median time from a route's begin to its first tick (network, traffic, checkpoint, town).
    """
    ticks = sum(row['ticks'] for row in rows)
    stages = {name: float(np.median([row['stages_ms'][name] for row in rows])) for name in rows[0]['stages_ms']}
    return {
        'ticks': ticks,
        'wall_s': wall_s,
        'ticks_per_s': ticks / wall_s,
        'stages_ms': stages,
        'start_s': float(np.median([row['start_s'] for row in rows])),
    }


def engine_of(rows: Sequence[Row]) -> EngineReport:
    """Return what computed the plans of all routes; where workers differed, both are named."""

    def named(key: str) -> str:
        return ' / '.join(sorted({str(row['engine'][key]) for row in rows if row['engine'][key]}))

    threads = max(row['engine']['threads'] for row in rows)
    return EngineReport(named('engine'), named('provider'), named('precision'), threads, named('note'))


def compare(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return first minus second over the routes both drove (same town and seed), with paired 95 % intervals.

    Takes the JSON of two evaluations.  Raises InvalidInput if they did not drive the same routes.
    """

    def by_route(evaluation: Mapping[str, Any], name: str) -> dict[tuple[str, int], Row]:
        try:
            rows: Iterable[Row] = evaluation['rows']
            return {(row['town'], row['seed']): row for row in rows}
        except (KeyError, TypeError) as error:
            raise InvalidInput(
                f'{name} file holds no rows of a closed-loop evaluation ({error!r}); '
                'make it with: vla_driver evaluate closed-loop --json FILE'
            ) from error

    ours, theirs = by_route(first, 'first'), by_route(second, 'second')
    if set(ours) != set(theirs):
        alone = sorted(set(ours) ^ set(theirs))
        raise InvalidInput(
            f'the two files drove different routes ({len(alone)} are in one only, e.g. {alone[0]}); '
            'evaluate both with the same --split, --scenarios and --seed'
        )
    routes = sorted(ours)
    answer: dict[str, Any] = {
        'first': first.get('policy'),
        'second': second.get('policy'),
        'routes': len(routes),
    }
    for key, value in _MEANS.items():
        differences = [value(ours[route]) - value(theirs[route]) for route in routes]
        answer[key] = float(np.mean(differences))
        answer[f'{key}_ci'] = mean_ci(differences)
    return answer
