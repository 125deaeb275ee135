# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The same routes with and without the slow half, and with one that is broken: scores, and paired differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from vla_driver.evaluate.closed_loop import Row, run_scenarios
from vla_driver.evaluate.fast_slow.arms import SlowArm
from vla_driver.evaluate.statistics import mean_ci

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
    *,
    model: str | None,
    policy: str = 'model',
    plan_hz: float = 5.0,
    jobs: int = 1,
    device: str = 'auto',
    engine: str = 'auto',
    guidance: float = 1.0,
    on_row: Callable[[str, Row], None] | None = None,
) -> dict[str, list[Row]]:
    """Drive all scenarios once in each arm; return arm -> rows in the scenarios' order.  Raises as `run_scenarios`."""
    found = {}
    for name, slow in chosen.items():

        def tell(row: Row, arm: str = name) -> None:
            if on_row is not None:
                on_row(arm, row)

        found[name] = run_scenarios(
            scenarios,
            policy,
            model=model,
            plan_hz=plan_hz,
            jobs=jobs,
            device=device,
            engine=engine,
            slow=slow,
            guidance=guidance,
            on_row=tell,
        )
    return found


def arm_figures(rows: Sequence[Row], alone: Sequence[Row]) -> Row:
    """Return an arm's figures, and how far they lie from those of the fast half alone, route by route.

    *_ci: 95 % bootstrap intervals over routes.
    """
    figures: Row = {'routes': len(rows)}
    for key, value in _FIGURES.items():
        ours, theirs = (np.array([value(row) for row in each]) for each in (rows, alone))
        figures[key], figures[f'{key}_ci'] = float(ours.mean()), list(mean_ci(ours))
        figures[f'{key}_difference'] = float((ours - theirs).mean())
        figures[f'{key}_difference_ci'] = list(mean_ci(ours - theirs))
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
