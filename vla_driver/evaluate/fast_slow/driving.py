# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The same routes with and without the slow half, and with one that is broken: scores, and paired differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from vla_driver.evaluate.closed_loop import Job, Row, run_jobs
from vla_driver.evaluate.fast_slow.arms import SlowArm
from vla_driver.sim.rollout import ticks_per_plan
from vla_driver.statistics import mean_ci

#: What is compared: key -> value of a route's row.
_FIGURES: Final[Mapping[str, Callable[[Row], float]]] = {
    'driving_score': lambda row: row['driving_score'],
    'success_rate': lambda row: float(row['success']),
    'route_completion': lambda row: row['route_completion'],
    'red_light_rate': lambda row: float(row['red_lights'] > 0),
    'collision_rate': lambda row: float(sum(row['collisions'].values()) > 0),
}
#: The towns whose routes are the hard ones: two lanes, long queues, lights at every crossing of the seven-armed web.
HARD_TOWNS: Final = ('test_web',)


def drive_arms(
    scenarios: Sequence[Any],
    chosen: Mapping[str, SlowArm | None],
    job: Job,
    jobs: int = 1,
    on_row: Callable[[str, Row], None] | None = None,
) -> dict[str, list[Row]]:
    """Drive all scenarios once in each arm; return arm -> rows in the scenarios' order.

    job: how: its policy, rate, engine and so on; scenario and slow half are those of each drive.  Raises as `run_jobs`.
    """
    ticks_per_plan(job.plan_hz)
    cases = [(arm, scenario) for arm in chosen for scenario in scenarios]
    work = [replace(job, index=k, scenario=scenario, slow=chosen[arm]) for k, (arm, scenario) in enumerate(cases)]

    def tell(row: Row) -> None:
        if on_row is not None:
            on_row(cases[row['index']][0], row)

    rows = run_jobs(work, jobs, tell)
    count = len(scenarios)
    return {arm: rows[k * count : (k + 1) * count] for k, arm in enumerate(chosen)}


def arm_figures(rows: Sequence[Row], alone: Sequence[Row]) -> Row:
    """Return an arm's figures, and how far they lie from those of the fast half alone, route by route.

    *_ci: 95 % bootstrap intervals over routes.
    """
    figures: Row = {'routes': len(rows)}
    for key, value in _FIGURES.items():
        ours, theirs = (np.array([value(row) for row in each]) for each in (rows, alone))
        figures[key], figures[f'{key}_ci'] = float(ours.mean()), mean_ci(ours)
        figures[f'{key}_difference'] = float((ours - theirs).mean())
        figures[f'{key}_difference_ci'] = mean_ci(ours - theirs)
    words = [row['words'] for row in rows]
    told, plans = sum(one['told'] for one in words), sum(sum(row['plans'].values()) for row in rows)
    agreement = [one['agreement'] for one in words if one['agreement'] is not None]
    figures['told_share'] = told / plans if plans else 0.0
    figures['agreement'] = float(np.mean(agreement)) if agreement else None
    figures['said'] = _summed(one['said'] for one in words)
    figures['dropped'] = _summed(one['dropped'] for one in words)
    figures['silent'] = sum(sum(one['silent'].values()) for one in words)
    return figures


def report(driven: Mapping[str, Sequence[Row]], hard_towns: Sequence[str] = HARD_TOWNS) -> Row:
    """Return arm -> figures; each arm's `hard` and `rest` hold those of the routes in hard towns and of the others."""
    alone = driven['fast']
    found: Row = {}
    for name, rows in driven.items():
        found[name] = arm_figures(rows, alone)
        for part, wanted in (('hard', True), ('rest', False)):
            chosen = [k for k, row in enumerate(alone) if (row['town'] in hard_towns) is wanted]
            if chosen:
                found[name][part] = arm_figures([rows[k] for k in chosen], [alone[k] for k in chosen])
    return found


def _summed(counts: Any) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in counts:
        for name, count in one.items():
            total[name] = total.get(name, 0) + count
    return total
